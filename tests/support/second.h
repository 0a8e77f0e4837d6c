// second — a thread that collects when it is asked to.
//
// The thread under test counts `second_asked` up, from wherever it is, a signal
// handler included; the second thread collects, hands out again what was
// reclaimed, filled with something else, and says so in `second_answered`.
// Header only: one program has one of it.

#ifndef SUPPORT_SECOND_H
#define SUPPORT_SECOND_H

#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#include "loam.h"
#include "support/scrub.h"

#define SECOND_BYTES 48

static atomic_ulong second_asked, second_answered;
static atomic_bool second_over;
static size_t second_refused; // cycles that were given up

NOT_INLINED static void second_take(void) {
    for (size_t i = 0; i < 100; i++) {
        unsigned char *cell = loam_alloc(SECOND_BYTES);
        if (cell != NULL) {
            memset(cell, 0xEE, SECOND_BYTES);
        }
    }
}

// The thread's function; begins with nothing asked, ends when it is over.
static inline void *second_run(void *data) {
    while (!atomic_load(&second_over)) {
        unsigned long number = atomic_load(&second_asked);
        if (number != atomic_load(&second_answered)) {
            second_refused += !loam_collect();
            second_take();
            atomic_store(&second_answered, number);
        }
        (void)sched_yield();
    }
    return data;
}

#endif
