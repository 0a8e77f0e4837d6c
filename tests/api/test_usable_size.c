// Scanned bytes are usable bytes: every word of what loam_usable_size reports
// may hold a pointer, and keeps what it points to.  In leaves no word does.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "loam.h"
#include "support/scrub.h"

typedef void *alloc_fn(size_t bytes);

static void *alloc_aligned_256(size_t bytes) {
    return loam_alloc_aligned(256, bytes);
}

static void *calloc_bytes(size_t bytes) {
    return loam_calloc(bytes, 1);
}

static void *alloc_moved(size_t bytes) {
    return loam_realloc(loam_alloc(bytes / 3 + 1), bytes);
}

static void **holder; // the only pointer to the object under test

// Fills every word with a pointer to an object of its own, each of which knows
// its place.
NOT_INLINED static void fill(alloc_fn *alloc, size_t bytes) {
    holder = alloc(bytes);
    size_t words = loam_usable_size(holder) / sizeof(void *);
    assert_true(words * sizeof(void *) >= bytes);
    for (size_t i = 0; i < words; i++) {
        size_t *child = loam_alloc_leaf(sizeof(size_t));
        *child = i * 3 + 1;
        holder[i] = child;
    }
}

// Reuses whatever was wrongly reclaimed.
NOT_INLINED static void trample(size_t count) {
    for (size_t i = 0; i < count; i++) {
        memset(loam_alloc_leaf(sizeof(size_t)), 0xFF, sizeof(size_t));
    }
}

static void check(alloc_fn *alloc, size_t bytes) {
    fill(alloc, bytes);
    scrub_collect();
    trample(1000);
    size_t words = loam_usable_size(holder) / sizeof(void *);
    for (size_t i = 0; i < words; i++) {
        size_t *child = holder[i];
        assert_ptr_equal(loam_base(child), child);
        assert_int_equal(*child, i * 3 + 1);
    }
    holder = NULL;
}

static const size_t sizes[] = {
    0,      1,      16,     17,     40,      100,
    129,    250,    500,    1000,   1025,    2000,
    4000,   5000,   8191,   8192,   8193,    9000,
    12345,  16400,  30000,  65535,  65536,   65537,
    100001, 262144, 262145, 300000, 1 << 20, (1 << 20) + 4097};
#define SIZES (sizeof sizes / sizeof sizes[0])

static void test_every_word(void **state) {
    (void)state;
    alloc_fn *const allocs[] = {loam_alloc, calloc_bytes, alloc_aligned_256,
                                alloc_moved, loam_alloc_base_only};
    for (size_t k = 0; k < sizeof allocs / sizeof allocs[0]; k++) {
        for (size_t i = 0; i < SIZES; i++) {
            if (k && sizes[i] > SCALED(1 << 20, 20000)) {
                continue;
            }
            check(allocs[k], sizes[i]);
        }
    }
}

static void test_every_size(void **state) {
    (void)state;
    for (size_t bytes = 0; bytes < SCALED(2100, 300); bytes += 8) {
        check(loam_alloc, bytes);
    }
}

static void test_pinned(void **state) {
    (void)state;
    for (size_t i = 0; i < SIZES && sizes[i] < 100000; i++) {
        fill(loam_alloc_pinned, sizes[i]);
        uintptr_t hidden = LOAM_HIDE(holder);
        holder = NULL;
        scrub_collect();
        void **p = LOAM_REVEAL(hidden);
        size_t words = loam_usable_size(p) / sizeof(void *);
        for (size_t k = 0; k < words; k++) {
            assert_ptr_equal(loam_base(p[k]), p[k]);
            assert_int_equal(*(size_t *)p[k], k * 3 + 1);
        }
        loam_free(p);
    }
}

static uintptr_t *hidden_words;

NOT_INLINED static size_t hide_children(void) {
    size_t words = loam_usable_size(holder) / sizeof(void *);
    for (size_t i = 0; i < words; i++) {
        hidden_words[i] = LOAM_HIDE(holder[i]);
    }
    return words;
}

static void test_no_word_of_a_leaf(void **state) {
    (void)state;
    alloc_fn *const allocs[] = {loam_alloc_leaf, loam_alloc_leaf_pinned};
    hidden_words = malloc(2 << 20);
    for (size_t i = 0; i < SIZES; i++) {
        // The children must not die while the leaf is being filled.
        loam_disable();
        fill(allocs[i % 2], sizes[i] < 4000 ? sizes[i] + 4000 : sizes[i]);
        loam_enable();
        size_t words = hide_children();
        scrub_collect();
        size_t alive = 0;
        for (size_t k = 0; k < words; k++) {
            alive += loam_is_heap(LOAM_REVEAL(hidden_words[k]));
        }
        assert_true(alive <= 20 + words / 100);
        loam_free(holder);
        holder = NULL;
    }
    free(hidden_words);
}

// 0 for what is not the start of an object.
static void test_of_others(void **state) {
    (void)state;
    long local = 0;
    char *p = loam_alloc(1000);
    assert_int_equal(loam_usable_size(NULL), 0);
    assert_int_equal(loam_usable_size(&local), 0);
    assert_int_equal(loam_usable_size(&holder), 0);
    assert_int_equal(loam_usable_size((void *)UINTPTR_MAX), 0);
    for (size_t i = 1; i < loam_usable_size(p); i++) {
        assert_int_equal(loam_usable_size(p + i), 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_word),
        cmocka_unit_test(test_every_size),
        cmocka_unit_test(test_pinned),
        cmocka_unit_test(test_no_word_of_a_leaf),
        cmocka_unit_test(test_of_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
