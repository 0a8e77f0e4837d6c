// A failed check stops a child of this test; what it said comes by a pipe.

#include "base/check.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

// Runs `fails` in a child; says what it wrote to standard error, and returns
// the signal that ended it (0: none).
static int run_child(void (*fails)(void), char *said, size_t capacity) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct rlimit none = {0, 0};
        (void)setrlimit(RLIMIT_CORE, &none);
        (void)signal(SIGABRT, SIG_DFL); // not cmocka's, nor a sanitizer's
        (void)dup2(ends[1], STDERR_FILENO);
        fails();
        _exit(0);
    }
    close(ends[1]);
    size_t count = 0;
    for (;;) {
        ssize_t got = read(ends[0], said + count, capacity - 1 - count);
        if (got <= 0) {
            break;
        }
        count += (size_t)got;
    }
    said[count] = '\0';
    close(ends[0]);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static int line_of_check;

static void fail_check(void) {
    CHECK(1 + 1 == 3);
}

static void fail_never(void) {
    CHECK_NEVER("a branch that nobody takes");
}

static void fail_at_line(void) {
    check_fail("gc/some/file.c", line_of_check, "n != 0");
}

static void stop(void) {
    check_stop("a sentence that says why");
}

static void pass_all(void) {
    CHECK(1 + 1 == 2);
    ASSERT(1 + 1 == 2);
    VERIFY(1 + 1 == 2);
}

// C1
static void test_says(void **state) {
    (void)state;
    char said[512], want[512];
    int lines[] = {1, 9, 10, 907, 1000000, 2147483647};
    for (size_t index = 0; index < sizeof lines / sizeof *lines; index++) {
        line_of_check = lines[index];
        assert_int_equal(run_child(fail_at_line, said, sizeof said), SIGABRT);
        (void)snprintf(want, sizeof want,
                       "loam: gc/some/file.c:%d: broken: n != 0\n",
                       lines[index]);
        assert_string_equal(said, want);
    }
    assert_int_equal(run_child(fail_check, said, sizeof said), SIGABRT);
    assert_non_null(strstr(said, "test_check.c:"));
    assert_non_null(strstr(said, ": broken: 1 + 1 == 3\n"));
    assert_int_equal(run_child(fail_never, said, sizeof said), SIGABRT);
    assert_non_null(strstr(said, ": broken: a branch that nobody takes\n"));
    assert_int_equal(run_child(stop, said, sizeof said), SIGABRT);
    assert_string_equal(said, "loam: a sentence that says why\n");
}

// C1: and nothing is said, nor stopped, of what holds.
static void test_silent(void **state) {
    (void)state;
    char said[512];
    assert_int_equal(run_child(pass_all, said, sizeof said), 0);
    assert_string_equal(said, "");
}

static int evaluated;

static bool count_evaluation(void) {
    evaluated++;
    return true;
}

// C2
static void test_still(void **state) {
    (void)state;
    evaluated = 0;
    ASSERT(count_evaluation());
    assert_int_equal(evaluated, LOAM_CHECK >= 1 ? 1 : 0);
    VERIFY(count_evaluation());
    assert_int_equal(evaluated, LOAM_CHECK >= 2 ? 2 : LOAM_CHECK >= 1 ? 1 : 0);
    evaluated = 0;
    CHECK(count_evaluation());
    assert_int_equal(evaluated, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_says),
        cmocka_unit_test(test_silent),
        cmocka_unit_test(test_still),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
