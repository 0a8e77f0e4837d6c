// The caches of a mutator: one for each order, each on the chain once.

#include "roots/mutator.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "heap/meta.h"
#include "os/thread.h"

#define LAYOUTS 200u

static size_t chained;

static void count_cache(struct cache *cache, void *data) {
    struct mutator *mutator = data;
    assert_int_equal(cache->owner, mutator->id); // U3
    assert_int_equal(cache->bytes, sizeclass_bytes(cache->order.cls));
    assert_ptr_equal(mutator_find_cache(mutator, 0, cache->order), cache);
    chained++;
}

// Every order once; asked again, the same cache.
static void test_caches(void **state) {
    (void)state;
    int here = 0;
    struct mutator *mutator = mutator_make(9, &here, true);
    assert_non_null(mutator);
    assert_ptr_equal(mutator->cold_end, &here);
    assert_int_equal(mutator->thread, thread_id());
    size_t made = 0;
    for (unsigned kind = 0; kind < KIND_COUNT; kind++) {
        for (unsigned cls = CLASS_FIRST; cls <= CLASS_LAST; cls++) {
            bool described = kind == KIND_DESCRIBED;
            for (unsigned layout = described; layout <= described * LAYOUTS;
                 layout += 7) {
                struct order order = {kind, cls, layout};
                assert_null(mutator_find_cache(mutator, 0, order));
                struct cache *cache = mutator_get_cache(mutator, 0, order);
                assert_non_null(cache);
                assert_int_equal(cache->slice_cells, 1); // single
                assert_ptr_equal(mutator_get_cache(mutator, 0, order), cache);
                assert_ptr_equal(mutator_find_cache(mutator, 0, order), cache);
                made++;
            }
        }
    }
    chained = 0;
    mutator_each_cache(mutator, count_cache, mutator);
    assert_int_equal(chained, made); // U1
}

// A second heap has a set of its own, once it is there.
static void test_sets(void **state) {
    (void)state;
    struct mutator *mutator = mutator_make(1, NULL, false);
    struct order order = {KIND_LEAF, 3, 0};
    assert_null(mutator_find_cache(mutator, 1, order));
    mutator->sets[1] = meta_make(sizeof *mutator->sets[1]);
    assert_non_null(mutator->sets[1]);
    struct cache *first = mutator_get_cache(mutator, 0, order);
    struct cache *second = mutator_get_cache(mutator, 1, order);
    assert_ptr_not_equal(first, second); // U2
    assert_ptr_equal(mutator_find_cache(mutator, 1, order), second);
    assert_true(first->slice_cells > 1);
}

// Blocks that two caches have current are two blocks.
static void test_apart(void **state) {
    (void)state;
    static struct heap heap;
    heap_init(&heap);
    assert_true(range_init(64 * MiB));
    struct mutator *mutator = mutator_make(2, NULL, false);
    struct cache *caches[3 * 40];
    size_t count = 0;
    for (unsigned kind = 0; kind < 3; kind++) {
        for (unsigned cls = 1; cls <= 40; cls++) {
            struct order order = {kind, cls, kind == KIND_DESCRIBED};
            assert_true(kind != KIND_DESCRIBED ||
                        heap_add_described(&heap, order));
            struct cache *cache = mutator_get_cache(mutator, 0, order);
            cache_adopt(cache, heap_make_block(&heap, order, mutator->id));
            assert_true(cache_refill(cache, &heap));
            caches[count++] = cache;
        }
    }
    for (size_t i = 0; i < count; i++) {
        for (size_t other = 0; other < i; other++) {
            assert_int_not_equal(caches[i]->block, caches[other]->block); // U2
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_caches),
        cmocka_unit_test(test_sets),
        cmocka_unit_test(test_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
