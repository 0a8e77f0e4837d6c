// Allocation: every size, zeroed or not, unique, aligned; and the sizes that
// no machine has.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "loam.h"
#include "support/gen.h"
#include "support/scrub.h"

static bool is_zero(const unsigned char *bytes, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (bytes[i]) {
            return false;
        }
    }
    return true;
}

// One object of `bytes`: what the header promises of every one.
static void check_object(void *p, size_t bytes, bool zeroed) {
    assert_non_null(p);
    assert_int_equal((uintptr_t)p % 16, 0);
    size_t usable = loam_usable_size(p);
    assert_true(usable >= bytes);
    assert_true(usable >= 16);
    if (zeroed) {
        assert_true(is_zero(p, usable));
    }
    memset(p, 0xE7, usable); // all of it is the program's
    assert_ptr_equal(loam_base(p), p);
    assert_ptr_equal(loam_base((char *)p + usable - 1), p);
    assert_true(loam_is_heap(p));
}

static void test_version(void **state) {
    (void)state;
    assert_true(loam_init());
    assert_true(loam_init()); // again changes nothing
    assert_string_equal(loam_version(), "0.1.0");
}

static void test_every_small_size(void **state) {
    (void)state;
    for (size_t bytes = 0; bytes <= 20000; bytes++) {
        check_object(loam_alloc(bytes), bytes, true);
        check_object(loam_alloc_leaf(bytes), bytes, false);
        check_object(loam_calloc(1, bytes), bytes, true);
        check_object(loam_calloc(bytes, 1), bytes, true);
    }
}

static void test_around_powers(void **state) {
    (void)state;
    for (size_t power = 1 << 14; power <= (size_t)64 << 20; power *= 2) {
        size_t around[] = {power - 17, power - 16,    power - 1,
                           power,      power + 1,     power + 16,
                           power + 17, power / 8 * 9, power / 8 * 9 + 1};
        for (size_t i = 0; i < sizeof around / sizeof around[0]; i++) {
            check_object(loam_alloc(around[i]), around[i], true);
            check_object(loam_alloc_leaf(around[i]), around[i], false);
        }
    }
}

// Borders of classes, whatever they are: where usable size jumps.
static void test_class_borders(void **state) {
    (void)state;
    size_t bytes = 1;
    while (bytes < (size_t)1 << 20) {
        size_t usable = loam_usable_size(loam_alloc_leaf(bytes));
        assert_true(usable >= bytes);
        check_object(loam_alloc(usable), usable, true);
        check_object(loam_alloc(usable + 1), usable + 1, true);
        bytes = usable + 1;
    }
}

// Waste: at most a granule, or an eighth and a page at the largest.
static void test_no_size_is_doubled(void **state) {
    (void)state;
    for (size_t bytes = 1; bytes < (size_t)4 << 20; bytes += 1 + bytes / 100) {
        size_t usable = loam_usable_size(loam_alloc_leaf(bytes));
        assert_true(usable - bytes <=
                    16 + bytes / 7 + (bytes > 8192 ? 4096 : 0));
    }
}

static void test_zero_bytes(void **state) {
    (void)state;
    char *former = NULL;
    char *objects[100];
    for (size_t i = 0; i < 100; i++) {
        objects[i] = loam_alloc(0);
        check_object(objects[i], 0, true);
        assert_int_equal(loam_usable_size(objects[i]), 16);
        assert_ptr_not_equal(objects[i], former);
        former = objects[i];
    }
    for (size_t i = 0; i < 100; i++) { // unique while alive
        for (size_t j = 0; j < i; j++) {
            assert_ptr_not_equal(objects[i], objects[j]);
        }
    }
    check_object(loam_alloc_leaf(0), 0, false);
    check_object(loam_calloc(0, 8), 0, true);
    check_object(loam_calloc(8, 0), 0, true);
    check_object(loam_alloc_pinned(0), 0, true);
    check_object(loam_alloc_leaf_pinned(0), 0, false);
    check_object(loam_alloc_base_only(0), 0, true);
}

// Memory that was full of ones, died, and comes back is zero again, whether a
// collection found it or free gave it.
NOT_INLINED static void fill_and_forget(size_t bytes, bool by_hand) {
    for (size_t i = 0; i < 200; i++) {
        void *p = bytes % 3 ? loam_alloc_leaf(bytes) : loam_alloc(bytes);
        memset(p, 0xFF, loam_usable_size(p));
        if (by_hand) {
            loam_free(p);
        }
    }
}

