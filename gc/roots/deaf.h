// deaf — a thread that does not answer the signal: why, and what else to do.
//
// A thread that was sent the signal and has not answered may be gone, may be
// waiting for a processor, may block the signal, may be in the middle of a call
// that nothing interrupts, or may be no thread of the program at all.  The
// kernel tells (os/task.h).  A thread that blocks the signal can still be
// stopped as a debugger would (os/tracer.h).
//
// Invariants
//   D1  gone    a thread that is called gone executes nothing any more
//   D2  whole   a mutator that was traced is not INSIDE, unless it is SAFE
//   D3  reason  every answer has a reason in words
//
// The conductor, under the world's lock; allocates from meta, once a thread.
// Design, alternatives and measurements: docs/design/roots/deaf.md

#ifndef ROOTS_DEAF_H
#define ROOTS_DEAF_H

#include "base/defs.h"
#include "os/task.h"
#include "roots/roll.h"

enum deaf_answer {
    DEAF_GONE,    // it has ended (D1); the first thread may be a zombie
    DEAF_APART,   // a worker of the kernel: it has no references
    DEAF_BLOCKS,  // it blocks the signal, or the system does not send it
    DEAF_PENDING, // the signal waits for it, or it for a processor
    DEAF_LOST,    // it could have had the signal: send it again
};

// What a thread does; its record's apart, deaf and slow are set accordingly.
enum deaf_answer deaf_ask(struct record *record, struct task_status *status);

// Stops it by ptrace, for the rest of this stop; false: it cannot be, or it is
// INSIDE, and goes on to where it stops by itself.
MUST_USE bool deaf_trace(struct record *record);

// Why it does not answer, in words.
const char *deaf_reason(const struct record *record,
                        const struct task_status *status);

#endif
