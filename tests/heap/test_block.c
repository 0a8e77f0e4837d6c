// One block, bit by bit: holes, drains, flips and marks beside arrays of flags.
// (Many blocks, many steps: test_block_protocol.c.)

#include "heap/block.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "support/gen.h"

#define CELLS_MAX ((size_t)4096)

static const struct hole none = {0, 0}; // no tail
static bool object[CELLS_MAX], marked[CELLS_MAX], freed[CELLS_MAX];

static int make_range(void **state) {
    (void)state;
    return range_init(32 * MiB) && range_extend(2 * CHUNK_BLOCKS) &&
                   range_use_freed()
               ? 0
               : -1;
}

// A block of its own for each test, by number; the region is not asked.
static uint32_t make(unsigned cls, unsigned kind) {
    block_format(1, cls, kind);
    memset(object, 0, sizeof object);
    memset(marked, 0, sizeof marked);
    memset(freed, 0, sizeof freed);
    assert_true(block_check(1));
    return 1;
}

static void destroy(uint32_t block) {
    for (size_t word = 0; word < BITS_WORDS_PER_BLOCK / 2; word++) {
        block_pair(block, word)[0] = block_pair(block, word)[1] = 0;
    }
    block_drain_freed(block, none);
    block_clear(block);
}

static void check(uint32_t block) {
    size_t live = 0;
    for (uint32_t cell = 0; cell < block_cells(block); cell++) {
        assert_int_equal(block_is_allocated(block, cell), object[cell]); // B1
        assert_int_equal(block_is_marked(block, cell), marked[cell]);    // B4
        assert_int_equal(block_is_freed(block, cell), freed[cell]);      // B8
        live += object[cell];
    }
    assert_int_equal(block_get(block)->live, live); // B6
    assert_true(block_check(block));                // B5
}

// The first hole by trying cell after cell.
static bool find(size_t cells, size_t from, size_t most, struct hole *hole) {
    while (from < cells && object[from]) {
        from++;
    }
    size_t end = from;
    while (end < cells && end - from < most && !object[end]) {
        end++;
    }
    *hole = (struct hole){(uint32_t)from, (uint32_t)end};
    return from < cells;
}

static void check_holes(uint32_t block, size_t from) {
    static const size_t most[] = {1, 2, 3, 63, 64, 65, 500, 4096};
    size_t cells = block_cells(block);
    for (size_t i = 0; i < sizeof most / sizeof *most; i++) {
        struct hole found, expected;
        bool is = find(cells, from, most[i], &expected);
        assert_int_equal(
            block_find_hole(block, (uint32_t)from, (uint32_t)most[i], &found),
            is);
        if (is) {
            assert_int_equal(found.from, expected.from);
            assert_int_equal(found.end, expected.end);
        }
    }
}

// Classes whose cells end in a word, at its border, and in the first of 64.
static const unsigned classes[] = {1,  2,  3,  4,  7,  8, 15,
                                   16, 24, 31, 56, 61, 96};

#define CLASSES (sizeof classes / sizeof *classes)

// Patterns from empty to full, and every cell to search from.
static void test_holes(void **state) {
    (void)state;
    struct gen g;
    gen_init(&g, gen_seed("block holes"));
    static const unsigned percent[] = {0, 1, 10, 50, 90, 99, 100};
    for (size_t i = 0; i < CLASSES * 7; i++) {
        uint32_t block = make(classes[i / 7], KIND_SCANNED);
        size_t cells = block_cells(block);
        for (uint32_t cell = 0; cell < cells; cell++) {
            if (gen_chance(&g, percent[i % 7])) {
                block_set_hole(block, (struct hole){cell, cell + 1});
                object[cell] = true;
            }
        }
        check(block);
        for (size_t from = 0; from <= cells; from++) {
            check_holes(block, from);
        }
        destroy(block);
    }
}

