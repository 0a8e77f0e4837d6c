// Counted objects as keys and values of maps; types whose objects traced memory
// may hold without a count, and types whose memory waits; rings through both
// worlds; what is refused.
//
// with: LOAM_CHECK=all LOAM_COLLECT_EVERY=1

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "loam/rc.h"
#include "loam/weak.h"
#include "support/scrub.h"

#define COUNT ((size_t)200)
#define STRAY ((size_t)8) // so many a stray word may keep

struct node {
    struct node *next;
    void *plain; // to a traced object
    size_t age;  // when it was made
};

// What was made since begin() and destroyed: a stray word may keep what an
// earlier test made until now.
static size_t destroyed, age;

static void begin(void) {
    destroyed = 0;
    age++;
}

static void node_destroy(void *node) {
    destroyed += ((const struct node *)node)->age == age;
}

static LOAM_TYPE(node_type, struct node, LOAM_OWNS(struct node, next),
                 .destroy = node_destroy);
static LOAM_TYPE(held_type, struct node, LOAM_OWNS(struct node, next),
                 .destroy = node_destroy, .flags = LOAM_TYPE_TRACED);
static LOAM_TYPE(kept_type, struct node, LOAM_OWNS(struct node, next),
                 .destroy = node_destroy, .flags = LOAM_TYPE_QUARANTINE);
static LOAM_TYPE(shared_type, struct node, LOAM_OWNS(struct node, next),
                 .destroy = node_destroy, .flags = LOAM_TYPE_SHARED);

static struct node *make(struct loam_type *type) {
    struct node *node = loam_new(type);
    assert_non_null(node);
    node->age = age;
    return node;
}

static void collect(void) {
    for (int i = 0; i < 3; i++) {
        assert_true(scrub_collect());
        (void)loam_settle();
    }
}

// --- Maps -------------------------------------------------------------------

static void check_keys(struct loam_type *type) {
    struct loam_weakmap *map = loam_weakmap_make();
    struct node *keys[COUNT];
    static int values[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        keys[i] = make(type);
        assert_true(loam_weakmap_put(map, keys[i], &values[i]));
    }
    for (size_t i = 0; i < COUNT; i++) {
        assert_ptr_equal(loam_weakmap_get(map, keys[i]), &values[i]);
        loam_release(keys[i]);
        // Gone at once, without a collection, and its place is not another's.
        assert_null(loam_weakmap_get(map, keys[i]));
        assert_int_equal(loam_weakmap_count(map), COUNT - 1 - i);
        struct node *other = make(type);
        assert_null(loam_weakmap_get(map, other));
        loam_release(other);
    }
    collect();
    assert_int_equal(loam_weakmap_count(map), 0);
}

static void test_keys(void **state) {
    (void)state;
    check_keys(&node_type);
    check_keys(&shared_type);
    check_keys(&kept_type);
}

static struct loam_weakmap *seen_map;
static void *seen_value;

static void look(void *node) {
    seen_value = loam_weakmap_get(seen_map, node);
}

static LOAM_TYPE(look_type, struct node, .destroy = look);
static LOAM_TYPE(last_type, struct node, .finalize = look);

// A destructor finds no entry any more; a finalizer, which may bring the object
// back, does.
static void test_in_destructor(void **state) {
    (void)state;
    seen_map = loam_weakmap_make();
    struct node *key = make(&look_type);
    assert_true(loam_weakmap_put(seen_map, key, &seen_map));
    seen_value = &seen_map;
    loam_release(key);
    assert_null(seen_value);
    key = make(&last_type);
    assert_true(loam_weakmap_put(seen_map, key, &seen_map));
    loam_release(key);
    assert_true(seen_value == NULL || seen_value == (void *)&seen_map);
    assert_int_equal(loam_weakmap_count(seen_map), 0);
    seen_map = NULL;
}

