#include "tool/doctor.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tool/program.h"
#include "tool/run.h"

static const char doctor_usage[] =
    "usage: loam doctor [PID]\n"
    "       loam doctor -- COMMAND\n"
    "\n"
    "Without PID: whether this system and this installation are as they should "
    "be.\n"
    "With PID: what of Loam is active in that process, and how.\n"
    "With COMMAND: whether `loam run` could run it; it is not run.\n";

static bool doctor_has_fault;

__attribute__((__format__(printf, 2, 3))) static void
doctor_say(const char *word, const char *format, ...) {
    va_list list;
    va_start(list, format);
    printf("%-6s", word);
    vprintf(format, list);
    putchar('\n');
    va_end(list);
    doctor_has_fault |= strcmp(word, "fault") == 0;
}

// The first line of a file, or "".
static const char *doctor_line(const char *path) {
    static char line[256];
    line[0] = '\0';
    FILE *file = fopen(path, "re");
    if (file != NULL) {
        if (fgets(line, sizeof line, file) == NULL) {
            line[0] = '\0';
        }
        fclose(file);
    }
    line[strcspn(line, "\n")] = '\0';
    return line;
}

// --- This system -------------------------------------------------------

static void doctor_look_library(void) {
    const char *library = run_library();
    if (library != NULL) {
        doctor_say("ok", "libloam_malloc: %s", library);
    } else {
        doctor_say("fault", "libloam_malloc.so.0 is not beside this command, "
                            "nor in ../lib: install both from one build");
    }
}

static void doctor_look_kernel(void) {
    const char *overcommit = doctor_line("/proc/sys/vm/overcommit_memory");
    if (*overcommit == '\0') {
        doctor_say("note", "/proc is not there: libraries are found by asking "
                           "the loader, unknown threads not at all");
        return;
    }
    if (strcmp(overcommit, "2") == 0) {
        doctor_say("note", "vm.overcommit_memory is 2: the heap reserves less "
                           "address space (LOAM_RANGE)");
    } else {
        doctor_say("ok", "vm.overcommit_memory is %s", overcommit);
    }
    long maps = strtol(doctor_line("/proc/sys/vm/max_map_count"), NULL, 10);
    doctor_say(maps >= 65530 ? "ok" : "note", "vm.max_map_count is %ld", maps);
    const char *huge =
        doctor_line("/sys/kernel/mm/transparent_hugepage/enabled");
    if (strstr(huge, "[never]") != NULL) {
        doctor_say("note", "transparent huge pages are off: marking a large "
                           "heap at random takes longer");
    } else {
        doctor_say("ok", "transparent huge pages: %s",
                   *huge != '\0' ? huge : "not in this kernel");
    }
    const char *trace = doctor_line("/proc/sys/kernel/yama/ptrace_scope");
    if (strcmp(trace, "3") == 0) {
        doctor_say("note", "ptrace_scope is 3: a thread that blocks every "
                           "signal cannot be stopped, and is read running");
    } else {
        doctor_say("ok", "ptrace_scope is %s",
                   *trace != '\0' ? trace : "not in this kernel");
    }
}

static void doctor_look_limits(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
        doctor_say("note", "ulimit -v is %llu MiB: the heap can be no larger",
                   (unsigned long long)limit.rlim_cur >> 20);
    } else {
        doctor_say("ok", "ulimit -v: none");
    }
    const char *most = doctor_line("/sys/fs/cgroup/memory.max");
    if (*most != '\0' && strcmp(most, "max") != 0) {
        doctor_say("note", "memory.max of the cgroup is %s bytes", most);
    }
}

static void doctor_look_environment(char **environment) {
    for (char **entry = environment; *entry != NULL; entry++) {
        if (strncmp(*entry, "LOAM_", 5) == 0 ||
            strncmp(*entry, "LD_PRELOAD=", 11) == 0) {
            doctor_say("note", "set: %s", *entry);
        }
    }
}

// --- A process ---------------------------------------------------------

// Libraries by the beginning of their names, and what each means.
static const struct {
    const char *name, *word, *meaning;
} doctor_libraries[] = {
    {"libloam_malloc.so", "ok", "malloc is Loam's"},
    {"libloam.so", "ok", "objects of loam.h"},
    {"libgc.so", "note", "Boehm's collector is in the process, too; both work"},
    {"libasan.so", "fault", "a sanitizer has malloc: Loam's is not used"},
    {"libtsan.so", "fault", "a sanitizer has malloc: Loam's is not used"},
    {"libjemalloc.so", "note",
     "another allocator; who was loaded first serves"},
    {"libmimalloc.so", "note",
     "another allocator; who was loaded first serves"},
    {"libtcmalloc", "note", "another allocator; who was loaded first serves"},
};
#define DOCTOR_LIBRARIES (sizeof doctor_libraries / sizeof *doctor_libraries)

