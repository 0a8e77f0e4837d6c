// The walk that doubts: a sound heap passes and stays as it was; each kind of
// damage, planted alone in a process of its own, stops that process.

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/bitmap.h"
#include "collect/verify.h"
#include "support/child.h"
#include "support/gen.h"
#include "support/ground.h"
#include "support/stage.h"

static struct ground ground;
static struct conductor conductor;
static struct collector collector;
static struct stage stage = {&ground, &conductor, &collector};
static struct cache *cache;   // of 64-byte cells, with tail and freed cells
static struct layout *layout; // of the described cells
static uint32_t shelved;      // a block with room, on a shelf
static uint32_t described;    // the same, of described cells
static uint32_t span, run;    // heads
static uint32_t current;      // the cache's block

static struct object *make(size_t bytes, unsigned kind) {
    struct object *object = ground_make(
        &ground, bytes, kind, kind == KIND_DESCRIBED ? layout->id : 0);
    assert_non_null(object);
    return object;
}

static void mark(const struct object *object) {
    struct place place = ground_place(object);
    block_pair(place.block, place.cell / 64)[0] |= (uint64_t)1
                                                   << (place.cell % 64);
}

static void free_cell(const struct object *object) {
    struct place place = ground_place(object);
    assert_int_equal(block_get(place.block)->owner, ground.mutator->id);
    assert_int_equal(cache_free(cache, &place), BLOCK_NONE);
}

// A heap with something of everything that the walk looks at.
static int make_heap(void **state) {
    (void)state;
    enum { SMALL = 3000, LARGE = 30 };
    static struct object *small[SMALL], *typed[SMALL], *large[LARGE];
    static const size_t offsets[] = {8};
    layout = layout_make(16, offsets, 1);
    if (layout == NULL) {
        return -1;
    }
    for (size_t i = 0; i < SMALL; i++) {
        small[i] = make(64, KIND_SCANNED);
        typed[i] = make(64, KIND_DESCRIBED);
    }
    for (size_t i = 0; i < LARGE; i++) {
        large[i] = make(40000, KIND_LEAF);
    }
    struct object *huge = make(MiB, KIND_SCANNED);
    ground_prepare(&ground);
    for (size_t i = 0; i < SMALL; i += 3) {
        mark(small[i]);
        mark(typed[i]);
    }
    mark(large[0]);
    mark(huge);
    struct census census;
    ground_flip(&ground, &census);
    assert_int_equal(census.live_objects, 2 * SMALL / 3 + 2);
    shelved = ground_place(small[0]).block;
    described = ground_place(typed[0]).block;
    span = ground_place(large[0]).block;
    run = ground_place(huge).block;
    assert_int_not_equal(block_get(shelved)->list, SHELF_NONE);
    assert_int_not_equal(block_get(described)->list, SHELF_NONE);
    assert_true(block_span(span) > 1 && block_span(run) > 1);
    struct object *fresh[3];
    for (size_t i = 0; i < 3; i++) {
        fresh[i] = make(64, KIND_SCANNED);
    }
    current = ground_place(fresh[0]).block;
    struct order order = {KIND_SCANNED, sizeclass_of(64), 0};
    cache = mutator_find_cache(&ground.mutator->home, order);
    assert_int_equal(cache->block, current);
    assert_int_not_equal(cache_tail_bytes(cache), 0);
    free_cell(fresh[0]);
    assert_int_equal(cache->free_count, 1);
    ground_fold(&ground);
    return 0;
}

// --- Damage ----------------------------------------------------------------

// Adds a bit and keeps the block's own count: only other sums can tell.
static void set_alloc(uint32_t block, uint32_t cell) {
    block_pair(block, cell / 64)[1] |= (uint64_t)1 << (cell % 64);
}

static void clear_alloc(uint32_t block, uint32_t cell) {
    block_pair(block, cell / 64)[1] &= ~((uint64_t)1 << (cell % 64));
}

static uint32_t first_cell(uint32_t block, bool allocated) {
    uint32_t cell = 0;
    while (block_is_allocated(block, cell) != allocated) {
        cell++;
    }
    return cell;
}

static void plant_beyond(void) {
    set_alloc(span, (uint32_t)block_cells(span));
}

static void plant_beyond_mark(void) {
    block_pair(run, 5)[0] = 1;
}

static void plant_lost_bit(void) {
    clear_alloc(shelved, first_cell(shelved, true));
}

static void plant_extra_bit(void) {
    set_alloc(shelved, first_cell(shelved, false));
}

static void plant_counted_bit(void) {
    set_alloc(shelved, first_cell(shelved, false));
    block_get(shelved)->live++;
}

static void plant_live(void) {
    block_get(described)->live--;
}

static void plant_span_kind(void) {
    range.entries[span + 1] =
        (uint16_t)ENTRY(ENTRY_CLASS(block_entry(span)), KIND_SCANNED, 1);
}

static void plant_span_index(void) {
    range.entries[span + 1] = range.entries[span];
}

static void plant_run_distance(void) {
    range.distances[run + 3] = 2;
}

static void plant_run_tail(void) {
    range.entries[run + 3] = CLASS_FREE;
}

static void plant_owner(void) {
    block_get(shelved)->owner = 77;
}

static void plant_current(void) {
    block_get(span)->flags |= BLOCK_CURRENT;
}

static void plant_not_current(void) {
    block_get(current)->flags &= (uint8_t)~BLOCK_CURRENT;
}

static void plant_current_listed(void) {
    block_get(current)->list = SHELF_HALF;
}

