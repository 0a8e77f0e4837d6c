// cache — the cells that one mutator is about to hand out.
//
// Each mutator has a cache for every class and kind it uses.  The cache bumps
// through a hole of its current block: the next cell is `bump`, and when it
// meets `limit` the next hole is looked for.  No lock, no atomic, no list: this
// is why a collection leaves its garbage as holes and not as lists of cells.
//
//     current block   [live][.hole handed out.|..tail..][live][ hole ][live]
//                                             bump     limit
//
// A hole is taken in slices of a few KiB that are zeroed just before use, so
// that the zeroing and the first use of a cell meet in the L1 cache.
//
// Cells freed by hand go on a small stack and are handed out again before
// another hole is taken: what was just freed is what the processor still has at
// hand.
//
// Invariants
//   C1  tail     [bump, limit) is a whole number of cells of the current block
//   C2  taken    their allocation bits are set, and those of no other cell that
//                was not handed out (but for other caches' tails)
//   C3  zeroed   cells are zero when they are handed out, but for those of the
//                program's own leaves
//   C4  stack    a cell on the stack has its bit clear and lies in a block of
//                this mutator; no hole is taken while the stack holds a cell
//   C5  current  the current block has this mutator as owner and BLOCK_CURRENT
//   C6  mine     blocks in the cache's own list are its mutator's, have room,
//                and are neither current nor on a shelf.  A cycle puts them on
//                shelves but for those of a counted kind, which come back
//
// Used by its mutator only; the conductor may move its tail in a stop.  A
// mutator may be stopped between the load and the store of `bump`: whatever a
// stop does to the tail, it is the same tail afterwards.
// Design, alternatives and measurements: docs/design/heap/cache.md

#ifndef HEAP_CACHE_H
#define HEAP_CACHE_H

#include <string.h>

#include "base/check.h"
#include "base/defs.h"
#include "heap/block.h"
#include "heap/blockmap.h"
#include "heap/heap.h"
#include "heap/range.h"
#include "heap/shelf.h"

#define CACHE_SLICE_BYTES (8 * KiB)
#define CACHE_FREE_CELLS  ((uint32_t)(LOAM_TINY ? 2 : 18))

// Bytes handed out and taken back since they were last added to the heap's.
struct tally {
    uint64_t allocated_bytes; // in cells, and in tails while they last
    uint64_t freed_bytes;     // by hand
};

// What a malloc and a free touch comes first, in as few cache lines as may be.
struct cache {
    uintptr_t bump;      // next cell to hand out; mutator
    uintptr_t limit;     // end of the tail; mutator
    uint64_t reciprocal; // of the class, as the next two; constant once in use
    uint32_t bytes;      // of a cell; 0: not in use
    uint32_t cells;      // of a block
    uint32_t free_count; // cells on the stack; mutator
    uint32_t room;       // how many there may be; constant once in use
    uint32_t block;      // current block or BLOCK_NONE; mutator
    bool exact;          // a cell was asked for to its last byte since the
                         // block was told (B12 of heap/block.h); mutator
    // The stack, and what a full one is given, which is forgotten; mutator.
    uintptr_t free[CACHE_FREE_CELLS + 1];
    struct tally *tally;    // of its set; constant once in use
    uint32_t owner;         // the mutator's id; constant once in use
    uint32_t slice_cells;   // most cells to take at once; mutator
    uintptr_t held;         // bump while the tail is out, else 0; conductor
    struct order order;     // class, kind, layout; constant once in use
    struct shelf_ends mine; // see C6; mutator
    struct cache *next;     // another cache in use of the same set
};

_Static_assert(LOAM_TINY || sizeof(struct cache) == 256, "a shift finds it");

