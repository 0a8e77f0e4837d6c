// Vectors of elements of many sizes at random against plain arrays, pointers
// that nothing else holds among them, with a collection at every allocation;
// sorts of every shape; and what a refusal leaves.

#include "api/vec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "support/gen.h"
#include "support/scarce.h"
#include "support/scrub.h"

#define ROOM  ((size_t)400)
#define STEPS ((size_t)SCALED(20000, 200))

// What the vector should hold: numbers, of which each element is made.
static uint64_t model[ROOM];
static size_t model_count;

// An element that says a number: bytes made of it, or a pointer to an object
// that does.
static void make_element(const struct loam_vec *vec, uint64_t number,
                         unsigned char *element) {
    if (vec->contents != LOAM_DATA_LEAF) {
        uint64_t *object = loam_alloc(40);
        assert_non_null(object);
        *object = number;
        memset(element, 0, vec->element_bytes);
        memcpy(element, &object, sizeof object);
        return;
    }
    for (size_t i = 0; i < vec->element_bytes; i++) {
        element[i] = (unsigned char)gen_mix(number, i);
    }
}

static void check_element(const struct loam_vec *vec, size_t at) {
    const unsigned char *element =
        (unsigned char *)vec->data + at * vec->element_bytes;
    if (vec->contents != LOAM_DATA_LEAF) {
        const uint64_t *object;
        memcpy(&object, element, sizeof object);
        assert_true(model[at] == 0 ? object == NULL : *object == model[at]);
        return;
    }
    for (size_t i = 0; i < vec->element_bytes; i++) {
        assert_int_equal(element[i],
                         model[at] == 0 ? 0
                                        : (unsigned char)gen_mix(model[at], i));
    }
}

static void check_all(const struct loam_vec *vec) {
    assert_true(vec_check(vec)); // VE1, VE2, VE3
    assert_int_equal(vec->count, model_count);
    for (size_t at = 0; at < model_count; at++) {
        check_element(vec, at);
    }
}

static void insert(struct loam_vec *vec, struct gen *gen) {
    unsigned char elements[8 * 64];
    size_t at =
        gen_chance(gen, 50) ? model_count : gen_below(gen, model_count + 1);
    size_t count = gen_below(gen, 8);
    if (model_count + count > ROOM) {
        return;
    }
    memmove(&model[at + count], &model[at], (model_count - at) * sizeof *model);
    for (size_t i = 0; i < count; i++) {
        model[at + i] = gen_next(gen) | 1;
        make_element(vec, model[at + i], elements + i * vec->element_bytes);
    }
    model_count += count;
    assert_true(count == 1 && at == vec->count
                    ? loam_vec_push(vec, elements)
                    : loam_vec_insert(vec, at, elements, count));
}

// A part of the vector itself, before, across or behind where it came from.
static void insert_own(struct loam_vec *vec, struct gen *gen) {
    uint64_t part[ROOM];
    if (model_count == 0 || model_count > ROOM / 2) {
        return;
    }
    size_t from = gen_below(gen, model_count);
    size_t count = 1 + gen_below(gen, model_count - from);
    size_t at = gen_below(gen, model_count + 1);
    memcpy(part, &model[from], count * sizeof *part);
    memmove(&model[at + count], &model[at], (model_count - at) * sizeof *model);
    memcpy(&model[at], part, count * sizeof *part);
    model_count += count;
    assert_true(loam_vec_insert(
        vec, at, (unsigned char *)vec->data + from * vec->element_bytes,
        count));
}

static void take(struct loam_vec *vec, struct gen *gen) {
    unsigned char element[64];
    size_t at = gen_below(gen, model_count + 2);
    size_t count = gen_below(gen, 12);
    if (gen_chance(gen, 30)) {
        assert_int_equal(loam_vec_pop(vec, element), model_count != 0);
        model_count -= model_count != 0;
        return;
    }
    loam_vec_remove(vec, at, count);
    if (at < model_count) {
        count = count < model_count - at ? count : model_count - at;
        memmove(&model[at], &model[at + count],
                (model_count - at - count) * sizeof *model);
        model_count -= count;
    }
}

static void change(struct loam_vec *vec, struct gen *gen) {
    size_t what = gen_below(gen, 100);
    if (what < 50) {
        insert(vec, gen);
    } else if (what < 60) {
        insert_own(vec, gen);
    } else if (what < 90) {
        take(vec, gen);
    } else if (what < 95) {
        size_t count = gen_below(gen, ROOM);
        for (size_t at = model_count; at < count; at++) {
            model[at] = 0;
        }
        model_count = count;
        assert_true(loam_vec_resize(vec, count));
    } else {
        assert_true(what < 98 ? loam_vec_shrink(vec)
                              : loam_vec_reserve(vec, gen_below(gen, 999)));
    }
}

