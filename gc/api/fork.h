// fork — a child puts its house in order.
//
// No lock of ours is held across a fork, and nothing waits for one: the forking
// thread goes as it is, and the child has what it finds.  It finds out that it
// is a copy the first time it wants the lock (os/copy.h), which may be never: a
// child that calls exec at once pays nothing.  Then, in this order:
//
//     meta memory    pieces that wait are given up        roots/world
//     the world      one thread, nobody stops, the lock is its own
//     fibers         found again
//     the heaps      built anew from entries and bits     here
//     the dead       what is to become of them is queued anew
//     the conductor  no cycle is on
//
// Invariants
//   FO1  anywhere a child may be made at any time and in any way that the system
//                 offers, by any thread, whatever the others do; it allocates,
//                 frees and collects like its parent
//   FO2  parent   the parent is not touched, nor made to wait
//
// Rung by roots/world under the lock of the child, its signals blocked.
// Design, alternatives and measurements: docs/design/api/fork.md

#ifndef API_FORK_H
#define API_FORK_H

#include "base/defs.h"
#include "roots/mutator.h"

// The rest of what world_lock begins in a child; `self` may be NULL.
void fork_copied(struct mutator *self);

#endif
