// The reserve: levels, caches that take one cell at a time, blocks that are
// kept for when the lock is taken, and how they are made good.

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
#include "support/gen.h"
#include "support/ground.h"

static struct ground ground;
static struct reserve *reserve;

// As a handler would: what the level has, or what it can be brought.
static void *take_aligned(size_t level, size_t bytes, size_t alignment,
                          unsigned kind, bool locked) {
    struct reserve_order order = {&ground.heap, kind, bytes, alignment};
    void *object = reserve_take(reserve, level, &order);
    bool zero = true;
    if (object == NULL) {
        object = reserve_bring(reserve, level, &order, locked, &zero);
    }
    return object;
}

static void *take(size_t level, size_t bytes, unsigned kind, bool locked) {
    return take_aligned(level, bytes, 1, kind, locked);
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
    reserve_top_up();
    reserve_give_up(reserve);
    assert_int_equal(reserve_count(), 0);
    return 0;
}

// --- Levels and caches -------------------------------------------------

// V1, V3: each level has caches and an owner of its own; beyond the last there
// is none, and what was entered is left in reverse.
static void test_levels(void **state) {
    (void)state;
    void *cells[RESERVE_LEVELS];
    for (size_t i = 0; i < RESERVE_LEVELS; i++) {
        assert_int_equal(reserve_enter(reserve, ground.mutator->id), i);
        cells[i] = take(i, 48, KIND_SCANNED, true);
        assert_non_null(cells[i]);
        struct place place = place_of(cells[i]);
        uint32_t owner = block_owner(place.block);
        assert_true(reserve_is_owner(owner));
        assert_int_equal(owner, reserve->levels[i].owner);
        assert_int_equal(owner % RESERVE_OWNERS, ground.mutator->id);
        for (size_t other = 0; other < i; other++) {
            assert_int_not_equal(owner, reserve->levels[other].owner);
            assert_int_not_equal(place_of(cells[other]).block, place.block);
        }
    }
    assert_int_equal(reserve_enter(reserve, ground.mutator->id),
                     RESERVE_LEVELS);
    for (size_t i = 0; i < RESERVE_LEVELS; i++) {
        reserve_leave(reserve);
    }
    assert_int_equal(reserve_enter(reserve, ground.mutator->id), 0);
    reserve_leave(reserve);
    assert_false(reserve_is_owner(ground.mutator->id));
}

// A block is used up cell by cell, all zero, then another is brought.
static void test_cells(void **state) {
    (void)state;
    size_t level = reserve_enter(reserve, 1);
    size_t cells = BLOCK_BYTES / 1024;
    char *before = NULL;
    for (size_t i = 0; i < 3 * cells; i++) {
        char *cell = take(level, 1000, KIND_SCANNED, true);
        assert_non_null(cell);
        assert_ptr_not_equal(cell, before);
        for (size_t at = 0; at < 1024; at++) {
            assert_int_equal(cell[at], 0);
        }
        memset(cell, 0xAA, 1024);
        before = cell;
    }
    reserve_leave(reserve);
    assert_int_equal(caches(), 1);
    assert_int_equal(reserve_tally(reserve, &ground.heap).allocated_bytes,
                     3 * cells * 1024);
    uint64_t allocated = ground.heap.allocated_bytes;
    reserve_fold(reserve, &ground.heap);
    assert_int_equal(ground.heap.allocated_bytes, allocated + 3 * cells * 1024);
    assert_int_equal(reserve_tally(reserve, &ground.heap).allocated_bytes, 0);
}

// Every size of a cell, and every kind: the cell is large enough, at most twice
// as large, and at a multiple of its alignment.
static void test_sizes(void **state) {
    (void)state;
    static const unsigned kinds[] = {KIND_LEAF, KIND_PINNED_LEAF, KIND_PINNED,
                                     KIND_SCANNED, KIND_BASE_ONLY};
    size_t level = reserve_enter(reserve, 1);
    for (unsigned cls = CLASS_FIRST; sizeclass_bytes(cls) <= RESERVE_CELL_BYTES;
         cls++) {
        for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
            size_t bytes = sizeclass_bytes(cls);
            struct place place = place_of(take(level, bytes, kinds[i], true));
            assert_int_equal(place.kind, kinds[i]);
            assert_true(place.bytes >= bytes && place.bytes < 2 * bytes);
        }
    }
    for (size_t align = 16; align <= RESERVE_CELL_BYTES; align *= 2) {
        void *cell = take_aligned(level, 20, align, KIND_SCANNED, true);
        assert_non_null(cell);
        assert_int_equal((uintptr_t)cell % align, 0);
    }
    reserve_leave(reserve);
}

