// Stacks are registered until memory is refused.

#include "roots/fiber.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/fault.h"

#define COUNT ((uintptr_t)5000)

static struct fiber *fibers[COUNT];

static uintptr_t nth(uintptr_t i) {
    return (i + 1) * 4096;
}

static void check(uintptr_t count) {
    assert_true(fiber_check());
    for (uintptr_t i = 0; i < count; i++) {
        assert_ptr_equal(fiber_find(nth(i) + 7), fibers[i]);
    }
    assert_null(fiber_find(nth(count)));
}

static void test_refused(void **state) {
    (void)state;
    size_t refusals = 0;
    for (uintptr_t i = 0; i < COUNT; i++) {
        fault_arm_from(1);
        enum fiber_answer answer = fiber_register(nth(i), 4096, &fibers[i]);
        fault_disarm();
        if (answer != FIBER_TAKEN) {
            refusals++;
            assert_int_equal(answer, FIBER_SHORT);
            assert_null(fibers[i]);
            check(i); // F7
            assert_int_equal(fiber_register(nth(i), 4096, &fibers[i]),
                             FIBER_TAKEN);
        }
    }
    assert_true(refusals >= 2);
    check(COUNT);
    for (uintptr_t i = 0; i < COUNT; i++) {
        fiber_unregister(fibers[i], NULL);
    }
    fibers[0] = NULL;
    check(0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
