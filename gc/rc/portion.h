// portion — what of the condemned a thread may take apart.
//
// A cycle condemned objects of all types and all threads, which own each other
// in any way.  A plain object may be released by its thread alone, and so may
// whatever leads to its release: a thread takes what hangs together with its
// own plain objects and with shared ones, and no other thread's.
//
//     a(mine) <-> s(shared) <-> b(mine)         taken, all three
//     a(mine) <-> s(shared) <-> c(another's)    left, all three
//     a(mine) <-> b(mine) -> s -> s' (shared)   taken; s, s' too if nobody
//     c(another's) <-> d(another's) -> s        else owns them, as d does here
//
// What hangs together is left if one of it is left.  Yet half of a program may
// hang together by one object that all of it uses.  So what leads to no plain
// object, *bare*, does not join its owners: anybody may release that.  If it is
// left while an owner of it is taken, it is condemned no longer, with all it
// leads to: the owner's thread will release it, and others may at once.
//
// Invariants
//   PO1  closed   every count of what is taken is explained by slots of what is
//                 taken, and by entries of maps under it
//   PO2  own      what is taken, and what that owns, is no plain object in a
//                 block of another thread's
//   PO3  apart    no slot of what is taken leads to a condemned object that is
//                 left, and none of what is left and condemned to a taken one
//   PO4  all      where nothing is owned from outside and no other thread has
//                 plain objects, all is taken
//   PO5  clean    after it every scratch count of the condemned is 0
//   PO6  others   no head is written but those of the condemned
//
// Where it says slot, the value of a map's entry (rc/bond.h) is one of its key.
//
// The thread that takes, under the lock; nobody else touches what is condemned.
// Design, alternatives and measurements: docs/design/rc/portion.md

#ifndef RC_PORTION_H
#define RC_PORTION_H

#include "base/defs.h"
#include "rc/trial.h"

struct portion {
    struct trial_vector *set; // the condemned, by address; then what is taken
    void **notes;             // as much room
    uint32_t owner;           // the mutator that takes
    bool alone;               // what nobody owns is its own, too
};

// Leaves in the set what is taken.
void portion_take(const struct portion *portion);

#endif
