// The pacer as arithmetic: its laws over random and absurd numbers, and whole
// programs played against it.
//
// `test_pacer table` prints what the programs cost, as in the chapter.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "collect/pacer.h"
#include "support/gen.h"

#define FLOOR_BYTES (256 * KiB)

// --- Laws ------------------------------------------------------------------

// A number of any size, and those where arithmetic ends.
static size_t any_size(struct gen *gen) {
    static const size_t ends[] = {0,
                                  1,
                                  SIZE_MAX,
                                  SIZE_MAX - 1,
                                  SIZE_MAX / 2,
                                  SIZE_MAX / 2 + 1,
                                  (size_t)PTRDIFF_MAX,
                                  UINT32_MAX,
                                  (size_t)UINT32_MAX + 1};
    if (gen_chance(gen, 15)) {
        return ends[gen_below(gen, sizeof ends / sizeof *ends)];
    }
    return (size_t)gen_next(gen) >> gen_below(gen, 64);
}

static struct pacer_cycle any_cycle(struct gen *gen) {
    return (struct pacer_cycle){
        .live_bytes = any_size(gen),
        .block_bytes = any_size(gen),
        .other_bytes = any_size(gen),
        .allocated_bytes = any_size(gen),
        .mutator_ns = any_size(gen),
        .mark_ns = any_size(gen),
    };
}

static size_t add(size_t a, size_t b) {
    return a > SIZE_MAX - b ? SIZE_MAX : a + b;
}

// W and max(W, sqrt(2 * W * ROOM)), times percent / 100, in floating point and
// rounded the wrong way on purpose; the root is compared as a square.
static void check_bounds(size_t room, size_t work, uint32_t percent) {
    double scale = (double)percent / 100;
    double least = (double)work * scale;
    least = least < (double)SIZE_MAX ? least : (double)SIZE_MAX;
    double slack = 2 * KiB * (1 + scale) + (double)work * 1e-9;
    assert_true((double)room >= least - slack); // P4
    double over = ((double)room - slack) / scale;
    double square = 2 * ((double)work + KiB) * (double)PACER_ROOM_BYTES;
    assert_true(over <= (double)work || over * over <= square); // P4
}

static void check_goal(const struct pacer *pacer,
                       const struct pacer_cycle *cycle) {
    size_t limit = pacer->limit_bytes;
    size_t work = add(cycle->live_bytes, cycle->other_bytes / 8);
    size_t room = pacer_room(pacer, work);
    check_bounds(room, work, pacer->growth_percent);
    size_t step = room / 4 > pacer->floor_bytes ? room / 4 : pacer->floor_bytes;
    step = cycle->block_bytes / 8 > step ? cycle->block_bytes / 8 : step;
    if (limit != 0 && pacer->goal_bytes == limit) {
        return;
    }
    assert_true(limit == 0 || pacer->goal_bytes < limit);
    assert_true(pacer->goal_bytes >= pacer->floor_bytes);            // P1
    assert_true(pacer->goal_bytes >= add(cycle->block_bytes, step)); // P2
    assert_true(pacer->goal_bytes >= cycle->live_bytes);
    if (limit != 0) { // P6
        assert_true(pacer->goal_bytes >=
                    add(cycle->live_bytes, add(work, work)));
    }
}

// P1, P2, P4, P5: for any history, also one that never was.
static void test_absurd(void **state) {
    (void)state;
    struct gen gen;
    gen_init(&gen, gen_seed("pacer"));
    for (size_t round = 0; round < 20000; round++) {
        struct pacer pacer;
        size_t floor_bytes =
            gen_chance(&gen, 50) ? FLOOR_BYTES : any_size(&gen);
        pacer_init(&pacer, floor_bytes,
                   10 + (uint32_t)gen_below(&gen, 991)); // as the option allows
        assert_int_equal(pacer.goal_bytes, floor_bytes);
        for (size_t i = 0; i < 8; i++) {
            pacer.limit_bytes = gen_chance(&gen, 30) ? any_size(&gen) : 0;
            struct pacer_cycle cycle = any_cycle(&gen);
            pacer_finish(&pacer, &cycle); // P5
            check_goal(&pacer, &cycle);
            size_t goal = pacer.goal_bytes;
            size_t grown = any_size(&gen);
            pacer_outgrown(&pacer, grown);
            assert_true(pacer.goal_bytes >= goal ||
                        pacer.goal_bytes == pacer.limit_bytes);
            assert_true(pacer.goal_bytes >= grown ||
                        pacer.goal_bytes == pacer.limit_bytes);
            // Outgrown: a quarter more is granted, once.
            size_t wanted = grown > goal ? add(grown, grown / 4) : goal;
            assert_true(pacer.goal_bytes == wanted ||
                        pacer.goal_bytes == pacer.limit_bytes);
            size_t more = any_size(&gen);
            assert_int_equal(pacer_may_grow(&pacer, grown, more),
                             more <= SIZE_MAX - grown &&
                                 grown + more <= pacer.goal_bytes);
        }
    }
}

