// loam_realloc: contents, kind, zeroed tail, the two special arguments, and
// what it refuses.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "loam.h"
#include "loam/typed.h"
#include "support/gen.h"
#include "support/scrub.h"

static const size_t sizes[] = {
    1,    15,   16,    17,    100,   128,    129,    500,     1000,   4096,
    8192, 8193, 20000, 65536, 65537, 200000, 300000, 1 << 20, 5 << 20};
#define SIZES (sizeof sizes / sizeof sizes[0])

static void fill(unsigned char *p, size_t count) {
    for (size_t i = 0; i < count; i++) {
        p[i] = (unsigned char)(i * 7 + 1);
    }
}

static void check_fill(const unsigned char *p, size_t count) {
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(p[i], (unsigned char)(i * 7 + 1));
    }
}

static void check_one(void *(*alloc)(size_t), bool zeroed, size_t from,
                      size_t to) {
    unsigned char *old = alloc(from);
    size_t old_usable = loam_usable_size(old);
    fill(old, old_usable);
    uintptr_t hidden = LOAM_HIDE(old);
    unsigned char *p = loam_realloc(old, to);
    assert_non_null(p);
    assert_int_equal((uintptr_t)p % 16, 0);
    size_t usable = loam_usable_size(p);
    assert_true(usable >= to);
    check_fill(p, old_usable < to ? old_usable : to);
    for (size_t i = old_usable; zeroed && i < usable; i++) {
        assert_int_equal(p[i], 0);
    }
    if ((void *)p != LOAM_REVEAL(hidden)) { // moved: the old one is freed
        assert_int_equal(loam_usable_size(LOAM_REVEAL(hidden)), 0);
    }
}

static void test_all_pairs(void **state) {
    (void)state;
    for (size_t from = 0; from < SIZES; from++) {
        for (size_t to = 0; to < SIZES; to++) {
            check_one(loam_alloc, true, sizes[from], sizes[to]);
            check_one(loam_alloc_leaf, false, sizes[from], sizes[to]);
            check_one(loam_alloc_base_only, true, sizes[from], sizes[to]);
        }
    }
}

static void test_small_steps(void **state) {
    (void)state;
    unsigned char *p = NULL;
    for (size_t bytes = 1; bytes < 3000; bytes++) {
        p = loam_realloc(p, bytes);
        assert_true(loam_usable_size(p) >= bytes);
        p[bytes - 1] = (unsigned char)((bytes - 1) * 7 + 1);
        check_fill(p, bytes);
    }
    for (size_t bytes = 3000; bytes > 0; bytes--) {
        p = loam_realloc(p, bytes);
        check_fill(p, bytes < 2999 ? bytes : 2999);
    }
}

// What was cut off is gone: grown again, those bytes are new, hence zero.
static void test_shrink_and_grow(void **state) {
    (void)state;
    for (size_t from = 0; from < SIZES; from++) {
        for (size_t to = 0; to < from; to++) {
            unsigned char *p = loam_alloc(sizes[from]);
            fill(p, sizes[from]);
            p = loam_realloc(p, sizes[to]);
            check_fill(p, sizes[to]);
            p = loam_realloc(p, sizes[from]);
            check_fill(p, sizes[to]);
            for (size_t i = sizes[to]; i < sizes[from]; i++) {
                assert_int_equal(p[i], 0);
            }
        }
        for (size_t cut = 1; cut < sizes[from] && cut < 9; cut++) {
            unsigned char *p = loam_alloc(sizes[from]);
            fill(p, sizes[from]);
            p = loam_realloc(loam_realloc(p, sizes[from] - cut), sizes[from]);
            check_fill(p, sizes[from] - cut);
            for (size_t i = sizes[from] - cut; i < sizes[from]; i++) {
                assert_int_equal(p[i], 0);
            }
        }
    }
}

static void test_null_and_zero(void **state) {
    (void)state;
    unsigned char *p = loam_realloc(NULL, 100);
    assert_int_equal(loam_usable_size(p), loam_usable_size(loam_alloc(100)));
    for (size_t i = 0; i < loam_usable_size(p); i++) {
        assert_int_equal(p[i], 0);
    }
    struct loam_stats before;
    struct loam_stats after;
    loam_stats(&before, sizeof before);
    assert_null(loam_realloc(p, 0));
    loam_stats(&after, sizeof after);
    assert_true(after.freed_bytes > before.freed_bytes);
    assert_false(loam_is_heap(p));
    assert_non_null(loam_realloc(NULL, 0)); // loam_alloc(0)
}

// Whether an object stays alive that only `*p`'s first word points to.
NOT_INLINED static uintptr_t hang(void **p) {
    p[0] = loam_alloc(48);
    return LOAM_HIDE(p[0]);
}

