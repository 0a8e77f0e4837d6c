// The reserve: levels, caches that take one cell at a time, blocks that are
// kept for when the lock is taken.

#include "roots/reserve.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "heap/block.h"
#include "heap/blockmap.h"
#include "heap/sizeclass.h"
#include "support/ground.h"

static struct ground ground;
static struct reserve *reserve;

static struct order order_of(size_t bytes, unsigned kind) {
    return (struct order){.kind = kind, .cls = sizeclass_of(bytes)};
}

// As a handler would: what the level has, or with a block brought to it.
static void *take(struct reserve_level *level, struct order order,
                  bool locked) {
    void *cell = reserve_take(level, &ground.heap, order);
    if (cell == NULL && reserve_feed(level, &ground.heap, order, locked)) {
        cell = reserve_take(level, &ground.heap, order);
    }
    return cell;
}

static struct place place_of(const void *cell) {
    struct place place;
    assert_non_null(blockmap_object((uintptr_t)cell, &place));
    assert_int_equal(place.start, (uintptr_t)cell);
    return place;
}

static void see_no_tail(struct cache *cache, void *data) {
    assert_int_equal(cache_tail_bytes(cache), 0); // V5
    assert_true(cache_check(cache));
    ++*(size_t *)data;
}

static size_t caches(void) {
    size_t count = 0;
    reserve_each_cache(reserve, &ground.heap, see_no_tail, &count);
    return count;
}

static int begin(void **state) {
    (void)state;
    ground.heap.region.limit_bytes = 0;
    reserve_keep(&ground.heap.region, 0);
    reserve_give_up(reserve);
    return 0;
}

// V1, V3: each level has caches and an owner of its own; beyond the last there
// is none, and what was entered is left in reverse.
static void test_levels(void **state) {
    (void)state;
    struct reserve_level *levels[RESERVE_LEVELS];
    void *cells[RESERVE_LEVELS];
    struct order order = order_of(48, KIND_SCANNED);
    for (size_t i = 0; i < RESERVE_LEVELS; i++) {
        levels[i] = reserve_enter(reserve, ground.mutator->id);
        assert_non_null(levels[i]);
        cells[i] = take(levels[i], order, true);
        assert_non_null(cells[i]);
        struct place place = place_of(cells[i]);
        uint32_t owner = block_owner(place.block);
        assert_true(reserve_is_owner(owner));
        assert_int_equal(owner, levels[i]->owner);
        assert_int_equal(owner % RESERVE_OWNERS, ground.mutator->id);
        for (size_t other = 0; other < i; other++) {
            assert_int_not_equal(owner, levels[other]->owner);
            assert_int_not_equal(place_of(cells[other]).block, place.block);
        }
    }
    assert_null(reserve_enter(reserve, ground.mutator->id));
    for (size_t i = 0; i < RESERVE_LEVELS; i++) {
        reserve_leave(reserve);
    }
    assert_ptr_equal(reserve_enter(reserve, ground.mutator->id), levels[0]);
    reserve_leave(reserve);
    assert_false(reserve_is_owner(ground.mutator->id));
}

// A block is used up cell by cell, all zero, then another is brought.
static void test_cells(void **state) {
    (void)state;
    struct reserve_level *level = reserve_enter(reserve, 1);
    struct order order = order_of(1000, KIND_SCANNED);
    size_t bytes = sizeclass_bytes(order.cls);
    size_t cells = sizeclass_table[order.cls].cells;
    char *before = NULL;
    for (size_t i = 0; i < 3 * cells; i++) {
        char *cell = take(level, order, true);
        assert_non_null(cell);
        assert_ptr_not_equal(cell, before);
        for (size_t at = 0; at < bytes; at++) {
            assert_int_equal(cell[at], 0);
        }
        memset(cell, 0xAA, bytes);
        before = cell;
        (void)caches();
    }
    reserve_leave(reserve);
    struct tally tally = reserve_tally(reserve, &ground.heap);
    assert_int_equal(tally.allocated_bytes, 3 * cells * bytes);
    size_t used_bytes = ground.heap.used_bytes;
    reserve_fold(reserve, &ground.heap);
    assert_int_equal(ground.heap.used_bytes, used_bytes + 3 * cells * bytes);
    assert_int_equal(reserve_tally(reserve, &ground.heap).allocated_bytes, 0);
}

