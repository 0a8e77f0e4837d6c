// The blocks that are kept, in every order in which they can be taken and made
// good: handlers that need no lock against whoever has it.
//
// First on a model of a few words; then with the code itself, which is stopped
// behind its instructions (support/step.h) to let the other run.  No block is
// given out twice, none is lost, and what is missing is known to be.

#include "roots/reserve.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "heap/block.h"
#include "heap/blockmap.h"
#include "support/explore.h"
#include "support/gen.h"
#include "support/ground.h"
#include "support/step.h"

static struct ground ground;
static struct reserve *reserve;

// --- The model -------------------------------------------------------------

// Two handlers, each of which
// takes a block twice, and who has the lock and lets go of it three times.
enum { TAKERS = 2, BLOCKS = 7, KEPT = 2, UNLOCKS = 3 };

struct words {
    uint8_t from, end;                           // the stretch: one word
    uint8_t asked;                               // the flag
    uint8_t is_free;                             // blocks of the region
    uint8_t given[TAKERS];                       // blocks that each has
    uint8_t twice;                               // some block was given twice
    uint8_t seen_from[TAKERS], seen_end[TAKERS]; // what each loaded
    uint8_t at[TAKERS + 1];                      // the next step of each
    uint8_t takes[TAKERS], unlocks;
    uint8_t count; // that the holder of the lock found
};

enum { LOAD, EXCHANGE, TELL };
enum { LOOK, CLEAR, COUNT, RETURN, FILL };

static bool step_taker(struct words *w, size_t who) {
    if (w->takes[who] == 2) {
        return false;
    }
    switch (w->at[who]) {
    case LOAD:
        w->seen_from[who] = w->from;
        w->seen_end[who] = w->end;
        w->at[who] = w->from == w->end ? TELL : EXCHANGE;
        return true;
    case EXCHANGE:
        if (w->seen_from[who] != w->from || w->seen_end[who] != w->end) {
            w->at[who] = LOAD;
            return true;
        }
        w->twice |= w->given[0] | w->given[1] | w->is_free;
        w->twice &= (uint8_t)(1u << w->from);
        w->given[who] |= (uint8_t)(1u << w->from++);
        if (w->from == w->end) {
            w->from = w->end = 0;
        }
        w->at[who] = TELL;
        return true;
    default:
        w->asked = 1;
        w->at[who] = LOAD;
        w->takes[who]++;
        return true;
    }
}

static void fill(struct words *w) {
    for (uint8_t at = 0; at + KEPT <= BLOCKS; at++) {
        uint8_t mask = (uint8_t)(3u << at);
        if ((w->is_free & mask) == mask) {
            w->is_free &= (uint8_t)~mask;
            w->from = at;
            w->end = (uint8_t)(at + KEPT);
            return;
        }
    }
}

static bool step_holder(struct words *w) {
    if (w->unlocks == UNLOCKS) {
        return false;
    }
    uint8_t *at = &w->at[TAKERS];
    uint8_t next = (uint8_t)(*at + 1);
    switch (*at) {
    case LOOK:
        if (!w->asked) {
            next = LOOK;
            w->unlocks++;
        }
        break;
    case CLEAR:
        w->asked = 0;
        break;
    case COUNT:
        w->count = (uint8_t)(w->end - w->from);
        if (w->count == KEPT) {
            next = LOOK;
            w->unlocks++;
        }
        break;
    case RETURN:
        for (; w->from < w->end; w->from++) {
            w->is_free |= (uint8_t)(1u << w->from);
        }
        w->from = w->end = 0;
        break;
    default:
        fill(w);
        w->unlocks++;
        next = LOOK;
    }
    *at = next;
    return true;
}

static bool step_words(void *state, size_t thread, size_t choice) {
    (void)choice;
    struct words *w = state;
    return thread < TAKERS ? step_taker(w, thread) : step_holder(w);
}

static bool words_are_right(const void *state) {
    const struct words *w = state;
    uint8_t kept = 0;
    for (uint8_t at = w->from; at < w->end; at++) {
        kept |= (uint8_t)(1u << at);
    }
    // V4
    bool apart = (w->given[0] & w->given[1]) == 0 &&
                 ((w->given[0] | w->given[1]) & (kept | w->is_free)) == 0 &&
                 (kept & w->is_free) == 0 && w->twice == 0;
    bool idle = w->at[0] == LOAD && w->at[1] == LOAD && w->at[TAKERS] == LOOK;
    // V7: what is missing is known to be
    bool known = !idle || w->asked || w->end - w->from == KEPT;
    return apart && known;
}

