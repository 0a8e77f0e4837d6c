// A stop at every instruction.  One thread works in steps: taking and freeing
// cells, in and out of safe regions, through weak references, ending and
// beginning as a mutator.  Behind each instruction another thread begins a
// cycle, and does not go on before the cycle is over, unless the thread is at
// work inside: then it goes on, in steps, until it stops by itself.  What is
// reclaimed is at once filled with something else.
//
// A handler makes the steps, set so that the thread counts as what it was, as
// if it had lost its processor there.
//
// seconds: 240

#include "collect/collect.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/init.h"
#include "loam.h"
#include "loam/threads.h"
#include "loam/weak.h"
#include "os/clock.h"
#include "roots/mutator.h"
#include "roots/world.h"
#include "support/scrub.h"
#include "support/second.h"
#include "support/step.h"

#define BYTES SECOND_BYTES

// --- The thread that works in steps ----------------------------------------

#define LOCKED_NS 200000 // the lock was taken for so long: by this thread

// The first of the instructions behind which a stop begins, and how many apart
// (0: it is the only one).
struct stops {
    size_t first, every, count;
    bool waits; // until the cycle is over, not only until it has begun
};

static bool is_at_work(void) {
    const struct mutator *mutator = init_mutator;
    return mutator != NULL && mutator->busy == MUTATOR_INSIDE &&
           __atomic_load_n(&mutator->state, __ATOMIC_SEQ_CST) == MUTATOR_RUNS;
}

static void begin_a_stop(size_t instructions, void *data) {
    struct stops *stops = data;
    bool is_one = stops->every == 0 ? instructions == stops->first
                                    : instructions % stops->every ==
                                          stops->first % stops->every;
    if (!is_one ||
        atomic_load(&second_asked) != atomic_load(&second_answered)) {
        return;
    }
    stops->count++;
    unsigned long number = atomic_fetch_add(&second_asked, 1) + 1;
    uint64_t begin_ns = clock_now_ns();
    while (atomic_load(&second_answered) != number) {
        if (world_is_stopping()) {
            if (!stops->waits || is_at_work()) {
                return;
            }
        } else if (__atomic_load_n(&world.lock.word, __ATOMIC_RELAXED) != 0 &&
                   clock_now_ns() - begin_ns > LOCKED_NS) {
            return;
        }
    }
}

static void fill(unsigned char *object, unsigned number) {
    memset(object, (int)number, BYTES);
}

static void check(const unsigned char *object, unsigned number) {
    for (size_t i = 0; i < BYTES; i++) {
        if (object[i] != number) {
            abort(); // lost
        }
    }
}

static unsigned char *make(unsigned number) {
    unsigned char *object = loam_alloc(BYTES);
    if (object == NULL) {
        abort();
    }
    fill(object, number);
    return object;
}

static unsigned char *shelf; // the only reference, between two pieces of work

// In a register alone, from here to there.
static void work_in_regions(void *data) {
    (void)data;
    unsigned char *object = shelf;
    shelf = NULL;
    loam_blocking_enter();
    loam_blocking_enter();
    loam_blocking_leave();
    loam_blocking_leave();
    check(object, 1);
    shelf = object;
}

static void work_on_cells(void *data) {
    (void)data;
    unsigned char *first = shelf;
    shelf = NULL;
    unsigned char *second = make(2);
    unsigned char *third = loam_realloc(make(3), 3 * BYTES);
    check(first, 1);
    loam_free(first);
    unsigned char *fourth = make(1);
    check(second, 2);
    check(third, 3);
    loam_free(third);
    shelf = fourth;
}

static struct loam_weak *weak;
static size_t alive, dead;

// In frames that are gone when the steps begin.
NOT_INLINED static void make_both(void) {
    shelf = make(1);
    weak = loam_weak_make(make(4));
}

NOT_INLINED static void check_shelf(void) {
    check(shelf, 1);
}

// A reference that is read while its target dies: it leads there or nowhere.
static void work_with_weak(void *data) {
    (void)data;
    unsigned char *object = loam_weak_get(weak);
    if (object != NULL) {
        check(object, 4);
    }
    *(object != NULL ? &alive : &dead) += 1;
}

static void work_between_ends(void *data) {
    (void)data;
    unsigned char *object = shelf;
    shelf = NULL;
    loam_thread_detach();
    check(object, 1);
    shelf = make(1);
    check(object, 1);
}

// In steps, each time with the stops at other instructions.
static void run(void (*body)(void *data), size_t every, size_t turns) {
    pthread_t collector;
    atomic_store(&second_over, false);
    second_refused = 0;
    assert_int_equal(pthread_create(&collector, NULL, second_run, NULL), 0);
    size_t count = 0;
    bool ran = true;
    for (size_t turn = 0; ran && turn < turns; turn++) {
        struct stops stops = {turn / 2, every, 0, turn % 2 == 0};
        make_both();
        scrub_stack();
        ran = step_run(body, begin_a_stop, &stops);
        while (atomic_load(&second_asked) != atomic_load(&second_answered)) {
            sched_yield();
        }
        count += stops.count;
        check_shelf();
    }
    atomic_store(&second_over, true);
    assert_int_equal(pthread_join(collector, NULL), 0);
    if (!ran) {
        skip();
    }
    print_message("%zu stops\n", count);
    assert_true(count > turns / 4);
    assert_int_equal(second_refused, 0);
}

static void test_regions(void **state) { // C1
    (void)state;
    run(work_in_regions, 1, SCALED(4, 2));
}

static void test_cells(void **state) { // C1
    (void)state;
    run(work_on_cells, 7, 14);
}

static void test_weak(void **state) { // C1
    (void)state;
    alive = dead = 0;
    run(work_with_weak, 0, 300);
    print_message("%zu alive, %zu dead\n", alive, dead);
    assert_true(alive > 0 && dead > 0);
}

static void test_ends(void **state) { // C1
    (void)state;
    run(work_between_ends, 29, 12);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_regions),
        cmocka_unit_test(test_cells),
        cmocka_unit_test(test_weak),
        cmocka_unit_test(test_ends),
    };
    (void)setenv("LOAM_CHECK", "mark,verify", 0);
    return loam_init() ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
