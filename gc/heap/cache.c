#include "heap/cache.h"

#include <string.h>

#include "base/bits.h"
#include "base/check.h"
#include "heap/block.h"
#include "heap/blockmap.h"
#include "heap/range.h"
#include "heap/shelf.h"

void cache_init(struct cache *cache, struct order order, uint32_t owner,
                bool single, struct tally *tally) {
    cache->order = order;
    cache->tally = tally;
    cache->owner = owner;
    cache->bytes = sizeclass_table[order.cls].bytes;
    cache->cells = sizeclass_table[order.cls].cells;
    cache->reciprocal = sizeclass_table[order.cls].reciprocal;
    cache->room = single ? 0 : CACHE_FREE_CELLS;
    uint32_t slice = (uint32_t)(CACHE_SLICE_BYTES / cache->bytes);
    // Two in the tiny build: the least that leaves a tail behind.
    slice = LOAM_TINY && slice > 2 ? 2 : slice;
    cache->slice_cells = single || slice == 0 ? 1 : slice;
}

void cache_add_tally(struct heap *heap, struct tally *tally) {
    heap->allocated_bytes += tally->allocated_bytes;
    heap->freed_bytes += tally->freed_bytes;
    heap->used_bytes += tally->allocated_bytes - tally->freed_bytes;
    *tally = (struct tally){0, 0};
}

static struct hole cache_tail_hole(const struct cache *cache) {
    uintptr_t start = block_first(cache->block);
    return (struct hole){(uint32_t)((cache->bump - start) / cache->bytes),
                         (uint32_t)((cache->limit - start) / cache->bytes)};
}

// Read by loam_stats from other threads, hence atomic.
static void cache_count_made(struct cache *cache, size_t bytes) {
    uint64_t *sum = &cache->tally->allocated_bytes;
    __atomic_store_n(sum, *sum + bytes, __ATOMIC_RELAXED);
}

// Sets the bits of a hole, and makes it the tail.
static void cache_open_hole(struct cache *cache, uint32_t block,
                            struct hole hole) {
    uintptr_t start = block_first(block);
    block_set_hole(block, hole);
    cache->bump = start + (uintptr_t)hole.from * cache->bytes;
    cache->limit = start + (uintptr_t)hole.end * cache->bytes;
    size_t bytes = cache->limit - cache->bump;
    cache_count_made(cache, bytes);
    if (!block_kind_is_leaf(cache->order.kind) &&
        !(block_flags(block) & BLOCK_ZERO)) {
        memset((void *)cache->bump, 0, bytes); // C3
    }
}

// Tells the current block what was asked of it.
static void cache_note_exact(struct cache *cache) {
    if (cache->exact && cache->block != BLOCK_NONE) {
        block_set_flags(cache->block, BLOCK_EXACT);
        cache->exact = false;
    }
}

// Ends the use of the current block.  Room that was freed behind the cursor is
// remembered by the own list; most blocks are full by now and in no list.
static void cache_leave(struct cache *cache) {
    cache_note_exact(cache);
    block_clear_flags(cache->block, BLOCK_CURRENT);
    if (block_get(cache->block)->live < block_cells(cache->block)) {
        shelf_append(&cache->mine, cache->block, SHELF_MINE);
    }
    cache->block = BLOCK_NONE;
    cache->bump = cache->limit = 0;
}

static bool cache_next_hole(struct cache *cache) {
    struct block *b = block_get(cache->block);
    struct hole hole;
    if (!block_find_hole(cache->block, b->cursor, cache->slice_cells, &hole)) {
        return false;
    }
    b->cursor = (uint16_t)hole.end;
    cache_open_hole(cache, cache->block, hole);
    return true;
}

// Block and number of a cell of the stack: blockmap_find, but for what the
// cache knows.
static inline void cache_locate(const struct cache *cache, uintptr_t at,
                                struct place *place) {
    uint32_t block = range_block_of(at);
    uint64_t inside = at & (BLOCK_BYTES - 1);
    if (UNLIKELY(cache->bytes > SMALL_BYTES_MAX)) {
        unsigned index = ENTRY_INDEX(block_entry(block));
        block -= index;
        inside += index * BLOCK_BYTES;
    }
    inside -= block_kind_shift(cache->order.kind);
    uint64_t reciprocal = sizeclass_table[cache->order.cls].reciprocal;
    place->block = block;
    place->cell = (uint32_t)(inside * reciprocal >> 40);
    CHECK(place->cell * (uint64_t)cache->bytes == inside);
}

