// bias — counts that most often one thread changes.
//
// An object of a shared type belongs to the thread that made it until that
// thread lets go of it.  The owner counts in the head, without atomic
// instructions; everybody else counts in a second number, atomically.  When the
// owner's number falls to 0 the two are one: the object is merged, nobody owns
// it, and all count in the second number (Choi, Shull and Torrellas 2018).
//
//     | shared number, MERGED and QUEUED | owner | head: the owner's number |
//
// A thread that is no owner may release what the owner has retained: then the
// second number is below 0, and the object is dead when the owner's number is
// no more than that.  Only the owner can tell: it is told, once.
//
// Invariants
//   BI1  sum     the owners of an object are the two numbers together
//   BI2  last    exactly one release finds that nobody owns it
//   BI3  owner   the head's count is changed by the owner alone, and by nobody
//                once merged
//   BI4  told    an object whose shared number is below 0, not merged, is in
//                its owner's queue, or about to be put there
//
// bias_retain, bias_release: any thread.  bias_merge: the owner; or anybody
// when the owner is gone.
// Design, alternatives and measurements: docs/design/rc/bias.md

#ifndef RC_BIAS_H
#define RC_BIAS_H

#include "base/defs.h"
#include "heap/counted.h"

enum bias_end {
    BIAS_COUNTED, // others own it still
    BIAS_LAST,    // nobody does
    BIAS_TELL,    // its owner is to be told: put it into its queue
    BIAS_FAULT    // nobody did
};

// `owner`: COUNTED_OWNER_BIT and the id of the caller.
void bias_retain(void *object, uint32_t owner);
enum bias_end bias_release(void *object, uint32_t owner);

// One owner more, if there is one at all; false if there is none.
bool bias_retain_living(void *object, uint32_t owner);

// The owner's number is added to the others'.
enum bias_end bias_merge(void *object);

// Nobody can reach it: its two numbers become one, which is returned, and are
// 0; and the other way round.
uint32_t bias_take(void *object);
void bias_give(void *object, uint32_t count);

// The owners, as they are at this moment.
size_t bias_count(const void *object);

#endif
