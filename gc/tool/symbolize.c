#include "tool/symbolize.h"

#include <elf.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define SYMBOLIZE_FAILED 2
#define SYMBOLIZE_CHUNK  256 // addresses that addr2line is asked for at once

// A line of the report.
struct symbolize_line {
    char *text;         // as read
    char *name, *place; // of a frame: function, and file:line; or NULL
    char *module;       // of a frame, or NULL
    size_t offset;      // in it, of the place to which the call returns
    bool asked;
};

struct symbolize_report {
    struct symbolize_line *lines;
    size_t count;
    char **patterns;
    size_t pattern_count;
};

// --- Reading ---------------------------------------------------------------

// An array of `count` of which another is to be had: it grows at powers of two.
static void *symbolize_grow(void *items, size_t count, size_t bytes) {
    if ((count & (count - 1)) != 0) {
        return items;
    }
    void *more = realloc(items, (count == 0 ? 1 : 2 * count) * bytes);
    if (more == NULL) {
        exit(SYMBOLIZE_FAILED);
    }
    return more;
}

static char *symbolize_copy(const char *from, size_t bytes) {
    char *copy = strndup(from, bytes);
    if (copy == NULL) {
        exit(SYMBOLIZE_FAILED);
    }
    return copy;
}

// "    #3 name (module+0x123)"
static void symbolize_take_frame(struct symbolize_line *line) {
    const char *text = line->text;
    const char *open = strrchr(text, '(');
    const char *plus = strrchr(text, '+');
    const char *name =
        strncmp(text, "    #", 5) == 0 ? strchr(text + 5, ' ') : NULL;
    if (name == NULL || open == NULL || plus == NULL || plus < open ||
        open < name + 2) {
        return; // SY1
    }
    line->module = symbolize_copy(open + 1, (size_t)(plus - open - 1));
    line->name = symbolize_copy(name + 1, (size_t)(open - name - 2));
    line->offset = strtoull(plus + 1, NULL, 16);
}

// A line of a file of suppressions, or of the program's own.
static void symbolize_take_pattern(struct symbolize_report *report, char *text,
                                   const char *from) {
    char *word = text + strspn(text, " \t");
    word[strcspn(word, "\r\n")] = '\0';
    if (*word == '\0' || *word == '#') {
        return;
    }
    if (strncmp(word, "leak:", 5) != 0 || word[5] == '\0') {
        fprintf(stderr, "loam: %s: not of the form leak:PATTERN: %s\n", from,
                word);
        return;
    }
    report->patterns = symbolize_grow(report->patterns, report->pattern_count,
                                      sizeof *report->patterns);
    report->patterns[report->pattern_count++] =
        symbolize_copy(word + 5, strlen(word + 5));
}

static void symbolize_take_line(struct symbolize_report *report,
                                const char *text, size_t bytes) {
    report->lines =
        symbolize_grow(report->lines, report->count, sizeof *report->lines);
    struct symbolize_line *line = &report->lines[report->count++];
    size_t length = bytes - (text[bytes - 1] == '\n');
    *line = (struct symbolize_line){.text = symbolize_copy(text, length)};
    symbolize_take_frame(line);
}

static void symbolize_read(struct symbolize_report *report) {
    static const char suppress[] = "loam: suppress ";
    char *text = NULL;
    size_t room = 0;
    ssize_t bytes;
    while ((bytes = getline(&text, &room, stdin)) > 0) {
        if (strncmp(text, suppress, sizeof suppress - 1) == 0) {
            symbolize_take_pattern(report, text + sizeof suppress - 1,
                                   "the program's suppressions");
        } else {
            symbolize_take_line(report, text, (size_t)bytes);
        }
    }
    free(text);
}

static bool symbolize_read_patterns(struct symbolize_report *report,
                                    const char *path) {
    FILE *file = fopen(path, "re");
    char *text = NULL;
    size_t room = 0;
    if (file == NULL) {
        return false;
    }
    while (getline(&text, &room, file) > 0) {
        symbolize_take_pattern(report, text, path);
    }
    bool whole = ferror(file) == 0; // not so for a folder
    free(text);
    (void)fclose(file);
    return whole;
}

// --- Names -----------------------------------------------------------------

