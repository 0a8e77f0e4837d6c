// A cache by itself: what it hands out, in which order, and what it does with
// what it is given back.  (Many caches together: test_block_protocol.c.)

#include "heap/cache.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/bitmap.h"
#include "support/gen.h"

#define OWNER   7u
#define OBJECTS ((size_t)20000)

static struct heap heap;
static struct cache cache;
static struct tally tally;
static void *objects[OBJECTS];
static size_t object_count;

static int make_range(void **state) {
    (void)state;
    return heap_init(&heap, NULL) && range_init(64 * MiB) ? 0 : -1;
}

static void start(struct order order, bool single) {
    memset(&cache, 0, sizeof cache);
    cache_init(&cache, order, OWNER, single, &tally);
    assert_true(cache_check(&cache));
}

// A block that the cache does not have: from the shelf, or fresh.
static void adopt(void) {
    uint32_t block = heap_take_block(&heap, cache.order, true, OWNER);
    if (block == BLOCK_NONE) {
        block = heap_make_block(&heap, cache.order, OWNER);
    }
    assert_int_not_equal(block, BLOCK_NONE);
    cache_adopt(&cache, block);
    assert_int_equal(block_get(block)->owner, cache.owner); // C5
    assert_true(block_get(block)->flags & BLOCK_CURRENT);
}

// From what the cache has: its tail, its stack, its holes; or NULL.
static void *take_own(void) {
    void *object = cache_take(&cache);
    if (object == NULL) {
        object = cache_pop(&cache);
    }
    if (object == NULL && cache_refill(&cache)) {
        object = cache_take(&cache);
        assert_non_null(object);
    }
    return object;
}

static void *take(void) {
    void *object = take_own();
    if (object == NULL) {
        assert_int_equal(cache.block, BLOCK_NONE);
        adopt();
        object = take_own();
    }
    assert_non_null(object);
    assert_true(cache_check(&cache));
    return object;
}

static void give(void *object) {
    struct place place;
    assert_ptr_equal(blockmap_object((uintptr_t)object, &place), object);
    uint32_t empty = cache_free(&cache, &place);
    if (empty != BLOCK_NONE) {
        assert_int_equal(block_get(empty)->list, SHELF_NONE);
        heap_release_block(&heap, empty);
    }
    assert_true(cache_check(&cache));
}

// As the conductor does when it begins.
static void fold(void) {
    heap.allocated_bytes += tally.allocated_bytes;
    heap.freed_bytes += tally.freed_bytes;
    heap.used_bytes += tally.allocated_bytes - tally.freed_bytes;
    tally = (struct tally){0, 0};
}

// The world without the program: no mark is set, so all blocks go back.
static void finish(void) {
    struct census census;
    fold();
    cache_tail_out(&cache);
    heap_prepare(&heap);
    heap_flip(&heap, &census);
    cache_tail_in(&cache, &heap, false);
    assert_int_equal(cache.block, BLOCK_NONE); // nothing in it: given back
    assert_int_equal(heap.used_bytes, 0);
    assert_int_equal(heap.used_blocks, 0);
    assert_true(heap_init(&heap, NULL));
    heap.region.committed_bytes = range.frontier_bytes;
}

// A fresh block is handed out from its first cell to its last, slice by slice.
static void test_order(void **state) {
    (void)state;
    for (unsigned i = CLASS_FIRST; i <= 2 * CLASS_LAST; i++) {
        unsigned cls = i > CLASS_LAST ? i - CLASS_LAST : i;
        unsigned kind = i > CLASS_LAST ? KIND_COUNTED : KIND_SCANNED;
        if (!block_kind_takes(kind, cls)) {
            continue;
        }
        start((struct order){kind, cls, 0}, cls % 2 == 0);
        uintptr_t first = (uintptr_t)take();
        assert_int_equal(first, range_block_address(cache.block) +
                                    (kind == KIND_COUNTED ? 8 : 0));
        uint32_t cells = sizeclass_table[cls].cells;
        for (uint32_t cell = 1; cell < cells; cell++) {
            size_t tail_bytes = cache_tail_bytes(&cache);
            assert_int_equal(tail_bytes % cache.bytes, 0); // C1
            assert_true(tail_bytes < CACHE_SLICE_BYTES);
            assert_true(cls % 2 != 0 || tail_bytes == 0);
            assert_int_equal(take(), first + (uintptr_t)cell * cache.bytes);
        }
        assert_int_equal(cache_tail_bytes(&cache), 0);
        assert_false(cache_refill(&cache));
        assert_int_equal(cache.block, BLOCK_NONE);
        finish();
    }
}

