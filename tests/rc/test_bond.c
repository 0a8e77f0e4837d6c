// Records against a list of them: found, changed, taken, after a fork; and what
// a stop makes of them.

#include "rc/bond.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "heap/meta.h"
#include "support/folk_drain.h"
#include "support/gen.h"

#define RECORDS ((size_t)(LOAM_TINY ? 40 : 600))
#define STEPS   ((size_t)(LOAM_TINY ? 2000 : 30000))

static struct ground ground;
static struct count_domain domain;
static const struct kinds_type *plain;
static struct gen gen;

// --- Records

static struct bond model[RECORDS]; // sort BOND_FREE: none
static size_t expected, expected_fates;

static uintptr_t some_object(void) {
    return 4096 + 8 * gen_below(&gen, RECORDS / 4);
}

static void model_add(void) {
    static const uint8_t sorts[] = {BOND_FINALIZER, BOND_GUARD, BOND_VALUE,
                                    BOND_HELD, BOND_LOOSE};
    size_t at = 0;
    while (at < RECORDS && model[at].sort != BOND_FREE) {
        at++;
    }
    if (at == RECORDS) {
        return;
    }
    model[at] = (struct bond){.object = some_object(),
                              .cell = 1 + at,
                              .value = gen_next(&gen),
                              .thread = (uint32_t)(1 + gen_below(&gen, 3)),
                              .sort = sorts[gen_below(&gen, 5)]};
    assert_true(bond_add(&model[at]));
    expected++;
    expected_fates += (model[at].sort & (BOND_FINALIZER | BOND_GUARD)) != 0;
}

static void model_remove(size_t at) {
    expected--;
    expected_fates -= (model[at].sort & (BOND_FINALIZER | BOND_GUARD)) != 0;
    model[at].sort = BOND_FREE;
}

static size_t visited;
static uint64_t sum;

static void visit(void *value, void *data) {
    (void)data;
    visited++;
    sum += (uintptr_t)value;
}

static void model_look(uintptr_t object) { // BO2
    size_t values = 0;
    uint64_t values_sum = 0;
    bool fated = false;
    for (size_t i = 0; i < RECORDS; i++) {
        if (model[i].object == object && model[i].sort != BOND_FREE) {
            fated |= (model[i].sort & (BOND_FINALIZER | BOND_GUARD)) != 0;
            values += model[i].sort == BOND_VALUE;
            values_sum += model[i].sort == BOND_VALUE ? model[i].value : 0;
        }
    }
    visited = 0;
    sum = 0;
    bond_each_value((void *)object, visit, NULL);
    assert_int_equal(visited, values);
    assert_int_equal(sum, values_sum);
    assert_int_equal(bond_is_fated((void *)object), fated);
    assert_int_equal(bond_count, expected); // BO1: none is lost
    assert_int_equal(bond_fate_count, expected_fates);
}

static void model_change(size_t at) {
    struct bond *found =
        bond_find(model[at].object, model[at].sort, model[at].cell);
    assert_non_null(found);
    assert_int_equal(found->value, model[at].value);
    if (gen_chance(&gen, 50)) {
        model[at].value = gen_next(&gen);
        bond_set_value(found, model[at].value);
    } else {
        bond_remove(found);
        model_remove(at);
    }
}

static void model_take(uintptr_t object, unsigned sorts) {
    struct bond taken;
    bool found = bond_take(object, sorts, &taken);
    bool there = false;
    for (size_t i = 0; i < RECORDS; i++) {
        there |= model[i].object == object && (model[i].sort & sorts) != 0;
    }
    assert_int_equal(found, there);
    if (found) {
        size_t at = taken.cell - 1;
        assert_int_equal(taken.sort & sorts, model[at].sort);
        assert_int_equal(taken.value, model[at].value);
        model_remove(at);
    }
}

static void count_bond(struct bond *bond, void *data) {
    *(size_t *)data += bond->sort != BOND_FREE;
}

// BO4: as if another thread had been in the middle of it.
static void model_fork(void) {
    bond_forked(2);
    for (size_t i = 0; i < RECORDS; i++) {
        model[i].thread = model[i].thread == 2 ? 2 : 0;
    }
    size_t there = 0;
    bond_each(count_bond, &there);
    assert_int_equal(there, expected);
}

static void model_take_loose(void) {
    void *values[3];
    uint32_t thread = (uint32_t)(1 + gen_below(&gen, 3));
    bool nobodys = gen_chance(&gen, 50);
    size_t count = bond_take_loose(thread, nobodys, values, 3);
    size_t there = 0;
    for (size_t i = 0; i < RECORDS; i++) {
        bool mine = model[i].thread == 0 ? nobodys : model[i].thread == thread;
        if (model[i].sort != BOND_LOOSE || !mine) {
            continue;
        }
        there++;
        for (size_t k = 0; k < count; k++) {
            if ((uintptr_t)values[k] == model[i].value) {
                model_remove(i);
                break;
            }
        }
    }
    assert_int_equal(count, there < 3 ? there : 3);
}

