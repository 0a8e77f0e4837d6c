// One cycle, seen from outside: what each kind of root keeps, what is given
// back, who may not begin one, what it needs and what it says.  A thread that
// is stopped as it takes a cell (C6) is in test_collect_taking.c.
//
// seconds: 120

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "collect/collect.h"
#include "heap/meta.h"
#include "os/stack.h"
#include "roots/world.h"
#include "support/child.h"
#include "support/gen.h"
#include "support/ground.h"
#include "support/room.h"
#include "support/scrub.h"
#include "support/stage.h"

#define HIDE(p)   (~(uintptr_t)(p))
#define REVEAL(h) ((void *)(~(uintptr_t)(h)))

static struct ground ground;
static struct conductor conductor;
static struct collector collector;
static struct stage stage = {&ground, &conductor, &collector};
static struct collect_report told; // the last report that was rung
static size_t told_count;

static void take_report(const struct collect_report *report) {
    told = *report;
    told_count++;
}

static bool cycle(void) {
    scrub_stack();
    return stage_cycle(&stage, COLLECT_ASKED);
}

static NOT_INLINED bool is_object(uintptr_t hidden) {
    struct place place;
    void *start = blockmap_object(~hidden, &place);
    return start != NULL && (uintptr_t)start == ~hidden;
}

// Each test starts with only what it makes.
static int begin(void **state) {
    (void)state;
    conductor.neighbours = true;
    conductor.check_mark = false;
    conductor.disabled = 0;
    return cycle() ? 0 : -1;
}

// --- Roots -----------------------------------------------------------------

// A list of `length` objects of many sizes, each with a word that tells it from
// every other; hidden[] is told where they are.
static NOT_INLINED void *make_list(size_t length, uintptr_t *hidden) {
    void **list = NULL;
    for (size_t i = 0; i < length; i++) {
        size_t bytes = 24 + i * i % 3000;
        void **node = (void **)ground_make(&ground, bytes, KIND_SCANNED, 0);
        assert_non_null(node);
        node[0] = list;
        node[1] = (void *)(i * 2 + 1);
        node[2] = (void *)HIDE(node);
        hidden[i] = HIDE(node);
        list = node;
    }
    return list;
}

// C1: in use, unchanged, and where it was.
static NOT_INLINED void check_list(void *list, size_t length) {
    void **node = list;
    for (size_t i = length; i-- > 0; node = node[0]) {
        assert_true(is_object(HIDE(node)));
        assert_ptr_equal(node[1], (void *)(i * 2 + 1));
        assert_ptr_equal(node[2], (void *)HIDE(node));
    }
    assert_null(node);
}

#define LENGTH ((size_t)400)
static uintptr_t hidden[LENGTH];

// C2: all but what some forgotten word may still hold.
static NOT_INLINED void check_gone(void) {
    size_t left = 0;
    for (size_t i = 0; i < LENGTH; i++) {
        left += is_object(hidden[i]);
    }
    assert_in_range(left, 0, 4); // C2
}

static void *global;          // a segment
static __thread void *own;    // thread-local
static uintptr_t away_hidden; // a page that is no root by itself
static size_t scans;
static enum collect_phase phase_seen;

typedef void push_fn(void *cycle, const void *start, size_t bytes);

static void scan(push_fn *push, void *data, void *ignored) {
    (void)ignored;
    scans++;
    phase_seen = conductor.phase;
    assert_int_equal(phase_seen, COLLECT_ROOTS);
    // With the lock, which the conductor has: the door lets nobody in here.
    assert_false(
        collect_cycle(&collector, ground.mutator, COLLECT_ASKED)); // C3
    assert_int_equal(conductor.phase, COLLECT_ROOTS);
    push(data, REVEAL(away_hidden), sizeof(void *));
    push(data, REVEAL(away_hidden), 0);  // nothing
    push(data, (void *)UINTPTR_MAX, 64); // wraps: nothing
}

static const struct scanner scanner = {(void (*)(void))scan, NULL};

static NOT_INLINED void **away(void) {
    return REVEAL(away_hidden);
}

