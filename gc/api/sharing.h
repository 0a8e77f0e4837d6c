// sharing — what threads owe each other for counted objects.
//
// An object of a shared type that is released by a thread other than its owner
// may die without anybody's knowing: its owner must be told (rc/bias.h).  The
// releases note whom; here the notes are taken to the owners, under the lock,
// and what a thread was told it attends to where it counts: at its next slow
// release, allocation, settlement, or its end.
//
//     release -> domain.tells -> sharing_tell -> [told] of the owner
//                                  owner gone:  merged at once
//     owner:     sharing_hear   <- [told]       merged; the dead on its list
//
// A thread that ends does what it owes: it empties its pools, destroys its
// dead, tries its suspects and settles its zeroes.  What is alive then stays in
// blocks without an owner; so does garbage that only the tracer finds.  Who
// destroys that is cycles' business (api/cycles.h).
//
// In a forked child the other threads are gone, and what they had in hand with
// them.  The heads of the objects tell the truth: names in buffers that are no
// more are struck out, what waited for its destruction waits for the tracer,
// and what was in the middle of it stays unfinished.
//
// Invariants
//   SH1  heard    what a thread is told it hears, or who buries it
//   SH2  ended    a thread that has ended owes nothing: none of its objects is
//                 named by a buffer of its, or on its list of the dead
//   SH3  vanished the same for one that ended without a word, but that what it
//                 owed is left to the tracer
//   SH4  forked   in a child no object is kept for a thread that is not there,
//                 and each that the thread names which is
//   SH5  left      what an ended thread left and the tracer condemned is taken
//                  apart by a thread that is the only one, with its own
//   SH6  whose    in a child what another thread was destroying is destroyed by
//                 nobody, in whosever block it is; what its own thread was, by
//                 that
//
// Each thread for itself; sharing_bury and sharing_forked: under the lock.
// Design, alternatives and measurements: docs/design/api/sharing.md

#ifndef API_SHARING_H
#define API_SHARING_H

#include "api/counting.h"
#include "base/defs.h"
#include "roots/mutator.h"

// Whether the thread has something to say, or was told something.
static inline bool sharing_is_due(const struct counting *counting) {
    return UNLIKELY(counting->domain.tells.count != 0 ||
                    __atomic_load_n(&counting->is_told, __ATOMIC_RELAXED) != 0);
}

// Tells, and hears.
COLD void sharing_exchange(struct counting *counting);

// The thread is ending: what it owes is done.  The lock is not held.
void sharing_end(struct mutator *mutator);

// It has vanished.
void sharing_bury(struct mutator *mutator);

// In a forked child whose heap is rebuilt; `self` is who is left, or NULL.
void sharing_forked(struct mutator *self);

#endif
