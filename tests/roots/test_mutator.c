// The caches of a mutator: one for each order, each on the chain once.

#include "roots/mutator.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "heap/block.h"
#include "roots/world.h"

#define LAYOUTS 200u

static struct heap heap, second, third;
static size_t chained;

static int make_heaps(void **state) {
    (void)state;
    return range_init(64 * MiB) && heap_init(&heap, NULL) &&
                   heap_init(&second, &heap) && heap_init(&third, &heap)
               ? 0
               : -1;
}

// The cache for an order, made if need be.
static struct cache *get(struct mutator *mutator, struct cacheset *set,
                         struct order order) {
    struct cache *cache = mutator_find_cache(set, order);
    return cache != NULL ? cache : mutator_add_cache(mutator, set, order);
}

static void count_cache(struct cache *cache, void *data) {
    struct mutator *mutator = data;
    assert_int_equal(cache->owner, mutator->id); // U3
    assert_int_equal(cache->bytes, sizeclass_bytes(cache->order.cls));
    assert_ptr_equal(mutator_find_cache(&mutator->home, cache->order), cache);
    assert_ptr_equal(cache->tally, &mutator->home.tally);
    chained++;
}

// Every order once; asked again, the same cache.
static void test_caches(void **state) {
    (void)state;
    struct mutator *mutator = mutator_make(9, &heap, true);
    assert_non_null(mutator);
    assert_ptr_equal(mutator->home.heap, &heap);
    assert_int_equal(mutator->busy, MUTATOR_OUT);
    assert_int_equal(mutator->state, MUTATOR_RUNS);
    struct cacheset *home = &mutator->home;
    size_t made = 0;
    for (unsigned kind = 0; kind < KIND_COUNT; kind++) {
        for (unsigned cls = CLASS_FIRST; cls <= CLASS_LAST; cls++) {
            bool described = kind == KIND_DESCRIBED;
            for (unsigned layout = described; layout <= described * LAYOUTS;
                 layout += 7) {
                struct order order = {kind, cls, layout};
                assert_null(mutator_find_cache(home, order));
                struct cache *cache = mutator_add_cache(mutator, home, order);
                assert_non_null(cache);
                assert_int_equal(cache->slice_cells, 1); // single
                assert_ptr_equal(mutator_find_cache(home, order), cache);
                made++;
            }
        }
    }
    chained = 0;
    mutator_each_cache(mutator, &heap, count_cache, mutator);
    assert_int_equal(chained, made); // U1
    mutator_each_cache(mutator, NULL, count_cache, mutator);
    assert_int_equal(chained, 2 * made);
    mutator_each_cache(mutator, &second, count_cache, mutator);
    assert_int_equal(chained, 2 * made);
    mutator_free(mutator);
}

static void count_any(struct cache *cache, void *data) {
    (void)cache;
    size_t *count = data;
    ++*count;
}

static size_t count_of(struct mutator *mutator, const struct heap *of) {
    size_t count = 0;
    mutator_each_cache(mutator, of, count_any, &count);
    return count;
}

// Each heap has a set of its own, once it is there, until it goes.
static void test_sets(void **state) {
    (void)state;
    struct mutator *mutator = mutator_make(1, &heap, false);
    struct order order = {KIND_LEAF, 3, 0};
    assert_ptr_equal(mutator_find_set(mutator, &heap), &mutator->home);
    assert_null(mutator_find_set(mutator, &second));
    struct cacheset *set = mutator_add_set(mutator, &second);
    assert_non_null(set);
    assert_ptr_equal(set->heap, &second);
    assert_ptr_equal(mutator_add_set(mutator, &second), set);
    assert_ptr_equal(mutator_find_set(mutator, &second), set);
    struct cacheset *other = mutator_add_set(mutator, &third);
    struct cache *first = get(mutator, &mutator->home, order);
    struct cache *next = get(mutator, set, order);
    assert_ptr_not_equal(first, next); // U2
    assert_ptr_not_equal(get(mutator, other, order), next);
    assert_ptr_equal(mutator_find_cache(set, order), next);
    assert_true(first->slice_cells > 1);
    (void)get(mutator, set, (struct order){KIND_DESCRIBED, 3, 1});
    assert_int_equal(count_of(mutator, NULL), 4); // U1
    assert_int_equal(count_of(mutator, &second), 2);
    mutator_drop_set(mutator, &second);
    assert_null(mutator_find_set(mutator, &second));
    assert_int_equal(count_of(mutator, NULL), 2);
    mutator_drop_set(mutator, &second); // again: nothing
    assert_ptr_equal(mutator_find_set(mutator, &third), other);
    mutator_free(mutator);
}

