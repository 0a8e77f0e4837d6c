// Maps of all three sorts at random against an array, with a collection at
// every allocation and both checks on; then what a refusal leaves.

#include "api/map.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loam/rc.h"
#include "support/gen.h"
#include "support/scrub.h"

#define KEYS ((size_t)60)

// Under an emulator a collection takes ten milliseconds.
#if defined(__x86_64__)
#define STEPS ((size_t)SCALED(3000, 300))
#else
#define STEPS ((size_t)150)
#endif

// What each key should lead to; everything is also held from here.
static struct model {
    char *object; // the key of a weak map, the value of the others
    bool there;
    size_t seen;
} * models;

static char texts[KEYS][24];

static void *must(void *p) {
    assert_non_null(p);
    return p;
}

static const void *key_of(unsigned sort, size_t i) {
    return sort == MAP_WEAK_KEYS ? models[i].object
           : sort == MAP_WORDS   ? (const void *)(i * 8)
                                 : (const void *)texts[i];
}

static void *value_of(unsigned sort, size_t i) {
    return sort == MAP_WEAK_KEYS ? (void *)&models[i] : models[i].object;
}

static void check_table(const struct map *map) {
    const struct map_table *table = map->table;
    if (table == NULL) {
        return;
    }
    assert_true(table->used <= table->capacity);
    for (size_t i = 1; i < table->used; i++) {
        assert_true(table->slots[i - 1].number < table->slots[i].number); // MA2
    }
    assert_true(table->used == 0 ||
                table->slots[table->used - 1].number == map->number);
}

static void check_all(const struct map *map, unsigned sort) {
    size_t count = 0;
    for (size_t i = 0; i < KEYS; i++) {
        assert_ptr_equal(map_get(map, key_of(sort, i)),
                         models[i].there ? value_of(sort, i) : NULL); // MA1
        count += models[i].there;
        models[i].seen = 0;
    }
    assert_int_equal(map_count(map), count);
    struct loam_cursor cursor = {0, 0};
    const void *key;
    void *value;
    size_t met = 0;
    while (map_next(map, &cursor, &key, &value)) {
        struct model *model = sort == MAP_WEAK_KEYS ? value : NULL;
        for (size_t i = 0; model == NULL; i++) {
            assert_true(i < KEYS);
            model = models[i].object == value ? &models[i] : NULL;
        }
        assert_int_equal(model->seen++, 0); // MA3
        met++;
    }
    assert_int_equal(met, count);
}

static void drop(struct model *model) {
    loam_free(model->object);
    model->object = must(loam_alloc(48));
    model->there = false;
}

static void one_map(struct gen *gen, unsigned sort) {
    struct map *map = must(map_make(sort));
    for (size_t i = 0; i < KEYS; i++) {
        models[i] = (struct model){must(loam_alloc(48)), false, 0};
    }
    for (size_t step = 0; step < STEPS; step++) {
        size_t i = gen_below(gen, KEYS);
        size_t what = gen_below(gen, 10);
        const struct map_table *before = map->table;
        if (what < 6) {
            assert_true(map_put(map, key_of(sort, i), value_of(sort, i)));
            models[i].there = true;
        } else if (what < 9) {
            assert_int_equal(map_remove(map, key_of(sort, i)),
                             models[i].there); // MA1
            models[i].there = false;
        } else {
            drop(&models[i]); // freed by hand: the entry is gone
        }
        if (map->table != before && map->table != NULL) {
            size_t live = map_count(map);
            assert_true(map->table->capacity <= MAP_FIRST_CAPACITY ||
                        map->table->capacity <= 4 * live); // MA6
        }
        check_table(map);
        if (step % 50 == 0) {
            check_all(map, sort);
        }
    }
    check_all(map, sort);
}

// MA4: a stop at every allocation in all of this.
static void test_random(void **state) {
    (void)state;
    struct gen gen;
    gen_init(&gen, gen_seed("maps"));
    models = must(loam_calloc(KEYS, sizeof *models));
    for (unsigned sort = 0; sort <= MAP_TEXTS; sort++) {
        one_map(&gen, sort);
    }
}

// Until the limit refuses; what was put stays.
static void test_refused(void **state) {
    (void)state;
    struct map *map = must(map_make(MAP_TEXTS));
    char text[32];
    char *value = must(loam_alloc(48));
    struct loam_stats stats;
    loam_stats(&stats, sizeof stats);
    loam_disable();
    (void)loam_set_limit(stats.heap_bytes + stats.metadata_bytes + (1 << 20));
    size_t count = 0;
    for (;; count++) {
        snprintf(text, sizeof text, "a longer name %zu", count);
        if (!map_put(map, text, value)) {
            break;
        }
    }
    assert_int_equal(map_count(map), count); // MA5
    for (size_t i = 0; i <= count; i++) {
        snprintf(text, sizeof text, "a longer name %zu", i);
        assert_ptr_equal(map_get(map, text), i < count ? value : NULL);
    }
    (void)loam_set_limit(0);
    loam_enable();
    assert_true(map_put(map, text, value));
}

struct counted_thing {
    uintptr_t word;
};

static LOAM_TYPE(thing_type, struct counted_thing, .flags = 0);

// MA7: an entry goes with its counted key, and with its counted value.
static void test_counted(void **state) {
    (void)state;
    struct map *map = must(map_make(MAP_WEAK_KEYS));
    void *key = must(loam_new(&thing_type));
    void *value = must(loam_new(&thing_type));
    assert_true(map_put(map, key, value));
    assert_true(map_put(map, map, value));
    assert_ptr_equal(map_get(map, key), value);
    loam_release(key);
    assert_null(map_get(map, key));
    assert_ptr_equal(map_get(map, map), value);
    loam_release(value);
    assert_null(map_get(map, map));
    assert_int_equal(map_count(map), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_counted),
    };
    for (size_t i = 0; i < KEYS; i++) {
        snprintf(texts[i], sizeof texts[i], "key %zu", i);
    }
    setenv("LOAM_COLLECT_EVERY", "1", 1);
    setenv("LOAM_CHECK", "all", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