static void test_zero_on_reuse(void **state) {
    (void)state;
    static const size_t sizes[] = {1,    16,   17,    48,    100,    128,
                                   129,  500,  1000,  1024,  4000,   4096,
                                   8192, 8193, 10000, 30000, 100000, 300000};
    for (size_t round = 0; round < 4; round++) {
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            fill_and_forget(sizes[i], round % 2);
            if (round < 2) { // else what was freed is used again at once
                scrub_collect();
            }
            for (size_t k = 0; k < 100; k++) {
                unsigned char *p = loam_alloc(sizes[i]);
                assert_true(is_zero(p, loam_usable_size(p)));
            }
        }
    }
}

typedef void *alloc_fn(size_t bytes);

static void *alloc_aligned_64(size_t bytes) {
    return loam_alloc_aligned(64, bytes);
}

static void *calloc_ones(size_t bytes) {
    return loam_calloc(bytes, 1);
}

static void *realloc_null(size_t bytes) {
    return loam_realloc(NULL, bytes);
}

static void *realloc_some(size_t bytes) {
    void *p = loam_alloc(100);
    void *moved = loam_realloc(p, bytes);
    if (!moved) {
        assert_ptr_equal(loam_base(p), p); // left as it was
    }
    return moved;
}

static alloc_fn *const all[] = {
    loam_alloc,           loam_alloc_leaf,
    loam_alloc_pinned,    loam_alloc_leaf_pinned,
    loam_alloc_base_only, alloc_aligned_64,
    calloc_ones,          realloc_null,
    realloc_some,
};

static void test_absurd_sizes(void **state) {
    (void)state;
    static const volatile size_t sizes[] = {
        SIZE_MAX,         SIZE_MAX - 1,       SIZE_MAX - 15,
        SIZE_MAX - 16,    SIZE_MAX - 4095,    SIZE_MAX - 65535,
        SIZE_MAX / 2 + 1, SIZE_MAX / 2 + 2,   (size_t)PTRDIFF_MAX,
        PTRDIFF_MAX - 1,  PTRDIFF_MAX - 4096, PTRDIFF_MAX - 65536,
        (size_t)1 << 62,  (size_t)1 << 50,    ((size_t)1 << 47) + 1};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
            errno = 0;
            assert_null(all[i](sizes[k]));
            assert_int_equal(errno, ENOMEM);
        }
        check_object(all[i](64), 64, false); // and all is well after it
    }
}

static void test_products(void **state) {
    (void)state;
    static const volatile size_t pairs[][2] = {
        {SIZE_MAX, 2},
        {2, SIZE_MAX},
        {SIZE_MAX, SIZE_MAX},
        {(size_t)1 << 32, (size_t)1 << 32},
        {((size_t)1 << 32) + 1, ((size_t)1 << 32) + 1},
        {SIZE_MAX / 16 + 1, 16},
        {SIZE_MAX / 3 + 1, 3},
        {(size_t)1 << 63, 2},
        {(size_t)1 << 31, (size_t)1 << 32},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        errno = 0;
        assert_null(loam_calloc(pairs[i][0], pairs[i][1]));
        assert_int_equal(errno, ENOMEM);
    }
    check_object(loam_calloc(300, 7), 2100, true);
}

// Success leaves errno alone, collections included.
static void test_errno_is_kept(void **state) {
    (void)state;
    errno = 4711;
    for (size_t i = 0; i < 100000; i++) {
        (void)!loam_alloc(i % 2000);
    }
    loam_collect();
    loam_free(loam_alloc(10));
    assert_int_equal(errno, 4711);
}

// No two live objects share a byte.
static void test_disjoint(void **state) {
    (void)state;
    enum { COUNT = 2000 };
    static unsigned char *objects[COUNT];
    struct gen g;
    gen_init(&g, gen_seed("disjoint"));
    for (size_t i = 0; i < COUNT; i++) {
        size_t bytes = gen_bytes(&g, 100000);
        objects[i] = loam_alloc_leaf(bytes);
        memset(objects[i], (int)(i % 251), loam_usable_size(objects[i]));
    }
    for (size_t i = 0; i < COUNT; i++) {
        size_t usable = loam_usable_size(objects[i]);
        for (size_t k = 0; k < usable; k++) {
            assert_int_equal(objects[i][k], i % 251);
        }
        objects[i] = NULL;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_version),
        cmocka_unit_test(test_every_small_size),
        cmocka_unit_test(test_around_powers),
        cmocka_unit_test(test_class_borders),
        cmocka_unit_test(test_no_size_is_doubled),
        cmocka_unit_test(test_zero_bytes),
        cmocka_unit_test(test_zero_on_reuse),
        cmocka_unit_test(test_absurd_sizes),
        cmocka_unit_test(test_products),
        cmocka_unit_test(test_errno_is_kept),
        cmocka_unit_test(test_disjoint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
