// Trials on random graphs against reachability from what is owned outside;
// given up after each step; without room; with a slot that owns without a
// count.  The same with the suspects that a buffer names.

#include "rc/trial.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rc/bond.h"
#include "support/folk.h"
#include "support/gen.h"

#define NODES  ((size_t)(LOAM_TINY ? 40 : 300))
#define ROUNDS ((size_t)(LOAM_TINY ? 60 : 300))

static struct ground ground;
static struct count_domain domain;
static const struct kinds_type *node_type;
static struct folk_node *nodes[NODES];
static size_t outside[NODES]; // owners of each that are no slots
static bool lives[NODES];
static void *visited_items[NODES], *live_items[NODES];

static struct trial trial_make(size_t room) {
    return (struct trial){.visited = {visited_items, 0, room},
                          .live = {live_items, 0, room}};
}

// A random graph, in which each node has an owner outside with a chance of one
// in `luck`.  To some something weak may lead.
static void build(struct gen *gen, size_t luck) {
    unsigned watched_percent = (unsigned)gen_below(gen, 3) * 30;
    for (size_t i = 0; i < NODES; i++) {
        nodes[i] = folk_make(&ground, &domain, node_type);
        nodes[i]->number = i;
        outside[i] = 1;
        counted_of(nodes[i])->word |=
            gen_chance(gen, watched_percent) ? COUNTED_WATCHED : 0;
    }
    for (size_t i = 0; i < NODES; i++) {
        for (size_t slot = 0; slot < 2; slot++) {
            if (gen_chance(gen, 80)) {
                folk_own(&domain, nodes[i], slot, nodes[gen_below(gen, NODES)]);
            }
        }
    }
    for (size_t i = 0; i < NODES; i++) {
        if (gen_below(gen, luck) != 0) {
            outside[i] = 0;
            counted_of(nodes[i])->word -= COUNTED_ONE;
        }
    }
}

static void spread(size_t i) {
    if (lives[i]) {
        return;
    }
    lives[i] = true;
    for (size_t slot = 0; slot < 2; slot++) {
        if (nodes[i]->slots[slot] != NULL) {
            spread(nodes[i]->slots[slot]->number);
        }
    }
}

static void judge(void) {
    memset(lives, 0, sizeof lives);
    for (size_t i = 0; i < NODES; i++) {
        if (outside[i] != 0) {
            spread(i);
        }
    }
}

static void tear_down(void) {
    ground_clear(&ground);
}

static void heads(struct counted *saved) {
    for (size_t i = 0; i < NODES; i++) {
        saved[i] = *counted_of(nodes[i]);
    }
}

static bool add_all(struct trial *trial) {
    for (size_t i = 0; i < NODES; i++) {
        if (!trial_add(trial, nodes[i])) {
            return false;
        }
    }
    return true;
}

static void check_watched(void) {
    const uint32_t both = COUNTED_DEAD | COUNTED_WATCHED;
    for (size_t i = 0; i < NODES; i++) {
        assert_int_not_equal(counted_of(nodes[i])->word & both, both); // TR6
    }
}

static void run(struct trial *trial, size_t step) {
    enum trial_answer answer;
    do {
        answer = trial_step(trial, step);
        check_watched();
    } while (answer == TRIAL_MORE);
    assert_int_equal(answer, TRIAL_DONE);
}

// After a trial: as before but for DEAD, and the scratch count of the dead.
static void check_head(size_t i, struct counted before) {
    struct counted now = *counted_of(nodes[i]);
    if (now.word & COUNTED_DEAD) {
        now.word &= ~(uint32_t)COUNTED_DEAD;
        now.info &= ~COUNTED_SCRATCH_MASK;
    }
    assert_int_equal(now.info, before.info); // TR2
    assert_int_equal(now.word, before.word); // TR1
}

static void test_oracle(void **state) {
    (void)state;
    struct gen gen;
    gen_init(&gen, gen_seed("trial"));
    for (size_t round = 0; round < ROUNDS; round++) {
        build(&gen, 1 + gen_below(&gen, 2 * NODES));
        judge();
        struct counted before[NODES];
        heads(before);
        struct trial trial = trial_make(NODES);
        assert_true(add_all(&trial));
        run(&trial, 1 + gen_below(&gen, NODES));
        size_t count = trial_take(&trial), expected = 0;
        for (size_t i = 0; i < NODES; i++) {
            expected += !lives[i];
        }
        assert_int_equal(count, expected); // TR3
        for (size_t i = 0; i < count; i++) {
            struct folk_node *node = trial.visited.items[i];
            assert_false(lives[node->number]);
            assert_true(counted_of(node)->word & COUNTED_DEAD);
        }
        for (size_t i = 0; i < NODES; i++) {
            check_head(i, before[i]);
        }
        tear_down();
    }
}

// --- The suspects of a buffer ------------------------------------------------

