// The compiler's words and the units: what can be seen of them.

#include "base/defs.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void test_units(void **state) {
    (void)state;
    assert_int_equal(KiB, 1024);
    assert_int_equal(MiB, 1024 * KiB);
    assert_int_equal(GiB, 1024 * MiB);
    assert_true((size_t)-1 > 4 * GiB); // no overflow in 32 bits
    assert_int_equal(WORD_BYTES, sizeof(void *));
    assert_int_equal(GRANULE_BYTES % _Alignof(max_align_t), 0);
    assert_int_equal(GRANULE_BYTES % WORD_BYTES, 0);
}

static void test_likely_keeps_truth(void **state) {
    (void)state;
    assert_int_equal(LIKELY(8 & 12), 1);
    assert_int_equal(UNLIKELY(8 & 12), 1);
    assert_int_equal(LIKELY(0), 0);
    assert_int_equal(UNLIKELY((void *)0), 0);
}

// The address of nothing may be asked for.
static void test_prefetch_anything(void **state) {
    (void)state;
    for (uintptr_t at = 1; at != 0; at <<= 1) {
        PREFETCH((const void *)at);
        PREFETCH_WRITE((const void *)at);
    }
}

// Reads one word past an array: a sanitizer that looked would stop here.
NO_SANITIZE NOINLINE static uintptr_t read_word(const volatile uintptr_t *at) {
    return *at;
}

static void test_no_sanitize(void **state) {
    (void)state;
    struct {
        uintptr_t inside[2];
        uintptr_t after;
    } frame = {{1, 2}, 3};
    uintptr_t sum = 0;
    for (size_t index = 0; index < 3; index++) {
        sum += read_word((const volatile uintptr_t *)&frame + index);
    }
    assert_int_equal(sum, 6);
}

static ALWAYS_INLINE int twice(int n) {
    return 2 * n;
}

MUST_USE static int thrice(int n) {
    return 3 * n;
}

static void test_attributes_compile(void **state) {
    (void)state;
    UNUSED int nobody = 0;
    struct object *verified = (void *)state;
    assert_ptr_equal(verified, (void *)state);
    assert_int_equal(twice(2) + thrice(2), 10);
    assert_true(LOAM_CHECK >= 0 && LOAM_CHECK <= 2);
    assert_true(LOAM_TINY == 0 || LOAM_TINY == 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_units),
        cmocka_unit_test(test_likely_keeps_truth),
        cmocka_unit_test(test_prefetch_anything),
        cmocka_unit_test(test_no_sanitize),
        cmocka_unit_test(test_attributes_compile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
