// The ladder, rung by rung: a heap is prepared so that one rung can help, and
// what was asked before it, and what was not asked after it, is counted.

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

#define HIDE(p) (~(uintptr_t)(p))

static struct ground ground;
static struct conductor conductor;
static struct collector collector;
static struct stage stage = {&ground, &conductor, &collector};
static uint32_t *eaten; // runs that fill what the region has; not scanned
static size_t eaten_count;

// Objects that live: a segment of this program is a root.
static void *kept[70000];
static size_t kept_count;

// What the shortage hook does, and what it was told.
static struct {
    size_t calls, yes; // so far; how often to say yes
    size_t bytes;      // of the last call
    struct cache *cache;
    bool allocates, collects, lifts, frees;
    uintptr_t hidden; // what it held in a local variable
    void *got;
} hook;

// --- Preparing -------------------------------------------------------------

static struct cache *cache_for(size_t bytes, unsigned kind) {
    struct order order = {kind, sizeclass_of(bytes), 0};
    return stage_cache(&stage, order);
}

static void *take(struct cache *cache) {
    void *cell = cache_take(cache);
    return cell != NULL ? cell : stage_cell(&stage, cache);
}

static void *must(void *cell) {
    assert_non_null(cell);
    return cell;
}

static uint64_t cycles(void) {
    return collector.figures.cycles;
}

static size_t blocks(void) {
    return ground.heap.region.used_blocks;
}

// Uses the tail up, so that the next take climbs.
static void empty(struct cache *cache) {
    while (cache_take(cache) != NULL) {
    }
}

// A cycle that marks nothing: every object but the pinned is gone, whatever
// stale words the stack holds.
static void forget_all(void) {
    struct census census;
    memset(kept, 0, sizeof kept);
    kept_count = 0;
    ground_prepare(&ground);
    ground_flip(&ground, &census);
}

// Every hook off, no limit, all the room there is.
static int begin(void **state) {
    (void)state;
    forget_all();
    hook.got = NULL;
    conductor.shortage = NULL;
    conductor.disabled = 0;
    conductor.collect_every = 0;
    ground.heap.region.limit_bytes = 0;
    pacer_init(&collector.pacer, 4 * MiB, 100);
    collector.pacer.goal_bytes = SIZE_MAX;
    // Each test has the same cells: what the one before left on the stack would
    // be found again in the frames of this one.
    scrub_stack();
    return 0;
}

// Not a block more than there are now.
static void forbid_by_goal(void) {
    collector.pacer.goal_bytes = heap_block_bytes(&ground.heap);
}

// Nothing more from the system, and nothing free in the region.
static void forbid_by_limit(void) {
    ground.heap.region.limit_bytes = 1;
    for (;;) {
        bool zero;
        struct object *run = heap_make_run(&ground.heap, KIND_PINNED_LEAF,
                                           BLOCK_BYTES, 1, &zero);
        if (run == NULL) {
            return;
        }
        eaten[eaten_count++] = range_block_of((uintptr_t)run);
    }
}

static void free_eaten(void) {
    while (eaten_count != 0) {
        heap_free_run(&ground.heap, eaten[--eaten_count]);
    }
}

static int end(void **state) {
    (void)state;
    free_eaten();
    return 0;
}

// Fills a block of the cache's order, of which one in `one_in` cells is dropped
// at once, in a frame of its own: no word of it is to be left.
static NOT_INLINED uint32_t fill(struct cache *cache, size_t one_in) {
    uint32_t block = heap_make_block(&ground.heap, cache->order, 1);
    assert_int_not_equal(block, BLOCK_NONE);
    size_t cells = block_cells(block);
    cache_adopt(cache, block);
    assert_true(cache_refill(cache));
    for (size_t i = 0; i < cells; i++) {
        void *cell = take(cache);
        assert_int_equal(range_block_of((uintptr_t)cell), block);
        if (i % one_in != 0) {
            kept[kept_count++] = cell;
        }
    }
    // The block is full; a cell elsewhere becomes current.
    void *other = must(take(cache));
    assert_int_not_equal(range_block_of((uintptr_t)other), block);
    return block;
}