static void step_hole(struct gen *g, uint32_t block) {
    size_t cells = block_cells(block);
    struct hole hole;
    if (!find(cells, gen_below(g, cells), 1 + gen_below(g, cells), &hole)) {
        return;
    }
    block_set_hole(block, hole);
    memset(&object[hole.from], true, hole.end - hole.from);
    if (gen_chance(g, 30)) {           // a tail, taken out and set again
        block_clear_hole(block, hole); // B3
        memset(&object[hole.from], false, hole.end - hole.from);
        check(block);
        block_set_hole(block, hole); // B2
        memset(&object[hole.from], true, hole.end - hole.from);
    }
}

// Free is asked for by others: once, of objects only; the owner does it (B7).
static void step_freed(struct gen *g, uint32_t block) {
    uint32_t cell = (uint32_t)gen_below(g, block_cells(block));
    bool is = object[cell] && !freed[cell];
    bool any = block_get(block)->freed_any;
    enum freed_by by = block_free_remotely(block, cell);
    assert_int_equal(by, !is ? FREED_TWICE : any ? FREED_MORE : FREED_FIRST);
    freed[cell] |= is; // B7, B8
    assert_true(!is || block_get(block)->freed_any);
}

static void step_drain(uint32_t block) {
    uint32_t count = 0;
    bool zero = block_get(block)->flags & BLOCK_ZERO;
    for (size_t cell = 0; cell < block_cells(block); cell++) {
        if (freed[cell]) {
            object[cell] = marked[cell] = freed[cell] = false; // B4
            count++;
        }
    }
    assert_int_equal(block_drain_freed(block, none), count); // B8
    assert_int_equal(block_drain_freed(block, none), 0);
    assert_int_equal(block_get(block)->flags & BLOCK_ZERO,
                     zero && count == 0 ? BLOCK_ZERO : 0); // B10
}

static void step_cycle(struct gen *g, uint32_t block) {
    bool pinned = block_kind_is_pinned(ENTRY_KIND(block_entry(block)));
    step_drain(block);
    block_get(block)->flags |= BLOCK_ZERO | BLOCK_CURRENT;
    block_clear_marks(block);
    for (uint32_t cell = 0; cell < block_cells(block); cell++) {
        marked[cell] = pinned && object[cell];
    }
    check(block); // B4
    unsigned percent = (unsigned)gen_below(g, 101);
    uint32_t dead = 0;
    for (uint32_t cell = 0; cell < block_cells(block); cell++) {
        if (object[cell] && gen_chance(g, percent)) {
            marked[cell] = true;
            block_pair(block, cell / 64)[0] |= (uint64_t)1 << (cell % 64);
        }
        dead += object[cell] && !marked[cell];
        object[cell] = marked[cell];
    }
    struct block before = *block_get(block);
    assert_int_equal(block_flip(block), dead); // B11
    before.live = (uint16_t)(before.live - dead);
    assert_int_equal(block_get(block)->flags,
                     BLOCK_CURRENT | (dead == 0 ? BLOCK_ZERO : 0)); // B10
    before.flags = block_get(block)->flags;
    assert_memory_equal(block_get(block), &before, sizeof before); // B9, B11
}

static void test_steps(void **state) {
    (void)state;
    struct gen g;
    gen_init(&g, gen_seed("block steps"));
    for (size_t i = 0; i < CLASSES * KIND_COUNT; i++) {
        unsigned kind = (unsigned)(i / CLASSES);
        if (!block_kind_takes(kind, classes[i % CLASSES])) {
            continue;
        }
        uint32_t block = make(classes[i % CLASSES], kind);
        for (size_t step = 0; step < 150; step++) {
            unsigned what = (unsigned)gen_below(&g, 10);
            if (what < 5) {
                step_hole(&g, block);
            } else if (what < 8) {
                step_freed(&g, block);
            } else if (what < 9) {
                step_drain(block);
            } else {
                step_cycle(&g, block);
            }
            check(block);
        }
        destroy(block);
    }
}