// What a program that is linked to a fixed address adds to its offsets.
static size_t symbolize_base(const char *module) {
    FILE *file = fopen(module, "re");
    Elf64_Ehdr head;
    size_t base = 0;
    if (file == NULL) {
        return 0;
    }
    if (fread(&head, sizeof head, 1, file) == 1 && head.e_type == ET_EXEC &&
        fseek(file, (long)head.e_phoff, SEEK_SET) == 0) {
        Elf64_Phdr part;
        while (fread(&part, sizeof part, 1, file) == 1) {
            if (part.p_type == PT_LOAD) {
                base = part.p_vaddr & ~(size_t)4095;
                break;
            }
        }
    }
    (void)fclose(file);
    return base;
}

// Starts addr2line; what it says is read from the result.
static FILE *symbolize_ask(char **words, pid_t *child) {
    int ends[2];
    if (pipe(ends) != 0) {
        return NULL;
    }
    *child = fork();
    if (*child == 0) {
        (void)dup2(ends[1], STDOUT_FILENO);
        (void)close(ends[0]);
        (void)close(ends[1]);
        (void)!freopen("/dev/null", "w", stderr);
        execvp(words[0], words);
        _exit(127);
    }
    (void)close(ends[1]);
    FILE *answers = *child > 0 ? fdopen(ends[0], "r") : NULL;
    if (answers == NULL) {
        (void)close(ends[0]);
    }
    return answers;
}

static bool symbolize_hear(FILE *answers, char **text, size_t *room) {
    ssize_t bytes = getline(text, room, answers);
    if (bytes > 0 && (*text)[bytes - 1] == '\n') {
        (*text)[bytes - 1] = '\0';
    }
    return bytes > 0;
}

static void symbolize_put(struct symbolize_line *line, const char *name,
                          const char *place) {
    if (strcmp(name, "??") != 0) {
        free(line->name);
        line->name = symbolize_copy(name, strlen(name));
    }
    if (strncmp(place, "??", 2) != 0) {
        line->place = symbolize_copy(place, strcspn(place, " "));
    }
}

// Up to SYMBOLIZE_CHUNK frames of one module.
static void symbolize_chunk(struct symbolize_line **lines, size_t count,
                            size_t base) {
    static char numbers[SYMBOLIZE_CHUNK][24];
    char tool[] = "addr2line", options[] = "-Cfe";
    char *words[SYMBOLIZE_CHUNK + 4] = {tool, options, lines[0]->module};
    for (size_t i = 0; i < count; i++) {
        // The call, not what comes after it.
        (void)snprintf(numbers[i], sizeof numbers[i], "%#zx",
                       lines[i]->offset + base - 1);
        words[i + 3] = numbers[i];
    }
    pid_t child = -1;
    FILE *answers = symbolize_ask(words, &child);
    char *name = NULL, *place = NULL;
    size_t name_room = 0, place_room = 0;
    for (size_t i = 0; answers != NULL && i < count &&
                       symbolize_hear(answers, &name, &name_room) &&
                       symbolize_hear(answers, &place, &place_room);
         i++) {
        symbolize_put(lines[i], name, place);
    }
    free(name);
    free(place);
    if (answers != NULL) {
        (void)fclose(answers);
    }
    if (child > 0) {
        (void)waitpid(child, NULL, 0);
    }
}

// The frames of the module of the line at `first`, and of those behind it.
static void symbolize_module(struct symbolize_report *report, size_t first) {
    struct symbolize_line *some[SYMBOLIZE_CHUNK];
    const char *module = report->lines[first].module;
    size_t base = symbolize_base(module);
    size_t count = 0;
    for (size_t i = first; i < report->count; i++) {
        struct symbolize_line *line = &report->lines[i];
        if (line->module == NULL || line->asked ||
            strcmp(line->module, module) != 0) {
            continue;
        }
        line->asked = true;
        some[count++] = line;
        if (count == SYMBOLIZE_CHUNK) {
            symbolize_chunk(some, count, base);
            count = 0;
        }
    }
    if (count != 0) {
        symbolize_chunk(some, count, base);
    }
}

// --- What is not told ------------------------------------------------------

// Whether `pattern`, to its end or to `end`, begins at `text`; * is anything.
static bool symbolize_fits(const char *pattern, const char *text, bool whole) {
    const char *star = NULL, *again = NULL;
    for (;;) {
        if (*pattern == '*') {
            star = ++pattern;
            again = text;
        } else if (*pattern == '\0' && (!whole || *text == '\0')) {
            return true;
        } else if (*pattern != '\0' && *pattern == *text) {
            pattern++;
            text++;
        } else if (star != NULL && *again != '\0') {
            pattern = star;
            text = ++again;
        } else {
            return false;
        }
    }
}

