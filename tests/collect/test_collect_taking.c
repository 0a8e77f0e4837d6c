// A thread that is stopped in the middle of the inline path of allocation.

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "collect/collect.h"
#include "os/suspend.h"
#include "support/ground.h"
#include "support/stage.h"

static struct ground ground;
static struct conductor conductor;
static struct collector collector;
static struct stage stage = {&ground, &conductor, &collector};

static struct {
    uint32_t ready, go; // atomic
    struct cache before, after;
    bool same;
} taker;

// A thread in the middle of taking a cell, from a block that is empty but for
// its tail.
static void *take_forever(void *unused) {
    struct order order = {KIND_SCANNED, sizeclass_of(48), 0};
    struct mutator *mutator = world_attach(&ground.heap, false);
    mutator_enter(mutator);
    world_lock(mutator);
    struct cache *cache = mutator_add_cache(mutator, &mutator->home, order);
    uint32_t block = heap_make_block(&ground.heap, order, mutator->id);
    cache_adopt(cache, block);
    world_unlock();
    bool refilled = cache_refill(cache);
    taker.before = *cache;
    __atomic_store_n(&mutator->busy, MUTATOR_TAKING, __ATOMIC_SEQ_CST);
    __atomic_store_n(&taker.ready, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&taker.go, __ATOMIC_SEQ_CST) == 0) {
    }
    mutator_enter(mutator);
    taker.after = *cache;
    taker.same = refilled && cache_check(cache);
    world_lock(mutator);
    cache_give_up(cache, &ground.heap);
    collect_add_tally(&mutator->home);
    world_detach(mutator);
    world_unlock();
    world_leave(mutator);
    return unused;
}

// C6: stopped between the load of bump and its store, it goes on as if nothing
// had been; though nothing in its block is alive.
static void test_taking(void **state) {
    (void)state;
    if (SUSPEND_COOPERATIVE) {
        skip(); // a thread that spins answers no stop then
    }
    pthread_t thread;
    memset(&taker, 0, sizeof taker);
    assert_int_equal(pthread_create(&thread, NULL, take_forever, NULL), 0);
    while (__atomic_load_n(&taker.ready, __ATOMIC_SEQ_CST) == 0) {
    }
    for (size_t i = 0; i < 3; i++) {
        assert_true(stage_cycle(&stage, COLLECT_ASKED));
        // An emulator has a thread of its own besides.
        assert_true(collector.figures.last.threads >= 1);
    }
    __atomic_store_n(&taker.go, 1, __ATOMIC_SEQ_CST);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(taker.same);
    assert_int_equal(taker.after.block, taker.before.block);
    assert_int_equal(taker.after.bump, taker.before.bump); // C6
    assert_int_equal(taker.after.limit, taker.before.limit);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_taking)};
    if (!stage_init(&stage, 256 * MiB)) {
        return 77; // no memory for it here
    }
    pacer_init(&collector.pacer, 4 * MiB, 100);
    conductor.check_verify = true;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
