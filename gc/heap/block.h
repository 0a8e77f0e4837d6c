// block — equal cells in a row, and the two bits that say what they are.
//
// A block (or a span of up to 7 blocks that act as one, or a run that holds
// one large object) is cut into cells of its class.  Of each cell two bits are
// kept, interleaved word by word so that one cache line answers both:
//
//     bits of block b   | mark 0 | alloc 0 | mark 1 | alloc 1 | ...
//     cell i            bit i % 64 of pair i / 64
//
// In a shifted block the cells begin 8 bytes in, so that an object with a head
// of 8 bytes in front (heap/counted.h) is aligned to a granule:
//
//     block | 8 unused | head 8 | object ... | head 8 | object ... |
//                      cell 0                cell 1
//
// There is no sweep and no free list through the cells.  Allocation takes holes
// of the allocation words (heap/cache.h); a collection replaces them by the
// mark words, which is the flip.
//
// A cache (one mutator's, for one class and kind) bumps through a hole: at
// refill it sets the allocation bits of the whole hole, and hands out its cells
// in order.  The part not yet handed out is the cache's *tail*.
//
// Invariants: the bit protocol
//   B1  object    a set allocation bit means an object, except in a tail
//   B2  tail      the bits of a tail are set, while no stop has taken them;
//                 only its owner, or the conductor in a stop, reads or moves it
//   B3  stopped   from the start of marking to the end of the flip no tail's
//                 bits are set, so that no free cell can be marked or kept
//   B4  marked    a mark bit is set only during a cycle, and only on a cell
//                 whose allocation bit is set; marks of the last complete cycle
//                 stay until the next one clears them
//   B5  beyond    bits past the last cell of the class are clear
//   B6  count     live is the number of allocation bits set, tails included
//   B7  owner     only the owner writes allocation words and live, but for the
//                 conductor in a stop, and whoever holds the lock where there
//                 is no owner; everybody else sets bits in freed.  A counted
//                 block that has an owner keeps it while anything is in it,
//                 for as long as that thread does
//   B8  freed     a bit in freed names a cell whose allocation bit is set, and
//                 freed_any follows every bit that is set; the flip begins with
//                 alloc &= ~freed, freed = 0.  A program that frees twice may
//                 leave a bit behind: taking the cell again removes it
//   B9  current   a block that a cache bumps in is in no list, and no flip
//                 releases or reclassifies it
//   B10 zero      while BLOCK_ZERO is set, cells without allocation bit are
//                 all zero
//   B11 flip      collected: alloc &= mark; pinned: unchanged.  live follows.
//                 The flip changes no other block state.
//   B12 exact     BLOCK_EXACT is set if a cell may have been asked for to its
//                 last byte; while a cache holds the block as current, the
//                 cache may be the one that knows.  Cells of KIND_PINNED_LEAF
//                 tell it only in a heap that holds: no other cycle frees them
//   B13 watched   while BLOCK_WATCHED is set, a cell freed by hand keeps its
//                 allocation bit, and has its bit in freed, until the next
//                 cycle begins: nobody meets another object in its place
//   B14 shifted   the entries of a block say that it is shifted if and only if
//                 its kind is; then its last cell ends in the block too
//   B15 held      in a heap that holds what is freed, a bit in freed of a cell
//                 of KIND_PINNED_LEAF says that it was freed by hand and is all
//                 zero as far as the program left it alone: its allocation bit
//                 stays, freed_any says nothing of it, no drain takes it; the
//                 flip does where nothing was found that leads to it
//   B16 lost      in a heap that seeks, cells of KIND_PINNED begin a cycle
//                 unmarked; where it reclaims, their flip is alloc &= mark
//
// The struct of a span is that of its first block; the others' are unused.
// Design, alternatives and measurements: docs/design/heap/block.md

#ifndef HEAP_BLOCK_H
#define HEAP_BLOCK_H

#include "base/defs.h"
#include "heap/range.h"
#include "heap/sizeclass.h"

// What the cells of a block are to the collector.
enum kind {
    KIND_LEAF,        // holds no pointers, not zeroed
    KIND_PINNED_LEAF, // the same, never collected
    KIND_HANDLE,      // a weak reference (heap/handle.h); not read
    KIND_EPHEMERON,   // read when its key is alive (trace/ephemeron.h)
    KIND_PINNED,      // from here on read: scanned, never collected, a root
    KIND_SCANNED,     // any word may be a pointer
    KIND_DESCRIBED,   // words named by a layout may be
    KIND_BASE_ONLY,   // scanned; kept by pointers into the first 4 KiB only
    // From here on counted: a head is in front of the object (heap/counted.h),
    // and all is zero when handed out.
    KIND_COUNTED,      // shifted; scanned
    KIND_COUNTED_LEAF, // shifted; not read
    KIND_BIASED,       // 16 bytes in front; scanned
    KIND_BIASED_LEAF,  // 16 bytes in front; not read
    KIND_COUNT
};

