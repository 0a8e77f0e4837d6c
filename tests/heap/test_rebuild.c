// Children of a process in which another thread was anywhere.  Two mutators
// share a heap; one of them does everything that can be done to it, in steps,
// and behind an instruction a child is forked, in which it is lost.  The other
// one's caches claim what is theirs, and then everything is checked: objects,
// bits, lists and sums; more is allocated, and a cycle is run.
// long: all

#include "heap/rebuild.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bitmap.h"
#include "heap/block.h"
#include "heap/blockmap.h"
#include "heap/meta.h"
#include "heap/range.h"
#include "support/gen.h"
#include "support/ground.h"
#include "support/step.h"

#define OBJECTS ((size_t)600)

struct known {
    uintptr_t start;
    size_t bytes;
    bool gone; // or about to be
};

static struct ground ground;
static struct mutator *own, *lost;
static struct known known[OBJECTS];
static size_t known_count;
static size_t every = 1; // fork behind every nth instruction

static void *make_by(struct mutator *mutator, size_t bytes, unsigned kind,
                     unsigned layout) {
    ground.mutator = mutator;
    void *made = ground_make(&ground, bytes, kind, layout);
    ground.mutator = own;
    return made;
}

// --- Objects that are known ------------------------------------------------

static uint64_t word_of(uintptr_t at) {
    return gen_mix(at, 7);
}

static void fill(uintptr_t start, size_t bytes) {
    for (uintptr_t at = start; at < start + bytes; at += 8) {
        *(uint64_t *)at = word_of(at);
    }
}

static struct known *add(struct mutator *mutator, size_t bytes, unsigned kind,
                         unsigned layout) {
    struct place place;
    uintptr_t start = (uintptr_t)make_by(mutator, bytes, kind, layout);
    if (start == 0 || !blockmap_find(start, &place) || known_count == OBJECTS) {
        abort();
    }
    known[known_count] = (struct known){start, place.bytes, false};
    fill(start, place.bytes);
    return &known[known_count++];
}

// What is wrong with an object that was known before, or NULL.
static const char *look_at(const struct known *object) {
    struct place place;
    if (blockmap_object(object->start, &place) == NULL) {
        return "no object"; // D1
    }
    if (place.start != object->start || place.bytes != object->bytes ||
        block_is_freed(place.block, place.cell)) {
        return "another object";
    }
    for (uintptr_t at = object->start; at < object->start + object->bytes;
         at += 8) {
        if (*(const uint64_t *)at != word_of(at)) {
            return "other bytes";
        }
    }
    return NULL;
}

static const char *look_at_all(void) {
    for (size_t i = 0; i < known_count; i++) {
        const char *fault = known[i].gone ? NULL : look_at(&known[i]);
        if (fault != NULL) {
            return fault;
        }
    }
    return NULL;
}

static bool is_known(uintptr_t start, size_t bytes) {
    for (size_t i = 0; i < known_count; i++) {
        if (!known[i].gone && start < known[i].start + known[i].bytes &&
            known[i].start < start + bytes) {
            return true;
        }
    }
    return false;
}

// --- The heap as a whole ---------------------------------------------------

struct sum {
    size_t used_bytes, used_blocks;
    size_t kept; // counted blocks of our own
    const char *fault;
};

static bool is_counted(uint32_t block) {
    return block_kind_is_counted(ENTRY_KIND(block_entry(block)));
}

static void sum_block(uint32_t block, void *data) {
    struct sum *sum = data;
    const struct block *b = block_get(block);
    size_t span = block_span(block);
    bool is_current = (block_flags(block) & BLOCK_CURRENT) != 0;
    sum->used_bytes += b->live * block_cell_bytes(block);
    sum->used_blocks += span;
    if (!block_check(block)) { // B5, B6
        sum->fault = "a block";
    } else if (bitmap_count(range.taken, block, span) != span) { // N1
        sum->fault = "a block that is not taken";
    } else if (is_current && b->owner != own->id) { // B7, B9
        sum->fault = "an owner";
    } else if (is_counted(block) && b->owner == own->id) { // D3
        sum->kept++;
    } else if (!is_current && b->owner != 0) {
        sum->fault = "a lost owner";
    } else if (!is_current && b->live == 0) {
        sum->fault = "an empty block"; // E4
    } else if ((b->list != SHELF_NONE) !=
               (!is_current && b->live < block_cells(block))) {
        sum->fault = "a block on a wrong shelf"; // E3
    }
}

