// reserve — cells for a signal handler that comes at a bad time.
//
// A handler of the program may interrupt us in its own thread: in the middle of
// taking a cell, of a climb, of anything, perhaps with the lock held.  What the
// interrupted code works on is not to be touched, and whoever waited for the
// lock would wait for himself.  So each mutator has a few caches that nothing
// but such handlers use, and the process keeps blocks that need no lock:
//
//     program code       the mutator's caches, by busy OUT
//       our code           <- a handler: level 0 of the reserve
//         level 0 at work    <- a handler over it: level 1
//           level 1 at work    <- another: level 2
//             level 2 at work    <- one more: nothing is left, NULL
//
//     a level's cache is empty:  lock free?  a block of a shelf, or fresh
//                                taken?      of the blocks kept for this
//
// Sizes are rounded up to powers of two, so that a few caches serve a handler
// that asks for many sizes.  Where blocks are scarce and the lock is taken all
// small sizes come from one cache.  These caches take one cell at a time, so
// that they never have a tail, and their blocks have an owner of their own: the
// interrupted code, which may be in the middle of changing an allocation word,
// never meets such a word.  Nobody drains their blocks but the conductor, in a
// stop.
//
// Blocks are kept in a few stretches, each one word that says where it begins
// and ends; who takes blocks moves the beginning by one exchange.  Whoever has
// the lock makes good what was taken before it lets go of it (world_unlock),
// and keeps more the more was taken at a time.
//
// Invariants
//   V1  apart    a level is used by one handler at a time
//   V2  waits    nothing here waits for a lock, nor begins a cycle
//   V3  owner    blocks of a level bear its owner's id, which no mutator has
//   V4  kept     a block that is kept is taken from the region, has a free
//                entry and is of no heap; it is given out once
//   V5  tail     no cache of a reserve has a tail
//   V6  frugal   blocks are kept only where the limit leaves plenty
//   V7  refill   what was taken without the lock is there again when the holder
//                of the lock lets go of it, if memory is to be had
//
// From reserve_enter to reserve_leave: a handler of the mutator's own thread,
// which is INSIDE for that long, so that no stop finds a level half changed.
// `locked` says that it has the lock.  reserve_keep, reserve_top_up,
// reserve_settle: under the lock.  The rest: under the lock by the mutator's
// own thread, or by the conductor in a stop.
// Design, alternatives and measurements: docs/design/roots/reserve.md

#ifndef ROOTS_RESERVE_H
#define ROOTS_RESERVE_H

#include "base/defs.h"
#include "heap/cache.h"
#include "heap/heap.h"
#include "heap/region.h"

#define RESERVE_LEVELS     3   // handlers over handlers, each over our code
#define RESERVE_CACHES     24  // orders that a level serves at once
#define RESERVE_STRETCHES  8   // of blocks, kept by the process
#define RESERVE_BLOCKS     4   // kept while no handler has interrupted us
#define RESERVE_BLOCKS_USE 32  // once one has
#define RESERVE_BLOCKS_MAX 128 // whatever was asked

#define RESERVE_CELL_BYTES ((size_t)64 * KiB) // larger ones are runs

// Owners of blocks from here on are levels of some mutator's reserve.
#define RESERVE_OWNERS BLOCK_OWNER_LEVEL

struct reserve_cache {
    struct heap *heap;  // constant while its bit in `used` is set
    struct tally tally; // of this cache, since the last cycle; V1
    struct cache cache; // V1
};

struct reserve_level {
    uint32_t owner; // of its blocks; V1
    uint32_t turn;  // which cache a new order takes over next; V1
    struct reserve_cache caches[RESERVE_CACHES];
};

struct reserve {
    uint32_t depth;                // levels at work; its own thread
    uint32_t used[RESERVE_LEVELS]; // a bit for each cache in use; V1, atomic
    struct reserve_level levels[RESERVE_LEVELS];
};

// What a handler asks for.
struct reserve_order {
    struct heap *heap;
    unsigned kind; // has no layout
    size_t bytes, alignment;
};

// The blocks that are kept.
struct reserve_kept {
    uint32_t asked;        // handlers asked for blocks since the last top-up
    uint32_t refused;      // and were refused; both atomic
    struct region *region; // the blocks' own; lock
    size_t least, wanted;  // blocks to be kept: to begin with, by now; lock
    size_t left;           // after the last top-up; lock
    size_t most;           // taken from one top-up to the next; lock
    uint32_t quiet;        // cycles since the last look at that; lock
    uint64_t stretches[RESERVE_STRETCHES]; // see reserve.c; exchanged
};

extern struct reserve_kept reserve_kept;

static inline bool reserve_is_owner(uint32_t owner) {
    return owner >= RESERVE_OWNERS;
}

// --- In a handler ----------------------------------------------------------

// A level for the calling handler: its number, or RESERVE_LEVELS if there is
// none; `id` is its mutator's.
size_t reserve_enter(struct reserve *reserve, uint32_t id);
void reserve_leave(struct reserve *reserve);

// A cell of what the level has, zero if its kind is; or NULL.
void *reserve_take(struct reserve *reserve, size_t level,
                   const struct reserve_order *order);

// The same, after reserve_take had none: with blocks brought to the level, or a
// larger cell, or one that is scanned for one that need not be; or a run.
// *zero: whether it needs no clearing.
void *reserve_bring(struct reserve *reserve, size_t level,
                    const struct reserve_order *order, bool locked, bool *zero);

// --- The blocks that are kept ----------------------------------------------

// From now on so many blocks of the region are kept, and more once they are
// asked for; none if 0.  Gives what is too many back.
void reserve_keep(struct region *region, size_t blocks);

// Takes from the region what is missing.
void reserve_top_up(void);

// The same after a cycle.  Keeps fewer if few were taken in many cycles.
void reserve_settle(void);

// How many are kept now.
size_t reserve_count(void);

// In a forked child whose region is built anew: none is kept.
void reserve_forget(void);

static inline bool reserve_was_asked(void) {
    return __atomic_load_n(&reserve_kept.asked, __ATOMIC_RELAXED) != 0;
}

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
