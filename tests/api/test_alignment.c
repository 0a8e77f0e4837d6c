// loam_alloc_aligned: every power of two to 1 MiB, at every kind of size, and
// the values that are none.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "loam.h"
#include "support/scrub.h"

static const size_t sizes[] = {0,      1,      8,       16,           17,
                               100,    128,    1000,    4096,         4097,
                               8192,   20000,  65536,   65537,        100000,
                               262144, 300000, 1 << 20, (1 << 20) + 1};
#define SIZES (sizeof sizes / sizeof sizes[0])

static void check_aligned(size_t alignment, size_t bytes) {
    char *p = loam_alloc_aligned(alignment, bytes);
    assert_non_null(p);
    assert_int_equal((uintptr_t)p % alignment, 0);
    assert_int_equal((uintptr_t)p % 16, 0);
    size_t usable = loam_usable_size(p);
    assert_true(usable >= bytes);
    for (size_t i = 0; i < usable; i++) {
        assert_int_equal(p[i], 0);
    }
    memset(p, 0xAA, usable);
    assert_ptr_equal(loam_base(p), p);
    assert_ptr_equal(loam_base(p + usable - 1), p);
}

static void test_powers(void **state) {
    (void)state;
    for (size_t alignment = 1; alignment <= 1 << 20; alignment *= 2) {
        for (size_t i = 0; i < SIZES; i++) {
            check_aligned(alignment, sizes[i]);
            check_aligned(alignment, sizes[i]);
        }
    }
    check_aligned((size_t)4 << 20, 100);
    check_aligned((size_t)16 << 20, 100000);
}

static void test_bad(void **state) {
    (void)state;
    static const volatile size_t bad[] = {
        0,           3, 5, 6, 7, 9, 24, 48, 1000, 4095, SIZE_MAX, SIZE_MAX / 2,
        SIZE_MAX - 1};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        errno = 0;
        assert_null(loam_alloc_aligned(bad[i], 100));
        assert_int_equal(errno, EINVAL);
    }
}

static void test_absurd(void **state) {
    (void)state;
    static const volatile size_t pairs[][2] = {
        {(size_t)1 << 63, 16},       {(size_t)1 << 62, 16},
        {(size_t)1 << 63, SIZE_MAX}, {4096, SIZE_MAX},
        {4096, SIZE_MAX - 4094},     {(size_t)1 << 62, (size_t)1 << 62},
        {65536, PTRDIFF_MAX},        {1 << 20, SIZE_MAX - (1 << 20)},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        errno = 0;
        assert_null(loam_alloc_aligned(pairs[i][0], pairs[i][1]));
        assert_int_equal(errno, ENOMEM);
    }
}

// Aligned objects live, die, are freed and resized as others do.
static void test_as_others(void **state) {
    (void)state;
    enum { COUNT = 64 };
    static void **objects[COUNT];
    for (size_t alignment = 16; alignment <= 1 << 16; alignment *= 4) {
        for (size_t i = 0; i < COUNT; i++) {
            objects[i] = loam_alloc_aligned(alignment, 40);
            objects[i][4] = loam_alloc(24); // scanned to the last word
        }
        scrub_collect();
        for (size_t i = 0; i < COUNT; i++) {
            assert_ptr_equal(loam_base(objects[i]), objects[i]);
            assert_ptr_equal(loam_base(objects[i][4]), objects[i][4]);
            void **larger = loam_realloc(objects[i], 4000);
            assert_ptr_equal(loam_base(larger[4]), larger[4]);
            loam_free(larger);
            assert_false(loam_is_heap(larger));
            objects[i] = NULL;
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_powers),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_absurd),
        cmocka_unit_test(test_as_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