static void check_cache(struct cache *cache, void *data) {
    struct sum *sum = data;
    if (!cache_check(cache)) {
        sum->fault = "a cache"; // D3
    }
}

static const char *look_at_heap(void) {
    const struct heap *heap = &ground.heap;
    struct sum sum = {0, 0, 0, NULL};
    ground_fold(&ground);
    heap_each_block(sum_block, &sum);
    mutator_each_cache(own, NULL, check_cache, &sum);
    if (sum.fault != NULL) {
        return sum.fault;
    }
    if (known_count != 0 && sum.kept == 0) { // D3: full ones, and with room
        return "counted blocks are not our own any more";
    }
    if (sum.used_bytes != heap->used_bytes || // E1
        heap->allocated_bytes !=
            heap->used_bytes + heap->freed_bytes + heap->collected_bytes) {
        return "a sum"; // E2
    }
    if (sum.used_blocks != heap->used_blocks ||
        sum.used_blocks != heap->region.used_blocks ||
        !region_check(&heap->region)) { // N4
        return "the region";
    }
    for (unsigned kind = 0; kind < KIND_COUNT; kind++) {
        for (unsigned cls = CLASS_FIRST; cls <= CLASS_LAST; cls++) {
            if (!shelf_check(&heap->shelves[kind][cls])) {
                return "a shelf";
            }
        }
    }
    return NULL;
}

static void claim(struct cache *cache, void *data) {
    (void)data;
    rebuild_claim(cache);
}

// Counted blocks with room, to the caches of their owners.
static void bring_back(struct mutator *other) {
    uint32_t block;
    while ((block = heap_take_kept(&ground.heap)) != BLOCK_NONE) {
        struct mutator *owner = block_owner(block) == own->id ? own : other;
        if (owner == NULL || owner->id != block_owner(block) ||
            !mutator_keep(owner, &ground.heap, block)) {
            abort();
        }
    }
}

static void rebuild(void) {
    ground.mutator = own;
    meta_forked();
    rebuild_begin(own->id);
    mutator_each_cache(own, NULL, claim, NULL);
    rebuild_tally(&ground.heap, &own->home.tally);
    rebuild_end();
    bring_back(NULL);
}

// Cells that are handed out now lie in nothing that is known.
static const char *allocate(void) {
    static const size_t sizes[] = {16, 48, 200, 3000, 30000, 100000};
    for (size_t i = 0; i < 90; i++) {
        struct place place;
        size_t bytes = sizes[i % 6];
        uintptr_t at =
            (uintptr_t)make_by(own, bytes, i % 2 ? KIND_LEAF : KIND_SCANNED, 0);
        if (at == 0) {
            return "no memory";
        }
        if (is_known(at, bytes) || !blockmap_find(at, &place)) {
            return "a cell in an object"; // D1
        }
        memset((void *)at, 0xAB, bytes);
    }
    return NULL;
}

static void mark_known(void) {
    for (size_t i = 0; i < known_count; i++) {
        struct place place;
        if (!known[i].gone && blockmap_object(known[i].start, &place) != NULL) {
            block_pair(place.block, place.cell / 64)[0] |= (uint64_t)1
                                                           << (place.cell % 64);
        }
    }
}

static void cycle(void) {
    struct census census;
    ground_prepare(&ground);
    mark_known();
    ground_flip(&ground, &census);
}

static const char *live_on(void) {
    rebuild();
    const char *fault = look_at_all();
    fault = fault != NULL ? fault : look_at_heap(); // D2
    fault = fault != NULL ? fault : allocate();
    fault = fault != NULL ? fault : look_at_all();
    if (fault == NULL) {
        cycle();
        fault = look_at_all();
    }
    fault = fault != NULL ? fault : look_at_heap();
    return fault != NULL ? fault : allocate();
}

