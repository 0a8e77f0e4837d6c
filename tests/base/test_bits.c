// Every formula against its definition, at every small number and around every
// power of two.

#include "base/bits.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define SMALL 4096u

__extension__ typedef unsigned __int128 test_wide;

// Calls visit with 0 .. SMALL and all numbers within 3 of a power of two.
static void each_number(void (*visit)(size_t n)) {
    for (size_t n = 0; n <= SMALL; n++) {
        visit(n);
    }
    for (size_t log = 12; log < 64; log++) {
        for (size_t near = 0; near <= 6; near++) {
            visit(((size_t)1 << log) - 3 + near);
        }
    }
    for (size_t below = 0; below < 4; below++) {
        visit(SIZE_MAX - below);
    }
}

static size_t power_of(size_t log) {
    return (size_t)1 << log;
}

// W1
static void check_log2(size_t n) {
    if (n == 0) {
        return;
    }
    size_t low = bits_log2_floor(n);
    assert_true(low <= 63 && power_of(low) <= n);
    assert_true(low == 63 || power_of(low + 1) > n);
    size_t high = bits_log2_ceil(n);
    assert_true(high == 64 || power_of(high) >= n);
    assert_true(high == 0 || power_of(high - 1) < n);
    assert_int_equal(bits_is_power(n), low == high);
}

static void test_log2(void **state) {
    (void)state;
    assert_false(bits_is_power(0));
    each_number(check_log2);
}

// W2
static void check_round(size_t n) {
    for (size_t log = 0; log < 64; log++) {
        size_t power = power_of(log);
        size_t low = bits_round_down(n, power);
        assert_true(low <= n && low % power == 0 && n - low < power);
        if (n <= SIZE_MAX - power + 1) {
            size_t high = bits_round_up(n, power);
            assert_true(high >= n && high % power == 0 && high - n < power);
        }
    }
}

static void test_round(void **state) {
    (void)state;
    each_number(check_round);
}

static void check_div(size_t n) {
    for (size_t by = 1; by <= 40; by++) {
        size_t quotient = bits_div_ceil(n, by);
        size_t rest = n % by;
        assert_int_equal(quotient, rest == 0 ? n / by : (n - rest) / by + 1);
    }
    assert_int_equal(bits_div_ceil(n, SIZE_MAX), n != 0);
}

static void test_div_ceil(void **state) {
    (void)state;
    each_number(check_div);
}

// W3
static void test_mask(void **state) {
    (void)state;
    for (size_t n = 0; n <= 64; n++) {
        uint64_t mask = bits_mask_below(n);
        assert_int_equal(bits_count(mask), n);
        for (size_t bit = 0; bit < 64; bit++) {
            assert_int_equal((mask >> bit) & 1, bit < n);
        }
    }
}

static void check_lowest_and_count(size_t n) {
    size_t count = 0, lowest = 64;
    for (size_t bit = 64; bit-- > 0;) {
        if ((n >> bit) & 1) {
            count++;
            lowest = bit;
        }
    }
    assert_int_equal(bits_count(n), count);
    if (n != 0) {
        assert_int_equal(bits_lowest(n), lowest);
    }
}

static void test_lowest_and_count(void **state) {
    (void)state;
    each_number(check_lowest_and_count);
}

static size_t other;

// W4
static void check_overflow(size_t n) {
    test_wide true_sum = (test_wide)n + other;
    test_wide true_product = (test_wide)n * other;
    size_t sum = 1, product = 1;
    assert_int_equal(bits_add_overflows(n, other, &sum), true_sum > SIZE_MAX);
    assert_true(sum == (size_t)true_sum);
    assert_int_equal(bits_mul_overflows(n, other, &product),
                     true_product > SIZE_MAX);
    assert_true(product == (size_t)true_product);
}

static void test_overflow(void **state) {
    (void)state;
    size_t others[] = {0,
                       1,
                       2,
                       3,
                       16,
                       4095,
                       UINT32_MAX,
                       1ul << 32,
                       (1ul << 32) + 1,
                       SIZE_MAX / 3,
                       SIZE_MAX / 2,
                       SIZE_MAX / 2 + 1,
                       SIZE_MAX - 1,
                       SIZE_MAX};
    for (size_t index = 0; index < sizeof others / sizeof *others; index++) {
        other = others[index];
        each_number(check_overflow);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_log2),
        cmocka_unit_test(test_round),
        cmocka_unit_test(test_div_ceil),
        cmocka_unit_test(test_mask),
        cmocka_unit_test(test_lowest_and_count),
        cmocka_unit_test(test_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
