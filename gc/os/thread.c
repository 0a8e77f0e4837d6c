#ifndef _GNU_SOURCE
#define _GNU_SOURCE // syscall
#endif

#include "os/thread.h"

#include "os/error.h"

#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define THREAD_TASKS "/proc/self/task"

uint32_t thread_id(void) {
    return (uint32_t)syscall(SYS_gettid);
}

uint32_t thread_process_id(void) {
    // By the kernel: some libraries remember the answer across a raw fork.
    return (uint32_t)syscall(SYS_getpid);
}

// One record of a directory, as the kernel writes it.
struct thread_entry {
    uint64_t inode;
    uint64_t next;  // an opaque position
    uint16_t bytes; // of this record
    uint8_t type;
    char name[5]; // and on, zero-terminated
};

// The entries of /proc/self/task, one a task, "." and ".." left out.
static size_t thread_count_entries(void) {
    long file = syscall(SYS_openat, AT_FDCWD, THREAD_TASKS,
                        O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (file < 0) {
        return 0;
    }
    size_t count = 0;
    _Alignas(struct thread_entry) char buffer[4096];
    for (;;) {
        long got = syscall(SYS_getdents64, file, buffer, sizeof buffer);
        if (got <= 0) {
            break;
        }
        for (long at = 0; at < got;) {
            const struct thread_entry *entry = (const void *)(buffer + at);
            count += entry->name[0] != '.';
            at += entry->bytes;
        }
    }
    (void)syscall(SYS_close, file);
    return count;
}

size_t thread_count(void) {
    int saved = error_save();
    // The kernel counts for us: the links of this directory are 2 and one a
    // task.  Some emulations of /proc leave the links at 1 or 2.
    struct stat tasks;
    size_t count = 0;
    if (stat(THREAD_TASKS, &tasks) == 0) {
        count = tasks.st_nlink > 2 ? (size_t)tasks.st_nlink - 2
                                   : thread_count_entries();
    }
    error_restore(saved); // T3
    return count;
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
    char name[32] = "";
    long file = syscall(SYS_openat, AT_FDCWD, "/proc/self/comm",
                        O_RDONLY | O_CLOEXEC, 0);
    if (file < 0) {
        return false;
    }
    (void)syscall(SYS_read, file, name, sizeof name - 1);
    (void)syscall(SYS_close, file);
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
    bool is_alone = thread_count() <= alone;
    if (!is_alone) {
        alone += thread_count_emulator();
    }
    // Two thousand naps and more, each longer than the last: about a second.
    while (!is_alone && nap.tv_nsec < 1000000) {
        is_alone = thread_count() <= alone;
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
           pthread_setspecific(thread_parting - 1, value) == 0; // T5
}
