// What chance retains.  A large heap of garbage, and a root area full of
// numbers as programs have them: random words, counters, floating point, text,
// lengths and times.  Of a million objects at most one in a thousand may stay.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "loam.h"
#include "support/gen.h"
#include "support/scrub.h"

#define WORDS ((size_t)1 << 20)

static uint64_t *area;
static struct gen g;

static uint64_t number_random(size_t i) {
    (void)i;
    return gen_next(&g);
}

// Uniform in the bits that numbers have: small ones are as likely as large.
static uint64_t number_by_octave(size_t i) {
    (void)i;
    return gen_next(&g) >> gen_below(&g, 64);
}

static uint64_t number_counter(size_t i) {
    return i;
}

static uint64_t number_double(size_t i) {
    double x = (double)(gen_next(&g) >> 11) / (double)(1 + i);
    uint64_t word;
    memcpy(&word, &x, sizeof word);
    return word;
}

static uint64_t number_floats(size_t i) {
    float pair[2] = {(float)i / 7.0F, 1.0F / (1.0F + (float)i)};
    uint64_t word;
    memcpy(&word, pair, sizeof word);
    return word;
}

static uint64_t number_text(size_t i) {
    static const char letters[] = "etaoin shrdlu cmfwyp,.ETAOIN 0123456789\n";
    char text[8];
    for (size_t k = 0; k < sizeof text; k++) {
        text[k] = letters[gen_below(&g, sizeof letters - 1)];
    }
    uint64_t word;
    memcpy(&word, text, i % 3 ? 8 : 5); // some end early
    return i % 3 ? word : word & 0xFFFFFFFFFF;
}

static uint64_t number_pair(size_t i) {
    return (uint64_t)gen_below(&g, 100000) << 32 | i % 4096;
}

static uint64_t number_time(size_t i) {
    return (uint64_t)time(NULL) * 1000000000 + i * 977;
}

static const struct {
    const char *name;
    uint64_t (*make)(size_t i);
} sorts[] = {
    {"random words", number_random},    {"numbers by octave", number_by_octave},
    {"counters", number_counter},       {"doubles", number_double},
    {"pairs of floats", number_floats}, {"text", number_text},
    {"pairs of integers", number_pair}, {"times", number_time},
};

// Objects without edges: each must be hit by itself.
NOT_INLINED static void waste(size_t count, size_t bytes) {
    for (size_t i = 0; i < count; i++) {
        (void)!loam_alloc(bytes);
    }
}

static void test_numbers(void **state) {
    (void)state;
    gen_init(&g, gen_seed("false retention"));
    area = malloc(WORDS * sizeof *area);
    assert_true(loam_roots_add(area, WORDS * sizeof *area));
    for (size_t k = 0; k < sizeof sorts / sizeof sorts[0]; k++) {
        memset(area, 0, WORDS * sizeof *area);
        scrub_collect();
        struct loam_stats stats = {0};
        loam_stats(&stats, sizeof stats);
        uint64_t before = stats.live_objects;
        size_t count = SCALED(1000000, 200000);
        loam_disable();
        waste(count, 96);
        loam_enable();
        for (size_t i = 0; i < WORDS; i++) {
            area[i] = sorts[k].make(i);
        }
        scrub_collect();
        loam_stats(&stats, sizeof stats);
        uint64_t kept = stats.live_objects - before;
        printf("%-18s %llu of %zu kept\n", sorts[k].name,
               (unsigned long long)kept, count);
        assert_true(kept <= count / 1000);
    }
    loam_roots_remove(area, WORDS * sizeof *area);
    free(area);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
