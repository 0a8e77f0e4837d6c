// The bit protocol (B1 to B11 of heap/block.h), step by step beside a model.
//
// Two mutators allocate, free by hand, free one another's cells and are
// stopped, in an order drawn at random; the model keeps for each cell whether
// it is an object, marked, or freed by another thread.  After every step every
// bit of every block must be what the model says, and the checks of block,
// cache, shelf and region must hold.  LOAM_SEED=<number> repeats a run.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/bitmap.h"
#include "heap/cache.h"
#include "heap/heap.h"
#include "heap/layout.h"
#include "support/gen.h"

enum { BLOCKS = 1024, WORDS = 64, MUTATORS = 2, ORDERS = 15, STEPS = 12000 };

#define ITEMS_MAX  ((size_t)30000)
#define HEAP_BYTES (40 * MiB)

// Some of everything: each kind, one bitmap word and all 64, spans of 1 block
// and of many, one cell a block.
static struct order orders[ORDERS] = {
    {KIND_SCANNED, 1, 0},    {KIND_LEAF, 1, 0},       {KIND_SCANNED, 5, 0},
    {KIND_LEAF, 30, 0},      {KIND_SCANNED, 56, 0},   {KIND_SCANNED, 58, 0},
    {KIND_LEAF, 61, 0},      {KIND_SCANNED, 80, 0},   {KIND_SCANNED, 96, 0},
    {KIND_BASE_ONLY, 90, 0}, {KIND_PINNED, 20, 0},    {KIND_PINNED_LEAF, 40, 0},
    {KIND_PINNED, 57, 0},    {KIND_DESCRIBED, 33, 1}, {KIND_DESCRIBED, 33, 2},
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
static bool tails_are_out;
static size_t seen_blocks, seen_bytes; // of one check

// --- Checks ----------------------------------------------------------------

static void set_tails(bool on) {
    for (size_t i = 0; i < MUTATORS * ORDERS; i++) {
        const struct cache *cache = &caches[0][0] + i;
        for (uintptr_t at = cache->bump; at != cache->limit;
             at += cache->bytes) {
            size_t cell =
                (at - range_block_address(cache->block)) / cache->bytes;
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
        freed |= cells->freed[word] != 0;
    }
    assert_true(!freed || block_get(block)->freed_any); // B8
    check_owner(block);
    seen_blocks += block_span(block);
    seen_bytes += block_get(block)->live * block_cell_bytes(block);
}

// Whoever takes a block finds nothing of its past.
static void check_free_blocks(void) {
    static const struct block fresh;
    for (uint32_t block = 0; block < range_block_count(); block++) {
        if (ENTRY_CLASS(block_entry(block)) != CLASS_FREE) {
            continue;
        }
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

static void check_all(void) {
    seen_blocks = seen_bytes = 0;
    set_tails(true);
    heap_each_block(check_block, NULL);
    set_tails(false);
    check_free_blocks();
    if (!tails_are_out) {
        check_lists();
        assert_int_equal(seen_bytes, heap.used_bytes);
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

// --- Steps -----------------------------------------------------------------

static void add_item(void *object, unsigned order) {
    struct item *item = &items[item_count++];
    assert_ptr_equal(blockmap_object((uintptr_t)object, &item->place), object);
    item->order = order;
    struct cells *cells = &model[item->place.block];
    assert_false(bitmap_get(cells->object, item->place.cell)); // B1
    bitmap_set(cells->object, item->place.cell);
    if (!block_kind_is_leaf(item->place.kind)) {
        assert_true(is_zero(item->place.start, item->place.bytes));
    }
    memset(object, 0xA5, item->place.bytes);
}

static bool refill(struct gen *g, unsigned m, unsigned o) {
    struct cache *cache = &caches[m][o];
    if (cache_refill(cache, &heap)) {
        return true;
    }
    uint32_t block =
        heap_take_block(&heap, orders[o], gen_chance(g, 50), m + 1);
    if (block == BLOCK_NONE) {
        block = heap_make_block(&heap, orders[o], m + 1);
    }
    if (block == BLOCK_NONE) {
        return false;
    }
    cache_adopt(cache, block);
    assert_true(cache_refill(cache, &heap));
    return true;
}

static void step_alloc(struct gen *g, unsigned m, unsigned o) {
    struct cache *cache = &caches[m][o];
    void *object = cache_take(cache);
    if (object == NULL) {
        object = cache_pop(cache, &heap);
    }
    if (object == NULL && refill(g, m, o) && gen_chance(g, 90)) {
        object = cache_take(cache); // or leave a whole hole as the tail
    }
    if (object != NULL) {
        add_item(object, o);
    }
}

static void step_run(struct gen *g) {
    unsigned kind = (unsigned)gen_below(g, KIND_COUNT);
    bool zero;
    struct object *run = heap_make_run(
        &heap, kind, CELL_BYTES_MAX + gen_below(g, MiB),
        gen_chance(g, 20) ? BLOCK_BYTES << gen_below(g, 4) : 16, &zero);
    if (run == NULL) {
        return;
    }
    struct place place;
    assert_ptr_equal(blockmap_object((uintptr_t)run, &place), run);
    if (zero) {
        assert_true(is_zero(place.start, place.bytes)); // B10
    } else {
        memset((void *)run, 0, place.bytes);
    }
    add_item(run, ORDERS);
}

// The object is gone for the model; its item's place goes to the last.
static void forget_item(size_t at) {
    const struct place *place = &items[at].place;
    bitmap_clear(model[place->block].object, place->cell);
    bitmap_clear(model[place->block].marked, place->cell);
    items[at] = items[--item_count];
}

static void free_remotely(const struct place *place) {
    uint64_t *freed = model[place->block].freed;
    bool first = !bitmap_get(freed, place->cell);
    assert_int_equal(block_free_remotely(place->block, place->cell), first);
    assert_true(block_is_freed(place->block, place->cell)); // B8
    bitmap_set(freed, place->cell);
}

static void step_free(struct gen *g, unsigned m) {
    if (item_count == 0) {
        return;
    }
    // Mostly among the newest, so that blocks become empty now and then.
    size_t back = gen_chance(g, 70) && item_count > 50 ? 50 : item_count;
    size_t at = item_count - 1 - gen_below(g, back);
    struct place place = items[at].place;
    struct block *b = block_get(place.block);
    bool mine = b->owner == 0 || b->owner == m + 1;
    if (range.freed_in_use && (!mine || gen_chance(g, 10) ||
                               block_is_freed(place.block, place.cell))) {
        free_remotely(&place);
        return;
    }
    if (!mine) {
        return;
    }
    unsigned order = items[at].order;
    forget_item(at);
    if (order == ORDERS) {
        heap_free_run(&heap, place.block);
        return;
    }
    if (b->owner == 0) { // claimed first
        shelf_withdraw(heap_find_shelf(&heap, orders[order]), place.block);
        b->owner = m + 1;
    }
    cache_free(&caches[m][order], &heap, &place);
}

// --- The stop --------------------------------------------------------------

static void model_prepare(void) {
    for (size_t at = item_count; at-- > 0;) {
        const struct place *place = &items[at].place;
        struct cells *cells = &model[place->block];
        if (bitmap_get(cells->freed, place->cell)) {
            bitmap_clear(cells->freed, place->cell);
            forget_item(at); // B8
        } else if (block_kind_is_pinned(place->kind)) {
            bitmap_set(cells->marked, place->cell);
        } else {
            bitmap_clear(cells->marked, place->cell);
        }
    }
}

static void mark_some(struct gen *g, unsigned percent) {
    for (size_t at = 0; at < item_count; at++) {
        const struct place *place = &items[at].place;
        if (gen_chance(g, percent)) {
            bitmap_set(model[place->block].marked, place->cell);
            block_pair(place->block, place->cell / 64)[0] |=
                (uint64_t)1 << (place->cell % 64);
        }
    }
}

// What is not marked is gone (B11); what this adds up to.
static struct census model_flip(void) {
    struct census census = {0, 0, 0, 0, 0};
    for (size_t at = item_count; at-- > 0;) {
        const struct place place = items[at].place;
        if (bitmap_get(model[place.block].marked, place.cell)) {
            census.live_objects++;
            census.live_bytes += place.bytes;
        } else {
            census.dead_objects++;
            census.dead_bytes += place.bytes;
            forget_item(at);
        }
    }
    census.block_bytes = heap_block_bytes(&heap);
    return census;
}

// After a flip: what is in use holds something, or a cache bumps in it; and
// what has room is to be found.
static void check_flipped(uint32_t block, void *data) {
    (void)data;
    const struct block *b = block_get(block);
    if (b->flags & BLOCK_CURRENT) {
        assert_int_not_equal(b->owner, 0); // B9
        return;
    }
    assert_int_not_equal(b->live, 0);
    assert_int_equal(b->owner, 0);
    bool room = b->live < block_cells(block);
    unsigned list = room ? shelf_list_for(b->live, block_cells(block)) : 0;
    assert_int_equal(b->list, list);
}

static void move_tails(bool out) {
    for (size_t i = 0; i < MUTATORS * ORDERS; i++) {
        struct cache *cache = &caches[0][0] + i;
        if (out) {
            cache_tail_out(cache);
        } else {
            cache_tail_in(cache, &heap);
            assert_true(cache->block == BLOCK_NONE ||
                        block_get(cache->block)->live != 0);
        }
    }
    tails_are_out = out;
}

static void step_stop(struct gen *g) {
    static const unsigned percent[] = {0, 5, 50, 90, 99, 100};
    move_tails(true);
    for (size_t i = 0; i < MUTATORS * ORDERS; i++) {
        assert_null(cache_take(&caches[0][0] + i)); // B3
    }
    check_all();
    heap_prepare(&heap);
    model_prepare();
    check_all();
    mark_some(g, percent[gen_below(g, 6)]);
    struct census census;
    heap_flip(&heap, &census);
    struct census expected = model_flip();
    assert_memory_equal(&census, &expected, sizeof census); // B11
    check_all();
    heap_each_block(check_flipped, NULL);
    move_tails(false);
    check_all();
    if (gen_chance(g, 50)) {
        region_trim(&heap.region, gen_chance(g, 20));
    }
}

// Phases of random length, in which one thing is likelier than the rest, make
// the states that a fair mix would not reach: full, empty, all on the stack.
static void test_steps(void **state) {
    (void)state;
    struct gen g;
    gen_init(&g, gen_seed("block_protocol"));
    unsigned weight = 50, m = 0, o = 0;
    for (size_t step = 0; step < STEPS; step++) {
        if (gen_chance(&g, 2)) {
            weight = (unsigned)gen_below(&g, 100);
            m = (unsigned)gen_below(&g, MUTATORS);
        }
        if (gen_chance(&g, 10)) {
            o = (unsigned)gen_below(&g, ORDERS);
        }
        if (step == STEPS / 4) {
            assert_true(range_use_freed());
        }
        if (item_count == ITEMS_MAX || gen_chance(&g, 1)) {
            step_stop(&g);
        } else if (gen_chance(&g, 1)) {
            step_run(&g);
        } else if (gen_chance(&g, weight)) {
            step_free(&g, m);
        } else {
            step_alloc(&g, m, o);
        }
        check_all();
        if (gen_chance(&g, 2)) {
            heap_each_block(check_zero_block, NULL);
        }
    }
}

static int make_heap(void **state) {
    (void)state;
    if (!range_init(BLOCKS * BLOCK_BYTES)) {
        return -1;
    }
    heap_init(&heap);
    heap.region.limit_bytes = HEAP_BYTES;
    size_t offsets[] = {0, 8};
    for (unsigned o = 0; o < ORDERS; o++) {
        if (orders[o].kind == KIND_DESCRIBED) {
            struct layout *layout = layout_make(16, offsets, orders[o].layout);
            if (layout == NULL || layout->id != orders[o].layout ||
                !heap_add_described(&heap, orders[o])) {
                return -1;
            }
        }
        for (unsigned m = 0; m < MUTATORS; m++) {
            cache_init(&caches[m][o], orders[o], m + 1, m == 1 && o % 2 == 0);
        }
    }
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_steps)};
    return cmocka_run_group_tests(tests, make_heap, NULL);
}
