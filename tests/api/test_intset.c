// Sets and maps of integers at random against an array, with a collection at
// every allocation and both checks on; walks over what changes under them; and
// what a refusal leaves.

#include "api/intset.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>

#include "base/hash.h"
#include "support/gen.h"
#include "support/scarce.h"
#include "support/scrub.h"
#include "support/value.h"

#define KEYS  ((size_t)300)
#define STEPS ((size_t)SCALED(20000, 400))

enum sort { SET, LEAF, SCANNED };

// Of each key: whether it is there; and during a walk, whether it was all the
// time, whether it was put again, and how often it was met.
static struct model {
    uint64_t key;
    uint64_t mark; // what its value says
    bool there, stayed, again;
    unsigned met;
} models[KEYS];

static struct loam_intset *set;
static struct loam_intmap *map;

// Small numbers; keys that collide at the first homes and at the last; the key
// that is kept apart; numbers by chance.
static void choose_keys(struct gen *gen) {
    for (size_t i = 0; i < KEYS; i++) {
        size_t how = i % 4;
        models[i] = (struct model){
            .key = how == 0   ? i
                   : how == 1 ? hash_unword(i)
                   : how == 2 ? hash_unword(UINT64_MAX - i + 2) // IS5, at i = 2
                              : gen_next(gen)};
    }
}

static size_t count_models(void) {
    size_t count = 0;
    for (size_t i = 0; i < KEYS; i++) {
        count += models[i].there;
    }
    return count;
}

static size_t count(enum sort sort) {
    return sort == SET ? loam_intset_count(set) : loam_intmap_count(map);
}

// The value of a map of pointers says whose it is, and is held by the map.
static void put(enum sort sort, struct model *model, struct gen *gen) {
    if (sort == SET) {
        assert_true(loam_intset_add(set, model->key));
    } else {
        assert_true(loam_intmap_put(
            map, model->key, value_make(sort == LEAF, &model->mark, gen)));
    }
    model->again |= !model->there;
    model->there = true;
}

static void take(enum sort sort, struct model *model) {
    bool was = sort == SET ? loam_intset_remove(set, model->key)
                           : loam_intmap_remove(map, model->key);
    assert_int_equal(was, model->there); // IS1
    model->there = false;
    model->stayed = false;
}

static void check_all(enum sort sort) {
    for (size_t i = 0; i < KEYS; i++) {
        struct model *model = &models[i];
        if (sort == SET) {
            assert_int_equal(loam_intset_has(set, model->key), model->there);
            continue;
        }
        void **place = loam_intmap_find(map, model->key);
        assert_int_equal(place != NULL, model->there); // IS1
        assert_ptr_equal(loam_intmap_get(map, model->key),
                         place != NULL ? *place : NULL);
        if (place != NULL) {
            value_check(sort == LEAF, model->mark, *place);
        }
    }
    assert_int_equal(count(sort), count_models());
    assert_true(ordered_check(sort == SET ? &((struct intset *)set)->table
                                          : &((struct intset *)map)->table));
}

static void change(enum sort sort, struct gen *gen) {
    struct model *model = &models[gen_below(gen, KEYS)];
    size_t what = gen_below(gen, 1000);
    if (what < 550) {
        put(sort, model, gen);
    } else if (what < 990) {
        take(sort, model);
    } else if (what < 994) {
        assert_true(sort == SET ? loam_intset_shrink(set)
                                : loam_intmap_shrink(map));
    } else if (what < 998) {
        size_t more = gen_below(gen, 2000);
        assert_true(sort == SET ? loam_intset_reserve(set, more)
                                : loam_intmap_reserve(map, more));
    } else {
        sort == SET ? loam_intset_clear(set) : loam_intmap_clear(map);
        for (size_t i = 0; i < KEYS; i++) {
            models[i].there = models[i].stayed = false;
        }
    }
}

static struct model *model_of(uint64_t key) {
    for (size_t i = 0;; i++) {
        assert_true(i < KEYS);
        if (models[i].key == key) {
            return &models[i];
        }
    }
}

