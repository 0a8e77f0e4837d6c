// Random rings taken apart, in slices of every size, with destructors and
// finalizers that look at what they may see; finalizers that bring members
// back, against reachability.

#include "rc/reclaim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "support/folk_drain.h"
#include "support/gen.h"

#define NODES  ((size_t)(LOAM_TINY ? 30 : 200))
#define ROUNDS ((size_t)(LOAM_TINY ? 60 : 200))

static struct ground ground;
static struct count_domain domain;
static const struct kinds_type *types[3]; // plain, with code, with a finalizer
static struct folk_node *nodes[NODES],
    *beside; // owned by the ring, and outside
static void *visited_items[NODES], *live_items[NODES],
    *suspect_items[8 * NODES];
static size_t destroyed[NODES + 1], finalized[NODES];
static bool saved[NODES], lives[NODES];
static struct gen gen;
static unsigned luck; // percent of finalizers that save their object

// RE2: every member that was not saved is whole, and nobody's memory is free.
static void look_around(const struct folk_node *node) {
    for (size_t i = 0; i < 2; i++) {
        const struct folk_node *peer = node->slots[i];
        if (peer != NULL) {
            assert_ptr_equal(nodes[peer->number], peer);
            assert_int_not_equal(counted_type(peer), 0);
            assert_int_not_equal(counted_type(peer), COUNTED_ZOMBIE);
        }
    }
}

static void destroy(void *object) {
    struct folk_node *node = object;
    assert_int_equal(destroyed[node->number]++, 0);
    assert_true(counted_flags(node) & COUNTED_DEAD); // RE1
    look_around(node);
    if (gen_chance(&gen, 20) && node->slots[0] != NULL) { // by hand
        struct folk_node *peer = node->slots[0];
        node->slots[0] = NULL;
        assert_int_equal(count_release(&domain, peer), COUNT_FINE);
    }
}

static void finalize(void *object) {
    struct folk_node *node = object;
    assert_int_equal(finalized[node->number]++, 0);
    for (size_t i = 0; i < NODES; i++) { // RE1
        assert_true(counted_flags(nodes[i]) & COUNTED_DONE);
        assert_int_equal(destroyed[i], 0);
    }
    look_around(node);
    if (gen_chance(&gen, luck)) {
        folk_retain(&domain, node);
        saved[node->number] = true;
    }
}

static void spread(size_t i) {
    if (lives[i]) {
        return;
    }
    lives[i] = true;
    for (size_t slot = 0; slot < 2; slot++) {
        struct folk_node *owned = nodes[i]->slots[slot];
        if (owned != NULL && owned != beside) {
            spread(owned->number);
        }
    }
}

// A ring through all nodes by slot 0; slot 1 leads anywhere.
static void build(size_t kinds) {
    memset(destroyed, 0, sizeof destroyed);
    memset(finalized, 0, sizeof finalized);
    memset(saved, 0, sizeof saved);
    memset(lives, 0, sizeof lives);
    folk_room(&domain.suspects, suspect_items, 8 * NODES);
    domain.figures = (struct count_figures){0};
    for (size_t i = 0; i < NODES; i++) {
        nodes[i] = folk_make(&ground, &domain, types[gen_below(&gen, kinds)]);
        nodes[i]->number = i;
    }
    for (size_t i = 0; i < NODES; i++) {
        nodes[i]->slots[0] = nodes[(i + 1) % NODES]; // takes the owner over
        if (gen_chance(&gen, 50)) {
            folk_own(&domain, nodes[i], 1, nodes[gen_below(&gen, NODES)]);
        }
    }
}

static void take_all(struct trial *trial) {
    *trial = (struct trial){.visited = {visited_items, 0, NODES},
                            .live = {live_items, 0, NODES}};
    assert_true(trial_add(trial, nodes[gen_below(&gen, NODES)]));
    while (trial_step(trial, 50) == TRIAL_MORE) {
    }
    assert_int_equal(trial_take(trial), NODES);
}

