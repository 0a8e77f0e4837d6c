// Tables of random words, of words that all want the same home, and of words
// that want the last one, against a sorted array; every slot is looked at after
// every change.

#include "api/ordered.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "loam.h"
#include "support/gen.h"
#include "support/scarce.h"
#include "support/scrub.h"

#define WORDS ((size_t)SCALED(400, 120))
#define STEPS ((size_t)SCALED(20000, 400))

// Words that are in the table, ascending, and their values.
static struct model {
    uint64_t words[WORDS];
    uintptr_t values[WORDS]; // hidden
    size_t count;
} model;

static uint64_t universe[WORDS];

static size_t model_seek(uint64_t word) {
    size_t at = 0;
    while (at < model.count && model.words[at] < word) {
        at++;
    }
    return at;
}

static void model_put(size_t at, uint64_t word, uintptr_t value) {
    size_t moved = (model.count - at) * sizeof(uint64_t);
    memmove(&model.words[at + 1], &model.words[at], moved);
    memmove(&model.values[at + 1], &model.values[at], moved);
    model.words[at] = word;
    model.values[at] = value;
    model.count++;
}

static void model_remove(size_t at) {
    model.count--;
    size_t moved = (model.count - at) * sizeof(uint64_t);
    memmove(&model.words[at], &model.words[at + 1], moved);
    memmove(&model.values[at], &model.values[at + 1], moved);
}

// OR1, OR2, OR3, OR4, OR6 by ordered_check; the contents here.
static void check_table(const struct ordered *o) {
    assert_true(ordered_check(o));
    assert_int_equal(o->count, model.count);
    size_t at = 0;
    for (size_t i = 0; i < model.count; i++, at++) {
        at = ordered_next(o, at);
        assert_int_equal(o->words[at], model.words[i]);
        assert_int_equal(ordered_seek(o, model.words[i]), at);
        if (o->sort != ORDERED_SET) {
            assert_int_equal(~(uintptr_t)o->values[at], model.values[i]);
            assert_int_equal(*(uint64_t *)o->values[at], model.words[i]);
        }
    }
    assert_int_equal(ordered_next(o, at), o->slots);
}

// A value that says whose it is; only the table leads to it.
static void *make_value(const struct ordered *o, uint64_t word) {
    if (o->sort == ORDERED_SET) {
        return NULL;
    }
    uint64_t *value =
        o->sort == ORDERED_LEAF ? malloc(sizeof *value) : loam_alloc(40);
    assert_non_null(value);
    *value = word;
    return value;
}

static void change(struct ordered *o, struct gen *gen) {
    uint64_t word = universe[gen_below(gen, WORDS)];
    size_t at = ordered_seek(o, word);
    size_t there = model_seek(word);
    bool is_there = there < model.count && model.words[there] == word;
    assert_int_equal(ordered_is(o, at, word), is_there);
    if (is_there) {
        if (o->sort == ORDERED_LEAF) {
            free(o->values[at]);
        }
        ordered_remove(o, at);
        model_remove(there);
        return;
    }
    void *value = make_value(o, word);
    if (ordered_put(o, word, at, word, value)) { // OR7
        model_put(there, word, ~(uintptr_t)value);
    } else if (o->sort == ORDERED_LEAF) {
        free(value);
    }
}

static void one_table(struct gen *gen, enum ordered_values sort) {
    struct ordered o;
    ordered_init(&o, sort);
    model.count = 0;
    check_table(&o);
    for (size_t step = 0; step < STEPS; step++) {
        change(&o, gen);
        check_table(&o);
        if (gen_below(gen, 200) == 0) {
            assert_true(ordered_shrink(&o));
            check_table(&o);
        } else if (gen_below(gen, 200) == 0) {
            size_t more = gen_below(gen, 100);
            assert_true(ordered_reserve(&o, more));
            assert_true(o.room >= more);
            check_table(&o);
        } else if (gen_below(gen, 400) == 0) {
            scarce_begin();
            struct ordered before = o;
            if (!ordered_reserve(&o, 100000)) {
                assert_memory_equal(&o, &before, sizeof o); // OR5
                assert_int_equal(errno, ENOMEM);
            }
            scarce_end();
            check_table(&o);
        }
    }
    ordered_clear(&o);
    model.count = 0;
    check_table(&o);
}

// Words by chance; at one home; at the last homes, where the tail is short.
static uint64_t draw(struct gen *gen, unsigned how) {
    uint64_t word = gen_next(gen);
    return how == 0   ? word
           : how == 1 ? word >> 20
           : how == 2 ? ~(word >> 20) - 1
                      : word | (word & 1 ? 0 : (uint64_t)0xffff << 48);
}

static bool is_new(size_t i) {
    for (size_t other = 0; other < i; other++) {
        if (universe[other] == universe[i]) {
            return false;
        }
    }
    return universe[i] != ORDERED_NONE;
}

static void test_random(void **state) {
    (void)state;
    struct gen gen;
    gen_init(&gen, gen_seed("ordered"));
    for (unsigned how = 0; how < 4; how++) {
        for (size_t i = 0; i < WORDS; i++) {
            do {
                universe[i] = draw(&gen, how);
            } while (!is_new(i));
        }
        one_table(&gen, ORDERED_SET);
        one_table(&gen, ORDERED_LEAF);
        one_table(&gen, ORDERED_SCANNED);
    }
}

// Half a million words by chance: short searches, at every load.
static void test_steps(void **state) {
    (void)state;
    struct gen gen;
    struct ordered o;
    gen_init(&gen, gen_seed("ordered steps"));
    ordered_init(&o, ORDERED_SET);
    for (size_t i = 0; i < SCALED(500000, 50000); i++) {
        uint64_t word = gen_next(&gen);
        size_t at = ordered_seek(&o, word);
        if (word != ORDERED_NONE && !ordered_is(&o, at, word)) {
            assert_true(ordered_put(&o, word, at, word, NULL));
        }
    }
    assert_true(ordered_check(&o)); // OR1, OR2, OR3, OR4
    uint64_t steps = 0;
    for (size_t at = 0; at < o.slots; at++) {
        if (o.words[at] != ORDERED_NONE) {
            steps += at - (size_t)(o.words[at] >> o.shift);
        }
    }
    assert_true(steps < 4 * o.count); // 3.5 at 7/8, in the mean
}

static void test_absurd(void **state) {
    (void)state;
    struct ordered o;
    ordered_init(&o, ORDERED_SCANNED);
    const size_t sizes[] = {SIZE_MAX, SIZE_MAX / 8, (size_t)1 << 60,
                            (size_t)1 << 50, (size_t)1 << 45};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        errno = 0;
        assert_false(ordered_reserve(&o, sizes[i])); // OR5
        assert_int_equal(errno, ENOMEM);
        assert_int_equal(o.slots, 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_steps),
        cmocka_unit_test(test_absurd),
    };
    setenv("LOAM_COLLECT_EVERY", "7", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
