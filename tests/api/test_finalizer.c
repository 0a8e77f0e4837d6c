// Where a finalizer finds itself, seen from below the public door.

#include "api/finalizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>

#include "loam/weak.h"
#include "roots/mutator.h"
#include "roots/world.h"
#include "support/scrub.h"

#define COUNT 50

static size_t ran, told, depth;

static void *must(void *p) {
    assert_non_null(p);
    return p;
}

static void look(void *object, void *data) {
    (void)object;
    const struct mutator *mutator = init_mutator;
    assert_non_null(mutator);
    assert_int_equal(mutator->busy, MUTATOR_OUT); // FI1
    assert_null(mutator->hot_end);
    assert_int_equal(init_state.conductor.phase, COLLECT_IDLE);
    assert_true(world_try_lock()); // FI1
    world_unlock();
    assert_int_equal(depth, 0); // FI2
    depth++;
    ran++;
    errno = 77;
    if (data != NULL) {
        for (size_t i = 0; i < 20; i++) {
            must(loam_alloc(5000));
        }
        (void)loam_collect(); // makes more due, which wait
    }
    depth--;
}

static void tell(void *data) {
    assert_null(data);
    assert_int_equal(init_mutator->busy, MUTATOR_OUT);
    told++;
}

static NOT_INLINED void make(size_t count, void *data) {
    struct loam_finalizer finalizer = {look, data, LOAM_FINALIZE_ORDERED};
    for (size_t i = 0; i < count; i++) {
        assert_true(loam_finalizer_set(must(loam_alloc(32)), &finalizer, NULL));
    }
}

static void test_outside(void **state) {
    (void)state;
    loam_finalizers_notify(tell, NULL);
    for (size_t i = 0; i < 3; i++) {
        size_t before = told;
        make(COUNT, i % 2 == 0 ? NULL : &ran);
        errno = 5;
        assert_true(scrub_collect());
        assert_int_equal(errno, 5);
        assert_true(told > before); // FI5
    }
    assert_true(scrub_collect());
    assert_true(ran > 3 * COUNT - 10 && ran <= 3 * COUNT); // FI3
    loam_finalizers_notify(NULL, NULL);
}

static NOT_INLINED void hide_nodes(uintptr_t *hidden) {
    struct loam_finalizer finalizer = {look, NULL, LOAM_FINALIZE_ORDERED};
    for (size_t i = 0; i < COUNT; i++) {
        void *p = must(loam_alloc(32));
        assert_true(loam_finalizer_set(p, &finalizer, NULL));
        hidden[i] = LOAM_HIDE(p);
    }
}

// FI4: freed while they waited in the queue, by one that knows them.
static void test_freed(void **state) {
    (void)state;
    uintptr_t hidden[COUNT];
    ran = 0;
    loam_finalizers_when(LOAM_FINALIZERS_ON_DEMAND);
    hide_nodes(hidden);
    assert_true(scrub_collect());
    size_t due = loam_finalizers_due();
    assert_true(due > COUNT - 5);
    for (size_t i = 0; i < COUNT; i += 2) {
        loam_free(LOAM_REVEAL(hidden[i]));
    }
    assert_true(loam_finalizers_run(10) == 10);
    assert_true(scrub_collect()); // the rest meet a cycle in between
    while (loam_finalizers_run(7) != 0) {
    }
    assert_true(ran <= COUNT / 2); // FI4
    assert_true(ran >= due - COUNT / 2);
    loam_finalizers_when(LOAM_FINALIZERS_ON_THEIR_OWN);
}

// A thread that ends in the middle of one: the others go on.
static void leave(void *object, void *data) {
    (void)object;
    (void)data;
    ran++;
    pthread_exit(NULL);
}

static void *die(void *data) {
    (void)data;
    for (size_t i = 0; i < 3; i++) {
        struct loam_finalizer finalizer = {leave, NULL, LOAM_FINALIZE_ORDERED};
        (void)loam_finalizer_set(loam_alloc(32), &finalizer, NULL);
    }
    (void)scrub_collect();
    return NULL;
}

static void test_runner_dies(void **state) {
    (void)state;
    ran = 0;
    for (size_t i = 0; i < 3; i++) {
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, die, NULL), 0);
        loam_blocking_enter(); // nothing is wrapped here
        assert_int_equal(pthread_join(thread, NULL), 0);
        loam_blocking_leave();
    }
    assert_true(ran >= 1); // FI2
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_outside),
        cmocka_unit_test(test_freed),
        cmocka_unit_test(test_runner_dies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
