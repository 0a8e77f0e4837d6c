// Blocks taken and given at random beside a model that knows one block at a
// time, with and without a limit.

#include "heap/region.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/bitmap.h"
#include "heap/block.h"
#include "support/gen.h"

#define BLOCKS ((size_t)512) // a range of 32 MiB: 16 chunks
#define RUNS   ((size_t)400)

struct run {
    uint32_t block;
    size_t count;
};

static struct region region;
static bool taken[BLOCKS];
static bool written[BLOCKS]; // since its chunk was last dropped
static struct run runs[RUNS];
static size_t run_count;

static int make_range(void **state) {
    (void)state;
    region_init(&region);
    return range_init(BLOCKS * BLOCK_BYTES) ? 0 : -1;
}

static uint64_t *word_of(size_t block) {
    return (uint64_t *)range_block_address((uint32_t)block);
}

static size_t free_blocks_at(size_t block, size_t end) {
    size_t count = 0;
    while (block + count < end && !taken[block + count]) {
        count++;
    }
    return count;
}

static bool is_dropped(size_t block) {
    return (range.chunks[block / CHUNK_BLOCKS] & CHUNK_DROPPED) != 0;
}

// The lowest place where the run fits, of those that need no dropped chunk if
// `committed`; BLOCKS if none.
static size_t lowest_fit(size_t count, size_t alignment, bool committed) {
    size_t end = range_block_count();
    for (size_t at = 1; at + count <= end; at++) {
        bool fits =
            range_block_address((uint32_t)at) % (alignment * BLOCK_BYTES) ==
                0 &&
            free_blocks_at(at, at + count) == count;
        for (size_t i = 0; fits && committed && i < count; i++) {
            fits = !is_dropped(at + i);
        }
        if (fits) {
            return at;
        }
    }
    return BLOCKS;
}

static void check(void) {
    assert_true(region_check(&region)); // N1, N4
    size_t used = 0, dropped = 0;
    size_t blocks = range_block_count();
    for (size_t block = 1; block < blocks; block++) {
        assert_int_equal(bitmap_get(range.taken, block), taken[block]); // N1
        used += taken[block];
        dropped += block % CHUNK_BLOCKS == 0 && is_dropped(block);
        assert_false(taken[block] && is_dropped(block));
        if (!bitmap_get(range.dirty, block)) {
            assert_int_equal(*word_of(block), 0); // N3
        }
    }
    assert_true(blocks == 0 || bitmap_get(range.taken, 0));
    assert_int_equal(region.used_blocks, used);
    assert_int_equal(region.committed_bytes,
                     range.frontier_bytes - dropped * CHUNK_BYTES); // N4
}

static void accept(uint32_t block, size_t count, bool zero) {
    for (size_t i = 0; i < count; i++) {
        assert_false(taken[block + i]); // N2
        taken[block + i] = true;
        assert_true(!zero || !written[block + i]); // N3
        assert_true(!zero || *word_of(block + i) == 0);
    }
    for (size_t i = 0; i < count; i++) {
        *word_of(block + i) = 0xA5;
        written[block + i] = true;
    }
    runs[run_count++] = (struct run){block, count};
}

// What a refusal must leave alone.
struct before {
    struct region region;
    size_t frontier_bytes;
    bool could; // without growth
};

static struct before remember(size_t count, size_t alignment) {
    return (struct before){region, range.frontier_bytes,
                           lowest_fit(count, alignment, true) != BLOCKS};
}

static void refused(const struct before *before) {
    assert_false(before->could);
    assert_memory_equal(&before->region, &region, sizeof region); // N6
    assert_int_equal(before->frontier_bytes, range.frontier_bytes);
}