// More orders than a level has caches: those not used any more make room, with
// the lock and without it.  What they had stays an object.
static void test_orders(void **state) {
    (void)state;
    for (unsigned locked = 0; locked < 2; locked++) {
        reserve_keep(&ground.heap.region, RESERVE_BLOCKS_MAX);
        size_t level = reserve_enter(reserve, 1);
        struct place places[2 * 12];
        size_t count = 0;
        for (size_t shift = 4; shift < 16; shift++) {
            places[count++] =
                place_of(take(level, (size_t)1 << shift, KIND_SCANNED, locked));
            places[count++] =
                place_of(take(level, (size_t)1 << shift, KIND_LEAF, locked));
        }
        assert_int_equal(caches(), RESERVE_CACHES);
        for (size_t shift = 4; shift < 16; shift++) {
            struct place place =
                place_of(take(level, (size_t)1 << shift, KIND_PINNED, locked));
            assert_int_equal(place.kind, KIND_PINNED);
        }
        assert_int_equal(caches(), RESERVE_CACHES);
        for (size_t i = 0; i < count; i++) {
            assert_true(block_is_allocated(places[i].block, places[i].cell));
            assert_true(block_check(places[i].block));
        }
        reserve_leave(reserve);
        assert_int_equal(caches(), RESERVE_CACHES); // V5
        reserve_give_up(reserve);
        assert_int_equal(caches(), 0);
    }
}

// --- The blocks that are kept ------------------------------------------

// V2, V4: without the lock only what is kept is given out, each block once, for
// whatever order.
static void test_kept(void **state) {
    (void)state;
    struct region *region = &ground.heap.region;
    size_t before = region->used_blocks;
    reserve_keep(region, RESERVE_BLOCKS_MAX);
    assert_int_equal(reserve_count(), RESERVE_BLOCKS_MAX);
    assert_int_equal(region->used_blocks, before + RESERVE_BLOCKS_MAX);
    assert_true(region_check(region));
    size_t level = reserve_enter(reserve, 1);
    size_t heap_blocks = ground.heap.used_blocks;
    uint32_t blocks[8];
    for (size_t i = 0; i < 8; i++) {
        unsigned kind = i % 2 ? KIND_LEAF : KIND_PINNED;
        struct place place =
            place_of(take(level, (size_t)64 << i, kind, false));
        assert_int_equal(place.kind, kind);
        assert_int_equal(place.bytes, (size_t)64 << i);
        assert_ptr_equal(heap_get(place.block), &ground.heap);
        assert_true(block_check(place.block));
        blocks[i] = place.block;
        for (size_t other = 0; other < i; other++) {
            assert_int_not_equal(blocks[other], blocks[i]);
        }
    }
    assert_int_equal(ground.heap.used_blocks, heap_blocks + 8);
    assert_int_equal(reserve_count(), RESERVE_BLOCKS_MAX - 8);
    reserve_leave(reserve);
    assert_true(reserve_was_asked());
    reserve_top_up(); // V7
    assert_false(reserve_was_asked());
    assert_int_equal(reserve_count(), RESERVE_BLOCKS_MAX);
    reserve_keep(region, 0);
    assert_int_equal(region->used_blocks, before + 8);
}

// Where few are left, one cache serves all small orders of a handler, and a
// larger cell is better than none.
static void test_scarce(void **state) {
    (void)state;
    reserve_keep(&ground.heap.region, 2);
    assert_int_equal(reserve_count(), 0); // less than is worth while
    reserve_keep(&ground.heap.region, RESERVE_BLOCKS);
    size_t level = reserve_enter(reserve, 1);
    struct gen gen;
    gen_init(&gen, gen_seed("test_reserve"));
    for (size_t i = 0; i < RESERVE_BLOCKS * (BLOCK_BYTES / 1024); i++) {
        static const unsigned kinds[] = {KIND_LEAF, KIND_SCANNED,
                                         KIND_BASE_ONLY};
        struct place place = place_of(take(level, 1 + gen_below(&gen, 1024),
                                           kinds[gen_below(&gen, 3)], false));
        assert_int_equal(place.kind, KIND_SCANNED);
        assert_int_equal(place.bytes, 1024);
    }
    assert_int_equal(reserve_count(), 0);
    assert_null(take(level, 1, KIND_LEAF, false));
    assert_null(take(level, 1, KIND_PINNED, false));
    reserve_leave(reserve);
    reserve_top_up(); // V7: a refusal is not forgotten
    assert_int_equal(reserve_count(), RESERVE_BLOCKS_MAX);
}

