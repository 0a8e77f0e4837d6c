// Texts that are held and let go of at random, with a collection at every
// allocation; and under a limit.

#include "api/intern.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/gen.h"
#include "support/scarce.h"
#include "support/scrub.h"

#define TEXTS ((size_t)SCALED(400, 200))
#define STEPS ((size_t)SCALED(8000, 400))

// Where each text is as far as is known, hidden; and held where it is.
static uintptr_t known[TEXTS];
static const char **held; // an object: these keep their texts

static size_t write_text(char *text, size_t room, const char *name, size_t i) {
    int count = snprintf(text, room, "%s %zu", name, i * i);
    assert_true(count > 0 && (size_t)count < room);
    return (size_t)count;
}

NOT_INLINED static void intern_one(struct gen *gen) {
    char text[40];
    size_t i = gen_below(gen, TEXTS);
    size_t count = write_text(text, sizeof text, "text", i);
    const char *found = loam_intern_find(text, count);
    const char *interned = gen_chance(gen, 50) ? loam_intern(text)
                                               : loam_intern_bytes(text, count);
    assert_non_null(interned);
    assert_true(found == NULL || found == interned); // IN1
    assert_true(held[i] == NULL || held[i] == interned);
    assert_string_equal(interned, text);
    assert_int_equal(loam_intern_length(interned), count);
    held[i] = interned;
    known[i] = LOAM_HIDE(interned);
}

static void check_tables(void) {
    for (size_t shard = 0; intern_root != NULL && shard < INTERN_SHARDS;
         shard++) {
        const struct intern_table *table = intern_root->tables[shard];
        if (table == NULL) {
            continue;
        }
        size_t used = 0;
        for (size_t at = 0; at <= table->mask; at++) {
            used += table->tags[at] != 0;
        }
        assert_int_equal(used, table->used);
        assert_true(used <= table->limit && table->limit <= table->mask);
    }
}

NOT_INLINED static size_t count_held(void) {
    size_t count = 0;
    char text[40];
    for (size_t i = 0; i < TEXTS; i++) {
        size_t bytes = write_text(text, sizeof text, "text", i);
        if (held[i] != NULL) {
            assert_ptr_equal(loam_intern_find(text, bytes), held[i]); // IN1
            count++;
        }
    }
    return count;
}

static void test_random(void **state) {
    (void)state;
    struct gen gen;
    gen_init(&gen, gen_seed("intern"));
    held = loam_calloc(TEXTS, sizeof *held);
    assert_non_null(held);
    for (size_t step = 0; step < STEPS; step++) {
        if (gen_chance(&gen, 55)) {
            intern_one(&gen);
        } else {
            held[gen_below(&gen, TEXTS)] = NULL;
        }
        if (step % 100 == 0) {
            size_t count = count_held();
            assert_true(scrub_collect());
            check_tables();
            size_t there = loam_intern_count();
            assert_true(there >= count && there <= count + 3); // IN3
        }
    }
    memset(held, 0, TEXTS * sizeof *held);
    assert_true(scrub_collect());
    assert_true(loam_intern_count() <= 3); // IN3
}

// Bytes with zeros in them, none at all, and many.
static void test_bytes(void **state) {
    (void)state;
    const char *empty = loam_intern("");
    const char *zero = loam_intern_bytes("\0", 1);
    const char *zeros = loam_intern_bytes("\0\0", 2);
    assert_true(empty != zero && zero != zeros && empty != zeros);
    assert_ptr_equal(loam_intern_bytes("any", 0), empty);
    assert_ptr_equal(loam_intern_bytes("\0\0\0", 2), zeros);
    assert_int_equal(loam_intern_length(zeros), 2);
    char *large = malloc(300000);
    assert_non_null(large);
    memset(large, 'x', 300000);
    const char *first = loam_intern_bytes(large, 300000);
    assert_non_null(first);
    assert_ptr_equal(loam_intern_bytes(large, 300000), first); // IN1
    assert_ptr_not_equal(loam_intern_bytes(large, 299999), first);
    assert_int_equal(loam_intern_length(first), 300000);
    free(large);
}

// IN5: as many texts again and again, each time others, nobody holding them.
static void test_bounded(void **state) {
    (void)state;
    char text[40];
    for (size_t i = 0; i < SCALED(20000, 1000); i++) {
        (void)write_text(text, sizeof text, "passing", i);
        assert_non_null(loam_intern(text));
    }
    size_t places = 0;
    for (size_t shard = 0; shard < INTERN_SHARDS; shard++) {
        const struct intern_table *table = intern_root->tables[shard];
        places += table == NULL ? 0 : table->mask + 1;
    }
    assert_true(places <= INTERN_SHARDS * 32); // IN5
}

static void test_refused(void **state) {
    (void)state;
    char text[40];
    const char *kept = loam_intern("kept");
    size_t count = 0;
    scarce_begin();
    errno = 0;
    for (;; count++) {
        (void)write_text(text, sizeof text, "refused", count);
        if (loam_intern(text) == NULL) {
            break;
        }
    }
    assert_int_equal(errno, ENOMEM);
    assert_ptr_equal(loam_intern("kept"), kept); // IN4
    assert_null(loam_intern_find(text, strlen(text)));
    check_tables();
    scarce_end();
    const char *late = loam_intern(text);
    assert_string_equal(late, text);
    assert_ptr_equal(loam_intern(text), late); // IN1
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_bounded),
        cmocka_unit_test(test_refused),
    };
    setenv("LOAM_COLLECT_EVERY", "1", 1);
    setenv("LOAM_CHECK", "all", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
