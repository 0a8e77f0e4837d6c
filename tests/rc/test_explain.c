// Graphs of which parts are marked, parts are held where nobody sees them, and
// the rest is garbage, against reachability; what is dying; types that threads
// share.

#include "rc/explain.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "rc/bond.h"
#include "support/folk_drain.h"
#include "support/gen.h"

#define NODES  ((size_t)(LOAM_TINY ? 60 : 400))
#define ROUNDS ((size_t)(LOAM_TINY ? 40 : 150))

static struct ground ground;
static struct count_domain domain;
static const struct kinds_type *types[4]; // plain, traced, atomic, biased
static const struct kinds_type *final_type;
static struct folk_node *nodes[NODES];
static bool lives[NODES];
static struct gen gen;

// The marker of this test: what slots lead to.
static void mark(uintptr_t word, void *data) {
    struct place place;
    if (word == 0 || blockmap_object(word, &place) == NULL ||
        block_is_marked(place.block, place.cell)) {
        return;
    }
    block_pair(place.block, place.cell / 64)[0] |= (uint64_t)1
                                                   << (place.cell % 64);
    const struct folk_node *node = (void *)blockmap_start(&place);
    mark((uintptr_t)node->slots[0], data);
    mark((uintptr_t)node->slots[1], data);
}

static void spread(size_t i) {
    if (!lives[i]) {
        lives[i] = true;
        for (size_t slot = 0; slot < 2; slot++) {
            if (nodes[i]->slots[slot] != NULL) {
                spread(nodes[i]->slots[slot]->number);
            }
        }
    }
}

// Slots lead to objects of any type (EX6).
static void build(size_t kinds) {
    memset(lives, 0, sizeof lives);
    for (size_t i = 0; i < NODES; i++) {
        nodes[i] = folk_make(&ground, &domain, types[gen_below(&gen, kinds)]);
        nodes[i]->number = i;
    }
    for (size_t i = 0; i < NODES; i++) {
        for (size_t slot = 0; slot < 2; slot++) {
            struct folk_node *to = nodes[gen_below(&gen, NODES)];
            if (gen_chance(&gen, 60)) {
                folk_own(&domain, nodes[i], slot, to);
            }
        }
    }
}

// The one owner that each was born with is gone, or hidden, or a root.
static void let_go(void) {
    for (size_t i = 0; i < NODES; i++) {
        size_t chance = gen_below(&gen, 30);
        if (chance == 0) { // hidden: its count alone says so
            spread(i);
            continue;
        }
        if (kinds_of(nodes[i])->flags & KINDS_SHARED) {
            assert_int_not_equal(bias_release(nodes[i], domain.owner),
                                 BIAS_FAULT);
        } else {
            counted_of(nodes[i])->word -= COUNTED_ONE;
        }
        if (chance == 1) { // a root without a count
            mark((uintptr_t)nodes[i], NULL);
            spread(i);
        }
    }
}

// Another thread gets those that threads share; plain ones of nobody's blocks
// only if it is alone.
static void check_others(size_t garbage) {
    size_t shared = 0;
    for (size_t i = 0; i < NODES; i++) {
        shared += !lives[i] && (kinds_of(nodes[i])->flags &
                                (KINDS_SHARED | KINDS_ATOMIC)) != 0;
    }
    assert_int_equal(explain_take(2, false, NULL, 0), shared);
    assert_int_equal(explain_take(2, true, NULL, 0), shared);
    assert_true(shared <= garbage);
}

static void test_oracle(void **state) {
    (void)state;
    for (size_t round = 0; round < ROUNDS; round++) {
        build(1 + round % 4);
        ground_prepare(&ground);
        let_go();
        struct explain_report report;
        explain_held(&ground.heap, mark, NULL, &report);
        size_t garbage = 0;
        for (size_t i = 0; i < NODES; i++) {
            assert_int_equal(ground_is_marked(counted_of(nodes[i])), lives[i]);
            garbage += !lives[i]; // EX1
        }
        explain_condemn(&ground.heap, mark, NULL, &report);
        explain_show(&ground.heap, mark, NULL, &report);
        assert_int_equal(report.condemned_count, garbage);
        assert_int_equal(report.faulty_count, 0);
        for (size_t i = 0; i < NODES; i++) {
            assert_true(ground_is_marked(counted_of(nodes[i]))); // EX2
            assert_int_equal(counted_of(nodes[i])->info & COUNTED_SCRATCH_MASK,
                             0); // EX3
            assert_int_equal((counted_flags(nodes[i]) & COUNTED_CONDEMNED) != 0,
                             !lives[i]);
        }
        static void *items[NODES];
        assert_int_equal(explain_take(1, false, NULL, 0), garbage);
        assert_int_equal(explain_take(1, false, items, NODES), garbage);
        for (size_t i = 1; i < garbage; i++) {
            assert_true((uintptr_t)items[i - 1] < (uintptr_t)items[i]);
        }
        check_others(garbage);
        struct census census;
        ground_flip(&ground, &census);
        ground_clear(&ground);
    }
}