void *cache_pop(struct cache *cache) {
    if (cache->free_count == 0) {
        return NULL;
    }
    uintptr_t at = cache->free[--cache->free_count];
    struct place place;
    cache_locate(cache, at, &place);
    block_set_cell(place.block, place.cell);
    cache_count_made(cache, cache->bytes);
    struct block *b = block_get(place.block);
    if (UNLIKELY(b->list == SHELF_MINE) &&
        b->live == sizeclass_table[cache->order.cls].cells) {
        shelf_remove(&cache->mine, place.block); // C6
    }
    if (cache->exact) {
        block_set_flags(place.block, BLOCK_EXACT);
    }
    if (!block_kind_is_leaf(cache->order.kind)) {
        cache_clear_cell((char *)at, cache->bytes); // C3
    }
    return (void *)at;
}

bool cache_refill(struct cache *cache) {
    ASSERT(cache->bump == cache->limit);
    ASSERT(cache->free_count == 0); // C4
    for (;;) {
        if (cache->block != BLOCK_NONE) {
            if (cache_next_hole(cache)) {
                return true;
            }
            cache_leave(cache);
        }
        uint32_t block = cache->mine.head;
        if (block == BLOCK_NONE) {
            return false;
        }
        shelf_remove(&cache->mine, block);
        block_get(block)->cursor = 0;
        cache_adopt(cache, block);
    }
}

void cache_adopt(struct cache *cache, uint32_t block) {
    ASSERT(block_get(block)->owner == cache->owner); // C5
    ASSERT(block_get(block)->list == SHELF_NONE);
    cache->block = block;
    block_set_flags(block, BLOCK_CURRENT);
    cache->bump = cache->limit = 0;
}

// Forgets the freed cells that lie in `block`.
static void cache_forget(struct cache *cache, uint32_t block) {
    size_t bytes = block_span(block) * BLOCK_BYTES;
    uintptr_t start = range_block_address(block);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < cache->free_count; i++) {
        if (cache->free[i] - start >= bytes) {
            cache->free[kept++] = cache->free[i];
        }
    }
    cache->free_count = kept;
}

uint32_t cache_settle(struct cache *cache, uint32_t block) {
    struct block *b = block_get(block);
    if (block == cache->block) {
        return BLOCK_NONE;
    }
    if (b->live == 0) {
        cache_forget(cache, block);
        if (b->list == SHELF_MINE) {
            shelf_remove(&cache->mine, block);
        }
        return block;
    }
    if (b->list == SHELF_NONE && b->live < block_cells(block)) {
        shelf_append(&cache->mine, block, SHELF_MINE);
    }
    return BLOCK_NONE;
}

uint32_t cache_free_cells(struct cache *cache, uint32_t block, size_t word,
                          uint64_t bits) {
    struct block *b = block_get(block);
    ASSERT(b->owner == cache->owner);
    uint64_t *pair = block_pair(block, word);
    ASSERT((pair[1] & bits) == bits);
    block_clear_flags(block, BLOCK_ZERO); // B10: before the bits
    pair[0] &= ~bits;
    __atomic_store_n(&pair[1], pair[1] & ~bits, __ATOMIC_RELAXED);
    uint32_t count = (uint32_t)bits_count(bits);
    b->live = (uint16_t)(b->live - count);
    cache_count_freed(cache, (size_t)count * cache->bytes);
    return cache_settle(cache, block);
}

uint32_t cache_drain(struct cache *cache, uint32_t block) {
    ASSERT(block_get(block)->owner == cache->owner);
    struct hole tail = {0, 0};
    if (block == cache->block && cache->bump != cache->limit) {
        tail = cache_tail_hole(cache);
    }
    uint32_t count = block_drain_freed(block, tail);
    cache_count_freed(cache, (size_t)count * cache->bytes);
    return cache_settle(cache, block);
}

void cache_abandon(struct cache *cache) {
    ASSERT(cache->bump == cache->limit && cache->free_count == 0);
    ASSERT(cache->mine.head == BLOCK_NONE);
    if (cache->block != BLOCK_NONE) {
        cache_note_exact(cache);
        block_clear_flags(cache->block, BLOCK_CURRENT);
        cache->block = BLOCK_NONE;
        cache->bump = cache->limit = 0;
    }
}