#define BASE_ONLY_BYTES ((size_t)4096)

static inline bool block_kind_is_pinned(unsigned kind) {
    return kind == KIND_PINNED || kind == KIND_PINNED_LEAF;
}

// The program's own leaves: their cells are not zeroed.
static inline bool block_kind_is_leaf(unsigned kind) {
    return kind <= KIND_PINNED_LEAF;
}

// Whether the marker reads the words of an object that it marks.
static inline bool block_kind_is_read(unsigned kind) {
    // The leaves among the counted are those with the bits of the first.
    return kind >= KIND_PINNED &&
           (kind & KIND_COUNTED_LEAF) != KIND_COUNTED_LEAF;
}

static inline bool block_kind_is_counted(unsigned kind) {
    return kind >= KIND_COUNTED;
}

// Bytes before the first cell of a block of this kind.
static inline size_t block_kind_shift(unsigned kind) {
    return kind == KIND_COUNTED || kind == KIND_COUNTED_LEAF ? SHIFT_BYTES : 0;
}

// Bytes of a cell in front of the program's object.
static inline size_t block_kind_front(unsigned kind) {
    return kind < KIND_COUNTED ? 0 : kind < KIND_BIASED ? 8 : 16;
}

// Whether a block of this kind may have cells of this class.
bool block_kind_takes(unsigned kind, unsigned cls);

enum {
    BLOCK_ZERO = 1,       // B10
    BLOCK_CURRENT = 2,    // a cache bumps in it (B9)
    BLOCK_EXACT = 4,      // see B12
    BLOCK_WATCHED = 8,    // a weak reference, an ephemeron or a finalizer may
                          // lead to an object in it; set by whoever makes one,
                          // renewed by the conductor in a stop
    BLOCK_CONDEMNED = 16, // has counted objects that their owner is to destroy
    BLOCK_DROPPED = 32    // its only cell is held, and gave its pages back
};

struct block {
    // A line of its own: blocks of two threads lie side by side.
    _Alignas(64) uint32_t next;
    uint32_t prev; // neighbours in its list, or BLOCK_NONE; list's owner
    union {
        struct {
            uint32_t owner;  // who it is, 0: none; itself, or lock where none
            uint16_t heap;   // slot of its heap; constant while in use
            uint16_t layout; // id, for described cells; constant while in use
        };
        uint64_t whose; // the three at one look
    };
    uint32_t run_pages;  // of a run's head: 4 KiB pages in use; heap lock
    uint32_t next_freed; // on the heap's stack of these, or in an inbox; atomic
    uint16_t live;       // cells with their bit set (B6); owner
    uint16_t cursor;     // next cell to search for a hole; owner
    union {
        struct {
            uint8_t list;      // enum shelf_list it is in; list's owner
            uint8_t flags;     // BLOCK_*; atomic
            uint8_t rescan;    // marked cells to be scanned again; marker
            uint8_t freed_any; // B8; atomic
        };
        uint32_t state; // the four at one look
    };
};

_Static_assert(sizeof(struct block) == 64, "one to a cache line");

// What a state is compared with: a list and flags, and nothing freed by others.
#define BLOCK_STATE(list, flags) ((uint32_t)(list) | (uint32_t)(flags) << 8)
#define BLOCK_STATE_FREED        ((uint32_t)UINT8_MAX << 24)
// In either of these a freed cell asks for more than its bit; without any of
// those its block is in no list and nobody's current one, which has to change.
#define BLOCK_STATE_BUSY                                                       \
    (BLOCK_STATE_FREED | BLOCK_STATE(0, BLOCK_WATCHED | BLOCK_ZERO))
#define BLOCK_STATE_ROOM BLOCK_STATE(UINT8_MAX, BLOCK_CURRENT)

// A hole: cells [from, end) without allocation bits.
struct hole {
    uint32_t from, end; // cell indexes
};

static inline struct block *block_get(uint32_t block) {
    return &range.blocks[block];
}

static inline uint16_t block_entry(uint32_t block) {
    return __atomic_load_n(&range.entries[block], __ATOMIC_RELAXED);
}

