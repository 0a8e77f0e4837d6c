#include "support/fault.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>

static _Atomic size_t fault_count; // calls since arming
static _Atomic size_t fault_first; // the first that fails; 0: disarmed
static _Atomic size_t fault_last;  // the last that fails

void *__real_mmap(void *, size_t, int, int, int, off_t);
int __real_mprotect(void *, size_t, int);
int __real_madvise(void *, size_t, int);
int __real_munmap(void *, size_t);
void *__wrap_mmap(void *, size_t, int, int, int, off_t);
int __wrap_mprotect(void *, size_t, int);
int __wrap_madvise(void *, size_t, int);
int __wrap_munmap(void *, size_t);

static void fault_set(size_t first, size_t last) {
    atomic_store(&fault_first, 0);
    atomic_store(&fault_count, 0);
    atomic_store(&fault_last, last);
    atomic_store(&fault_first, first);
}

void fault_arm(size_t n) {
    fault_set(n, n);
}

void fault_arm_from(size_t n) {
    fault_set(n, (size_t)-1);
}

void fault_disarm(void) {
    atomic_store(&fault_first, 0);
}

size_t fault_hits(void) {
    return atomic_load(&fault_count);
}

// Whether this call is to fail.
static bool fault_now(void) {
    size_t first = atomic_load(&fault_first);
    if (first == 0) {
        return false;
    }
    size_t mine = atomic_fetch_add(&fault_count, 1) + 1;
    if (mine < first || mine > atomic_load(&fault_last)) {
        return false;
    }
    errno = ENOMEM;
    return true;
}

void *__wrap_mmap(void *at, size_t bytes, int access, int flags, int file,
                  off_t offset) {
    return fault_now() ? MAP_FAILED
                       : __real_mmap(at, bytes, access, flags, file, offset);
}

int __wrap_mprotect(void *at, size_t bytes, int access) {
    return fault_now() ? -1 : __real_mprotect(at, bytes, access);
}

int __wrap_madvise(void *at, size_t bytes, int advice) {
    return fault_now() ? -1 : __real_madvise(at, bytes, advice);
}

int __wrap_munmap(void *at, size_t bytes) {
    return fault_now() ? -1 : __real_munmap(at, bytes);
}