#define TRIES 64
static void **holders[TRIES];
static uintptr_t hung[TRIES];

NOT_INLINED static void hang_all(void *(*alloc)(size_t), size_t from,
                                 size_t to) {
    loam_disable(); // no address twice
    for (size_t i = 0; i < TRIES; i++) {
        holders[i] = alloc(from);
        memset(holders[i], 0, from);
        holders[i] = loam_realloc(holders[i], to);
        hung[i] = hang(holders[i]);
    }
    loam_enable();
}

static size_t count_alive(void) {
    size_t alive = 0;
    scrub_collect();
    for (size_t i = 0; i < TRIES; i++) {
        alive += loam_is_heap(LOAM_REVEAL(hung[i]));
    }
    return alive;
}

static void *alloc_numbers(size_t bytes) {
    static const struct loam_layout *layout;
    // Past the first KiB of a layout its objects are exact.
    layout = loam_layout(64, (const size_t[]){8}, 1);
    return loam_calloc_typed(layout, bytes / 64);
}

static void test_keeps_kind(void **state) {
    (void)state;
    static const size_t pairs[][2] = {
        {64, 6400}, {6400, 64}, {64, 640000}, {640000, 64}, {1280, 1344}};
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        size_t from = pairs[i][0];
        size_t to = pairs[i][1];
        hang_all(loam_alloc, from, to);
        assert_int_equal(count_alive(), TRIES);
        hang_all(loam_alloc_leaf, from, to);
        assert_true(count_alive() < TRIES / 4);
        hang_all(loam_alloc_base_only, from, to);
        assert_int_equal(count_alive(), TRIES);
        for (size_t k = 0; k < 1000; k++) {
            (void)!alloc_numbers(64);
        }
        hang_all(alloc_numbers, from, to); // word 0 is not declared
        assert_true(count_alive() < TRIES / 4);
    }
    memset(holders, 0, sizeof holders);
}

static void test_keeps_pinned(void **state) {
    (void)state;
    uintptr_t hidden[TRIES];
    for (size_t i = 0; i < TRIES; i++) {
        void **p = i % 2 ? loam_alloc_pinned(40) : loam_alloc_leaf_pinned(40);
        p = loam_realloc(p, 40 + i * 500);
        hidden[i] = LOAM_HIDE(p);
        p[0] = i % 2 ? loam_alloc(32) : NULL;
    }
    scrub_collect();
    for (size_t i = 0; i < TRIES; i++) {
        void **p = LOAM_REVEAL(hidden[i]);
        assert_ptr_equal(loam_base(p), p);
        assert_true(i % 2 == 0 || loam_is_heap(p[0]));
        loam_free(p);
    }
}

static unsigned warnings;

static void count_warning(const char *sentence, void *data) {
    (void)data;
    assert_non_null(sentence);
    warnings++;
}

// What is not the start of an object is reported and refused; nothing changes.
static void test_misuse(void **state) {
    (void)state;
    loam_set_warning_hook(count_warning, NULL);
    long local[4] = {1, 2, 3, 4};
    char *p = loam_alloc(100);
    char *freed = loam_alloc(100);
    uintptr_t hidden = LOAM_HIDE(freed);
    loam_free(freed);
    void *const bad[] = {p + 8, p + 1, local, LOAM_REVEAL(hidden), (void *)16};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        unsigned before = warnings;
        assert_null(loam_realloc(bad[i], 200));
        assert_true(warnings > before);
    }
    assert_ptr_equal(loam_base(p), p);
    assert_int_equal(local[3], 4);
    loam_set_warning_hook(NULL, NULL);
}

static void test_random_walk(void **state) {
    (void)state;
    enum { COUNT = 50 };
    static unsigned char *objects[COUNT];
    static size_t bytes[COUNT];
    struct gen g;
    gen_init(&g, gen_seed("realloc"));
    for (size_t step = 0; step < SCALED(20000, 5000); step++) {
        size_t i = gen_below(&g, COUNT);
        size_t wanted = gen_bytes(&g, 100000);
        unsigned char *p = loam_realloc(objects[i], wanted);
        assert_non_null(p);
        check_fill(p, bytes[i] < wanted ? bytes[i] : wanted);
        fill(p, wanted);
        objects[i] = p;
        bytes[i] = wanted;
    }
    memset(objects, 0, sizeof objects);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_pairs),
        cmocka_unit_test(test_small_steps),
        cmocka_unit_test(test_shrink_and_grow),
        cmocka_unit_test(test_null_and_zero),
        cmocka_unit_test(test_keeps_kind),
        cmocka_unit_test(test_keeps_pinned),
        cmocka_unit_test(test_misuse),
        cmocka_unit_test(test_random_walk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
