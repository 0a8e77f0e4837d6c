// What others free, in every order in which it can happen: the freed bit, the
// summary and the push on the heap's stack, against the drain that takes the
// stack, clears the summary and exchanges the words.
//
// First on a model of a few words, with three actors and all schedules of their
// atomic steps; then with the code itself, which is stopped behind each of its
// instructions (support/step.h) to let others run.  No cell that somebody freed
// is lost, none is freed twice, and the block is told again when a drain has
// missed one.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "heap/block.h"
#include "heap/heap.h"
#include "support/explore.h"
#include "support/gen.h"
#include "support/step.h"

// --- The model -------------------------------------------------------------

enum { FREERS = 2, PASSES = 2, ACTORS = FREERS + 1 };

// One block with a few cells, one stack that can hold it.
struct words {
    uint8_t alloc, freed, any;
    uint8_t pushed;             // whether the block is on the stack
    uint8_t cell[FREERS];       // whom each frees
    uint8_t next[ACTORS];       // the step that each takes next
    uint8_t first[FREERS];      // whether it met the summary clear
    uint8_t passes, taken;      // of the drain
    uint8_t times_freed[8];     // of each cell
    uint8_t said_twice[FREERS]; // the answer FREED_TWICE
};

enum { DONE = 100 };

static bool clears_late; // a mistake: the summary, when the words are taken

static void step_freer(struct words *w, unsigned who) {
    uint8_t bit = (uint8_t)(1u << w->cell[who]);
    switch (w->next[who]++) {
    case 0:
        if ((w->alloc & bit) == 0) {
            w->said_twice[who] = 1;
            w->next[who] = DONE;
        }
        return;
    case 1:
        w->said_twice[who] = (w->freed & bit) != 0;
        w->freed |= bit;
        if (w->said_twice[who]) {
            w->next[who] = DONE;
        }
        return;
    case 2:
        w->first[who] = w->any == 0;
        w->any = 1;
        if (!w->first[who]) {
            w->next[who] = DONE;
        }
        return;
    default:
        w->pushed++;
        w->next[who] = DONE;
    }
}

static void step_drain(struct words *w) {
    uint8_t *next = &w->next[FREERS];
    switch ((*next)++) {
    case 0:
        if (!w->pushed) {
            break;
        }
        w->pushed = 0;
        return;
    case 1:
        if (w->any == 0) {
            break;
        }
        w->any = clears_late;
        return;
    case 2:
        w->taken = w->freed & w->alloc;
        w->freed = 0;
        return;
    default:
        w->any = clears_late ? 0 : w->any;
        w->alloc &= (uint8_t)~w->taken;
        for (unsigned cell = 0; cell < 8; cell++) {
            if ((w->taken >> cell) & 1) {
                w->times_freed[cell]++;
            }
        }
    }
    *next = ++w->passes == PASSES ? DONE : 0;
}

static bool words_step(void *state, size_t who, size_t choice) {
    struct words *w = state;
    if (w->next[who] == DONE || choice != 0) {
        return false;
    }
    if (who < FREERS) {
        step_freer(w, (unsigned)who);
    } else {
        step_drain(w);
    }
    return true;
}

static bool words_are_done(const void *state) {
    const struct words *w = state;
    return w->next[0] == DONE && w->next[1] == DONE && w->next[FREERS] == DONE;
}

// After the end, and one drain more than there was: nothing may be left.
static bool end_is_right(struct words w) {
    w.passes = PASSES - 1;
    w.next[FREERS] = 0;
    while (w.next[FREERS] != DONE) {
        step_drain(&w);
    }
    bool same = w.cell[0] == w.cell[1];
    return w.pushed == 0 && w.any == 0 && // B8
           w.freed == 0 &&                // B8: no bit without the summary
           w.times_freed[w.cell[0]] == 1 && w.times_freed[w.cell[1]] == 1 &&
           // Of two that free the same, the late one may leave a bit that is
           // dropped.
           w.said_twice[0] + w.said_twice[1] <= same &&
           w.alloc == (0xFF & ~(1u << w.cell[0] | 1u << w.cell[1]));
}

static bool words_are_right(const void *state) {
    const struct words *w = state;
    return w->pushed <= 1 && // twice would make a ring
           (!words_are_done(w) || end_is_right(*w));
}

static void test_model(void **state) {
    (void)state;
    const struct explore_model model = {
        sizeof(struct words), ACTORS,          1,
        words_step,           words_are_right, words_are_done};
    struct words start;
    memset(&start, 0, sizeof start);
    start.alloc = 0xFF;
    start.cell[0] = 3;
    for (unsigned same = 0; same < 2; same++) {
        start.cell[1] = same ? 3 : 5;
        clears_late = false;
        size_t states = explore(&model, &start, true);
        print_message("%zu states\n", states);
        assert_true(states > 100);
        clears_late = true;
        assert_int_equal(explore(&model, &start, false), 0);
    }
}

// --- The code --------------------------------------------------------------

