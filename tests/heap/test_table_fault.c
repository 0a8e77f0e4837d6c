// A table that may not grow.

#include "heap/table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/fault.h"

static char values[40000];

static void test_refused(void **state) {
    (void)state;
    struct table table = {NULL, 0};
    size_t count = 0;
    size_t refusals = 0;
    while (count < sizeof values) {
        fault_arm_from(1);
        while (count < sizeof values &&
               table_put(&table, count + 1, &values[count])) {
            count++;
        }
        fault_disarm();
        if (count == sizeof values) {
            break;
        }
        refusals++;
        assert_int_equal(table.count, count);
        for (size_t i = 0; i < count; i++) {
            assert_ptr_equal(table_find(&table, i + 1), &values[i]); // H2
        }
        assert_null(table_find(&table, count + 1));
        assert_true(table_put(&table, count + 1, &values[count]));
        count++;
    }
    assert_true(refusals >= 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
