// The second marker and ephemerons: where it agrees with the first, and where
// the first is made to be wrong.

#include "trace/audit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/gen.h"
#include "support/ground.h"
#include "trace/ephemeron.h"
#include "trace/mark.h"

#define NODES ((size_t)(LOAM_TINY ? 60 : 400))
#define CHAIN ((size_t)(LOAM_TINY ? 2000 : 200000))

static struct ground ground;
static struct marker marker;
static struct ephemerons table;
static uintptr_t nodes[NODES];

static struct ephemeron *make(uintptr_t key, uintptr_t value) {
    struct ephemeron *ephemeron = (struct ephemeron *)ground_make(
        &ground, sizeof *ephemeron, KIND_EPHEMERON, 0);
    struct place place;
    assert_non_null(ephemeron);
    assert_true(ephemeron_reserve(&table));
    assert_non_null(blockmap_object(key, &place));
    ephemeron_set(ephemeron, key, &place, value);
    return ephemeron;
}

static void mark_from(const uintptr_t *roots, size_t count, bool keyed) {
    ground_prepare(&ground);
    mark_begin(&marker);
    mark_range(&marker, roots, roots + count);
    mark_drain(&marker);
    if (keyed) {
        mark_ephemerons(&marker, &table);
        mark_drain(&marker);
    }
}

static size_t audit_from(const uintptr_t *roots, size_t count,
                         size_t *reached) {
    struct audit audit;
    uintptr_t example;
    assert_true(audit_begin(&audit, &ground.heap));
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
    ephemeron_finish(&table);
    ground_flip(&ground, &census);
    ground_prepare(&ground);
    ground_flip(&ground, &census);
}

// Q4 with both: the same objects, to the last.
static void test_agree(void **state) {
    (void)state;
    struct gen gen;
    gen_init(&gen, gen_seed("keyed audit"));
    for (size_t round = 0; round < (LOAM_TINY ? 50 : 200); round++) {
        size_t reached;
        for (size_t i = 0; i < NODES; i++) {
            nodes[i] =
                gen_chance(&gen, 50) || i < 2
                    ? (uintptr_t)ground_make(&ground, 48, KIND_SCANNED, 0)
                    : (uintptr_t)make(nodes[gen_below(&gen, i)],
                                      nodes[gen_below(&gen, i)]);
        }
        for (size_t i = 0; i < NODES; i++) {
            struct place place;
            assert_non_null(blockmap_object(nodes[i], &place));
            if (place.kind == KIND_SCANNED) {
                ((uintptr_t *)nodes[i])[gen_below(&gen, 6)] =
                    nodes[gen_below(&gen, NODES)];
            }
        }
        uintptr_t roots[5];
        for (size_t i = 0; i < 5; i++) {
            roots[i] = nodes[gen_below(&gen, NODES)];
        }
        mark_from(roots, 5, true);
        assert_int_equal(audit_from(roots, 5, &reached), 0); // Q4
        assert_int_equal(reached, marker.object_count);      // Q4
        clear();
    }
}

// A marker that forgets ephemerons is found out, by each value it lost.
static void test_missed(void **state) {
    (void)state;
    size_t reached;
    uintptr_t key = (uintptr_t)ground_make(&ground, 48, KIND_LEAF, 0);
    uintptr_t value = (uintptr_t)ground_make(&ground, 48, KIND_SCANNED, 0);
    *(uintptr_t *)value = (uintptr_t)ground_make(&ground, 48, KIND_LEAF, 0);
    uintptr_t roots[2] = {(uintptr_t)make(key, value), key};
    mark_from(roots, 2, false);
    assert_int_equal(audit_from(roots, 2, &reached), 2); // Q2, Q4
    ground_resume(&ground);
    mark_from(roots, 2, true);
    assert_int_equal(audit_from(roots, 2, &reached), 0);
    clear();
}

// A chain against its order: linear here too, or this takes for ever.
static void test_chain(void **state) {
    (void)state;
    size_t reached;
    uintptr_t *keys = (uintptr_t *)ground_make(
        &ground, (CHAIN + 1) * WORD_BYTES, KIND_LEAF, 0);
    uintptr_t *holders =
        (uintptr_t *)ground_make(&ground, CHAIN * WORD_BYTES, KIND_SCANNED, 0);
    for (size_t i = 0; i <= CHAIN; i++) {
        keys[i] = (uintptr_t)ground_make(&ground, 16, KIND_LEAF, 0);
    }
    for (size_t i = CHAIN; i-- > 0;) {
        holders[CHAIN - 1 - i] = (uintptr_t)make(keys[i], keys[i + 1]);
    }
    uintptr_t roots[3] = {(uintptr_t)keys, (uintptr_t)holders, keys[0]};
    mark_from(roots, 3, true);
    assert_int_equal(audit_from(roots, 3, &reached), 0); // Q4
    assert_int_equal(reached, 2 * CHAIN + 3);
    clear();
}

static int setup(void **state) {
    (void)state;
    return ground_init(&ground, 2 * GiB) && mark_init(&marker) ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_missed),
        cmocka_unit_test(test_agree),
        cmocka_unit_test(test_chain),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
