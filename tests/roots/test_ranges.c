// Ranges against a universe of few bytes, each of which knows whether it is in.

#include "roots/ranges.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "support/gen.h"

#define BYTES ((size_t)160)
#define START ((uintptr_t)1000) // the address of the universe's first byte

static bool added[BYTES], excluded[BYTES], seen[BYTES];

static void check_set(const struct ranges *ranges, const bool *model) {
    bool found[BYTES] = {false};
    assert_true(ranges->count <= ranges->capacity);
    for (size_t i = 0; i < ranges->count; i++) {
        struct extent extent = ranges->extents[i];
        assert_true(extent.start < extent.end);
        // In order, and with a byte between them (A2).
        assert_true(i == 0 || ranges->extents[i - 1].end < extent.start);
        assert_true(extent.start >= START && extent.end <= START + BYTES);
        memset(&found[extent.start - START], true, extent.end - extent.start);
    }
    assert_memory_equal(found, model, sizeof found); // A1
}

static void see(struct extent extent, void *data) {
    uintptr_t *last = data;
    assert_true(extent.start < extent.end && extent.start >= *last);
    *last = extent.end;
    for (uintptr_t at = extent.start; at < extent.end; at++) {
        assert_false(seen[at - START]);
        seen[at - START] = true;
    }
}

// What is visited of [start, end) is what no hole covers (A3).
static void check_outside(const struct ranges *holes, struct extent extent) {
    uintptr_t last = extent.start;
    memset(seen, 0, sizeof seen);
    ranges_each_outside(holes, extent, see, &last);
    assert_true(last <= extent.end);
    for (size_t i = 0; i < BYTES; i++) {
        bool inside = START + i >= extent.start && START + i < extent.end;
        assert_int_equal(seen[i], inside && !excluded[i]); // A3
    }
}

static struct extent any_extent(struct gen *g) {
    uintptr_t start = START + gen_below(g, BYTES);
    size_t most = START + BYTES - start;
    most = most > 20 && gen_chance(g, 90) ? 20 : most;
    return (struct extent){start, start + 1 + gen_below(g, most)};
}

static void step(struct gen *g, struct ranges *ranges, bool *model,
                 unsigned weight) {
    struct extent extent = any_extent(g);
    bool *bytes = &model[extent.start - START];
    size_t count = extent.end - extent.start;
    if (gen_chance(g, weight)) {
        assert_true(ranges_add(ranges, extent));
        memset(bytes, true, count);
    } else {
        bool removed;
        assert_true(ranges_remove(ranges, extent, &removed));
        assert_int_equal(removed, memchr(bytes, true, count) != NULL);
        memset(bytes, false, count);
    }
    check_set(ranges, model);
}

static void test_random(void **state) {
    (void)state;
    struct gen g;
    gen_init(&g, gen_seed("ranges"));
    struct ranges in = {NULL, 0, 0};
    struct ranges out = {NULL, 0, 0};
    unsigned weight = 50;
    for (size_t i = 0; i < 30000; i++) {
        if (gen_chance(&g, 1)) {
            weight = (unsigned)gen_below(&g, 101);
        }
        step(&g, &in, added, weight);
        step(&g, &out, excluded, 100 - weight);
        check_outside(&out, any_extent(&g));
    }
}

// Small pieces far apart, so that the list grows, and one that takes them all.
static void test_many(void **state) {
    (void)state;
    struct ranges ranges = {NULL, 0, 0};
    for (uintptr_t i = 0; i < 5000; i++) {
        uintptr_t at = (i * 7919 % 5000 + 1) * 100;
        assert_true(ranges_add(&ranges, (struct extent){at, at + 8}));
        assert_int_equal(ranges.count, i + 1);
    }
    for (size_t i = 1; i < ranges.count; i++) {
        assert_true(ranges.extents[i - 1].end < ranges.extents[i].start); // A2
    }
    assert_true(ranges_add(&ranges, (struct extent){1, 1000000}));
    assert_int_equal(ranges.count, 1); // A1
    bool removed;
    assert_true(ranges_remove(&ranges, (struct extent){500, 600}, &removed));
    assert_true(removed);
    assert_int_equal(ranges.count, 2);
    assert_true(
        ranges_remove(&ranges, (struct extent){1, UINTPTR_MAX}, &removed));
    assert_int_equal(ranges.count, 0);
}

static void scan_one(void) {
}

static void scan_two(void) {
}

static void test_scanners(void **state) {
    (void)state;
    int data[40];
    struct scanners scanners = {NULL, 0, 0};
    for (size_t i = 0; i < 40; i++) {
        struct scanner scanner = {scan_one, &data[i]};
        assert_true(ranges_add_scanner(&scanners, scanner));
        assert_true(ranges_add_scanner(&scanners, scanner)); // once
        assert_int_equal(scanners.count, i + 1);
    }
    assert_false(
        ranges_remove_scanner(&scanners, (struct scanner){scan_two, &data[0]}));
    assert_true(
        ranges_add_scanner(&scanners, (struct scanner){scan_two, &data[0]}));
    assert_int_equal(scanners.count, 41);
    for (size_t i = 0; i < 40; i++) {
        struct scanner scanner = {scan_one, &data[i]};
        assert_true(ranges_remove_scanner(&scanners, scanner));
        assert_false(ranges_remove_scanner(&scanners, scanner));
    }
    assert_int_equal(scanners.count, 1);
    assert_true(scanners.items[0].function == scan_two);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_scanners),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