// What a counted object had in it is not seen by the next in its cell, though
// it be a leaf: the head must be zero.
static void test_counted_zero(void **state) {
    (void)state;
    static const unsigned kinds[] = {KIND_COUNTED, KIND_COUNTED_LEAF,
                                     KIND_BIASED, KIND_BIASED_LEAF};
    for (size_t k = 0; k < 4; k++) {
        unsigned cls = kinds[k] < KIND_BIASED ? sizeclass_of_shifted(64) : 4;
        start((struct order){kinds[k], cls, 0}, false);
        for (size_t i = 0; i < 5000; i++) {
            objects[i % 700] = take();
            const uint64_t *words = objects[i % 700];
            for (size_t word = 0; word < 8; word++) {
                assert_int_equal(words[word], 0); // C3
            }
            memset(objects[i % 700], 0xA5, 64);
            if (i % 3 != 0) {
                give(objects[i % 700]);
            }
        }
        finish();
    }
}

// A counted block with room comes back from a cycle to its cache.
static void test_kept(void **state) {
    (void)state;
    start((struct order){KIND_COUNTED, 97, 0}, false);
    uint32_t cells = sizeclass_table[97].cells;
    for (uint32_t i = 0; i < 2 * cells; i++) {
        objects[i] = take();
    }
    struct place place;
    assert_true(blockmap_find((uintptr_t)objects[0], &place));
    struct census census;
    fold();
    cache_tail_out(&cache);
    heap_prepare(&heap);
    block_pair(place.block, 0)[0] |= (uint64_t)1 << place.cell;
    heap_flip(&heap, &census);
    assert_int_equal(census.live_objects, 1);
    uint32_t block = heap_take_kept(&heap);
    assert_int_equal(block, place.block);
    cache_keep(&cache, block);
    cache_tail_in(&cache, &heap, false);
    assert_true(cache_check(&cache)); // C6
    for (uint32_t i = 1; i < cells; i++) {
        void *object = take_own();
        assert_ptr_equal(object, objects[i]);
    }
    finish();
}

// The bits of the tail are set, and of no cell behind it.
static void test_tail(void **state) {
    (void)state;
    start((struct order){KIND_SCANNED, 4, 0}, false);
    uintptr_t first = (uintptr_t)take();
    uintptr_t bump = cache.bump, limit = cache.limit;
    assert_true(bump < limit);
    struct place place;
    for (uintptr_t at = first; at < first + BLOCK_BYTES; at += cache.bytes) {
        assert_int_equal(blockmap_object(at, &place) != NULL, at < limit); // C2
        assert_int_equal(cache_has_tail(&cache, at), at >= bump && at < limit);
    }
    assert_false(cache_has_tail(&cache, bump - 1));
    assert_true(cache_has_tail(&cache, limit - 1));
    cache_tail_out(&cache);
    assert_null(cache_take(&cache));
    assert_false(cache_has_tail(&cache, bump));
    assert_null(blockmap_object(bump, &place));
    assert_non_null(blockmap_object(first, &place));
    cache_tail_in(&cache, &heap, false);
    assert_true(cache.bump == bump && cache.limit == limit);
    assert_non_null(blockmap_object(limit - 1, &place));
    assert_true(cache_check(&cache));
    // What the check is there to see.
    cache.bump += 8;
    assert_false(cache_check(&cache)); // C1
    cache.bump -= 8;
    block_get(cache.block)->owner = OWNER + 1;
    assert_false(cache_check(&cache)); // C5
    block_get(cache.block)->owner = OWNER;
    finish();
}