// Such a block, on a shelf after a cycle.
static uint32_t make_shelved(struct cache *cache, size_t one_in) {
    uint32_t block = fill(cache, one_in);
    scrub_stack();
    assert_true(stage_cycle(&stage, COLLECT_ASKED));
    empty(cache);
    while (cache->block != BLOCK_NONE && cache_refill(cache)) {
        empty(cache);
    }
    return block;
}

// --- Rungs -----------------------------------------------------------------

// own: a freed cell, then the next hole; nobody else is asked.
static void test_own(void **state) {
    (void)state;
    struct cache *cache = cache_for(32, KIND_SCANNED);
    void *first = must(take(cache));
    kept[0] = first;
    size_t before = blocks();
    uint64_t cycles_before = cycles();
    forbid_by_goal();
    void *freed = must(take(cache));
    struct place place;
    assert_non_null(blockmap_object((uintptr_t)freed, &place));
    empty(cache);
    assert_int_equal(cache_free(cache, &place), BLOCK_NONE);
    assert_ptr_equal(take(cache), freed);
    empty(cache);
    void *next = must(take(cache)); // another hole of the same block
    assert_int_equal(range_block_of((uintptr_t)next), place.block);
    assert_int_equal(blocks(), before);
    assert_int_equal(cycles(), cycles_before);
}

// shelf: a block at least a quarter free, before anything is taken fresh.
static void test_shelf(void **state) {
    (void)state;
    struct cache *cache = cache_for(48, KIND_SCANNED);
    uint32_t block = make_shelved(cache, 2);
    assert_int_not_equal(block_get(block)->list, SHELF_NONE);
    assert_int_not_equal(block_get(block)->list, SHELF_TIGHT);
    size_t before = blocks();
    uint64_t cycles_before = cycles();
    void *cell = must(take(cache));
    assert_int_equal(range_block_of((uintptr_t)cell), block);
    assert_int_equal(blocks(), before);
    assert_int_equal(cycles(), cycles_before);
}

// fresh: where the pacer allows it, without a cycle; before a tight block.
static void test_fresh(void **state) {
    (void)state;
    struct cache *cache = cache_for(64, KIND_SCANNED);
    uint32_t tight = make_shelved(cache, 50);
    assert_int_equal(block_get(tight)->list, SHELF_TIGHT);
    size_t before = blocks();
    uint64_t cycles_before = cycles();
    void *cell = must(take(cache));
    assert_int_not_equal(range_block_of((uintptr_t)cell), tight);
    assert_int_equal(blocks(), before + 1);
    assert_int_equal(cycles(), cycles_before);
    struct order order = {.kind = KIND_SCANNED};
    struct object *run = must(stage_run(&stage, order, MiB, 1));
    assert_int_equal(blocks(), before + 1 + 16);
    assert_int_equal((uintptr_t)run % BLOCK_BYTES, 0);
    assert_int_equal(cycles(), cycles_before);
}

// collect: at the goal, once; what it brings back is used.
static void test_collect(void **state) {
    (void)state;
    struct cache *cache = cache_for(80, KIND_SCANNED);
    for (size_t i = 0; i < 40000; i++) {
        (void)must(take(cache)); // nobody keeps it
    }
    empty(cache);
    while (cache->block != BLOCK_NONE && cache_refill(cache)) {
        empty(cache);
    }
    size_t before = blocks();
    uint64_t cycles_before = cycles();
    forbid_by_goal();
    kept[0] = must(take(cache));
    assert_int_equal(cycles(), cycles_before + 1); // Y1
    assert_int_equal(collector.figures.last.reason, COLLECT_GOAL);
    assert_true(blocks() < before); // Y2: nothing beyond the goal was needed
}

