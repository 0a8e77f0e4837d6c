#include "tool/run.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
    "  --verify      say on standard error that it is active\n"
    "  --stats       print a summary on standard error at the end\n"
    "  --trace       print a line for each collection\n"
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

const char *run_library(void) {
    static char path[RUN_PATH_BYTES];
    char self[PATH_MAX];
    ssize_t bytes = readlink("/proc/self/exe", self, sizeof self - 1);
    if (bytes <= 0) {
        return NULL;
    }
    self[bytes] = '\0';
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

// True if `word` was an option; an option that is none ends it all.
static bool run_take(const char *word, struct run_request *request) {
    static const struct {
        const char *word, *name, *value;
    } settings[] = {
        {"--verify", "LOAM_VERIFY", "1"},    {"--stats", "LOAM_STATS", "1"},
        {"--trace", "LOAM_TRACE", "1"},      {"--abort", "LOAM_ABORT", "1"},
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
    if (missing) {
        return RUN_MISSING;
    }
    return request->force ? 0 : RUN_REFUSED; // RN2
}

int run_main(int count, char **words) {
    struct run_request request = {false, false};
    int at = 0;
    while (at < count && words[at][0] == '-' && strcmp(words[at], "--") != 0) {
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
    if (!run_preload(library)) {
        fprintf(stderr, "loam: no memory for the environment\n");
        return RUN_REFUSED;
    }
    execvp(words[at], words + at); // RN1
    status = errno == ENOENT ? RUN_MISSING : RUN_CANNOT;
    fprintf(stderr, "loam: %s: %s\n", words[at], strerror(errno));
    return status;
}
