// range — the reserved addresses, and the tables beside them.
//
// All heaps of the process live in one reserved stretch of address space, so
// that "may this word be a pointer?" is one subtraction and one comparison.
// What the collector knows about the stretch lies beside it, in side tables
// indexed by block number, never in the blocks: headers at block starts would
// meet in the same few cache sets, and a program that writes out of bounds
// would write into them.
//
//     base                    frontier                               end
//      | block 0 | block 1 | ... |   reserved, not committed ......... |
//
//     table      a block's share   holds
//     entries    2 bytes           class, kind, index in span, two bits
//     bits       1 KiB             for 64 cells: mark word, allocation word
//     blocks     64 bytes          struct block (heap/block.h)
//     distances  4 bytes           in a run: blocks back to its head
//     taken      1 bit             the block belongs to a span or a run
//     dirty      1 bit             its memory may hold something but zero
//     freed      512 bytes         cells freed by other threads; committed
//                                  only after range_use_freed
//     aside      512 bytes         marks of helpers, in a stop (trace/mark.h);
//                                  committed only after range_use_aside
//
// The range begins where words are unlikely to be anything but pointers: bits
// 40 to 47 of an address there are a control character, above them two zero
// bytes, so neither text nor numbers in use look like it.  Block 0 is never
// given out: 0 means "no block" in every list.
//
// Under a limit on address space only half of what is left is reserved at
// first, and more, where the range ends, as the heap grows and the rest of the
// program leaves it; the tables have room for all of it.
//
// Committing moves the frontier up by blocks, tables first.  Chunks of 2 MiB,
// aligned, are the unit in which memory is given back (heap/region.h).  The
// bits of a block whose entry is free are all clear, and so are its struct and
// freed words: whoever takes a block finds them zero.
//
// Invariants
//   R1  aligned    base is a multiple of CHUNK_BYTES, the frontier one of
//                  BLOCK_BYTES
//   R2  covered    every table covers every block below the frontier
//   R3  one way    the frontier never falls; memory below it stays accessible
//   R4  whole      a refused commit leaves the frontier and all contents as
//                  they were
//
// Process-wide state, set up once by range_init; the frontier is changed under
// the heap lock only.
// Design, alternatives and measurements: docs/design/heap/range.md

#ifndef HEAP_RANGE_H
#define HEAP_RANGE_H

#include "base/defs.h"
#include "heap/sizeclass.h"

#define CHUNK_BYTES  (2 * MiB)
#define CHUNK_BLOCKS (CHUNK_BYTES / BLOCK_BYTES)

// An entry: what one 16-bit load says about a block.
//
//     bit  15        14            13 .. 11        10 .. 7   6 .. 0
//          shifted   look closer   index in span   kind      class
//
// Look closer: the marker's short way does not do, as for runs, for the later
// blocks of a span and for kinds of which not each word counts.  Shifted: the
// cells of the block begin SHIFT_BYTES in.
#define ENTRY_CLASS(entry)  ((unsigned)(entry)&127u)
#define ENTRY_KIND(entry)   (((unsigned)(entry) >> 7) & 15u)
#define ENTRY_INDEX(entry)  (((unsigned)(entry) >> 11) & 7u)
#define ENTRY_SHIFT(entry)  (((unsigned)(entry) >> 12) & 8u) // in bytes
#define ENTRY_LOOK_CLOSER   0x4000u
#define ENTRY_SHIFTED       0x8000u
#define ENTRY(cls, kind, i) ((cls) | (kind) << 7 | (i) << 11)

enum { BLOCK_NONE = 0 };

enum {
    CHUNK_IDLE = 1,   // was wholly free when the last cycle ended
    CHUNK_DROPPED = 2 // its pages were given back
};

#define BITS_WORDS_PER_BLOCK  ((size_t)128) // 64 pairs of mark and allocation
#define FREED_WORDS_PER_BLOCK ((size_t)64)
#define AGE_WORDS_PER_BLOCK   ((size_t)128) // 64 pairs: two bits a cell
#define ASIDE_WORDS_PER_BLOCK ((size_t)64)

struct block;

struct range {
    uintptr_t base;          // of block 0; constant after range_init
    size_t frontier_bytes;   // committed from base on; changed under the heap
                             // lock, atomically: anybody may compare
    size_t bytes;            // reserved; heap lock
    size_t most_bytes;       // that the tables can serve; heap lock, atomic
    uint16_t *entries;       // the tables, by block number
    uint64_t *bits;          //
    struct block *blocks;    //
    uint32_t *distances;     //
    uint64_t *taken, *dirty; // bitmaps; heap lock
    uint8_t *chunks;         // CHUNK_*; heap lock
    uint64_t *freed;         // committed if freed_in_use
    bool freed_in_use;       // set under the heap lock; atomic
    uint64_t *age;           // committed if age_in_use; conductor, in a stop
    bool age_in_use;         // set under the heap lock
    uint64_t *aside;         // committed if aside_in_use; markers, in a stop
    bool aside_in_use;       // set under the heap lock
    size_t table_bytes;      // committed in tables; heap lock
};

extern struct range range;

// Reserves `bytes` of address space, or as much as the system and the limit on
// this process allow, halving; 0 means as much as a machine of this size can
// use.  False when not even RANGE_BYTES_MIN can be had.
#define RANGE_BYTES_MIN   (8 * MiB)
#define RANGE_SPARE_BYTES (16 * MiB) // never taken where there is a limit
MUST_USE bool range_init(size_t bytes);

// The limit on address space is another: gives back, from the end of what is
// reserved and not committed, what range_init would not have taken under it.
// Heap lock.
void range_fit(void);

// Moves the frontier up by `blocks`; false when the range is exhausted or the
// system refuses.
MUST_USE bool range_extend(size_t blocks);

// What range_extend(blocks) would commit, tables and all.
size_t range_extend_bytes(size_t blocks);

// Commits the freed table, for blocks yet to come too.
MUST_USE bool range_use_freed(void);

// The same for the age table, and for that of helpers' marks.
MUST_USE bool range_use_age(void);
MUST_USE bool range_use_aside(void);

// Huge pages for what is committed now and later.
void range_use_huge(void);

// The range cannot become larger than that.  Any thread.
static inline size_t range_most_bytes(void) {
    return __atomic_load_n(&range.most_bytes, __ATOMIC_RELAXED);
}

// Blocks below the frontier.
static inline size_t range_block_count(void) {
    return range.frontier_bytes >> BLOCK_SHIFT;
}

// The address of a block.
static inline uintptr_t range_block_address(uint32_t block) {
    return range.base + ((uintptr_t)block << BLOCK_SHIFT);
}

// Whether a word is an address below the frontier.
static inline bool range_has(uintptr_t word) {
    return word - range.base <
           __atomic_load_n(&range.frontier_bytes, __ATOMIC_RELAXED);
}

// The block that holds an address of the range.
static inline uint32_t range_block_of(uintptr_t word) {
    return (uint32_t)((word - range.base) >> BLOCK_SHIFT);
}

#endif