static bool symbolize_matches(const char *pattern, const char *text) {
    char inner[512];
    bool from_start = pattern[0] == '^';
    (void)snprintf(inner, sizeof inner, "%s", pattern + from_start);
    size_t length = strlen(inner);
    bool to_end = length != 0 && inner[length - 1] == '$';
    inner[length - to_end] = '\0';
    if (from_start) {
        return symbolize_fits(inner, text, to_end);
    }
    for (; *text != '\0'; text++) {
        if (symbolize_fits(inner, text, to_end)) {
            return true;
        }
    }
    return false;
}

static bool symbolize_is_named(const struct symbolize_report *report,
                               const struct symbolize_line *line) {
    const char *names[] = {line->name, line->place, line->module};
    for (size_t p = 0; p < report->pattern_count; p++) {
        for (size_t i = 0; i < 3; i++) {
            if (names[i] != NULL &&
                symbolize_matches(report->patterns[p], names[i])) {
                return true;
            }
        }
    }
    return false;
}

// --- Printing --------------------------------------------------------------

struct symbolize_sum {
    size_t bytes, objects, stacks;
};

static void symbolize_print(const struct symbolize_line *line) {
    const char *text = line->text;
    if (line->module == NULL) {
        fprintf(stderr, "%s\n", text);
        return;
    }
    int head = (int)(strchr(text + 5, ' ') - text);
    fprintf(stderr, "%.*s %s%s%s (%s+%#zx)\n", head, text, line->name,
            line->place != NULL ? " " : "",
            line->place != NULL ? line->place : "", line->module, line->offset);
}

// The lines of one stack, from its head on; how many they are.
static size_t symbolize_stack(const struct symbolize_report *report,
                              size_t first, struct symbolize_sum sums[2]) {
    const struct symbolize_line *head = &report->lines[first];
    size_t end = first + 1;
    bool named = false;
    while (end < report->count &&
           strncmp(report->lines[end].text, "    #", 5) == 0) {
        named |= symbolize_is_named(report, &report->lines[end]);
        end++;
    }
    size_t bytes = 0, objects = 0;
    (void)sscanf(head->text, "loam: leaked %zu bytes in %zu", &bytes, &objects);
    struct symbolize_sum *sum = &sums[named];
    sum->bytes += bytes;
    sum->objects += objects;
    sum->stacks++;
    for (size_t i = first; i < end && !named; i++) {
        symbolize_print(&report->lines[i]);
    }
    return end - first;
}

static bool symbolize_tell(const struct symbolize_report *report) {
    struct symbolize_sum sums[2] = {{0, 0, 0}, {0, 0, 0}};
    size_t at = 0;
    while (at < report->count) {
        if (strncmp(report->lines[at].text, "loam: leaked ", 13) == 0) {
            at += symbolize_stack(report, at, sums);
            continue;
        }
        if (sums[0].stacks != 0) {
            symbolize_print(&report->lines[at]); // SY1
        }
        at++;
    }
    if (sums[1].stacks != 0 && sums[0].stacks != 0) {
        fprintf(stderr,
                "loam: of these suppressed: %zu bytes in %zu objects "
                "of %zu stacks\n",
                sums[1].bytes, sums[1].objects, sums[1].stacks); // SY2
    }
    return sums[0].stacks != 0;
}

int symbolize_main(int count, char **words) {
    static struct symbolize_report report;
    if (count > 1) {
        fprintf(stderr, "usage: loam symbolize [SUPPRESSIONS] < REPORT\n");
        return SYMBOLIZE_FAILED;
    }
    if (count == 1 && !symbolize_read_patterns(&report, words[0])) {
        fprintf(stderr, "loam: %s cannot be read: nothing is suppressed\n",
                words[0]);
    }
    symbolize_read(&report);
    for (size_t i = 0; i < report.count; i++) {
        if (report.lines[i].module != NULL && !report.lines[i].asked) {
            symbolize_module(&report, i);
        }
    }
    bool told = symbolize_tell(&report);
    (void)send(STDIN_FILENO, told ? "1" : "0", 1, MSG_NOSIGNAL); // SY4
    return told ? 1 : 0;                                         // SY3
}