// A plain object and a shared one own each other.  What was condemned and not
// taken is asked again: it is condemned once more, or lives.
static void test_anew(void **state) {
    (void)state;
    for (size_t kind = 2; kind < 4; kind++) {
        struct folk_node *plain = folk_make(&ground, &domain, types[0]);
        struct folk_node *shared = folk_make(&ground, &domain, types[kind]);
        plain->slots[0] = shared; // takes the owner over
        shared->slots[0] = plain;
        struct explain_report report;
        struct census census;
        for (int cycle = 0; cycle < 3; cycle++) {
            ground_prepare(&ground);
            if (cycle == 2) {
                mark((uintptr_t)plain, NULL);
            }
            explain_held(&ground.heap, mark, NULL, &report);
            explain_condemn(&ground.heap, mark, NULL, &report);
            explain_show(&ground.heap, mark, NULL, &report);
            assert_int_equal(report.condemned_count, cycle < 2 ? 2 : 0);
            bool is_condemned = cycle < 2; // EX5, EX6
            assert_int_equal((counted_flags(plain) & COUNTED_CONDEMNED) != 0,
                             is_condemned);
            assert_int_equal((counted_flags(shared) & COUNTED_CONDEMNED) != 0,
                             is_condemned);
            ground_flip(&ground, &census);
        }
        assert_int_equal(explain_take(1, true, NULL, 0), 0);
        ground_clear(&ground);
    }
}

// One that is dying is kept with what it owns; a zombie goes, unless a buffer
// names it.
static void test_dying(void **state) {
    (void)state;
    struct folk_node *dying = folk_make(&ground, &domain, types[0]);
    struct folk_node *owned = folk_make(&ground, &domain, types[0]);
    struct folk_node *zombie = folk_make(&ground, &domain, types[0]);
    struct folk_node *named = folk_make(&ground, &domain, types[0]);
    dying->slots[0] = owned;
    counted_of(dying)->word = COUNTED_DEAD;
    *counted_of(zombie) =
        (struct counted){COUNTED_DEAD, COUNTED_ZOMBIE << COUNTED_TYPE_SHIFT};
    *counted_of(named) = (struct counted){COUNTED_DEAD | COUNTED_KEPT,
                                          COUNTED_ZOMBIE << COUNTED_TYPE_SHIFT};
    ground_prepare(&ground);
    struct explain_report report;
    explain_held(&ground.heap, mark, NULL, &report);
    explain_condemn(&ground.heap, mark, NULL, &report);
    explain_show(&ground.heap, mark, NULL, &report);
    assert_int_equal(report.condemned_count, 0);
    assert_true(ground_is_marked(counted_of(dying))); // EX2
    assert_true(ground_is_marked(counted_of(owned)));
    assert_true(ground_is_marked(counted_of(named)));
    assert_false(ground_is_marked(counted_of(zombie)));
    struct census census;
    ground_flip(&ground, &census);
    ground_clear(&ground);
}

// A count that was too large to be kept; a slot that owns without a count.
static void test_counts(void **state) {
    (void)state;
    struct folk_node *stuck = folk_make(&ground, &domain, types[0]);
    struct folk_node *liar = folk_make(&ground, &domain, types[0]);
    struct folk_node *victim = folk_make(&ground, &domain, types[0]);
    counted_of(stuck)->word |= COUNTED_OTHER; // EX4
    counted_of(liar)->word -= COUNTED_ONE;
    counted_of(victim)->word -= COUNTED_ONE;
    liar->slots[0] = victim;
    ground_prepare(&ground);
    struct explain_report report;
    explain_held(&ground.heap, mark, NULL, &report);
    assert_int_equal(report.faulty_count, 1);
    assert_true(ground_is_marked(counted_of(victim)));
    explain_condemn(&ground.heap, mark, NULL, &report);
    explain_show(&ground.heap, mark, NULL, &report);
    assert_true(counted_flags(stuck) & COUNTED_CONDEMNED);
    struct census census;
    ground_flip(&ground, &census);
    ground_clear(&ground);
}

