// bitmodel — what the bits of every block should say.
//
// The model of test_block_protocol.c: for each cell whether it is an object,
// marked, or freed by another thread, and the checks that compare it with the
// blocks, the caches, the shelves and the sums.
//
// For tests that link modules of gc/; header only, since the archive of what
// tests share knows nothing of gc/.

#ifndef SUPPORT_BITMODEL_H
#define SUPPORT_BITMODEL_H

#include <string.h>

#include "base/bitmap.h"
#include "heap/cache.h"
#include "heap/heap.h"

enum { BLOCKS = 1024, WORDS = 64, MUTATORS = 2, ORDERS = 19 };

#define ITEMS_MAX  ((size_t)30000)
#define HEAP_BYTES (40 * MiB)

// Some of everything: each kind, one bitmap word and all 64, spans of 1 block
// and of many, one cell a block; blocks that are shifted, trimmed or not.
static struct order orders[ORDERS] = {
    {KIND_SCANNED, 1, 0},       {KIND_LEAF, 1, 0},
    {KIND_SCANNED, 5, 0},       {KIND_LEAF, 30, 0},
    {KIND_SCANNED, 56, 0},      {KIND_SCANNED, 58, 0},
    {KIND_LEAF, 61, 0},         {KIND_SCANNED, 80, 0},
    {KIND_SCANNED, 96, 0},      {KIND_BASE_ONLY, 90, 0},
    {KIND_PINNED, 20, 0},       {KIND_PINNED_LEAF, 40, 0},
    {KIND_PINNED, 57, 0},       {KIND_DESCRIBED, 33, 1},
    {KIND_DESCRIBED, 33, 2},    {KIND_COUNTED, 97, 0},
    {KIND_COUNTED_LEAF, 29, 0}, {KIND_COUNTED, 106, 0},
    {KIND_BIASED, 70, 0},
};

// What the model knows of the cells of a block.
struct cells {
    uint64_t object[WORDS], marked[WORDS], freed[WORDS];
};

// An object that the program could name; `order` is ORDERS for a run.
struct item {
    struct place place;
    unsigned order;
};

static struct cells model[BLOCKS];
static uint64_t tails[BLOCKS][WORDS]; // filled for the time of a check
static struct item items[ITEMS_MAX];
static size_t item_count;
static struct heap heap;
static struct cache caches[MUTATORS][ORDERS];
static struct tally tallies[MUTATORS];
static uint32_t inboxes[MUTATORS];
static bool tails_are_out;
static size_t seen_blocks, seen_bytes; // of one check
static uint8_t listed[BLOCKS];         // times it waits to be drained

// --- Checks ----------------------------------------------------------------

static void set_tails(bool on) {
    for (size_t i = 0; i < MUTATORS * ORDERS; i++) {
        const struct cache *cache = &caches[0][0] + i;
        for (uintptr_t at = cache->bump; at != cache->limit;
             at += cache->bytes) {
            size_t cell = (at - block_first(cache->block)) / cache->bytes;
            if (on) {
                assert_false(bitmap_get(tails[cache->block], cell)); // B2
                bitmap_set(tails[cache->block], cell);
            } else {
                bitmap_clear(tails[cache->block], cell);
            }
        }
    }
}

static void check_owner(uint32_t block) {
    const struct block *b = block_get(block);
    size_t current = 0;
    for (size_t i = 0; i < MUTATORS * ORDERS; i++) {
        const struct cache *cache = &caches[0][0] + i;
        if (cache->block == block) {
            assert_int_equal(b->owner, cache->owner); // B7
            current++;
        }
    }
    assert_int_equal(current, (b->flags & BLOCK_CURRENT) ? 1 : 0);
    assert_true(current == 0 || b->list == SHELF_NONE); // B9
    assert_true(b->owner <= MUTATORS);
    assert_true(b->owner == 0 || b->list == SHELF_NONE ||
                b->list == SHELF_MINE);
}