// A cell that a wrong program freed by hand and by another thread is counted
// once, and the next object in it is not freed by what is left of the past.
static void test_freed_twice(void **state) {
    (void)state;
    uint32_t block = make(4, KIND_SCANNED);
    struct hole hole = {10, 20};
    block_set_hole(block, hole);
    assert_int_equal(block_free_remotely(block, 12), FREED_FIRST);
    assert_int_equal(block_free_remotely(block, 12), FREED_TWICE); // B8
    assert_true(block_is_freed(block, 12));
    assert_false(block_is_freed(block, 13));
    block_clear_hole(block, (struct hole){12, 13}); // by hand, unasked
    assert_int_equal(block_drain_freed(block, none), 0);
    assert_int_equal(block_get(block)->live, 9); // B6
    block_set_hole(block, (struct hole){12, 13});
    assert_int_equal(block_drain_freed(block, none), 0);
    assert_true(block_is_allocated(block, 12)); // B1
    assert_true(block_check(block));
    destroy(block);
}

// What others ask of the cells of a tail is dropped: nobody has such a cell.
static void test_tail(void **state) {
    (void)state;
    uint32_t block = make(1, KIND_SCANNED);
    block_set_hole(block, (struct hole){10, 300});
    struct hole tail = {60, 200};
    static const uint32_t cells[] = {10, 59, 60, 63, 64, 127, 128, 199, 200};
    for (size_t i = 0; i < sizeof cells / sizeof *cells; i++) {
        enum freed_by by = block_free_remotely(block, cells[i]);
        assert_int_equal(by, i == 0 ? FREED_FIRST : FREED_MORE); // B8
    }
    assert_int_equal(block_drain_freed(block, tail), 3);
    for (uint32_t cell = 0; cell < 301; cell++) {
        bool is = cell > 10 && cell < 300 && cell != 59 && cell != 200;
        assert_int_equal(block_is_allocated(block, cell), is); // B2
        assert_false(block_is_freed(block, cell));
    }
    assert_int_equal(block_get(block)->live, 287); // B6
    assert_false(block_get(block)->freed_any);
    // The block is told of again.
    assert_int_equal(block_free_remotely(block, 11), FREED_FIRST);
    assert_int_equal(block_drain_freed(block, tail), 1);
    destroy(block);
}

// Before a cycle of another heap: marked is what is allocated, no more.
static void test_mark_all(void **state) {
    (void)state;
    struct gen g;
    gen_init(&g, gen_seed("block mark all"));
    for (size_t i = 0; i < CLASSES; i++) {
        uint32_t block = make(classes[i], KIND_SCANNED);
        for (uint32_t cell = 0; cell < block_cells(block); cell++) {
            if (gen_chance(&g, 50)) {
                block_set_hole(block, (struct hole){cell, cell + 1});
                object[cell] = true;
            }
        }
        block_mark_all(block);
        memcpy(marked, object, sizeof marked);
        check(block); // B4, B5
        destroy(block);
    }
}

// What the flags of a block say is read while others set them: nothing is lost,
// and what is watched stays so until somebody says otherwise.
static void *set_flags(void *data) {
    for (size_t i = 0; i < 20000; i++) {
        block_set_flags(1, *(const unsigned *)data);
        block_clear_flags(1, *(const unsigned *)data);
    }
    return NULL;
}

static void test_flags(void **state) {
    (void)state;
    uint32_t block = make(9, KIND_SCANNED);
    unsigned zero = BLOCK_ZERO, exact = BLOCK_EXACT;
    pthread_t threads[2];
    assert_int_equal(pthread_create(&threads[0], NULL, set_flags, &zero), 0);
    assert_int_equal(pthread_create(&threads[1], NULL, set_flags, &exact), 0);
    block_set_flags(block, BLOCK_WATCHED);
    assert_int_equal(pthread_join(threads[0], NULL), 0);
    assert_int_equal(pthread_join(threads[1], NULL), 0);
    assert_int_equal(block_flags(block), BLOCK_WATCHED); // B13
    destroy(block);
}

