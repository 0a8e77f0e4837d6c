// bitmap — arrays of bits, asked and changed a word at a time.
//
// A map is a plain array of uint64_t that its owner lays out and counts; bit i
// is bit i % 64 of word i / 64.  Nothing here knows how long a map is: a range
// is [from, end) or [from, from + count), and lies inside.
//
//     bit      0            63 64           127 128
//     word    [      map[0]   ][     map[1]    ][ ...
//     range            from |------------------| end
//
// Invariants:
//   B1  inside   no bit outside the named range is read for its value or
//                changed, and no word that holds none of it is touched
//   B2  first    a search returns the lowest index that fits, or `end`
//   B3  empty    an empty range is allowed anywhere: nothing changes, a search
//                returns `end`, a count is 0
//
// No state.  Not atomic: the caller owns the words, or the world is stopped.
// Design, alternatives and measurements: docs/design/base/bitmap.md

#ifndef BASE_BITMAP_H
#define BASE_BITMAP_H

#include "base/defs.h"

#define BITMAP_WORD_BITS ((size_t)64)

// The words that hold `bits` bits.
static inline size_t bitmap_words(size_t bits) {
    return bits / BITMAP_WORD_BITS + (bits % BITMAP_WORD_BITS != 0);
}

static inline bool bitmap_get(const uint64_t *map, size_t index) {
    return (map[index / BITMAP_WORD_BITS] >> (index % BITMAP_WORD_BITS)) & 1;
}

static inline void bitmap_set(uint64_t *map, size_t index) {
    map[index / BITMAP_WORD_BITS] |= (uint64_t)1 << (index % BITMAP_WORD_BITS);
}

static inline void bitmap_clear(uint64_t *map, size_t index) {
    map[index / BITMAP_WORD_BITS] &=
        ~((uint64_t)1 << (index % BITMAP_WORD_BITS));
}

// Sets, or clears, the `count` bits from `from` on.
void bitmap_set_range(uint64_t *map, size_t from, size_t count);
void bitmap_clear_range(uint64_t *map, size_t from, size_t count);

// The first set (clear) bit of [from, end), or `end`; from <= end.
size_t bitmap_find_set(const uint64_t *map, size_t from, size_t end);
size_t bitmap_find_clear(const uint64_t *map, size_t from, size_t end);

// The first index of `count` >= 1 clear bits in a row that lie in [from, end),
// or `end`.
size_t bitmap_find_clear_run(const uint64_t *map, size_t from, size_t end,
                             size_t count);

// How many of the `count` bits from `from` on are set.
size_t bitmap_count(const uint64_t *map, size_t from, size_t count);

#endif