// The last cell freed is the first to come again, zeroed; and the tail waits
// until it is used up.
static void test_stack(void **state) {
    (void)state;
    start((struct order){KIND_SCANNED, 2, 0}, false);
    char *cells[CACHE_FREE_CELLS + 1];
    for (size_t i = 0; i <= CACHE_FREE_CELLS; i++) {
        cells[i] = take();
        memset(cells[i], 0xA5, 32);
    }
    for (size_t i = 0; i <= CACHE_FREE_CELLS; i++) {
        give(cells[i]);
    }
    assert_int_equal(cache.free_count, CACHE_FREE_CELLS); // the last is a hole
    while (cache_take(&cache) != NULL) {
    }
    for (size_t i = CACHE_FREE_CELLS; i-- > 0;) {
        struct place place;
        assert_null(blockmap_object((uintptr_t)cells[i], &place)); // C4
        char *again = take();
        assert_ptr_equal(again, cells[i]);
        assert_int_equal(again[0], 0); // C3
        assert_memory_equal(again, again + 1, 31);
        assert_int_equal(cache.free_count, i);
    }
    finish();
}

// Room that is freed in blocks that were left is found again, before the cache
// says that it has nothing.
static void test_mine(void **state) {
    (void)state;
    start((struct order){KIND_LEAF, 40, 0}, false);
    uint32_t cells = sizeclass_table[40].cells;
    object_count = 0;
    for (uint32_t i = 0; i < 3 * cells; i++) {
        objects[object_count++] = take();
    }
    size_t freed = 0;
    for (size_t i = 0; i < object_count; i += 2) {
        give(objects[i]);
        freed++;
    }
    assert_int_not_equal(cache.mine.head, BLOCK_NONE); // C6
    for (size_t i = 0; i < freed; i++) {
        assert_non_null(take_own());
        assert_true(cache_check(&cache)); // C6
    }
    assert_int_equal(heap.used_blocks, 3);
    assert_null(take_own());
    assert_int_equal(cache.mine.head, BLOCK_NONE);
    finish();
}

// A block that falls empty goes back at once, unless it is the current one,
// and takes its cells off the stack.
static void test_empty(void **state) {
    (void)state;
    start((struct order){KIND_SCANNED, 56, 0}, false);
    void *first[8];
    for (size_t i = 0; i < 8; i++) {
        first[i] = take();
    }
    void *other = take();
    assert_int_equal(heap.used_blocks, 2);
    for (size_t i = 0; i < 8; i++) {
        give(first[i]);
    }
    assert_int_equal(heap.used_blocks, 1);
    assert_int_equal(cache.free_count, 0);
    give(other);
    assert_int_equal(heap.used_blocks, 1); // current
    assert_ptr_equal(take(), other);
    finish();
}

// At random: no cell is handed out twice, every one is zero, and none is lost:
// what was freed by hand is all found again before a block is asked for.
static void test_random(void **state) {
    (void)state;
    struct gen g;
    gen_init(&g, gen_seed("cache"));
    for (unsigned cls = 1; cls < CLASS_PLAIN_LAST; cls += 9) {
        unsigned kind = gen_chance(&g, 50) ? KIND_SCANNED : KIND_PINNED;
        start((struct order){kind, cls, 0}, gen_chance(&g, 30));
        object_count = 0;
        size_t freed_bytes = 0;
        unsigned weight = 40;
        for (size_t step = 0; step < 6000; step++) {
            if (gen_chance(&g, 1)) {
                weight = (unsigned)gen_below(&g, 100);
            }
            if (object_count != 0 && gen_chance(&g, weight)) {
                size_t at = gen_below(&g, object_count);
                give(objects[at]);
                objects[at] = objects[--object_count];
                freed_bytes += cache.bytes;
                continue;
            }
            if (heap.used_blocks > 400) {
                weight = 80;
                continue;
            }
            size_t used_blocks = heap.used_blocks;
            char *cell = take();
            // All cells of the blocks in use are objects when one is added.
            if (heap.used_blocks > used_blocks) {
                size_t blocks = used_blocks / sizeclass_table[cls].blocks;
                assert_int_equal(object_count,
                                 blocks * sizeclass_table[cls].cells);
            }
            assert_true(cell[0] == 0 &&
                        memcmp(cell, cell + 1, cache.bytes - 1) == 0); // C3
            memset(cell, 0xA5, cache.bytes);
            objects[object_count++] = cell;
        }
        assert_int_equal(tally.freed_bytes, freed_bytes);
        while (object_count != 0) {
            give(objects[--object_count]);
        }
        finish();
    }
}