static void *free_all(void *data) {
    size_t *asked = data;
    size_t cells = block_cells(1);
    for (uint32_t i = 0; i < cells; i++) {
        uint32_t cell = (uint32_t)(i * 1579 % cells);
        *asked += block_free_remotely(1, cell) != FREED_TWICE;
    }
    return NULL;
}

// Another thread frees while the owner drains: each cell is freed once, and
// none is forgotten.
static void test_threads(void **state) {
    (void)state;
    for (size_t round = 0; round < 20; round++) {
        uint32_t block = make(1, KIND_LEAF);
        block_set_hole(block, (struct hole){0, 4096});
        size_t asked = 0;
        size_t drained = 0;
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, free_all, &asked), 0);
        while (drained < 2048) {
            drained += block_drain_freed(block, none); // B7, B8
        }
        assert_int_equal(pthread_join(thread, NULL), 0);
        drained += block_drain_freed(block, none);
        assert_int_equal(asked, 4096);
        assert_int_equal(drained, 4096);
        assert_true(block_check(block)); // B6
        assert_int_equal(block_get(block)->live, 0);
        destroy(block);
    }
}

// Entries as they are written, and what block_check is there to see.
static void test_entries(void **state) {
    (void)state;
    for (unsigned cls = CLASS_FIRST; cls <= CLASS_LAST; cls++) {
        for (unsigned kind = 0; kind < KIND_COUNT; kind++) {
            if (!block_kind_takes(kind, cls)) {
                continue;
            }
            uint32_t block = make(cls, kind);
            size_t span = block_span(block);
            for (uint32_t i = 0; i < span; i++) {
                unsigned entry = block_entry(block + i);
                assert_int_equal(ENTRY_CLASS(entry), cls);
                assert_int_equal(ENTRY_KIND(entry), kind);
                assert_int_equal(ENTRY_INDEX(entry), i);
                assert_int_equal((entry & ENTRY_LOOK_CLOSER) != 0,
                                 kind == KIND_DESCRIBED ||
                                     kind == KIND_BASE_ONLY || i != 0);
                assert_int_equal(ENTRY_SHIFT(entry),
                                 block_kind_shift(kind)); // B14
            }
            uintptr_t end = block_cell_address(block, 0) +
                            block_cells(block) * block_cell_bytes(block);
            assert_true(end <=
                        range_block_address(block + (uint32_t)span)); // B14
            assert_int_equal(
                (block_cell_address(block, 1) + block_kind_front(kind)) %
                    GRANULE_BYTES,
                0);
            uint16_t *last = &range.entries[block + span - 1];
            *last ^= (uint16_t)(1u << 7);
            assert_true(span == 1 || !block_check(block));
            *last ^= (uint16_t)(1u << 7);
            *last ^= (uint16_t)ENTRY_SHIFTED;
            assert_false(block_check(block)); // B14
            *last ^= (uint16_t)ENTRY_SHIFTED;
            destroy(block);
            assert_int_equal(block_entry(block + (uint32_t)span - 1),
                             CLASS_FREE);
        }
    }
    uint32_t block = make(3, KIND_LEAF);
    uint32_t beyond = (uint32_t)block_cells(block);
    block_pair(block, beyond / 64)[1] |= (uint64_t)1 << (beyond % 64);
    assert_false(block_check(block)); // B5
    block_pair(block, beyond / 64)[1] = 0;
    block_get(block)->live = 1;
    assert_false(block_check(block)); // B6
    destroy(block);
}

