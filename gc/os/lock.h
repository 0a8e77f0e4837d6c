// lock — to wait for another thread.
//
// A word in memory and two questions to the system: sleep while the word is
// what I think it is, and wake those who sleep on it.  From these a lock is
// made.  Its word has three values, so that releasing a lock that nobody waits
// for needs no system call:
//
//     0 free ----acquire----> 1 taken ----somebody waits----> 2 contended
//     ^                       |                               |
//     +-------release---------+----------release, wake one----+
//
// Whoever waited takes the lock as contended, since others may still sleep.
//
// Invariants:
//   L1  alone   between an acquisition and its release no other succeeds, and
//               what was written before a release is seen after the next one
//   L2  woken   a thread that sleeps in lock_acquire is woken when the lock is
//               free; no wake is lost
//   L3  zero    a lock whose bytes are zero is free
//   L4  errno   errno is as the caller left it
//   L5  whole   nothing here is a cancellation point, and a signal handler that
//               runs meanwhile does not end lock_acquire
//
// Any thread; calls no allocator.  lock_try, lock_release, lock_wait and
// lock_wake are async-signal-safe.  A lock does not know its holder.
// Design, alternatives and measurements: docs/design/os/lock.md

#ifndef OS_LOCK_H
#define OS_LOCK_H

#include "base/defs.h"

struct lock {
    uint32_t word; // 0 free, 1 taken, 2 taken and perhaps waited for
};

// Sleeps while *word == expected, at most `ns` nanoseconds (0: no limit), or
// until a wake.  It may return early for no reason: look at the word again.
// False only when the time ran out.
bool lock_wait(uint32_t *word, uint32_t expected, uint64_t ns);

// Wakes at most `threads` threads that sleep on the word; how many it woke.
size_t lock_wake(uint32_t *word, size_t threads);

// Tells the processor that this is a turn of a loop that waits.
static inline void lock_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

// Takes a free lock; false when it is taken.
MUST_USE static inline bool lock_try(struct lock *lock) {
    uint32_t free_word = 0;
    return __atomic_compare_exchange_n(&lock->word, &free_word, 1, false,
                                       __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

// Looks for a little while whether the lock is free by now.
void lock_linger(const struct lock *lock);

// The slow part of lock_acquire.
COLD void lock_acquire_taken(struct lock *lock);

static inline void lock_acquire(struct lock *lock) {
    if (UNLIKELY(!lock_try(lock))) {
        lock_acquire_taken(lock);
    }
}

// Whether somebody waits for it, or did not long ago; for its holder.
static inline bool lock_is_wanted(const struct lock *lock) {
    return __atomic_load_n(&lock->word, __ATOMIC_RELAXED) == 2;
}

static inline void lock_release(struct lock *lock) {
    if (UNLIKELY(__atomic_exchange_n(&lock->word, 0, __ATOMIC_RELEASE) == 2)) {
        (void)lock_wake(&lock->word, 1);
    }
}

#endif
