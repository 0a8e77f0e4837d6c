#ifndef _GNU_SOURCE
#define _GNU_SOURCE // syscall, ppoll
#endif

#include "os/output.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

// A standard error that never drains must not hold the world forever.
#define OUTPUT_PATIENCE_NS 100000000L

// Waits until a descriptor takes bytes again; false if it does not.
static bool output_wait(int file) {
    struct pollfd on = {.fd = file, .events = POLLOUT};
    struct timespec patience = {.tv_nsec = OUTPUT_PATIENCE_NS};
    long ready = syscall(SYS_ppoll, &on, 1, &patience, NULL, 0);
    return ready > 0 || (ready < 0 && errno == EINTR);
}

// The system is called without libc's wrappers: those of write and ppoll are
// points where a thread may be cancelled, and we may hold somebody's lock.
static void output_put(int file, const char *bytes, size_t count) {
    while (count != 0) {
        long done = syscall(SYS_write, file, bytes, count);
        if (done > 0) {
            bytes += done;
            count -= (size_t)done;
        } else if (done < 0 && errno == EINTR) {
            continue; // O1
        } else if (done == 0 || errno != EAGAIN || !output_wait(file)) {
            break;
        }
    }
}

void output_write(const char *bytes, size_t count) {
    int saved = errno;
    output_put(STDERR_FILENO, bytes, count);
    errno = saved; // O2
}

bool output_append(const char *path, const char *bytes, size_t count) {
    int saved = errno;
    long file = syscall(SYS_openat, AT_FDCWD, path,
                        O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY,
                        0666); // O3
    if (file >= 0) {
        output_put((int)file, bytes, count);
        (void)syscall(SYS_close, (int)file);
    }
    errno = saved; // O2
    return file >= 0;
}