#define KEPT  ((uint32_t)COUNTED_KEPT)
#define QUIET ((uint32_t)COUNTED_QUIET)

static void *suspect_items[NODES + 8];

// Names about one node in `luck` in the buffer, and some that are not in it;
// then NULL and what takes no part.  Returns how many places it has.
static size_t name_some(struct gen *gen, size_t luck, void *stuck) {
    size_t count = 0;
    for (size_t i = 0; i < NODES; i++) {
        bool is_named = gen_below(gen, luck) == 0;
        if (is_named) {
            suspect_items[count++] = nodes[i];
        }
        if (is_named || gen_chance(gen, 20)) {
            counted_of(nodes[i])->word |= KEPT | QUIET;
        }
    }
    for (size_t i = 0; i < 6; i++) {
        size_t at = gen_below(gen, count + 1);
        suspect_items[count] = suspect_items[at];
        count++;
        suspect_items[at] = i % 2 == 0 || i > 1 ? NULL : stuck;
    }
    return count;
}

// What the suspects lead to is found as if each had been added, and what is not
// theirs keeps its name.
static void test_suspects(void **state) {
    (void)state;
    struct gen gen;
    gen_init(&gen, gen_seed("trial_suspects"));
    for (size_t round = 0; round < ROUNDS; round++) {
        build(&gen, 1 + gen_below(&gen, 2 * NODES));
        struct folk_node *stuck = folk_make(&ground, &domain, node_type);
        counted_of(stuck)->word |= COUNTED_OTHER | KEPT;
        size_t count = name_some(&gen, 1 + gen_below(&gen, 4), stuck);
        struct counted before[NODES];
        heads(before);
        void *named[NODES + 8];
        memcpy(named, suspect_items, sizeof named);

        struct trial trial = trial_make(NODES);
        for (size_t i = 0; i < count; i++) {
            assert_true(named[i] == NULL || trial_add(&trial, named[i]));
        }
        run(&trial, 7);
        size_t expected = trial_take(&trial);
        bool dies[NODES];
        for (size_t i = 0; i < NODES; i++) {
            dies[i] = counted_of(nodes[i])->word & COUNTED_DEAD;
            *counted_of(nodes[i]) = before[i];
        }

        trial_suspect(&trial, suspect_items, count);
        trial.visited.count = 0;
        run(&trial, 1 + gen_below(&gen, NODES));
        assert_int_equal(trial_take(&trial), expected); // TR3
        for (size_t i = 0; i < count; i++) {
            if (named[i] != NULL && named[i] != stuck) { // is suspected no more
                before[((struct folk_node *)named[i])->number].word &=
                    ~(KEPT | QUIET);
            }
        }
        for (size_t i = 0; i < NODES; i++) {
            assert_int_equal((counted_of(nodes[i])->word & COUNTED_DEAD) != 0,
                             dies[i]);
            check_head(i, before[i]);
        }
        for (size_t i = trial.suspects.rest; i < count; i++) {
            assert_true(suspect_items[i] == NULL || suspect_items[i] == stuck);
        }
        assert_int_equal(counted_of(stuck)->word,
                         COUNTED_ONE | COUNTED_OTHER | KEPT);
        tear_down();
    }
}

static void build_hung(size_t at) {
    for (size_t i = at; i < at + 2; i++) {
        nodes[i] = folk_make(&ground, &domain, node_type);
        counted_of(nodes[i])->word |= KEPT | QUIET;
        suspect_items[i] = nodes[i];
    }
    nodes[at + 1]->slots[0] = nodes[at];
    struct bond bond = {.object = (uintptr_t)nodes[at],
                        .cell = 1,
                        .value = (uintptr_t)nodes[at + 1],
                        .sort = BOND_VALUE};
    assert_true(bond_add(&bond));
    counted_of(nodes[at])->word |= COUNTED_WATCHED;
    if (at % 10 == 0) {
        counted_of(nodes[at])->word |= COUNTED_CONDEMNED;
        counted_of(nodes[at + 1])->word |= COUNTED_CONDEMNED;
    }
}

// Rings of a key and what a map has under it; some that the tracer condemned.
static void test_suspects_hung(void **state) {
    (void)state;
    for (size_t i = 0; i < NODES; i += 2) {
        build_hung(i);
    }
    struct trial trial = trial_make(NODES);
    trial_suspect(&trial, suspect_items, NODES);
    run(&trial, 7);
    size_t condemned = (NODES + 9) / 10 * 2;
    assert_int_equal(trial_take(&trial), NODES - condemned);
    assert_true(trial.has_code);
    for (size_t i = 0; i < NODES; i++) {
        uint32_t word = counted_of(nodes[i])->word;
        assert_int_equal((word & COUNTED_CONDEMNED) != 0, i % 10 < 2);
        assert_int_equal((word & KEPT) != 0, i % 10 < 2);
        struct bond bond;
        assert_int_equal(bond_take((uintptr_t)nodes[i], BOND_VALUE, &bond),
                         i % 2 == 0);
    }
    tear_down();
}

