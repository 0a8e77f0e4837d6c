// Records that may not be had.

#include "rc/bond.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/fault.h"

#define OBJECTS ((size_t)20000)

static bool add(size_t i) {
    struct bond bond = {.object = 16 * i, .cell = i, .sort = BOND_VALUE};
    return bond_add(&bond);
}

// BO5
static void test_refused(void **state) {
    (void)state;
    size_t count = 0;
    size_t refusals = 0;
    while (count < OBJECTS) {
        fault_arm_from(1);
        while (count < OBJECTS && add(count + 1)) {
            count++;
        }
        fault_disarm();
        if (count == OBJECTS) {
            break;
        }
        refusals++;
        assert_int_equal(bond_count, count);
        for (size_t i = 1; i <= count; i++) {
            const struct bond *bond = bond_find(16 * i, BOND_VALUE, 0);
            assert_non_null(bond);
            assert_int_equal(bond->cell, i);
        }
        assert_null(bond_find(16 * (count + 1), BOND_VALUE, 0));
        assert_true(add(count + 1));
        count++;
    }
    assert_true(refusals >= 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