// Into the page, or nowhere: the caller never holds the list.
static NOT_INLINED void put_away(size_t length, bool keep) {
    void *list = make_list(length, hidden);
    *away() = keep ? list : NULL;
}

static void test_global(void **state) {
    (void)state;
    global = make_list(LENGTH, hidden);
    assert_true(cycle());
    assert_true(cycle());
    check_list(global, LENGTH); // C1
    global = NULL;
    assert_true(cycle());
    check_gone();
}

static void test_own(void **state) {
    (void)state;
    own = make_list(LENGTH, hidden);
    assert_true(cycle());
    check_list(own, LENGTH); // C1
    own = NULL;
    assert_true(cycle());
    check_gone();
}

static NOT_INLINED void on_stack(void) {
    void *volatile list = make_list(LENGTH, hidden);
    assert_true(cycle());
    assert_true(cycle());
    check_list(list, LENGTH); // C1
}

static void test_stack(void **state) {
    (void)state;
    on_stack();
    scrub_stack(); // a frame of the cycle may begin where that one did
    assert_true(cycle());
    check_gone();
}

static void test_added(void **state) {
    (void)state;
    struct extent extent = {(uintptr_t)away(), (uintptr_t)(away() + 1)};
    bool removed;
    put_away(LENGTH, true);
    assert_true(ranges_add(&conductor.roots.added, extent));
    assert_true(cycle());
    check_list(*away(), LENGTH); // C1
    assert_true(ranges_remove(&conductor.roots.added, extent, &removed));
    assert_true(cycle());
    check_gone();
}

// C3, too: a cycle that a scanner asks for does not begin.
static void test_scanner(void **state) {
    (void)state;
    put_away(LENGTH, true);
    assert_true(ranges_add_scanner(&conductor.roots.scanners, scanner));
    uint64_t before = collector.figures.cycles;
    scans = 0;
    assert_true(cycle());
    assert_int_equal(scans, 1);
    assert_int_equal(collector.figures.cycles, before + 1); // C3
    assert_int_equal(conductor.phase, COLLECT_IDLE);
    check_list(*away(), LENGTH); // C1
    assert_true(ranges_remove_scanner(&conductor.roots.scanners, scanner));
    assert_true(cycle());
    check_gone();
}

static NOT_INLINED uintptr_t make_pinned(size_t bytes) {
    void *pin = ground_make(&ground, bytes, KIND_PINNED, 0);
    assert_non_null(pin);
    return HIDE(pin);
}

static NOT_INLINED void set_last(uintptr_t pin, size_t bytes, bool list) {
    void **words = REVEAL(pin);
    words[bytes / sizeof *words - 1] = list ? make_list(LENGTH, hidden) : NULL;
}

static NOT_INLINED void check_last(uintptr_t pin, size_t bytes) {
    void **words = REVEAL(pin);
    check_list(words[bytes / sizeof *words - 1], LENGTH); // C1
}

static void test_pinned(void **state) {
    (void)state;
    static const size_t sizes[] = {16, 50000, 300 * KiB};
    for (size_t i = 0; i < 3; i++) {
        uintptr_t pin = make_pinned(sizes[i]);
        set_last(pin, sizes[i], true);
        assert_true(cycle());
        assert_true(is_object(pin));
        check_last(pin, sizes[i]);
        set_last(pin, sizes[i], false);
        assert_true(cycle());
        check_gone();
        assert_true(is_object(pin)); // it stays, kept by nobody
    }
}

// A range that is never to be scanned, whoever says it is a root.
static void test_excluded(void **state) {
    (void)state;
    static void *numbers[4];
    struct extent extent = {(uintptr_t)numbers, (uintptr_t)(numbers + 4)};
    numbers[2] = make_list(LENGTH, hidden);
    assert_true(ranges_add(&conductor.roots.excluded, extent));
    assert_true(cycle());
    check_gone();
    numbers[2] = NULL;
}

// --- Neighbours ------------------------------------------------------------

enum { ROW = 64 };