// scraps: where the heap cannot grow, tight blocks come before a cycle, until
// none is left; then a cycle runs.
static void test_scraps(void **state) {
    (void)state;
    struct cache *cache = cache_for(96, KIND_SCANNED);
    uint32_t tight = make_shelved(cache, 50);
    assert_int_equal(block_get(tight)->list, SHELF_TIGHT);
    forbid_by_limit();
    uint64_t cycles_before = cycles();
    size_t taken = 0;
    for (;;) {
        void *cell = must(take(cache));
        if (cycles() != cycles_before) {
            break;
        }
        assert_int_equal(range_block_of((uintptr_t)cell), tight);
        taken++;
    }
    assert_int_equal(taken, block_cells(tight) / 50 + 1); // every hole
    assert_int_equal(cycles(), cycles_before + 1);        // Y1
    assert_int_equal(collector.figures.last.reason, COLLECT_SHORTAGE);
}

// The same where the goal stands at the limit: that is no plan.
static void test_scraps_goal(void **state) {
    (void)state;
    struct cache *cache = cache_for(96, KIND_SCANNED);
    uint32_t tight = make_shelved(cache, 50);
    uint64_t cycles_before = cycles();
    forbid_by_goal();
    collector.pacer.limit_bytes = collector.pacer.goal_bytes;
    void *cell = must(take(cache));
    assert_int_equal(range_block_of((uintptr_t)cell), tight);
    assert_int_equal(cycles(), cycles_before);
}

// tight: the last room of all, where the pacer says no and a cycle has brought
// nothing, and the system says no too.
static void test_tight(void **state) {
    (void)state;
    struct cache *cache = cache_for(96, KIND_SCANNED);
    uint32_t tight = make_shelved(cache, 50);
    assert_int_equal(block_get(tight)->list, SHELF_TIGHT);
    forbid_by_limit();
    forbid_by_goal();
    uint64_t cycles_before = cycles();
    void *cell = must(take(cache));
    assert_int_equal(range_block_of((uintptr_t)cell), tight);
    assert_int_equal(cycles(), cycles_before + 1); // Y1, Y2
    assert_int_equal(collector.figures.last.reason, COLLECT_GOAL);
}

// beyond: more than the goal, after a cycle that did not help; and the goal has
// room above it then.
static void test_beyond(void **state) {
    (void)state;
    struct order order = {.kind = KIND_LEAF};
    forbid_by_goal();
    uint64_t cycles_before = cycles();
    struct object *run = must(stage_run(&stage, order, 100 * MiB, 1));
    assert_int_equal(cycles(), cycles_before + 1); // Y2
    assert_true(collector.pacer.goal_bytes >= 125 * MiB);
    kept[0] = run;
    // Again at once: no cycle for the little that the goal allows now.
    kept[1] = must(stage_run(&stage, order, MiB, 1));
    assert_int_equal(cycles(), cycles_before + 1);
}

// --- The hook --------------------------------------------------------------

static NOT_INLINED void hook_collect(void) {
    // The only pointer is in this frame.
    uintptr_t *volatile mine = hook.got;
    hook.hidden = HIDE(mine);
    hook.got = NULL;
    assert_true(stage_cycle(&stage, COLLECT_ASKED));
    assert_int_equal(HIDE(mine), hook.hidden);
}

static bool hook_call(size_t bytes) {
    assert_true(world_try_lock()); // Y4
    world_unlock();
    assert_int_equal(ground.mutator->busy, MUTATOR_OUT);
    hook.calls++;
    hook.bytes = bytes;
    if (hook.frees) {
        free_eaten();
    }
    if (hook.lifts) {
        ground.heap.region.limit_bytes = 0;
    }
    if (hook.allocates) {
        hook.got = take(hook.cache);
    }
    if (hook.collects) {
        hook_collect();
    }
    return hook.calls <= hook.yes;
}