// An owner is a mutator, by its id, or a level of the reserve of one
// (roots/reserve.h): then the bits from here on say which.
#define BLOCK_OWNER_LEVEL ((uint32_t)1 << 30)

// The owner, 0 if none.  Others read it at any time: a free by hand asks.
static inline uint32_t block_owner(uint32_t block) {
    return __atomic_load_n(&block_get(block)->owner, __ATOMIC_RELAXED);
}

// The mutator that an owner is, or is a part of.
static inline uint32_t block_owner_mutator(uint32_t block) {
    return block_owner(block) & (BLOCK_OWNER_LEVEL - 1);
}

// The owner of a block of the home heap without a layout; of others a number
// that no owner is.
static inline uint64_t block_whose(const struct block *b) {
    return __atomic_load_n(&b->whose, __ATOMIC_RELAXED);
}

static inline void block_set_owner(uint32_t block, uint32_t owner) {
    __atomic_store_n(&block_get(block)->owner, owner, __ATOMIC_RELAXED);
}

// The flags of a block are read and written by more than its owner; what is
// right already is not written again.
static inline unsigned block_flags(uint32_t block) {
    return __atomic_load_n(&block_get(block)->flags, __ATOMIC_RELAXED);
}

static inline uint32_t block_state(const struct block *b) {
    return __atomic_load_n(&b->state, __ATOMIC_RELAXED);
}

static inline void block_set_flags(uint32_t block, unsigned flags) {
    if ((block_flags(block) & flags) != flags) {
        __atomic_fetch_or(&block_get(block)->flags, (uint8_t)flags,
                          __ATOMIC_RELAXED);
    }
}

static inline void block_clear_flags(uint32_t block, unsigned flags) {
    if ((block_flags(block) & flags) != 0) {
        __atomic_fetch_and(&block_get(block)->flags, (uint8_t)~flags,
                           __ATOMIC_RELAXED);
    }
}

static inline const struct sizeclass *block_class(uint32_t block) {
    return &sizeclass_table[ENTRY_CLASS(block_entry(block))];
}

// The two words of age of cells 64 * word and up (collect/lost.h).
static inline uint64_t *block_age(uint32_t block, size_t word) {
    return &range.age[block * AGE_WORDS_PER_BLOCK + 2 * word];
}

// The mark word of cells 64 * word and up; the allocation word is next to it.
static inline uint64_t *block_pair(uint32_t block, size_t word) {
    return &range.bits[block * BITS_WORDS_PER_BLOCK + 2 * word];
}

static ALWAYS_INLINE bool block_is_allocated(uint32_t block, uint32_t cell) {
    const uint64_t *alloc = &block_pair(block, cell / 64)[1];
    return (__atomic_load_n(alloc, __ATOMIC_RELAXED) >> (cell % 64)) & 1;
}

static inline bool block_is_marked(uint32_t block, uint32_t cell) {
    return (block_pair(block, cell / 64)[0] >> (cell % 64)) & 1;
}

// Where the cells of a block, span or run begin.
static inline uintptr_t block_first(uint32_t block) {
    return range_block_address(block) + ENTRY_SHIFT(block_entry(block));
}

static inline uintptr_t block_cell_address(uint32_t block, uint32_t cell) {
    return block_first(block) + (uintptr_t)cell * block_class(block)->bytes;
}

// The bitmap words of a block in use: 1 for a run.
size_t block_words(uint32_t block);

// The cells of a block or span in use: 1 for a run.
size_t block_cells(uint32_t block);

// The blocks of the span or run whose head is `block`.
size_t block_span(uint32_t block);

// The bytes of cell in `block`; of the object, for a run.
size_t block_cell_bytes(uint32_t block);

// Entries of a span of `cls` and `kind`, heads last so that a span is seen
// whole or not at all.  The blocks were taken from the region, bits clear.
void block_format(uint32_t block, unsigned cls, unsigned kind);

// The same for a run of `count` blocks whose object ends with page `pages`.
void block_format_run(uint32_t block, size_t count, size_t pages,
                      unsigned kind);

// A run of `before` blocks gets others behind it, `count` in all; or gives some
// back, whose bits are clear.  Its pages are set in between: a reader finds no
// page in a block that is not the run's.
void block_add_to_run(uint32_t block, size_t before, size_t count);
void block_set_pages(uint32_t block, size_t pages);
void block_cut_run(uint32_t block, size_t before, size_t count);