// P4: more to mark never means less room, faster allocation never less, faster
// marking never more.
static void test_monotone(void **state) {
    (void)state;
    struct gen gen;
    gen_init(&gen, gen_seed("monotone"));
    for (size_t round = 0; round < 20000; round++) {
        struct pacer pacer;
        pacer_init(&pacer, FLOOR_BYTES, 100);
        pacer.allocate_rate =
            1 + (gen_next(&gen) >> (24 + gen_below(&gen, 40)));
        pacer.mark_rate = 1 + (gen_next(&gen) >> (24 + gen_below(&gen, 40)));
        size_t work = gen_next(&gen) >> (gen_below(&gen, 50) + 4);
        size_t room = pacer_room(&pacer, work);
        // By whole KiB, in which the root is taken.
        assert_true(pacer_room(&pacer, work + work / 8 + KiB) >= room);
        struct pacer faster = pacer;
        faster.allocate_rate *= 2;
        assert_true(pacer_room(&faster, work) >= room);
        faster = pacer;
        faster.mark_rate *= 2;
        assert_true(pacer_room(&faster, work) <= room);
    }
}

// --- Programs --------------------------------------------------------------

// A heap of numbers: bytes in objects, and in blocks with the dead among them.
struct play {
    struct pacer pacer;
    size_t live_bytes;      // what a collection would find alive
    size_t used_bytes;      // and what is there
    size_t block_bytes;     // in blocks
    size_t most_bytes;      // the most so far
    size_t allocated_bytes; // since the last cycle
    size_t cycles;
    uint64_t marked_bytes; // in all cycles
    uint64_t total_bytes;  // allocated in all
};

#define ALLOCATE_NS_PER_KIB 400 // some 2.5 GB a second
#define MARK_NS_PER_KIB     500

static struct play play_begin(uint32_t percent) {
    struct play play = {0};
    pacer_init(&play.pacer, FLOOR_BYTES, percent);
    return play;
}

static void play_collect(struct play *play) {
    struct pacer_cycle cycle = {
        .live_bytes = play->live_bytes,
        .other_bytes = 100 * KiB,
        .allocated_bytes = play->allocated_bytes,
        .mutator_ns = play->allocated_bytes / KiB * ALLOCATE_NS_PER_KIB,
        .mark_ns = play->live_bytes / KiB * MARK_NS_PER_KIB,
    };
    play->used_bytes = play->live_bytes;
    // Blocks that still hold something stay: at most a tenth more than lives.
    size_t most = play->live_bytes + play->live_bytes / 10;
    play->block_bytes = play->block_bytes < most ? play->block_bytes : most;
    cycle.block_bytes = play->block_bytes;
    pacer_finish(&play->pacer, &cycle);
    play->allocated_bytes = 0;
    play->cycles++;
    play->marked_bytes += play->live_bytes;
}

// Allocates `bytes`, of which `kept` stay alive.
static void play_allocate(struct play *play, size_t bytes, size_t kept) {
    size_t over = play->block_bytes - play->used_bytes;
    size_t fresh = bytes > over ? bytes - over : 0;
    if (!pacer_may_grow(&play->pacer, play->block_bytes, fresh)) {
        play_collect(play);
        if (!pacer_may_grow(&play->pacer, play->block_bytes, fresh)) {
            pacer_outgrown(&play->pacer, play->block_bytes + fresh);
        }
        over = play->block_bytes - play->used_bytes;
        fresh = bytes > over ? bytes - over : 0;
    }
    play->block_bytes += fresh;
    play->used_bytes += bytes;
    play->live_bytes += kept;
    play->allocated_bytes += bytes;
    play->total_bytes += bytes;
    if (play->block_bytes > play->most_bytes) {
        play->most_bytes = play->block_bytes;
    }
}

