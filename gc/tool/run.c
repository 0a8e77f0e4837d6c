#include "tool/run.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tool/program.h"

#define RUN_REFUSED    125
#define RUN_CANNOT     126
#define RUN_MISSING    127
#define RUN_LIBRARY    "libloam_malloc.so.0"
#define RUN_PATH_BYTES (PATH_MAX + 64)

static const char run_usage[] =
    "usage: loam run [options] [--] COMMAND [ARGUMENTS]\n"
    "\n"
    "Runs COMMAND with Loam as its malloc, and its children too.\n"
    "\n"
    "  --mode MODE   plain: memory is used again as soon as it is freed\n"
    "                quarantine: not before nothing leads to it any more\n"
    "                leakcheck: report at the end what was never freed and\n"
    "                cannot be any more; the status is 23 then instead of 0\n"
    "                reclaim: free what was leaked; `man loam` says what may\n"
    "                break\n"
    "  --stacks WHICH\n"
    "                the stacks that leakcheck records: sampled, or all\n"
    "  --suppressions FILE\n"
    "                lines leak:PATTERN name functions, files and modules of\n"
    "                which leakcheck is not to report\n"
    "  --verify      say on standard error that it is active\n"
    "  --stats       print a summary on standard error at the end\n"
    "  --trace[=json][:FILE]\n"
    "                write a line for each collection, for people or an "
    "object\n"
    "                of JSON, on standard error or to the end of FILE\n"
    "  --abort       end the program when it frees what it may not free\n"
    "  --no-follow   COMMAND alone, not what it runs\n"
    "  --force       try it with programs that look as if it could not work\n"
    "  --dry-run     look at COMMAND, and do not run it\n"
    "\n"
    "Variables named LOAM_* (LOAM_HELP=1 lists them) are passed on.\n";

struct run_request {
    bool force, dry;
};

// Where the build, and where an installation, has the library, seen from the
// command.
static const char *const run_places[] = {"", "/../gc", ("/../" LOAM_LIBDIR),
                                         "/../lib", "/../lib64"};

// Where this command is: without /proc, the file that the kernel was given.
static bool run_self(char self[static PATH_MAX]) {
    ssize_t bytes = readlink("/proc/self/exe", self, PATH_MAX - 1);
    if (bytes > 0) {
        self[bytes] = '\0';
        return true;
    }
    const char *name = (const char *)getauxval(AT_EXECFN);
    return name != NULL && realpath(name, self) != NULL;
}

const char *run_library(void) {
    static char path[RUN_PATH_BYTES];
    char self[PATH_MAX];
    if (!run_self(self)) {
        return NULL;
    }
    *strrchr(self, '/') = '\0';
    for (size_t i = 0; i < sizeof run_places / sizeof *run_places; i++) {
        (void)snprintf(path, sizeof path, "%s%s/" RUN_LIBRARY, self,
                       run_places[i]);
        if (access(path, R_OK) == 0) {
            return path;
        }
    }
    return NULL;
}

// Options that have a value, behind `=` or in the next word.
static const struct {
    const char *word, *name;
    const char *const *values; // NULL: the name of a file
} run_settings[] = {
    {"--mode", "LOAM_MODE",
     (const char *const[]){"plain", "quarantine", "leakcheck", "reclaim",
                           NULL}},
    {"--stacks", "LOAM_STACKS", (const char *const[]){"sampled", "all", NULL}},
    {"--suppressions", "LOAM_SUPPRESSIONS", NULL},
};
#define RUN_SETTINGS (sizeof run_settings / sizeof *run_settings)

// A program may change its folder before the file is read.
static bool run_set_file(const char *word, const char *name,
                         const char *value) {
    char path[PATH_MAX];
    struct stat is;
    if (realpath(value, path) == NULL || access(path, R_OK) != 0 ||
        stat(path, &is) != 0 || (errno = EISDIR, S_ISDIR(is.st_mode))) {
        fprintf(stderr, "loam: %s %s: %s\n", word, value, strerror(errno));
        return false;
    }
    return setenv(name, path, 1) == 0;
}

static bool run_set_word(size_t index, const char *value) {
    const char *const *values = run_settings[index].values;
    for (size_t i = 0; values[i] != NULL; i++) {
        if (strcmp(value, values[i]) == 0) {
            return setenv(run_settings[index].name, value, 1) == 0;
        }
    }
    fprintf(stderr, "loam: %s %s: there is none of that name; one of:",
            run_settings[index].word, value);
    for (size_t i = 0; values[i] != NULL; i++) {
        fprintf(stderr, " %s", values[i]);
    }
    fprintf(stderr, "\n");
    return false;
}

// How many words an option with a value took; 0: it is none of these; -1: it is
// one, and wrong, which was said.
static int run_take_value(int count, char **words) {
    for (size_t i = 0; i < RUN_SETTINGS; i++) {
        size_t length = strlen(run_settings[i].word);
        if (strncmp(words[0], run_settings[i].word, length) != 0 ||
            (words[0][length] != '\0' && words[0][length] != '=')) {
            continue;
        }
        bool apart = words[0][length] == '\0';
        if (apart && count < 2) {
            fprintf(stderr, "loam: %s: nothing follows\n", words[0]);
            return -1;
        }
        const char *value = apart ? words[1] : words[0] + length + 1;
        bool set = run_settings[i].values == NULL
                       ? run_set_file(run_settings[i].word,
                                      run_settings[i].name, value)
                       : run_set_word(i, value);
        return !set ? -1 : apart ? 2 : 1;
    }
    return 0;
}