// A walk, during which `changes` of a hundred steps change something.
static void walk_all(enum sort sort, struct gen *gen, unsigned changes) {
    struct loam_walk walk = {0, NULL};
    uint64_t key;
    void *value = NULL;
    for (size_t i = 0; i < KEYS; i++) {
        models[i].stayed = models[i].there;
        models[i].again = false;
        models[i].met = 0;
    }
    while (sort == SET ? loam_intset_next(set, &walk, &key)
                       : loam_intmap_next(map, &walk, &key, &value)) {
        struct model *model = model_of(key);
        assert_true(model->there); // IS1
        assert_true(++model->met == 1 || model->again);
        if (sort != SET) {
            value_check(sort == LEAF, model->mark, value);
        }
        for (size_t i = 0; gen_chance(gen, changes) && i < 10; i++) {
            change(sort, gen);
        }
    }
    for (size_t i = 0; i < KEYS; i++) {
        assert_true(!models[i].stayed || models[i].met == 1); // IS2
    }
}

static void one_sort(struct gen *gen, enum sort sort) {
    choose_keys(gen);
    set = loam_intset_make();
    map = loam_intmap_make(sort == LEAF ? LOAM_DATA_LEAF : LOAM_DATA_SCANNED);
    assert_true(set != NULL && map != NULL);
    check_all(sort);
    for (size_t step = 0; step < STEPS; step++) {
        change(sort, gen);
        if (step % 50 == 0) {
            check_all(sort);
            walk_all(sort, gen, step % 100 == 0 ? 0 : 40);
            check_all(sort);
        }
    }
}

static void test_random(void **state) {
    (void)state;
    struct gen gen;
    gen_init(&gen, gen_seed("intset"));
    for (enum sort sort = SET; sort <= SCANNED; sort++) {
        one_sort(&gen, sort);
    }
}

// IS4: two sets that came to the same keys by different ways.
static void test_order(void **state) {
    (void)state;
    struct loam_intset *a = loam_intset_make();
    struct loam_intset *b = loam_intset_make();
    assert_true(a != NULL && b != NULL && loam_intset_reserve(b, 5000));
    for (uint64_t key = 0; key < 1000; key++) {
        assert_true(loam_intset_add(a, key) && loam_intset_add(b, 1999 - key));
    }
    for (uint64_t key = 1000; key < 2000; key++) {
        assert_true(loam_intset_add(a, key) && loam_intset_remove(b, key));
        assert_true(loam_intset_remove(a, key) &&
                    loam_intset_add(b, key - 1000));
    }
    struct loam_walk walk_a = {0, NULL}, walk_b = {0, NULL};
    uint64_t key_a, key_b;
    size_t met = 0;
    while (loam_intset_next(a, &walk_a, &key_a)) {
        assert_true(loam_intset_next(b, &walk_b, &key_b));
        assert_int_equal(key_a, key_b);
        met++;
    }
    assert_false(loam_intset_next(b, &walk_b, &key_b));
    assert_int_equal(met, 1000);
}

// Until memory is refused: IS3.
static void test_refused(void **state) {
    (void)state;
    struct loam_intmap *full = loam_intmap_make(LOAM_DATA_LEAF);
    assert_non_null(full);
    scarce_begin();
    uint64_t key = 0;
    errno = 0;
    while (loam_intmap_put(full, key, (void *)(uintptr_t)~key)) {
        key++;
    }
    assert_int_equal(errno, ENOMEM);
    assert_false(loam_intmap_reserve(full, SIZE_MAX));
    assert_int_equal(loam_intmap_count(full), key);
    for (uint64_t i = 0; i <= key; i++) {
        assert_ptr_equal(loam_intmap_get(full, i),
                         i < key ? (void *)(uintptr_t)~i : NULL);
    }
    assert_true(loam_intmap_put(full, 0, NULL)); // over an old one: no memory
    scarce_end();
    assert_true(loam_intmap_put(full, key, NULL));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_refused),
    };
    setenv("LOAM_COLLECT_EVERY", "1", 1);
    setenv("LOAM_CHECK", "all", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