static void play_drop(struct play *play, size_t bytes) {
    play->live_bytes -= bytes < play->live_bytes ? bytes : play->live_bytes;
}

static struct play play_build(size_t bytes, uint32_t percent) {
    struct play play = play_begin(percent);
    for (size_t done = 0; done < bytes; done += 16 * KiB) {
        play_allocate(&play, 16 * KiB, 16 * KiB);
    }
    return play;
}

// Keeps `live` bytes and allocates `factor` times as much that dies at once.
static struct play play_churn(size_t live, size_t factor, uint32_t percent) {
    struct play play = play_build(live, percent);
    play.cycles = 0;
    play.marked_bytes = play.total_bytes = 0;
    for (size_t done = 0; done < live * factor; done += 16 * KiB) {
        play_allocate(&play, 16 * KiB, 0);
    }
    return play;
}

static size_t log2_up(size_t n) {
    size_t log = 0;
    while (((size_t)1 << log) < n) {
        log++;
    }
    return log;
}

// P3: building H bytes that live takes at most 1 + log2(H / floor) cycles.
static void test_build(void **state) {
    (void)state;
    for (size_t size = FLOOR_BYTES; size <= 4 * GiB; size += size / 3) {
        struct play play = play_build(size, 100);
        size_t most = 1 + log2_up((size + FLOOR_BYTES - 1) / FLOOR_BYTES);
        assert_in_range(play.cycles, 0, most); // P3
        assert_true(play.most_bytes >= size && play.most_bytes <= size + MiB);
    }
    assert_in_range(play_build(GiB, 100).cycles, 1, 13); // P3 again, in full
    // And a sixteenth of what is built may die meanwhile.
    struct play play = play_begin(100);
    for (size_t done = 0; done < GiB; done += 16 * KiB) {
        play_allocate(&play, 16 * KiB, 15 * KiB);
    }
    assert_in_range(play.cycles, 1, 13);
}

// A program that keeps what it has: the heap stays below 1.75 times that and a
// tenth for holes, and each byte allocated costs at most 1 / 0.375 marked.
static void test_churn(void **state) {
    (void)state;
    for (size_t live = 8 * MiB; live <= 4 * GiB; live *= 4) {
        struct play play = play_churn(live, 10, 100);
        // The building may have left the goal at twice what lives.
        assert_true(play.most_bytes <= live * 2 + live / 4);
        assert_true((double)play.marked_bytes <=
                    (double)play.total_bytes / 0.375 * 1.3 + (double)live);
        assert_true(play.cycles > 0);
        // Less growth, more cycles; more growth, fewer.
        assert_true(play_churn(live, 10, 50).cycles > play.cycles);
        assert_true(play_churn(live, 10, 300).cycles < play.cycles);
    }
}

// A program that grows to 200 MiB and shrinks to 2, over and over: the goal
// follows it down, never below the floor, and the doubling does not run away.
static void test_swing(void **state) {
    (void)state;
    struct play play = play_begin(100);
    for (size_t swing = 0; swing < 30; swing++) {
        for (size_t up = 0; up < 200 * MiB; up += 64 * KiB) {
            play_allocate(&play, 64 * KiB, 64 * KiB);
        }
        play_drop(&play, 198 * MiB);
        for (size_t idle = 0; idle < 500 * MiB; idle += 64 * KiB) {
            play_allocate(&play, 64 * KiB, 0);
        }
        assert_true(play.live_bytes < 100 * MiB);
        assert_true(play.pacer.goal_bytes >= FLOOR_BYTES); // P1
        assert_true(play.pacer.goal_bytes <= 120 * MiB);
        play_drop(&play, play.live_bytes - 2 * MiB);
    }
    assert_true(play.most_bytes <= 520 * MiB);
}

// One object larger than the room, again and again: at most one cycle for each,
// and a quarter of it granted above.
static void test_huge(void **state) {
    (void)state;
    struct play play = play_build(20 * MiB, 100);
    play.cycles = 0;
    for (size_t i = 0; i < 100; i++) {
        play_allocate(&play, 300 * MiB, 0);
        assert_true(play.cycles <= i + 1);
        assert_true(play.pacer.goal_bytes >= play.block_bytes);
    }
    assert_true(play.most_bytes <= 800 * MiB);
}