// Clears a cell.  Small ones by two stores that overlap: the general routine
// would cost more than the bytes.
static ALWAYS_INLINE void cache_clear_cell(char *cell, size_t bytes) {
    ASSERT(bytes >= GRANULE_BYTES);
    if (bytes <= 2 * GRANULE_BYTES) {
        memset(cell, 0, GRANULE_BYTES);
        memset(cell + bytes - GRANULE_BYTES, 0, GRANULE_BYTES);
    } else if (bytes <= 4 * GRANULE_BYTES) {
        memset(cell, 0, 2 * GRANULE_BYTES);
        memset(cell + bytes - 2 * GRANULE_BYTES, 0, 2 * GRANULE_BYTES);
    } else if (bytes <= 8 * GRANULE_BYTES) {
        memset(cell, 0, 4 * GRANULE_BYTES);
        memset(cell + bytes - 4 * GRANULE_BYTES, 0, 4 * GRANULE_BYTES);
    } else {
        memset(cell, 0, bytes);
    }
}

// The next cell, or NULL when the tail is used up.
static inline void *cache_take(struct cache *cache) {
    uintptr_t cell = cache->bump;
    if (UNLIKELY(cell == cache->limit)) {
        return NULL;
    }
    cache->bump = cell + cache->bytes;
    return (void *)cell;
}

// Remembers that a cell of the current block was asked for with `bytes`: if no
// byte of it is over, the block is told before the cache leaves it (B12).
static inline void cache_note(struct cache *cache, size_t bytes) {
    cache->exact |= bytes == cache->bytes;
}

// cache_take and cache_note.  After a NULL the block that serves the request in
// the end may be another, which the caller tells itself.
static inline void *cache_take_for(struct cache *cache, size_t bytes) {
    cache_note(cache, bytes);
    return cache_take(cache);
}

// Adds a tally to the sums of its heap, and begins it anew; by its mutator with
// the lock, or in a stop.
void cache_add_tally(struct heap *heap, struct tally *tally);

// Readies a cache that was all zero for its first order.  `single`: never take
// more than one cell, so that every allocation passes the ladder.
void cache_init(struct cache *cache, struct order order, uint32_t owner,
                bool single, struct tally *tally);

// A cell that was freed by hand, in use again; NULL if there is none.
void *cache_pop(struct cache *cache);

// Makes a tail out of what the cache has, its stack being empty: the next hole
// of the current block, or of a block of its own list.  False if there is
// nothing; then the cache has no current block.
bool cache_refill(struct cache *cache);

// Makes `block`, which has room and belongs to the mutator, current.
void cache_adopt(struct cache *cache, uint32_t block);

// Read by loam_stats from other threads, hence atomic.
static ALWAYS_INLINE void cache_count_freed(struct cache *cache, size_t bytes) {
    uint64_t *sum = &cache->tally->freed_bytes;
    __atomic_store_n(sum, *sum + bytes, __ATOMIC_RELAXED);
}

// cache_pop for a small class of the program's own leaves, where nothing else
// is to be done.  NULL, and nothing is, where another thread may have freed in
// the block, or it becomes full.
static ALWAYS_INLINE void *cache_pop_plain(struct cache *cache,
                                           struct tally *tally) {
    uint32_t left = cache->free_count - 1;
    uintptr_t at = cache->free[left];
    uint32_t block = range_block_of(at);
    uint64_t inside = at & (BLOCK_BYTES - 1);
    uint64_t cell = inside * cache->reciprocal >> 40;
    struct block *b = block_get(block);
    uint64_t *alloc = &block_pair(block, cell / 64)[1];
    uint64_t *sum = &tally->allocated_bytes;
    uint32_t live = b->live + 1u;
    ASSERT(cell * cache->bytes == inside);
    if (UNLIKELY((block_state(b) & BLOCK_STATE_FREED) ||
                 live == cache->cells)) {
        return NULL;
    }
    __atomic_store_n(alloc, *alloc | (uint64_t)1 << (cell % 64),
                     __ATOMIC_RELAXED);
    b->live = (uint16_t)live; // B6
    cache->free_count = left;
    __atomic_store_n(sum, *sum + cache->bytes, __ATOMIC_RELAXED);
    return (void *)at;
}

