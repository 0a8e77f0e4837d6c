// crowd — threads that a test of the world has running, and stops.
//
// A worker does one thing until the test is over, and counts.  What it counts
// twice must agree whenever it may be stopped.  The test's own thread is the
// conductor.
//
// For tests that link modules of gc/; header only, since the archive of what
// tests share knows nothing of gc/.

#ifndef SUPPORT_CROWD_H
#define SUPPORT_CROWD_H

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "os/clock.h"
#include "os/suspend.h"
#include "os/thread.h"
#include "roots/world.h"

#if defined(__SANITIZE_ADDRESS__) || SUSPEND_COOPERATIVE
#define CROWD_SANITIZED 1
#else
#define CROWD_SANITIZED 0
#endif

// Whether this runs under an emulator, or instrumented: fewer rounds.
static inline bool crowd_is_slow(void) {
#if defined(__x86_64__)
    return CROWD_SANITIZED;
#else
    return true;
#endif
}

#define CROWD 64u // workers there is room for

static struct mutator *self; // of the test's own thread
static atomic_bool over;     // workers end
static atomic_uint ready;    // workers that are at work
static uint32_t named_thread;
static char named_reason[80];
static atomic_uint buried;

static inline void crowd_note_named(uint32_t thread, const char *name,
                                    const char *reason) {
    (void)name;
    named_thread = thread;
    (void)snprintf(named_reason, sizeof named_reason, "%s", reason);
}

static inline void crowd_note_buried(struct mutator *mutator) {
    assert_int_equal(mutator->thread, 0);
    atomic_fetch_add(&buried, 1);
}

// Sleeps for that long, whatever signals come.
static inline void crowd_nap_ms(unsigned ms) {
    struct timespec end;
    (void)clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_nsec += (long)(ms % 1000) * 1000000;
    end.tv_sec += ms / 1000 + end.tv_nsec / 1000000000;
    end.tv_nsec %= 1000000000;
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL) != 0) {
    }
}

// A worker: what it does, and how far it has come.
struct worker {
    pthread_t thread;
    void (*work)(struct worker *worker);
    struct mutator *mutator;
    uint32_t id;
    _Atomic uint64_t before, after; // the same, whenever it may be stopped
    bool attaches;
};

static struct worker workers[CROWD];

static inline void crowd_part(struct mutator *mutator) {
    world_lock(mutator);
    world_detach(mutator);
    world_unlock();
}

static inline void *crowd_run(void *data) {
    struct worker *worker = data;
    worker->id = thread_id();
    if (worker->attaches) {
        worker->mutator = world_attach(NULL, false);
        assert_non_null(worker->mutator);
    }
    atomic_fetch_add(&ready, 1);
    worker->work(worker);
    if (worker->attaches) {
        crowd_part(worker->mutator);
    }
    return NULL;
}

// Works to do.  Counts in a piece that must not be stopped in the middle, and
// outside of it.
static inline void crowd_work_inside(struct worker *worker) {
    while (!atomic_load(&over)) {
        mutator_enter(worker->mutator);
        atomic_fetch_add(&worker->before, 1);
        atomic_fetch_add(&worker->after, 1);
        world_leave(worker->mutator);
    }
}

// Counts, and never calls us.
static inline void crowd_work_alone(struct worker *worker) {
    while (!atomic_load(&over)) {
        atomic_fetch_add(&worker->before, 1);
        atomic_fetch_add(&worker->after, 1);
    }
}

static inline void crowd_begin(size_t count, bool attaches,
                               void (*work)(struct worker *worker)) {
    atomic_store(&over, false);
    atomic_store(&ready, 0);
    for (size_t i = 0; i < count; i++) {
        memset(&workers[i], 0, sizeof workers[i]);
        workers[i].work = work;
        workers[i].attaches = attaches;
        assert_int_equal(
            pthread_create(&workers[i].thread, NULL, crowd_run, &workers[i]),
            0);
    }
    while (atomic_load(&ready) < count) {
        crowd_nap_ms(1);
    }
}

static inline void crowd_end(size_t count) {
    atomic_store(&over, true);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
    }
}

// Whether a loop of stops may go on: some seconds at most, however busy the
// machine is.
static inline bool crowd_may_go_on(uint64_t begin_ns, size_t turn) {
    return turn < 10 || clock_now_ns() - begin_ns < (uint64_t)3000000000;
}

// Stops the world; the lock is held from here to crowd_go().
static inline struct world_stop_report crowd_stop(void) {
    struct world_stop_report report;
    world_lock(self);
    self->hot_end = __builtin_frame_address(0);
    assert_true(world_stop(self, &report));
    assert_true(world_is_stopping());
    return report;
}

static inline void crowd_go(void) {
    world_resume();
    self->hot_end = NULL;
    assert_false(world_is_stopping());
    world_unlock();
}

// W2: nobody moves for a while.
static inline void crowd_see_still(size_t count) {
    uint64_t was[CROWD];
    for (size_t i = 0; i < count; i++) {
        was[i] = atomic_load(&workers[i].before);
    }
    sched_yield();
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(atomic_load(&workers[i].before), was[i]);
    }
}

// Readies the world, and the calling thread as its conductor.
static inline bool crowd_init(void) {
    world.named = crowd_note_named;
    world.buried = crowd_note_buried;
    if (!world_init(0)) {
        return false;
    }
    self = world_attach(NULL, false);
    return self != NULL;
}

#endif
