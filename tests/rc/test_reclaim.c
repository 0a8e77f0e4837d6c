// Random rings taken apart, in slices of every size, with destructors and
// finalizers that look at what they may see; finalizers that bring members
// back, against reachability; what the tracer found, of which finalizers are
// shown a part.

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
// Plain, with code, with a finalizer; with one, and atomic or biased.
static const struct kinds_type *types[5];
static const struct kinds_type *traced_type; // traced memory may hold it
static struct count_domain other;            // another thread's
static struct folk_node *nodes[NODES],
    *beside; // owned by the ring, and outside
static void *visited_items[NODES], *live_items[NODES],
    *suspect_items[8 * NODES];
static size_t destroyed[NODES + 1], finalized[NODES];
static bool saved[NODES], lives[NODES];
static bool is_traced[NODES], is_shown[NODES], has_code[NODES];
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
        assert_int_equal((counted_flags(nodes[i]) & COUNTED_CONDEMNED) != 0,
                         is_traced[i] && !is_shown[i]); // RE6
    }
    look_around(node);
    if (gen_chance(&gen, luck)) {
        if (counted_of(node)->word & COUNTED_OTHER) { // RE5
            assert_true(count_retain_living(&other, node));
        } else {
            folk_retain(&domain, node);
        }
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

// As a portion of what the tracer condemned is: nobody can have it.
static void condemn_all(struct trial *trial) {
    *trial = (struct trial){.visited = {visited_items, NODES, NODES},
                            .live = {live_items, 0, NODES},
                            .has_code = true};
    memcpy(visited_items, nodes, sizeof visited_items);
    for (size_t i = 0; i < NODES; i++) {
        counted_of(nodes[i])->word |= COUNTED_CONDEMNED;
        assert_false(count_retain_living(&other, nodes[i]));
    }
}

// While it was held its releases were not looked at: it is named now, once.
static void check_suspected(const struct folk_node *node) {
    size_t named = 0;
    for (size_t i = 0; i < domain.suspects.count; i++) {
        named += domain.suspects.items[i] == node;
    }
    assert_int_equal(named, 1);
    assert_true(counted_flags(node) & COUNTED_KEPT);
}

static void test_back(void **state) {
    (void)state;
    for (size_t round = 0; round < ROUNDS; round++) {
        luck = (unsigned)(round % 4);
        bool is_mixed = round % 8 >= 4;
        build(is_mixed ? 5 : 3);
        struct trial trial;
        if (is_mixed) {
            condemn_all(&trial);
        } else {
            take_all(&trial);
        }
        struct reclaim reclaim = {.phase = RECLAIM_IDLE};
        reclaim_begin(&reclaim, &trial, is_mixed);
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
            bool is_biased = (kinds_of(nodes[i])->flags & KINDS_SHARED) != 0;
            assert_int_equal(
                is_biased ? bias_count(nodes[i]) : count_get(nodes[i]), owners);
            assert_false(counted_flags(nodes[i]) & COUNTED_DEAD);
            if (!(kinds_of(nodes[i])->flags & (KINDS_SHARED | KINDS_ATOMIC))) {
                check_suspected(nodes[i]);
            }
        }
        ground_clear(&ground);
    }
}

static void show(size_t i) {
    if (!is_shown[i]) {
        is_shown[i] = true;
        for (size_t slot = 0; slot < 2; slot++) {
            if (nodes[i]->slots[slot] != NULL) {
                show(nodes[i]->slots[slot]->number);
            }
        }
    }
}

// As the tracer leaves it: nobody owns one but peers, all are condemned, and
// what finalizers lead to is shown.
static void build_shown(struct trial *trial) {
    build(3);
    *trial = (struct trial){.visited = {visited_items, 0, NODES},
                            .live = {live_items, 0, NODES},
                            .has_code = true};
    for (size_t i = 0; i < NODES; i++) {
        is_traced[i] = gen_chance(&gen, 40);
        const struct kinds_type *type =
            is_traced[i] ? traced_type : kinds_of(nodes[i]);
        *counted_of(nodes[i]) =
            (struct counted){COUNTED_CONDEMNED, type->id << COUNTED_TYPE_SHIFT};
        has_code[i] = type->destroy != NULL;
        nodes[i]->slots[0] = nodes[i]->slots[1] = NULL;
        trial->visited.items[trial->visited.count++] = nodes[i];
    }
    for (size_t i = 0; i < 2 * NODES; i++) {
        if (gen_chance(&gen, 40)) {
            folk_own(&domain, nodes[i / 2], i % 2,
                     nodes[gen_below(&gen, NODES)]);
        }
    }
    for (size_t i = 0; i < NODES; i++) {
        if (kinds_of(nodes[i])->finalize != NULL) {
            show(i);
        }
    }
    for (size_t i = 0; i < NODES; i++) {
        bool is_set = is_traced[i] && is_shown[i];
        counted_of(nodes[i])->word |= is_set ? COUNTED_SHOWN : 0;
    }
}

static void test_shown(void **state) {
    (void)state;
    for (size_t round = 0; round < ROUNDS; round++) {
        luck = (unsigned)(round % 4) * 3;
        struct trial trial;
        build_shown(&trial);
        struct reclaim reclaim = {.phase = RECLAIM_IDLE};
        reclaim_begin(&reclaim, &trial, true);
        folk_reclaim(&reclaim, &trial, &domain, 1 + gen_below(&gen, NODES));
        for (size_t i = 0; i < NODES; i++) {
            if (saved[i] || (is_traced[i] && is_shown[i])) {
                spread(i); // RE6
            }
        }
        for (size_t i = 0; i < NODES; i++) {
            assert_int_equal(destroyed[i], !lives[i] && has_code[i]);
            assert_int_equal(counted_type(nodes[i]) == 0, !lives[i]);
            if (lives[i]) {
                assert_false(counted_flags(nodes[i]) &
                             (COUNTED_DEAD | COUNTED_CONDEMNED));
                check_suspected(nodes[i]);
            }
        }
        memset(is_traced, 0, sizeof is_traced);
        memset(is_shown, 0, sizeof is_shown);
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
    types[3] = folk_type(KINDS_ATOMIC, destroy, finalize);
    types[4] = folk_type(KINDS_SHARED, destroy, finalize);
    traced_type = folk_type(KINDS_TRACED, destroy, NULL);
    count_init(&other, ground.mutator->id + 1);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole), cmocka_unit_test(test_back),
        cmocka_unit_test(test_shown), cmocka_unit_test(test_beside)};
    return cmocka_run_group_tests(tests, set_up, NULL);
}
