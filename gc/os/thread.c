#ifndef _GNU_SOURCE
#define _GNU_SOURCE // syscall
#endif

#include "os/thread.h"

#include "os/error.h"
#include "os/file.h"
#include "os/task.h"

#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

uint32_t thread_id(void) {
    return (uint32_t)syscall(SYS_gettid);
}

uint32_t thread_process_id(void) {
    // By the kernel: some libraries remember the answer across a raw fork.
    return (uint32_t)syscall(SYS_getpid);
}

// Whether the program's own file has a name that begins with `prefix`.
static bool thread_has_file_prefix(const char *prefix, size_t length) {
    char path[512];
    long got = syscall(SYS_readlinkat, AT_FDCWD, "/proc/self/exe", path,
                       sizeof path - 1);
    path[got < 0 ? 0 : got] = '\0';
    const char *slash = strrchr(path, '/');
    return slash != NULL && strncmp(slash + 1, prefix, length) == 0;
}

// Whether the kernel's name for this process begins with `prefix`.
static bool thread_has_name_prefix(const char *prefix, size_t length) {
    char name[32];
    (void)file_read("/proc/self/comm", name, sizeof name);
    return strncmp(name, prefix, length) == 0;
}

// qemu in user mode has one thread of its own.  It tells its program that the
// program's file is running, and the kernel tells that qemu is.
static size_t thread_count_emulator(void) {
    return thread_has_name_prefix("qemu-", 5) &&
           !thread_has_file_prefix("qemu-", 5);
}

bool thread_is_alone(void) {
    int saved = error_save();
    struct timespec nap = {.tv_nsec = 1000};
    size_t alone = 1;
    bool is_alone = task_count() <= alone;
    if (!is_alone) {
        alone += thread_count_emulator();
    }
    // Two thousand naps and more, each longer than the last: about a second.
    while (!is_alone && nap.tv_nsec < 1000000) {
        is_alone = task_count() <= alone;
        if (!is_alone) {
            (void)syscall(SYS_nanosleep, &nap, NULL);
            nap.tv_nsec += 500;
        }
    }
    error_restore(saved);
    return is_alone;
}

// --- The end of a thread ---------------------------------------------------

static pthread_key_t thread_parting; // one more than the key; 0: none

bool thread_at_exit(void (*parting)(void *value)) {
    pthread_key_t key;
    if (pthread_key_create(&key, parting) != 0) {
        return false;
    }
    thread_parting = key + 1;
    return true;
}

bool thread_exit_arm(void *value) {
    return thread_parting != 0 &&
           pthread_setspecific(thread_parting - 1, value) == 0; // T2
}
