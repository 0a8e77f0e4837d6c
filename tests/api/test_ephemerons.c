// Maps whose keys or values are weak: what they keep, what they drop, and how
// they are walked while they change.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loam/weak.h"
#include "support/gen.h"
#include "support/scrub.h"

#define CHAIN ((size_t)SCALED(1000000, 50000))
#define MANY  ((size_t)SCALED(20000, 2000))

static void *must(void *p) {
    assert_non_null(p);
    return p;
}

static void *checked(size_t bytes) {
    return must(loam_alloc(bytes));
}

// --- Weak maps -----------------------------------------------------------

static void test_put_and_get(void **state) {
    (void)state;
    struct loam_weakmap *map = must(loam_weakmap_make());
    void **keys = must(loam_calloc(MANY, sizeof *keys));
    assert_null(loam_weakmap_get(map, map));
    assert_int_equal(loam_weakmap_count(map), 0);
    for (size_t i = 0; i < MANY; i++) {
        keys[i] = checked(16);
        assert_true(loam_weakmap_put(map, keys[i], &keys[i]));
    }
    for (size_t i = 0; i < MANY; i += 2) {
        assert_true(loam_weakmap_put(map, keys[i], keys));
    }
    assert_int_equal(loam_weakmap_count(map), MANY);
    assert_true(scrub_collect());
    for (size_t i = 0; i < MANY; i++) {
        assert_ptr_equal(loam_weakmap_get(map, keys[i]),
                         i % 2 == 0 ? (void *)keys : (void *)&keys[i]);
    }
    for (size_t i = 0; i < MANY; i += 5) {
        assert_true(loam_weakmap_remove(map, keys[i]));
        assert_false(loam_weakmap_remove(map, keys[i]));
        assert_null(loam_weakmap_get(map, keys[i]));
    }
    assert_int_equal(loam_weakmap_count(map), MANY - (MANY + 4) / 5);
    loam_weakmap_clear(map);
    assert_int_equal(loam_weakmap_count(map), 0);
    assert_true(loam_weakmap_put(map, keys[0], NULL));
    assert_int_equal(loam_weakmap_count(map), 1);
}

// Values that lead to their own key, in one map and across two.
static NOT_INLINED void put_rings(struct loam_weakmap *a,
                                  struct loam_weakmap *b, size_t count) {
    for (size_t i = 0; i < count; i++) {
        void **key = checked(16);
        void **value = checked(32);
        void **other = checked(32);
        value[0] = key;
        value[1] = other;
        other[0] = value;
        other[1] = a;
        assert_true(loam_weakmap_put(a, key, value));
        assert_true(loam_weakmap_put(b, other, key));
        assert_true(loam_weakmap_put(a, value, other));
    }
}

static void test_rings_die(void **state) {
    (void)state;
    struct loam_weakmap *a = must(loam_weakmap_make());
    struct loam_weakmap *b = must(loam_weakmap_make());
    put_rings(a, b, 1000);
    assert_true(scrub_collect());
    assert_true(scrub_collect());
    assert_true(loam_weakmap_count(a) <= 6); // what a stray word may keep
    assert_true(loam_weakmap_count(b) <= 3);
}

// A chain: each value is the next key, in a map that was filled backwards.
static NOT_INLINED uintptr_t put_chain(struct loam_weakmap *map, void *first) {
    void **keys = must(loam_calloc(CHAIN + 1, sizeof *keys));
    keys[0] = first;
    for (size_t i = 1; i <= CHAIN; i++) {
        keys[i] = checked(16);
        *(size_t *)keys[i] = i;
    }
    for (size_t i = CHAIN; i-- > 0;) {
        assert_true(loam_weakmap_put(map, keys[i], keys[i + 1]));
    }
    return LOAM_HIDE(keys[CHAIN]);
}

static NOT_INLINED void walk_chain(struct loam_weakmap *map, void *first,
                                   uintptr_t hidden) {
    void *key = first;
    for (size_t i = 1; i <= CHAIN; i++) {
        key = loam_weakmap_get(map, key);
        assert_non_null(key);
        assert_int_equal(*(size_t *)key, i);
    }
    assert_ptr_equal(key, LOAM_REVEAL(hidden));
}

static NOT_INLINED void chain_lives(struct loam_weakmap *map) {
    void *first = checked(16);
    uintptr_t hidden = put_chain(map, first);
    assert_true(scrub_collect());
    assert_int_equal(loam_weakmap_count(map), CHAIN);
    walk_chain(map, first, hidden);
    loam_keep(first);
}

// A stray word may keep a chain: of three, one goes at least.
static void test_chain(void **state) {
    (void)state;
    size_t gone = 0;
    for (size_t i = 0; i < 3 && gone == 0; i++) {
        struct loam_weakmap *map = must(loam_weakmap_make());
        chain_lives(map);
        assert_true(scrub_collect());
        gone += loam_weakmap_count(map) == 0;
    }
    assert_true(gone > 0);
}

