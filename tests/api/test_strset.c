// Sets and maps of texts at random against an array, with a collection at every
// allocation and both checks on; texts whose hashes agree; walks over what
// changes under them; copies that are held; and what a refusal leaves.

#include "api/strset.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "support/gen.h"
#include "support/scarce.h"
#include "support/scrub.h"
#include "support/value.h"

#define KEYS      ((size_t)240)
#define BYTES_MAX ((size_t)60)
#define STEPS     ((size_t)SCALED(15000, 500))
#define ALIKE     ((size_t)8) // keys in pairs with the same 31 bits of hash

enum sort { SET, LEAF, SCANNED };

static struct model {
    unsigned char bytes[BYTES_MAX];
    size_t count;
    uint64_t mark; // what its value says
    bool there, stayed, again;
    unsigned met;
} models[KEYS];

static struct loam_strset *set;
static struct loam_strmap *map;

static bool is_same(const struct model *model, const void *bytes,
                    size_t count) {
    return model->count == count && memcmp(model->bytes, bytes, count) == 0;
}

// Texts whose hashes agree where the table looks: found by trying, among many,
// sorted by hash.
struct tried {
    uint64_t hash, number;
};

static int compare_tried(const void *a, const void *b) {
    uint64_t x = ((const struct tried *)a)->hash;
    uint64_t y = ((const struct tried *)b)->hash;
    return x < y ? -1 : x > y;
}

static void choose_alike(void) {
    enum { TRIED = 600000 };
    // Not a variable: each collection would read it.
    struct tried *tried = malloc(TRIED * sizeof *tried);
    assert_non_null(tried);
    for (uint64_t i = 0; i < TRIED; i++) {
        // Of two lengths, since these count first.
        tried[i].number = i % 2 != 0 ? i : i | (uint64_t)1 << 56;
        tried[i].hash = hash_bytes(&tried[i].number, i % 2 != 0 ? 5 : 8) >> 33;
    }
    qsort(tried, TRIED, sizeof *tried, compare_tried);
    size_t found = 0;
    for (size_t i = 1; i < TRIED && found < ALIKE; i++) {
        if (tried[i].hash != tried[i - 1].hash) {
            continue;
        }
        for (size_t side = 0; side < 2; side++, found++) {
            struct model *model = &models[found];
            uint64_t number = tried[i - side].number;
            model->count = number >> 56 != 0 ? 8 : 5;
            memcpy(model->bytes, &number, model->count);
        }
    }
    free(tried);
    assert_int_equal(found, ALIKE);
}

static void choose_keys(struct gen *gen) {
    memset(models, 0, sizeof models);
    choose_alike();
    for (size_t i = ALIKE; i < KEYS; i++) {
        struct model *model = &models[i];
        bool is_new = false;
        while (!is_new) {
            model->count = i == ALIKE ? 0 : gen_below(gen, BYTES_MAX + 1);
            for (size_t at = 0; at < model->count; at++) {
                model->bytes[at] = (unsigned char)gen_below(gen, 3);
            }
            is_new = true;
            for (size_t other = 0; other < i; other++) {
                is_new &= !is_same(&models[other], model->bytes, model->count);
            }
        }
    }
}

static void put(enum sort sort, struct model *model, struct gen *gen) {
    if (sort == SET) {
        assert_true(loam_strset_add(set, model->bytes, model->count));
    } else {
        void *value = value_make(sort == LEAF, &model->mark, gen);
        assert_true(loam_strmap_put(map, model->bytes, model->count, value));
    }
    model->again |= !model->there;
    model->there = true;
}

static void take(enum sort sort, struct model *model) {
    bool was = sort == SET
                   ? loam_strset_remove(set, model->bytes, model->count)
                   : loam_strmap_remove(map, model->bytes, model->count);
    assert_int_equal(was, model->there); // SS1
    model->there = false;
    model->stayed = false;
}

static const struct strset *inside(enum sort sort) {
    return sort == SET ? (const struct strset *)set
                       : (const struct strset *)map;
}

static void check_all(enum sort sort) {
    size_t there = 0;
    size_t bytes = 0;
    for (size_t i = 0; i < KEYS; i++) {
        struct model *model = &models[i];
        there += model->there;
        bytes += model->there ? (4 + model->count + 1 + 3) / 4 * 4 : 0;
        if (sort == SET) {
            assert_int_equal(loam_strset_has(set, model->bytes, model->count),
                             model->there); // SS1
            continue;
        }
        void **place = loam_strmap_find(map, model->bytes, model->count);
        assert_int_equal(place != NULL, model->there);
        assert_ptr_equal(loam_strmap_get(map, model->bytes, model->count),
                         place != NULL ? *place : NULL);
        if (place != NULL) {
            value_check(sort == LEAF, model->mark, *place);
        }
    }
    const struct strset *known = inside(sort);
    assert_int_equal(
        sort == SET ? loam_strset_count(set) : loam_strmap_count(map), there);
    assert_true(ordered_check(&known->table));
    assert_int_equal((known->used - known->holes) * STRSET_UNIT_BYTES, bytes);
}

// SS6: after one text was put in.
static void check_leaves(const struct strset *known,
                         const struct strset *before) {
    bool was_half =
        before->table.count != 0 && before->holes >= before->used / 2;
    bool added = false;
    bool packed = false;
    for (size_t leaf = 0; leaf < STRSET_LEAVES; leaf++) {
        bool was_there = before->leaves[leaf] != NULL;
        bool stayed = before->leaves[leaf] == known->leaves[leaf];
        added |= !was_there && !stayed;
        packed |= was_there && !stayed;
    }
    assert_true(!was_half || !added || packed); // SS6
}

