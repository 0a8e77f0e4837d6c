// loam_roots_add, remove, exclude and the scanners: what is scanned at which
// moment, to the word.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "loam.h"
#include "support/gen.h"
#include "support/scrub.h"

#define COUNT 512 // words of the area

static void **area; // malloc'ed: the collector does not read it by itself
static uintptr_t hidden[COUNT];

static int make_area(void **state) {
    (void)state;
    area = malloc(COUNT * sizeof *area);
    memset(area, 0, COUNT * sizeof *area);
    return 0;
}

static int drop_area(void **state) {
    (void)state;
    loam_roots_remove(area, COUNT * sizeof *area);
    free(area);
    return 0;
}

NOT_INLINED static void plant(void) {
    loam_disable(); // the area may not be a root yet
    for (size_t i = 0; i < COUNT; i++) {
        area[i] = loam_alloc(40);
        hidden[i] = LOAM_HIDE(area[i]);
    }
    loam_enable();
}

static bool is_alive(size_t i) {
    void *p = LOAM_REVEAL(hidden[i]);
    return loam_base(p) == p;
}

// How many are there in words from .. to-1.
static size_t count_alive(size_t from, size_t to) {
    size_t alive = 0;
    for (size_t i = from; i < to; i++) {
        alive += is_alive(i);
    }
    return alive;
}

// Exactly the words from .. to-1 are scanned, chance aside.
static void expect_scanned(size_t from, size_t to) {
    plant();
    scrub_collect();
    assert_int_equal(count_alive(from, to), to - from);
    assert_true(count_alive(0, from) + count_alive(to, COUNT) <= 20);
}

#define BYTES(words) ((words) * sizeof(void *))

static void test_add_and_remove(void **state) {
    (void)state;
    expect_scanned(0, 0);
    assert_true(loam_roots_add(area, BYTES(COUNT)));
    expect_scanned(0, COUNT);
    assert_true(loam_roots_remove(area, BYTES(COUNT)));
    expect_scanned(0, 0);
    assert_false(loam_roots_remove(area, BYTES(COUNT)));
}

static void test_bad_ranges(void **state) {
    (void)state;
    const volatile size_t all = SIZE_MAX;
    assert_false(loam_roots_add(area, 0));
    assert_false(loam_roots_add(area, all));
    assert_false(loam_roots_add((char *)UINTPTR_MAX - 10, 100));
    assert_false(loam_roots_remove(area, 0));
    assert_false(loam_roots_remove(area, BYTES(COUNT)));
    expect_scanned(0, 0);
}

// Bytes that are not whole words at either end belong to no word.
static void test_unaligned(void **state) {
    (void)state;
    char *start = (char *)area;
    assert_true(loam_roots_add(start + 1, BYTES(100) - 2));
    expect_scanned(1, 99);
    assert_true(loam_roots_remove(start + 1, BYTES(100) - 2));
    expect_scanned(0, 0);
}

static void test_partial_removal(void **state) {
    (void)state;
    assert_true(loam_roots_add(area, BYTES(COUNT)));
    assert_true(loam_roots_remove(area, BYTES(100))); // the front
    expect_scanned(100, COUNT);
    assert_true(loam_roots_remove(&area[400], BYTES(COUNT))); // and the tail
    expect_scanned(100, 400);
    assert_true(loam_roots_remove(&area[200], BYTES(100))); // a split
    plant();
    scrub_collect();
    assert_int_equal(count_alive(100, 200), 100);
    assert_int_equal(count_alive(300, 400), 100);
    assert_true(count_alive(200, 300) <= 20);
    assert_true(loam_roots_remove(area, BYTES(COUNT))); // both halves at once
    expect_scanned(0, 0);
}

static void test_overlapping(void **state) {
    (void)state;
    assert_true(loam_roots_add(area, BYTES(300)));
    assert_true(loam_roots_add(&area[200], BYTES(200)));
    assert_true(loam_roots_add(&area[250], BYTES(10)));
    expect_scanned(0, 400);
    assert_true(loam_roots_remove(&area[200], BYTES(200)));
    expect_scanned(0, 200); // whoever added it: nothing is left there
    assert_true(loam_roots_remove(area, BYTES(COUNT)));
    expect_scanned(0, 0);
}

// Any sequence of additions and removals: the union of what was added since it
// was last removed is scanned, word by word.
static void test_random_ranges(void **state) {
    (void)state;
    struct gen g;
    gen_init(&g, gen_seed("root ranges"));
    bool wanted[COUNT] = {false};
    for (size_t step = 0; step < 300; step++) {
        size_t from = gen_below(&g, COUNT);
        size_t count = 1 + gen_below(&g, COUNT - from);
        bool add = gen_chance(&g, 50);
        bool any = false;
        for (size_t i = from; i < from + count; i++) {
            any = any || wanted[i];
            wanted[i] = add;
        }
        bool done = add ? loam_roots_add(&area[from], BYTES(count))
                        : loam_roots_remove(&area[from], BYTES(count));
        assert_true(done == (add || any));
        plant();
        scrub_collect();
        size_t extra = 0;
        for (size_t i = 0; i < COUNT; i++) {
            assert_true(!wanted[i] || is_alive(i));
            extra += !wanted[i] && is_alive(i);
        }
        assert_true(extra <= 20);
    }
}

