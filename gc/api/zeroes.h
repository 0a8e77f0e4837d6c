// zeroes — when the zeroes of a thread are settled.
//
// The rc wing holds what the stack shows (rc/deferred.h); here the stack is
// found: from where the program called in to the far end, with the registers,
// and the fibers.  A thread that runs where nobody knows how far its stack goes
// settles nothing: what it has is left to the tracer.
//
// Zeroes are settled by loam_settle, when 4096 of them have come together, or a
// megabyte of them was made, and when their thread ends; and what the stack
// shows is held while rings are tried.
//
// Destructors run in between; the stack is not read again after them.  A
// destructor may therefore not put a deferred object into a variable of one of
// its callers.
//
// Invariants
//   DS1  stack   what a variable or a register of the program points to, when
//                a settlement or a slice of the cycle collector begins, is not
//                destroyed by it
//   DS2  prompt  a deferred object whose count is 0, and that no word of the
//                stack points to, is destroyed by the next settlement
//
// Each thread for itself, where no drain is on.
// Design, alternatives and measurements: docs/design/api/zeroes.md

#ifndef API_ZEROES_H
#define API_ZEROES_H

#include "api/counting.h"
#include "base/defs.h"

#define ZEROES_COUNT ((size_t)(LOAM_TINY ? 8 : 4096)) // zeroes
#define ZEROES_BYTES ((size_t)(LOAM_TINY ? 4096 : 1048576))

// Whether it is time.
static inline bool zeroes_is_due(const struct counting *counting) {
    const struct count_domain *domain = &counting->domain;
    return domain->zeroes.count >= counting->deferred.threshold ||
           domain->deferred_bytes >= ZEROES_BYTES;
}

// A new object of a deferred type.
void zeroes_add(struct counting *counting, void *object, size_t bytes);

// Destroys what nobody owns and no variable holds; returns how many objects.
COLD size_t zeroes_settle(struct counting *counting);

// Holds what variables hold; false: that cannot be known.  zeroes_end
// ends it.
MUST_USE bool zeroes_begin(struct counting *counting);
void zeroes_end(struct counting *counting);

#endif
