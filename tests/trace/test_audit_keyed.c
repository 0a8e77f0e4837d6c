// The second marker and ephemerons: where it agrees with the first, and where
// the first is made to be wrong.

#include "trace/audit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/gen.h"
#include "support/keyed.h"

#define NODES ((size_t)(LOAM_TINY ? 60 : 400))
#define CHAIN ((size_t)(LOAM_TINY ? 2000 : 200000))

static struct keyed keyed;
static uintptr_t nodes[NODES];

static uintptr_t make(uintptr_t key, uintptr_t value) {
    struct ephemeron *ephemeron = keyed_make(&keyed);
    keyed_set(ephemeron, key, value);
    return (uintptr_t)ephemeron;
}

static size_t audit_from(const uintptr_t *roots, size_t count,
                         size_t *reached) {
    struct audit audit;
    uintptr_t example;
    assert_true(audit_begin(&audit, &keyed.ground.heap, NULL));
    audit_range(&audit, roots, roots + count);
    audit_ephemerons(&audit);
    assert_true(audit.complete);
    size_t missed = audit_compare(&audit, &example);
    *reached = audit.object_count;
    audit_end(&audit);
    return missed;
}

static void clear(void) {
    struct census census;
    ephemeron_finish(&keyed.table);
    ground_flip(&keyed.ground, &census);
    ground_clear(&keyed.ground);
}

// Q4 with both: the same objects, to the last.
static void test_agree(void **state) {
    (void)state;
    struct gen gen;
    gen_init(&gen, gen_seed("keyed audit"));
    for (size_t round = 0; round < (LOAM_TINY ? 50 : 200); round++) {
        size_t reached;
        for (size_t i = 0; i < NODES; i++) {
            nodes[i] = gen_chance(&gen, 50) || i < 2
                           ? keyed_object(&keyed, 48, KIND_SCANNED)
                           : make(nodes[gen_below(&gen, i)],
                                  nodes[gen_below(&gen, i)]);
        }
        for (size_t i = 0; i < NODES; i++) {
            struct place place = ground_place((void *)nodes[i]);
            if (place.kind == KIND_SCANNED) {
                ((uintptr_t *)nodes[i])[gen_below(&gen, 6)] =
                    nodes[gen_below(&gen, NODES)];
            }
        }
        uintptr_t roots[5];
        for (size_t i = 0; i < 5; i++) {
            roots[i] = nodes[gen_below(&gen, NODES)];
        }
        keyed_mark(&keyed, roots, 5);
        keyed_close(&keyed);
        assert_int_equal(audit_from(roots, 5, &reached), 0);  // Q4
        assert_int_equal(reached, keyed.marker.object_count); // Q4
        clear();
    }
}

// A marker that forgets ephemerons is found out, by each value it lost.
static void test_missed(void **state) {
    (void)state;
    size_t reached;
    uintptr_t key = keyed_object(&keyed, 48, KIND_LEAF);
    uintptr_t value = keyed_object(&keyed, 48, KIND_SCANNED);
    *(uintptr_t *)value = keyed_object(&keyed, 48, KIND_LEAF);
    uintptr_t roots[2] = {make(key, value), key};
    keyed_mark(&keyed, roots, 2);
    assert_int_equal(audit_from(roots, 2, &reached), 2); // Q2, Q4
    ground_resume(&keyed.ground);
    keyed_mark(&keyed, roots, 2);
    keyed_close(&keyed);
    assert_int_equal(audit_from(roots, 2, &reached), 0);
    clear();
}

// A chain against its order: linear here too, or this takes for ever.
static void test_chain(void **state) {
    (void)state;
    size_t reached;
    struct keyed_chain chain = keyed_chain(&keyed, CHAIN, true, NULL);
    uintptr_t roots[3] = {(uintptr_t)chain.keys, (uintptr_t)chain.holders,
                          chain.keys[0]};
    keyed_mark(&keyed, roots, 3);
    keyed_close(&keyed);
    assert_int_equal(audit_from(roots, 3, &reached), 0); // Q4
    assert_int_equal(reached, 2 * CHAIN + 3);
    clear();
}

static int setup(void **state) {
    (void)state;
    return keyed_init(&keyed, 2 * GiB) ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_missed),
        cmocka_unit_test(test_agree),
        cmocka_unit_test(test_chain),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