// A value that dies takes its entry along; one that is owned stays.
static void test_values(void **state) {
    (void)state;
    struct loam_weakmap *map = loam_weakmap_make();
    void *keys[COUNT];
    struct node *values[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        keys[i] = loam_alloc(16);
        values[i] = make(&node_type);
        assert_true(loam_weakmap_put(map, keys[i], values[i]));
    }
    for (size_t i = 0; i < COUNT; i += 2) {
        loam_release(values[i]);
        assert_null(loam_weakmap_get(map, keys[i]));
        assert_ptr_equal(loam_weakmap_get(map, keys[i + 1]), values[i + 1]);
    }
    collect();
    for (size_t i = 0; i < COUNT; i += 2) {
        struct node *other = make(&node_type);
        assert_null(loam_weakmap_get(map, keys[i]));
        assert_ptr_equal(loam_weakmap_get(map, keys[i + 1]), values[i + 1]);
        assert_true(loam_weakmap_put(map, keys[i], other));
        assert_ptr_equal(loam_weakmap_get(map, keys[i]), other);
        loam_release(other);
        loam_release(values[i + 1]);
    }
    assert_int_equal(loam_weakmap_count(map), 0);
}

// Values that lead to their own keys: the entry does not keep its key, so both
// go, and while the key is owned both stay.
static NOT_INLINED void put_reaching(struct loam_weakmap *map, bool own,
                                     uintptr_t *hidden) {
    for (size_t i = 0; i < COUNT; i++) {
        struct node *key = make(&node_type);
        struct node *value = make(&held_type);
        value->next = loam_retain(key);
        assert_true(loam_weakmap_put(map, key, value));
        loam_release(value); // from here on the map keeps it
        hidden[i] = ~(uintptr_t)key;
        if (!own) {
            loam_release(key);
        }
    }
}

static void test_value_reaches_key(void **state) {
    (void)state;
    static uintptr_t hidden[COUNT];
    struct loam_weakmap *map = loam_weakmap_make();
    begin();
    put_reaching(map, true, hidden);
    collect();
    assert_int_equal(destroyed, 0);
    assert_int_equal(loam_weakmap_count(map), COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        struct node *key = (struct node *)~hidden[i];
        struct node *value = loam_weakmap_get(map, key);
        assert_ptr_equal(value->next, key);
        loam_release(key);
    }
    assert_int_equal(destroyed, 0);
    collect();
    assert_in_range(destroyed, 2 * (COUNT - STRAY), 2 * COUNT);
    assert_in_range(loam_weakmap_count(map), 0, STRAY);
}

static void test_valuemap(void **state) {
    (void)state;
    struct loam_valuemap *map = loam_valuemap_make(LOAM_KEYS_TEXTS);
    struct node *value = make(&node_type);
    assert_true(loam_valuemap_put(map, "one", value));
    assert_ptr_equal(loam_valuemap_get(map, "one"), value);
    loam_release(value);
    assert_null(loam_valuemap_get(map, "one"));
    assert_int_equal(loam_valuemap_count(map), 0);
}

// --- Both worlds ------------------------------------------------------------

struct cell {
    struct node *node;
};

// An object of a traced type lives without a count while traced memory leads to
// it, and is destroyed when nothing does.
static NOT_INLINED void fill(struct cell *filled) {
    for (size_t i = 0; i < COUNT; i++) {
        filled[i].node = make(&held_type);
        filled[i].node->plain = loam_alloc(32);
        memset(filled[i].node->plain, 7, 32);
        loam_release(filled[i].node);
    }
}

static struct cell *cells;

static void test_held(void **state) {
    (void)state;
    begin();
    cells = loam_alloc(COUNT * sizeof *cells);
    fill(cells);
    collect();
    assert_int_equal(destroyed, 0);
    for (size_t i = 0; i < COUNT; i++) {
        assert_int_equal(((char *)cells[i].node->plain)[31], 7);
        assert_int_equal(loam_count(cells[i].node), 0);
    }
    // It may be owned again, and given up again.
    struct node *owned = loam_retain(cells[0].node);
    assert_int_equal(loam_count(owned), 1);
    loam_release(owned);
    assert_int_equal(destroyed, 0);
    owned = NULL;
    memset(cells, 0, COUNT * sizeof *cells);
    collect();
    assert_in_range(destroyed, COUNT - STRAY, COUNT);
}

// counted -> traced -> counted (traced type) -> the first
static NOT_INLINED void make_rings(struct loam_type *type, size_t count,
                                   uintptr_t *hidden) {
    for (size_t i = 0; i < count; i++) {
        struct node *first = make(&node_type);
        struct cell *cell = loam_alloc(sizeof *cell);
        struct node *last = make(type);
        first->plain = cell;
        cell->node = last;
        loam_assign(&last->next, first);
        loam_release(first);
        if (type->flags & LOAM_TYPE_TRACED) {
            loam_release(last);
        }
        hidden[i] = ~(uintptr_t)last;
    }
}