static void check_slice(const struct loam_vec *vec, struct gen *gen) {
    size_t at = gen_below(gen, model_count + 2);
    size_t count = gen_below(gen, model_count + 2);
    const struct loam_vec *slice = loam_vec_slice(vec, at, count);
    assert_non_null(slice);
    at = at < model_count ? at : model_count;
    count = count < model_count - at ? count : model_count - at;
    assert_true(vec_check(slice)); // VE1, VE2, VE3
    assert_int_equal(slice->count, count);
    assert_memory_equal(count == 0 ? model : slice->data,
                        count == 0 ? model
                                   : (void *)((unsigned char *)vec->data +
                                              at * vec->element_bytes),
                        count * vec->element_bytes);
}

static void test_random(void **state) {
    (void)state;
    struct gen gen;
    gen_init(&gen, gen_seed("vec"));
    const size_t sizes[] = {1, 3, 4, 8, 12, 16, 24, 40, 64};
    for (size_t i = 0; i < 18; i++) {
        size_t bytes = sizes[i % 9];
        bool scanned = i >= 9 && bytes % sizeof(void *) == 0;
        struct loam_vec *vec =
            loam_vec_make(bytes, scanned ? LOAM_DATA_SCANNED : LOAM_DATA_LEAF);
        assert_non_null(vec);
        model_count = 0;
        for (size_t step = 0; step < STEPS / 9; step++) {
            change(vec, &gen);
            check_all(vec);
            if (step % 100 == 0) {
                check_slice(vec, &gen);
            }
        }
    }
}

// --- Sorting ---------------------------------------------------------------

static size_t compared;
static size_t leave_at; // comparison at which to leave, or 0
static jmp_buf leave_to;
static size_t collect_at; // comparison at which to collect, or 0

static int compare_words(const void *a, const void *b, void *data) {
    (void)data;
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    if (++compared == leave_at) {
        longjmp(leave_to, 1);
    }
    return x < y ? -1 : x > y;
}

// Objects, by what they say; a collection between two comparisons.
static int compare_objects(const void *a, const void *b, void *data) {
    (void)data;
    const uint64_t *x = *(uint64_t *const *)a;
    const uint64_t *y = *(uint64_t *const *)b;
    if (++compared == collect_at) {
        assert_true(loam_collect());
    }
    return *x < *y ? -1 : *x > *y;
}

static int compare_plain(const void *a, const void *b) {
    return compare_words(a, b, NULL);
}

static uint64_t shape(struct gen *gen, unsigned how, size_t i, size_t count) {
    return how == 0   ? gen_next(gen)
           : how == 1 ? i
           : how == 2 ? count - i
           : how == 3 ? gen_below(gen, 4)
           : how == 4 ? (i < count / 2 ? i : count - i) // an organ's pipes
           : how == 5 ? i * 7919 % count
                      : 42;
}

static size_t log2_of(size_t n) {
    size_t log = 1;
    while ((size_t)1 << log < n) {
        log++;
    }
    return log;
}

static void test_sorts(void **state) {
    (void)state;
    struct gen gen;
    gen_init(&gen, gen_seed("vec sort"));
    for (unsigned turn = 0; turn < 7 * SCALED(30, 12); turn++) {
        struct loam_vec vec = LOAM_VEC(uint64_t, LOAM_DATA_LEAF);
        size_t count = turn < 70 ? turn : 1 + gen_below(&gen, 20000);
        for (size_t i = 0; i < count; i++) {
            assert_true(
                LOAM_VEC_PUSH(&vec, uint64_t, shape(&gen, turn % 7, i, count)));
        }
        struct loam_vec *expected = loam_vec_slice(&vec, 0, count);
        assert_non_null(expected);
        compared = 0;
        loam_vec_sort(&vec, compare_words, NULL);
        assert_true(compared <= 16 + 4 * count * log2_of(count)); // VE6
        if (count != 0) {
            qsort(expected->data, count, sizeof(uint64_t), compare_plain);
            assert_memory_equal(vec.data, expected->data, count * 8); // VE5
        }
    }
}

// An enemy of quicksorts (McIlroy 1999): what an element is worth is decided
// when it is compared, so that each pivot turns out to be among the least.
#define ENEMIES     ((size_t)3000)
#define NOT_SETTLED UINT64_MAX

static uint64_t worth[ENEMIES];
static uint64_t settled;
static uint64_t suspect; // the pivot, as it seems

static int compare_enemy(const void *a, const void *b, void *data) {
    (void)data;
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    compared++;
    if (worth[x] == NOT_SETTLED && worth[y] == NOT_SETTLED) {
        worth[x == suspect ? x : y] = settled++;
    }
    if (worth[x] == NOT_SETTLED) {
        suspect = x;
    } else if (worth[y] == NOT_SETTLED) {
        suspect = y;
    }
    return worth[x] < worth[y] ? -1 : worth[x] > worth[y];
}

