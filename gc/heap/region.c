#include "heap/region.h"

#include "base/bitmap.h"
#include "base/bits.h"
#include "base/check.h"
#include "heap/meta.h"
#include "heap/range.h"
#include "os/memory.h"

void region_init(struct region *region) {
    *region = (struct region){.low = 1};
}

static size_t region_blocks(void) {
    return range_block_count();
}

size_t region_spare_bytes(const struct region *region) {
    size_t now = region->committed_bytes + range.table_bytes + meta_bytes();
    if (region->limit_bytes == 0) {
        return SIZE_MAX;
    }
    return now < region->limit_bytes ? region->limit_bytes - now : 0;
}

// Whether `bytes` more may be committed (N5).  Nothing always may: a limit that
// was set below what is in use forbids growth, not the use of what is free.
static bool region_may_commit(const struct region *region, size_t bytes) {
    return bytes <= region_spare_bytes(region);
}

static void region_count_commit(struct region *region, size_t bytes) {
    // Who serves malloc asks for both without the lock.
    __atomic_store_n(&region->committed_bytes, region->committed_bytes + bytes,
                     __ATOMIC_RELAXED);
    if (region->committed_bytes > region->committed_bytes_max) {
        region->committed_bytes_max = region->committed_bytes;
    }
}

// The lowest block from `at` on whose address is a multiple of `alignment`
// blocks; of the range's own start no more is known than that a chunk fits.
static size_t region_align(size_t at, size_t alignment) {
    size_t base = range.base / BLOCK_BYTES;
    return bits_round_up(base + at, alignment) - base;
}

// The lowest `count` free blocks in [from, end), or `end`.
static size_t region_find(size_t from, size_t count, size_t alignment,
                          size_t end) {
    while (from < end) {
        size_t at = bitmap_find_clear_run(range.taken, from, end, count);
        if (at == end) {
            return end;
        }
        size_t aligned = region_align(at, alignment);
        if (aligned == at) {
            return at;
        }
        if (aligned + count <= end &&
            bitmap_find_set(range.taken, at, aligned + count) ==
                aligned + count) {
            return aligned;
        }
        from = at + 1;
    }
    return end;
}

// How many chunks that blocks [from, end) touch are dropped.
static size_t region_dropped(size_t from, size_t end) {
    size_t dropped = 0;
    for (size_t chunk = from / CHUNK_BLOCKS; chunk * CHUNK_BLOCKS < end;
         chunk++) {
        dropped += (range.chunks[chunk] & CHUNK_DROPPED) != 0;
    }
    return dropped;
}

// Where the frontier goes when it must reach `end`: a small heap grows by a few
// blocks, a larger one by chunks.
static size_t region_step(size_t end) {
    return bits_round_up(end, end < CHUNK_BLOCKS ? 4 : CHUNK_BLOCKS);
}

// Moves the frontier until `count` aligned blocks lie free at its end: the
// first of them, or BLOCK_NONE.
static size_t region_grow(struct region *region, size_t count,
                          size_t alignment) {
    size_t end = region_blocks();
    size_t most = range_most_bytes() / BLOCK_BYTES;
    size_t start = end == 0 ? 1 : end;
    while (start > 1 && !bitmap_get(range.taken, start - 1)) {
        start--;
    }
    start = region_align(start, alignment);
    if (count > most || start > most - count || start + count <= end) {
        return BLOCK_NONE;
    }
    // What the blocks below the frontier will need counts now: once it has
    // moved it is too late to refuse (N6).
    size_t dropped_bytes = region_dropped(start, end) * CHUNK_BYTES;
    size_t blocks = region_step(start + count) - end;
    if (blocks > most - end ||
        !region_may_commit(region,
                           range_extend_bytes(blocks) + dropped_bytes)) {
        blocks = start + count - end; // no more than is needed
    }
    if (!region_may_commit(region,
                           range_extend_bytes(blocks) + dropped_bytes) ||
        !range_extend(blocks)) {
        return BLOCK_NONE;
    }
    if (end == 0) {
        bitmap_set(range.taken, BLOCK_NONE);
    }
    region_count_commit(region, blocks * BLOCK_BYTES);
    return start;
}

// Brings the dropped chunks of the run back into the count.
static bool region_undrop(struct region *region, size_t block, size_t count) {
    size_t bytes = region_dropped(block, block + count) * CHUNK_BYTES;
    if (!region_may_commit(region, bytes)) {
        return false;
    }
    size_t last = (block + count - 1) / CHUNK_BLOCKS;
    for (size_t chunk = block / CHUNK_BLOCKS; chunk <= last; chunk++) {
        range.chunks[chunk] = 0;
    }
    region_count_commit(region, bytes);
    return true;
}

