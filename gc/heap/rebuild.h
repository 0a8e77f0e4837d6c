// rebuild — the heap of a child, from what can be trusted.
//
// A thread forks; the child has the heap as it was at that instant, and none of
// the other threads.  They may have been anywhere: with the lock held between
// two stores of a list, in the middle of a hole of a block they own, in a cycle
// that the forking thread, safe in a wait, took no notice of.
//
//     truths           entries of blocks, allocation bits, freed bits, what a
//                      cell holds; the caches of the thread that is left
//     derived          which blocks are taken, whose a block is, how many cells
//                      live, shelves, stacks of freed blocks, sums
//
// Truths change by single stores, in an order that leaves sense behind at every
// point: a span is seen by its head, which is written last and freed first.
// What is derived is forgotten and made anew:
//
//     rebuild_begin    what is a span or a run; nobody owns any of it
//     rebuild_claim    each cache that is left takes its current block again
//     rebuild_tally    and tells what it has counted for itself
//     rebuild_end      counts, sums, shelves; what is empty goes back
//
// Counted blocks of the mutator that is left stay its own: what is in them is
// its to destroy.  They come to its caches as after a flip (E3 of heap/heap.h).
//
// Tails of the lost are not known to be tails: their cells count as objects
// until the next cycle finds them dead.  Blocks of theirs have no owner, and
// whoever needs room takes them.
//
// Invariants
//   D1  objects   what was an object to a thread before the fork is one after,
//                 with the same bytes, kind and size
//   D2  whole     afterwards B1 to B14 hold of every block, E1 to E6 of every
//                 heap and N1 to N4 of the region, but for E3 and E4 in so far
//                 as tails of the lost are objects
//   D3  own       bump, limit and current block of the caches that are left are
//                 what they were; their freed cells and their other blocks are
//                 the heap's, but for those of counted kinds
//   D4  anywhere  the same from every instruction at which the others may have
//                 been
//
// In a child with one thread, before anything else is asked of the heap.
// Design, alternatives and measurements: docs/design/heap/rebuild.md

#ifndef HEAP_REBUILD_H
#define HEAP_REBUILD_H

#include "base/defs.h"
#include "heap/cache.h"
#include "heap/heap.h"

// `mutator`: the one that is left, or 0.
void rebuild_begin(uint32_t mutator);
void rebuild_claim(struct cache *cache);
void rebuild_tally(struct heap *heap, struct tally *tally);
void rebuild_end(void);

#endif