static void test_model(void **state) {
    (void)state;
    for (size_t step = 0; step < STEPS; step++) {
        size_t at = gen_below(&gen, RECORDS);
        switch (gen_below(&gen, 8)) {
        case 0:
        case 1:
        case 2:
            model_add();
            break;
        case 3:
            if (model[at].sort != BOND_FREE) {
                model_change(at);
            }
            break;
        case 4:
            model_take(some_object(), 1u << gen_below(&gen, 5));
            break;
        case 5:
            model_take_loose();
            break;
        default:
            model_look(some_object());
            break;
        }
        if (step % (STEPS / 10) == 0) {
            model_fork();
        }
    }
    for (size_t i = 0; i < RECORDS; i++) {
        if (model[i].sort != BOND_FREE) {
            bond_remove(
                bond_find(model[i].object, model[i].sort, model[i].cell));
            model_remove(i);
        }
    }
    assert_int_equal(bond_count, 0);
}

// --- A stop

static size_t marks;

static void mark(uintptr_t word, void *data) {
    struct place place;
    (void)data;
    assert_true(blockmap_find(word, &place));
    marks += !block_is_marked(place.block, place.cell);
    block_pair(place.block, place.cell / 64)[0] |= (uint64_t)1
                                                   << (place.cell % 64);
}

static void hang(uint8_t sort, void *object, void *cell, void *value) {
    struct bond bond = {.object = (uintptr_t)object,
                        .cell = (uintptr_t)cell,
                        .value = (uintptr_t)value,
                        .thread = 1,
                        .sort = sort};
    assert_true(bond_add(&bond));
}

static uint8_t sort_of(void *object) {
    const struct bond *bond = bond_find((uintptr_t)object, 31, 0);
    return bond == NULL ? BOND_FREE : bond->sort;
}

// BO3: what is marked keeps its records; what is not, loses them; what is
// condemned keeps them, and the cells of its values.
static void test_stop(void **state) {
    (void)state;
    void *marked = ground_make(&ground, 32, KIND_SCANNED, 0);
    void *gone = ground_make(&ground, 32, KIND_SCANNED, 0);
    void *cell = ground_make(&ground, 32, KIND_SCANNED, 0);
    struct folk_node *nodes[6];
    for (size_t i = 0; i < 6; i++) {
        nodes[i] = folk_make(&ground, &domain, plain);
    }
    ground_prepare(&ground);
    mark((uintptr_t)marked, NULL);
    for (size_t i = 0; i < 3; i++) { // of these, only the last is not marked
        mark((uintptr_t)counted_of(nodes[i]), NULL);
    }
    marks = 0;
    counted_of(nodes[5])->word |= COUNTED_CONDEMNED;
    hang(BOND_VALUE, nodes[0], marked, nodes[3]); // stays
    hang(BOND_VALUE, nodes[1], gone, nodes[3]);   // the map is dead
    hang(BOND_HELD, nodes[2], gone, nodes[2]);    // the guardian is
    hang(BOND_GUARD, nodes[3], marked, NULL);     // its object is
    hang(BOND_FINALIZER, nodes[4], NULL, NULL);   // the same
    hang(BOND_VALUE, nodes[5], cell, nodes[3]);   // goes with its key
    hang(BOND_VALUE, gone, marked, nodes[3]);     // a traced key
    static int forever;
    hang(BOND_VALUE, &forever, marked, nodes[3]);
    assert_true(bond_settle(&ground.heap, mark, NULL));
    assert_int_equal(sort_of(nodes[0]), BOND_VALUE);
    assert_int_equal(sort_of(nodes[1]), BOND_LOOSE);
    assert_int_equal(sort_of(nodes[2]), BOND_LOOSE);
    assert_int_equal(sort_of(nodes[3]), BOND_FREE);
    assert_int_equal(sort_of(nodes[4]), BOND_FREE);
    assert_int_equal(sort_of(nodes[5]), BOND_VALUE);
    assert_int_equal(sort_of(gone), BOND_LOOSE);
    assert_int_equal(sort_of(&forever), BOND_VALUE);
    assert_int_equal(marks, 1);
    void *values[8];
    assert_int_equal(bond_take_loose(1, false, values, 8), 3);
    bond_disown(1);
    assert_int_equal(bond_take_loose(1, true, values, 8), 0);
    struct bond taken;
    assert_true(bond_take((uintptr_t)nodes[0], 31, &taken));
    assert_int_equal(taken.thread, 0);
    assert_true(bond_take((uintptr_t)nodes[5], 31, &taken));
    assert_true(bond_take((uintptr_t)&forever, 31, &taken));
    assert_int_equal(bond_count, 0);
    struct census census;
    ground_flip(&ground, &census);
    ground_clear(&ground);
}

static int set_up(void **state) {
    (void)state;
    gen_init(&gen, gen_seed("bond"));
    if (!ground_init(&ground, (size_t)1 << 30)) {
        return -1;
    }
    count_init(&domain, ground.mutator->id);
    plain = folk_type(0, NULL, NULL);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_stop),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