// Holes nobody asks for: blocks stay twice what lives, and P2 keeps the program
// from collecting at every block.
static void test_holes(void **state) {
    (void)state;
    struct pacer pacer;
    pacer_init(&pacer, FLOOR_BYTES, 100);
    size_t live = 100 * MiB, blocks = 300 * MiB, cycles = 0;
    for (size_t done = 0; done < 300 * MiB; done += 64 * KiB) {
        if (!pacer_may_grow(&pacer, blocks, 64 * KiB)) {
            struct pacer_cycle cycle = {
                .live_bytes = live, .block_bytes = blocks, .mark_ns = 1000000};
            pacer_finish(&pacer, &cycle);
            assert_true(pacer_may_grow(&pacer, blocks, 64 * KiB)); // P2
            cycles++;
        }
        blocks += 64 * KiB;
    }
    assert_in_range(cycles, 1, 300 / (100 / 4) + 1);
}

// The goal of a program that keeps nothing, allocates a MiB in 100 us, and
// whose threads take `stand_ns` to stand.
static size_t goal_with_stops(uint64_t stand_ns) {
    struct pacer pacer;
    pacer_init(&pacer, FLOOR_BYTES, 100);
    for (size_t i = 0; i < 50; i++) {
        struct pacer_cycle cycle = {.allocated_bytes = MiB,
                                    .mutator_ns = 100000,
                                    .mark_ns = 5000,
                                    .stand_ns = stand_ns};
        pacer_finish(&pacer, &cycle);
    }
    return pacer.goal_bytes;
}

// P7: no more than a sixteenth of the time goes into stops, up to 8 MiB.
static void test_stops(void **state) {
    (void)state;
    size_t quiet = goal_with_stops(0);
    assert_true(goal_with_stops(1000) >= quiet);
    size_t worked = goal_with_stops(20000); // 16 times: 3.2 MiB
    assert_in_range(worked, 3 * MiB, 4 * MiB);
    size_t slow = goal_with_stops(10000000);
    assert_in_range(slow, 8 * MiB, 8 * MiB + FLOOR_BYTES + quiet);
}

// --- The table of the chapter ----------------------------------------------

static void print_row(const char *what, const struct play *play, size_t live) {
    printf("| %s | %zu | %.2f | %.2f |\n", what, play->cycles,
           (double)play->most_bytes / (double)live,
           (double)play->marked_bytes / (double)play->total_bytes);
}

static int print_table(void) {
    printf("| program | cycles | most blocks / live | marked / allocated |\n");
    printf("|---|---|---|---|\n");
    for (size_t live = MiB; live <= 4 * GiB; live *= 64) {
        char what[80];
        struct play play = play_build(live, 100);
        snprintf(what, sizeof what, "builds %zu MiB", live / MiB);
        print_row(what, &play, live);
        for (uint32_t percent = 50; percent <= 200; percent *= 2) {
            play = play_churn(live, 10, percent);
            snprintf(what, sizeof what, "churns %zu MiB, growth %u %%",
                     live / MiB, percent);
            print_row(what, &play, live);
        }
    }
    return 0;
}

// P8: what waits to be freed raises no goal by itself.
static void test_pending(void **state) {
    (void)state;
    struct pacer pacer;
    pacer_init(&pacer, 256 * KiB, 100);
    struct pacer_cycle cycle = {.live_bytes = 64 * KiB,
                                .pending_bytes = 100 * MiB,
                                .block_bytes = 160 * MiB,
                                .allocated_bytes = 50 * MiB};
    pacer_finish(&pacer, &cycle);
    assert_int_equal(pacer.goal_bytes, cycle.block_bytes);
    cycle.block_bytes = 100 * MiB + 80 * KiB; // 16 KiB are free
    pacer_finish(&pacer, &cycle);
    assert_true(pacer.goal_bytes > cycle.block_bytes);
    cycle.pending_bytes = KiB;
    cycle.block_bytes = 128 * KiB;
    pacer_finish(&pacer, &cycle);
    assert_true(pacer.goal_bytes <= 64 * MiB);
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "table") == 0) {
        return print_table();
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_absurd),  cmocka_unit_test(test_monotone),
        cmocka_unit_test(test_build),   cmocka_unit_test(test_churn),
        cmocka_unit_test(test_swing),   cmocka_unit_test(test_huge),
        cmocka_unit_test(test_holes),   cmocka_unit_test(test_stops),
        cmocka_unit_test(test_pending),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
