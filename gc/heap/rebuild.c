#include "heap/rebuild.h"

#include <string.h>

#include "base/bitmap.h"
#include "base/bits.h"
#include "base/check.h"
#include "heap/block.h"
#include "heap/range.h"
#include "heap/region.h"

// --- What is a span --------------------------------------------------------

static bool rebuild_is_head(uint32_t block) {
    unsigned entry = block_entry(block);
    unsigned cls = ENTRY_CLASS(entry);
    return cls != CLASS_FREE && cls != CLASS_RUN_TAIL &&
           ENTRY_INDEX(entry) == 0;
}

// A block of none: its struct may have been readied, or its bits not cleared,
// by who was about to make or to free a span here.
static void rebuild_free(uint32_t block) {
    if (ENTRY_CLASS(block_entry(block)) != CLASS_FREE) {
        __atomic_store_n(&range.entries[block], CLASS_FREE, __ATOMIC_RELEASE);
    }
    static const struct block none;
    if (memcmp(block_get(block), &none, sizeof none) != 0) {
        memset(block_get(block), 0, sizeof none);
    }
    uint64_t *pair = block_pair(block, 0);
    for (size_t i = 0; i < BITS_WORDS_PER_BLOCK; i++) {
        if (pair[i] != 0) {
            pair[i] = 0;
        }
    }
}

// In no list, and nobody's, unless it is a counted block of the mutator that is
// left; and what its cache may have known of it and did not say
// is taken for granted (B12).
static void rebuild_disown(uint32_t block, uint32_t mutator) {
    struct block *b = block_get(block);
    unsigned kind = ENTRY_KIND(block_entry(block));
    bool kept = block_kind_is_counted(kind) && mutator != 0 &&
                block_owner_mutator(block) == mutator;
    if (block_flags(block) & BLOCK_CURRENT) {
        block_set_flags(block, BLOCK_EXACT);
    }
    block_clear_flags(block, BLOCK_CURRENT | BLOCK_ZERO);
    block_set_owner(block, kept ? mutator : 0);
    b->list = SHELF_NONE;
    b->next = b->prev = BLOCK_NONE;
    b->next_freed = BLOCK_NONE;
    b->cursor = 0;
}

static void rebuild_heaps(void (*visit)(struct heap *heap)) {
    for (size_t slot = 0; slot <= UINT16_MAX; slot++) {
        struct heap *heap = heap_find(slot);
        if (heap != NULL) {
            visit(heap);
        }
    }
}

static void rebuild_forget(struct heap *heap) {
    heap->used_blocks = 0;
    heap->used_bytes = 0;
    heap->freed_blocks = BLOCK_NONE;
    heap_clear_shelves(heap);
    if (heap->ground == &heap->region) {
        heap->region.used_blocks = 0;
        heap->region.low = 1;
    }
}

void rebuild_begin(uint32_t mutator) {
    size_t end = range_block_count();
    if (end == 0) {
        return;
    }
    rebuild_heaps(rebuild_forget);
    bitmap_clear_range(range.taken, 0, end);
    bitmap_set(range.taken, BLOCK_NONE);
    for (uint32_t block = 1; block < end;) {
        if (!rebuild_is_head(block)) { // a part without a head is none (D4)
            rebuild_free(block++);
            continue;
        }
        size_t span = block_span(block);
        bitmap_set_range(range.taken, block, span);
        rebuild_disown(block, mutator);
        block += (uint32_t)span;
    }
}

// --- The caches that are left ----------------------------------------------

// The bits of its tail, which a cycle that is no more may have taken out.
static void rebuild_tail(const struct cache *cache) {
    uintptr_t start = block_first(cache->block);
    size_t end = (cache->limit - start) / cache->bytes;
    for (size_t cell = (cache->bump - start) / cache->bytes; cell < end;
         cell++) {
        block_pair(cache->block, cell / 64)[1] |= (uint64_t)1 << (cell % 64);
    }
}

