// Every system call of memory refused in turn: the answer says so, and nothing
// that was there is lost.

#include "os/memory.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/fault.h"

static size_t page;

static int learn_page(void **state) {
    (void)state;
    page = memory_page_bytes();
    return 0;
}

static bool all_are(const unsigned char *at, size_t bytes, int value) {
    for (size_t index = 0; index < bytes; index++) {
        if (at[index] != value) {
            return false;
        }
    }
    return true;
}

static unsigned char *make_pages(size_t bytes, int value) {
    unsigned char *at = memory_reserve(bytes, page, 0);
    assert_non_null(at);
    assert_true(memory_commit(at, bytes));
    memset(at, value, bytes);
    return at;
}

// M3, M5: one refused call each; what was there stays as it was.
static void test_each_call(void **state) {
    (void)state;
    size_t bytes = 16 * page;
    unsigned char *at = make_pages(bytes, 3);
    errno = 95;
    fault_arm(1);
    assert_false(memory_drop(at, bytes));
    fault_arm(1);
    assert_false(memory_uncommit(at, bytes));
    fault_arm(1);
    assert_false(memory_huge(at, bytes, true));
    fault_arm(1);
    assert_false(memory_commit(at, bytes));
    fault_disarm();
    assert_int_equal(fault_hits(), 1);
    assert_int_equal(errno, 95);        // M5
    assert_true(all_are(at, bytes, 3)); // M3
    memset(at, 4, bytes);
    fault_arm(1);
    memory_release(at, bytes); // refused: the space stays taken
    assert_true(fault_hits() >= 1);
    fault_disarm();
    assert_true(memory_is_readable(at));
    memory_release(at, bytes);
    assert_false(memory_is_readable(at));
    assert_int_equal(errno, 95); // M5
}

// M1, M3: a commit that is refused leaves the pages inaccessible.
static void test_commit(void **state) {
    (void)state;
    unsigned char *at = memory_reserve(16 * page, page, 0);
    assert_non_null(at);
    fault_arm(1);
    assert_false(memory_commit(at, 16 * page));
    fault_disarm();
    for (size_t index = 0; index < 16; index++) {
        assert_false(memory_is_readable(at + index * page));
    }
    assert_true(memory_commit(at, 16 * page));
    assert_true(all_are(at, 16 * page, 0)); // M2
    memory_release(at, 16 * page);
}

// M1: whichever call of a reservation is refused, the result is NULL or right.
static void check_reserve(size_t alignment, uintptr_t hint) {
    size_t granted = 0;
    for (size_t n = 1; n < 20; n++) {
        errno = 96;
        fault_arm(n);
        unsigned char *at = memory_reserve(4 * page, alignment, hint);
        fault_disarm();
        bool clean = fault_hits() < n;
        assert_int_equal(errno, 96); // M5
        assert_true(!clean || at != NULL);
        if (at != NULL) {
            granted++;
            assert_int_equal((uintptr_t)at % alignment, 0);
            assert_false(memory_is_readable(at));
            assert_true(memory_commit(at, 4 * page));
            assert_true(all_are(at, 4 * page, 0)); // M2
            memory_release(at, 4 * page);
        }
        if (clean) {
            assert_true(granted >= 1);
            return;
        }
    }
    fail_msg("a reservation made more than 19 calls");
}

static void test_reserve(void **state) {
    (void)state;
    for (size_t alignment = page; alignment <= 64 * MiB; alignment *= 4) {
        check_reserve(alignment, 0);
        check_reserve(alignment, (uintptr_t)0x180 << 32);
        unsigned char *taken = make_pages(4 * page, 1);
        check_reserve(alignment, (uintptr_t)taken);
        memory_release(taken, 4 * page);
    }
}

// A system that refuses everything from some call on.
static void test_nothing_left(void **state) {
    (void)state;
    unsigned char *at = make_pages(4 * page, 8);
    for (size_t n = 1; n <= 3; n++) {
        fault_arm_from(n);
        void *one = memory_reserve(page, page, 0);
        void *two = memory_reserve(page, 2 * MiB, 0);
        fault_disarm();
        assert_int_equal(one == NULL, n == 1);
        assert_int_equal(two == NULL, n <= 2);
        assert_true(all_are(at, 4 * page, 8));
        if (one != NULL) {
            memory_release(one, page);
        }
        if (two != NULL) {
            memory_release(two, page);
        }
    }
    memory_release(at, 4 * page);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_call),
        cmocka_unit_test(test_commit),
        cmocka_unit_test(test_reserve),
        cmocka_unit_test(test_nothing_left),
    };
    return cmocka_run_group_tests(tests, learn_page, NULL);
}