// Maps as values, reached through ephemerons only.
static NOT_INLINED uintptr_t put_nest(struct loam_weakmap *map, void *key,
                                      size_t depth) {
    for (size_t i = 0; i < depth; i++) {
        struct loam_weakmap *inner = must(loam_weakmap_make());
        assert_true(loam_weakmap_put(map, key, inner));
        map = inner;
    }
    char *end = checked(64);
    strcpy(end, "the end");
    assert_true(loam_weakmap_put(map, key, end));
    return LOAM_HIDE(end);
}

static NOT_INLINED void check_nest(struct loam_weakmap *map, void *key,
                                   size_t depth, uintptr_t hidden) {
    for (size_t i = 0; i < depth; i++) {
        map = loam_weakmap_get(map, key);
        assert_non_null(map);
    }
    assert_ptr_equal(loam_weakmap_get(map, key), LOAM_REVEAL(hidden));
    assert_string_equal(LOAM_REVEAL(hidden), "the end");
}

static NOT_INLINED struct loam_weak *nest_lives(struct loam_weakmap *map) {
    void *key = checked(16);
    uintptr_t hidden = put_nest(map, key, 100);
    struct loam_weak *weak = must(loam_weak_make(LOAM_REVEAL(hidden)));
    for (size_t i = 0; i < 3; i++) {
        assert_true(scrub_collect());
        check_nest(map, key, 100, hidden);
    }
    loam_keep(key);
    return weak;
}

static void test_nest(void **state) {
    (void)state;
    size_t gone = 0;
    for (size_t i = 0; i < 3 && gone == 0; i++) {
        struct loam_weakmap *map = must(loam_weakmap_make());
        struct loam_weak *end = nest_lives(map);
        assert_true(scrub_collect());
        gone += loam_weak_get(end) == NULL && loam_weakmap_count(map) == 0;
    }
    assert_true(gone > 0);
}

// Keys of no heap, dead keys, and keys freed by hand.
static void test_keys(void **state) {
    (void)state;
    static int variable;
    struct loam_weakmap *map = must(loam_weakmap_make());
    char *key = checked(100);
    char *value = checked(32);
    assert_true(loam_weakmap_put(map, &variable, value));
    assert_true(loam_weakmap_put(map, key + 50, value)); // by identity
    assert_null(loam_weakmap_get(map, key));
    errno = 0;
    assert_false(loam_weakmap_put(map, NULL, value));
    assert_int_equal(errno, EINVAL);
    value = NULL;
    assert_true(scrub_collect());
    assert_non_null(loam_weakmap_get(map, &variable));
    assert_non_null(loam_weakmap_get(map, key + 50));
    loam_free(key);
    assert_null(loam_weakmap_get(map, key + 50));
    assert_int_equal(loam_weakmap_count(map), 1);
    assert_false(loam_weakmap_put(map, key, value)); // and reported
}

// --- Iteration -------------------------------------------------------------

// Put, removed, and collected in the middle: what stays is seen once.
static void test_iterate(void **state) {
    (void)state;
    struct gen gen;
    gen_init(&gen, gen_seed("iteration"));
    struct loam_weakmap *map = must(loam_weakmap_make());
    size_t **keys = must(loam_calloc(2 * MANY, sizeof *keys));
    unsigned char *seen = must(loam_alloc_leaf(2 * MANY));
    memset(seen, 0, 2 * MANY);
    for (size_t i = 0; i < 2 * MANY; i++) {
        keys[i] = checked(sizeof **keys);
        *keys[i] = i;
        if (i < MANY) {
            assert_true(loam_weakmap_put(map, keys[i], keys[i]));
        }
    }
    struct loam_cursor cursor = {0, 0};
    const void *key;
    void *value;
    size_t added = MANY;
    size_t steps = 0;
    while (loam_weakmap_next(map, &cursor, &key, &value)) {
        size_t i = *(const size_t *)key;
        assert_ptr_equal(key, value);
        assert_int_equal(seen[i], 0);
        seen[i] = 1;
        size_t other = gen_below(&gen, MANY);
        if (gen_chance(&gen, 40) && other % 2 == 0 && keys[other] != NULL) {
            if (gen_chance(&gen, 50)) {
                (void)loam_weakmap_remove(map, keys[other]);
            }
            keys[other] = NULL; // dead at the next cycle
        }
        if (gen_chance(&gen, 50) && added < 2 * MANY) {
            assert_true(loam_weakmap_put(map, keys[added], keys[added]));
            added++;
        }
        if (++steps % (MANY / 20) == 0) {
            assert_true(loam_collect());
        }
    }
    for (size_t i = 1; i < MANY; i += 2) {
        assert_int_equal(seen[i], 1);
    }
    assert_false(loam_weakmap_next(map, &cursor, NULL, NULL));
}

