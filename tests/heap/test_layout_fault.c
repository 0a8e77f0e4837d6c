// Layouts without memory, and more of them than there are ids.

#include "heap/layout.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/fault.h"

static void test_refused(void **state) {
    (void)state;
    size_t offset = 0;
    struct layout *first = NULL;
    // The first layout, and then one of each size, until nothing is refused.
    for (size_t n = 1;; n++) {
        fault_arm(n);
        first = layout_make(8, &offset, 1);
        fault_disarm();
        if (fault_hits() < n) {
            break;
        }
    }
    assert_non_null(first);
    assert_ptr_equal(layout_make(8, &offset, 1), first); // D1
    size_t count = 1;
    for (size_t words = 2; words < 2000; words++) {
        fault_arm_from(1);
        struct layout *layout = layout_make(words * 8, &offset, 1);
        fault_disarm();
        if (layout == NULL) {
            layout = layout_make(words * 8, &offset, 1);
        }
        assert_non_null(layout);
        assert_int_equal(layout->id, ++count); // a refusal costs no id
        assert_ptr_equal(layout_get(layout->id), layout); // D2
        assert_ptr_equal(layout_get(1), first);
    }
}

static void test_used_up(void **state) {
    (void)state;
    size_t offset = 0;
    size_t bytes = 16000;
    struct layout *last = layout_make(bytes, &offset, 1);
    assert_non_null(last);
    struct layout *layout = last;
    while (layout != NULL) {
        last = layout;
        layout = layout_make(++bytes, &offset, 1); // bytes alone tell apart
    }
    assert_int_equal(last->id, LAYOUT_COUNT_MAX);
    assert_ptr_equal(layout_make(bytes - 1, &offset, 1), last); // D1
    assert_ptr_equal(layout_get(LAYOUT_COUNT_MAX), last);
    assert_ptr_equal(layout_make(8, &offset, 1), layout_get(1));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_used_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
