// A bare call: what the system says, and nothing else changed.

#include "os/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

static long call(long number, uintptr_t a, uintptr_t b) {
    return kernel_call(number, a, b, 0, 0);
}

// N1, N2
static void test_answers(void **state) {
    (void)state;
    errno = 70;
    assert_int_equal(call(SYS_getpid, 0, 0), getpid());
    assert_int_equal(call(SYS_close, (uintptr_t)-1, 0), -EBADF); // N1
    assert_int_equal(call(SYS_kill, 1, 999), -EINVAL);
    assert_int_equal(errno, 70); // N2
}

// Each of four arguments arrives, and memory is written where it says.
static void test_arguments(void **state) {
    (void)state;
    int ends[2] = {-1, -1};
    assert_int_equal(call(SYS_pipe2, (uintptr_t)ends, O_CLOEXEC), 0);
    assert_true(ends[0] >= 0 && ends[1] >= 0);
    char text[8] = "abcdefg", back[8] = "";
    assert_int_equal(kernel_call(SYS_write, (uintptr_t)ends[1], (uintptr_t)text,
                                 sizeof text, 0),
                     sizeof text);
    assert_int_equal(kernel_call(SYS_read, (uintptr_t)ends[0], (uintptr_t)back,
                                 sizeof back, 0),
                     sizeof back);
    assert_string_equal(back, text);
    uint64_t was = 7, want = 1u << 9; // SIGUSR1
    assert_int_equal(kernel_call(SYS_rt_sigprocmask, 0, (uintptr_t)&want,
                                 (uintptr_t)&was, 8),
                     0);
    assert_int_equal(kernel_call(SYS_rt_sigprocmask, 2, (uintptr_t)&was,
                                 (uintptr_t)&want, 8),
                     0);
    assert_true((want & 1u << 9) != 0);
    assert_int_equal(call(SYS_close, (uintptr_t)ends[0], 0), 0);
    assert_int_equal(call(SYS_close, (uintptr_t)ends[1], 0), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
