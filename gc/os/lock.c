#ifndef _GNU_SOURCE
#define _GNU_SOURCE // syscall
#endif

#include "os/lock.h"

#include "os/error.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

// About two microseconds: less than to fall asleep and be woken.
#define LOCK_SPINS 100

#define LOCK_SECOND_NS 1000000000u

bool lock_wait(uint32_t *word, uint32_t expected, uint64_t ns) {
    int saved = error_save();
    struct timespec limit = {.tv_sec = (time_t)(ns / LOCK_SECOND_NS),
                             .tv_nsec = (long)(ns % LOCK_SECOND_NS)};
    long said = syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected,
                        ns == 0 ? NULL : &limit, NULL, 0);
    bool timed_out = said != 0 && error_save() == ETIMEDOUT;
    error_restore(saved); // L4
    return !timed_out;
}

size_t lock_wake(uint32_t *word, size_t threads) {
    int saved = error_save();
    long woken =
        syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE,
                threads > INT_MAX ? INT_MAX : (int)threads, NULL, NULL, 0);
    error_restore(saved); // L4
    return woken < 0 ? 0 : (size_t)woken;
}

void lock_acquire_taken(struct lock *lock) {
    for (size_t turn = 0; turn < LOCK_SPINS; turn++) {
        lock_pause();
        if (__atomic_load_n(&lock->word, __ATOMIC_RELAXED) == 0 &&
            lock_try(lock)) {
            return;
        }
    }
    // L2: the word is 2 whenever somebody sleeps.  Who was woken cannot know
    // whether it was the last, so it takes the lock as contended.
    while (__atomic_exchange_n(&lock->word, 2, __ATOMIC_ACQUIRE) != 0) {
        (void)lock_wait(&lock->word, 2, 0);
    }
}
