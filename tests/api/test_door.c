// The door, asked as a shim asks: before there is a collector, in threads it
// has not met, in waits and in handlers.

#include "api/door.h"

#include "api/init.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <setjmp.h>

#include <cmocka.h>

#include "support/scrub.h"

#define KEY 40

static _Atomic uintptr_t told, ended;

// --- Before there is a collector ---------------------------------------

static void ask_everything(void) {
    errno = 4711;
    bool entered = true;
    loam_door_safe_enter(&entered);
    assert_false(entered);
    loam_door_safe_leave();
    loam_door_unwound();
    struct loam_door_handler was;
    loam_door_handler_enter(&was);
    assert_int_equal(was.safe.depth, 0);
    loam_door_handler_leave(&was);
    assert_false(loam_door_hold());
    loam_door_thread_begin();
    assert_true(loam_door_key_set(KEY, 1));
    loam_door_key_forget(KEY);
    assert_true(loam_door_alternate(&was));
    assert_int_equal(errno, 4711); // D2
    assert_null(init_mutator);
}

static void nothing_is_built_by_asking(void **state) { // D1, D2
    (void)state;
    assert_false(loam_door_is_open());
    ask_everything();
    assert_false(loam_door_is_open());
    assert_int_equal(loam_door_signal(), SIGURG);
    struct sigaction old;
    assert_false(loam_door_chain(NULL, &old));
}

static void *ask_as_a_stranger(void *unused) {
    (void)unused;
    bool entered = true;
    loam_door_safe_enter(&entered);
    loam_door_safe_leave();
    struct loam_door_handler was;
    loam_door_handler_enter(&was);
    bool right = !entered && was.safe.depth == 0 && !loam_door_hold() &&
                 init_mutator == NULL;
    loam_door_handler_leave(&was);
    loam_door_thread_begin(); // now it is built, and this thread is met
    return right && init_mutator != NULL ? NULL : &told;
}

static void a_stranger_is_left_alone(void **state) { // D1
    (void)state;
    pthread_t thread;
    void *wrong = &thread;
    assert_true(loam_init());
    assert_true(loam_door_is_open());
    assert_int_equal(pthread_create(&thread, NULL, ask_as_a_stranger, NULL), 0);
    assert_int_equal(pthread_join(thread, &wrong), 0);
    assert_null(wrong);
}

// --- Waits -------------------------------------------------------------

static uint32_t state_of(const struct mutator *mutator) {
    return __atomic_load_n(&mutator->state, __ATOMIC_SEQ_CST);
}

static void regions_nest_and_end(void **state) { // D2, D5
    (void)state;
    struct mutator *mutator = init_ready();
    assert_non_null(mutator);
    bool first = false;
    bool second = false;
    errno = 4711;
    loam_door_safe_leave(); // never entered
    assert_int_equal(state_of(mutator), MUTATOR_RUNS);
    loam_door_safe_enter(&first);
    assert_true(first);
    assert_int_equal(state_of(mutator), MUTATOR_SAFE);
    loam_door_safe_enter(&second);
    assert_true(second);
    loam_door_safe_leave();
    assert_int_equal(state_of(mutator), MUTATOR_SAFE);
    loam_door_unwound();
    assert_int_equal(state_of(mutator), MUTATOR_RUNS);
    loam_door_unwound();
    loam_door_safe_leave(); // twice
    assert_int_equal(state_of(mutator), MUTATOR_RUNS);
    assert_int_equal(mutator->busy, MUTATOR_OUT);
    assert_int_equal(errno, 4711);
}

static void the_collector_s_own_work_is_no_wait(void **state) { // D1
    (void)state;
    struct mutator *mutator = init_ready();
    bool entered = true;
    assert_true(loam_door_hold());
    assert_int_equal(mutator->busy, MUTATOR_LENT);
    loam_door_safe_enter(&entered);
    assert_false(entered);
    assert_false(loam_door_hold());
    assert_false(loam_door_is_open());
    loam_door_unhold();
    assert_true(loam_door_is_open());
    assert_int_equal(mutator->busy, MUTATOR_OUT);
}

static void a_handler_breaks_a_wait_and_mends_it(void **state) { // D4
    (void)state;
    struct mutator *mutator = init_ready();
    struct loam_door_handler was;
    bool entered;
    loam_door_handler_enter(&was); // over program code: nothing to do
    assert_int_equal(was.safe.depth, 0);
    loam_door_handler_leave(&was);
    assert_int_equal(state_of(mutator), MUTATOR_RUNS);
    loam_door_safe_enter(&entered);
    loam_door_safe_enter(&entered);
    const void *stopped_at = mutator->stopped_at;
    uintptr_t registers[STACK_REGISTERS];
    memcpy(registers, mutator->registers, sizeof registers);
    loam_door_handler_enter(&was);
    assert_int_equal(was.safe.depth, 2);
    assert_int_equal(state_of(mutator), MUTATOR_RUNS);
    bool within; // the handler waits, too
    loam_door_safe_enter(&within);
    assert_true(within);
    loam_door_safe_leave();
    assert_int_equal(state_of(mutator), MUTATOR_RUNS);
    loam_door_handler_leave(&was);
    assert_int_equal(state_of(mutator), MUTATOR_SAFE);
    assert_ptr_equal(mutator->stopped_at, stopped_at);
    assert_memory_equal(mutator->registers, registers, sizeof registers);
    loam_door_safe_leave();
    assert_int_equal(state_of(mutator), MUTATOR_SAFE);
    loam_door_safe_leave();
    assert_int_equal(state_of(mutator), MUTATOR_RUNS);
}

