// The bit protocol (B1 to B13 of heap/block.h), step by step beside a model.
//
// Two mutators allocate, free by hand, free one another's cells, drain, give
// up, and are stopped, in an order drawn at random; wrong programs free what is
// not theirs, or twice at once.  The model keeps for each cell whether it is an
// object, marked, or freed by another thread.  After every step every bit of
// every block must be what the model says, and the checks of block, cache,
// shelf and region must hold.  LOAM_SEED=<number> repeats a run.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "heap/layout.h"
#include "support/bitmodel.h"
#include "support/gen.h"

enum { LATE = 16, STEPS = 12000 };

static struct place late[LATE]; // freed by hand, the newest at late_at
static unsigned late_at;

// --- Steps -----------------------------------------------------------------

// The bits of cells [from, end) are set: what was left behind is dropped (B8).
static void model_take(uint32_t block, size_t from, size_t end) {
    for (size_t cell = from; cell < end; cell++) {
        bitmap_clear(model[block].freed, cell);
    }
}

static void model_take_tail(const struct cache *cache) {
    uintptr_t start = block_first(cache->block);
    model_take(cache->block, (cache->bump - start) / cache->bytes,
               (cache->limit - start) / cache->bytes);
}

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
    if (cache_refill(cache)) {
        model_take_tail(cache);
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
    assert_true(cache_refill(cache));
    model_take_tail(cache);
    return true;
}