// --- Steps -----------------------------------------------------------------

static bool lives(size_t instructions, void *data) {
    const char *name = data;
    const char *fault = live_on(); // D4
    if (fault != NULL) {
        fprintf(stderr, "%s, %zu instructions: %s\n", name, instructions,
                fault);
    }
    return fault == NULL;
}

// A child behind every nth instruction, or more rarely by a factor.
static void in_steps(void (*work)(void *data), const char *name,
                     size_t factor) {
    char text[32];
    snprintf(text, sizeof text, "%s", name);
    struct step_forks forks = {work, lives, text, every * factor, 0, 0};
    if (!step_fork(&forks)) {
        skip();
    }
    printf("%s: %zu children\n", name, forks.children);
    assert_int_not_equal(forks.children, 0);
    assert_int_equal(forks.failed, 0);
    rebuild();
    lost = mutator_make(2, &ground.heap, false);
    assert_non_null(lost);
    assert_null(look_at_heap());
}

static struct known *victims[8];

static void work_allocate(void *data) {
    (void)data;
    for (size_t i = 0; i < 12; i++) {
        (void)!make_by(lost, 700, KIND_SCANNED, 0); // a refill on the way
    }
    (void)!make_by(lost, 4000, KIND_LEAF, 0); // a fresh block
    (void)!make_by(lost, 12000, KIND_SCANNED, 0);
}

static void work_runs(void *data) {
    (void)data;
    bool zero;
    static const size_t sizes[] = {3 * MiB, 300 * KiB}; // the frontier moves
    for (size_t i = 0; i < 2; i++) {
        struct object *run =
            heap_make_run(&ground.heap, KIND_LEAF, sizes[i], 1, &zero);
        heap_free_run(&ground.heap, range_block_of((uintptr_t)run));
    }
}

static void free_by(struct mutator *mutator, uintptr_t start) {
    struct place place;
    if (blockmap_object(start, &place) == NULL) {
        abort();
    }
    struct cache *cache =
        mutator_find_cache(&mutator->home, heap_order_of(place.block));
    uint32_t empty = cache_free(cache, &place);
    if (empty != BLOCK_NONE) {
        heap_release_block(&ground.heap, empty);
    }
}

static void work_free(void *data) {
    (void)data;
    for (size_t i = 0; i < 4; i++) {
        free_by(lost, victims[i]->start);
    }
    struct order order = {.kind = KIND_SCANNED, .cls = sizeclass_of(48)};
    (void)cache_pop(mutator_find_cache(&lost->home, order)); // one of them
}

static void work_free_remotely(void *data) {
    (void)data;
    for (size_t i = 0; i < 4; i++) {
        struct place place;
        if (blockmap_object(victims[i]->start, &place) == NULL) {
            abort();
        }
        if (block_free_remotely(place.block, place.cell) == FREED_FIRST) {
            heap_push_freed(&ground.heap, place.block);
        }
    }
}

static void lost_tail_out(struct cache *cache, void *data) {
    (void)data;
    cache_tail_out(cache);
}

static void lost_tail_in(struct cache *cache, void *data) {
    cache_tail_in(cache, data, false);
}

// Another thread conducts a cycle while ours is safe in a wait.
static void work_cycle(void *data) {
    struct census census;
    (void)data;
    mutator_each_cache(lost, NULL, lost_tail_out, NULL);
    ground_prepare(&ground);
    mark_known();
    heap_flip(&ground.heap, &census);
    bring_back(lost);
    mutator_each_cache(lost, NULL, lost_tail_in, &ground.heap);
    ground_resume(&ground);
    (void)region_trim(&ground.heap.region, true);
}

static void give_up(struct cache *cache, void *data) {
    cache_give_up(cache, data);
}

static void work_give_up(void *data) {
    (void)data;
    mutator_each_cache(lost, NULL, give_up, &ground.heap);
}

// --- Tests -----------------------------------------------------------------