#define CLASS 30u
#define CELLS 12u
#define PAIRS ((size_t)50)

static struct heap heap;
static uint32_t block;
static uint32_t asked; // a bit for each cell that was freed
static uint32_t twice; // answers FREED_TWICE
static uint64_t freed_bytes;

static int make_heap(void **state) {
    (void)state;
    return heap_init(&heap, NULL) && range_init(64 * MiB) && range_use_freed()
               ? 0
               : -1;
}

static void reset(void) {
    struct order order = {KIND_SCANNED, CLASS, 0};
    block = heap_make_block(&heap, order, 0);
    assert_int_not_equal(block, BLOCK_NONE);
    block_set_hole(block, (struct hole){0, CELLS});
    heap.used_bytes += CELLS * sizeclass_bytes(CLASS);
    asked = twice = 0;
    freed_bytes = heap.freed_bytes;
}

static void free_cell(uint32_t cell) {
    enum freed_by by = block_free_remotely(block, cell);
    if (by == FREED_FIRST) {
        heap_push_freed(&heap, block);
    }
    twice += by == FREED_TWICE;
    asked |= by == FREED_TWICE ? 0 : 1u << cell;
}

static void drain(void) {
    uint32_t at = heap_take_freed(&heap);
    size_t blocks = 0;
    while (at != BLOCK_NONE) {
        uint32_t next = block_get(at)->next_freed;
        assert_int_equal(at, block);
        assert_int_equal(++blocks, 1); // no ring
        heap_drain_block(&heap, at);
        at = next;
    }
}

static void finish(void) {
    drain();
    for (uint32_t cell = 0; cell < CELLS; cell++) {
        assert_int_equal(block_is_allocated(block, cell),
                         !((asked >> cell) & 1)); // B8
        assert_false(block_is_freed(block, cell));
    }
    assert_int_equal(block_get(block)->freed_any, 0);
    assert_int_equal(heap.freed_bytes - freed_bytes,
                     (size_t)__builtin_popcount(asked) *
                         sizeclass_bytes(CLASS)); // each once
    assert_true(block_check(block));              // B6
    struct census census;
    heap_prepare(&heap);
    heap_flip(&heap, &census);
    assert_int_equal(heap.used_blocks, 0);
}

// The piece under test, and what runs in its midst: `one` behind instruction i,
// `other` behind instruction j.
struct schedule {
    void (*one)(void), (*other)(void);
    size_t i, j, last;
};

static void free_2(void) {
    free_cell(2);
}

static void free_3(void) {
    free_cell(3);
}

static void between(size_t instructions, void *data) {
    struct schedule *schedule = data;
    schedule->last = instructions;
    if (instructions == schedule->i) {
        schedule->one();
    }
    if (instructions == schedule->j) {
        schedule->other();
    }
}

static void body_free(void *data) {
    (void)data;
    free_cell(2);
}

static void body_drain(void *data) {
    (void)data;
    uint32_t at = heap_take_freed(&heap);
    if (at != BLOCK_NONE) {
        uint32_t count = block_drain_freed(at, (struct hole){0, 0});
        size_t bytes = count * sizeclass_bytes(CLASS);
        heap.freed_bytes += bytes;
        heap.used_bytes -= bytes;
    }
}

// Whether the machine can be stepped.
static bool run(void (*body)(void *), struct schedule *schedule) {
    reset();
    free_cell(0); // told already, or drained by whoever is first
    bool stepped = step_run(body, between, schedule);
    finish();
    return stepped;
}

// Both behind every instruction; then in places drawn at random, since a step
// is a signal, and all pairs would be too many.
static bool run_all(void (*body)(void *), void (*one)(void),
                    void (*other)(void)) {
    struct gen g;
    gen_init(&g, gen_seed("block_schedules"));
    struct schedule schedule = {.one = one, .other = other, .last = 1};
    for (size_t i = 1; i <= schedule.last; i++) {
        schedule.i = schedule.j = i;
        if (!run(body, &schedule)) {
            return false;
        }
    }
    for (size_t pair = 0; pair < PAIRS; pair++) {
        schedule.i = 1 + gen_below(&g, schedule.last);
        schedule.j = schedule.i + gen_below(&g, schedule.last - schedule.i + 1);
        if (!run(body, &schedule)) {
            return false;
        }
    }
    return true;
}

static void test_code(void **state) {
    (void)state;
    bool stepped = run_all(body_free, drain, free_3) &&
                   run_all(body_free, free_3, drain) &&
                   run_all(body_free, drain, drain) &&
                   run_all(body_free, drain, free_2) && // the same cell
                   run_all(body_free, free_2, drain);
    if (!stepped) {
        skip();
    }
}

static void test_drain(void **state) {
    (void)state;
    if (!run_all(body_drain, free_2, free_3) ||
        !run_all(body_drain, free_2, free_2)) {
        skip();
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_code),
        cmocka_unit_test(test_drain),
    };
    return cmocka_run_group_tests(tests, make_heap, NULL);
}