static void step_alloc(struct gen *g, unsigned m, unsigned o) {
    struct cache *cache = &caches[m][o];
    void *object = cache_take(cache);
    if (object == NULL) {
        object = cache_pop(cache);
        if (object != NULL) {
            struct place place;
            assert_true(blockmap_find((uintptr_t)object, &place));
            model_take(place.block, place.cell, place.cell + 1);
        }
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
    model_take(place.block, 0, 1);
    add_item(run, ORDERS);
}

// The object is gone for the model; its item's place goes to the last.
static void forget_item(size_t at) {
    const struct place *place = &items[at].place;
    bitmap_clear(model[place->block].object, place->cell);
    bitmap_clear(model[place->block].marked, place->cell);
    items[at] = items[--item_count];
}

// The second half of block_free_remotely, and what follows it.
static void tell(uint32_t block, uint32_t cell) {
    bitmap_set(model[block].freed, cell);
    uint64_t *freed = &range.freed[block * FREED_WORDS_PER_BLOCK + cell / 64];
    *freed |= (uint64_t)1 << (cell % 64);
    uint8_t *any = &block_get(block)->freed_any;
    if (*any == 0) {
        *any = 1;
        heap_push_freed(heap_get(block), block);
    }
}

static void free_remotely(const struct place *place) {
    struct cells *cells = &model[place->block];
    bool first = !bitmap_get(cells->freed, place->cell);
    bool any = block_get(place->block)->freed_any;
    enum freed_by by = block_free_remotely(place->block, place->cell);
    assert_int_equal(by, !first ? FREED_TWICE : any ? FREED_MORE : FREED_FIRST);
    if (by == FREED_FIRST) {
        heap_push_freed(&heap, place->block);
    }
    assert_true(block_is_freed(place->block, place->cell)); // B8
    bitmap_set(cells->freed, place->cell);
}

static void release(uint32_t block) {
    if (block != BLOCK_NONE) {
        assert_int_equal(block_get(block)->live, 0);
        heap_release_block(&heap, block);
    }
}

// In a block that is the mutator's, or ownerless.
static void free_locally(unsigned m, size_t at) {
    struct place place = items[at].place;
    late_at = (late_at + 1) % LATE;
    late[late_at] = place;
    unsigned order = items[at].order;
    forget_item(at);
    if (order == ORDERS) {
        heap_free_run(&heap, place.block);
        return;
    }
    struct block *b = block_get(place.block);
    if (b->owner == 0) { // claimed first
        shelf_withdraw(heap_find_shelf(&heap, orders[order]), place.block);
        b->owner = m + 1;
    }
    release(cache_free(&caches[m][order], &place));
}

static void step_free(struct gen *g, unsigned m) {
    if (item_count == 0) {
        return;
    }
    // Mostly among the newest, so that blocks become empty now and then.
    size_t back = gen_chance(g, 70) && item_count > 50 ? 50 : item_count;
    size_t at = item_count - 1 - gen_below(g, back);
    const struct place *place = &items[at].place;
    const struct block *b = block_get(place->block);
    bool mine = b->owner == 0 || b->owner == m + 1;
    bool watched = block_flags(place->block) & BLOCK_WATCHED; // B13
    if (range.freed_in_use && (!mine || watched || gen_chance(g, 10) ||
                               block_is_freed(place->block, place->cell))) {
        free_remotely(place);
    } else if (mine && !watched) {
        free_locally(m, at);
    }
}

// A wrong program: frees what a cache has not handed out yet; or frees in two
// threads at once, of which one saw the object still in use, and comes late.
static void step_wrong(struct gen *g) {
    const struct cache *cache =
        &caches[gen_below(g, MUTATORS)][gen_below(g, ORDERS)];
    if (cache->bump != cache->limit && gen_chance(g, 50) &&
        !(block_flags(cache->block) & BLOCK_WATCHED)) {
        struct place place;
        assert_true(blockmap_find(cache->bump, &place));
        free_remotely(&place);
        return;
    }
    for (unsigned i = 0; i < LATE; i++) {
        uint32_t block = late[i].block;
        if (block != 0 && !bitmap_get(model[block].object, late[i].cell) &&
            !(block_flags(block) & BLOCK_WATCHED) && gen_chance(g, 50)) {
            tell(block, late[i].cell);
        }
    }
}

// As whoever makes a weak reference.  (A watched block that a wrong program
// left bits in may be released untold; it is told late then.)
static void step_watch(struct gen *g) {
    if (item_count == 0) {
        return;
    }
    uint32_t block = items[gen_below(g, item_count)].place.block;
    const struct cells *cells = &model[block];
    for (size_t word = 0; word < WORDS; word++) {
        if ((cells->freed[word] & ~cells->object[word]) != 0) {
            return;
        }
    }
    block_set_flags(block, BLOCK_WATCHED);
}

// --- Drains ----------------------------------------------------------------

static void model_drain(uint32_t block) {
    if (block_get(block)->freed_any == 0) {
        return;
    }
    uint64_t *freed = model[block].freed;
    for (size_t at = item_count; at-- > 0;) {
        const struct place *place = &items[at].place;
        if (place->block == block && bitmap_get(freed, place->cell)) {
            forget_item(at); // B8
        }
    }
    memset(freed, 0, sizeof model[block].freed);
}

static unsigned order_of(uint32_t block) {
    struct order order = heap_order_of(block);
    unsigned o = 0;
    while (o < ORDERS && memcmp(&orders[o], &order, sizeof order) != 0) {
        o++;
    }
    return o;
}

// As the ladder does (collect/refill.c).
static void drain_block(unsigned m, uint32_t block) {
    if (heap_find_freed(block) == NULL ||
        (block_flags(block) & BLOCK_WATCHED)) { // B13
        return;
    }
    struct block *b = block_get(block);
    if (b->owner == m + 1) {
        model_drain(block);
        release(cache_drain(&caches[m][order_of(block)], block));
    } else if (b->owner == 0) {
        model_drain(block);
        heap_drain_block(&heap, block);
    } else {
        b->next_freed = inboxes[b->owner - 1];
        inboxes[b->owner - 1] = block;
    }
}

static void drain_all(unsigned m, uint32_t block) {
    while (block != BLOCK_NONE) {
        uint32_t next = block_get(block)->next_freed;
        drain_block(m, block);
        block = next;
    }
}

static void step_drain(unsigned m) {
    drain_all(m, heap_take_freed(&heap));
    uint32_t inbox = inboxes[m];
    inboxes[m] = BLOCK_NONE;
    drain_all(m, inbox);
}

// The mutator ends, and another inherits its id with the blocks that bear it.
static void step_give_up(unsigned m) {
    for (unsigned o = 0; o < ORDERS; o++) {
        cache_give_up(&caches[m][o], &heap);
        assert_int_equal(caches[m][o].block, BLOCK_NONE);
        assert_int_equal(cache_tail_bytes(&caches[m][o]), 0);
    }
    while (inboxes[m] != BLOCK_NONE) {
        uint32_t block = inboxes[m];
        inboxes[m] = block_get(block)->next_freed;
        heap_push_freed(&heap, block);
    }
}

// --- The stop --------------------------------------------------------------

static void fold(void) {
    heap.allocated_bytes += told_bytes(false);
    heap.freed_bytes += told_bytes(true);
    heap.used_bytes += told_bytes(false) - told_bytes(true);
    memset(tallies, 0, sizeof tallies);
}

// What the conductor does with inboxes: blocks in use are about to be drained.
static void clear_inboxes(void) {
    for (unsigned m = 0; m < MUTATORS; m++) {
        uint32_t block = inboxes[m];
        inboxes[m] = BLOCK_NONE;
        while (block != BLOCK_NONE) {
            uint32_t next = block_get(block)->next_freed;
            if (!heap_is_block_of(&heap, block)) {
                block_get(block)->next_freed = inboxes[m];
                inboxes[m] = block;
            }
            block = next;
        }
    }
}

static void forget_freed(uint32_t block, void *data) {
    (void)data;
    if (block_get(block)->freed_any) {
        memset(model[block].freed, 0, sizeof model[block].freed);
    }
}

static void unwatch(uint32_t block, void *data) {
    if (gen_chance(data, 70)) {
        block_clear_flags(block, BLOCK_WATCHED);
    }
}

static void model_prepare(void) {
    for (size_t at = item_count; at-- > 0;) {
        const struct place *place = &items[at].place;
        struct cells *cells = &model[place->block];
        if (bitmap_get(cells->freed, place->cell)) {
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
    struct census census = {.live_bytes = 0};
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

// Who owned each block before the flip.
static uint32_t owners[BLOCKS];

static void note_owner(uint32_t block, void *data) {
    (void)data;
    owners[block] = block_get(block)->owner;
}

// As the conductor does after a flip.
static void bring_back(void) {
    uint32_t block;
    while ((block = heap_take_kept(&heap)) != BLOCK_NONE) {
        struct order order = heap_order_of(block);
        unsigned o = 0;
        while (orders[o].kind != order.kind || orders[o].cls != order.cls) {
            o++;
        }
        cache_keep(&caches[block_owner(block) - 1][o], block);
    }
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
    bool room = b->live < block_cells(block);
    if (block_kind_is_counted(ENTRY_KIND(block_entry(block)))) {
        assert_int_equal(b->owner, owners[block]); // B7
        if (b->owner != 0) {
            assert_int_equal(b->list, room ? SHELF_MINE : SHELF_NONE);
            return;
        }
    }
    assert_int_equal(b->owner, 0);
    unsigned list = room ? shelf_list_for(b->live, block_cells(block)) : 0;
    assert_int_equal(b->list, list);
}

static void move_tails(bool out, bool taking) {
    for (size_t i = 0; i < MUTATORS * ORDERS; i++) {
        struct cache *cache = &caches[0][0] + i;
        if (out) {
            cache_tail_out(cache);
        } else {
            uint32_t block = cache->block;
            cache_tail_in(cache, &heap, taking);
            assert_true(!taking || cache->block == block);
            assert_true(cache->block == BLOCK_NONE || taking ||
                        block_get(cache->block)->live != 0);
        }
    }
    tails_are_out = out;
}

static void step_stop(struct gen *g) {
    static const unsigned percent[] = {0, 5, 50, 90, 99, 100};
    fold();
    move_tails(true, false);
    for (size_t i = 0; i < MUTATORS * ORDERS; i++) {
        assert_null(cache_take(&caches[0][0] + i)); // B3
    }
    check_all();
    clear_inboxes();
    model_prepare();
    heap_each_block(forget_freed, NULL);
    heap_prepare(&heap);
    heap_each_block(unwatch, g);
    check_all();
    mark_some(g, percent[gen_below(g, 6)]);
    struct census census;
    heap_each_block(note_owner, NULL);
    heap_flip(&heap, &census);
    struct census expected = model_flip();
    assert_memory_equal(&census, &expected, sizeof census); // B11
    check_all();
    heap_each_block(check_flipped, NULL);
    bring_back();
    move_tails(false, gen_chance(g, 30));
    check_all();
    if (gen_chance(g, 50)) {
        region_trim(&heap.region, gen_chance(g, 20));
    }
}

static void step_rare(struct gen *g, unsigned m) {
    if (gen_chance(g, 20)) {
        step_give_up(m);
    } else if (gen_chance(g, 50)) {
        step_watch(g);
    } else if (range.freed_in_use) {
        step_wrong(g);
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
        } else if (gen_chance(&g, 3)) {
            step_drain(gen_chance(&g, 50) ? m : 1 - m);
        } else if (gen_chance(&g, 2)) {
            step_rare(&g, m);
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
    if (!heap_init(&heap, NULL)) {
        return -1;
    }
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
            cache_init(&caches[m][o], orders[o], m + 1, m == 1 && o % 2 == 0,
                       &tallies[m]);
        }
    }
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_steps)};
    return cmocka_run_group_tests(tests, make_heap, NULL);
}
