#ifndef _GNU_SOURCE
#define _GNU_SOURCE // SYS_futex
#endif

#include "os/lock.h"

#include "os/kernel.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>

// About two microseconds: less than to fall asleep and be woken.
#define LOCK_SPINS 100

#define LOCK_SECOND_NS 1000000000u

bool lock_wait(uint32_t *word, uint32_t expected, uint64_t ns) {
    struct timespec limit = {.tv_sec = (time_t)(ns / LOCK_SECOND_NS),
                             .tv_nsec = (long)(ns % LOCK_SECOND_NS)};
    return kernel_call(SYS_futex, (uintptr_t)word, FUTEX_WAIT_PRIVATE, expected,
                       ns == 0 ? 0 : (uintptr_t)&limit) != -ETIMEDOUT;
}

size_t lock_wake(uint32_t *word, size_t threads) {
    size_t most = threads > INT_MAX ? INT_MAX : threads;
    long woken =
        kernel_call(SYS_futex, (uintptr_t)word, FUTEX_WAKE_PRIVATE, most, 0);
    return woken < 0 ? 0 : (size_t)woken;
}

void lock_linger(const struct lock *lock) {
    for (size_t turn = 0; turn < LOCK_SPINS; turn++) {
        if (__atomic_load_n(&lock->word, __ATOMIC_RELAXED) == 0) {
            return;
        }
        lock_pause();
    }
}

void lock_acquire_taken(struct lock *lock) {
    lock_linger(lock);
    if (lock_try(lock)) {
        return;
    }
    // L2: the word is 2 whenever somebody sleeps.  Who was woken cannot know
    // whether it was the last, so it takes the lock as contended.
    while (__atomic_exchange_n(&lock->word, 2, __ATOMIC_ACQUIRE) != 0) {
        (void)lock_wait(&lock->word, 2, 0);
    }
}
