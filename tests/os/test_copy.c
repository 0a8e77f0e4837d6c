// Children of every kind ask whether they are copies.

#include "os/copy.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static size_t called;

static void made(void) {
    called++;
}

// How a child ended that returned `status`.
static int status_of(pid_t child) {
    int status = -1;
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// What a copy finds, and what its own child does.
static int look(void) {
    if (!copy_is_new()) {
        return 1;
    }
    copy_accept();
    if (copy_is_new()) {
        return 2;
    }
    pid_t child = fork();
    if (child == 0) {
        _exit(copy_is_new() ? 0 : 1);
    }
    int status = -1;
    if (waitpid(child, &status, 0) != child || status != 0) {
        return 3;
    }
    return copy_is_new() ? 4 : 0;
}

static void test_fork(void **state) {
    (void)state;
    for (size_t i = 0; i < 10; i++) {
        pid_t child = fork();
        if (child == 0) {
            _exit(called == 1 ? look() : 9); // P1
        }
        assert_int_equal(status_of(child), 0);
        assert_false(copy_is_new()); // P1
        assert_int_equal(called, 0);
    }
}

// No library sees it.  An emulator may not know the advice.
static void test_clone(void **state) {
    (void)state;
#if defined(__aarch64__)
    skip();
#endif
    pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (child == 0) {
        _exit(look()); // P1
    }
    assert_int_equal(status_of(child), 0);
    assert_false(copy_is_new());
}

static void test_vfork(void **state) {
    (void)state;
#if defined(__SANITIZE_THREAD__)
    skip(); // it makes a fork of it
#endif
    pid_t child = vfork();
    if (child == 0) {
        _exit(copy_is_new()); // P1: it shares our memory
    }
    assert_int_equal(status_of(child), 0);
}

int main(void) {
    errno = 4711;
    bool before = copy_is_new();
    copy_watch(made);
    if (before || copy_is_new() || errno != 4711) { // P1, P2
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fork),
        cmocka_unit_test(test_clone),
        cmocka_unit_test(test_vfork),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