// Many separate ranges.
static void test_many(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT; i += 2) {
        assert_true(loam_roots_add(&area[i], BYTES(1)));
    }
    plant();
    scrub_collect();
    size_t extra = 0;
    for (size_t i = 0; i < COUNT; i++) {
        assert_true(i % 2 || is_alive(i));
        extra += i % 2 && is_alive(i);
    }
    assert_true(extra <= 20);
}

// --- Scanners ----------------------------------------------------------

struct scan {
    size_t calls;     // how often the scanner was called
    size_t from, to;  // the words that it pushes
    bool collected;   // what loam_collect said inside it
    bool try_collect; // whether to ask it
};

static void scan_area(loam_push_fn *push, void *cycle, void *data) {
    struct scan *scan = data;
    scan->calls++;
    if (scan->to > scan->from) {
        push(cycle, &area[scan->from], BYTES(scan->to - scan->from));
    }
    if (scan->try_collect) {
        scan->collected = loam_collect();
    }
}

static void test_scanner(void **state) {
    (void)state;
    struct scan scan = {.from = 10, .to = 200};
    assert_true(loam_roots_scanner(scan_area, &scan));
    size_t calls = scan.calls;
    expect_scanned(10, 200);
    assert_true(scan.calls > calls);
    scan.from = 300;
    scan.to = COUNT;
    expect_scanned(300, COUNT);
    scan.from = scan.to;
    expect_scanned(0, 0);
    calls = scan.calls;
    assert_true(loam_roots_scanner_remove(scan_area, &scan));
    assert_false(loam_roots_scanner_remove(scan_area, &scan));
    loam_collect();
    assert_int_equal(scan.calls, calls);
}

// The same function with other data is another scanner; with the same it is
// the one that is there already: called once, gone at the first removal.
static void test_scanner_once(void **state) {
    (void)state;
    struct scan one = {.from = 0, .to = 100};
    struct scan two = {.from = 100, .to = 200};
    assert_true(loam_roots_scanner(scan_area, &one));
    (void)loam_roots_scanner(scan_area, &one);
    loam_collect();
    assert_int_equal(one.calls, 1);
    assert_true(loam_roots_scanner(scan_area, &two));
    expect_scanned(0, 200);
    assert_true(loam_roots_scanner_remove(scan_area, &one));
    expect_scanned(100, 200);
    assert_true(loam_roots_scanner_remove(scan_area, &two));
}

static void test_collect_inside_scanner(void **state) {
    (void)state;
    struct scan scan = {.try_collect = true, .collected = true};
    assert_true(loam_roots_scanner(scan_area, &scan));
    assert_true(loam_collect());
    assert_int_equal(scan.calls, 1);
    assert_false(scan.collected);
    assert_true(loam_roots_scanner_remove(scan_area, &scan));
}

// --- Exclusions --------------------------------------------------------

static void *excluded_words[COUNT]; // a global array that holds numbers

static void test_exclude(void **state) {
    (void)state;
    plant();
    memcpy(excluded_words, area, sizeof excluded_words);
    scrub_collect();
    assert_int_equal(count_alive(0, COUNT), COUNT); // a global is a root
    assert_true(loam_roots_exclude(&excluded_words[100], BYTES(300)));
    scrub_collect();
    assert_int_equal(count_alive(0, 100), 100);
    assert_int_equal(count_alive(400, COUNT), COUNT - 400);
    assert_true(count_alive(100, 400) <= 20);
    // Whoever says that it is one.
    assert_true(loam_roots_add(excluded_words, BYTES(COUNT)));
    plant();
    memcpy(excluded_words, area, sizeof excluded_words);
    scrub_collect();
    assert_int_equal(count_alive(0, 100), 100);
    assert_true(count_alive(100, 400) <= 20);
    assert_int_equal(count_alive(400, COUNT), COUNT - 400);
    const volatile size_t all = SIZE_MAX;
    assert_false(loam_roots_exclude(area, 0));
    assert_false(loam_roots_exclude(area, all));
}

static void test_exclude_from_added(void **state) {
    (void)state;
    // The last test on this area: the exclusion stays.
    assert_true(loam_roots_add(area, BYTES(COUNT)));
    assert_true(loam_roots_exclude(&area[50], BYTES(50)));
    plant();
    scrub_collect();
    assert_int_equal(count_alive(0, 50), 50);
    assert_true(count_alive(50, 100) <= 20);
    assert_int_equal(count_alive(100, COUNT), COUNT - 100);
}

#define ON_AREA(test)                                                          \
    cmocka_unit_test_setup_teardown(test, make_area, drop_area)

int main(void) {
    const struct CMUnitTest tests[] = {
        ON_AREA(test_add_and_remove), ON_AREA(test_bad_ranges),
        ON_AREA(test_unaligned),      ON_AREA(test_partial_removal),
        ON_AREA(test_overlapping),    ON_AREA(test_random_ranges),
        ON_AREA(test_many),           ON_AREA(test_scanner),
        ON_AREA(test_scanner_once),   ON_AREA(test_collect_inside_scanner),
        ON_AREA(test_exclude),        ON_AREA(test_exclude_from_added),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
