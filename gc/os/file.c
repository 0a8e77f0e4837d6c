#ifndef _GNU_SOURCE
#define _GNU_SOURCE // syscall
#endif

#include "os/file.h"

#include "os/error.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

static int file_try(const char *path) {
    return (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC,
                        0); // FL2
}

// The program may use up all descriptors it allows itself; more may be allowed.
static int file_try_beyond(const char *path) {
    struct rlimit limit;
    if (syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &limit) != 0 ||
        limit.rlim_cur == limit.rlim_max) {
        return -1;
    }
    const struct rlimit more = {limit.rlim_max, limit.rlim_max};
    if (syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, &more, NULL) != 0) {
        return -1;
    }
    int file = file_try(path);
    (void)syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, &limit, NULL); // FL5
    return file;
}

int file_open(const char *path) {
    int saved = error_save();
    int file = file_try(path);
    if (file < 0 && errno == EMFILE) {
        file = file_try_beyond(path);
    }
    error_restore(saved);
    return file;
}

// A number of bytes; 0 for every failure.
static size_t file_call(long number, int file, void *buffer, size_t capacity) {
    int saved = error_save();
    long got;
    do {
        got = syscall(number, file, buffer, capacity); // FL3
    } while (got < 0 && errno == EINTR);
    error_restore(saved); // FL4
    return got < 0 ? 0 : (size_t)got;
}

size_t file_next(int file, void *buffer, size_t capacity) {
    return file_call(SYS_read, file, buffer, capacity);
}

size_t file_next_entries(int folder, void *buffer, size_t capacity) {
    return file_call(SYS_getdents64, folder, buffer, capacity);
}

void file_close(int file) {
    int saved = error_save();
    (void)syscall(SYS_close, file);
    error_restore(saved);
}

size_t file_read(const char *path, char *buffer, size_t capacity) {
    size_t count = 0;
    int file = file_open(path);
    if (file >= 0) {
        size_t got;
        do {
            got = file_next(file, buffer + count, capacity - 1 - count);
            count += got;
        } while (got != 0 && count < capacity - 1); // FL1
        file_close(file);
    }
    buffer[count] = '\0';
    return count;
}