static void arm(struct cache *cache) {
    memset(&hook, 0, sizeof hook);
    hook.cache = cache;
    conductor.shortage = hook_call;
}

// A cache that has nothing, all of whose cells live, and a region that gives
// nothing.
static struct cache *starve(size_t bytes) {
    struct cache *cache = cache_for(bytes, KIND_SCANNED);
    forbid_by_limit();
    do {
        void *cell;
        while ((cell = cache_take(cache)) != NULL) {
            kept[kept_count++] = cell;
        }
    } while (cache->block != BLOCK_NONE && cache_refill(cache));
    return cache;
}

// Nothing helped and the hook says no: NULL, after one cycle and one call.
static void test_hook_no(void **state) {
    (void)state;
    struct cache *cache = starve(112);
    assert_null(take(cache)); // without a hook too
    arm(cache);
    uint64_t cycles_before = cycles();
    assert_null(take(cache));
    assert_int_equal(hook.calls, 1);
    assert_int_equal(hook.bytes, 112);
    assert_int_equal(cycles(), cycles_before + 1); // Y1
    struct order order = {.kind = KIND_LEAF};
    assert_null(stage_run(&stage, order, 3 * MiB + 5, 1));
    assert_int_equal(hook.calls, 2);
    assert_int_equal(hook.bytes, 3 * MiB + 5);
    assert_int_equal(cycles(), cycles_before + 2);
}

// Each yes begins the ladder anew, with a cycle of its own (Y1); a hook that
// never helps is asked as long as it says yes.
static void test_hook_yes(void **state) {
    (void)state;
    struct cache *cache = starve(112);
    arm(cache);
    hook.yes = 4;
    uint64_t cycles_before = cycles();
    assert_null(take(cache));
    assert_int_equal(hook.calls, 5);               // Y1
    assert_int_equal(cycles(), cycles_before + 5); // Y1
}

// It raises the limit, or frees: the allocation succeeds.
static void test_hook_helps(void **state) {
    (void)state;
    struct cache *cache = starve(112);
    arm(cache);
    hook.yes = 1;
    hook.lifts = true;
    kept[kept_count++] = must(take(cache));
    assert_int_equal(hook.calls, 1);
    forget_all();
    starve(112);
    arm(cache);
    hook.yes = 1;
    hook.frees = true;
    assert_non_null(take(cache));
    assert_int_equal(hook.calls, 1);
    assert_int_equal(eaten_count, 0);
}

// It frees and allocates from the same cache: the climb takes what that left,
// and nothing is lost or handed out twice.
static void test_hook_allocates(void **state) {
    (void)state;
    struct cache *cache = starve(112);
    arm(cache);
    hook.yes = 1;
    hook.frees = hook.allocates = true;
    void *cell = must(take(cache));
    assert_int_equal(hook.calls, 1);
    assert_non_null(hook.got);
    assert_ptr_not_equal(hook.got, cell);
    assert_int_equal((uintptr_t)cell - (uintptr_t)hook.got, 112);
    assert_true(cache_check(cache));
}

// It allocates while there is nothing: refused, and not called from within.
static void test_hook_within(void **state) {
    (void)state;
    struct cache *cache = starve(112);
    arm(cache);
    hook.allocates = true;
    assert_null(take(cache));
    assert_int_equal(hook.calls, 1);
    assert_null(hook.got);
}

// It asks for a cycle, from within a climb that has registers and frames of the
// program above it: what only the hook's own frame holds stays.
static void test_hook_collects(void **state) {
    (void)state;
    struct cache *cache = starve(112);
    arm(cache);
    hook.yes = 1;
    hook.frees = hook.allocates = hook.collects = true;
    uint64_t cycles_before = cycles();
    scrub_stack();
    void *got = take(cache);
    assert_non_null(got);
    assert_true(cycles() >= cycles_before + 2);
    struct place place;
    assert_non_null(blockmap_object(HIDE(hook.hidden), &place));
    assert_ptr_not_equal(got, HIDE(hook.hidden));
    assert_null(ground.mutator->hot_end);
    assert_int_equal(ground.mutator->busy, MUTATOR_OUT);
}