// What becomes of a block of this mutator in which cells were freed: if it is
// empty and nobody bumps in it, it is returned, out of its list.
MUST_USE uint32_t cache_settle(struct cache *cache, uint32_t block);

// Frees a cell by hand whose block belongs to this cache's mutator, for reuse
// by this cache.  A block that is empty now and nowhere in use is returned, to
// be released under the lock; else BLOCK_NONE.
static ALWAYS_INLINE uint32_t cache_free(struct cache *cache,
                                         const struct place *place) {
    ASSERT(block_get(place->block)->owner == cache->owner);
    const struct block *b = block_get(place->block);
    heap_clear_cell(place);
    cache_count_freed(cache, place->bytes);
    uint32_t empty = BLOCK_NONE;
    if (place->block != cache->block &&
        UNLIKELY(b->list != SHELF_MINE || b->live == 0)) {
        empty = cache_settle(cache, place->block);
    }
    if (LIKELY(empty == BLOCK_NONE) && cache->free_count < cache->room) {
        cache->free[cache->free_count++] = place->start;
    }
    return empty;
}

// The same where nothing else is to be done: the block is current, or stays in
// the cache's list, nobody watches it, it is not known to be zero, and the
// caller counts what lives in it (B6).
static ALWAYS_INLINE void cache_free_plain(struct cache *cache,
                                           struct tally *tally, uint64_t *pair,
                                           uint64_t bit, uintptr_t at) {
    uint64_t alloc = pair[1];
    uint64_t *sum = &tally->freed_bytes;
    uint32_t count = cache->free_count;
    size_t bytes = cache->bytes;
    pair[0] &= ~bit;
    __atomic_store_n(&pair[1], alloc & ~bit, __ATOMIC_RELAXED);
    __atomic_store_n(sum, *sum + bytes, __ATOMIC_RELAXED);
    // No branch: whether there is room is as good as chance.
    cache->free[count] = at;
    cache->free_count = count + (count < cache->room);
}

// Frees the cells whose `bits` stand in bitmap word `word` of such a block, all
// of them objects.  Returns as cache_free.
MUST_USE uint32_t cache_free_cells(struct cache *cache, uint32_t block,
                                   size_t word, uint64_t bits);

// Frees what others have asked for in a block of this cache's mutator and
// order, leaving the tail alone.  Returns as cache_free.
MUST_USE uint32_t cache_drain(struct cache *cache, uint32_t block);

// Leaves the current block to the next flip and does not use it again, without
// the lock.  The cache has nothing but that block, and no tail.
void cache_abandon(struct cache *cache);

// Gives everything up: the tail's bits, the freed cells, the blocks, which go
// to their shelves or, empty, back.  Under the lock, or in a stop.
void cache_give_up(struct cache *cache, struct heap *heap);

// In a stop: a block of its mutator, of its order and with room, that the flip
// has left in no list, comes into its own list.
void cache_keep(struct cache *cache, uint32_t block);

// Whether an address lies in the tail: not an object, though its bit is set.
static inline bool cache_has_tail(const struct cache *cache, uintptr_t word) {
    return word - cache->bump < cache->limit - cache->bump;
}

// In a stop: takes the tail's bits out before marking, and sets them again
// after the flip.  In between the cache has no tail: a callback of the program
// that allocates meets the slow path, not a cell without its bit.  The first
// also forgets freed cells and the own list, whose blocks the flip will shelve,
// or the conductor bring back (cache_keep): from here on the flip must come.
// The second gives the current block back if the flip left nothing in it, lest
// each class that was ever used hold a block; but not where the mutator may be
// in the middle of taking a cell (`taking`).
void cache_tail_out(struct cache *cache);
void cache_tail_in(struct cache *cache, struct heap *heap, bool taking);

// Bytes of the tail.
static inline size_t cache_tail_bytes(const struct cache *cache) {
    return cache->limit - cache->bump;
}

// C1, C2, C4, C5, C6; for VERIFY.
bool cache_check(const struct cache *cache);

#endif
