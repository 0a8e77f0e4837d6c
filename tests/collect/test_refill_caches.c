// The rungs of the ladder that ask caches: when, for how much, and how often.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "collect/refill.h"
#include "os/stack.h"
#include "support/ground.h"
#include "support/scrub.h"
#include "support/stage.h"

static struct ground ground;
static struct conductor conductor;
static struct collector collector;
static struct stage stage = {&ground, &conductor, &collector};

// Objects that live: a segment of this program is a root.
static void *kept[70000];
static size_t kept_count;

// What stands for them: how often they are asked, for what, what they say.
static struct {
    size_t calls, bytes, given;
    bool frees;
} caches;

// The shortage hook says no, and may allocate.
static struct {
    size_t calls;
    struct cache *cache;
    bool allocates;
} hook;

static struct cache *cache_for(size_t bytes) {
    struct order order = {KIND_SCANNED, sizeclass_of(bytes), 0};
    return stage_cache(&stage, order);
}

static void *take(struct cache *cache) {
    void *cell = cache_take(cache);
    return cell != NULL ? cell : stage_cell(&stage, cache);
}

static void keep(void *cell) {
    assert_non_null(cell);
    kept[kept_count++] = cell;
}

static uint64_t cycles(void) {
    return collector.figures.cycles;
}

static bool hook_call(size_t bytes) {
    (void)bytes;
    hook.calls++;
    assert_true(!hook.allocates || take(hook.cache) == NULL);
    return false;
}

static void arm(struct cache *cache) {
    hook.calls = 0;
    hook.cache = cache;
    conductor.shortage = hook_call;
}

// Not a block more than there are now.
static void forbid_by_goal(void) {
    collector.pacer.goal_bytes = heap_block_bytes(&ground.heap);
}

// A cache that has nothing, in a region that gives nothing, all objects alive.
static struct cache *starve(size_t bytes) {
    struct cache *cache = cache_for(bytes);
    for (size_t i = 0; i < 5000; i++) {
        keep(take(cache));
    }
    ground.heap.region.limit_bytes = 1;
    void *cell;
    while ((cell = take(cache)) != NULL) {
        keep(cell);
    }
    return cache;
}

static int begin(void **state) {
    (void)state;
    memset(&hook, 0, sizeof hook);
    memset(kept, 0, sizeof kept);
    kept_count = 0;
    conductor.shortage = NULL;
    conductor.relieve = NULL;
    ground.heap.region.limit_bytes = 0;
    collector.pacer.goal_bytes = SIZE_MAX;
    scrub_stack();
    return stage_cycle(&stage, COLLECT_ASKED) ? 0 : 1;
}

static size_t relieve(size_t bytes) {
    assert_true(world_try_lock()); // Y4
    world_unlock();
    assert_int_equal(ground.mutator->busy, MUTATOR_OUT);
    caches.calls++;
    caches.bytes = bytes;
    if (caches.frees) {
        memset(kept, 0, sizeof kept);
    }
    return caches.given;
}

static void open_caches(size_t given) {
    memset(&caches, 0, sizeof caches);
    caches.given = given;
    conductor.relieve = relieve;
}

// Asked before the hook; each time that something went there is one more cycle,
// a few times (Y1).
static void test_caches_asked(void **state) {
    (void)state;
    struct cache *cache = starve(112);
    open_caches(0);
    arm(cache);
    uint64_t cycles_before = cycles();
    assert_null(take(cache));
    assert_int_equal(caches.calls, 2); // the limit is near, too
    assert_true(caches.bytes >= heap_block_bytes(&ground.heap) / 8);
    assert_int_equal(hook.calls, 1);
    assert_int_equal(cycles(), cycles_before + 1);
    open_caches(1);
    assert_null(take(cache));
    assert_int_equal(caches.calls, 2 * REFILL_RINGS + 1);
    assert_int_equal(cycles(), cycles_before + 2 + REFILL_RINGS); // Y1
    caches.frees = true;
    caches.calls = 0;
    assert_non_null(take(cache));
    assert_int_equal(caches.calls, 2); // near, and refused
}

// Not where there is room, where nothing is collected, or within the hook.
static void test_caches_spared(void **state) {
    (void)state;
    struct cache *cache = cache_for(112);
    open_caches(1);
    forbid_by_goal();
    for (size_t i = 0; i < 5000; i++) {
        keep(take(cache));
    }
    assert_int_equal(caches.calls, 0); // Y5
    conductor.relieve = NULL;
    cache = starve(112);
    open_caches(1);
    arm(cache);
    hook.allocates = true;
    conductor.disabled = 1;
    assert_null(take(cache));
    conductor.disabled = 0;
    assert_int_equal(caches.calls, 0); // Y5
    caches.given = 0;
    assert_null(take(cache));
    assert_int_equal(caches.calls, 2); // and not within the hook
    assert_int_equal(hook.calls, 2);
}

// Most of what the limit allows is alive: less shall be.
static void test_caches_near(void **state) {
    (void)state;
    struct cache *cache = cache_for(1024);
    for (size_t i = 0; i < 6 * KiB; i++) {
        keep(take(cache));
    }
    open_caches(0);
    size_t live = 6 * MiB;
    ground.heap.region.limit_bytes = 9 * MiB;
    forbid_by_goal();
    while (cache_take(cache) != NULL) {
    }
    keep(take(cache));
    assert_int_equal(caches.calls, 0); // Y5: two thirds
    ground.heap.region.limit_bytes = 7 * MiB;
    forbid_by_goal();
    while (caches.calls == 0) {
        keep(take(cache));
        assert_true(kept_count < 7 * KiB);
    }
    assert_in_range(caches.bytes, live - 7 * MiB / 8 * 5,
                    live + MiB - 7 * MiB / 8 * 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_caches_asked, begin),
        cmocka_unit_test_setup(test_caches_spared, begin),
        cmocka_unit_test_setup(test_caches_near, begin),
    };
    const void *cold_end = stack_cold_end();
    if (cold_end == NULL || !stage_init(&stage, 512 * MiB)) {
        return 77; // no memory for it here
    }
    ground.mutator->cold_end = cold_end;
    pacer_init(&collector.pacer, 4 * MiB, 100);
    conductor.check_verify = true;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