static void seed(void) {
    static const size_t offsets[] = {0};
    const struct layout *layout = layout_make(64, offsets, 1);
    assert_non_null(layout);
    for (size_t i = 0; i < 16; i++) {
        struct mutator *mutator = i % 2 ? lost : own;
        (void)add(mutator, 48, KIND_SCANNED, 0);
        (void)add(mutator, 700, KIND_SCANNED, 0);
        (void)add(mutator, 5000, KIND_LEAF, 0);
        (void)add(mutator, 64, KIND_DESCRIBED, layout->id);
        (void)add(mutator, 100, KIND_PINNED, 0);
        (void)add(mutator, 48, KIND_COUNTED, 0);
        (void)add(mutator, 8000, KIND_COUNTED_LEAF, 0);
    }
    (void)add(own, 500 * KiB, KIND_LEAF, 0);
    (void)add(lost, 40000, KIND_SCANNED, 0);
}

static void choose_victims(struct mutator *mutator, size_t bytes) {
    for (size_t i = 0; i < 4; i++) {
        victims[i] = add(mutator, bytes, KIND_SCANNED, 0);
        victims[i]->gone = true;
    }
}

static void test_nothing(void **state) {
    (void)state;
    rebuild(); // an empty heap
    seed();
    assert_null(look_at_all());
    uintptr_t bump = own->home.used->bump;
    rebuild();
    assert_int_equal(own->home.used->bump, bump); // D3
    assert_null(look_at_all());
    assert_null(look_at_heap());
    lost = mutator_make(2, &ground.heap, false);
    assert_non_null(lost);
}

static void test_allocate(void **state) {
    (void)state;
    seed();
    in_steps(work_allocate, "cells", 1);
    in_steps(work_runs, "runs", 1);
}

static void test_freed(void **state) {
    (void)state;
    choose_victims(lost, 48);
    in_steps(work_free, "freed", 1);
    choose_victims(lost, 20000); // the last of their block
    for (size_t i = 0; i < 8; i++) {
        (void)!make_by(lost, 20000, KIND_SCANNED, 0);
    }
    in_steps(work_free_remotely, "freed from afar", 1);
    choose_victims(own, 48);
    in_steps(work_free_remotely, "freed in ours", 1);
}

static void test_cycle(void **state) {
    (void)state;
    seed();
    (void)!make_by(lost, 2000, KIND_SCANNED, 0); // an empty block soon
    (void)!make_by(own, 2000, KIND_SCANNED, 0);
    in_steps(work_cycle, "a cycle", 16);
}

static void test_give_up(void **state) {
    (void)state;
    seed();
    in_steps(work_give_up, "given up", 1);
}

// Freed cells of a watched block wait for a cycle, here as there (B13).
static void test_watched(void **state) {
    (void)state;
    struct place place;
    choose_victims(own, 48);
    assert_non_null(blockmap_object(victims[0]->start, &place));
    block_set_flags(place.block, BLOCK_WATCHED);
    assert_int_not_equal(block_free_remotely(place.block, place.cell),
                         FREED_TWICE);
    rebuild();
    assert_true(block_is_freed(place.block, place.cell));
    assert_true(block_is_allocated(place.block, place.cell));
    block_clear_flags(place.block, BLOCK_WATCHED);
    rebuild();
    assert_null(look_at_all());
}

int main(int argc, char **argv) {
    struct gen g;
    uint64_t number = gen_seed("rebuild");
    gen_init(&g, number);
    // A prime number, so that loops are not always met at the same place.
    static const size_t primes[] = {29, 31, 37, 41, 43};
    if (argc < 2 || strcmp(argv[1], "all") != 0) {
        every = primes[gen_below(&g, 5)];
    }
    if (!ground_init(&ground, 64 * MiB) || !range_use_freed()) {
        return 77;
    }
    own = ground.mutator;
    lost = mutator_make(2, &ground.heap, false);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing), cmocka_unit_test(test_allocate),
        cmocka_unit_test(test_freed),   cmocka_unit_test(test_cycle),
        cmocka_unit_test(test_give_up), cmocka_unit_test(test_watched),
    };
    return lost == NULL ? 77 : cmocka_run_group_tests(tests, NULL, NULL);
}