// The version is what follows the name of a library's file.
static void doctor_say_version(const char *place) {
    const char *tail = strstr(place, ".so.");
    if (tail != NULL) {
        doctor_say("ok", "version %s", tail + 4);
    }
}

// The files that are mapped, each told once; whether a library of Loam is.
static bool doctor_look_maps(long process) {
    char path[64], line[PROGRAM_PATH_BYTES + 128];
    bool told[DOCTOR_LIBRARIES] = {false};
    (void)snprintf(path, sizeof path, "/proc/%ld/maps", process);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        doctor_say("fault",
                   "process %ld: there is none, or it is another "
                   "user's",
                   process);
        return false;
    }
    while (fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        const char *place = strchr(line, '/');
        const char *slash = place != NULL ? strrchr(place, '/') : NULL;
        for (size_t i = 0; slash != NULL && i < DOCTOR_LIBRARIES; i++) {
            const char *name = doctor_libraries[i].name;
            if (!told[i] && strncmp(slash + 1, name, strlen(name)) == 0) {
                told[i] = true;
                doctor_say(doctor_libraries[i].word, "%s: %s", place,
                           doctor_libraries[i].meaning);
                if (i < 2) {
                    doctor_say_version(slash);
                }
            }
        }
    }
    fclose(file);
    return told[0] || told[1];
}

// The variables that a process was started with: its options, and the mode that
// follows.  Of two of one name the first counts.
static void doctor_look_variables(long process, bool active) {
    char path[64];
    char mode[32] = "";
    (void)snprintf(path, sizeof path, "/proc/%ld/environ", process);
    FILE *file = fopen(path, "re");
    char *entry = NULL;
    size_t room = 0;
    while (file != NULL && getdelim(&entry, &room, '\0', file) > 0) {
        char *one[] = {entry, NULL};
        doctor_look_environment(one);
        if (strncmp(entry, "LOAM_MODE=", 10) == 0 && *mode == '\0') {
            (void)snprintf(mode, sizeof mode, "%s", entry + 10);
        }
    }
    if (active && file != NULL) {
        doctor_say("ok", "mode %s",
                   *mode != '\0' ? mode : "quarantine, the default");
    }
    free(entry);
    if (file != NULL) {
        fclose(file);
    }
}

static void doctor_look_process(long process) {
    char link[64];
    static struct program program;
    (void)snprintf(link, sizeof link, "/proc/%ld/exe", process);
    bool active = doctor_look_maps(process);
    if (doctor_has_fault && !active) {
        return;
    }
    program_look(&program, link);
    const char *fault = program_fault(program.kind);
    if (!active) {
        doctor_say("fault", "nothing of Loam is in process %ld", process);
    }
    if (fault != NULL && program.kind != PROGRAM_PRIVILEGED) {
        doctor_say(active ? "fault" : "note", "its program: %s", fault);
    }
    doctor_look_variables(process, active);
}

// What `loam run` would say of a command.
static void doctor_look_command(const char *name) {
    static struct program program;
    program_look(&program, name);
    const char *fault = program_fault(program.kind);
    const char *what = program.kind == PROGRAM_MISSING ? name : program.path;
    doctor_say(fault != NULL ? "fault" : "ok", "%s: %s", what,
               fault != NULL ? fault : "loam run can run it");
}

int doctor_main(int count, char **words) {
    if (count > 1 && strcmp(words[0], "--") == 0) {
        doctor_has_fault = false;
        doctor_look_command(words[1]);
        return doctor_has_fault;
    }
    char *end = NULL;
    long process = count == 1 ? strtol(words[0], &end, 10) : 0;
    bool asks = count > 0 && (strcmp(words[0], "--help") == 0 ||
                              strcmp(words[0], "-h") == 0);
    if (asks || count > 1 || (count == 1 && (*end != '\0' || process <= 0))) {
        fputs(doctor_usage, asks ? stdout : stderr);
        return asks ? 0 : 2;
    }
    doctor_has_fault = false;
    if (count == 1) {
        doctor_look_process(process);
    } else {
        doctor_look_library();
        doctor_look_kernel();
        doctor_look_limits();
        doctor_look_environment(environ);
    }
    return doctor_has_fault;
}