static void change(enum sort sort, struct gen *gen) {
    struct model *model =
        &models[gen_below(gen, gen_chance(gen, 10) ? ALIKE : KEYS)];
    const struct strset *known = inside(sort);
    struct strset before = *known;
    size_t what = gen_below(gen, 1000);
    if (what < 550) {
        put(sort, model, gen);
        check_leaves(known, &before);
    } else if (what < 990) {
        take(sort, model);
    } else if (what < 994) {
        assert_true(sort == SET ? loam_strset_shrink(set)
                                : loam_strmap_shrink(map));
    } else if (what < 998) {
        size_t more = gen_below(gen, 2000);
        assert_true(sort == SET ? loam_strset_reserve(set, more)
                                : loam_strmap_reserve(map, more));
    } else {
        sort == SET ? loam_strset_clear(set) : loam_strmap_clear(map);
        for (size_t i = 0; i < KEYS; i++) {
            models[i].there = models[i].stayed = false;
        }
    }
}

static struct model *model_of(const void *bytes, size_t count) {
    for (size_t i = 0;; i++) {
        assert_true(i < KEYS);
        if (is_same(&models[i], bytes, count)) {
            return &models[i];
        }
    }
}

static void walk_all(enum sort sort, struct gen *gen, unsigned changes) {
    struct loam_walk walk = {0, NULL};
    const char *key = NULL;
    size_t count;
    void *value = NULL;
    for (size_t i = 0; i < KEYS; i++) {
        models[i].stayed = models[i].there;
        models[i].again = false;
        models[i].met = 0;
    }
    while (sort == SET ? loam_strset_next(set, &walk, &key, &count)
                       : loam_strmap_next(map, &walk, &count, &value)) {
        key = walk.key;
        struct model *model = model_of(key, count);
        assert_true(model->there); // SS1
        assert_true(++model->met == 1 || model->again);
        assert_int_equal(key[count], 0);
        if (sort != SET) {
            value_check(sort == LEAF, model->mark, value);
        }
        for (size_t i = 0; gen_chance(gen, changes) && i < 10; i++) {
            change(sort, gen);
        }
        assert_true(is_same(model, key, count)); // SS5
    }
    for (size_t i = 0; i < KEYS; i++) {
        assert_true(!models[i].stayed || models[i].met == 1); // SS2
    }
}

static void test_random(void **state) {
    (void)state;
    struct gen gen;
    gen_init(&gen, gen_seed("strset"));
    choose_keys(&gen);
    for (enum sort sort = SET; sort <= SCANNED; sort++) {
        for (size_t i = 0; i < KEYS; i++) {
            models[i].there = false;
        }
        set = loam_strset_make();
        map =
            loam_strmap_make(sort == LEAF ? LOAM_DATA_LEAF : LOAM_DATA_SCANNED);
        assert_true(set != NULL && map != NULL);
        check_all(sort);
        for (size_t step = 0; step < STEPS; step++) {
            change(sort, &gen);
            if (step % 50 == 0) {
                check_all(sort);
                walk_all(sort, &gen, step % 100 == 0 ? 0 : 40);
                check_all(sort);
            }
        }
    }
}

// SS4: whatever was there before, and in whatever order they came.
static void test_order(void **state) {
    (void)state;
    struct gen gen;
    gen_init(&gen, gen_seed("strset order"));
    choose_keys(&gen);
    struct loam_strset *sets[2] = {loam_strset_make(), loam_strset_make()};
    assert_true(sets[0] != NULL && sets[1] != NULL);
    for (size_t i = 0; i < 2 * KEYS; i++) {
        const struct model *a = &models[i % KEYS];
        const struct model *b = &models[KEYS - 1 - i % KEYS];
        assert_true(loam_strset_add(sets[0], a->bytes, a->count));
        assert_true(loam_strset_add(sets[1], b->bytes, b->count));
        if (i < KEYS) {
            assert_true(loam_strset_remove(sets[1], b->bytes, b->count));
        }
    }
    struct loam_walk walks[2] = {{0, NULL}, {0, NULL}};
    const char *keys[2];
    size_t counts[2], met = 0;
    while (loam_strset_next(sets[0], &walks[0], &keys[0], &counts[0])) {
        assert_true(loam_strset_next(sets[1], &walks[1], &keys[1], &counts[1]));
        assert_int_equal(counts[0], counts[1]);
        assert_memory_equal(keys[0], keys[1], counts[0] + 1);
        met++;
    }
    assert_int_equal(met, KEYS);
}

static void test_refused(void **state) {
    (void)state;
    struct loam_strmap *full = loam_strmap_make(LOAM_DATA_LEAF);
    assert_non_null(full);
    char key[32];
    size_t count = 0;
    scarce_begin();
    errno = 0;
    for (;; count++) {
        snprintf(key, sizeof key, "a longer key, %zu", count);
        if (!loam_strmap_put(full, key, strlen(key), (void *)~count)) {
            break;
        }
    }
    assert_int_equal(errno, ENOMEM);
    assert_int_equal(loam_strmap_count(full), count); // SS3
    assert_false(loam_strmap_reserve(full, SIZE_MAX));
    for (size_t i = 0; i <= count; i++) {
        snprintf(key, sizeof key, "a longer key, %zu", i);
        assert_ptr_equal(loam_strmap_get(full, key, strlen(key)),
                         i < count ? (void *)~i : NULL);
    }
    scarce_end();
    assert_true(loam_strmap_put(full, key, strlen(key), NULL));
    assert_int_equal(loam_strmap_count(full), count + 1);
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
