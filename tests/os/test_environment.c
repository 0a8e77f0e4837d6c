// The environment as the loader left it, and as a test makes it.

#include "os/environment.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char *made[] = {(char[]){"LOAM_LIMIT=64M"}, (char[]){"LOAM_LIMITS=no"},
                       (char[]){"NO_EQUALS"},      (char[]){"LOAM_EMPTY="},
                       (char[]){"LOAM_TWICE=1"},   (char[]){"LOAM_TWICE=2"},
                       (char[]){"LOAM_MANY=a=b="}, (char[]){"=odd"},
                       (char[]){"LOAM=short"},     NULL};

static char **real;

static int keep(void **state) {
    (void)state;
    real = environ;
    return 0;
}

static int restore(void **state) {
    (void)state;
    environ = real;
    return 0;
}

// V1
static void test_find(void **state) {
    (void)state;
    errno = 81;
    environ = made;
    assert_string_equal(environment_find("LOAM_LIMIT"), "64M");
    assert_string_equal(environment_find("LOAM_LIMITS"), "no");
    assert_string_equal(environment_find("LOAM_EMPTY"), "");
    assert_string_equal(environment_find("LOAM_TWICE"), "1");
    assert_string_equal(environment_find("LOAM_MANY"), "a=b=");
    assert_string_equal(environment_find("LOAM"), "short");
    assert_null(environment_find("LOAM_LIMI"));
    assert_null(environment_find("LOAM_LIMIT_"));
    assert_null(environment_find("loam_limit"));
    assert_null(environment_find("NO_EQUALS"));
    assert_null(environment_find("OAM"));
    assert_int_equal(errno, 81);
}

// V1: as getenv finds them.
static void test_find_real(void **state) {
    (void)state;
    assert_int_equal(setenv("LOAM_TEST_VALUE", "a b", 1), 0);
    assert_string_equal(environment_find("LOAM_TEST_VALUE"), "a b");
    assert_int_equal(unsetenv("LOAM_TEST_VALUE"), 0);
    assert_null(environment_find("LOAM_TEST_VALUE"));
    assert_ptr_equal(environment_find("PATH"), getenv("PATH"));
}

static size_t visits;

static void visit_made(const char *name, size_t name_length, const char *value,
                       void *data) {
    static const char *const want[] = {
        "LOAM_LIMIT", "LOAM_LIMITS", "LOAM_EMPTY", "LOAM_TWICE",
        "LOAM_TWICE", "LOAM_MANY",   "",           "LOAM"};
    assert_ptr_equal(data, &visits);
    assert_true(visits < 8);
    assert_int_equal(name_length, strlen(want[visits]));
    assert_memory_equal(name, want[visits], name_length);
    assert_ptr_equal(value, name + name_length + 1);
    visits++;
}

// V2
static void test_each(void **state) {
    (void)state;
    visits = 0;
    environ = made;
    environment_each(visit_made, &visits);
    assert_int_equal(visits, 8);
}

// V3
static void test_missing(void **state) {
    (void)state;
    static char *none[] = {NULL};
    visits = 0;
    environ = none;
    assert_null(environment_find("PATH"));
    environment_each(visit_made, &visits);
    environ = NULL;
    assert_null(environment_find("PATH"));
    environment_each(visit_made, &visits);
    assert_int_equal(visits, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_find, keep, restore),
        cmocka_unit_test_setup_teardown(test_find_real, keep, restore),
        cmocka_unit_test_setup_teardown(test_each, keep, restore),
        cmocka_unit_test_setup_teardown(test_missing, keep, restore),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
