// Seats: each is one thread's, nobody has one after the end, and who could not
// be of use takes none.

#ifndef _GNU_SOURCE
#define _GNU_SOURCE // sched_setaffinity
#endif

#include "roots/assist.h"

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "os/suspend.h"
#include "os/thread.h"
#include "support/step.h"

#define THREADS 6
#define ROUNDS  300

static struct assist assist;
static atomic_uint holders[ASSIST_SEATS];
static atomic_uint wrong, helped, over;
static atomic_bool done;

static void rest(void) {
    struct timespec time = {0, 20000};
    (void)nanosleep(&time, NULL);
}

// Until the conductor says that it is over, or for a moment.
static void work(void *data, size_t seat) {
    size_t count = *(const size_t *)data;
    if (seat >= count || atomic_fetch_add(&holders[seat], 1) != 0) { // A1
        atomic_fetch_add(&wrong, 1);
    }
    atomic_fetch_add(&helped, 1);
    for (int turn = 0; turn < 3 && !atomic_load(&over); turn++) {
        rest();
    }
    atomic_fetch_sub(&holders[seat], 1);
}

static void *help(void *data) {
    while (!atomic_load(&done)) {
        if (data == NULL) {
            (void)assist_take(&assist);
        } else {
            assist_take_deaf(&assist);
        }
        rest();
    }
    return NULL;
}

// With the conductor on no processor that there is: this thread may come.
static void offer(size_t *count) {
    assist_offer(&assist, work, count, *count);
    __atomic_store_n(&assist.cpu, UINT_MAX, __ATOMIC_RELAXED);
}

// A1, A2: while the conductor ends it in the middle, again and again.
static void test_seats(void **state) {
    (void)state;
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, help,
                                        i % 2 == 0 ? NULL : &assist),
                         0);
    }
    for (size_t round = 0; round < ROUNDS; round++) {
        size_t count = 1 + round % (THREADS + 2);
        assert_false(assist_is_open(&assist)); // A2
        atomic_store(&over, 0);
        assist_offer(&assist, work, &count, count);
        for (size_t i = 0; i < round % 5; i++) {
            rest();
        }
        atomic_store(&over, 1);
        assist_recall(&assist);
        for (size_t i = 0; i < ASSIST_SEATS; i++) {
            assert_int_equal(atomic_load(&holders[i]), 0); // A2
        }
        assert_int_equal(__atomic_load_n(&assist.seats, __ATOMIC_SEQ_CST), 0);
    }
    atomic_store(&done, true);
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    assert_int_equal(atomic_load(&wrong), 0);
    print_message("helped %u times\n", atomic_load(&helped));
}

// All the seats there can be, and not one more.
static void test_all_seats(void **state) {
    (void)state;
    size_t count = ASSIST_SEATS;
    atomic_store(&over, 1);
    offer(&count);
    unsigned before = atomic_load(&helped);
    for (size_t i = 0; i < 2 * ASSIST_SEATS; i++) {
        assert_true(assist_take(&assist)); // a seat is free again at once
    }
    assert_int_equal(atomic_load(&helped) - before, 2 * ASSIST_SEATS);
    assist_recall(&assist);
    assert_false(assist_take(&assist));
}

// A3: on the conductor's processor.
static void test_same_cpu(void **state) {
    (void)state;
    cpu_set_t was, one;
    if (sched_getaffinity(0, sizeof was, &was) != 0) {
        skip();
    }
    CPU_ZERO(&one);
    CPU_SET(thread_cpu(), &one);
    if (sched_setaffinity(0, sizeof one, &one) != 0) {
        skip();
    }
    size_t count = 2;
    assist_offer(&assist, work, &count, count);
    assert_false(assist_take(&assist)); // A3
    __atomic_store_n(&assist.cpu, UINT_MAX, __ATOMIC_RELAXED);
    assert_true(assist_take(&assist));
    assist_recall(&assist);
    assert_int_equal(sched_setaffinity(0, sizeof was, &was), 0);
}