// ROW objects of one class; their last byte is used or not.
static NOT_INLINED void make_row(uintptr_t *row, size_t bytes, bool exact) {
    for (size_t i = 0; i < ROW; i++) {
        struct object *object = ground_make(&ground, bytes, KIND_LEAF, 0);
        assert_non_null(object);
        struct place place;
        assert_true(blockmap_find((uintptr_t)object, &place));
        uint8_t *flags = &block_get(place.block)->flags;
        *flags = (uint8_t)((*flags & ~BLOCK_EXACT) | BLOCK_EXACT * exact);
        row[i] = HIDE(object);
    }
}

// Keeps words one past the end of every eighth object on the stack, or in a
// global array, over a cycle; how many of the eight objects are left.
static void *volatile globals[ROW / 8];

static NOT_INLINED size_t keep_ends(const uintptr_t *row, size_t bytes,
                                    bool stack) {
    void *volatile ends[ROW / 8];
    for (size_t i = 0; i < ROW / 8; i++) {
        void *end = (char *)REVEAL(row[8 * i + 4]) + bytes;
        ends[i] = stack ? end : NULL;
        globals[i] = stack ? NULL : end;
    }
    assert_true(cycle());
    size_t left = 0;
    for (size_t i = 0; i < ROW / 8; i++) {
        left += is_object(row[8 * i + 4]);
        assert_true((ends[i] == NULL) != stack);
        globals[i] = NULL;
    }
    return left;
}

// A word on the stack one past the end keeps the object before it, where that
// was asked for to its last byte.
static void test_neighbours(void **state) {
    (void)state;
    uintptr_t row[ROW];
    static const size_t sizes[] = {16, 112, 4096, 40960, 512 * KiB};
    for (size_t i = 0; i < 5; i++) {
        size_t bytes = sizes[i];
        make_row(row, bytes, true);
        assert_int_equal(keep_ends(row, bytes, true), ROW / 8); // C1
        // The next object, if there is one, is kept as what the word says.
        assert_true(told.neighbour_objects >= ROW / 8);
        if (STACK_SLOP_BYTES == 1) { // elsewhere words keep what is near them
            assert_in_range(told.neighbour_objects, ROW / 8, ROW / 8 + 3);
        }
        conductor.neighbours = false;
        make_row(row, bytes, true);
        assert_in_range(keep_ends(row, bytes, true), 0, 1);
        assert_int_equal(told.neighbour_objects, 0);
        conductor.neighbours = true;
        make_row(row, bytes, true);
        assert_in_range(keep_ends(row, bytes, false), 0, 1);
    }
#if defined(__x86_64__)
    make_row(row, 112, false);
    assert_in_range(keep_ends(row, 112, true), 0, 1);
#endif
}

// The end of a large base-only object is no pointer to it.
static NOT_INLINED uintptr_t make_base_only(void) {
    return HIDE(ground_make(&ground, 512 * KiB, KIND_BASE_ONLY, 0));
}

static NOT_INLINED void *end_of(uintptr_t object) {
    return (char *)REVEAL(object) + 512 * KiB;
}

static void test_base_only_end(void **state) {
    (void)state;
    uintptr_t object = make_base_only();
    void *volatile end = end_of(object);
    assert_true(cycle());
    assert_false(is_object(object));
    assert_int_equal(told.neighbour_objects, 0);
    end = NULL;
    (void)end;
}

// --- What it needs ---------------------------------------------------------

// A child says that it is one: its thread has another id, under which it would
// be taken for a stranger, and its mutator for one whose thread has vanished.
static int child_starved(void *data) {
    (void)data;
    if (!world_forked(ground.mutator)) {
        return 1;
    }
    size_t meta = meta_bytes(), tables = range.table_bytes;
    if (!room_end()) {
        return 0; // not a system to ask
    }
    if (!cycle()) {
        return 1;
    }
    room_back();
    if (meta_bytes() != meta || range.table_bytes != tables) {
        return 2;
    }
    check_list(global, LENGTH);
    check_gone(); // of the other list
    return 0;
}

// C4: with no memory to be had it runs to its end as ever.
static void test_starved(void **state) {
    (void)state;
    global = make_list(LENGTH, hidden);
    put_away(LENGTH, false);
    static struct child child;
    scrub_stack(); // or the frames of the fork show what lay there
    child_fork(&child, child_starved, NULL);
    child_show(&child);
    assert_int_equal(child.status, 0); // C4
    global = NULL;
}

