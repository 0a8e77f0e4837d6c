// blocks — memory that says what it is, for the benchmarks of malloc.
//
// A block begins with its size and a stamp that no other block has; where there
// is room its last word is the stamp again.  block_end finds both as they were
// left, frees the block and returns what it adds to the checksum: sums do not
// depend on the order of frees, so that threads may end each other's blocks.
//
// If an allocator hands out one block twice, the second stamp takes the place
// of the first; if two blocks overlap, one's end is another's middle.  Either
// the stamps of a block then differ, which ends the program, or the sum does.

#ifndef BLOCKS_H
#define BLOCKS_H

#include "measure.h"

enum { BLOCK_LEAST = 16 }; // bytes, for the size and the stamp

static inline void block_fill(void *p, size_t bytes, uint64_t stamp) {
    uint64_t *words = p;
    words[0] = bytes;
    words[1] = stamp;
    if (bytes >= 3 * sizeof stamp) {
        memcpy((char *)p + bytes - sizeof stamp, &stamp, sizeof stamp);
    }
}

// A block of `bytes` bytes, 16 or more.
static inline void *block_make(size_t bytes, uint64_t stamp) {
    void *p = mem_checked(malloc(bytes));
    block_fill(p, bytes, stamp);
    return p;
}

static inline uint64_t block_worth(size_t bytes, uint64_t stamp) {
    return mix64(stamp ^ (uint64_t)bytes << 32);
}

// What a block adds to the sum; ends the program if it was written over.
static inline uint64_t block_check(const void *p) {
    const uint64_t *words = p;
    size_t bytes = words[0];
    uint64_t end = words[1];
    if (bytes >= 3 * sizeof end) {
        memcpy(&end, (const char *)p + bytes - sizeof end, sizeof end);
    }
    if (__builtin_expect(end != words[1], 0)) {
        fprintf(stderr, "a block of %zu bytes was written over\n", bytes);
        _exit(3);
    }
    return block_worth(bytes, words[1]);
}

static inline uint64_t block_end(void *p) {
    uint64_t worth = block_check(p);
    free(p);
    return worth;
}

// The stamp of the next block of a maker: no two makers have one in common.
static inline uint64_t block_stamp(uint64_t *made, size_t maker) {
    return mix64((uint64_t)maker << 48 | ++*made);
}

// Sizes as programs ask for them: each power of two from 16 bytes to 32 KiB is
// half as likely as the one before, and within one all are equally likely.
static inline size_t block_bytes_real(uint64_t dice) {
    unsigned steps = (unsigned)__builtin_ctzll(dice | 1u << 10);
    size_t low = (size_t)16 << steps;
    return low + ((dice >> 32) & (low - 1));
}

static inline size_t block_threads(const struct measure *run) {
    return run->threads != 0 ? run->threads : 1;
}

#endif
