// gen — chance that can be repeated.
//
// A generator of random numbers (splitmix64: Steele, Lea and Flood 2014) and
// the few distributions that the tests draw from.  Every random test takes its
// seed from gen_seed, which prints it; LOAM_SEED=<number> repeats a run.
//
// Invariants
//   G1  again  the same seed gives the same numbers, on every machine
//   G2  range  gen_below(g, n) < n; gen_bytes(g, max) is in 1 .. max

#ifndef SUPPORT_GEN_H
#define SUPPORT_GEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gen {
    uint64_t state;
};

// The seed of this run: LOAM_SEED, or a fresh one.  Printed with `name`.
uint64_t gen_seed(const char *name);

void gen_init(struct gen *g, uint64_t seed);
uint64_t gen_next(struct gen *g);

// Uniform in 0 .. n-1; n > 0.
size_t gen_below(struct gen *g, size_t n);
bool gen_chance(struct gen *g, unsigned percent);

// The size of an object as programs ask for them: most are small, sizes thin
// out evenly by octave up to `bytes_max`.
size_t gen_bytes(struct gen *g, size_t bytes_max);

// A number that is no address of anything, one for each (a, b).
uint64_t gen_mix(uint64_t a, uint64_t b);

#endif