static void test_whole(void **state) {
    (void)state;
    luck = 0;
    for (size_t round = 0; round < ROUNDS; round++) {
        size_t kinds = 1 + round % 3;
        build(kinds);
        struct trial trial;
        take_all(&trial);
        assert_true(trial.has_code || kinds == 1);
        struct reclaim reclaim = {.phase = RECLAIM_IDLE};
        reclaim_begin(&reclaim, &trial, false);
        size_t freed_bytes = folk_freed_bytes(&domain);
        folk_reclaim(&reclaim, &trial, &domain,
                     1 + gen_below(&gen, 2 * NODES)); // RE4
        freed_bytes = folk_freed_bytes(&domain) - freed_bytes;
        assert_int_equal(domain.figures.in_rings, NODES);
        assert_int_equal(domain.figures.destroyed, NODES);
        assert_int_equal(freed_bytes, NODES * 32);
        ground_clear(&ground);
    }
}

static void test_back(void **state) {
    (void)state;
    for (size_t round = 0; round < ROUNDS; round++) {
        luck = (unsigned)(round % 4);
        build(3);
        struct trial trial;
        take_all(&trial);
        struct reclaim reclaim = {.phase = RECLAIM_IDLE};
        reclaim_begin(&reclaim, &trial, false);
        folk_reclaim(&reclaim, &trial, &domain, 1 + gen_below(&gen, NODES));
        for (size_t i = 0; i < NODES; i++) {
            if (saved[i]) {
                spread(i);
            }
        }
        for (size_t i = 0; i < NODES; i++) {
            assert_true(!lives[i] || destroyed[i] == 0); // RE3
            if (!lives[i]) {
                assert_int_equal(counted_type(nodes[i]), 0); // freed
                continue;
            }
            size_t owners = saved[i];
            for (size_t j = 0; j < NODES; j++) {
                owners += lives[j] && nodes[j]->slots[0] == nodes[i];
                owners += lives[j] && nodes[j]->slots[1] == nodes[i];
            }
            assert_int_equal(count_get(nodes[i]), owners);
            assert_false(counted_flags(nodes[i]) & COUNTED_DEAD);
        }
        ground_clear(&ground);
    }
}

// What a ring owns beside itself is released, once for each slot.
static void test_beside(void **state) {
    (void)state;
    luck = 0;
    for (size_t kinds = 1; kinds <= 3; kinds++) {
        build(kinds);
        beside = folk_make(&ground, &domain, types[1]);
        beside->number = NODES;
        size_t slots = 0;
        for (size_t i = 0; i < NODES; i++) {
            if (nodes[i]->slots[1] == NULL) {
                folk_own(&domain, nodes[i], 1, beside);
                slots++;
            }
        }
        // It is owned from here, too.
        static void *more_visited[NODES + 1], *more_live[NODES + 1];
        struct trial trial = {.visited = {more_visited, 0, NODES + 1},
                              .live = {more_live, 0, NODES + 1}};
        assert_true(trial_add(&trial, nodes[0]));
        while (trial_step(&trial, 50) == TRIAL_MORE) {
        }
        assert_int_equal(trial_take(&trial), NODES);
        assert_int_equal(count_get(beside), 1 + slots);
        struct reclaim reclaim = {.phase = RECLAIM_IDLE};
        // Destructors look at their peers, of which this is none.
        for (size_t i = 0; i < NODES && kinds > 1; i++) {
            if (nodes[i]->slots[1] == beside) {
                nodes[i]->slots[1] = NULL;
                assert_int_equal(count_release(&domain, beside), COUNT_FINE);
            }
        }
        reclaim_begin(&reclaim, &trial, false);
        folk_reclaim(&reclaim, &trial, &domain, 7);
        assert_int_equal(count_get(beside), 1);
        assert_int_equal(destroyed[NODES], 0);
        assert_int_equal(count_release(&domain, beside), COUNT_FINE);
        folk_drain(&domain, SIZE_MAX);
        assert_int_equal(destroyed[NODES], 1);
        ground_clear(&ground);
    }
}

static int set_up(void **state) {
    (void)state;
    gen_init(&gen, gen_seed("reclaim"));
    if (!ground_init(&ground, 64 * MiB)) {
        return -1;
    }
    folk_domain(&domain, &ground);
    types[0] = folk_type(0, NULL, NULL);
    types[1] = folk_type(0, destroy, NULL);
    types[2] = folk_type(0, destroy, finalize);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_whole),
                                       cmocka_unit_test(test_back),
                                       cmocka_unit_test(test_beside)};
    return cmocka_run_group_tests(tests, set_up, NULL);
}