static void step_take(struct gen *g) {
    size_t count = gen_chance(g, 70) ? 1 : 1 + gen_below(g, 80);
    size_t alignment = gen_chance(g, 70) ? 1 : (size_t)1 << gen_below(g, 8);
    struct before before = remember(count, alignment);
    size_t lowest = lowest_fit(count, alignment, false);
    size_t bytes_before = region.committed_bytes + range.table_bytes;
    size_t limit_bytes =
        region.limit_bytes == 0 ? SIZE_MAX : region.limit_bytes;
    assert_int_equal(region_spare_bytes(&region),
                     limit_bytes == SIZE_MAX      ? SIZE_MAX
                     : bytes_before < limit_bytes ? limit_bytes - bytes_before
                                                  : 0);
    bool zero;
    uint32_t block = region_take(&region, count, alignment, &zero);
    if (block == BLOCK_NONE) {
        refused(&before);
        return;
    }
    assert_int_equal(range_block_address(block) % (alignment * BLOCK_BYTES), 0);
    if (region.limit_bytes == 0 && lowest != BLOCKS) {
        assert_int_equal(block, lowest);
    }
    size_t bytes = region.committed_bytes + range.table_bytes;
    assert_true(bytes == bytes_before || region.limit_bytes == 0 ||
                bytes <= region.limit_bytes); // N5
    accept(block, count, zero);
}

// Those behind a run, which then are a run of their own.
static void step_take_at(struct gen *g) {
    struct run run = runs[gen_below(g, run_count)];
    uint32_t block = run.block + (uint32_t)run.count;
    size_t count = 1 + gen_below(g, 40);
    size_t have = range_block_count();
    size_t inside = block + count < have ? block + count : have;
    bool is_free = free_blocks_at(block, inside) == inside - block;
    struct before before = remember(count, 1);
    bool zero;
    if (region_take_at(&region, block, count, &zero)) {
        assert_true(is_free); // N2
        accept(block, count, zero);
        return;
    }
    assert_true(!is_free || region.limit_bytes != 0 || block + count > BLOCKS);
    before.could = false;
    refused(&before); // N6
}

static void step_take_roomy(struct gen *g) {
    size_t count = 1 + gen_below(g, 60);
    struct before before = remember(count + count / 2, 1);
    bool zero;
    uint32_t block = region_take_roomy(&region, count, &zero);
    if (block == BLOCK_NONE) {
        before.could &= region.limit_bytes == 0;
        refused(&before); // N6
        return;
    }
    assert_int_equal(region.limit_bytes, 0);
    assert_true(block + count + count / 2 <= range_block_count());
    accept(block, count, zero);
    assert_int_equal(free_blocks_at(block + count, BLOCKS) >= count / 2, 1);
}

static void step_give(struct gen *g) {
    size_t at = gen_below(g, run_count);
    struct run run = runs[at];
    region_give(&region, run.block, run.count);
    memset(&taken[run.block], 0, run.count);
    runs[at] = runs[--run_count];
}

static void step_trim(bool now) {
    uint8_t before[BLOCKS / CHUNK_BLOCKS];
    memcpy(before, range.chunks, range_block_count() / CHUNK_BLOCKS);
    size_t committed_bytes = region.committed_bytes;
    size_t dropped_bytes = region_trim(&region, now);
    assert_int_equal(committed_bytes - region.committed_bytes, dropped_bytes);
    // From the highest: at once, or the second time that a chunk is found free,
    // as long as what is to be kept is left.
    for (size_t chunk = range_block_count() / CHUNK_BLOCKS; chunk-- > 0;) {
        size_t first = chunk * CHUNK_BLOCKS;
        bool is_free =
            chunk != 0 &&
            free_blocks_at(first, first + CHUNK_BLOCKS) == CHUNK_BLOCKS;
        bool was_dropped = (before[chunk] & CHUNK_DROPPED) != 0;
        bool drops =
            is_free && !was_dropped &&
            (now || (before[chunk] == CHUNK_IDLE &&
                     committed_bytes - CHUNK_BYTES >= region.keep_bytes));
        committed_bytes -= drops ? CHUNK_BYTES : 0;
        assert_int_equal(is_dropped(first), was_dropped || drops);
        if (drops) {
            memset(&written[first], 0, CHUNK_BLOCKS);
        }
    }
    assert_int_equal(committed_bytes, region.committed_bytes);
}

