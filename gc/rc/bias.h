// bias — counts that most often one thread changes.
//
// An object of a shared type belongs to the thread that made it until that
// thread lets go of it.  The owner counts in the head, without atomic
// instructions; everybody else counts in a second number, atomically.  When the
// owner's number falls to 0 the two are one: the object is *merged*, and all
// count in the second number (Choi, Shull and Torrellas 2018).
//
//     | shared number, three flags | owner | head: the owner's number |
//
// A thread that is no owner may release what the owner has retained: then the
// second number is below 0, and the object is dead when the owner's number is
// no more than that.  Only the owner can tell, so it is told, once: the object
// is *queued* until the owner has merged it.  What dies while it is queued
// keeps its cell; who is last of the two, the queue or the death, frees it.
//
// Whose thread has ended is told by nobody: who finds that out merges in its
// place, under the lock.  The word `owner` never changes.  If another thread is
// given the same number later, the object is that thread's.
//
// Invariants
//   BI1  sum     the owners of an object are the two numbers together, but
//                within a merge
//   BI2  last    exactly one release or merge finds that nobody owns it
//   BI3  owner   the head's number is changed by the owner alone, and is 0 once
//                merged
//   BI4  told    the shared number of an object that is not merged falls below
//                0 only where somebody is told, or is about to be; or memory
//                was short
//   BI5  queue   an object is in one queue at most, and not freed before it has
//                left that
//
// bias_retain, bias_release, bias_retain_living: any thread.  bias_merge,
// bias_take: under the lock; of an object whose owner runs, the owner merges,
// and nobody takes what can be reached.
// Design, alternatives and measurements: docs/design/rc/bias.md

#ifndef RC_BIAS_H
#define RC_BIAS_H

#include "base/defs.h"
#include "heap/counted.h"

enum bias_end {
    BIAS_COUNTED, // others own it still
    BIAS_LAST,    // nobody does
    BIAS_TELL,    // its owner is to be told: put it into its queue
    BIAS_GONE,    // it was destroyed while it was queued: free its cell
    BIAS_FAULT    // nobody owned it
};

#define BIAS_MERGED UINT32_C(1) // of the shared word

// Whether `owner` counts in the head.
static inline bool bias_is_own(const void *object, uint32_t owner) {
    const struct counted_bias *bias = counted_bias_of(object);
    return __atomic_load_n(&bias->owner, __ATOMIC_RELAXED) == owner &&
           !(__atomic_load_n(&bias->shared, __ATOMIC_RELAXED) & BIAS_MERGED);
}

// `owner`: COUNTED_OWNER_BIT and the id of the caller.
void bias_retain(void *object, uint32_t owner);
MUST_USE enum bias_end bias_release(void *object, uint32_t owner);

// One owner more, if there is one at all; false if there is none.  The object's
// cell is not used again meanwhile.
MUST_USE bool bias_retain_living(void *object, uint32_t owner);

// The object leaves the queue, and the owner's number is added to the others'.
MUST_USE enum bias_end bias_merge(void *object);

// It could not be put into a queue: the next release tells again.
void bias_untell(void *object);

// Whether a queue names it, or will; of what is dead it stays false.
bool bias_is_queued(const void *object);

// Of an object that was destroyed, marked as such: whether its cell may be
// freed.  If not, who takes it out of the queue will be told BIAS_GONE.
MUST_USE bool bias_leave(void *object);

// In a forked child, for an object whose queue is no more; `keeps`: its owner
// is the thread that is left.  BIAS_GONE: its cell is to be freed.
MUST_USE enum bias_end bias_forked(void *object, bool keeps);

// Nobody can reach it: its two numbers become one, which is returned, and are
// 0; and the other way round.
uint32_t bias_take(void *object);
void bias_give(void *object, uint32_t count);

// The owners, as they are at this moment; under the lock, or where nobody
// merges.  bias_try_count: anywhere; false if somebody may be merging.
size_t bias_count(const void *object);
MUST_USE bool bias_try_count(const void *object, size_t *count);

#endif