static bool words_are_done(const void *state) {
    const struct words *w = state;
    return w->unlocks == UNLOCKS && w->takes[0] == 2 && w->takes[1] == 2;
}

static void test_model(void **state) {
    (void)state;
    struct words first;
    memset(&first, 0, sizeof first);
    first.end = KEPT;
    first.is_free = (uint8_t)((1u << BLOCKS) - 1 - 3);
    struct explore_model model = {.state_bytes = sizeof first,
                                  .threads = TAKERS + 1,
                                  .choices = 1,
                                  .step = step_words,
                                  .is_right = words_are_right,
                                  .is_done = words_are_done};
    size_t states = explore(&model, &first, true);
    print_message("%zu states\n", states);
    assert_true(states > 500);
}

// --- The code --------------------------------------------------------------

// A handler behind each instruction of a top-up, and a top-up
// behind each of a handler's.
static uint32_t taken[4 * RESERVE_BLOCKS_MAX];
static size_t taken_count;

#define RUN_BLOCKS ((size_t)2)

static void take_one(void *data) {
    (void)data;
    size_t level = reserve_enter(reserve, 1);
    struct reserve_order order = {&ground.heap, KIND_LEAF,
                                  RUN_BLOCKS * BLOCK_BYTES, 1};
    bool zero;
    void *run = reserve_bring(reserve, level, &order, false, &zero);
    reserve_leave(reserve);
    if (run != NULL) {
        struct place place;
        assert_non_null(blockmap_object((uintptr_t)run, &place));
        for (size_t i = 0; i < taken_count; i++) {
            assert_int_not_equal(taken[i], place.block); // V4
        }
        taken[taken_count++] = place.block;
    }
}

static void take_now(size_t instructions, void *data) {
    if (instructions == *(size_t *)data) {
        take_one(NULL);
        step_end();
    }
}

static void top_up(void *data) {
    (void)data;
    reserve_top_up();
}

// Gives all back and takes it anew: what a handler takes meanwhile is not given
// back.
static void keep_anew(void *data) {
    (void)data;
    reserve_keep(&ground.heap.region, RESERVE_BLOCKS);
}

static void top_up_now(size_t instructions, void *data) {
    if (instructions == *(size_t *)data) {
        reserve_top_up();
        step_end();
    }
}

static size_t longest;

static void measure(size_t instructions, void *data) {
    (void)data;
    longest = instructions;
}

// Runs `body` with `between` behind one of its instructions, or 0 for none;
// afterwards nothing is lost.
static bool interrupt_at(void (*body)(void *data), step_between *between,
                         size_t at) {
    struct region *region = &ground.heap.region;
    reserve_top_up();
    reserve_keep(region, RESERVE_BLOCKS);
    size_t before = region->used_blocks;
    taken_count = 0;
    take_one(NULL);
    bool did = step_run(body, between, &at);
    size_t used =
        before - RESERVE_BLOCKS + taken_count * RUN_BLOCKS + reserve_count();
    assert_int_equal(region->used_blocks, used);
    assert_true(reserve_was_asked() ||
                reserve_count() == reserve_kept.wanted); // V7
    assert_true(region_check(region));
    reserve_give_up(reserve);
    for (size_t i = 0; i < taken_count; i++) {
        // The object is nobody's: its block goes back.
        block_clear_hole(taken[i], (struct hole){0, 1});
        heap_release_block(&ground.heap, taken[i]);
    }
    return did;
}

// Steps are slow: other instructions in every run of the test.
static void interrupt(void (*body)(void *data), step_between *between) {
    struct gen gen;
    gen_init(&gen, gen_seed("test_reserve"));
    if (!interrupt_at(body, measure, 0)) {
        skip();
    }
    size_t stride = 1 + longest / 100;
    size_t at = 1 + gen_below(&gen, stride);
    for (; at <= longest; at += stride) {
        assert_true(interrupt_at(body, between, at));
    }
    print_message("%zu instructions\n", longest);
}

static void test_interrupted(void **state) {
    (void)state;
    interrupt(top_up, take_now);
    interrupt(keep_anew, take_now);
    interrupt(take_one, top_up_now);
}

int main(void) {
    if (!ground_init(&ground, 256 * MiB)) {
        return 77;
    }
    reserve = &ground.mutator->reserve;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_interrupted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
