// malloc_leak — the report of what leaked (LOAM_MODE=leakcheck).
//
// At exit, when all destructors have run, or when a program asks by the names
// that LeakSanitizer has for that (malloc_lsan.c), or by a signal.  The stacks
// are printed with what the loader knows; but after a signal the command `loam`
// reads that, if it can be found, and puts functions, files and lines in their
// places.
//
//     this process    stacks, a line a frame ──> socket ──> loam symbolize
//                     reads one byte         <── socket <── '1': some were told

#include "shims/malloc.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MALLOC_LEAK_LINE   (PATH_MAX + 512)
#define MALLOC_LEAK_FRAMES 4096 // bytes of the stack that a search takes

static pthread_mutex_t malloc_leak_one = PTHREAD_MUTEX_INITIALIZER;
static sem_t malloc_leak_asked; // by a signal
static bool malloc_leak_done;   // no report at exit any more; atomic
// Standard error as it was at the start: many programs close it at their end.
static int malloc_leak_error = STDERR_FILENO;
static struct stat malloc_leak_stat;
#define MALLOC_LEAK_FILES 500 // from this number on

// The program may have closed it, or made something else of its number.
static int malloc_leak_to(void) {
    struct stat now;
    bool same = fstat(malloc_leak_error, &now) == 0 &&
                now.st_dev == malloc_leak_stat.st_dev &&
                now.st_ino == malloc_leak_stat.st_ino;
    return same ? malloc_leak_error : STDERR_FILENO;
}

static void malloc_leak_keep_error(void) {
    int kept = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, MALLOC_LEAK_FILES);
    if (kept >= 0 && fstat(kept, &malloc_leak_stat) == 0) {
        malloc_leak_error = kept;
    }
}

// --- Lines -----------------------------------------------------------------

static void malloc_leak_write(int to, const char *bytes, size_t count) {
    while (count != 0) {
        ssize_t wrote = send(to, bytes, count, MSG_NOSIGNAL);
        if (wrote < 0 && errno == ENOTSOCK) {
            wrote = write(to, bytes, count);
        }
        if (wrote < 0 && errno != EINTR) {
            return;
        }
        bytes += wrote > 0 ? wrote : 0;
        count -= wrote > 0 ? (size_t)wrote : 0;
    }
}

__attribute__((__format__(__printf__, 2, 3))) static void
malloc_leak_line(int to, const char *format, ...) {
    char line[MALLOC_LEAK_LINE];
    va_list words;
    va_start(words, format);
    int count = vsnprintf(line, sizeof line, format, words);
    va_end(words);
    if (count > 0) {
        size_t bytes = (size_t)count;
        malloc_leak_write(to, line, bytes < sizeof line ? bytes : sizeof line);
    }
}

// The program's own name may be one that its folder has to be known for.
static const char *malloc_leak_file(const char *name, char *path) {
    if (name[0] == '/') {
        return name;
    }
    ssize_t bytes = readlink("/proc/self/exe", path, PATH_MAX - 1);
    path[bytes > 0 ? bytes : 0] = '\0';
    return bytes > 0 ? path : name;
}

// The program or library that a place in the code is in.  Unlike dladdr this
// finds a static program, too, whose name is empty.
struct malloc_leak_module {
    const char *name; // NULL: not found
    uintptr_t code, start;
};

static int malloc_leak_in(struct dl_phdr_info *info, size_t bytes, void *data) {
    (void)bytes;
    struct malloc_leak_module *module = data;
    uintptr_t start = UINTPTR_MAX;
    bool has = false;
    for (size_t i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        if (part->p_type == PT_LOAD) {
            uintptr_t at = info->dlpi_addr + part->p_vaddr;
            has |= module->code - at < part->p_memsz;
            start = at < start ? at : start;
        }
    }
    if (has) {
        module->name = info->dlpi_name;
        module->start = start & ~(uintptr_t)4095;
    }
    return has;
}