void cache_give_up(struct cache *cache, struct heap *heap) {
    cache->free_count = 0;
    if (cache->block != BLOCK_NONE) {
        uint32_t block = cache->block;
        cache_note_exact(cache);
        if (cache->bump != cache->limit) {
            // Never handed out: as if it had not been taken.
            block_clear_hole(block, cache_tail_hole(cache));
            cache->tally->allocated_bytes -= cache->limit - cache->bump;
        }
        block_clear_flags(block, BLOCK_CURRENT);
        cache->block = BLOCK_NONE;
        cache->bump = cache->limit = 0;
        heap_disown(heap, block);
    }
    while (cache->mine.head != BLOCK_NONE) {
        uint32_t block = cache->mine.head;
        shelf_remove(&cache->mine, block);
        heap_disown(heap, block);
    }
}

void cache_keep(struct cache *cache, uint32_t block) {
    ASSERT(block_owner(block) == cache->owner);
    ASSERT(block_get(block)->live < block_cells(block)); // C6
    shelf_append(&cache->mine, block, SHELF_MINE);
}

void cache_tail_out(struct cache *cache) {
    ASSERT(cache->held == 0);
    cache_note_exact(cache);
    if (cache->bump != cache->limit) {
        block_clear_hole(cache->block, cache_tail_hole(cache)); // B3
        cache->held = cache->bump;
        cache->bump = cache->limit;
    }
    cache->free_count = 0;
    cache->mine = (struct shelf_ends){BLOCK_NONE, BLOCK_NONE};
}

// What is left of the tail was counted when it was taken, and goes with the
// block: it was never allocated.
static void cache_give_back(struct cache *cache, struct heap *heap) {
    uint32_t block = cache->block;
    size_t bytes = cache->held == 0 ? 0 : cache->limit - cache->held;
    heap->used_bytes -= bytes;
    heap->allocated_bytes -= bytes;
    block_clear_flags(block, BLOCK_CURRENT);
    cache->block = BLOCK_NONE;
    cache->bump = cache->limit = cache->held = 0;
    heap_release_block(heap, block);
}

void cache_tail_in(struct cache *cache, struct heap *heap, bool taking) {
    if (cache->block != BLOCK_NONE && !taking &&
        block_get(cache->block)->live == 0) {
        cache_give_back(cache, heap);
        return;
    }
    if (cache->held != 0) {
        cache->bump = cache->held;
        cache->held = 0;
        block_set_hole(cache->block, cache_tail_hole(cache)); // B2
    }
}

static bool cache_check_tail(const struct cache *cache) {
    if (cache->bump == cache->limit) {
        return true;
    }
    struct hole hole = cache_tail_hole(cache);
    uintptr_t start = block_first(cache->block);
    if (start + (uintptr_t)hole.from * cache->bytes != cache->bump ||
        start + (uintptr_t)hole.end * cache->bytes != cache->limit ||
        hole.from >= hole.end || hole.end > block_cells(cache->block)) { // C1
        return false;
    }
    for (uint32_t cell = hole.from; cell < hole.end; cell++) {
        if (!block_is_allocated(cache->block, cell)) { // C2
            return false;
        }
    }
    return true;
}

static bool cache_check_stack(const struct cache *cache) {
    for (uint32_t i = 0; i < cache->free_count; i++) {
        struct place place;
        if (!blockmap_find(cache->free[i], &place) ||
            place.start != cache->free[i] || place.bytes != cache->bytes ||
            block_is_allocated(place.block, place.cell) ||
            block_get(place.block)->owner != cache->owner) { // C4
            return false;
        }
    }
    return cache->free_count <= CACHE_FREE_CELLS;
}

static bool cache_check_mine(const struct cache *cache) {
    uint32_t before = BLOCK_NONE;
    uint32_t at = cache->mine.head;
    while (at != BLOCK_NONE) {
        const struct block *b = block_get(at);
        if (b->list != SHELF_MINE || b->prev != before ||
            b->owner != cache->owner || (b->flags & BLOCK_CURRENT) ||
            b->live >= block_cells(at)) { // C6
            return false;
        }
        before = at;
        at = b->next;
    }
    return cache->mine.tail == before;
}

bool cache_check(const struct cache *cache) {
    if (!cache_check_stack(cache) || !cache_check_mine(cache)) {
        return false;
    }
    if (cache->block == BLOCK_NONE) {
        return cache->bump == cache->limit;
    }
    const struct block *b = block_get(cache->block);
    return b->owner == cache->owner &&
           (block_flags(cache->block) & BLOCK_CURRENT) && // C5
           b->list == SHELF_NONE && cache_check_tail(cache);
}
