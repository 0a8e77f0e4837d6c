// Time goes forward, and at the pace of the system's own clock.

#include "os/clock.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <time.h>

#include <cmocka.h>

static _Atomic uint64_t latest; // a reading that somebody made
static _Atomic size_t backwards;

// L1: a reading made after another thread's was published is not smaller.
static void *race(void *data) {
    for (size_t turn = 0; turn < 100000; turn++) {
        uint64_t before = atomic_load(&latest);
        uint64_t now = clock_now_ns();
        if (now < before) {
            atomic_fetch_add(&backwards, 1);
        }
        atomic_store(&latest, now);
    }
    return data;
}

static void test_forward(void **state) {
    (void)state;
    pthread_t threads[3];
    for (size_t index = 0; index < 3; index++) {
        assert_int_equal(pthread_create(&threads[index], NULL, race, NULL), 0);
    }
    for (size_t index = 0; index < 3; index++) {
        assert_int_equal(pthread_join(threads[index], NULL), 0);
    }
    assert_int_equal(backwards, 0);
}

// It counts nanoseconds: between two readings of the system's clock.
static void test_unit(void **state) {
    (void)state;
    struct timespec before, after;
    struct timespec nap = {.tv_nsec = 2000000};
    for (size_t turn = 0; turn < 5; turn++) {
        assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &before), 0);
        uint64_t now = clock_now_ns();
        assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &after), 0);
        uint64_t low =
            (uint64_t)before.tv_sec * 1000000000 + (uint64_t)before.tv_nsec;
        uint64_t high =
            (uint64_t)after.tv_sec * 1000000000 + (uint64_t)after.tv_nsec;
        assert_true(low <= now && now <= high);
        (void)nanosleep(&nap, NULL);
    }
}

// L3: it sleeps with its thread; and goes on with it.
static void test_thread(void **state) {
    (void)state;
    struct timespec nap = {.tv_nsec = 50000000};
    uint64_t began_ns = clock_now_ns(), ran_ns = clock_thread_ns();
    (void)nanosleep(&nap, NULL);
    uint64_t slept_ns = clock_thread_ns() - ran_ns;
    assert_true(slept_ns < 40000000);
    while (clock_thread_ns() - ran_ns < 10000000) {
    }
    ran_ns = clock_thread_ns() - ran_ns;
    assert_true(ran_ns <= clock_now_ns() - began_ns + 1000000);
}

// L2
static void test_errno(void **state) {
    (void)state;
    errno = 80;
    assert_true(clock_now_ns() != 0);
    assert_true(clock_thread_ns() != 0);
    assert_int_equal(errno, 80);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward),
        cmocka_unit_test(test_unit),
        cmocka_unit_test(test_thread),
        cmocka_unit_test(test_errno),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
