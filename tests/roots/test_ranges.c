// Ranges against a universe of few bytes, each of which knows whether it is in.

#include "roots/ranges.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "heap/meta.h"
#include "support/gen.h"
#include "support/step.h"

#define BYTES ((size_t)160)
#define START ((uintptr_t)1000) // the address of the universe's first byte

static bool added[BYTES], excluded[BYTES], seen[BYTES];

static void check_set(const struct ranges *ranges, const bool *model) {
    bool found[BYTES] = {false};
    for (size_t i = 0; i < ranges_count(ranges); i++) {
        struct extent extent = ranges_get(ranges, i);
        assert_true(extent.start < extent.end);
        // In order, and with a byte between them (A2).
        assert_true(i == 0 || ranges_get(ranges, i - 1).end < extent.start);
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
    struct ranges in = {NULL, NULL};
    struct ranges out = {NULL, NULL};
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
    struct ranges ranges = {NULL, NULL};
    for (uintptr_t i = 0; i < 5000; i++) {
        uintptr_t at = (i * 7919 % 5000 + 1) * 100;
        assert_true(ranges_add(&ranges, (struct extent){at, at + 8}));
        assert_int_equal(ranges_count(&ranges), i + 1);
    }
    for (size_t i = 1; i < ranges_count(&ranges); i++) {
        assert_true(ranges_get(&ranges, i - 1).end <
                    ranges_get(&ranges, i).start); // A2
    }
    assert_true(ranges_add(&ranges, (struct extent){1, 1000000}));
    assert_int_equal(ranges_count(&ranges), 1); // A1
    bool removed;
    assert_true(ranges_remove(&ranges, (struct extent){500, 600}, &removed));
    assert_true(removed);
    assert_int_equal(ranges_count(&ranges), 2);
    assert_true(
        ranges_remove(&ranges, (struct extent){1, UINTPTR_MAX}, &removed));
    assert_int_equal(ranges_count(&ranges), 0);
}

static void scan_one(void) {
}

static void scan_two(void) {
}

static size_t count_scanners(const struct scanners *scanners) {
    size_t count = 0;
    const struct scanner_link *link = scanners->first;
    for (; link != NULL; link = link->next) {
        count++;
    }
    return count;
}

static void test_scanners(void **state) {
    (void)state;
    int data[40];
    struct scanners scanners = {NULL};
    for (size_t i = 0; i < 40; i++) {
        struct scanner scanner = {scan_one, &data[i]};
        assert_true(ranges_add_scanner(&scanners, scanner));
        assert_true(ranges_add_scanner(&scanners, scanner)); // once
        assert_int_equal(count_scanners(&scanners), i + 1);
    }
    assert_false(
        ranges_remove_scanner(&scanners, (struct scanner){scan_two, &data[0]}));
    assert_true(
        ranges_add_scanner(&scanners, (struct scanner){scan_two, &data[0]}));
    assert_int_equal(count_scanners(&scanners), 41);
    for (size_t i = 0; i < 40; i++) {
        struct scanner scanner = {scan_one, &data[i]};
        assert_true(ranges_remove_scanner(&scanners, scanner));
        assert_false(ranges_remove_scanner(&scanners, scanner));
    }
    assert_int_equal(count_scanners(&scanners), 1);
    assert_true(scanners.first->scanner.function == scan_two);
}

// --- Children in the middle of a change ------------------------------------

struct change {
    struct ranges ranges;
    struct scanners scanners;
    int data[3];
    size_t done; // changes
    size_t children, failed;
};

// Five changes: appended, before the others, merged, cut in two, taken away;
// and two of scanners.
static void change(void *data) {
    struct change *c = data;
    bool removed;
    (void)!ranges_add(&c->ranges, (struct extent){900, 950});
    c->done = 1;
    (void)!ranges_add(&c->ranges, (struct extent){10, 20});
    c->done = 2;
    (void)!ranges_add(&c->ranges, (struct extent){150, 350});
    c->done = 3;
    (void)!ranges_remove(&c->ranges, (struct extent){910, 920}, &removed);
    c->done = 4;
    (void)!ranges_remove(&c->ranges, (struct extent){10, 20}, &removed);
    c->done = 5;
    struct scanner scanner = {scan_one, &c->data[2]};
    (void)!ranges_add_scanner(&c->scanners, scanner);
    c->done = 6;
    scanner.data = &c->data[0];
    (void)ranges_remove_scanner(&c->scanners, scanner);
    c->done = 7;
}

// The list as it should be after `done` changes.
static bool is_after(const struct change *c, size_t done) {
    static const struct extent lists[][6] = {
        {{100, 200}, {300, 400}, {500, 600}},
        {{100, 200}, {300, 400}, {500, 600}, {900, 950}},
        {{10, 20}, {100, 200}, {300, 400}, {500, 600}, {900, 950}},
        {{10, 20}, {100, 400}, {500, 600}, {900, 950}},
        {{10, 20}, {100, 400}, {500, 600}, {900, 910}, {920, 950}},
        {{100, 400}, {500, 600}, {900, 910}, {920, 950}}};
    const struct extent *list = lists[done < 5 ? done : 5];
    size_t count = 0;
    while (count < 6 && list[count].end != 0) {
        count++;
    }
    if (ranges_count(&c->ranges) != count ||
        count_scanners(&c->scanners) != (done == 6 ? 3 : 2)) {
        return false;
    }
    return memcmp(c->ranges.now->items, list, count * sizeof *list) == 0;
}

static bool live_on(size_t instructions, void *data) {
    struct change *c = data;
    (void)instructions;
    meta_forked();
    bool whole = is_after(c, c->done) || is_after(c, c->done + 1); // A5
    bool removed = false;
    whole = whole && ranges_add(&c->ranges, (struct extent){1, 5}) &&
            ranges_add(&c->ranges, (struct extent){2000, 2005}) &&
            ranges_remove(&c->ranges, (struct extent){550, 551}, &removed);
    return whole && removed && ranges_get(&c->ranges, 0).start == 1;
}

static void test_forked(void **state) {
    (void)state;
    static struct change c;
    for (uintptr_t i = 1; i <= 5; i += 2) {
        assert_true(
            ranges_add(&c.ranges, (struct extent){i * 100, i * 100 + 100}));
    }
    for (size_t i = 0; i < 2; i++) {
        assert_true(ranges_add_scanner(&c.scanners,
                                       (struct scanner){scan_one, &c.data[i]}));
    }
    struct step_forks forks = {change, live_on, &c, 1, 0, 0};
    if (!step_fork(&forks)) {
        skip();
    }
    assert_true(forks.children > 100);
    assert_int_equal(forks.failed, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_scanners),
        cmocka_unit_test(test_forked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