// --- Settings --------------------------------------------------------------

// Collections disabled: beyond the goal without one, and at the limit NULL.
static void test_disabled(void **state) {
    (void)state;
    conductor.disabled = 2;
    forbid_by_goal();
    uint64_t cycles_before = cycles();
    struct order order = {.kind = KIND_LEAF};
    size_t goal = collector.pacer.goal_bytes;
    assert_non_null(stage_run(&stage, order, 10 * MiB, 1)); // Y2
    assert_int_equal(collector.pacer.goal_bytes, goal);     // for when it ends
    struct cache *cache = starve(144);
    arm(cache);
    hook.yes = 3;
    assert_null(take(cache));
    assert_int_equal(hook.calls, 4);
    conductor.collect_every = 1;
    assert_null(take(cache));
    assert_int_equal(cycles(), cycles_before);
}

// Every nth climb collects, and then not a second time (Y1).
static void test_every(void **state) {
    (void)state;
    struct cache *cache = cache_for(160, KIND_SCANNED);
    conductor.collect_every = 3;
    conductor.slow_paths = 0;
    uint64_t cycles_before = cycles();
    for (size_t i = 1; i <= 30; i++) {
        empty(cache);
        (void)must(take(cache));
        assert_int_equal(cycles() - cycles_before, i / 3);
    }
    conductor.collect_every = 1;
    for (size_t i = 1; i <= 30; i++) {
        empty(cache);
        forbid_by_goal();
        (void)must(take(cache));
        assert_int_equal(cycles() - cycles_before, 10 + i); // Y1
        assert_int_equal(collector.figures.last.reason, COLLECT_EVERY);
    }
    // Kept, or the cycle would give this cache's empty block to the next.
    kept[kept_count++] = must(take(cache));
    forget_all();
    cycles_before = cycles();
    assert_null(take(starve(112)));
    assert_int_equal(cycles(), cycles_before + 1); // Y1: also when it is short
}

// What no collection can make room for is refused without one.
static void test_absurd(void **state) {
    (void)state;
    uint64_t cycles_before = cycles();
    struct order order = {.kind = KIND_LEAF};
    static const size_t sizes[][2] = {
        {SIZE_MAX, 1},        {PTRDIFF_MAX, 1},     {MiB, SIZE_MAX / 2 + 1},
        {1, (size_t)1 << 62}, {SIZE_MAX - 4096, 1},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        assert_null(stage_run(&stage, order, sizes[i][0], sizes[i][1]));
    }
    assert_null(stage_run(&stage, order, range.bytes + 1, 1));
    assert_int_equal(cycles(), cycles_before);
    // The whole range and no more: there is a cycle, and then a refusal.
    assert_null(stage_run(&stage, order, range.bytes, 1));
    assert_int_equal(cycles(), cycles_before + 1);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(test_own),         TEST(test_shelf),
        TEST(test_fresh),       TEST(test_collect),
        TEST(test_scraps),      TEST(test_scraps_goal),
        TEST(test_tight),       TEST(test_beyond),
        TEST(test_hook_no),     TEST(test_hook_yes),
        TEST(test_hook_helps),  TEST(test_hook_allocates),
        TEST(test_hook_within), TEST(test_hook_collects),
        TEST(test_disabled),    TEST(test_every),
        TEST(test_absurd),
    };
    eaten = malloc(8192 * sizeof *eaten);
    const void *cold_end = stack_cold_end();
    if (eaten == NULL || cold_end == NULL || !stage_init(&stage, 512 * MiB)) {
        return 77; // no memory for it here
    }
    ground.mutator->cold_end = cold_end;
    conductor.check_verify = true;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
