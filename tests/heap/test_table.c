// Keys of every pattern, stored and asked for, against an array.

#include "heap/table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/gen.h"

#define KEYS ((size_t)5000)

static char values[KEYS]; // their addresses are the values

static uint64_t key_of(size_t i, unsigned pattern) {
    static const unsigned shift[] = {0, 8, 32, 40};
    return pattern < 4 ? (uint64_t)(i + 1) << shift[pattern]
                       : gen_mix(i, 1) | 1;
}

// Filled and asked at every size, also for keys that were never stored.
static void test_patterns(void **state) {
    (void)state;
    for (unsigned pattern = 0; pattern < 5; pattern++) {
        struct table table = {NULL, 0, 0};
        assert_null(table_find(&table, 1)); // H1
        for (size_t i = 0; i < KEYS; i++) {
            assert_null(table_find(&table, key_of(i, pattern)));
            assert_true(table_put(&table, key_of(i, pattern), &values[i]));
            assert_int_equal(table.count, i + 1);
            assert_true(table.count * 4 <= table.capacity * 3); // H3
            if ((i & (i + 1)) == 0 || i + 1 == KEYS) {
                for (size_t k = 0; k <= i; k++) {
                    assert_ptr_equal(table_find(&table, key_of(k, pattern)),
                                     &values[k]); // H1, H2
                }
            }
        }
        assert_null(table_find(&table, UINT64_MAX - 1));
    }
}

static void test_replace(void **state) {
    (void)state;
    struct table table = {NULL, 0, 0};
    for (size_t i = 0; i < 100; i++) {
        assert_true(table_put(&table, 1 + i % 10, &values[i]));
    }
    assert_int_equal(table.count, 10);
    for (size_t i = 0; i < 10; i++) {
        assert_ptr_equal(table_find(&table, 1 + i), &values[90 + i]); // H1
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_replace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