// Given up after every number of steps, for want of time or of room.
static void test_suspects_abort(void **state) {
    (void)state;
    struct gen gen;
    gen_init(&gen, gen_seed("trial_suspects_abort"));
    build(&gen, 10);
    size_t count = name_some(&gen, 2, NULL);
    struct counted before[NODES], after[NODES];
    heads(before);
    bool done = false;
    for (size_t steps = 0; !done; steps++) {
        struct trial trial = trial_make(NODES - steps % 2 * (NODES / 2));
        trial_suspect(&trial, suspect_items, count);
        enum trial_answer answer = TRIAL_MORE;
        for (size_t i = 0; i < steps && answer == TRIAL_MORE; i++) {
            answer = trial_step(&trial, 3);
        }
        trial_abort(&trial);
        heads(after);
        assert_memory_equal(before, after, sizeof before); // TR1, TR2, TR4
        done = answer == TRIAL_DONE;
    }
    tear_down();
}

// Given up after every number of steps.
static void test_abort(void **state) {
    (void)state;
    struct gen gen;
    gen_init(&gen, gen_seed("trial_abort"));
    build(&gen, 10);
    struct counted before[NODES], after[NODES];
    heads(before);
    bool done = false;
    for (size_t steps = 0; !done; steps++) {
        struct trial trial = trial_make(NODES);
        assert_true(add_all(&trial));
        for (size_t i = 0; i < steps && !done; i++) {
            done = trial_step(&trial, 3) != TRIAL_MORE;
        }
        trial_abort(&trial);
        heads(after);
        assert_memory_equal(before, after, sizeof before); // TR1, TR2
        assert_int_equal(trial.visited.count, 0);
    }
    tear_down();
}

static void test_room(void **state) {
    (void)state;
    struct gen gen;
    gen_init(&gen, gen_seed("trial_room"));
    build(&gen, NODES);
    struct counted before[NODES], after[NODES];
    heads(before);
    for (size_t room = 0; room < NODES; room += 7) {
        struct trial trial = trial_make(room);
        enum trial_answer answer = TRIAL_ROOM; // TR4
        if (add_all(&trial)) {
            do {
                answer = trial_step(&trial, 5);
            } while (answer == TRIAL_MORE);
        }
        if (answer == TRIAL_ROOM) {
            trial_abort(&trial);
        } else {
            (void)trial_take(&trial);
        }
        heads(after);
        for (size_t i = 0; i < NODES; i++) {
            after[i].word &= ~(uint32_t)COUNTED_DEAD;
            *counted_of(nodes[i]) = after[i];
        }
        assert_memory_equal(before, after, sizeof before);
    }
    tear_down();
}

// A slot that was filled without a count: what it leads to stays.
static void test_fault(void **state) {
    (void)state;
    struct folk_node *a = folk_make(&ground, &domain, node_type);
    struct folk_node *b = folk_make(&ground, &domain, node_type);
    a->slots[0] = b; // takes the one owner over
    b->slots[0] = a;
    a->slots[1] = b; // owns without a count
    struct trial trial = trial_make(NODES);
    assert_true(trial_add(&trial, a));
    run(&trial, 100);
    assert_ptr_equal(trial.faulty, b); // TR5
    assert_int_equal(trial_take(&trial), 0);
    tear_down();
}

// A number in a slot's place would subtract an owner that never was: what is
// not declared is not read.
static void test_lookalike(void **state) {
    (void)state;
    struct folk_node *alive = folk_make(&ground, &domain, node_type);
    struct folk_node *liar = folk_make(&ground, &domain, node_type);
    liar->slots[0] = liar; // a ring of one
    liar->number = (size_t)alive;
    struct trial trial = trial_make(NODES);
    assert_true(trial_add(&trial, liar));
    run(&trial, 100);
    assert_int_equal(trial_take(&trial), 1);
    assert_ptr_equal(trial.visited.items[0], liar);
    assert_false(counted_of(alive)->word & COUNTED_DEAD);
    tear_down();
}

static int set_up(void **state) {
    (void)state;
    if (!ground_init(&ground, 64 * MiB)) {
        return -1;
    }
    folk_domain(&domain, &ground);
    node_type = folk_type(0, NULL, NULL);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_oracle),
                                       cmocka_unit_test(test_abort),
                                       cmocka_unit_test(test_room),
                                       cmocka_unit_test(test_fault),
                                       cmocka_unit_test(test_lookalike),
                                       cmocka_unit_test(test_suspects),
                                       cmocka_unit_test(test_suspects_hung),
                                       cmocka_unit_test(test_suspects_abort)};
    return cmocka_run_group_tests(tests, set_up, NULL);
}
