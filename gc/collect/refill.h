// refill — the ladder: what happens when a cache is empty.
//
// Allocation that the caches cannot serve climbs a ladder.  Each rung tries one
// thing and says whether it helped; lower floors only ever say no, and the
// order in which they are asked is decided here and nowhere else.
//
//     own       a freed cell, the next hole of the current block
//     freed     cells that other threads freed in its blocks
//     shelf     a block that is at least a quarter free
//     fresh     a new block or run, if the pacer allows it
//     scraps    a block with some room, if not the pacer but the limit or the
//               system refused a fresh one
//     collect   a collection; if it was run, the ladder starts again; if little
//               room was left below the limit, caches give some up for the next
//     tight     a block with some room
//     beyond    a new block or run, whatever the pacer says
//     caches    what can be made again; if any went, again from the start
//     hook      the program's shortage hook; if it helped, again from the start
//
// and if nothing helped the answer is NULL.
//
// Invariants
//   Y1  once      a climb runs at most one collection by itself, one more for
//                 each time that caches gave something, at most REFILL_RINGS
//                 times, and asks the hook again only if the hook said yes
//   Y2  order     memory is taken from the system beyond the goal only after a
//                 collection in the same climb, unless collections are disabled
//   Y3  zeroed    what is handed out is zero if its kind is, but for a run
//                 that says otherwise
//   Y4  lock      the program's hook, and caches, are called without the lock
//   Y5  spared    caches are asked only where the limit is near or memory was
//                 refused, and never within a hook or where collections are
//                 disabled
//
// Called by a mutator that is INSIDE, within collect_enter, without the lock.
// Design, alternatives and measurements: docs/design/collect/refill.md

#ifndef COLLECT_REFILL_H
#define COLLECT_REFILL_H

#include "base/defs.h"
#include "collect/collect.h"

#define REFILL_RINGS 3

// A run that is wanted.
struct run_order {
    struct order order;      // kind and layout
    size_t bytes, alignment; // of the object
    bool roomy;              // with free blocks behind it, for it to grow
};

// The first rung alone: a cell of what the cache has, or NULL if the ladder
// must be climbed.  Needs no lock and no registers in memory, for no cycle can
// begin.
void *refill_quick(struct cache *cache);

// A cell of the cache, or NULL.
void *refill_cell(struct collector *collector, struct mutator *mutator,
                  struct cache *cache);

// A run for a large object, or NULL.  Unless *zero, and if its kind is zeroed,
// the caller has to clear it: that may take long, and is done where a stop can
// interrupt it.
void *refill_run(struct collector *collector, struct mutator *mutator,
                 const struct run_order *run, bool *zero);

// Gives a run of no counted kind, where it is, the pages for `bytes` bytes,
// which are more than CELL_BYTES_MAX.  False, and nothing is done, where what
// follows is in use, or may not be had without a collection, or the run is not
// one any more.  *zero: whether what was added is known to be zero.
// Needs no registers in memory, for no cycle can begin.
bool refill_resize_run(struct collector *collector, struct mutator *mutator,
                       uint32_t block, size_t bytes, bool *zero);

#endif
