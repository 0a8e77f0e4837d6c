#include "collect/verify.h"

#include "base/check.h"
#include "heap/block.h"
#include "heap/cache.h"
#include "heap/region.h"
#include "heap/shelf.h"
#include "heap/table.h"
#include "roots/mutator.h"
#include "roots/world.h"

// What the blocks add up to.
struct verify_sum {
    const struct heap *heap;
    size_t used_bytes;
    size_t blocks;
    size_t current;
};

static void verify_block(uint32_t block, void *data) {
    struct verify_sum *sum = data;
    const struct block *b = block_get(block);
    CHECK(block_check(block));
    CHECK(!(block_flags(block) & BLOCK_CURRENT) || b->list == SHELF_NONE);
    // What stands on a shelf is nobody's.
    CHECK(b->owner == 0 || b->list == SHELF_NONE || b->list == SHELF_MINE);
    CHECK(b->owner != 0 || b->list != SHELF_MINE);
    if (b->heap != sum->heap->slot) {
        return;
    }
    sum->used_bytes += b->live * block_cell_bytes(block);
    sum->blocks += block_span(block);
    sum->current += (block_flags(block) & BLOCK_CURRENT) != 0;
}

static void verify_cache(struct cache *cache, void *data) {
    struct verify_sum *sum = data;
    CHECK(cache_check(cache));
    sum->current -= cache->block != BLOCK_NONE;
}

static void verify_mutator(struct mutator *mutator, void *data) {
    struct verify_sum *sum = data;
    mutator_each_cache(mutator, sum->heap, verify_cache, data);
}

static void verify_shelves(const struct heap *heap) {
    CHECK(heap->kept.head == BLOCK_NONE); // E3
    for (unsigned kind = 0; kind < KIND_COUNT; kind++) {
        for (unsigned cls = CLASS_FIRST; cls <= CLASS_LAST; cls++) {
            CHECK(shelf_check(&heap->shelves[kind][cls]));
        }
    }
    for (size_t i = 0; i < table_capacity(&heap->described); i++) {
        const struct shelf *shelf = table_value(&heap->described, i);
        CHECK(shelf == NULL || shelf_check(shelf));
    }
}

void verify_heap(const struct heap *heap) {
    struct verify_sum sum = {.heap = heap};
    heap_each_block(verify_block, &sum);
    CHECK(sum.used_bytes == heap->used_bytes);
    CHECK(sum.blocks == heap->used_blocks);
    CHECK(heap->allocated_bytes ==
          heap->used_bytes + heap->freed_bytes + heap->collected_bytes);
    world_each(verify_mutator, &sum);
    CHECK(sum.current == 0);
    verify_shelves(heap);
    CHECK(region_check(heap->ground));
}