static void malloc_leak_frame(int to, size_t at, uintptr_t code) {
    char path[PATH_MAX];
    // Where the call is, not where it returns to.
    struct malloc_leak_module module = {.code = code - 1};
    Dl_info found;
    memset(&found, 0, sizeof found);
    (void)dladdr((const void *)module.code, &found);
    if (code != 0 && dl_iterate_phdr(malloc_leak_in, &module) != 0) {
        malloc_leak_line(to, "    #%zu %s (%s+%#zx)\n", at,
                         found.dli_sname != NULL ? found.dli_sname : "?",
                         malloc_leak_file(module.name, path),
                         (size_t)(code - module.start));
    } else {
        malloc_leak_line(to, "    #%zu %#zx\n", at, (size_t)code);
    }
}

static void malloc_leak_sum(int to, const char *what,
                            const struct loam_door_leak *leak) {
    malloc_leak_line(to, "%s%zu bytes in %zu objects, ", what,
                     leak->direct_bytes + leak->indirect_bytes,
                     leak->direct_objects + leak->indirect_objects);
    malloc_leak_line(to, "direct %zu in %zu, indirect %zu in %zu\n",
                     leak->direct_bytes, leak->direct_objects,
                     leak->indirect_bytes, leak->indirect_objects);
}

__attribute__((__noinline__)) static void
malloc_leak_stacks(int to, const struct loam_door_leak *all) {
    struct loam_door_leak rest = *all;
    struct loam_door_leak leak;
    for (size_t i = 0; loam_door_leak(i, &leak); i++) {
        malloc_leak_sum(to, "loam: leaked ", &leak);
        for (size_t at = 0; at < leak.frame_count; at++) {
            malloc_leak_frame(to, at, leak.frames[at]);
        }
        rest.direct_bytes -= leak.direct_bytes;
        rest.direct_objects -= leak.direct_objects;
        rest.indirect_bytes -= leak.indirect_bytes;
        rest.indirect_objects -= leak.indirect_objects;
    }
    if (rest.direct_objects + rest.indirect_objects != 0) {
        malloc_leak_sum(to, "loam: leaked ", &rest);
        malloc_leak_line(to, "    #0 ? (of these the caller is not known)\n");
    }
    malloc_leak_line(to, "loam: process %d: ", (int)getpid());
    malloc_leak_sum(to, "leaked in all ", all);
}

// --- The command -----------------------------------------------------------

static bool malloc_leak_try(char *path, const char *folder, const char *rest) {
    return snprintf(path, PATH_MAX, "%s%s", folder, rest) < PATH_MAX &&
           access(path, X_OK) == 0;
}

// The command that belongs to this library.
static bool malloc_leak_find(char *path) {
    const char *named = loam_door_wishes().tool;
    if (named != NULL) {
        return malloc_leak_try(path, named, "");
    }
    Dl_info here;
    char folder[PATH_MAX];
    if (dladdr(&malloc_leak_asked, &here) == 0 ||
        realpath(here.dli_fname, folder) == NULL) {
        return false;
    }
    *strrchr(folder, '/') = '\0';
    return malloc_leak_try(path, folder, "/loam") ||
           malloc_leak_try(path, folder, "/../bin/loam") ||
           malloc_leak_try(path, folder, "/../../bin/loam");
}

// The environment for it: it does not run on this library.
static char **malloc_leak_environment(void) {
    size_t count = 0;
    while (environ[count] != NULL) {
        count++;
    }
    char **kept = malloc((count + 1) * sizeof *kept);
    size_t at = 0;
    for (size_t i = 0; kept != NULL && i < count; i++) {
        if (strncmp(environ[i], "LD_PRELOAD=", 11) != 0) {
            kept[at++] = environ[i];
        }
    }
    if (kept != NULL) {
        kept[at] = NULL;
    }
    return kept;
}

