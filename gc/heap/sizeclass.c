#include "heap/sizeclass.h"

// A row from the bytes of a cell and the blocks of a span.
#define ROW(cell, span)                                                        \
    {                                                                          \
        .reciprocal = (((uint64_t)1 << 40) + (cell)-1) / (cell),               \
        .bytes = (cell), .cells = (span)*65536 / (cell),                       \
        .words = ((span)*65536 / (cell) + 63) / 64, .blocks = (span)           \
    }

// The same with one cell less: SHIFT_BYTES and more are left over.
#define TRIMMED(cell)                                                          \
    {                                                                          \
        .reciprocal = (((uint64_t)1 << 40) + (cell)-1) / (cell),               \
        .bytes = (cell), .cells = 65536 / (cell)-1,                            \
        .words = (65536 / (cell)-1 + 63) / 64, .blocks = 1                     \
    }

// Eight rows from the base of a doubling: base * 9/8 .. base * 2.
#define EIGHT(base, a, b, c, d, e, f, g, h)                                    \
    ROW((base) / 8 * 9, a), ROW((base) / 8 * 10, b), ROW((base) / 8 * 11, c),  \
        ROW((base) / 8 * 12, d), ROW((base) / 8 * 13, e),                      \
        ROW((base) / 8 * 14, f), ROW((base) / 8 * 15, g),                      \
        ROW((base) / 8 * 16, h)

// Above 8 KiB the spans are the shortest that leave at most 8.5 % over.
const struct sizeclass sizeclass_table[128] = {
    {0, 0, 0, 0, 0},
    ROW(16, 1),
    ROW(32, 1),
    ROW(48, 1),
    ROW(64, 1),
    ROW(80, 1),
    ROW(96, 1),
    ROW(112, 1),
    ROW(128, 1),
    EIGHT(128, 1, 1, 1, 1, 1, 1, 1, 1),
    EIGHT(256, 1, 1, 1, 1, 1, 1, 1, 1),
    EIGHT(512, 1, 1, 1, 1, 1, 1, 1, 1),
    EIGHT(1024, 1, 1, 1, 1, 1, 1, 1, 1),
    EIGHT(2048, 1, 1, 1, 1, 1, 1, 1, 1),
    EIGHT(4096, 1, 1, 1, 1, 1, 1, 1, 1),
    EIGHT(8192, 1, 1, 2, 1, 3, 2, 1, 1),
    EIGHT(16384, 2, 1, 3, 2, 3, 4, 1, 1),
    EIGHT(32768, 3, 2, 3, 3, 5, 7, 1, 1),
    EIGHT(65536, 6, 4, 3, 3, 5, 7, 2, 2),
    EIGHT(131072, 7, 5, 3, 3, 7, 7, 4, 4),
    TRIMMED(16),
    TRIMMED(32),
    TRIMMED(64),
    TRIMMED(128),
    TRIMMED(256),
    TRIMMED(512),
    TRIMMED(1024),
    TRIMMED(2048),
    TRIMMED(4096),
    TRIMMED(8192),
};

unsigned sizeclass_find_aligned(size_t bytes, size_t alignment) {
    if (bytes > CELL_BYTES_MAX || alignment > BLOCK_BYTES) {
        return CLASS_FREE;
    }
    for (unsigned cls = sizeclass_of(bytes); cls <= CLASS_PLAIN_LAST; cls++) {
        if (sizeclass_table[cls].bytes % alignment == 0) {
            return cls;
        }
    }
    return CLASS_FREE;
}