static void test_sorts_enemy(void **state) {
    (void)state;
    struct loam_vec vec = LOAM_VEC(uint64_t, LOAM_DATA_LEAF);
    for (size_t i = 0; i < ENEMIES; i++) {
        worth[i] = NOT_SETTLED;
        assert_true(LOAM_VEC_PUSH(&vec, uint64_t, i));
    }
    compared = 0;
    loam_vec_sort(&vec, compare_enemy, NULL);
    assert_true(compared <= 4 * ENEMIES * log2_of(ENEMIES)); // VE6
    for (size_t i = 1; i < ENEMIES; i++) {
        assert_true(worth[LOAM_VEC_AT(&vec, uint64_t, i - 1)] <=
                    worth[LOAM_VEC_AT(&vec, uint64_t, i)]);
    }
}

// Elements of odd sizes, and ones that only the vector holds while a collection
// comes at any comparison.
static void test_sorts_objects(void **state) {
    (void)state;
    struct gen gen;
    gen_init(&gen, gen_seed("vec objects"));
    for (size_t turn = 0; turn < SCALED(40, 6); turn++) {
        struct loam_vec vec = LOAM_VEC(uint64_t *, LOAM_DATA_SCANNED);
        size_t count = 2 + gen_below(&gen, 300);
        for (size_t i = 0; i < count; i++) {
            uint64_t *object = loam_alloc(24);
            assert_non_null(object);
            *object = gen_below(&gen, 1000);
            assert_true(LOAM_VEC_PUSH(&vec, uint64_t *, object));
        }
        compared = 0;
        collect_at = 1 + gen_below(&gen, 4 * count);
        loam_vec_sort(&vec, compare_objects, NULL); // VE5
        for (size_t i = 1; i < count; i++) {
            assert_true(*LOAM_VEC_AT(&vec, uint64_t *, i - 1) <=
                        *LOAM_VEC_AT(&vec, uint64_t *, i));
        }
    }
}

// VE5: a comparison that does not return leaves every element there once.
static void test_sorts_left(void **state) {
    (void)state;
    static struct loam_vec vec = LOAM_VEC(uint64_t, LOAM_DATA_LEAF);
    static size_t count = 500;
    static bool seen[500];
    for (size_t i = 0; i < count; i++) {
        assert_true(LOAM_VEC_PUSH(&vec, uint64_t, i * 7919 % count));
    }
    for (volatile size_t at = 1; at < 5000; at += 7) {
        compared = 0;
        leave_at = at;
        if (setjmp(leave_to) == 0) {
            loam_vec_sort(&vec, compare_words, NULL);
        }
        memset(seen, 0, sizeof seen);
        for (size_t i = 0; i < count; i++) {
            uint64_t number = LOAM_VEC_AT(&vec, uint64_t, i);
            assert_true(number < count && !seen[number]);
            seen[number] = true;
        }
        for (size_t i = 0; i < count; i++) {
            LOAM_VEC_AT(&vec, uint64_t, i) = i * 7919 % count;
        }
    }
    leave_at = 0;
}

// --- Refusals --------------------------------------------------------------

static void test_refused(void **state) {
    (void)state;
    struct loam_vec vec = LOAM_VEC(uint32_t, LOAM_DATA_LEAF);
    scarce_begin();
    uint32_t count = 0;
    errno = 0;
    while (LOAM_VEC_PUSH(&vec, uint32_t, count)) {
        count++;
    }
    assert_int_equal(errno, ENOMEM);
    struct loam_vec before = vec;
    assert_false(loam_vec_insert(&vec, 0, &count, 1));
    assert_false(loam_vec_resize(&vec, count + 1));
    assert_memory_equal(&vec, &before, sizeof vec); // VE4
    scarce_end();
    assert_true(count > 0 && vec_check(&vec));
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(LOAM_VEC_AT(&vec, uint32_t, i), i);
    }
}

static void test_absurd(void **state) {
    (void)state;
    uint32_t three[3] = {1, 2, 3};
    struct loam_vec vec = LOAM_VEC(uint32_t, LOAM_DATA_SCANNED);
    assert_true(loam_vec_insert(&vec, 0, three, 3));
    struct loam_vec before = vec;
    const size_t sizes[] = {SIZE_MAX, SIZE_MAX / 2, SIZE_MAX / 4 + 2,
                            PTRDIFF_MAX / 4, (size_t)1 << 50};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        errno = 0;
        assert_false(loam_vec_reserve(&vec, sizes[i]));
        assert_int_equal(errno, ENOMEM);
        assert_false(loam_vec_resize(&vec, sizes[i]));
        assert_memory_equal(&vec, &before, sizeof vec); // VE4
    }
    assert_false(loam_vec_insert(&vec, 4, three, 1));
    assert_null(loam_vec_make(0, LOAM_DATA_LEAF));
    assert_null(loam_vec_make((size_t)1 << 32, LOAM_DATA_LEAF));
    assert_memory_equal(&vec, &before, sizeof vec);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_sorts),
        cmocka_unit_test(test_sorts_objects),
        cmocka_unit_test(test_sorts_enemy),
        cmocka_unit_test(test_sorts_left),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_absurd),
    };
    setenv("LOAM_COLLECT_EVERY", "1", 1);
    setenv("LOAM_CHECK", "all", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
