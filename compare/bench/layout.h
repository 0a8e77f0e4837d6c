// layout — one graph, laid out in memory in three ways.
//
// A binary tree of `count` cells of 16 to 128 bytes, 41 on average, in the
// proportions of a program that makes many small things.  Cell i has the
// children 2i+1 and 2i+2 and a size that depends on i alone, so the three
// layouts hold the same cells; only the order in which they are allocated, and
// with it their order in memory, differs:
//
//   breadth  level by level
//   depth    each cell, then all that is left of it, then all that is right
//   random   as a pseudo-random permutation has it

#ifndef LAYOUT_H
#define LAYOUT_H

#include "measure.h"

struct cell {
    struct cell *left, *right;
    uint64_t numbers[]; // what remains of the cell's bytes; small numbers
};

enum layout_order { LAYOUT_BREADTH, LAYOUT_DEPTH, LAYOUT_RANDOM };

static inline enum layout_order layout_order(const struct measure *run) {
    return measure_is(run, "random")  ? LAYOUT_RANDOM
           : measure_is(run, "depth") ? LAYOUT_DEPTH
                                      : LAYOUT_BREADTH;
}

static inline size_t layout_bytes(uint64_t index) {
    uint64_t percent = (mix64(index) >> 32) * 100 >> 32;
    return percent < 25   ? 16
           : percent < 60 ? 32
           : percent < 80 ? 48
           : percent < 92 ? 64
           : percent < 97 ? 96
                          : 128;
}

static inline struct cell *layout_cell(uint64_t index) {
    size_t bytes = layout_bytes(index);
    struct cell *cell = mem_raw(bytes);
    cell->left = cell->right = NULL;
    size_t numbers = (bytes - sizeof *cell) / sizeof cell->numbers[0];
    for (size_t at = 0; at < numbers; at++) {
        cell->numbers[at] = (index + at) & 0xffff;
    }
    return cell;
}

// A permutation of 0 .. 2^bits-1 (bits even): four rounds of a Feistel network.
static inline uint64_t layout_shuffle(uint64_t x, unsigned bits) {
    unsigned half = bits / 2;
    uint64_t mask = ((uint64_t)1 << half) - 1;
    uint64_t high = x >> half, low = x & mask;
    for (uint64_t round = 0; round < 4; round++) {
        uint64_t next = high ^ (mix64(low * 4 + round) & mask);
        high = low;
        low = next;
    }
    return high << half | low;
}

static inline void layout_make_depth(struct cell **cells, uint64_t index,
                                     uint64_t count, uint64_t base) {
    if (index < count) {
        cells[index] = layout_cell(base + index);
        layout_make_depth(cells, 2 * index + 1, count, base);
        layout_make_depth(cells, 2 * index + 2, count, base);
    }
}

// Fills cells[0 .. count-1], unlinked, sizes as of indices from `base`.
static inline void layout_make(struct cell **cells, uint64_t count,
                               uint64_t base, enum layout_order order) {
    if (order == LAYOUT_DEPTH) {
        layout_make_depth(cells, 0, count, base);
        return;
    }
    unsigned bits = 2;
    while (count > (uint64_t)1 << bits) {
        bits += 2;
    }
    for (uint64_t at = 0; at < (uint64_t)1 << bits; at++) {
        uint64_t index = order == LAYOUT_RANDOM ? layout_shuffle(at, bits) : at;
        if (index < count) {
            cells[index] = layout_cell(base + index);
        }
    }
}

static inline struct cell *layout_link(struct cell **cells, uint64_t count) {
    for (uint64_t at = 0; at < count; at++) {
        cells[at]->left = 2 * at + 1 < count ? cells[2 * at + 1] : NULL;
        cells[at]->right = 2 * at + 2 < count ? cells[2 * at + 2] : NULL;
    }
    return cells[0];
}

static inline struct cell *layout_build(uint64_t count,
                                        enum layout_order order) {
    struct cell **cells = mem_new(count * sizeof *cells);
    layout_make(cells, count, 0, order);
    struct cell *root = layout_link(cells, count);
    // A stale pointer to the table, somewhere on the stack, may keep the table;
    // it shall not keep cells that the program has dropped.
    memset(cells, 0, count * sizeof *cells);
    if (SHIM_MANUAL) {
        shim_dead(cells);
    }
    return root;
}

static inline void layout_free(struct cell *cell) {
    if (SHIM_MANUAL && cell != NULL) {
        layout_free(cell->left);
        layout_free(cell->right);
        shim_dead(cell);
    }
}

// The number of cells, and something of each.
static inline uint64_t layout_count(const struct cell *cell, uint64_t *sum) {
    if (cell == NULL) {
        return 0;
    }
    uint64_t count = 1 + layout_count(cell->left, sum);
    *sum = *sum * 31 + count;
    return count + layout_count(cell->right, sum);
}

#endif