// The count that an entry of a map has is explained by it, be its key marked or
// not; a second one is not.
static void test_entries(void **state) {
    (void)state;
    struct folk_node *key = folk_make(&ground, &domain, types[0]);
    struct folk_node *value = folk_make(&ground, &domain, types[0]);
    struct folk_node *shared = folk_make(&ground, &domain, types[2]);
    void *cell = ground_make(&ground, 32, KIND_SCANNED, 0);
    value->slots[0] = key; // takes the owner over, as the entry does
    struct bond bonds[2] = {{.object = (uintptr_t)key,
                             .cell = (uintptr_t)cell,
                             .value = (uintptr_t)value,
                             .sort = BOND_VALUE},
                            {.object = (uintptr_t)key,
                             .cell = (uintptr_t)cell,
                             .value = (uintptr_t)shared,
                             .sort = BOND_VALUE}};
    assert_true(bond_add(&bonds[0]) && bond_add(&bonds[1]));
    for (size_t owners = 0; owners < 2; owners++) {
        counted_of(value)->word += (uint32_t)owners * COUNTED_ONE;
        ground_prepare(&ground);
        struct explain_report report;
        explain_held(&ground.heap, mark, NULL, &report);
        bool held = owners != 0;
        assert_int_equal(ground_is_marked(counted_of(value)), held); // EX7
        assert_int_equal(ground_is_marked(counted_of(key)), held);
        assert_true(ground_is_marked(counted_of(shared)));
        mark((uintptr_t)value, NULL); // for the next round
        explain_condemn(&ground.heap, mark, NULL, &report);
        explain_show(&ground.heap, mark, NULL, &report);
        assert_int_equal(report.condemned_count, 0);
        assert_true(report.loosened); // the map is not marked
        struct census census;
        ground_flip(&ground, &census);
    }
    struct bond taken;
    assert_true(bond_take((uintptr_t)key, BOND_LOOSE, &taken));
    assert_true(bond_take((uintptr_t)key, BOND_LOOSE, &taken));
    ground_clear(&ground);
}

static void finalize(void *object) {
    (void)object;
}

// A -> due -> T -> B, and T' -> A: what a finalizer that is due leads to is
// shown, if traced memory may hold it; what leads there is not.  Where none is
// due nobody is.
static void test_shown(void **state) {
    (void)state;
    for (uint32_t done = 0; done <= COUNTED_DONE; done += COUNTED_DONE) {
        const struct kinds_type *kinds[5] = {types[1], types[0], final_type,
                                             types[1], types[0]};
        struct folk_node *chain[5];
        for (size_t i = 0; i < 5; i++) {
            chain[i] = folk_make(&ground, &domain, kinds[i]);
            if (i != 0) {
                chain[i - 1]->slots[0] = chain[i]; // takes the owner over
            }
        }
        counted_of(chain[0])->word -= COUNTED_ONE;
        counted_of(chain[2])->word |= done;
        // In the next cycle it is so again, if nobody has come by.
        for (int cycle = 0; cycle < 2; cycle++) {
            ground_prepare(&ground);
            struct explain_report report;
            explain_held(&ground.heap, mark, NULL, &report);
            explain_condemn(&ground.heap, mark, NULL, &report);
            explain_show(&ground.heap, mark, NULL, &report);
            assert_int_equal(report.due_count, done == 0);
            assert_int_equal(report.condemned_count, 5);
            for (size_t i = 0; i < 5; i++) { // EX8
                assert_true(counted_flags(chain[i]) & COUNTED_CONDEMNED);
                assert_true(ground_is_marked(counted_of(chain[i])));
                assert_int_equal((counted_flags(chain[i]) & COUNTED_SHOWN) != 0,
                                 done == 0 && i == 3);
            }
            struct census census;
            ground_flip(&ground, &census);
        }
        // One that is owned again is like others.
        counted_of(chain[3])->word += COUNTED_ONE;
        ground_prepare(&ground);
        struct explain_report report;
        explain_held(&ground.heap, mark, NULL, &report);
        explain_condemn(&ground.heap, mark, NULL, &report);
        explain_show(&ground.heap, mark, NULL, &report);
        assert_int_equal(counted_flags(chain[3]) &
                             (COUNTED_CONDEMNED | COUNTED_SHOWN),
                         0); // EX5
        struct census census;
        ground_flip(&ground, &census);
        ground_clear(&ground);
    }
}

static int set_up(void **state) {
    (void)state;
    gen_init(&gen, gen_seed("explain"));
    if (!ground_init(&ground, 64 * MiB)) {
        return -1;
    }
    folk_domain(&domain, &ground);
    types[0] = folk_type(0, NULL, NULL);
    types[1] = folk_type(KINDS_TRACED, NULL, NULL);
    types[2] = folk_type(KINDS_ATOMIC, NULL, NULL);
    types[3] = folk_type(KINDS_SHARED, NULL, NULL);
    final_type = folk_type(0, NULL, finalize);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_oracle),  cmocka_unit_test(test_anew),
        cmocka_unit_test(test_dying),   cmocka_unit_test(test_counts),
        cmocka_unit_test(test_entries), cmocka_unit_test(test_shown)};
    return cmocka_run_group_tests(tests, set_up, NULL);
}
