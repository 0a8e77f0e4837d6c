// Records that may not be had.

#include "heap/fate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/fault.h"

#define OBJECTS ((size_t)20000)

static void nothing(void *object, void *data) {
    (void)object;
    (void)data;
}

static bool add(struct fates *fates, size_t i) {
    struct fate fate = {.object = 16 * i, .function = nothing, .data = i};
    return fate_add(fates, &fate) != NULL;
}

static void test_refused(void **state) {
    (void)state;
    struct fates fates = {NULL, NULL, NULL, NULL, NULL, 0, 0};
    size_t count = 0;
    size_t refusals = 0;
    while (count < OBJECTS) {
        fault_arm_from(1);
        while (count < OBJECTS && add(&fates, count + 1)) {
            count++;
        }
        fault_disarm();
        if (count == OBJECTS) {
            break;
        }
        refusals++;
        assert_int_equal(fates.waiting_count, count); // FA4
        for (size_t i = 1; i <= count; i++) {
            const struct fate *fate = fate_find(&fates, 16 * i);
            assert_non_null(fate);
            assert_int_equal(fate->data, i); // FA4
        }
        assert_null(fate_find(&fates, 16 * (count + 1)));
        assert_true(add(&fates, count + 1));
        count++;
    }
    assert_true(refusals >= 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