// --- Value maps ----------------------------------------------------------

static NOT_INLINED void put_values(struct loam_valuemap *map, void **held,
                                   bool texts) {
    char text[32];
    for (size_t i = 0; i < MANY; i++) {
        size_t *value = checked(32);
        *value = i;
        snprintf(text, sizeof text, "name %zu", i);
        const void *key = texts ? (const void *)text : (const void *)i;
        assert_true(loam_valuemap_put(map, key, value));
        held[i] = i % 4 == 0 ? value : NULL;
    }
}

static void check_values(struct loam_valuemap *map, void **held, bool texts) {
    char text[32];
    size_t gone = 0;
    for (size_t i = 0; i < MANY; i++) {
        snprintf(text, sizeof text, "name %zu", i);
        const void *key = texts ? (const void *)text : (const void *)i;
        size_t *value = loam_valuemap_get(map, key);
        gone += value == NULL;
        assert_true(value == NULL || *value == i);
        assert_true(i % 4 != 0 || value == held[i]);
    }
    assert_true(gone > MANY / 2);
    struct loam_cursor cursor = {0, 0};
    const void *key;
    void *value;
    size_t count = 0;
    while (loam_valuemap_next(map, &cursor, &key, &value)) {
        snprintf(text, sizeof text, "name %zu", *(size_t *)value);
        assert_true(texts ? strcmp(key, text) == 0
                          : (size_t)key == *(size_t *)value);
        count++;
    }
    assert_int_equal(count, MANY - gone);
    assert_int_equal(loam_valuemap_count(map), count);
}

static void test_values(void **state) {
    (void)state;
    for (unsigned texts = 0; texts < 2; texts++) {
        struct loam_valuemap *map =
            must(loam_valuemap_make(texts ? LOAM_KEYS_TEXTS : LOAM_KEYS_WORDS));
        void **held = must(loam_calloc(MANY, sizeof *held));
        put_values(map, held, texts);
        assert_true(scrub_collect());
        check_values(map, held, texts);
        assert_true(scrub_collect());
        loam_disable();
        put_values(map, held, texts); // over those that live
        assert_int_equal(loam_valuemap_count(map), MANY);
        loam_enable();
        assert_true(scrub_collect());
        check_values(map, held, texts);
    }
}

static void test_value_details(void **state) {
    (void)state;
    int local;
    struct loam_valuemap *words = must(loam_valuemap_make(LOAM_KEYS_WORDS));
    struct loam_valuemap *texts = must(loam_valuemap_make(LOAM_KEYS_TEXTS));
    char *value = checked(32);
    assert_true(loam_valuemap_put(words, NULL, value)); // the word 0
    assert_ptr_equal(loam_valuemap_get(words, NULL), value);
    assert_false(loam_valuemap_put(texts, NULL, value));
    assert_null(loam_valuemap_get(texts, NULL));
    assert_false(loam_valuemap_put(words, value, &local));
    assert_true(loam_valuemap_put(texts, "", value + 7));
    assert_ptr_equal(loam_valuemap_get(texts, ""), value + 7);
    assert_true(loam_valuemap_remove(texts, ""));
    assert_false(loam_valuemap_remove(texts, ""));
    loam_free(value);
    assert_null(loam_valuemap_get(words, NULL));
    loam_valuemap_clear(words);
    assert_int_equal(loam_valuemap_count(words), 0);
}

// Word keys that look like pointers keep nothing.
static NOT_INLINED void put_pointers(struct loam_valuemap *map,
                                     struct loam_weak **weak, void *value) {
    for (size_t i = 0; i < 100; i++) {
        char *key = checked(200);
        assert_true(loam_valuemap_put(map, key, value));
        weak[i] = must(loam_weak_make(key));
    }
}

static void test_word_keys_are_weak(void **state) {
    (void)state;
    struct loam_valuemap *map = must(loam_valuemap_make(LOAM_KEYS_WORDS));
    struct loam_weak *weak[100];
    char *value = checked(32);
    put_pointers(map, weak, value);
    assert_true(scrub_collect());
    size_t gone = 0;
    for (size_t i = 0; i < 100; i++) {
        gone += loam_weak_get(weak[i]) == NULL;
    }
    assert_true(gone > 95);
    assert_int_equal(loam_valuemap_count(map), 100);
    loam_keep(value);
}

static void no_warning(const char *sentence, void *data) {
    (void)sentence;
    (void)data;
}

int main(void) {
    // What must go should not be kept by pointers beside it.
    setenv("LOAM_NEIGHBOURS", "off", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_and_get),
        cmocka_unit_test(test_rings_die),
        cmocka_unit_test(test_chain),
        cmocka_unit_test(test_nest),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_iterate),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_value_details),
        cmocka_unit_test(test_word_keys_are_weak),
    };
    loam_set_warning_hook(no_warning, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
