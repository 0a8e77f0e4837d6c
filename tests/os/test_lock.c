// The lock: one holder, no lost wake, every schedule of its steps.

#include "os/lock.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "os/clock.h"
#include "support/explore.h"

#define THREADS 4u
#define ROUNDS  20000u

// --- As it is --------------------------------------------------------------

static struct lock lock; // L3: zero is free
static uint64_t guarded[2];
static atomic_uint interrupted;

static void *contend(void *data) {
    (void)data;
    for (size_t round = 0; round < ROUNDS; round++) {
        errno = 90;
        lock_acquire(&lock);
        assert_int_equal(errno, 90); // L4
        assert_int_equal(guarded[0], guarded[1]);
        guarded[0]++;
        if (round % 64 == 0) {
            struct timespec nap = {.tv_nsec = 1000};
            (void)nanosleep(&nap, NULL); // others fall asleep meanwhile
        }
        guarded[1]++;
        lock_release(&lock);
    }
    return NULL;
}

// L1, L2
static void test_contention(void **state) {
    (void)state;
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, contend, NULL), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    assert_int_equal(guarded[0], THREADS * ROUNDS); // L1
    assert_int_equal(guarded[1], THREADS * ROUNDS);
    assert_int_equal(lock.word, 0); // L3
}

static void test_try(void **state) {
    (void)state;
    assert_true(lock_try(&lock));
    assert_false(lock_try(&lock));
    lock_release(&lock);
    assert_true(lock_try(&lock));
    lock_release(&lock);
}

static void note(int number) {
    (void)number;
    atomic_fetch_add(&interrupted, 1);
}

static void *acquire(void *data) {
    atomic_uint *got = data;
    lock_acquire(&lock);
    atomic_store(got, 1);
    lock_release(&lock);
    return NULL;
}

// L5: neither a signal nor a request to cancel ends the wait.
static void test_interrupted(void **state) {
    (void)state;
    struct sigaction action = {.sa_handler = note};
    assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
    static atomic_uint got;
    pthread_t thread;
    lock_acquire(&lock);
    assert_int_equal(pthread_create(&thread, NULL, acquire, &got), 0);
    struct timespec nap = {.tv_nsec = 5000000};
    for (size_t turn = 0; turn < 10; turn++) {
        (void)nanosleep(&nap, NULL);
        assert_int_equal(pthread_kill(thread, SIGUSR1), 0);
    }
    (void)nanosleep(&nap, NULL);
    assert_int_equal(pthread_cancel(thread), 0);
    (void)nanosleep(&nap, NULL);
    assert_int_equal(atomic_load(&got), 0);
    lock_release(&lock);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(atomic_load(&got), 1);
    assert_true(atomic_load(&interrupted) > 0);
}

static void test_words(void **state) {
    (void)state;
    uint32_t word = 5;
    errno = 91;
    assert_true(lock_wait(&word, 6, 0)); // it is not what was thought
    uint64_t begin = clock_now_ns();
    assert_false(lock_wait(&word, 5, 2000000));
    assert_true(clock_now_ns() - begin >= 2000000);
    assert_int_equal(lock_wake(&word, SIZE_MAX), 0);
    assert_int_equal(errno, 91); // L4
}

// --- As a machine ----------------------------------------------------------

enum place { OUT, TRY, MARK, SLEEP, ASLEEP, IN, LET, WAKE, END };

struct machine {
    uint8_t word;
    uint8_t place[3];  // enum place
    uint8_t rounds[3]; // how often each has had the lock
    uint8_t woken;     // a wake finds a sleeper: which, is the system's choice
};

static bool marks; // false: a lock that loses a wake

static bool machine_wake(struct machine *machine, size_t choice) {
    bool any = false;
    for (size_t i = 0; i < 3; i++) {
        any |= machine->place[i] == ASLEEP;
    }
    if (!any) {
        return choice == 0;
    }
    if (machine->place[choice] != ASLEEP) {
        return false;
    }
    machine->place[choice] = MARK;
    return true;
}

static bool machine_step(void *state, size_t thread, size_t choice) {
    struct machine *machine = state;
    uint8_t *place = &machine->place[thread];
    if (choice != 0 && *place != WAKE) {
        return false;
    }
    switch ((enum place) * place) {
    case OUT:
        *place = machine->rounds[thread] < 2 ? TRY : END;
        return true;
    case TRY: // compare and swap 0, 1
        *place = machine->word == 0 ? IN : MARK;
        machine->word = machine->word == 0 ? 1 : machine->word;
        return true;
    case MARK: // exchange 2
        *place = machine->word == 0 ? IN : SLEEP;
        machine->word = marks || machine->word != 0 ? 2 : 1;
        return true;
    case SLEEP: // the futex looks and sleeps at once
        *place = machine->word == 2 ? ASLEEP : MARK;
        return true;
    case IN:
        machine->rounds[thread]++;
        *place = LET;
        return true;
    case LET: // exchange 0
        *place = machine->word == 2 ? WAKE : OUT;
        machine->word = 0;
        return true;
    case WAKE:
        *place = OUT;
        return machine_wake(machine, choice);
    case ASLEEP:
    case END:
    default:
        return false;
    }
}

static bool machine_is_right(const void *state) {
    const struct machine *machine = state;
    size_t holders = 0;
    for (size_t i = 0; i < 3; i++) {
        holders += machine->place[i] == IN || machine->place[i] == LET;
    }
    return holders <= 1; // L1
}

static bool machine_is_done(const void *state) {
    const struct machine *machine = state;
    return machine->place[0] == END && machine->place[1] == END &&
           machine->place[2] == END; // L2: else somebody sleeps for ever
}

static void test_schedules(void **state) {
    (void)state;
    const struct explore_model model = {
        sizeof(struct machine), 3, 3, machine_step, machine_is_right,
        machine_is_done};
    struct machine first;
    memset(&first, 0, sizeof first);
    marks = true;
    size_t states = explore(&model, &first, true);
    print_message("%zu states of three threads\n", states);
    assert_true(states > 1000); // L1, L2
    // Whoever was woken takes the lock as if nobody else slept: found.
    marks = false;
    assert_int_equal(explore(&model, &first, false), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_try),         cmocka_unit_test(test_contention),
        cmocka_unit_test(test_interrupted), cmocka_unit_test(test_words),
        cmocka_unit_test(test_schedules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