// An object whose only pointer is a local of a frame that waits.
static void *wait_with_an_object(void *unused) {
    (void)unused;
    uintptr_t *object = loam_alloc(4 * sizeof *object);
    object[3] = 4711;
    told = LOAM_HIDE(object);
    bool entered;
    loam_door_safe_enter(&entered);
    while (ended == 0) {
    }
    loam_door_safe_leave();
    return object[3] == 4711 ? NULL : &told;
}

static void what_a_waiting_frame_holds_is_alive(void **state) { // D3
    (void)state;
    pthread_t thread;
    void *wrong;
    told = ended = 0;
    assert_int_equal(pthread_create(&thread, NULL, wait_with_an_object, NULL),
                     0);
    while (told == 0) {
    }
    time_t end = time(NULL) + 10; // where stops are slow
    for (int n = 0; n < 50 && time(NULL) < end; n++) {
        assert_true(loam_collect());
        for (int i = 0; i < 100; i++) {
            uintptr_t *other = loam_alloc(4 * sizeof *other);
            other[3] = 1;
        }
    }
    assert_true(loam_is_heap(LOAM_REVEAL(told)));
    ended = 1;
    assert_int_equal(pthread_join(thread, &wrong), 0);
    assert_null(wrong);
}

// --- D6: a stop that is on when a region is entered is waited for, and its
// signal taken there ----------------------------------------------------

static _Atomic bool collect_end;

static void *collect_always(void *unused) {
    (void)unused;
    while (!collect_end) {
        (void)loam_collect();
        (void)usleep(5);
    }
    return NULL;
}

static void no_signal_comes_after_entering(void **state) { // D6
    (void)state;
    pthread_t thread;
    collect_end = false;
    assert_int_equal(pthread_create(&thread, NULL, collect_always, NULL), 0);
    unsigned early = 0;
    time_t end = time(NULL) + 10; // where stops are slow
    for (unsigned n = 0; n < 10000 && time(NULL) < end; n++) {
        bool entered;
        for (unsigned i = 0; i < n % 64 * 500; i++) {
            __asm__ volatile("");
        }
        loam_door_safe_enter(&entered);
        early += entered && usleep(1) != 0 && errno == EINTR;
        if (entered) {
            loam_door_safe_leave();
        }
    }
    collect_end = true;
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(early, 0);
}

// --- D8 ----------------------------------------------------------------

static _Atomic int steps; // of the stranger

static void *wait_while_locked(void *unused) {
    (void)unused;
    steps = 1;
    while (steps != 2) {
    }
    bool entered = false;
    loam_door_safe_enter(&entered);
    if (entered) {
        loam_door_safe_leave();
    }
    steps = 3;
    return NULL;
}

// A thread that no wrapper made, and that a stop has met, holds a lock of its
// own; whoever has Loam's waits for that one, in another collector's stop.
static void a_lock_does_not_keep_a_stranger_from_waiting(void **state) { // D8
    (void)state;
    pthread_t thread;
    steps = 0;
    assert_int_equal(pthread_create(&thread, NULL, wait_while_locked, NULL), 0);
    while (steps != 1) {
    }
    assert_true(loam_collect()); // W9: it is known, and no mutator
    loam_door_lock();
    steps = 2;
    time_t end = time(NULL) + 60;
    while (steps != 3 && time(NULL) < end) {
    }
    bool went_on = steps == 3;
    loam_door_unlock();
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(went_on);
}

// --- D7 ----------------------------------------------------------------

#define KEPT 20 // objects, of which a stale word may hold a few

static uintptr_t hidden[KEPT];

static NOT_INLINED void keep_all(void) {
    for (unsigned i = 0; i < KEPT; i++) {
        uintptr_t object = (uintptr_t)loam_alloc(64);
        assert_int_not_equal(object, 0);
        assert_true(loam_door_key_set(KEY + i, object + 5)); // into it
        hidden[i] = LOAM_HIDE(object);
    }
}

static NOT_INLINED unsigned count_alive(void) {
    unsigned alive = 0;
    scrub_stack();
    assert_true(loam_collect());
    for (unsigned i = 0; i < KEPT; i++) {
        alive += loam_is_heap(LOAM_REVEAL(hidden[i]));
    }
    return alive;
}

static void values_of_keys_are_kept(void **state) { // D7
    (void)state;
    keep_all();
    assert_int_equal(count_alive(), KEPT);
    for (unsigned i = 0; i < KEPT; i++) {
        assert_true(loam_door_key_set(KEY + i, 0)); // another value
    }
    assert_true(count_alive() < KEPT / 2);
    keep_all();
    assert_int_equal(count_alive(), KEPT);
    for (unsigned i = 0; i < KEPT; i++) {
        loam_door_key_forget(KEY + i);
    }
    assert_true(count_alive() < KEPT / 2);
    // Beyond every key there is nothing to keep.
    assert_true(loam_door_key_set(MUTATOR_KEPT, 1));
    loam_door_key_forget(MUTATOR_KEPT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_built_by_asking),
        cmocka_unit_test(a_stranger_is_left_alone),
        cmocka_unit_test(regions_nest_and_end),
        cmocka_unit_test(the_collector_s_own_work_is_no_wait),
        cmocka_unit_test(a_handler_breaks_a_wait_and_mends_it),
        cmocka_unit_test(what_a_waiting_frame_holds_is_alive),
        cmocka_unit_test(no_signal_comes_after_entering),
        cmocka_unit_test(a_lock_does_not_keep_a_stranger_from_waiting),
        cmocka_unit_test(values_of_keys_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
