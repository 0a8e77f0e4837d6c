#include "support/gen.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define GOLDEN UINT64_C(0x9E3779B97F4A7C15)

static uint64_t gen_finish(uint64_t x) {
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return x ^ (x >> 31);
}

uint64_t gen_seed(const char *name) {
    const char *given = getenv("LOAM_SEED");
    uint64_t seed;
    if (given) {
        seed = strtoull(given, NULL, 0);
    } else {
        struct timespec now;
        timespec_get(&now, TIME_UTC);
        seed = gen_mix((uint64_t)now.tv_sec, (uint64_t)now.tv_nsec) % 1000000;
    }
    printf("%s: seed %llu (repeat with LOAM_SEED=%llu)\n", name,
           (unsigned long long)seed, (unsigned long long)seed);
    fflush(stdout);
    return seed;
}

void gen_init(struct gen *g, uint64_t seed) {
    g->state = seed;
}

uint64_t gen_next(struct gen *g) {
    g->state += GOLDEN;
    return gen_finish(g->state);
}

size_t gen_below(struct gen *g, size_t n) {
    return (size_t)(gen_next(g) % n);
}

bool gen_chance(struct gen *g, unsigned percent) {
    return gen_below(g, 100) < percent;
}

size_t gen_bytes(struct gen *g, size_t bytes_max) {
    unsigned octaves = 0;
    while (bytes_max >> octaves) {
        octaves++;
    }
    // Three in four below 256 bytes; of the rest each octave is as likely.
    size_t top = gen_chance(g, 75) && octaves > 8 ? 8 : octaves;
    size_t octave = gen_below(g, top);
    size_t bytes = ((size_t)1 << octave) + gen_below(g, (size_t)1 << octave);
    return bytes < bytes_max ? bytes : bytes_max;
}

// The top bit is set: no address of a program has it.
uint64_t gen_mix(uint64_t a, uint64_t b) {
    return gen_finish(a * GOLDEN + b) | UINT64_C(0x8000000000000001);
}
