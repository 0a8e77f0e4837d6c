// gather — cells that are freed together.
//
// What dies together was often made together, and lies side by side: its
// allocation bits are bits of a few words.  To free a cell is to clear a bit;
// to look up whose cell it is costs more than that, and is done once for a
// word.
//
//     cells that die  ->  | word | bits |  ->  all bits of a word at once
//                         | word | bits |      blocks that are empty now: last
//
// A few words are kept at a time, since a ring that was grown at one place is
// visited from both ends.  Each stands at the place that its address names; who
// needs the place of another frees that one's cells first.
//
// Invariants
//   GA1  typed    a cell that is gathered has an empty head (CT2), and its
//                 allocation bit until its word is freed
//   GA2  none     nothing is gathered when its thread waits for the lock, or is
//                 not INSIDE: a cycle would find what was freed already
//   GA3  right    of a word that is kept, the block is its thread's, and its
//                 cells go to `cache`
//   GA4  watched  a cell is not gathered when something weak may lead to it: it
//                 would be used again before a cycle says so
//   GA5  within   a word that is kept reaches no further than its block: after
//                 the last cell there comes the first of the next
//
// Used by its thread, INSIDE.
// Design, alternatives and measurements: docs/design/rc/gather.md

#ifndef RC_GATHER_H
#define RC_GATHER_H

#include "base/defs.h"
#include "heap/cache.h"
#include "heap/counted.h"

#define GATHER_WORDS ((size_t)(LOAM_TINY ? 2 : 16))
#define GATHER_SHIFT 11 // 64 cells of 32 bytes

// The cells of one bitmap word.
struct gather_word {
    uintptr_t start;      // of the first
    size_t reach_bytes;   // of all; 0: none is gathered
    uint64_t reciprocal;  // of a cell's bytes (heap/sizeclass.h)
    uint64_t bits;        // gathered
    struct cache *cache;  // to which they go
    uint32_t block, word; // where they are
};

// What the floor above knows.
struct gather_doors {
    // The cache of this thread that a block's cells go to as they are; NULL:
    // it is not that easy.
    struct cache *(*find)(void *mutator, uint32_t block);
    // Frees the cell of a dead object where it is not; may wait.
    void (*free_slowly)(void *mutator, void *object);
    // Gives back a block that is empty; may wait.
    void (*release)(void *mutator, uint32_t block);
};

struct gather {
    struct gather_word words[GATHER_WORDS];
    uint32_t pending;                   // bit i: words[i] has cells
    uint32_t empty_count;               //
    uint32_t empties[2 * GATHER_WORDS]; // blocks to be given back
    void *mutator;                      // constant
    const struct gather_doors *doors;   // constant
};

// For gather_cell.
NOINLINE void gather_cell_of_other(struct gather *gather, void *object);

// The word at the place for an address.
static ALWAYS_INLINE struct gather_word *gather_find(struct gather *gather,
                                                     uintptr_t at) {
    return &gather->words[(at >> GATHER_SHIFT) % GATHER_WORDS];
}

// Frees the cell of a dead object, now or before long.
static ALWAYS_INLINE void gather_cell(struct gather *gather, void *object) {
    uintptr_t at = (uintptr_t)counted_of(object);
    struct gather_word *word = gather_find(gather, at);
    uintptr_t offset = at - word->start;
    if (UNLIKELY(offset >= word->reach_bytes)) {
        gather_cell_of_other(gather, object);
        return;
    }
    word->bits |= (uint64_t)1 << (offset * word->reciprocal >> 40);
    counted_set_head(object, 0); // CT2
}

// The same for an object of a biased type, to which other threads may have made
// weak references since its word was kept.
void gather_cell_of_many(struct gather *gather, void *object);

// The same of one that dies alone: nothing is kept of where it was.
void gather_alone(struct gather *gather, void *object);

// Frees what was gathered; afterwards, if blocks are empty, it may wait.
void gather_settle_all(struct gather *gather);

static inline void gather_settle(struct gather *gather) {
    if ((gather->pending | gather->empty_count) != 0) {
        gather_settle_all(gather);
    }
}

#endif