// Entries and struct back to free, heads first; bits must be clear.  What says
// that the block was told of freed cells stays.
void block_clear(uint32_t block);

// The first hole at or after `from`, of at most `cells_max` cells; false if
// there is none.
bool block_find_hole(uint32_t block, uint32_t from, uint32_t cells_max,
                     struct hole *hole);

// Sets, or clears, the allocation bits of a hole, and keeps live.
void block_set_hole(uint32_t block, struct hole hole);
void block_clear_hole(uint32_t block, struct hole hole);

// Drops from the freed table what a double free left behind for cells that are
// about to be used.
void block_drop_freed(uint32_t block, size_t word, uint64_t mask);

// block_set_hole for one cell.
static ALWAYS_INLINE void block_set_cell(uint32_t block, uint32_t cell) {
    uint64_t *alloc = &block_pair(block, cell / 64)[1];
    uint64_t bit = (uint64_t)1 << (cell % 64);
    if (UNLIKELY(__atomic_load_n(&range.freed_in_use, __ATOMIC_ACQUIRE))) {
        block_drop_freed(block, cell / 64, bit); // B8
    }
    __atomic_store_n(alloc, *alloc | bit, __ATOMIC_RELAXED);
    block_get(block)->live++; // B6
}

// What block_free_remotely did.
enum freed_by {
    FREED_TWICE, // nothing: it was asked before, or the cell is not allocated
    FREED_MORE,  // the block was known to have freed cells
    FREED_FIRST  // the first since the last drain: the heap is to be told
};

// For a thread that is not the owner: asks that the cell be freed.  Needs
// range_use_freed.
enum freed_by block_free_remotely(uint32_t block, uint32_t cell);

// Whether block_free_remotely has been asked for the cell and it was not
// drained yet: then it is no longer the program's to free.
static ALWAYS_INLINE bool block_is_freed(uint32_t block, uint32_t cell) {
    if (LIKELY(!__atomic_load_n(&range.freed_in_use, __ATOMIC_ACQUIRE))) {
        return false;
    }
    const uint64_t *freed =
        &range.freed[block * FREED_WORDS_PER_BLOCK + cell / 64];
    return (__atomic_load_n(freed, __ATOMIC_RELAXED) >> (cell % 64)) & 1;
}

// alloc &= ~freed, freed = 0 (B8), live kept, marks cleared with the cells;
// bits of cells in `tail`, which were never handed out, are dropped.  Returns
// the cells freed.  Owner, lock holder where there is none, or conductor.
uint32_t block_drain_freed(uint32_t block, struct hole tail);

// A block that was told of freed cells turns out to be free: it is told anew
// when it is in use again.  By whoever takes it from the list of these, under
// the lock.
void block_forget_freed(uint32_t block);

// In a heap that holds: the cell, freed by hand, waits for a flip (B15); false
// if it does so already, or is no object.  Needs range_use_freed.
static ALWAYS_INLINE bool block_hold(uint32_t block, uint32_t cell) {
    uint64_t bit = (uint64_t)1 << (cell % 64);
    uint64_t *freed = &range.freed[block * FREED_WORDS_PER_BLOCK + cell / 64];
    return block_is_allocated(block, cell) &&
           (__atomic_fetch_or(freed, bit, __ATOMIC_RELAXED) & bit) == 0;
}

// Whether cells of a block are held when they are freed.
static inline bool block_is_holding(uint32_t block) {
    return ENTRY_KIND(block_entry(block)) == KIND_PINNED_LEAF;
}

// Whether cells of a block may be lost, in a heap that seeks such (B16).
static inline bool block_is_sought(uint32_t block) {
    return ENTRY_KIND(block_entry(block)) == KIND_PINNED;
}

// Clears the marks of all cells; sets them to the allocation bits if pinned.
void block_clear_marks(uint32_t block);

// Marks every cell that has its allocation bit.
void block_mark_all(uint32_t block);

// The flip (B11); returns the cells that were found dead.
uint32_t block_flip(uint32_t block);

// The flip of a block of KIND_PINNED in a heap that reclaims: as collected.
uint32_t block_flip_lost(uint32_t block);

// The flip of a block that holds (B15): what is held and not marked is free.
// Returns how many that were, and in *held how many are held on.
uint32_t block_flip_held(uint32_t block, uint32_t *held);

// Clears the marks of all cells, pinned or not.
void block_unmark(uint32_t block);

// B5, B6, B14 and the entries of the span; for VERIFY.
bool block_check(uint32_t block);

#endif