void rebuild_claim(struct cache *cache) {
    cache->free_count = 0;
    cache->mine = (struct shelf_ends){BLOCK_NONE, BLOCK_NONE};
    if (cache->held != 0) {
        cache->bump = cache->held;
        cache->held = 0;
    }
    if (cache->block == BLOCK_NONE) {
        cache->bump = cache->limit = 0;
        return;
    }
    struct block *b = block_get(cache->block);
    ASSERT(rebuild_is_head(cache->block));
    block_set_owner(cache->block, cache->owner);
    block_set_flags(cache->block, BLOCK_CURRENT);
    uintptr_t start = block_first(cache->block);
    b->cursor = 0;
    if (cache->bump != cache->limit) {
        rebuild_tail(cache); // D3
        b->cursor = (uint16_t)((cache->limit - start) / cache->bytes);
    }
}

// --- Counts and lists ------------------------------------------------------

static bool rebuild_has_freed(uint32_t block) {
    size_t words = block_words(block);
    const uint64_t *freed = &range.freed[block * FREED_WORDS_PER_BLOCK];
    for (size_t word = 0; word < words; word++) {
        if (freed[word] != 0) {
            return true;
        }
    }
    return false;
}

static void rebuild_count_live(uint32_t block) {
    size_t live = 0;
    size_t words = block_words(block);
    for (size_t word = 0; word < words; word++) {
        uint64_t *pair = block_pair(block, word);
        live += (size_t)bits_count(pair[1]);
        if ((pair[0] & ~pair[1]) != 0) {
            pair[0] &= pair[1]; // B4
        }
    }
    block_get(block)->live = (uint16_t)live;
}

// Cells that were freed by whoever was not the owner.  A block that is current
// or watched keeps them until somebody who may drains it.
static void rebuild_freed(struct heap *heap, uint32_t block) {
    struct block *b = block_get(block);
    if (heap->holds && block_is_holding(block)) {
        return; // B15
    }
    b->freed_any = range.freed_in_use && rebuild_has_freed(block);
    if (b->freed_any == 0 || (block_flags(block) & BLOCK_WATCHED)) {
        return;
    }
    if (block_flags(block) & BLOCK_CURRENT) {
        heap_push_freed(heap, block); // E5
        return;
    }
    size_t count = block_drain_freed(block, (struct hole){0, 0});
    size_t bytes = count * block_cell_bytes(block);
    heap->freed_bytes += bytes;
    heap->used_bytes -= bytes;
}

static void rebuild_block(uint32_t block, void *data) {
    (void)data;
    struct heap *heap = heap_get(block);
    struct block *b = block_get(block);
    CHECK(heap != NULL);
    size_t span = block_span(block);
    rebuild_count_live(block);
    heap->used_blocks += span;
    heap->ground->used_blocks += span;
    heap->used_bytes += b->live * block_cell_bytes(block); // E1
    rebuild_freed(heap, block);
    if (block_flags(block) & BLOCK_CURRENT) {
        return;
    }
    if (block_owner(block) != 0) {
        heap_keep(heap, block); // D3
    } else {
        heap_disown(heap, block);
    }
}

static void rebuild_balance(struct heap *heap) {
    heap->allocated_bytes =
        heap->used_bytes + heap->freed_bytes + heap->collected_bytes; // E2
}

static void rebuild_region(struct heap *heap) {
    struct region *region = &heap->region;
    if (heap->ground != region) {
        return;
    }
    size_t chunks = range_block_count() / CHUNK_BLOCKS;
    size_t dropped = 0;
    for (size_t chunk = 0; chunk < chunks; chunk++) {
        dropped += (range.chunks[chunk] & CHUNK_DROPPED) != 0;
    }
    region->committed_bytes = range.frontier_bytes - dropped * CHUNK_BYTES;
    if (region->committed_bytes > region->committed_bytes_max) {
        region->committed_bytes_max = region->committed_bytes; // N4
    }
}

void rebuild_end(void) {
    if (range_block_count() != 0) {
        heap_each_block(rebuild_block, NULL);
    }
    rebuild_heaps(rebuild_balance);
    rebuild_heaps(rebuild_region);
}

void rebuild_tally(struct heap *heap, struct tally *tally) {
    heap->freed_bytes += tally->freed_bytes;
    *tally = (struct tally){0, 0}; // what was allocated is seen in the bits
}