static struct loam_rc_stats figures(void) {
    struct loam_rc_stats stats;
    loam_rc_stats(&stats, sizeof stats);
    return stats;
}

static void test_rings(void **state) {
    (void)state;
    static uintptr_t hidden[COUNT];
    begin();
    struct loam_rc_stats before = figures();
    make_rings(&held_type, COUNT, hidden);
    (void)loam_collect_cycles(0);
    struct loam_rc_stats after = figures();
    assert_int_equal(after.in_rings, before.in_rings); // not its business
    // Of those that a collection condemned meanwhile it is.
    assert_in_range(destroyed, 0, after.by_tracer - before.by_tracer);
    collect();
    assert_in_range(destroyed, 2 * (COUNT - STRAY), 2 * COUNT);
}

// The same with an owner that only malloc'd memory knows: kept, whole.
static void test_rings_owned(void **state) {
    (void)state;
    uintptr_t *hidden = malloc(COUNT * sizeof *hidden);
    begin();
    make_rings(&node_type, COUNT, hidden);
    collect();
    assert_int_equal(destroyed, 0);
    for (size_t i = 0; i < COUNT; i++) {
        struct node *last = (struct node *)~hidden[i];
        assert_ptr_equal(loam_type_of(last), &node_type);
        struct cell *cell = last->next->plain;
        assert_ptr_equal(cell->node, last);
        loam_release(last);
    }
    assert_int_equal(destroyed, 2 * COUNT);
    free(hidden);
}

// --- Memory that waits ------------------------------------------------------

// Destroyed at once, but a pointer that is too old leads to no new object, as
// long as it is there; without one, the memory is used again.
static void test_quarantine(void **state) {
    (void)state;
    begin();
    struct node *old[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        old[i] = make(&kept_type);
    }
    for (size_t i = 0; i < COUNT; i++) {
        loam_release(old[i]);
    }
    assert_int_equal(destroyed, COUNT);
    struct node *young[COUNT];
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < COUNT; i++) {
            young[i] = make(&kept_type);
            for (size_t k = 0; k < COUNT; k++) {
                assert_ptr_not_equal(young[i], old[k]);
            }
        }
        assert_true(loam_collect());
    }
    assert_null(loam_type_of(old[0]));
}

// A value that was destroyed, and that a buffer names still, leads nowhere: the
// second marker does not go on from it either (Q7 of trace/audit.h).
static void test_value_that_died(void **state) {
    (void)state;
    struct loam_weakmap *map = loam_weakmap_make();
    void *keys[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        keys[i] = loam_alloc(16);
        struct node *value = make(&node_type);
        value->plain = loam_alloc(32);
        assert_true(loam_weakmap_put(map, keys[i], value));
        loam_release(loam_retain(value)); // a suspect from now on
        loam_release(value);
        assert_null(loam_weakmap_get(map, keys[i]));
    }
    assert_true(loam_collect());
    loam_keep(keys[0]);
    loam_keep(map);
}

// --- Refused ----------------------------------------------------------------

static void finalize(void *object, void *data) {
    (void)data;
    assert_int_equal(loam_count(object), 1); // its own, as long as it runs
}

// What weak.h has for traced objects is there for counted ones.
static void test_finalizers(void **state) {
    (void)state;
    struct node *node = make(&node_type);
    struct loam_finalizer finalizer = {finalize, NULL, LOAM_FINALIZE_ORDERED};
    struct loam_guardian *guardian = loam_guardian_make();
    assert_true(loam_finalizer_set(node, &finalizer, NULL));
    assert_true(loam_guardian_watch(guardian, node));
    assert_int_equal(loam_finalizers_waiting(), 2);
    loam_release(node);
    assert_int_equal(loam_finalizers_waiting(), 0);
    assert_int_equal(loam_count(node), 1);
    assert_ptr_equal(loam_guardian_next(guardian), node);
    loam_release(node);
    assert_null(loam_guardian_next(guardian));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_keys),
                                       cmocka_unit_test(test_in_destructor),
                                       cmocka_unit_test(test_values),
                                       cmocka_unit_test(test_value_reaches_key),
                                       cmocka_unit_test(test_valuemap),
                                       cmocka_unit_test(test_held),
                                       cmocka_unit_test(test_rings),
                                       cmocka_unit_test(test_rings_owned),
                                       cmocka_unit_test(test_quarantine),
                                       cmocka_unit_test(test_value_that_died),
                                       cmocka_unit_test(test_finalizers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