// --- What it says ----------------------------------------------------------

static size_t tail_bytes(void) {
    size_t tails = 0;
    struct cache *cache = ground.mutator->home.used;
    for (; cache != NULL; cache = cache->next) {
        tails += cache_tail_bytes(cache);
    }
    return tails;
}

static uint64_t monotone[5];

static void check_monotone(void) {
    const struct collect_figures *figures = &collector.figures;
    const uint64_t now[5] = {figures->cycles, figures->pause_ns_max,
                             figures->pause_ns_total, figures->mark_ns_total,
                             ground.heap.collected_bytes};
    for (size_t i = 0; i < 5; i++) {
        assert_true(now[i] >= monotone[i]); // C5
        monotone[i] = now[i];
    }
}

// C5: over random work each figure grows or tells of the last cycle.
static void test_figures(void **state) {
    (void)state;
    struct gen gen;
    gen_init(&gen, gen_seed("figures"));
    static void *held[500];
    for (size_t round = 0; round < 40; round++) {
        size_t live_bytes = 0;
        for (size_t i = 0; i < 500; i++) {
            size_t bytes = gen_bytes(&gen, 2000);
            if (gen_chance(&gen, 60)) {
                held[i] = ground_make(&ground, bytes, KIND_LEAF, 0);
            } else if (held[i] != NULL && gen_chance(&gen, 50)) {
                held[i] = NULL;
            }
        }
        for (size_t i = 0; i < 500; i++) {
            struct place place;
            if (held[i] != NULL) {
                assert_true(blockmap_find((uintptr_t)held[i], &place));
                live_bytes += place.bytes;
            }
        }
        size_t tails = tail_bytes();
        ground_fold(&ground);
        size_t used = ground.heap.used_bytes;
        uint64_t number = told.number;
        size_t rung = told_count;
        enum collect_reason reason = round % COLLECT_REASONS;
        assert_true(stage_cycle(&stage, reason));
        check_monotone();
        assert_int_equal(told_count, rung + 1);
        assert_int_equal(told.number, number + 1);
        assert_int_equal(told.number, collector.figures.cycles);
        assert_int_equal(told.reason, reason);
        assert_int_equal(told.used_bytes, used - tails); // objects only
        assert_int_equal(told.used_bytes, // a cell was alive or dead
                         told.census.live_bytes + told.census.dead_bytes);
        assert_true(told.census.live_bytes >= live_bytes);
        assert_true(told.census.live_bytes <= live_bytes + 600 * KiB);
        assert_true(told.census.block_bytes >= told.census.live_bytes);
        assert_true(told.heap_bytes >= told.census.block_bytes);
        assert_int_equal(told.goal_bytes, collector.pacer.goal_bytes);
        assert_true(told.root_bytes >= sizeof held);
        assert_true(told.mark_ns <= told.pause_ns);
        assert_true(told.pause_ns <= collector.figures.pause_ns_max);
        assert_memory_equal(&told, &collector.figures.last, sizeof told);
    }
    memset(held, 0, sizeof held);
}

static NOT_INLINED void make_one(size_t bytes) {
    assert_non_null(ground_make(&ground, bytes, KIND_LEAF, 0));
}

// Tails are no objects, neither allocated nor collected, though a cycle takes
// the block of one that holds nothing else.
static void test_tails(void **state) {
    (void)state;
    for (size_t bytes = 2560; bytes <= 4096; bytes += 512) {
        ground_fold(&ground);
        uint64_t allocated = ground.heap.allocated_bytes - tail_bytes();
        uint64_t collected = ground.heap.collected_bytes;
        make_one(bytes);
        assert_true(cycle());
        assert_int_equal(ground.heap.allocated_bytes - tail_bytes(),
                         allocated + bytes);
        assert_int_equal(ground.heap.collected_bytes, collected + bytes);
    }
}

// The walks at the borders of a cycle are done where they are asked for.
static int child_damaged(void *data) {
    (void)data;
    if (!world_forked(ground.mutator)) {
        return 1;
    }
    conductor.check_verify = true;
    ground.heap.used_bytes += 16;
    cycle();
    return 0;
}