static void plant_list_name(void) {
    block_get(shelved)->list = SHELF_TIGHT;
}

static void plant_list_link(void) {
    block_get(shelved)->prev = span;
}

static void plant_described_link(void) {
    block_get(described)->prev = span;
}

static void plant_list_end(void) {
    struct order order = {KIND_SCANNED, sizeclass_of(64), 0};
    struct shelf *shelf = heap_find_shelf(&ground.heap, order);
    shelf->lists[block_get(shelved)->list].tail = span;
}

static void plant_tail_limit(void) {
    cache->limit -= 8;
}

static void plant_tail_bit(void) {
    uint32_t cell =
        (uint32_t)((cache->bump - range_block_address(current)) / 64);
    clear_alloc(current, cell);
    block_get(current)->live--;
    ground.heap.used_bytes -= 64;
    ground.heap.freed_bytes += 64;
}

static void plant_stack_used(void) {
    cache->free[0] = block_cell_address(current, first_cell(current, true));
}

static void plant_stack_inside(void) {
    cache->free[0] += 8;
}

static void plant_stack_foreign(void) {
    cache->free[0] = range_block_address(shelved) +
                     first_cell(shelved, false) * block_cell_bytes(shelved);
}

static void plant_no_block(void) {
    cache->block = BLOCK_NONE;
}

static void plant_mine(void) {
    cache->mine.head = shelved;
}

static void plant_used(void) {
    ground.heap.used_bytes += 16;
}

static void plant_freed(void) {
    ground.heap.freed_bytes += 16;
}

static void plant_blocks(void) {
    ground.heap.used_blocks++;
}

static void plant_taken(void) {
    bitmap_clear(range.taken, shelved);
}

static void plant_leaked_block(void) {
    bitmap_set(range.taken, range_block_count() - 1);
}

static void plant_committed(void) {
    ground.heap.region.committed_bytes += CHUNK_BYTES;
}

struct damage {
    const char *name;
    void (*plant)(void);
};

#define DAMAGE(name)                                                           \
    { #name, plant_##name }

static const struct damage damages[] = {
    DAMAGE(beyond),       DAMAGE(beyond_mark),    DAMAGE(lost_bit),
    DAMAGE(extra_bit),    DAMAGE(counted_bit),    DAMAGE(live),
    DAMAGE(span_kind),    DAMAGE(span_index),     DAMAGE(run_distance),
    DAMAGE(run_tail),     DAMAGE(owner),          DAMAGE(current),
    DAMAGE(not_current),  DAMAGE(current_listed), DAMAGE(list_name),
    DAMAGE(list_link),    DAMAGE(described_link), DAMAGE(list_end),
    DAMAGE(tail_limit),   DAMAGE(tail_bit),       DAMAGE(stack_used),
    DAMAGE(stack_inside), DAMAGE(stack_foreign),  DAMAGE(no_block),
    DAMAGE(mine),         DAMAGE(used),           DAMAGE(freed),
    DAMAGE(blocks),       DAMAGE(taken),          DAMAGE(leaked_block),
    DAMAGE(committed),
};

static int child_damaged(void *data) {
    const struct damage *damage = data;
    damage->plant();
    verify_heap(&ground.heap);
    return 0;
}

// V2: stops, and says on one line which check it was.
static void test_loud(void **state) {
    (void)state;
    static struct child child;
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        struct damage damage = damages[i];
        child_fork(&child, child_damaged, &damage);
        if (child.signal != SIGABRT || !child_says(&child, "broken: ") ||
            strchr(child.text, '\n') != child.text + child.count - 1) {
            child_show(&child);
            fail_msg("%s was not noticed", damage.name);
        }
    }
}

// --- Quiet -----------------------------------------------------------------

static uint64_t sum_bytes(uint64_t sum, const void *at, size_t bytes) {
    for (size_t i = 0; i + sizeof sum <= bytes; i += sizeof sum) {
        uint64_t word;
        memcpy(&word, (const char *)at + i, sizeof word);
        sum = gen_mix(sum, word);
    }
    return sum;
}

// Everything that verify reads.
static uint64_t sum_all(void) {
    size_t blocks = range_block_count();
    uint64_t sum = sum_bytes(0, &ground.heap, sizeof ground.heap);
    sum = sum_bytes(sum, ground.mutator, sizeof *ground.mutator);
    sum = sum_bytes(sum, range.entries, blocks * sizeof *range.entries);
    sum = sum_bytes(sum, range.bits, blocks * BITS_WORDS_PER_BLOCK * 8);
    sum = sum_bytes(sum, range.blocks, blocks * sizeof *range.blocks);
    return sum_bytes(sum, range.taken, blocks / 8);
}

// V1.
static void test_quiet(void **state) {
    (void)state;
    uint64_t before = sum_all();
    verify_heap(&ground.heap);
    verify_heap(&ground.heap);
    assert_int_equal(sum_all(), before);
}

// An empty heap is sound.
static int child_empty(void *data) {
    (void)data;
    static struct heap empty;
    memset(&range, 0, sizeof range);
    if (!heap_init(&empty, NULL)) {
        return 1;
    }
    verify_heap(&empty);
    return 0;
}

static void test_empty(void **state) {
    (void)state;
    static struct child child;
    child_fork(&child, child_empty, NULL);
    assert_int_equal(child.status, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quiet),
        cmocka_unit_test(test_loud),
        cmocka_unit_test(test_empty),
    };
    if (!stage_init(&stage, 256 * MiB)) {
        return 77; // no memory for it here
    }
    return cmocka_run_group_tests(tests, make_heap, NULL);
}