static char stack[64 * 1024];
static volatile size_t wanted; // of room
static volatile size_t took, refused;

// Uses the stack up, but for so much.
NOINLINE static void use_up(size_t left) {
    const char *frame = __builtin_frame_address(0);
    size_t room = (size_t)(frame - stack);
    if (room > left + 512) {
        volatile char pad[256];
        pad[0] = (char)left;
        use_up(left);
        pad[1] = pad[0];
        return;
    }
    bool taken = assist_take(&assist);
    took += taken;
    refused += !taken;
    if (taken ? room < 4 * KiB : room > 5 * KiB) { // A3
        atomic_fetch_add(&wrong, 1);
    }
}

static void on_signal(int signal) {
    (void)signal;
    use_up(wanted);
}

// A3: on a signal stack with little room, and with more: the bound lies where
// it should, give or take a frame.
static void test_room(void **state) {
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || SUSPEND_COOPERATIVE
    skip(); // their own frames are large
#endif
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};
    assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
    size_t count = 1;
    offer(&count);
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    assert_int_equal(sigaltstack(&alternate, NULL), 0);
    for (wanted = 2 * KiB; wanted < 16 * KiB; wanted += 256) {
        assert_int_equal(raise(SIGUSR1), 0);
    }
    stack_t none = {.ss_flags = SS_DISABLE};
    assert_int_equal(sigaltstack(&none, NULL), 0);
    assert_int_equal(atomic_load(&wrong), 0);
    assert_true(took > 0 && refused > 0);
    assist_recall(&assist);
}

static volatile sig_atomic_t trapped, trapped_inside;

static void on_trap(int signal) {
    (void)signal;
    trapped++;
}

static void trap(void *data, size_t seat) {
    (void)data;
    (void)seat;
    (void)raise(SIGTRAP);
    trapped_inside = trapped;
}

// A4: also of a signal that is open in a stop.
static void test_quiet(void **state) {
    (void)state;
    struct sigaction action = {.sa_handler = on_trap};
    assert_int_equal(sigaction(SIGTRAP, &action, NULL), 0);
    assist_offer(&assist, trap, NULL, 1);
    __atomic_store_n(&assist.cpu, UINT_MAX, __ATOMIC_RELAXED);
    assert_true(assist_take(&assist));
    assert_int_equal(trapped_inside, 0);              // A4
    assert_true(trapped == 1 || SUSPEND_COOPERATIVE); // put off by TSan
    assist_recall(&assist);
}

// A2: in a child there is no stop; who waited in the parent's ends it once.
static void test_forked(void **state) {
    (void)state;
    size_t count = 3;
    offer(&count);
    assist_wait(&assist, true);
    assist_wait(&assist, true);
    assert_int_equal(assist.waiting, 2);
    assist_forked(&assist);
    assert_false(assist_is_open(&assist)); // A2
    assert_false(assist_take(&assist));
    assist_wait(&assist, false);
    assert_int_equal(assist.waiting, 0);
    assist_wait(&assist, true);
    assert_int_equal(assist.waiting, 1);
    assist_wait(&assist, false);
    assert_int_equal(assist.waiting, 0);
}

static void step_once(void *data) {
    bool *took_it = data;
    *took_it = assist_take(&assist);
}

static void look(size_t instructions, void *data) {
    (void)instructions;
    (void)data;
}

// A3, A4: whom its own handler steps would be killed by it.
static void test_stepped(void **state) {
    (void)state;
    size_t count = 1;
    bool took_it = true;
    offer(&count);
    if (!step_run(step_once, look, &took_it)) {
        assist_recall(&assist);
        skip();
    }
    assert_false(took_it);
    step_once(&took_it);
    assert_true(took_it);
    assist_recall(&assist);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_seats),    cmocka_unit_test(test_all_seats),
        cmocka_unit_test(test_same_cpu), cmocka_unit_test(test_room),
        cmocka_unit_test(test_quiet),    cmocka_unit_test(test_forked),
        cmocka_unit_test(test_stepped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