static void test_random(void **state) {
    (void)state;
    struct gen g;
    gen_init(&g, gen_seed("region"));
    unsigned weight = 50;
    for (size_t step = 0; step < 20000; step++) {
        if (gen_chance(&g, 2)) {
            weight = (unsigned)gen_below(&g, 100);
        }
        if (gen_chance(&g, 1)) {
            // None, too little for anything, and all between.
            region.limit_bytes =
                gen_chance(&g, 30) ? 0 : 1 + gen_below(&g, 36 * MiB);
            region.keep_bytes =
                gen_chance(&g, 50) ? 0 : gen_below(&g, 40 * MiB);
        }
        if (run_count != 0 && (run_count == RUNS || gen_chance(&g, weight))) {
            step_give(&g);
        } else if (gen_chance(&g, 5)) {
            step_trim(gen_chance(&g, 20));
        } else if (gen_chance(&g, 10)) {
            step_take_roomy(&g);
        } else if (run_count != 0 && gen_chance(&g, 20)) {
            step_take_at(&g);
        } else {
            step_take(&g);
        }
        check();
    }
    while (run_count != 0) {
        step_give(&g);
    }
    check();
}

// A limit below what is in use forbids growth, not the use of what is free.
static void test_limit(void **state) {
    (void)state;
    bool zero;
    region.limit_bytes = 0;
    uint32_t block = region_take(&region, 1, 1, &zero);
    assert_int_equal(block, 1);
    region.limit_bytes = 1;
    uint32_t other = region_take(&region, 1, 1, &zero);
    assert_int_equal(other, 2); // N5
    assert_int_equal(region_take(&region, BLOCKS, 1, &zero), BLOCK_NONE);
    region_give(&region, block, 1);
    region_give(&region, other, 1);
    region.limit_bytes = 0;
}

// A run that begins in dropped chunks below the frontier and ends above it: the
// limit must allow for both before the frontier moves.
static void test_dropped_end(void **state) {
    (void)state;
    bool zero;
    size_t full = CHUNK_BLOCKS - 1; // chunk 0, block 0 left out
    assert_int_equal(region_take(&region, full, 1, &zero), 1);
    uint32_t block = region_take(&region, 4 * CHUNK_BLOCKS, 1, &zero);
    assert_int_equal(block, CHUNK_BLOCKS);
    region_give(&region, block, 4 * CHUNK_BLOCKS);
    memset(taken + 1, true, full);
    size_t end = range_block_count();
    region_trim(&region, true);
    size_t dropped = 0;
    for (size_t chunk = 1; chunk < end / CHUNK_BLOCKS; chunk++) {
        dropped += is_dropped(chunk * CHUNK_BLOCKS);
    }
    assert_true(dropped > 2 && end + 8 <= BLOCKS);
    size_t count = end + 8 - CHUNK_BLOCKS; // from the first dropped chunk on
    size_t needed_bytes = region.committed_bytes + range.table_bytes +
                          range_extend_bytes(8) + dropped * CHUNK_BYTES;
    for (size_t less = 1; less < needed_bytes; less = less * 2 + 4096) {
        region.limit_bytes = needed_bytes - less;
        struct before before = remember(count, 1);
        assert_int_equal(region_take(&region, count, 1, &zero), BLOCK_NONE);
        refused(&before); // N6
    }
    region.limit_bytes = needed_bytes;
    assert_int_equal(region_take(&region, count, 1, &zero), CHUNK_BLOCKS);
    assert_int_equal(region.committed_bytes + range.table_bytes, needed_bytes);
    assert_true(region_check(&region));
    region_give(&region, CHUNK_BLOCKS, count);
    region_give(&region, 1, full);
    memset(taken + 1, false, full);
    region.limit_bytes = 0;
}

// Counts that no range has, and sums that would overflow.
static void test_absurd(void **state) {
    (void)state;
    static const size_t counts[] = {BLOCKS, BLOCKS + 1, (size_t)1 << 32,
                                    SIZE_MAX / 2, SIZE_MAX};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        struct before before = remember(BLOCKS, 1);
        bool zero;
        assert_int_equal(region_take(&region, counts[i], 1, &zero), BLOCK_NONE);
        refused(&before); // N6
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dropped_end),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_absurd),
    };
    return cmocka_run_group_tests(tests, make_range, NULL);
}
