// verify — walk the whole heap and doubt it.
//
// Every invariant of the heap that can be seen by looking is looked at: the
// bits of every block, the lists, the tails, the counts, the region.  Debug
// builds and LOAM_CHECK=verify call it at the borders of a cycle.
//
// Invariants
//   V1  quiet  it changes nothing
//   V2  loud   the first thing that is not as it should be stops the process
//              with the name of what was broken
//
// Called by the conductor in a stop, with tails in.
// Design, alternatives and measurements: docs/design/collect/verify.md

#ifndef COLLECT_VERIFY_H
#define COLLECT_VERIFY_H

#include "base/defs.h"
#include "heap/heap.h"

void verify_heap(const struct heap *heap);

#endif
