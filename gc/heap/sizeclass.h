// sizeclass — bytes to class, and class to bytes.
//
// A block holds cells of one size only (heap/block.h), so a request is rounded
// up to one of a few sizes: steps of one granule up to 256 bytes, then eight
// classes to every doubling, so that at most an eighth of a cell is waste.
//
//     class    1   2   3 ..   8 |   9 ..  16 |  17 ..  24 | ... |  89 ..  96
//     bytes   16  32  48 .. 128 | 144 .. 256 | 288 .. 512 | ... | 144K .. 256K
//
// Classes up to 56 (8 KiB) live in blocks of 64 KiB; the rest in spans of 1 to
// 7 blocks, as few as leave little of the span over.  Three class numbers are
// no sizes: a block may be free, the head of a run (one large object), or a
// later block of a run.  They have no cells, so that the general arithmetic
// below turns every word that points there away without a special case.
//
// In a shifted block the cells begin SHIFT_BYTES in (heap/block.h).  Cells that
// fill a block to its last byte have a trimmed twin for that, of the same bytes
// and with one cell less:
//
//     class   97   98   99 .. 106
//     bytes   16   32   64 .. 8192
//
// The table answers the collector's commonest question, "which cell does this
// offset lie in?", by a multiplication: cell = offset * reciprocal >> 40.
//
// Invariants, for every n in 1 .. CELL_BYTES_MAX, c = sizeclass_of(n) and t =
// sizeclass_table[c]:
//   S1  cover       t.bytes >= n
//   S2  tight       no smaller class covers n
//   S3  grain       t.bytes is a multiple of GRANULE_BYTES
//   S4  waste       t.bytes - n < max(GRANULE_BYTES, n / 8 + 1)
//   S5  fit         t.cells * t.bytes <= t.blocks * BLOCK_BYTES, one more cell
//                   does not fit, and at most 9 % of the span is over
//   S6  reciprocal  offset * t.reciprocal >> 40 == offset / t.bytes for every
//                   offset in the span
//   S7  no cells    free, run head and run tail have no cells
//   S8  shifted     for n up to SMALL_BYTES_MAX sizeclass_of_shifted(n) has the
//                   bytes of c, in one block, and SHIFT_BYTES of it are over
//
// Pure arithmetic and constant data: no lock, callable from anywhere.
// Design, alternatives and measurements: docs/design/heap/sizeclass.md

#ifndef HEAP_SIZECLASS_H
#define HEAP_SIZECLASS_H

#include "base/bits.h"
#include "base/defs.h"

#define BLOCK_BYTES     ((size_t)65536)
#define BLOCK_SHIFT     16
#define SMALL_BYTES_MAX ((size_t)8192)       // one block of 64 KiB
#define CELL_BYTES_MAX  ((size_t)256 * 1024) // larger objects are runs
#define SHIFT_BYTES     ((size_t)8)          // before the first cell, if any

enum {
    CLASS_FREE = 0,
    CLASS_FIRST = 1,
    CLASS_SMALL_LAST = 56,
    CLASS_PLAIN_LAST = 96,
    CLASS_TRIMMED_FIRST = 97, // twin of class 1
    CLASS_LAST = 106,
    CLASS_RUN_HEAD = 107,
    CLASS_RUN_TAIL = 108,
    CLASS_COUNT = 109
};

// What is known of a class: 24 bytes, read on every resolved word.
struct sizeclass {
    uint64_t reciprocal; // ceil(2^40 / bytes); 0 for a class without cells
    uint32_t bytes;      // bytes of a cell
    uint32_t cells;      // cells in a block or span
    uint16_t words;      // 64-bit bitmap words that hold a bit for each cell
    uint16_t blocks;     // blocks in a span
};

extern const struct sizeclass sizeclass_table[128];

// The class for a request of `bytes`, 1 .. CELL_BYTES_MAX.
static inline unsigned sizeclass_of(size_t bytes) {
    size_t last = bytes - 1;
    unsigned shift = (unsigned)bits_log2_floor(last | 128) - 3;
    return (shift - 4) * 8 + (unsigned)(last >> shift) + 1;
}

// The class for cells of at least `bytes` bytes, 1 .. SMALL_BYTES_MAX, of a
// shifted block.
static inline unsigned sizeclass_of_shifted(size_t bytes) {
    unsigned cls = sizeclass_of(bytes);
    // Classes 1, 2, 4, 8 and from there each eighth fill a block.
    if (cls < 8) {
        return (cls & (cls - 1)) != 0
                   ? cls
                   : CLASS_TRIMMED_FIRST + (unsigned)bits_log2_floor(cls);
    }
    return cls % 8 != 0 ? cls : CLASS_TRIMMED_FIRST + 2 + cls / 8;
}

// The bytes of a cell of class `cls`.
static inline size_t sizeclass_bytes(unsigned cls) {
    return sizeclass_table[cls].bytes;
}

// The smallest plain class with cells of at least `bytes` bytes whose size is a
// multiple of `alignment` (a power of two), or CLASS_FREE if there is none.
unsigned sizeclass_find_aligned(size_t bytes, size_t alignment);

#endif