// More orders than caches: with the lock one is given up for another; without,
// there is no room.
static void test_orders(void **state) {
    (void)state;
    struct reserve_level *level = reserve_enter(reserve, 1);
    for (size_t i = 0; i < RESERVE_CACHES; i++) {
        assert_non_null(
            take(level, order_of(16 * (i + 1), KIND_SCANNED), true));
    }
    assert_int_equal(caches(), RESERVE_CACHES);
    assert_false(
        reserve_feed(level, &ground.heap, order_of(16, KIND_LEAF), false));
    void *cell = take(level, order_of(16, KIND_LEAF), true);
    assert_non_null(cell);
    assert_int_equal(place_of(cell).kind, KIND_LEAF);
    assert_int_equal(caches(), RESERVE_CACHES);
    reserve_leave(reserve);
    reserve_give_up(reserve);
    assert_int_equal(caches(), 0);
}

// V2, V4: without the lock only what is kept is given out, each block once, for
// whatever order; and never a span.
static void test_kept(void **state) {
    (void)state;
    struct region *region = &ground.heap.region;
    size_t before = region->used_blocks;
    reserve_keep(region, RESERVE_BLOCKS);
    assert_int_equal(region->used_blocks, before + RESERVE_BLOCKS);
    assert_true(region_check(region));
    struct reserve_level *level = reserve_enter(reserve, 1);
    struct order span = order_of(100000, KIND_SCANNED);
    assert_true(sizeclass_table[span.cls].blocks > 1);
    assert_false(reserve_feed(level, &ground.heap, span, false));
    size_t heap_blocks = ground.heap.used_blocks;
    uint32_t blocks[RESERVE_BLOCKS];
    for (size_t i = 0; i < RESERVE_BLOCKS; i++) {
        struct order order =
            order_of((size_t)64 << i, i % 2 ? KIND_LEAF : KIND_PINNED);
        void *cell = take(level, order, false);
        assert_non_null(cell);
        struct place place = place_of(cell);
        assert_int_equal(place.kind, order.kind);
        assert_ptr_equal(heap_get(place.block), &ground.heap);
        assert_true(block_check(place.block));
        blocks[i] = place.block;
        for (size_t other = 0; other < i; other++) {
            assert_int_not_equal(blocks[other], blocks[i]);
        }
    }
    assert_int_equal(ground.heap.used_blocks, heap_blocks + RESERVE_BLOCKS);
    assert_null(take(level, order_of(5000, KIND_LEAF), false));
    reserve_leave(reserve);
    reserve_top_up(region);
    assert_int_equal(region->used_blocks, before + 2 * RESERVE_BLOCKS);
    reserve_keep(region, 0);
    assert_int_equal(region->used_blocks, before + RESERVE_BLOCKS);
}

// V6: under a tight limit nothing is kept, and what was kept goes back.
static void test_frugal(void **state) {
    (void)state;
    struct region *region = &ground.heap.region;
    size_t before = region->used_blocks;
    region->limit_bytes = region->committed_bytes + 4 * MiB;
    reserve_keep(region, RESERVE_BLOCKS);
    assert_int_equal(region->used_blocks, before);
    region->limit_bytes = region->committed_bytes + 64 * MiB;
    reserve_top_up(region);
    assert_int_equal(region->used_blocks, before + RESERVE_BLOCKS);
    reserve_forget();
    reserve_top_up(region);
    assert_int_equal(region->used_blocks, before + 2 * RESERVE_BLOCKS);
}

// A cycle goes over a reserve like over any cache: what is not marked is free
// afterwards, and is handed out again.
static void test_cycle(void **state) {
    (void)state;
    struct reserve_level *level = reserve_enter(reserve, 1);
    struct order order = order_of(512, KIND_SCANNED);
    struct place kept = {0};
    for (size_t i = 0; i < 10; i++) {
        kept = place_of(take(level, order, true));
    }
    reserve_leave(reserve);
    struct census census;
    ground_prepare(&ground);
    reserve_fold(reserve, &ground.heap);
    block_pair(kept.block, kept.cell / 64)[0] |= (uint64_t)1 << kept.cell % 64;
    ground_flip(&ground, &census);
    assert_true(block_is_allocated(kept.block, kept.cell));
    assert_int_equal(block_get(kept.block)->live, 1);
    level = reserve_enter(reserve, 1);
    size_t cells = sizeclass_table[order.cls].cells;
    for (size_t i = 1; i < cells; i++) {
        struct place place = place_of(take(level, order, false));
        assert_int_equal(place.block, kept.block);
        assert_int_not_equal(place.cell, kept.cell);
    }
    reserve_leave(reserve);
    reserve_drop_heap(reserve, &ground.heap);
    assert_int_equal(caches(), 0);
}

int main(void) {
    if (!ground_init(&ground, 256 * MiB)) {
        return 77;
    }
    reserve = &ground.mutator->reserve;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_levels, begin),
        cmocka_unit_test_setup(test_cells, begin),
        cmocka_unit_test_setup(test_orders, begin),
        cmocka_unit_test_setup(test_kept, begin),
        cmocka_unit_test_setup(test_frugal, begin),
        cmocka_unit_test_setup(test_cycle, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
