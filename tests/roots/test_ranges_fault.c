// Ranges without memory: a change is made, or nothing is.

#include "roots/ranges.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/fault.h"

#define COUNT ((uintptr_t)9000)

static struct ranges ranges;

static struct extent nth(uintptr_t i) {
    return (struct extent){1000 * i + 1000, 1000 * i + 1100};
}

static void check(uintptr_t count) {
    assert_int_equal(ranges_count(&ranges), count);
    for (uintptr_t i = 0; i < count; i++) {
        assert_int_equal(ranges_get(&ranges, i).start, nth(i).start);
        assert_int_equal(ranges_get(&ranges, i).end, nth(i).end); // A4
    }
}

// Until the list is a mapping of its own, and that cannot be had.
static void test_add(void **state) {
    (void)state;
    size_t refusals = 0;
    for (uintptr_t i = 0; i < COUNT; i++) {
        fault_arm_from(1);
        bool added = ranges_add(&ranges, nth(i));
        fault_disarm();
        if (!added) {
            refusals++;
            check(i);
            assert_true(ranges_add(&ranges, nth(i)));
        }
    }
    assert_true(refusals >= 2);
    check(COUNT);
}

// With no room for one more: only a piece taken from the middle needs it.
static void test_remove(void **state) {
    (void)state;
    for (uintptr_t i = COUNT; ranges.now->count < ranges.now->capacity; i++) {
        assert_true(ranges_add(&ranges, nth(i)));
    }
    size_t count = ranges_count(&ranges);
    struct extent first = nth(0);
    bool removed = false;
    fault_arm_from(1);
    assert_false(ranges_remove(
        &ranges, (struct extent){first.start + 10, first.end - 10}, &removed));
    assert_false(removed);
    check(count); // A4
    assert_true(ranges_remove(
        &ranges, (struct extent){first.start - 10, first.start + 10},
        &removed));
    assert_true(removed);
    assert_true(ranges_remove(
        &ranges, (struct extent){first.end - 10, first.end + 10}, &removed));
    assert_true(ranges_remove(&ranges, (struct extent){1, 2}, &removed));
    assert_false(removed);
    fault_disarm();
    assert_int_equal(ranges_get(&ranges, 0).start, first.start + 10);
    assert_int_equal(ranges_get(&ranges, 0).end, first.end - 10);
    assert_true(ranges_remove(
        &ranges, (struct extent){first.start + 20, first.end - 20}, &removed));
    assert_int_equal(ranges_count(&ranges), count + 1);
}

static void scan(void) {
}

static size_t count_scanners(const struct scanners *scanners) {
    size_t count = 0;
    const struct scanner_link *link = scanners->first;
    for (; link != NULL; link = link->next) {
        count++;
    }
    return count;
}

static void test_scanners(void **state) {
    (void)state;
    struct scanners scanners = {NULL};
    static char data[4000];
    size_t refusals = 0;
    for (size_t i = 0; i < sizeof data; i++) {
        struct scanner scanner = {scan, &data[i]};
        fault_arm_from(1);
        bool added = ranges_add_scanner(&scanners, scanner);
        fault_disarm();
        if (!added) {
            refusals++;
            assert_int_equal(count_scanners(&scanners), i); // A4
            assert_true(ranges_add_scanner(&scanners, scanner));
        }
    }
    assert_int_not_equal(refusals, 0);
    const struct scanner_link *link = scanners.first;
    for (size_t i = 0; i < sizeof data; i++) {
        assert_ptr_equal(link->scanner.data, &data[i]);
        link = link->next;
    }
    assert_null(link);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_add),
        cmocka_unit_test(test_remove),
        cmocka_unit_test(test_scanners),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
