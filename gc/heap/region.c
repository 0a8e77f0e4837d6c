#include "heap/region.h"

#include "base/bitmap.h"
#include "base/bits.h"
#include "base/check.h"
#include "os/memory.h"

void region_init(struct region *region) {
    *region = (struct region){.low = 1};
}

static size_t region_blocks(void) {
    return range_block_count();
}

// Whether `bytes` more may be committed (N5).
static bool region_may_commit(const struct region *region, size_t bytes) {
    size_t now = region->committed_bytes + range.table_bytes;
    return region->limit_bytes == 0 ||
           (now <= region->limit_bytes && bytes <= region->limit_bytes - now);
}

static void region_count_commit(struct region *region, size_t bytes) {
    region->committed_bytes += bytes;
    if (region->committed_bytes > region->committed_bytes_max) {
        region->committed_bytes_max = region->committed_bytes;
    }
}

// The lowest `count` free blocks below `end`, or `end`.
static size_t region_find(const struct region *region, size_t count,
                          size_t alignment, size_t end) {
    size_t from = region->low;
    for (;;) {
        if (from >= end) {
            return end;
        }
        size_t at = bitmap_find_clear_run(range.taken, from, end, count);
        size_t aligned = bits_round_up(at, alignment);
        if (at == end || aligned == at) {
            return at;
        }
        if (aligned + count <= end &&
            bitmap_find_set(range.taken, at, aligned + count) ==
                aligned + count) {
            return aligned;
        }
        from = at + 1;
    }
}

// Moves the frontier until `count` aligned blocks lie free at its end.
static bool region_grow(struct region *region, size_t count, size_t alignment) {
    size_t end = region_blocks();
    size_t start = end;
    while (start > 1 && !bitmap_get(range.taken, start - 1)) {
        start--;
    }
    start = bits_round_up(start < 1 ? 1 : start, alignment);
    if (count > range.bytes / BLOCK_BYTES ||
        start > range.bytes / BLOCK_BYTES - count) {
        return false;
    }
    size_t chunks = bits_div_ceil(start + count - end, CHUNK_BLOCKS);
    if (!region_may_commit(region, range_extend_bytes(chunks)) ||
        !range_extend(chunks)) {
        return false;
    }
    if (end == 0) {
        bitmap_set(range.taken, BLOCK_NONE);
    }
    region_count_commit(region, chunks * CHUNK_BYTES);
    return true;
}

// Brings the dropped chunks of the run back into the count.
static bool region_undrop(struct region *region, size_t block, size_t count) {
    size_t first = block / CHUNK_BLOCKS;
    size_t last = (block + count - 1) / CHUNK_BLOCKS;
    size_t dropped = 0;
    for (size_t chunk = first; chunk <= last; chunk++) {
        dropped += (range.chunks[chunk] & CHUNK_DROPPED) != 0;
    }
    if (!region_may_commit(region, dropped * CHUNK_BYTES)) {
        return false;
    }
    for (size_t chunk = first; chunk <= last; chunk++) {
        range.chunks[chunk] = 0;
    }
    region_count_commit(region, dropped * CHUNK_BYTES);
    return true;
}

uint32_t region_take(struct region *region, size_t count, size_t alignment,
                     bool *zero) {
    ASSERT(count >= 1 && bits_is_power(alignment));
    size_t end = region_blocks();
    size_t at = region_find(region, count, alignment, end);
    if (at == end) {
        if (!region_grow(region, count, alignment)) {
            return BLOCK_NONE;
        }
        end = region_blocks();
        at = region_find(region, count, alignment, end);
        ASSERT(at < end);
    }
    if (!region_undrop(region, at, count)) {
        return BLOCK_NONE;
    }
    *zero = bitmap_find_set(range.dirty, at, at + count) == at + count;
    bitmap_set_range(range.taken, at, count);
    bitmap_set_range(range.dirty, at, count);
    if (at == region->low) {
        region->low = (uint32_t)(at + count);
    }
    region->used_blocks += count;
    return (uint32_t)at;
}

void region_give(struct region *region, uint32_t block, size_t count) {
    ASSERT(bitmap_find_clear(range.taken, block, block + count) ==
           block + count); // N1
    bitmap_clear_range(range.taken, block, count);
    region->used_blocks -= count;
    if (block < region->low) {
        region->low = block;
    }
}

// Whether no block of the chunk is taken; block 0 does not count.
static bool region_chunk_is_free(size_t chunk) {
    size_t end = (chunk + 1) * CHUNK_BLOCKS;
    return bitmap_find_set(range.taken, chunk * CHUNK_BLOCKS, end) == end;
}

size_t region_trim(struct region *region, bool now) {
    size_t before = region->committed_bytes;
    size_t chunks = region_blocks() / CHUNK_BLOCKS;
    for (size_t chunk = 0; chunk < chunks; chunk++) {
        uint8_t *state = &range.chunks[chunk];
        if (*state & CHUNK_DROPPED) {
            continue;
        }
        if (!region_chunk_is_free(chunk)) {
            *state = 0;
            continue;
        }
        if (!now && !(*state & CHUNK_IDLE)) {
            *state = CHUNK_IDLE;
            continue;
        }
        void *at = (void *)(range.base + chunk * CHUNK_BYTES);
        if (memory_drop(at, CHUNK_BYTES)) {
            *state = CHUNK_DROPPED;
            bitmap_clear_range(range.dirty, chunk * CHUNK_BLOCKS, CHUNK_BLOCKS);
            region->committed_bytes -= CHUNK_BYTES;
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
