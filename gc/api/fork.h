// fork — a child puts its house in order.
//
// No lock of ours is held across a fork, and nothing waits for one: the forking
// thread goes as it is, and the child has what it finds.  It is told by the
// library's fork, or finds out the first time it wants the lock (os/copy.h).
// If its parent had one thread there is nothing to do.  Else, in this order:
//
//     meta memory    pieces that wait are given up        roots/world
//     the world      one thread, nobody stops, the lock is its own
//     fibers         found again
//     the heaps      built anew from entries and bits     here
//     the dead       what is to become of them is queued anew
//     the conductor  no cycle is on
//
// Invariants
//   FO1  anywhere a child may be made at any time and in any way that the
//                 system offers, by any thread, whatever the others do; it
//                 allocates, frees and collects like its parent
//   FO2  parent   the parent is not touched, nor made to wait
//
// Rung by roots/world under the lock of the child, its signals blocked.
// Design, alternatives and measurements: docs/design/api/fork.md

#ifndef API_FORK_H
#define API_FORK_H

#include "base/defs.h"
#include "collect/collect.h"
#include "heap/region.h"
#include "roots/mutator.h"

// What a child puts in order.
struct fork_order {
    struct conductor *conductor;
    struct region *ground;
    struct mutator *(*self)(void);        // the calling thread's, or NULL
    void (*forked)(struct mutator *self); // what counts, put in order
};

// From now on children are put in order: by the library's fork, or when they
// want the lock.  One that was made by a signal handler over our own work waits
// until that work wants the lock.  Once.
void fork_watch(const struct fork_order *order);

#endif