static void test_runs(void **state) {
    (void)state;
    static const size_t pages[] = {1, 15, 16, 17, 32, 33, 700};
    for (size_t i = 0; i < sizeof pages / sizeof *pages; i++) {
        size_t count = (pages[i] + 15) / 16;
        block_format_run(2, count, pages[i], KIND_SCANNED);
        assert_int_equal(block_cells(2), 1);
        assert_int_equal(block_words(2), 1);
        assert_int_equal(block_span(2), count);
        assert_int_equal(block_cell_bytes(2), pages[i] * 4096);
        assert_true(block_get(2)->flags & BLOCK_EXACT); // B12
        block_set_hole(2, (struct hole){0, 1});
        assert_true(block_check(2));
        for (uint32_t at = 1; at < count; at++) {
            assert_int_equal(ENTRY_CLASS(block_entry(2 + at)), CLASS_RUN_TAIL);
            assert_int_equal(range.distances[2 + at], at);
        }
        if (count > 1) {
            range.distances[2 + count - 1]++;
            assert_false(block_check(2));
            range.distances[2 + count - 1]--;
        }
        assert_int_equal(block_flip(2), 1); // B11
        block_clear(2);
        for (uint32_t at = 0; at < count; at++) {
            assert_int_equal(block_entry(2 + at), CLASS_FREE);
        }
    }
}

// B16: pinned cells that were not found are free, if the heap reclaims.
static void test_lost(void **state) {
    (void)state;
    uint32_t block = make(1, KIND_PINNED);
    assert_true(block_is_sought(block));
    block_set_hole(block, (struct hole){0, 100});
    block_unmark(block);
    block_pair(block, 0)[0] = 0xF0;
    assert_int_equal(block_flip(block), 0);
    assert_int_equal(block_get(block)->live, 100);
    assert_int_equal(block_flip_lost(block), 96);
    assert_int_equal(block_pair(block, 0)[1], 0xF0);
    assert_true(block_check(block));
    assert_int_equal(block_flip_lost(block), 0);
    block_unmark(block);
    assert_int_equal(block_flip_lost(block), 4);
    destroy(block);
}

// B15: a cell that is held keeps its allocation bit through any drain, until a
// flip finds it without a mark.
static void test_held(void **state) {
    (void)state;
    uint32_t block = make(1, KIND_PINNED_LEAF);
    assert_true(block_is_holding(block));
    block_set_hole(block, (struct hole){0, 200});
    for (uint32_t cell = 0; cell < 200; cell += 2) {
        assert_true(block_hold(block, cell));
        assert_false(block_hold(block, cell));
        assert_true(block_is_allocated(block, cell));
        assert_true(block_is_freed(block, cell));
    }
    assert_false(block_hold(block, 300)); // no object
    assert_false(block_is_freed(block, 300));
    assert_int_equal(block_drain_freed(block, (struct hole){0, 0}), 0);
    block_unmark(block);
    for (uint32_t cell = 0; cell < 200; cell += 4) {
        block_pair(block, cell / 64)[0] |= (uint64_t)1 << (cell % 64);
    }
    uint32_t held;
    assert_int_equal(block_flip_held(block, &held), 50);
    assert_int_equal(held, 50);
    assert_int_equal(block_get(block)->live, 150);
    for (uint32_t cell = 0; cell < 200; cell++) {
        assert_int_equal(block_is_allocated(block, cell), cell % 4 != 2);
        assert_int_equal(block_is_freed(block, cell), cell % 4 == 0);
    }
    assert_true(block_check(block));
    block_unmark(block);
    assert_int_equal(block_flip_held(block, &held), 50);
    assert_int_equal(held, 0);
    assert_int_equal(block_get(block)->live, 100);
    destroy(block);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_held),        cmocka_unit_test(test_holes),
        cmocka_unit_test(test_lost),        cmocka_unit_test(test_steps),
        cmocka_unit_test(test_freed_twice), cmocka_unit_test(test_entries),
        cmocka_unit_test(test_runs),        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_tail),        cmocka_unit_test(test_mark_all),
        cmocka_unit_test(test_flags),
    };
    return cmocka_run_group_tests(tests, make_range, NULL);
}
