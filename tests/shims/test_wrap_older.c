// A thread that is older than Loam and never calls it: once a stop has found it
// its waits are known, and end early no more.
// seconds: 120

#include "loam.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static volatile size_t waits, broken, program_signals;
static volatile bool ended;

static void *wait_on(void *data) {
    (void)data;
    while (!ended) {
        errno = 0;
        if (poll(NULL, 0, 20) < 0 && errno == EINTR) {
            broken++;
        }
        waits++;
    }
    return NULL;
}

static void on_signal(int number) {
    (void)number;
    program_signals++;
}

static void collect_for(size_t more) {
    size_t until = waits + more;
    while (waits < until) {
        assert_true(loam_collect());
        (void)sched_yield();
    }
}

static void an_older_thread_is_met(void **state) { // W2
    (void)state;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, wait_on, NULL), 0);
    while (waits == 0) {
        (void)sched_yield();
    }
    assert_true(loam_init());
    collect_for(100);
    print_message("%zu waits, %zu ended early\n", waits, broken);
    assert_true(broken <= 1);
    // The program's own signals end it as before (W1).
    struct sigaction action = {.sa_handler = on_signal};
    assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
    size_t before = broken;
    while (broken == before) {
        assert_int_equal(pthread_kill(thread, SIGUSR1), 0);
        (void)poll(NULL, 0, 1);
    }
    ended = true;
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(loam_collect());
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_older_thread_is_met),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
