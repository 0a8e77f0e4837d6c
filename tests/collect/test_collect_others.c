// The ladder and the cycle beside another mutator: what it finds of its caches
// when it was stopped in the midst of taking a cell, and where the cells go
// that others freed in its blocks.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "heap/block.h"
#include "os/suspend.h"
#include "support/stage.h"

static struct ground ground, other_ground;
static struct conductor conductor;
static struct collector collector;
static struct stage stage = {&ground, &conductor, &collector};
static struct stage other_stage = {&other_ground, &conductor, &collector};
static struct cache *cache;    // of the other mutator
static atomic_uint step, done; // what it is to do next, has done last

#define MUST(condition) ((condition) ? (void)0 : fail_at(#condition, __LINE__))

static void fail_at(const char *what, int line) {
    (void)fprintf(stderr, "line %d: %s\n", line, what);
    abort();
}

enum { TAKE, TAKING, CLIMB, END };

// As the inline path does it, with a cycle between the load and the store.
static void be_stopped_taking(struct mutator *mutator) {
    __atomic_store_n(&mutator->busy, MUTATOR_TAKING, __ATOMIC_RELAXED);
    atomic_signal_fence(memory_order_seq_cst);
    uintptr_t bump = *(volatile uintptr_t *)&cache->bump;
    uintptr_t limit = cache->limit;
    uint32_t block = cache->block;
    MUST(bump != limit);
    atomic_store(&done, TAKING);
    while (atomic_load(&step) == TAKING) {
    }
    MUST(cache->bump == bump && cache->limit == limit); // C6
    MUST(cache->block == block && cache_check(cache));  // C6
    cache->bump = bump + cache->bytes;
    atomic_signal_fence(memory_order_seq_cst);
    __atomic_store_n(&mutator->busy, MUTATOR_OUT, __ATOMIC_RELAXED);
}

static void *be_other(void *data) {
    struct mutator *mutator = world_attach(&ground.heap, false);
    MUST(mutator != NULL);
    other_ground.mutator = mutator;
    cache = stage_cache(&other_stage, *(const struct order *)data);
    for (unsigned next = TAKE; next != END;) {
        if (next == TAKING) {
            be_stopped_taking(mutator);
        } else {
            MUST(stage_cell(&other_stage, cache) != NULL);
        }
        atomic_store(&done, next);
        while (atomic_load(&step) == next) {
        }
        next = atomic_load(&step);
    }
    mutator_enter(mutator);
    world_lock(mutator);
    cache_give_up(cache, &ground.heap);
    collect_add_tally(&mutator->home);
    world_detach(mutator);
    world_unlock();
    return NULL;
}

static void let(unsigned what) {
    atomic_store(&step, what);
    while (atomic_load(&done) != what) {
    }
}

static void free_remotely(uint32_t block, uint32_t cell) {
    enum freed_by by = block_free_remotely(block, cell);
    assert_int_not_equal(by, FREED_TWICE);
    if (by == FREED_FIRST) {
        heap_push_freed(&ground.heap, block);
    }
}

// A climb of this thread, that routes what is on the stack.
static void climb(void) {
    struct order order = {KIND_LEAF, 20, 0};
    struct cache *own = stage_cache(&stage, order);
    while (cache_take(own) != NULL) {
    }
    while (ground.heap.freed_blocks != BLOCK_NONE) {
        assert_non_null(stage_cell(&stage, own));
        while (cache_take(own) != NULL) {
        }
    }
}

static void test_others(void **state) {
    (void)state;
    if (SUSPEND_COOPERATIVE) {
        skip();
    }
    struct order order = {KIND_SCANNED, 30, 0};
    pthread_t thread;
    atomic_store(&done, END);
    assert_int_equal(pthread_create(&thread, NULL, be_other, &order), 0);
    let(TAKE);
    uint32_t block = cache->block;
    assert_true(cache->bump != cache->limit);
    // Stopped in the midst of it, with nothing else in the block.
    let(TAKING);
    for (size_t i = 0; i < 10; i++) {
        assert_true(stage_cycle(&stage, COLLECT_ASKED)); // C6
    }
    // This thread frees in that block: it waits for its owner.
    let(CLIMB);
    assert_int_equal(cache->block, block);
    uint32_t cell = 0;
    while (!block_is_allocated(block, cell)) {
        cell++;
    }
    size_t live = block_get(block)->live;
    free_remotely(block, cell);
    climb();
    assert_int_equal(other_ground.mutator->inbox, block); // E5 of heap/heap.h
    assert_int_equal(block_get(block)->live, live);       // B7 of heap/block.h
    // A cycle of another heap leaves it there, one of this heap drains it.
    static struct heap second;
    assert_true(heap_init(&second, &ground.heap));
    mutator_drop_inbox(other_ground.mutator, &second);
    assert_int_equal(other_ground.mutator->inbox, block);
    assert_true(stage_cycle(&stage, COLLECT_ASKED));
    assert_int_equal(other_ground.mutator->inbox, BLOCK_NONE);
    assert_false(block_is_freed(block, cell));
    heap_fini(&second);
    // The owner ends with a cell to be drained: whoever climbs next does it.
    atomic_store(&step, END);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(block_get(block)->owner, 0);
    assert_true(stage_cycle(&stage, COLLECT_ASKED));
}

// A block that still bears the id of a mutator that has ended is drained by
// whoever climbs, and found again on its shelf.
static void test_ended(void **state) {
    (void)state;
    struct order order = {KIND_SCANNED, 31, 0};
    uint32_t block = heap_make_block(&ground.heap, order, 4000);
    uint32_t cells = (uint32_t)block_cells(block);
    block_set_hole(block, (struct hole){0, cells});
    ground.heap.used_bytes += cells * sizeclass_bytes(31);
    ground.heap.allocated_bytes += cells * sizeclass_bytes(31);
    for (uint32_t i = 0; i < cells / 2; i++) {
        free_remotely(block, i);
    }
    climb();
    assert_int_equal(block_get(block)->owner, 0);
    assert_int_equal(block_get(block)->live, cells - cells / 2);
    assert_int_equal(heap_take_block(&ground.heap, order, true, 0), block);
    // Watched, it stays as it is until the next cycle (B13 of heap/block.h).
    heap_shelve(&ground.heap, block);
    block_set_flags(block, BLOCK_WATCHED);
    free_remotely(block, cells - 1);
    climb();
    assert_true(block_is_allocated(block, cells - 1));
    assert_true(block_is_freed(block, cells - 1));
    assert_true(stage_cycle(&stage, COLLECT_ASKED));
    assert_int_equal(block_entry(block), CLASS_FREE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_others),
        cmocka_unit_test(test_ended),
    };
    if (!stage_init(&stage, GiB) || !range_use_freed()) {
        return 77; // no memory for it here
    }
    pacer_init(&collector.pacer, 4 * MiB, 100);
    conductor.check_verify = true;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