static pid_t malloc_leak_spawn(char *path, int from) {
    char word[] = "symbolize";
    char file[PATH_MAX];
    const char *list = loam_door_wishes().suppressions;
    (void)snprintf(file, sizeof file, "%s", list != NULL ? list : "");
    char *words[] = {path, word, list != NULL ? file : NULL, NULL};
    char **environment = malloc_leak_environment();
    posix_spawn_file_actions_t actions;
    pid_t child = -1;
    if (environment != NULL && posix_spawn_file_actions_init(&actions) == 0) {
        if (posix_spawn_file_actions_adddup2(&actions, from, STDIN_FILENO) !=
                0 ||
            posix_spawn_file_actions_adddup2(&actions, malloc_leak_to(),
                                             STDERR_FILENO) != 0 ||
            posix_spawn(&child, path, &actions, NULL, words, environment) !=
                0) {
            child = -1;
        }
        posix_spawn_file_actions_destroy(&actions);
    }
    free(environment);
    return child;
}

// What the program itself wants to be suppressed.
#pragma weak __lsan_default_suppressions
const char *__lsan_default_suppressions(void);

static void malloc_leak_suppress(int to) {
    const char *text = __lsan_default_suppressions != NULL
                           ? __lsan_default_suppressions()
                           : NULL;
    while (text != NULL && *text != '\0') {
        size_t bytes = strcspn(text, "\n");
        malloc_leak_line(to, "loam: suppress %.*s\n", (int)bytes, text);
        text += bytes + (text[bytes] == '\n');
    }
}

// What the command said it did: it may be no child of ours any more when it has
// ended, where the program waits for children that it does not know.
static int malloc_leak_hear(int from) {
    char byte = 0;
    ssize_t bytes;
    (void)shutdown(from, SHUT_WR);
    do {
        bytes = read(from, &byte, 1);
    } while (bytes < 0 && errno == EINTR);
    return bytes == 1 && (byte == '0' || byte == '1') ? byte - '0' : -1;
}

// Whether something is left of the report; -1: there was no command to read it.
__attribute__((__noinline__)) static int
malloc_leak_tell(const struct loam_door_leak *all) {
    char path[PATH_MAX];
    int ends[2];
    if (!malloc_leak_find(path) ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
        return -1;
    }
    pid_t child = malloc_leak_spawn(path, ends[1]);
    (void)close(ends[1]);
    int told = -1;
    if (child > 0) {
        malloc_leak_suppress(ends[0]);
        malloc_leak_stacks(ends[0], all);
        told = malloc_leak_hear(ends[0]);
    }
    (void)close(ends[0]);
    while (child > 0 && waitpid(child, NULL, 0) < 0 && errno == EINTR) {
    }
    return told;
}

// --- When ------------------------------------------------------------------

// The program may be built not to be looked at.
#pragma weak __lsan_is_turned_off
int __lsan_is_turned_off(void);

__attribute__((__noinline__)) static bool malloc_leak_look(bool lines) {
    struct loam_door_leak all;
    if (__lsan_is_turned_off != NULL && __lsan_is_turned_off() != 0) {
        return false;
    }
    if (!loam_door_leaks(&all)) {
        malloc_leak_line(malloc_leak_to(),
                         "loam: process %d: leaks could not be looked for\n",
                         (int)getpid());
        return false;
    }
    if (all.direct_objects + all.indirect_objects == 0) {
        return false;
    }
    int told = lines ? malloc_leak_tell(&all) : -1;
    if (told >= 0) {
        return told != 0;
    }
    malloc_leak_stacks(malloc_leak_to(), &all);
    if (loam_door_wishes().suppressions != NULL) {
        malloc_leak_line(malloc_leak_to(), "loam: LOAM_SUPPRESSIONS is not "
                                           "considered here: it is for `loam "
                                           "symbolize`\n");
    }
    return true;
}

// What the program left below its frames must not stand in the gaps of those of
// the search: it would be found there, and what it points to is lost.
__attribute__((__noinline__)) static void malloc_leak_scrub(void) {
    char below[MALLOC_LEAK_FRAMES];
    memset(below, 0, sizeof below);
    __asm__ volatile("" : : "r"(below) : "memory");
}