static void test_verify(void **state) {
    (void)state;
    static struct child child;
    child_fork(&child, child_damaged, NULL);
    assert_int_equal(child.signal, SIGABRT);
    assert_true(child_says(&child, "used_bytes"));
}

// --- The audit -------------------------------------------------------------

static bool is_second_walk;

// Pushes its word to the audit only: what the marker then has not marked is
// what a marker with a fault would have left.
static void scan_once(push_fn *push, void *data, void *ignored) {
    (void)ignored;
    if (is_second_walk) {
        push(data, REVEAL(away_hidden), sizeof(void *));
    }
    is_second_walk = true;
}

static int child_missed(void *data) {
    (void)data;
    if (!world_forked(ground.mutator)) {
        return 1;
    }
    struct scanner item = {(void (*)(void))scan_once, NULL};
    if (!ranges_add_scanner(&conductor.roots.scanners, item)) {
        return 1;
    }
    put_away(3, true);
    scrub_stack();
    cycle();
    return 0;
}

// C1: with the check on, every object is reached by both markers, and a live
// one that is not marked stops the process before anything is given back.
static void test_audit(void **state) {
    (void)state;
    conductor.check_mark = true;
    global = make_list(LENGTH, hidden);
    assert_true(cycle());
    assert_int_equal(told.audited_objects, told.census.live_objects);
    uintptr_t row[ROW];
    make_row(row, 512, true); // words beside objects are walked too
    assert_int_equal(keep_ends(row, 512, true), ROW / 8);
    assert_int_equal(told.audited_objects, told.census.live_objects);
    static struct child child;
    child_fork(&child, child_missed, NULL);
    assert_int_equal(child.signal, SIGABRT);
    assert_true(child_says(&child, "objects alive but not marked: 3;"));
    conductor.check_mark = false;
    global = NULL;
}

// --- Memory ----------------------------------------------------------------

// Two cycles, of which the second drops what the first has found free; all but
// what the program is about to use, and how much that is depends on its speed.
static void check_dropped(const struct region *region) {
    size_t least_bytes = SIZE_MAX;
    for (size_t i = 0; i < 2; i++) {
        assert_true(cycle());
        assert_int_equal(told.heap_bytes, region->committed_bytes);
        if (told.goal_bytes < least_bytes) {
            least_bytes = told.goal_bytes;
        }
    }
    assert_in_range(region->committed_bytes, least_bytes,
                    least_bytes + CHUNK_BYTES - 1);
}

// What was free in two cycles goes back; collect_trim does not wait.
static void test_trim(void **state) {
    (void)state;
    const struct region *region = &ground.heap.region;
    for (size_t way = 0; way < 2; way++) {
        make_one(48 * MiB);
        scrub_stack();
        size_t before = region->committed_bytes;
        assert_true(before >= 48 * MiB);
        assert_true(cycle());
        assert_int_equal(told.heap_bytes, region->committed_bytes);
        if (way == 0) {
            collect_trim(&collector);
        } else {
            check_dropped(region);
        }
        assert_true(region->committed_bytes <= before - 36 * MiB);
    }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup(name, begin)
    const struct CMUnitTest tests[] = {
        TEST(test_global),   TEST(test_own),        TEST(test_stack),
        TEST(test_added),    TEST(test_scanner),    TEST(test_pinned),
        TEST(test_excluded), TEST(test_neighbours), TEST(test_base_only_end),
        TEST(test_starved),  TEST(test_figures),    TEST(test_verify),
        TEST(test_tails),    TEST(test_tails),      TEST(test_audit),
        TEST(test_trim),
    };
    const void *cold_end = stack_cold_end();
    void *page = malloc(4096);
    if (page == NULL || cold_end == NULL || !stage_init(&stage, GiB)) {
        return 77; // no memory for it here
    }
    away_hidden = HIDE(page);
    ground.mutator->cold_end = cold_end;
    pacer_init(&collector.pacer, 4 * MiB, 100);
    conductor.check_verify = true;
    conductor.report = take_report;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
