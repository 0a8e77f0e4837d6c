// A thread that blocks every signal is stopped, read and set free.

#include "os/tracer.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "os/suspend.h"
#include "os/thread.h"

#define THREADS 3u

static atomic_bool over;
static atomic_uint ids[THREADS];
static _Atomic uint64_t counts[THREADS];
static struct tracer_file files[THREADS];
static pthread_t threads[THREADS];
static uintptr_t stacks[THREADS];

static void nap_ms(long ms) {
    struct timespec nap = {.tv_nsec = ms * 1000000};
    (void)nanosleep(&nap, NULL);
}

static void *count(void *data) {
    size_t index = (size_t)data;
    uint64_t all = ~(uint64_t)0;
    (void)syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, sizeof all);
    stacks[index] = (uintptr_t)&index;
    atomic_store(&ids[index], thread_id());
    while (!atomic_load(&over)) {
        atomic_fetch_add(&counts[index], 1);
    }
    return NULL;
}

static void begin(void) {
    atomic_store(&over, false);
    for (size_t i = 0; i < THREADS; i++) {
        atomic_store(&ids[i], 0);
        assert_int_equal(pthread_create(&threads[i], NULL, count, (void *)i),
                         0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        while (atomic_load(&ids[i]) == 0) {
            nap_ms(1);
        }
    }
}

static void end(void) {
    atomic_store(&over, true);
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0); // V4
    }
}

// On a busy machine a thread may need more than one request.
static bool stop(size_t index) {
    for (size_t turn = 0; turn < 50; turn++) {
        if (tracer_stop(atomic_load(&ids[index]), &files[index])) {
            return true;
        }
    }
    return false;
}

// V1, V2, V4
static void test_stop(void **state) {
    (void)state;
    begin();
    for (size_t turn = 0; turn < 10; turn++) {
        for (size_t i = 0; i < THREADS; i++) {
            assert_true(stop(i));
            uintptr_t pointer = files[i].stack_pointer;
            assert_true(pointer < stacks[i] + 4096 &&
                        pointer > stacks[i] - 65536); // V2
            assert_true(files[i].general_count > 10);
            assert_true(files[i].vector_count > 10);
            assert_true(files[i].thread_pointer != 0);
        }
        uint64_t was[THREADS];
        for (size_t i = 0; i < THREADS; i++) {
            was[i] = atomic_load(&counts[i]);
        }
        nap_ms(2);
        for (size_t i = 0; i < THREADS; i++) {
            assert_int_equal(atomic_load(&counts[i]), was[i]); // V1
        }
        tracer_end();
        tracer_end(); // twice is once
        for (size_t i = 0; i < THREADS; i++) {
            while (atomic_load(&counts[i]) == was[i]) { // V4
                nap_ms(1);
            }
        }
    }
    end();
}

static void test_memory(void **state) {
    (void)state;
    size_t bytes = 0;
    assert_non_null(tracer_memory(&bytes));
    assert_true(bytes >= 16384);
    tracer_forked();
    tracer_end();
}

// One may be let go before the others.
static void test_let_go(void **state) {
    (void)state;
    begin();
    assert_true(stop(0));
    assert_true(stop(1));
    uint64_t was[2] = {atomic_load(&counts[0]), atomic_load(&counts[1])};
    tracer_free(atomic_load(&ids[0]));
    while (atomic_load(&counts[0]) == was[0]) {
        nap_ms(1);
    }
    assert_int_equal(atomic_load(&counts[1]), was[1]); // V1
    assert_true(stop(0));
    assert_false(tracer_was_refused());
    tracer_end();
    end();
}

// V5: nobody who waits for children hears of it.
static void test_quiet(void **state) {
    (void)state;
    begin();
    errno = 60;
    assert_true(stop(0));
    assert_int_equal(errno, 60);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
    tracer_end();
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    end();
}

static atomic_bool has_child, ends_child; // its memory is its parent's

// V3: a thread that is not there; one that waits for its vfork child, which
// lives until the request is answered.
static void *vfork_and_wait(void *data) {
    (void)data;
    atomic_store(&ids[0], thread_id());
    pid_t child = vfork();
    if (child == 0) {
        struct timespec nap = {.tv_nsec = 1000000};
        atomic_store(&has_child, true);
        for (size_t i = 0; i < 60000 && !atomic_load(&ends_child); i++) {
            (void)syscall(SYS_nanosleep, &nap, NULL);
        }
        _exit(atomic_load(&ends_child) ? 0 : 1);
    }
    int status = 1;
    (void)waitpid(child, &status, 0);
    return status == 0 ? NULL : &has_child;
}

static void test_bounded(void **state) {
    (void)state;
    assert_false(tracer_stop(1, &files[0])); // not ours
    tracer_end();
    atomic_store(&ids[0], 0);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, vfork_and_wait, NULL), 0);
    while (!atomic_load(&has_child)) {
        nap_ms(1);
    }
    bool stopped = tracer_stop(atomic_load(&ids[0]), &files[0]);
    tracer_end();
    atomic_store(&ends_child, true);
    void *waited;
    assert_int_equal(pthread_join(thread, &waited), 0); // it went on
    assert_null(waited); // and so did we, before the child's end
    assert_false(stopped);
}

static bool may_trace(void) {
    begin();
    bool may = stop(0);
    tracer_end();
    end();
    return may;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stop),   cmocka_unit_test(test_let_go),
        cmocka_unit_test(test_quiet),  cmocka_unit_test(test_bounded),
        cmocka_unit_test(test_memory),
    };
    if (SUSPEND_COOPERATIVE) {
        return 77; // nobody is interrupted there
    }
    if (!may_trace()) {
        print_message("this system forbids tracing\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