// The folder may change, and the file need not be there yet.
static bool run_set_trace_file(const char *name) {
    char path[PATH_MAX];
    char here[PATH_MAX];
    if (getcwd(here, sizeof here) == NULL) {
        here[0] = '\0';
    }
    bool whole = name[0] == '/';
    int length = snprintf(path, sizeof path, "%s%s%s", whole ? "" : here,
                          whole ? "" : "/", name);
    if (length >= (int)sizeof path || strpbrk(path, "*?") != NULL) {
        fprintf(stderr, "loam: --trace: %s: not a name for the lines\n", name);
        return false;
    }
    FILE *file = fopen(path, "ae");
    if (file == NULL) {
        fprintf(stderr, "loam: --trace: %s: %s\n", name, strerror(errno));
        return false;
    }
    fclose(file);
    return setenv("LOAM_TRACE_FILE", path, 1) == 0;
}

// --trace, --trace=json, --trace:FILE, --trace=json:FILE: as run_take_value.
static int run_take_trace(const char *word) {
    static const char name[] = "--trace";
    if (strncmp(word, name, sizeof name - 1) != 0) {
        return 0;
    }
    const char *form = word + sizeof name - 1;
    const char *colon = strchr(form, ':');
    size_t length = colon != NULL ? (size_t)(colon - form) : strlen(form);
    bool json = length == 5 && strncmp(form, "=json", 5) == 0;
    if (!json && length != 0) {
        fprintf(stderr,
                "loam: %s: expected --trace, or --trace=json, and :FILE behind "
                "either\n",
                word);
        return -1;
    }
    if (colon != NULL && !run_set_trace_file(colon + 1)) {
        return -1;
    }
    return setenv("LOAM_TRACE", json ? "json" : "on", 1) == 0 ? 1 : -1;
}

// True if `word` was an option; an option that is none ends it all.
static bool run_take(const char *word, struct run_request *request) {
    static const struct {
        const char *word, *name, *value;
    } settings[] = {
        {"--verify", "LOAM_VERIFY", "1"},
        {"--stats", "LOAM_STATS", "1"},
        {"--abort", "LOAM_ABORT", "1"},
        {"--no-follow", "LOAM_FOLLOW", "0"},
    };
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        if (strcmp(word, settings[i].word) == 0) {
            return setenv(settings[i].name, settings[i].value, 1) == 0;
        }
    }
    request->force |= strcmp(word, "--force") == 0;
    request->dry |= strcmp(word, "--dry-run") == 0;
    return strcmp(word, "--force") == 0 || strcmp(word, "--dry-run") == 0;
}

// RN3
static bool run_preload(const char *library) {
    const char *before = getenv("LD_PRELOAD");
    size_t bytes = strlen(library) + (before != NULL ? strlen(before) : 0) + 2;
    char *all = malloc(bytes);
    if (all == NULL) {
        return false;
    }
    (void)snprintf(all, bytes, "%s%s%s", library,
                   before != NULL && *before != '\0' ? ":" : "",
                   before != NULL ? before : "");
    bool done = setenv("LD_PRELOAD", all, 1) == 0;
    free(all);
    return done;
}

// The library asks this command for lines, wherever it is.
static bool run_name_tool(void) {
    char self[PATH_MAX];
    return !run_self(self) || setenv("LOAM_TOOL", self, 0) == 0;
}

// 0, or the status with which to end.
static int run_check(const char *name, const struct run_request *request) {
    static struct program program;
    program_look(&program, name);
    const char *fault = program_fault(program.kind);
    if (fault == NULL) {
        return 0;
    }
    bool missing = program.kind == PROGRAM_MISSING;
    fprintf(stderr, "loam: %s: %s%s%s%s\n", missing ? name : program.path,
            fault, *program.detail != '\0' ? " (" : "", program.detail,
            *program.detail != '\0' ? ")" : "");
    if (missing || program.kind == PROGRAM_LOST) {
        return RUN_MISSING;
    }
    return request->force ? 0 : RUN_REFUSED; // RN2
}

int run_main(int count, char **words) {
    struct run_request request = {false, false};
    int at = 0;
    while (at < count && words[at][0] == '-' && strcmp(words[at], "--") != 0) {
        int taken = run_take_trace(words[at]);
        taken = taken != 0 ? taken : run_take_value(count - at, words + at);
        if (taken < 0) {
            return RUN_REFUSED;
        }
        if (taken > 0) {
            at += taken;
            continue;
        }
        bool asks =
            strcmp(words[at], "--help") == 0 || strcmp(words[at], "-h") == 0;
        if (asks || !run_take(words[at], &request)) {
            fprintf(asks ? stdout : stderr, "%s", run_usage);
            return asks ? 0 : RUN_REFUSED;
        }
        at++;
    }
    at += at < count && strcmp(words[at], "--") == 0;
    if (at == count) {
        fprintf(stderr, "%s", run_usage);
        return RUN_REFUSED;
    }
    const char *library = run_library();
    if (library == NULL) {
        fprintf(stderr, "loam: " RUN_LIBRARY " is not where this command "
                        "expects it: beside it, or in ../lib\n");
        return RUN_REFUSED;
    }
    int status = run_check(words[at], &request);
    if (status != 0 || request.dry) {
        return status;
    }
    if (!run_preload(library) || !run_name_tool()) {
        fprintf(stderr, "loam: no memory for the environment\n");
        return RUN_REFUSED;
    }
    execvp(words[at], words + at); // RN1
    status = errno == ENOENT ? RUN_MISSING : RUN_CANNOT;
    fprintf(stderr, "loam: %s: %s\n", words[at], strerror(errno));
    return status;
}
