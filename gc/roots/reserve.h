// reserve — cells for a signal handler that comes at a bad time.
//
// A handler of the program may interrupt us in its own thread: in the middle of
// taking a cell, of a climb, of anything, perhaps with the lock held.  What the
// interrupted code works on is not to be touched, and whoever waited for the
// lock would wait for himself.  So each mutator has a few caches that nothing
// but such handlers use, and the process keeps a few blocks that need no lock:
//
//     program code       the mutator's caches, by busy OUT
//       our code           <- a handler: level 0 of the reserve
//         level 0 at work    <- a handler over it: level 1
//           level 1 at work    <- another: nothing is left, NULL
//
//     a level's cache is empty:  lock free?  a block of a shelf, or fresh
//                                taken?      one of the blocks kept for this
//
// These caches take one cell at a time, so that they never have a tail, and
// their blocks have an owner of their own: the interrupted code, which may be
// in the middle of changing an allocation word, never meets such a word.
// Nobody drains their blocks but the conductor, in a stop.
//
// Invariants
//   V1  apart    a level is used by one handler at a time
//   V2  waits    nothing here waits for a lock, nor begins a cycle
//   V3  owner    blocks of a level bear its owner's id, which no mutator has
//   V4  kept     a block that is kept is taken from the region, has a free
//                entry and is of no heap; it is given out once
//   V5  tail     no cache of a reserve has a tail
//   V6  frugal   blocks are kept only where the limit leaves plenty
//
// From reserve_enter to reserve_leave: a handler of the mutator's own thread,
// which is INSIDE for that long, so that no stop finds a level half changed.
// `locked` says that it has the lock.  reserve_keep, reserve_top_up: under the
// lock.  The rest: under the lock by the mutator's own thread, or by the
// conductor in a stop.
// Design, alternatives and measurements: docs/design/roots/reserve.md

#ifndef ROOTS_RESERVE_H
#define ROOTS_RESERVE_H

#include "base/defs.h"
#include "heap/cache.h"
#include "heap/heap.h"
#include "heap/region.h"

#define RESERVE_LEVELS 2 // handlers over handlers, each over our code
#define RESERVE_CACHES 6 // orders that a level serves at once
#define RESERVE_BLOCKS 4 // kept by the process

// Owners of blocks from here on are levels of some mutator's reserve.
#define RESERVE_OWNERS BLOCK_OWNER_LEVEL

struct reserve_cache {
    struct heap *heap;  // NULL: not in use; V1
    struct tally tally; // of this cache, since the last cycle; V1
    struct cache cache; // V1
};

struct reserve_level {
    uint32_t owner; // of its blocks; V1
    uint32_t turn;  // which cache a new order takes over next; V1
    struct reserve_cache caches[RESERVE_CACHES];
};

struct reserve {
    uint32_t depth; // levels at work; its own thread
    struct reserve_level levels[RESERVE_LEVELS];
};

static inline bool reserve_is_owner(uint32_t owner) {
    return owner >= RESERVE_OWNERS;
}

// --- In a handler ----------------------------------------------------------

// The level for the calling handler, or NULL; `id` is its mutator's.
struct reserve_level *reserve_enter(struct reserve *reserve, uint32_t id);
void reserve_leave(struct reserve *reserve);

// A cell of what the level has, or NULL.  The order has no layout.
void *reserve_take(struct reserve_level *level, const struct heap *heap,
                   struct order order);

// The same of a larger cell, or of one that is scanned for one that need not
// be: for want of anything better.
void *reserve_take_larger(struct reserve_level *level, const struct heap *heap,
                          struct order order);

// Has a block brought to the level, from which reserve_take takes the next
// cell; false when none can be had now.
MUST_USE bool reserve_feed(struct reserve_level *level, struct heap *heap,
                           struct order order, bool locked);

// --- The blocks that are kept ----------------------------------------------

// From now on so many blocks are kept: RESERVE_BLOCKS at most.  Gives what is
// too many back.
void reserve_keep(struct region *region, size_t blocks);

// Takes from the region what is missing.
void reserve_top_up(struct region *region);

// In a forked child whose region is built anew: none is kept.
void reserve_forget(void);

// --- For the conductor -----------------------------------------------------

// Calls visit for each cache in use for `heap`, or of all heaps if NULL.
void reserve_each_cache(struct reserve *reserve, const struct heap *heap,
                        void (*visit)(struct cache *cache, void *data),
                        void *data);

// What the caches for `heap` have tallied.
struct tally reserve_tally(struct reserve *reserve, const struct heap *heap);

// Adds that to the sums of the heap.
void reserve_fold(struct reserve *reserve, struct heap *heap);

// Gives up what all caches have.
void reserve_give_up(struct reserve *reserve);

// Ends the use of the caches for `heap`, whose blocks were, or are about to be,
// taken from it: it is being destroyed.
void reserve_drop_heap(struct reserve *reserve, const struct heap *heap);

#endif
