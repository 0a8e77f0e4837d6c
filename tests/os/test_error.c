// errno by its own header.

#include "os/error.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

// E1
static void test_save_and_restore(void **state) {
    (void)state;
    for (int code = 0; code < 200; code++) {
        errno = code;
        int saved = error_save();
        assert_int_equal(saved, code);
        errno = EIO;
        error_restore(saved);
        assert_int_equal(errno, code);
    }
}

// E1
static void test_setters(void **state) {
    (void)state;
    errno = 0;
    error_set_no_memory();
    assert_int_equal(errno, ENOMEM);
    error_set_invalid();
    assert_int_equal(errno, EINVAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_save_and_restore),
        cmocka_unit_test(test_setters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