// Free blocks, committed, are handed out.
static void region_hand(struct region *region, size_t at, size_t count,
                        bool *zero) {
    *zero = bitmap_find_set(range.dirty, at, at + count) == at + count;
    bitmap_set_range(range.taken, at, count);
    bitmap_set_range(range.dirty, at, count);
    if (at == region->low) {
        region->low = (uint32_t)(at + count);
    }
    __atomic_store_n(&region->used_blocks, region->used_blocks + count,
                     __ATOMIC_RELAXED);
}

uint32_t region_take(struct region *region, size_t count, size_t alignment,
                     bool *zero) {
    ASSERT(count >= 1 && bits_is_power(alignment));
    size_t end = region_blocks();
    size_t at = region_find(region->low, count, alignment, end);
    while (at != end && !region_undrop(region, at, count)) {
        // At the limit.  Whatever starts in this chunk touches the same
        // dropped ones, but beyond it there may be blocks that none dropped.
        size_t from = (at / CHUNK_BLOCKS + 1) * CHUNK_BLOCKS;
        at = region_find(from, count, alignment, end);
    }
    if (at == end) {
        at = region_grow(region, count, alignment);
        if (at == BLOCK_NONE || !region_undrop(region, at, count)) {
            return BLOCK_NONE;
        }
    }
    region_hand(region, at, count, zero);
    return (uint32_t)at;
}

uint32_t region_take_roomy(struct region *region, size_t count, bool *zero) {
    size_t room = count / 2;
    uint32_t block = region->limit_bytes == 0
                         ? region_take(region, count + room, 1, zero)
                         : BLOCK_NONE;
    if (block != BLOCK_NONE && room > 0) {
        region_give(region, block + (uint32_t)count, room);
        if (*zero) {
            bitmap_clear_range(range.dirty, block + count, room);
        }
    }
    return block;
}

bool region_take_at(struct region *region, uint32_t block, size_t count,
                    bool *zero) {
    size_t end = block + count;
    size_t have = region_blocks();
    size_t inside = end < have ? end : have;
    ASSERT(block > 0 && bitmap_get(range.taken, block - 1));
    if (bitmap_find_set(range.taken, block, inside) != inside ||
        (end > have && region_grow(region, count, 1) != block) ||
        !region_undrop(region, block, count)) {
        return false;
    }
    region_hand(region, block, count, zero);
    return true;
}

void region_give(struct region *region, uint32_t block, size_t count) {
    ASSERT(bitmap_find_clear(range.taken, block, block + count) ==
           block + count); // N1
    bitmap_clear_range(range.taken, block, count);
    __atomic_store_n(&region->used_blocks, region->used_blocks - count,
                     __ATOMIC_RELAXED);
    if (block < region->low) {
        region->low = block;
    }
}

// Whether no block of the chunk is taken.  Of chunk 0 one always is: block 0.
static bool region_chunk_is_free(size_t chunk) {
    size_t end = (chunk + 1) * CHUNK_BLOCKS;
    return bitmap_find_set(range.taken, chunk * CHUNK_BLOCKS, end) == end;
}

size_t region_trim(struct region *region, bool now) {
    size_t before = region->committed_bytes;
    size_t chunks = region_blocks() / CHUNK_BLOCKS;
    for (size_t chunk = chunks; chunk-- > 0;) {
        uint8_t *state = &range.chunks[chunk];
        if (*state & CHUNK_DROPPED) {
            continue;
        }
        if (!region_chunk_is_free(chunk)) {
            *state = 0;
            continue;
        }
        bool kept = region->committed_bytes - CHUNK_BYTES < region->keep_bytes;
        if (!now && (kept || !(*state & CHUNK_IDLE))) {
            *state = CHUNK_IDLE;
            continue;
        }
        void *at = (void *)(range.base + chunk * CHUNK_BYTES);
        if (memory_drop(at, CHUNK_BYTES)) {
            *state = CHUNK_DROPPED;
            bitmap_clear_range(range.dirty, chunk * CHUNK_BLOCKS, CHUNK_BLOCKS);
            __atomic_store_n(&region->committed_bytes,
                             region->committed_bytes - CHUNK_BYTES,
                             __ATOMIC_RELAXED);
        }
    }
    return before - region->committed_bytes;
}

bool region_check(const struct region *region) {
    size_t blocks = region_blocks();
    size_t dropped = 0;
    for (size_t chunk = 0; chunk < blocks / CHUNK_BLOCKS; chunk++) {
        dropped += (range.chunks[chunk] & CHUNK_DROPPED) != 0;
    }
    size_t first = blocks == 0 ? 0 : 1;
    return region->committed_bytes ==
               range.frontier_bytes - dropped * CHUNK_BYTES &&
           bitmap_count(range.taken, first, blocks - first) ==
               region->used_blocks;
}