static void check_block(uint32_t block, void *data) {
    (void)data;
    const struct cells *cells = &model[block];
    assert_true(block_check(block)); // B5, B6
    const struct block *b = block_get(block);
    bool freed = false;
    for (size_t word = 0; word < WORDS; word++) {
        const uint64_t *pair = block_pair(block, word);
        // B1, B2; B3 since the model has no tails while they are out; B7 since
        // a write by anybody but the owner would show here.
        assert_int_equal(pair[1], cells->object[word] | tails[block][word]);
        assert_int_equal(pair[0], cells->marked[word]); // B4
        assert_int_equal(pair[0] & ~cells->object[word], 0);
        if (range.freed_in_use) {
            const uint64_t *bits = &range.freed[block * FREED_WORDS_PER_BLOCK];
            assert_int_equal(bits[word], cells->freed[word]); // B8
        }
        freed |= (cells->freed[word] & cells->object[word]) != 0;
    }
    assert_true(!freed || b->freed_any);          // B8
    assert_true(!b->freed_any || listed[block] || // E5 of heap/heap.h
                (b->flags & BLOCK_WATCHED));
    check_owner(block);
    seen_blocks += block_span(block);
    seen_bytes += block_get(block)->live * block_cell_bytes(block);
}

// Whoever takes a block finds nothing of its past.
static void check_free_blocks(void) {
    struct block fresh = {.next = BLOCK_NONE};
    for (uint32_t block = 0; block < range_block_count(); block++) {
        if (ENTRY_CLASS(block_entry(block)) != CLASS_FREE) {
            continue;
        }
        fresh.next_freed = block_get(block)->next_freed;
        fresh.freed_any = block_get(block)->freed_any;
        assert_true(!fresh.freed_any || listed[block]);
        assert_memory_equal(block_get(block), &fresh, sizeof fresh);
        for (size_t word = 0; word < WORDS; word++) {
            const uint64_t *pair = block_pair(block, word);
            assert_true(pair[0] == 0 && pair[1] == 0);
            assert_int_equal(model[block].object[word], 0);
        }
    }
}

static void check_lists(void) {
    for (unsigned o = 0; o < ORDERS; o++) {
        const struct shelf *shelf = heap_find_shelf(&heap, orders[o]);
        assert_true(shelf_check(shelf));
        assert_int_equal(heap.kept.head, BLOCK_NONE); // E3 of heap/heap.h
        for (unsigned list = SHELF_EMPTIEST; list < SHELF_LISTS; list++) {
            uint32_t at = shelf->lists[list].head;
            for (; at != BLOCK_NONE; at = block_get(at)->next) {
                assert_int_equal(block_get(at)->owner, 0);
                assert_int_equal(ENTRY_CLASS(block_entry(at)), orders[o].cls);
                assert_int_equal(block_get(at)->layout, orders[o].layout);
            }
        }
        for (unsigned m = 0; m < MUTATORS; m++) {
            assert_true(cache_check(&caches[m][o]));
        }
    }
}

static void count_listed(uint32_t block) {
    for (; block != BLOCK_NONE; block = block_get(block)->next_freed) {
        assert_int_equal(listed[block], 0); // in one list, once
        listed[block] = 1;
    }
}

static uint64_t told_bytes(bool freed) {
    uint64_t sum = 0;
    for (unsigned m = 0; m < MUTATORS; m++) {
        sum += freed ? tallies[m].freed_bytes : tallies[m].allocated_bytes;
    }
    return sum;
}

static void check_all(void) {
    seen_blocks = seen_bytes = 0;
    memset(listed, 0, sizeof listed);
    count_listed(heap.freed_blocks);
    for (unsigned m = 0; m < MUTATORS; m++) {
        count_listed(inboxes[m]);
    }
    set_tails(true);
    heap_each_block(check_block, NULL);
    set_tails(false);
    check_free_blocks();
    if (!tails_are_out) {
        check_lists();
        assert_int_equal(seen_bytes, heap.used_bytes + told_bytes(false) -
                                         told_bytes(true)); // E1
    }
    assert_int_equal(seen_blocks, heap.region.used_blocks);
    assert_true(region_check(&heap.region));
    assert_true(heap.allocated_bytes ==
                heap.used_bytes + heap.freed_bytes + heap.collected_bytes);
}

static bool is_zero(uintptr_t at, size_t bytes) {
    const char *from = (const char *)at;
    return from[0] == 0 && memcmp(from, from + 1, bytes - 1) == 0;
}

static void check_zero_block(uint32_t block, void *data) {
    (void)data;
    if (!(block_get(block)->flags & BLOCK_ZERO)) {
        return;
    }
    for (uint32_t cell = 0; cell < block_cells(block); cell++) {
        if (!block_is_allocated(block, cell)) {
            assert_true(is_zero(block_cell_address(block, cell),
                                block_cell_bytes(block))); // B10
        }
    }
}

#endif
