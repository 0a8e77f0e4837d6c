#ifndef _GNU_SOURCE
#define _GNU_SOURCE // syscall
#endif

#include "os/thread.h"

#include "os/error.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
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