// The block of every cell that was asked for to its last byte knows it, or its
// cache does; a stop tells the block.
static void test_exact(void **state) {
    (void)state;
    struct gen g;
    gen_init(&g, gen_seed("cache exact"));
    start((struct order){KIND_SCANNED, 30, 0}, false);
    static bool exact[4096];
    memset(exact, 0, sizeof exact);
    for (size_t step = 0; step < 4000; step++) {
        size_t bytes = cache.bytes - (gen_below(&g, 300) == 0 ? 0 : 8);
        void *cell = cache_take_for(&cache, bytes);
        if (cell == NULL) {
            cell = take();
            cache_note(&cache, bytes);
        }
        objects[step] = cell;
        if (gen_chance(&g, 10)) { // one is freed, and popped for another
            while (cache_take(&cache) != NULL) {
            }
            cell = gen_chance(&g, 90) ? objects[gen_below(&g, step + 1)] : cell;
            give(cell);
            assert_null(cache_take_for(&cache, bytes));
            assert_ptr_equal(cache_pop(&cache), cell);
        }
        uint32_t block = range_block_of((uintptr_t)cell);
        exact[block] |= bytes == cache.bytes;
        if (gen_chance(&g, 5)) {
            cache_tail_out(&cache); // and in again; the flip kept everything
            assert_false(cache.exact);
            cache_tail_in(&cache, &heap, false);
        }
        for (block = 1; block < range_block_count(); block++) {
            bool knows = (block_get(block)->flags & BLOCK_EXACT) ||
                         (cache.block == block && cache.exact);
            assert_true(knows || !exact[block]); // B12
        }
    }
    size_t clear = 0;
    for (uint32_t block = 1; block < range_block_count(); block++) {
        clear += ENTRY_CLASS(block_entry(block)) != CLASS_FREE &&
                 !(block_get(block)->flags & BLOCK_EXACT);
    }
    assert_true(clear > 5); // it is not simply set everywhere
    finish();
}

// What others freed comes back to the cache: never a cell of its tail, the room
// in blocks that were left, and empty blocks as a whole.
static void test_drain(void **state) {
    (void)state;
    assert_true(range_use_freed());
    start((struct order){KIND_SCANNED, 30, 0}, false);
    uint32_t cells = sizeclass_table[30].cells;
    for (uint32_t i = 0; i < 2 * cells + 1; i++) {
        objects[i] = take();
    }
    uint32_t first = range_block_of((uintptr_t)objects[0]);
    uint32_t second = range_block_of((uintptr_t)objects[cells]);
    uint32_t third = cache.block;
    assert_true(cache_tail_bytes(&cache) != 0);
    fold();
    for (uint32_t i = 0; i < cells; i++) {
        enum freed_by by = block_free_remotely(first, i);
        assert_int_equal(by, i == 0 ? FREED_FIRST : FREED_MORE);
    }
    (void)block_free_remotely(second, 5);
    for (uint32_t cell = 0; cell < cells; cell++) { // a wrong program's
        (void)block_free_remotely(third, cell);
    }
    size_t tail_bytes = cache_tail_bytes(&cache);
    uintptr_t bump = cache.bump;
    assert_int_equal(cache_drain(&cache, third), BLOCK_NONE); // current
    assert_true(cache_check(&cache));                         // C2
    assert_true(cache.bump == bump && cache_tail_bytes(&cache) == tail_bytes);
    assert_int_equal(tally.freed_bytes, cache.bytes);
    assert_int_equal(cache_drain(&cache, second), BLOCK_NONE);
    assert_int_equal(block_get(second)->list, SHELF_MINE); // C6
    assert_int_equal(cache_drain(&cache, second), BLOCK_NONE);
    assert_true(cache_check(&cache));
    assert_int_equal(cache_drain(&cache, first), first); // empty
    assert_int_equal(block_get(first)->list, SHELF_NONE);
    heap_release_block(&heap, first);
    assert_int_equal(tally.freed_bytes, (cells + 2) * cache.bytes);
    while (cache_take(&cache) != NULL) {
    }
    // The third has room up to its end, then the second its one cell.
    void *last = NULL;
    while (cache.block == third) {
        last = take_own();
    }
    assert_ptr_equal(last, objects[cells + 5]);
    finish();
}

