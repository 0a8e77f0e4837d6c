// Ids while threads come and go, and what is called when they end.

#ifndef _GNU_SOURCE
#define _GNU_SOURCE // sched_setaffinity
#endif

#include "os/thread.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define THREADS 40u

static pthread_barrier_t all_here, may_go;

struct seen {
    uint32_t first, again;
};

static void *wait_together(void *data) {
    struct seen *seen = data;
    seen->first = thread_id();
    (void)pthread_barrier_wait(&all_here);
    seen->again = thread_id();
    (void)pthread_barrier_wait(&may_go);
    return NULL;
}

// T1
static void test_threads(void **state) {
    (void)state;
    pthread_t threads[THREADS];
    struct seen seen[THREADS + 1];
    assert_int_equal(pthread_barrier_init(&all_here, NULL, THREADS + 1), 0);
    assert_int_equal(pthread_barrier_init(&may_go, NULL, THREADS + 1), 0);
    for (size_t index = 0; index < THREADS; index++) {
        assert_int_equal(
            pthread_create(&threads[index], NULL, wait_together, &seen[index]),
            0);
    }
    (void)pthread_barrier_wait(&all_here);
    (void)pthread_barrier_wait(&may_go);
    for (size_t index = 0; index < THREADS; index++) {
        assert_int_equal(pthread_join(threads[index], NULL), 0);
    }
    seen[THREADS].first = seen[THREADS].again = thread_id();
    for (size_t index = 0; index <= THREADS; index++) {
        assert_int_not_equal(seen[index].first, 0);
        assert_int_equal(seen[index].first, seen[index].again); // T1
        for (size_t other = 0; other < index; other++) {
            assert_int_not_equal(seen[index].first, seen[other].first); // T1
        }
    }
}

// --- The end of a thread ----------------------------------------------------

static _Atomic size_t partings;    // calls
static void *_Atomic last_parting; // its value
static _Atomic size_t again;       // rounds to come

static void part(void *value) {
    partings++;
    last_parting = value;
    if (again > 0) {
        again--;
        assert_true(thread_exit_arm(value));
    }
}

enum ending { RETURNS, EXITS, CANCELLED, UNARMED, DISARMED };

static void *end_somehow(void *data) {
    enum ending ending = *(enum ending *)data;
    if (ending != UNARMED) {
        assert_true(thread_exit_arm(&partings)); // the last arming counts
        assert_true(thread_exit_arm(ending == DISARMED ? NULL : data));
    }
    if (ending == CANCELLED) {
        assert_int_equal(pthread_cancel(pthread_self()), 0);
        pthread_testcancel();
    } else if (ending == EXITS) {
        pthread_exit(NULL);
    }
    return NULL;
}

static void run_to_end(enum ending ending, size_t rounds, size_t expected) {
    pthread_t thread;
    again = rounds;
    partings = 0;
    last_parting = NULL;
    assert_int_equal(pthread_create(&thread, NULL, end_somehow, &ending), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(partings, expected); // T2
    assert_ptr_equal(last_parting, expected != 0 ? &ending : NULL);
}

// T2
static void test_parting(void **state) {
    (void)state;
    assert_false(thread_exit_arm(&partings)); // nobody has said what to call
    assert_true(thread_at_exit(part));
    run_to_end(RETURNS, 0, 1);
    run_to_end(EXITS, 0, 1);
    run_to_end(CANCELLED, 0, 1);
    run_to_end(UNARMED, 0, 0);
    run_to_end(DISARMED, 0, 0);
    run_to_end(RETURNS, 3, 4); // in each round again
}

static void test_process(void **state) {
    (void)state;
    assert_int_equal(thread_process_id(), (uint32_t)getpid());
    assert_int_equal(thread_id(), thread_process_id()); // cmocka runs in main
    pid_t child = fork();
    if (child == 0) {
        bool own = thread_process_id() != (uint32_t)getppid() &&
                   thread_process_id() == (uint32_t)getpid() &&
                   thread_id() == thread_process_id();
        _exit(own ? 0 : 1);
    }
    int status = 1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

// T3
static void test_errno(void **state) {
    (void)state;
    errno = 82;
    (void)thread_id();
    (void)thread_exit_arm(NULL);
    (void)thread_process_id();
    assert_int_equal(errno, 82);
}

// On one that it may run on; pinned to one, on that.
static void test_cpus(void **state) {
    (void)state;
    cpu_set_t was, one;
    struct thread_cpus cpus;
    if (sched_getaffinity(0, sizeof was, &was) != 0) {
        skip();
    }
    thread_find_cpus(&cpus);
    for (size_t i = 0; i < THREAD_CPUS; i++) {
        assert_int_equal(cpus.bits[i / 64] >> (i % 64) & 1,
                         CPU_ISSET(i, &was) != 0);
    }
    for (size_t i = 0; i < THREAD_CPUS; i++) {
        CPU_ZERO(&one);
        CPU_SET(i, &one);
        if (CPU_ISSET(i, &was) && sched_setaffinity(0, sizeof one, &one) == 0) {
            assert_int_equal(thread_cpu(), i);
        }
    }
    assert_int_equal(sched_setaffinity(0, sizeof was, &was), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads), cmocka_unit_test(test_parting),
        cmocka_unit_test(test_process), cmocka_unit_test(test_cpus),
        cmocka_unit_test(test_errno),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
