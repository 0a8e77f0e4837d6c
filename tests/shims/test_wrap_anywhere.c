// A handler of the program behind every instruction of calls that wait, and of
// the program's own safe regions (W5).  It takes the only reference to an
// object, lets another thread collect, and looks at the object again: in a
// thread that counted as waiting the handler's frame would not be read.
//
// seconds: 240

#include "loam.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "loam/threads.h"
#include "support/scrub.h"
#include "support/second.h"
#include "support/step.h"

#define BYTES   SECOND_BYTES
#define WAIT_NS 4000000 // over Loam's own work a stop waits for the handler
#define CYCLES  20      // in handlers, at least
#define TURNS   60      // on a busy machine it takes some until there are

static size_t in_time, late;
static pid_t process;
static unsigned char *_Atomic shelf; // the only reference, but for handlers

static uint64_t now_ns(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void hold_over_a_cycle(size_t instructions, void *data) {
    (void)instructions;
    (void)data;
    if (atomic_load(&second_asked) != atomic_load(&second_answered) ||
        getpid() != process) {
        return; // a child of vfork holds nothing
    }
    unsigned char *object = atomic_exchange(&shelf, NULL);
    unsigned long number = atomic_fetch_add(&second_asked, 1) + 1;
    uint64_t begin_ns = now_ns();
    while (atomic_load(&second_answered) != number &&
           now_ns() - begin_ns < WAIT_NS) {
    }
    *(atomic_load(&second_answered) == number ? &in_time : &late) += 1;
    for (size_t i = 0; i < BYTES; i++) {
        if (object[i] != 7) {
            abort(); // lost
        }
    }
    atomic_store(&shelf, object);
}

NOT_INLINED static void make_shelf(void) {
    unsigned char *object = loam_alloc(BYTES);
    assert_non_null(object);
    memset(object, 7, BYTES);
    atomic_store(&shelf, object);
}

static void run(void (*body)(void *data), size_t turns) {
    pthread_t collector;
    atomic_store(&second_over, false);
    in_time = late = 0;
    make_shelf();
    scrub_stack();
    assert_int_equal(pthread_create(&collector, NULL, second_run, NULL), 0);
    bool ran = true;
    for (size_t turn = 0;
         ran && (turn < turns || (in_time <= CYCLES && turn < TURNS)); turn++) {
        ran = step_run(body, hold_over_a_cycle, NULL);
    }
    atomic_store(&second_over, true);
    assert_int_equal(pthread_join(collector, NULL), 0);
    if (!ran) {
        skip();
    }
    print_message("%zu cycles in handlers, %zu after them\n", in_time, late);
    assert_true(in_time > CYCLES);
}

static void wait_a_little(void *data) {
    (void)data;
    struct timespec time = {.tv_nsec = 1000};
    (void)nanosleep(&time, NULL);
}

static void test_wait(void **state) { // W5
    (void)state;
    run(wait_a_little, 3);
}

static void be_away(void *data) {
    (void)data;
    loam_blocking_enter();
    wait_a_little(NULL);
    loam_blocking_leave();
}

static void test_region(void **state) { // W5
    (void)state;
    run(be_away, 3);
}

static void make_a_child(void *data) {
    (void)data;
    pid_t child = vfork();
    if (child == 0) {
        _exit(0);
    }
    (void)waitpid(child, NULL, 0);
}

static void test_vfork(void **state) { // W5
    (void)state;
    run(make_a_child, 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wait),
        cmocka_unit_test(test_region),
        cmocka_unit_test(test_vfork),
    };
    process = getpid();
    return loam_init() ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