// A cache that is given up leaves nothing: its tail was never taken, freed
// cells are holes, its blocks are on shelves or back.
static void test_give_up(void **state) {
    (void)state;
    for (unsigned cls = 4; cls < CLASS_PLAIN_LAST; cls += 7) {
        start((struct order){KIND_SCANNED, cls, 0}, false);
        uint32_t cells = sizeclass_table[cls].cells;
        uint32_t count = 3 * cells + 1;
        for (uint32_t i = 0; i < count; i++) {
            objects[i] = take();
        }
        for (uint32_t i = 0; i < cells + 1; i++) {
            give(objects[i]);
        }
        if (cls % 2 == 0) {
            fold(); // the tail was told the heap before it is given up
        }
        cache_give_up(&cache, &heap);
        assert_true(cache_check(&cache)); // C1, C2, C4, C6
        assert_int_equal(cache.block, BLOCK_NONE);
        assert_int_equal(cache.free_count, 0);
        assert_int_equal(cache.mine.head, BLOCK_NONE);
        fold();
        size_t left = (size_t)(count - cells - 1) * cache.bytes;
        assert_int_equal(heap.used_bytes, left);
        struct cache other = cache;
        cache_init(&other, cache.order, OWNER + 1, false, &tally);
        assert_null(cache_take(&other));
        // Another mutator finds what room there is, and no more than that.
        uint32_t block;
        size_t found = 0;
        while ((block = heap_take_block(&heap, cache.order, true, OWNER + 1)) !=
               BLOCK_NONE) {
            cache_adopt(&other, block);
            while (cache_refill(&other)) {
                while (cache_take(&other) != NULL) {
                    found += cache.bytes;
                }
            }
        }
        size_t blocks = heap.used_blocks / sizeclass_table[cls].blocks;
        assert_int_equal(found + left, blocks * cells * cache.bytes);
        finish();
    }
}

// A stop may come between the load of bump and its store: the same tail must be
// there afterwards, even if nothing else is left in the block.
static void test_taking(void **state) {
    (void)state;
    for (unsigned taking = 0; taking < 2; taking++) {
        start((struct order){KIND_SCANNED, 4, 0}, false);
        (void)take();
        uint32_t block = cache.block;
        uintptr_t bump = cache.bump, limit = cache.limit;
        struct census census;
        fold();
        cache_tail_out(&cache);
        heap_prepare(&heap);
        heap_flip(&heap, &census);
        cache_tail_in(&cache, &heap, taking == 1);
        assert_int_equal(cache.block, taking == 1 ? block : BLOCK_NONE);
        if (taking == 1) {
            assert_true(cache.bump == bump && cache.limit == limit); // C1
            assert_true(cache_check(&cache));
            assert_int_equal(heap.used_bytes, limit - bump);
        }
        assert_int_equal(heap.allocated_bytes, heap.used_bytes +
                                                   heap.freed_bytes +
                                                   heap.collected_bytes);
        finish();
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counted_zero), cmocka_unit_test(test_kept),
        cmocka_unit_test(test_order),        cmocka_unit_test(test_tail),
        cmocka_unit_test(test_stack),        cmocka_unit_test(test_mine),
        cmocka_unit_test(test_empty),        cmocka_unit_test(test_exact),
        cmocka_unit_test(test_random),       cmocka_unit_test(test_drain),
        cmocka_unit_test(test_give_up),      cmocka_unit_test(test_taking),
    };
    return cmocka_run_group_tests(tests, make_range, NULL);
}
