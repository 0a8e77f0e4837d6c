// What kinds of object promise: pinned ones stay, leaves hold nothing, base-
// only arrays need a pointer into their first 4 KiB; loam_keep and LOAM_HIDE.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "loam.h"
#include "support/scrub.h"

#define COUNT 100

static uintptr_t hidden[COUNT];
static void *holders[COUNT];

static size_t count_alive(void) {
    size_t alive = 0;
    scrub_collect();
    for (size_t i = 0; i < COUNT; i++) {
        void *p = LOAM_REVEAL(hidden[i]);
        alive += loam_base(p) == p;
    }
    return alive;
}

static const size_t sizes[] = {8, 100, 3000, 9000, 70000, 300000};
#define SIZES (sizeof sizes / sizeof sizes[0])

NOT_INLINED static void plant(void *(*alloc)(size_t)) {
    loam_disable(); // no address twice
    for (size_t i = 0; i < COUNT; i++) {
        unsigned char *p = alloc(sizes[i % SIZES]);
        memset(p, (int)i, sizes[i % SIZES]);
        hidden[i] = LOAM_HIDE(p);
    }
    loam_enable();
}

static void test_pinned_stays(void **state) {
    (void)state;
    void *(*const allocs[])(size_t) = {loam_alloc_pinned,
                                       loam_alloc_leaf_pinned};
    for (size_t k = 0; k < 2; k++) {
        plant(allocs[k]);
        for (size_t round = 0; round < 5; round++) {
            assert_int_equal(count_alive(), COUNT);
        }
        for (size_t i = 0; i < COUNT; i++) {
            unsigned char *p = LOAM_REVEAL(hidden[i]);
            assert_int_equal(p[0], i);
            assert_int_equal(p[sizes[i % SIZES] - 1], i);
            loam_free(p);
        }
        assert_int_equal(count_alive(), 0);
    }
}

// The control: what nothing holds is gone.
static void test_others_go(void **state) {
    (void)state;
    void *(*const allocs[])(size_t) = {loam_alloc, loam_alloc_leaf,
                                       loam_alloc_base_only};
    for (size_t k = 0; k < 3; k++) {
        plant(allocs[k]);
        assert_true(count_alive() <= 20);
    }
}

// holders[i]'s last word points to an object of its own.
NOT_INLINED static void hang(void *(*alloc)(size_t)) {
    loam_disable(); // no address twice
    for (size_t i = 0; i < COUNT; i++) {
        size_t bytes = sizes[i % SIZES];
        void **p = alloc(bytes);
        void *child = loam_alloc_leaf(50);
        p[bytes / sizeof *p - 1] = child;
        hidden[i] = LOAM_HIDE(child);
        holders[i] = p;
    }
    loam_enable();
}

static void test_pinned_is_a_root(void **state) {
    (void)state;
    uintptr_t pinned[COUNT];
    hang(loam_alloc_pinned);
    for (size_t i = 0; i < COUNT; i++) {
        pinned[i] = LOAM_HIDE(holders[i]);
        holders[i] = NULL;
    }
    assert_int_equal(count_alive(), COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        loam_free(LOAM_REVEAL(pinned[i]));
    }
    assert_true(count_alive() <= 20);
}

static void test_leaves_hold_nothing(void **state) {
    (void)state;
    void *(*const allocs[])(size_t) = {loam_alloc_leaf, loam_alloc_leaf_pinned};
    for (size_t k = 0; k < 2; k++) {
        hang(allocs[k]);
        assert_true(count_alive() <= 20);
        for (size_t i = 0; i < COUNT; i++) {
            assert_ptr_equal(loam_base(holders[i]), holders[i]);
            loam_free(holders[i]);
            holders[i] = NULL;
        }
    }
}

NOT_INLINED static void plant_base_only(size_t bytes, size_t offset) {
    loam_disable(); // no address twice
    for (size_t i = 0; i < COUNT; i++) {
        char *p = loam_alloc_base_only(bytes);
        hidden[i] = LOAM_HIDE(p);
        holders[i] = p + offset;
    }
    loam_enable();
}

static void test_base_only(void **state) {
    (void)state;
    static const size_t inside[] = {0, 1, 8, 100, 2048, 4088, 4095};
    static const size_t outside[] = {4200, 4501,  5000, 8191,
                                     8192, 20000, 39999};
    static const size_t lengths[] = {40000, 70000, 200000, 400000};
    for (size_t i = 0; i < 7; i++) {
        for (size_t k = 0; k < 4; k++) {
            plant_base_only(lengths[k], inside[i]);
            assert_int_equal(count_alive(), COUNT);
            plant_base_only(lengths[k], outside[i]);
            assert_true(count_alive() <= 20);
        }
    }
    plant_base_only(100, 99); // a small one has no such border
    assert_int_equal(count_alive(), COUNT);
    memset(holders, 0, sizeof holders);
}

// A base-only array is scanned to its end.
static void test_base_only_is_scanned(void **state) {
    (void)state;
    hang(loam_alloc_base_only);
    assert_int_equal(count_alive(), COUNT);
    memset(holders, 0, sizeof holders);
    assert_true(count_alive() <= 20);
}

// A local that has no further use but loam_keep survives up to that line.
NOT_INLINED static size_t keep_one(void) {
    void *p = loam_alloc(100);
    uintptr_t name = LOAM_HIDE(p);
    scrub_collect();
    size_t alive = loam_is_heap(LOAM_REVEAL(name));
    loam_keep(p);
    return alive;
}

static void test_keep(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT; i++) {
        assert_int_equal(keep_one(), 1);
    }
    loam_keep(NULL);
}

NOT_INLINED static void plant_hidden(void) {
    loam_disable();                // no address twice
    static uintptr_t names[COUNT]; // a scanned place full of hidden pointers
    for (size_t i = 0; i < COUNT; i++) {
        void *p = loam_alloc(64);
        names[i] = LOAM_HIDE(p);
        assert_ptr_equal(LOAM_REVEAL(names[i]), p);
        hidden[i] = names[i];
    }
    loam_enable();
}

static void test_hide(void **state) {
    (void)state;
    plant_hidden();
    assert_true(count_alive() <= 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pinned_stays),
        cmocka_unit_test(test_others_go),
        cmocka_unit_test(test_pinned_is_a_root),
        cmocka_unit_test(test_leaves_hold_nothing),
        cmocka_unit_test(test_base_only),
        cmocka_unit_test(test_base_only_is_scanned),
        cmocka_unit_test(test_keep),
        cmocka_unit_test(test_hide),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