// Large objects: blocks in a row, tallied by the level until the lock is had.
static void test_runs(void **state) {
    (void)state;
    reserve_keep(&ground.heap.region, RESERVE_BLOCKS_USE);
    size_t level = reserve_enter(reserve, 1);
    size_t bytes = 10 * BLOCK_BYTES - 5000;
    for (unsigned locked = 0; locked < 2; locked++) {
        size_t tallied = reserve_tally(reserve, &ground.heap).allocated_bytes;
        size_t used_bytes = ground.heap.used_bytes;
        void *run = take(level, bytes, KIND_SCANNED, locked);
        struct place place = place_of(run);
        assert_true(place.bytes >= bytes && place.bytes < bytes + 4096);
        assert_int_equal(block_span(place.block), 10);
        tallied = reserve_tally(reserve, &ground.heap).allocated_bytes -
                  tallied + ground.heap.used_bytes - used_bytes;
        assert_int_equal(tallied, place.bytes);
        assert_int_equal(reserve_count(), RESERVE_BLOCKS_USE - 10);
    }
    assert_null(
        take(level, RESERVE_BLOCKS_USE * BLOCK_BYTES, KIND_LEAF, false));
    assert_null(take_aligned(level, 100, 4 * BLOCK_BYTES, KIND_LEAF, false));
    void *aligned = take_aligned(level, 100, 4 * BLOCK_BYTES, KIND_LEAF, true);
    assert_non_null(aligned);
    assert_int_equal((uintptr_t)aligned % (4 * BLOCK_BYTES), 0);
    reserve_leave(reserve);
    reserve_top_up();
    assert_int_equal(reserve_count(), RESERVE_BLOCKS_MAX);
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
    reserve_top_up();
    assert_int_equal(region->used_blocks, before + RESERVE_BLOCKS);
    reserve_forget();
    reserve_top_up();
    assert_int_equal(region->used_blocks, before + 2 * RESERVE_BLOCKS);
    region->limit_bytes = 0;
}

// The more is taken at a time the more is kept, and less again after many
// cycles in which nothing was.
static void test_learning(void **state) {
    (void)state;
    reserve_keep(&ground.heap.region, RESERVE_BLOCKS);
    size_t level = reserve_enter(reserve, 1);
    assert_non_null(take(level, 10, KIND_SCANNED, true));
    reserve_top_up();
    assert_int_equal(reserve_count(), RESERVE_BLOCKS_USE);
    for (size_t i = 0; i <= RESERVE_BLOCKS_USE / 2; i++) {
        assert_non_null(take(level, 64 * KiB, KIND_LEAF, false));
    }
    reserve_leave(reserve);
    reserve_top_up();
    assert_int_equal(reserve_count(), 2 * RESERVE_BLOCKS_USE);
    for (size_t i = 0; i < 1000; i++) {
        reserve_settle();
    }
    assert_int_equal(reserve_count(), RESERVE_BLOCKS);
}

// --- Cycles ------------------------------------------------------------

// A cycle goes over a reserve like over any cache: what is not marked is free
// afterwards, and is handed out again.
static void test_cycle(void **state) {
    (void)state;
    size_t level = reserve_enter(reserve, 1);
    struct place kept = {0};
    for (size_t i = 0; i < 10; i++) {
        kept = place_of(take(level, 512, KIND_SCANNED, true));
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
    for (size_t i = 1; i < BLOCK_BYTES / 512; i++) {
        struct place place = place_of(take(level, 512, KIND_SCANNED, false));
        assert_int_equal(place.block, kept.block);
        assert_int_not_equal(place.cell, kept.cell);
    }
    reserve_leave(reserve);
    reserve_drop_heap(reserve, &ground.heap);
    assert_int_equal(caches(), 0);
}

// A block that a cache was made to leave without the lock has its holes on a
// shelf after the next cycle.
static void test_left_block(void **state) {
    (void)state;
    reserve_keep(&ground.heap.region, RESERVE_BLOCKS_MAX);
    size_t level = reserve_enter(reserve, 1);
    struct place kept = place_of(take(level, 512, KIND_LEAF, false));
    uint32_t owner = reserve->levels[level].owner;
    static const unsigned kinds[] = {KIND_PINNED, KIND_SCANNED, KIND_BASE_ONLY,
                                     KIND_PINNED_LEAF};
    for (unsigned turn = 0; turn < 2 * RESERVE_CACHES; turn++) {
        assert_non_null(
            take(level, (size_t)16 << turn / 4, kinds[turn % 4], false));
    }
    assert_int_equal(block_owner(kept.block), owner);
    assert_int_equal(block_flags(kept.block) & BLOCK_CURRENT, 0);
    reserve_leave(reserve);
    struct census census;
    ground_prepare(&ground);
    reserve_fold(reserve, &ground.heap);
    block_pair(kept.block, kept.cell / 64)[0] |= (uint64_t)1 << kept.cell % 64;
    ground_flip(&ground, &census);
    assert_int_equal(block_owner(kept.block), 0);
    assert_int_not_equal(block_get(kept.block)->list, SHELF_NONE);
    assert_true(block_check(kept.block));
}

int main(void) {
    if (!ground_init(&ground, 256 * MiB)) {
        return 77;
    }
    reserve = &ground.mutator->reserve;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_levels, begin),
        cmocka_unit_test_setup(test_cells, begin),
        cmocka_unit_test_setup(test_sizes, begin),
        cmocka_unit_test_setup(test_orders, begin),
        cmocka_unit_test_setup(test_kept, begin),
        cmocka_unit_test_setup(test_scarce, begin),
        cmocka_unit_test_setup(test_runs, begin),
        cmocka_unit_test_setup(test_frugal, begin),
        cmocka_unit_test_setup(test_learning, begin),
        cmocka_unit_test_setup(test_cycle, begin),
        cmocka_unit_test_setup(test_left_block, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