// A heap's blocks leave the inbox, those of others stay, each once.
static void test_inbox(void **state) {
    (void)state;
    struct mutator *mutator = mutator_make(3, &heap, false);
    struct heap *heaps[] = {&heap, &second, &third};
    uint32_t blocks[9];
    struct order order = {KIND_LEAF, 5, 0};
    for (size_t i = 0; i < 9; i++) {
        blocks[i] = heap_make_block(heaps[i % 3], order, 3);
        block_get(blocks[i])->next_freed = mutator->inbox;
        mutator->inbox = blocks[i];
    }
    for (size_t gone = 0; gone < 3; gone++) {
        mutator_drop_inbox(mutator, heaps[gone]);
        size_t found = 0;
        uint32_t at = mutator->inbox;
        for (; at != BLOCK_NONE; at = block_get(at)->next_freed) {
            assert_true(heap_get(at)->slot > heaps[gone]->slot);
            found++;
        }
        assert_int_equal(found, 3 * (2 - gone));
    }
    for (size_t i = 0; i < 9; i++) {
        heap_release_block(heaps[i % 3], blocks[i]);
    }
    mutator_free(mutator);
}

// Blocks that two caches have current are two blocks.
static void test_apart(void **state) {
    (void)state;
    struct mutator *mutator = mutator_make(2, &heap, false);
    struct cache *caches[3 * 40];
    size_t count = 0;
    static const unsigned kinds[] = {KIND_LEAF, KIND_SCANNED, KIND_DESCRIBED};
    for (unsigned i = 0; i < 3; i++) {
        for (unsigned cls = 1; cls <= 40; cls++) {
            struct order order = {kinds[i], cls, kinds[i] == KIND_DESCRIBED};
            assert_true(order.kind != KIND_DESCRIBED ||
                        heap_add_described(&heap, order));
            struct cache *cache = get(mutator, &mutator->home, order);
            cache_adopt(cache, heap_make_block(&heap, order, mutator->id));
            assert_true(cache_refill(cache));
            caches[count++] = cache;
        }
    }
    for (size_t i = 0; i < count; i++) {
        for (size_t other = 0; other < i; other++) {
            assert_int_not_equal(caches[i]->block, caches[other]->block); // U2
        }
    }
    for (size_t i = 0; i < count; i++) {
        cache_give_up(caches[i], &heap);
    }
    assert_int_equal(heap.used_blocks, 0);
    mutator_free(mutator);
}

// What a stop asks: where the thread is, and what it has left to be read.
static void test_states(void **state) {
    (void)state;
    assert_true(world_init(0));
    struct mutator *mutator = world_attach(&heap, false);
    assert_non_null(mutator);
    assert_int_equal(mutator->busy, MUTATOR_OUT);
    mutator_enter(mutator);
    assert_int_equal(mutator->busy, MUTATOR_INSIDE); // U4
    world_safe_enter(mutator);                       // as one that waits
    assert_int_equal(mutator->busy, MUTATOR_INSIDE);
    assert_int_equal(mutator->state, MUTATOR_SAFE); // U5
    world_safe_leave(mutator);
    assert_int_equal(mutator->state, MUTATOR_RUNS);
    world_leave(mutator);
    assert_int_equal(mutator->busy, MUTATOR_OUT);
    const void *here = __builtin_frame_address(0);
    world_safe_enter(mutator);
    assert_int_equal(mutator->state, MUTATOR_SAFE);
    assert_int_equal(mutator->busy, MUTATOR_AWAY); // U6
    assert_true(mutator->stopped_at <= here);      // U5
    world_safe_leave(mutator);
    assert_int_equal(mutator->state, MUTATOR_RUNS);
    assert_int_equal(mutator->busy, MUTATOR_OUT);
    world_lock(mutator);
    world_detach(mutator);
    world_unlock();
}

// Room is what is certain: on a stack that nobody knows there is none.
static void test_room(void **state) {
    (void)state;
    char *here = __builtin_frame_address(0);
    static struct mutator mutator;
    assert_false(mutator_has_room(&mutator, 1)); // not asked for yet
    mutator.cold_end = here + KiB;
    mutator.guessed = true;
    assert_false(mutator_has_room(&mutator, 1)); // only its end is known
    mutator.guessed = false;
    mutator.cold_end = here + MiB;
    assert_true(mutator_has_room(&mutator, MiB)); // it grows
    mutator.cold_end = here + GiB;
    assert_false(mutator_has_room(&mutator, 1)); // somewhere below it
    mutator.cold_end = here + MiB;
    mutator.lowest = here - 8 * KiB;
    assert_true(mutator_has_room(&mutator, 4 * KiB));
    assert_false(mutator_has_room(&mutator, 8 * KiB));
    mutator.lowest = here + KiB; // another stack, above and below
    assert_false(mutator_has_room(&mutator, 1));
    mutator.cold_end = here - MiB;
    mutator.lowest = here - 2 * MiB;
    assert_false(mutator_has_room(&mutator, 1));
    struct fiber fiber = {.lowest = (uintptr_t)here - 8 * KiB,
                          .end = (uintptr_t)here + 8 * KiB};
    mutator.seat.running = &fiber;
    assert_true(mutator_has_room(&mutator, 4 * KiB));
    assert_false(mutator_has_room(&mutator, 8 * KiB));
    fiber.lowest = (uintptr_t)here + 4 * KiB; // it was left a moment ago
    assert_false(mutator_has_room(&mutator, 1));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_caches), cmocka_unit_test(test_sets),
        cmocka_unit_test(test_inbox),  cmocka_unit_test(test_apart),
        cmocka_unit_test(test_states), cmocka_unit_test(test_room),
    };
    return cmocka_run_group_tests(tests, make_heaps, NULL);
}
