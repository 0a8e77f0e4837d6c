// Maps and vectors of pointers that nothing else holds, changed while another
// thread collects as often as it can: a stop comes at any instruction.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>

#include "loam/data.h"
#include "support/gen.h"
#include "support/scrub.h"

#define KEYS   ((uint64_t)500)
#define ROUNDS ((size_t)SCALED(300, 40))

static bool stop;

static void *collect_on(void *data) {
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        (void)loam_collect();
    }
    return data;
}

// An object that says its key; made of memory that the last cycle freed.
static uint64_t *make(uint64_t key) {
    uint64_t *object = loam_alloc(24);
    assert_non_null(object);
    object[0] = key;
    object[1] = ~key;
    return object;
}

static void check(const uint64_t *object, uint64_t key) {
    assert_non_null(object);
    assert_int_equal(object[0], key);
    assert_int_equal(object[1], ~key);
}

// Keys come and go, so that values are carried to and fro; the table grows from
// nothing each round.
static void change_maps(struct gen *gen) {
    struct loam_intmap *map = loam_intmap_make(LOAM_DATA_SCANNED);
    struct loam_strmap *texts = loam_strmap_make(LOAM_DATA_SCANNED);
    assert_true(map != NULL && texts != NULL);
    bool there[KEYS] = {false};
    for (size_t step = 0; step < 4 * KEYS; step++) {
        uint64_t key = gen_below(gen, KEYS);
        if (there[key]) {
            check(loam_intmap_get(map, key), key);
            check(loam_strmap_get(texts, &key, sizeof key), key);
            assert_true(loam_intmap_remove(map, key));
            assert_true(loam_strmap_remove(texts, &key, sizeof key));
        } else {
            assert_true(loam_intmap_put(map, key, make(key)));
            assert_true(loam_strmap_put(texts, &key, sizeof key, make(key)));
        }
        there[key] = !there[key];
    }
    for (uint64_t key = 0; key < KEYS; key++) {
        if (there[key]) {
            check(loam_intmap_get(map, key), key);
            check(loam_strmap_get(texts, &key, sizeof key), key);
        }
    }
}

static int compare(const void *a, const void *b, void *data) {
    const uint64_t *x = *(uint64_t *const *)a;
    const uint64_t *y = *(uint64_t *const *)b;
    (void)data;
    return x[0] < y[0] ? -1 : x[0] > y[0];
}

static void change_vector(struct gen *gen) {
    struct loam_vec vec = LOAM_VEC(uint64_t *, LOAM_DATA_SCANNED);
    for (uint64_t i = 0; i < KEYS; i++) {
        uint64_t *object = make(i);
        assert_true(
            loam_vec_insert(&vec, gen_below(gen, vec.count + 1), &object, 1));
    }
    loam_vec_sort(&vec, compare, NULL);
    for (uint64_t i = 0; i < KEYS; i++) {
        check(LOAM_VEC_AT(&vec, uint64_t *, i), i);
    }
    loam_vec_remove(&vec, 3, KEYS - 10);
    assert_true(loam_vec_shrink(&vec));
    for (uint64_t i = 0; i < 10; i++) {
        check(LOAM_VEC_AT(&vec, uint64_t *, i), i < 3 ? i : i + KEYS - 10);
    }
}

static void test_stops(void **state) {
    (void)state;
    struct gen gen;
    pthread_t other;
    gen_init(&gen, gen_seed("data stops"));
    assert_int_equal(pthread_create(&other, NULL, collect_on, NULL), 0);
    for (size_t round = 0; round < ROUNDS; round++) {
        change_maps(&gen);
        change_vector(&gen);
    }
    __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
    loam_blocking_enter();
    pthread_join(other, NULL);
    loam_blocking_leave();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
