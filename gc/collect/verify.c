#include "collect/verify.h"

#include "base/check.h"
#include "heap/block.h"
#include "heap/cache.h"
#include "heap/region.h"
#include "heap/shelf.h"

// What the blocks add up to.
struct verify_sum {
    const struct mutator *mutator;
    size_t used_bytes;
    size_t blocks;
    size_t current;
};

static void verify_block(uint32_t block, void *data) {
    struct verify_sum *sum = data;
    const struct block *b = block_get(block);
    CHECK(block_check(block));
    CHECK(!(b->flags & BLOCK_CURRENT) || b->list == SHELF_NONE);
    CHECK(b->owner == 0 || b->owner == sum->mutator->id);
    sum->used_bytes += b->live * block_cell_bytes(block);
    sum->blocks += block_span(block);
    sum->current += (b->flags & BLOCK_CURRENT) != 0;
}

static void verify_cache(struct cache *cache, void *data) {
    size_t *current = data;
    CHECK(cache_check(cache));
    *current += cache->block != BLOCK_NONE;
}

static void verify_shelves(const struct heap *heap) {
    for (unsigned kind = 0; kind < KIND_COUNT; kind++) {
        for (unsigned cls = CLASS_FIRST; cls <= CLASS_LAST; cls++) {
            CHECK(shelf_check(&heap->shelves[kind][cls]));
        }
    }
    for (size_t i = 0; i < heap->described.capacity; i++) {
        if (heap->described.slots[i].key != 0) {
            CHECK(shelf_check(heap->described.slots[i].value));
        }
    }
}

void verify_heap(const struct heap *heap, const struct mutator *mutator) {
    struct verify_sum sum = {.mutator = mutator};
    heap_each_block(verify_block, &sum);
    CHECK(sum.used_bytes == heap->used_bytes);
    CHECK(sum.blocks == heap->region.used_blocks);
    CHECK(heap->allocated_bytes ==
          heap->used_bytes + heap->freed_bytes + heap->collected_bytes);
    size_t current = 0;
    mutator_each_cache(mutator, verify_cache, &current);
    CHECK(sum.current == current);
    verify_shelves(heap);
    CHECK(region_check(&heap->region));
}
