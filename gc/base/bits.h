// bits — powers of two, rounding, and sums that say when they overflow.
//
// Every size in the collector is rounded to a granule, a page or a block, and
// every bitmap is read a word at a time: these are the few formulas for it,
// each an instruction or three, each written once.
//
// Invariants, wherever the arguments are allowed:
//   W1  log       2^floor <= n <= 2^ceil, and each is the closest such power
//   W2  round     bits_round_down(n, p) <= n <= bits_round_up(n, p), both are
//                 multiples of p, and each is less than p away from n
//   W3  mask      bits_mask_below(n) has exactly the bits below n, n in 0 .. 64
//   W4  overflow  a function named _overflows returns whether the true result
//                 exceeds SIZE_MAX, and stores it modulo 2^64
//
// Pure arithmetic: no state, no locks, callable from anywhere.
// Design, alternatives and measurements: docs/design/base/bits.md

#ifndef BASE_BITS_H
#define BASE_BITS_H

#include "base/check.h"

_Static_assert(sizeof(size_t) == 8, "Loam is written for 64-bit machines");

// The largest k with 2^k <= n; n is not 0.
static inline size_t bits_log2_floor(size_t n) {
    ASSERT(n != 0);
    return 63u - (size_t)__builtin_clzll(n);
}

// The smallest k with 2^k >= n; n is not 0.  64 above 2^63.
static inline size_t bits_log2_ceil(size_t n) {
    ASSERT(n != 0);
    return n == 1 ? 0 : bits_log2_floor(n - 1) + 1;
}

// n / by, rounded up; by is not 0.  Cannot overflow.
static inline size_t bits_div_ceil(size_t n, size_t by) {
    ASSERT(by != 0);
    return n / by + (n % by != 0);
}

// Whether n is a power of two; 0 is not.
static inline bool bits_is_power(size_t n) {
    return n != 0 && (n & (n - 1)) == 0;
}

// The smallest multiple of `power` not below n; n <= SIZE_MAX - power + 1.
static inline size_t bits_round_up(size_t n, size_t power) {
    ASSERT(bits_is_power(power));
    ASSERT(n <= SIZE_MAX - power + 1);
    return (n + power - 1) & ~(power - 1);
}

// The largest multiple of `power` not above n.
static inline size_t bits_round_down(size_t n, size_t power) {
    ASSERT(bits_is_power(power));
    return n & ~(power - 1);
}

// The index of the lowest set bit; word is not 0.
static inline size_t bits_lowest(uint64_t word) {
    ASSERT(word != 0);
    return (size_t)__builtin_ctzll(word);
}

// How many bits are set.
static inline size_t bits_count(uint64_t word) {
    return (size_t)__builtin_popcountll(word);
}

// The n lowest bits, n in 0 .. 64.
static inline uint64_t bits_mask_below(size_t n) {
    ASSERT(n <= 64);
    return n == 0 ? 0 : UINT64_MAX >> (64 - n);
}

// Whether a + b exceeds SIZE_MAX; *sum is a + b modulo 2^64 either way.
static inline MUST_USE bool bits_add_overflows(size_t a, size_t b,
                                               size_t *sum) {
    return __builtin_add_overflow(a, b, sum);
}

// Whether a * b exceeds SIZE_MAX; *product is a * b modulo 2^64 either way.
static inline MUST_USE bool bits_mul_overflows(size_t a, size_t b,
                                               size_t *product) {
    return __builtin_mul_overflow(a, b, product);
}

#endif
