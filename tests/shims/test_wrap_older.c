// Threads that are older than Loam and never call it: once a stop has found one
// its waits are known, and end early no more (W2, D1).
//
// seconds: 240

#include "loam.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/scrub.h"

static bool wait_in_poll(void) {
    return poll(NULL, 0, 20) < 0 && errno == EINTR;
}

static bool wait_in_nap(void) {
    struct timespec time = {.tv_nsec = 20000000};
    return nanosleep(&time, NULL) != 0 && errno == EINTR;
}

static int set; // of epoll, with nothing in it

static bool wait_in_epoll(void) {
    struct epoll_event event;
    return epoll_wait(set, &event, 1, 20) < 0 && errno == EINTR;
}

static bool wait_in_select(void) {
    struct timeval time = {.tv_usec = 20000};
    return select(0, NULL, NULL, NULL, &time) < 0 && errno == EINTR;
}

static sem_t never;

static bool wait_in_semaphore(void) {
    struct timespec end;
    (void)clock_gettime(CLOCK_REALTIME, &end);
    end.tv_nsec += 20000000;
    end.tv_sec += end.tv_nsec / 1000000000;
    end.tv_nsec %= 1000000000;
    return sem_timedwait(&never, &end) != 0 && errno == EINTR;
}

// Whether they ended early, for each way to wait.
static bool (*const ways[])(void) = {
    wait_in_poll, wait_in_nap, wait_in_epoll, wait_in_select, wait_in_semaphore,
};

#define WAYS (sizeof ways / sizeof *ways)

static atomic_uintptr_t gift; // the only reference, until one takes it
static atomic_size_t kept;    // that were found as they were given

static struct older {
    pthread_t thread;
    bool (*wait)(void);
    atomic_size_t waits, broken;
} older[WAYS];

static atomic_size_t handled;
static atomic_bool over;

static void *run_older(void *data) {
    struct older *self = data;
    while (!over) {
        size_t *object = (void *)atomic_exchange(&gift, 0);
        for (size_t i = 0; i < 4; i++) {
            errno = 0;
            self->broken += self->wait();
            self->waits++;
        }
        kept += object != NULL && object[7] == 4711;
        if (object != NULL && object[7] != 4711) {
            abort(); // lost
        }
    }
    return NULL;
}

static void begin(void) {
    set = epoll_create1(0);
    assert_true(set >= 0);
    assert_int_equal(sem_init(&never, 0, 0), 0);
    for (size_t i = 0; i < WAYS; i++) {
        older[i].wait = ways[i];
        assert_int_equal(
            pthread_create(&older[i].thread, NULL, run_older, &older[i]), 0);
    }
    for (size_t i = 0; i < WAYS; i++) {
        while (older[i].waits == 0) {
            (void)sched_yield();
        }
    }
}

static size_t least_waits(void) {
    size_t least = SIZE_MAX;
    for (size_t i = 0; i < WAYS; i++) {
        size_t waits = older[i].waits;
        least = waits < least ? waits : least;
    }
    return least;
}

static void collect_for(size_t more) {
    size_t until = least_waits() + more;
    while (least_waits() < until) {
        assert_true(loam_collect());
        (void)sched_yield();
    }
}

static void on_signal(int number) {
    (void)number;
    handled++;
}

static void waits_end_early_once(void **state) { // W2, D1
    (void)state;
    assert_true(loam_init());
    collect_for(100);
    for (size_t i = 0; i < WAYS; i++) {
        print_message("%zu waits, %zu ended early\n", (size_t)older[i].waits,
                      (size_t)older[i].broken);
        assert_true(older[i].broken <= 1);
    }
}

// The program's own signals end them as before.
static void other_signals_end_them(void **state) { // W1
    (void)state;
    struct sigaction action = {.sa_handler = on_signal};
    assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
    for (size_t i = 0; i < WAYS; i++) {
        size_t before = older[i].broken;
        while (older[i].broken == before) {
            assert_int_equal(pthread_kill(older[i].thread, SIGUSR1), 0);
            (void)poll(NULL, 0, 1);
            assert_true(loam_collect());
        }
    }
    assert_true(handled >= WAYS);
}

NOT_INLINED static void give(void) {
    size_t *object = loam_alloc(1000);
    assert_non_null(object);
    object[7] = 4711;
    gift = (uintptr_t)object;
}

// What such a thread holds while it waits is not lost, be it known or not.
static void what_they_hold_stays(void **state) { // W5
    (void)state;
    for (size_t turn = 0; turn < 20; turn++) {
        size_t before = kept;
        give();
        scrub_stack();
        while (kept == before) {
            assert_true(loam_collect());
            for (size_t i = 0; i < 100; i++) {
                assert_non_null(loam_alloc(1000)); // zeroes where one was lost
            }
        }
    }
}

static void they_end(void **state) {
    (void)state;
    over = true;
    for (size_t i = 0; i < WAYS; i++) {
        assert_int_equal(pthread_join(older[i].thread, NULL), 0);
    }
    assert_true(loam_collect());
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waits_end_early_once),
        cmocka_unit_test(what_they_hold_stays),
        cmocka_unit_test(other_signals_end_them),
        cmocka_unit_test(they_end),
    };
    begin(); // before Loam is there
    return cmocka_run_group_tests(tests, NULL, NULL);
}
