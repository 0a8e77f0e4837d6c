// strings — text that is built, joined, split and thrown away.
//
// Lines are made by appending words, each time as a new string, as programs do
// that treat texts as values; a line is then split into words, the words are
// sorted and joined.  The last half of the results stays.  Texts are leaves,
// the arrays of words are not.  --size counts lines, in thousands.

#include "measure.h"

enum { STRINGS_WORDS_MAX = 24 };

static char *strings_copy(const char *text, size_t length) {
    char *copy = mem_leaf(length + 1);
    memcpy(copy, text, length);
    copy[length] = '\0';
    return copy;
}

static char *strings_append(char *line, const char *word) {
    size_t line_length = strlen(line), word_length = strlen(word);
    char *longer = mem_leaf(line_length + word_length + 2);
    memcpy(longer, line, line_length);
    longer[line_length] = ' ';
    memcpy(longer + line_length + 1, word, word_length + 1);
    if (SHIM_MANUAL) {
        shim_dead(line);
    }
    return longer;
}

static char *strings_word(uint64_t *state) {
    static const char *const syllables[] = {"lo", "am", "ter", "ra",
                                            "si", "lt", "hu",  "mus",
                                            "pe", "at", "cla", "y"};
    char text[32];
    size_t length = 0;
    size_t count = 1 + random_below(state, 5);
    for (size_t at = 0; at < count; at++) {
        const char *part = syllables[random_below(state, 12)];
        size_t part_length = strlen(part);
        memcpy(text + length, part, part_length);
        length += part_length;
    }
    return strings_copy(text, length);
}

static char *strings_line(uint64_t *state) {
    char *line = strings_word(state);
    size_t count = 4 + random_below(state, STRINGS_WORDS_MAX - 5);
    for (size_t at = 1; at < count; at++) {
        char *word = strings_word(state);
        line = strings_append(line, word);
        if (SHIM_MANUAL) {
            shim_dead(word);
        }
    }
    return line;
}

static size_t strings_split(const char *line, char **words) {
    size_t count = 0;
    while (*line != '\0') {
        size_t length = strcspn(line, " ");
        words[count++] = strings_copy(line, length);
        line += length + (line[length] == ' ');
    }
    return count;
}

static int strings_order(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static char *strings_sorted(const char *line) {
    char **words = mem_new(STRINGS_WORDS_MAX * sizeof *words);
    size_t count = strings_split(line, words);
    qsort(words, count, sizeof *words, strings_order);
    char *sorted = strings_copy("", 0);
    for (size_t at = 0; at < count; at++) {
        sorted = strings_append(sorted, words[at]);
        if (SHIM_MANUAL) {
            shim_dead(words[at]);
        }
    }
    if (SHIM_MANUAL) {
        shim_dead(words);
    }
    return sorted;
}

int main(int argc, char **argv) {
    struct measure *run = measure_open(argc, argv);
    size_t lines = (run->size != 0 ? run->size : 10) * 1000;
    size_t kept_count = lines / 2;
    uint64_t state = run->seed, sum = 0;
    measure_start(run);
    char **kept = mem_new(kept_count * sizeof *kept);
    for (size_t at = 0; at < lines; at++) {
        char *line = strings_line(&state);
        char **place = &kept[at % kept_count];
        if (SHIM_MANUAL) {
            shim_dead(*place);
        }
        *place = strings_sorted(line);
        for (const char *byte = *place; *byte != '\0'; byte++) {
            sum = sum * 31 + (unsigned char)*byte;
        }
        if (SHIM_MANUAL) {
            shim_dead(line);
        }
    }
    measure_stop(run, sum);
    return 0;
}