__attribute__((__noinline__)) static bool malloc_leak_search(bool lines) {
    sigset_t children, before;
    memset(&before, 0, sizeof before); // the kernel fills in the first word
    (void)sigemptyset(&children);
    (void)sigaddset(&children, SIGCHLD);
    pthread_mutex_lock(&malloc_leak_one);
    (void)pthread_sigmask(SIG_BLOCK, &children, &before);
    bool leaked = malloc_leak_look(lines);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_mutex_unlock(&malloc_leak_one);
    return leaked;
}

bool malloc_leak_check(bool lines) {
    malloc_leak_scrub();
    return malloc_leak_search(lines);
}

bool malloc_leak_check_last(void) {
    return !__atomic_exchange_n(&malloc_leak_done, true, __ATOMIC_RELAXED) &&
           malloc_leak_check(true);
}

__attribute__((__noinline__)) static void malloc_leak_end(int status) {
    int wished = loam_door_wishes().leak_status;
    if (malloc_leak_check_last() && status == 0 && wished != 0) {
        exit(wished); // goes on with what is left to do
    }
}

// Next to no frame of its own: nothing in it is cleared.
static void malloc_leak_exit(int status, void *data) {
    (void)data;
    malloc_leak_scrub();
    malloc_leak_end(status);
}

static void malloc_leak_handle(int number) {
    (void)number;
    (void)sem_post(&malloc_leak_asked);
}

// What the handler asked for is done outside of it: the program may be
// anywhere, or wait for something.
static void *malloc_leak_watch(void *data) {
    for (;;) {
        if (sem_wait(&malloc_leak_asked) == 0) {
            (void)malloc_leak_check(false);
        }
    }
    return data;
}

static bool malloc_leak_begin_watch(void) {
    pthread_t thread;
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    bool begun = sem_init(&malloc_leak_asked, 0, 0) == 0 &&
                 pthread_create(&thread, NULL, malloc_leak_watch, NULL) == 0;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return begun && pthread_detach(thread) == 0;
}

// What was wished for and cannot be.
static void malloc_leak_doubt(const char *list) {
    struct stat is;
    int folder = list != NULL && stat(list, &is) == 0 && S_ISDIR(is.st_mode);
    if (list != NULL && (folder || access(list, R_OK) != 0)) {
        malloc_leak_line(malloc_leak_to(), "loam: LOAM_SUPPRESSIONS=%s: %s\n",
                         list, strerror(folder ? EISDIR : errno));
    }
}

// After a fault the program would go on where it was, and fault again.
static bool malloc_leak_is_fault(int number) {
    return number == SIGSEGV || number == SIGBUS || number == SIGILL ||
           number == SIGFPE || number == SIGTRAP || number == SIGSYS;
}

static void malloc_leak_hear_signal(int number) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = malloc_leak_handle;
    action.sa_flags = SA_RESTART;
    const char *why = NULL;
    if (malloc_leak_is_fault(number)) {
        why = "a fault is no request";
    } else if (!malloc_leak_begin_watch()) {
        why = "no thread can be made that would answer";
    } else if (sigaction(number, &action, NULL) != 0) {
        why = "no program hears this signal";
    }
    if (why != NULL) {
        malloc_leak_line(malloc_leak_to(),
                         "loam: LOAM_LEAK_SIGNAL=%d: %s; it asks for no "
                         "report\n",
                         number, why);
    }
}

void malloc_leak_begin(void) {
    struct loam_door_wishes wishes = loam_door_wishes();
    if (!wishes.leaks) {
        return;
    }
    loam_door_unwind();
    malloc_leak_keep_error();
    malloc_leak_doubt(wishes.suppressions);
    (void)on_exit(malloc_leak_exit, NULL);
    if (wishes.leak_signal != 0) {
        malloc_leak_hear_signal(wishes.leak_signal);
    }
}
