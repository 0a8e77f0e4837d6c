// Keys of every pattern, stored and asked for, against an array.

#include "heap/table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "heap/meta.h"
#include "support/gen.h"
#include "support/step.h"

#define KEYS ((size_t)5000)

static char values[KEYS]; // their addresses are the values

static uint64_t key_of(size_t i, unsigned pattern) {
    static const unsigned shift[] = {0, 8, 32, 40};
    return pattern < 4 ? (uint64_t)(i + 1) << shift[pattern]
                       : gen_mix(i, 1) | 1;
}

// Filled and asked at every size, also for keys that were never stored.
static void test_patterns(void **state) {
    (void)state;
    for (unsigned pattern = 0; pattern < 5; pattern++) {
        struct table table = {NULL, 0};
        assert_null(table_find(&table, 1)); // H1
        for (size_t i = 0; i < KEYS; i++) {
            assert_null(table_find(&table, key_of(i, pattern)));
            assert_true(table_put(&table, key_of(i, pattern), &values[i]));
            assert_int_equal(table.count, i + 1);
            assert_true(table.count * 4 <= table_capacity(&table) * 3); // H3
            if ((i & (i + 1)) == 0 || i + 1 == KEYS) {
                for (size_t k = 0; k <= i; k++) {
                    assert_ptr_equal(table_find(&table, key_of(k, pattern)),
                                     &values[k]); // H1, H2
                }
            }
        }
        assert_null(table_find(&table, UINT64_MAX - 1));
    }
}

static void test_replace(void **state) {
    (void)state;
    struct table table = {NULL, 0};
    for (size_t i = 0; i < 100; i++) {
        assert_true(table_put(&table, 1 + i % 10, &values[i]));
    }
    assert_int_equal(table.count, 10);
    for (size_t i = 0; i < 10; i++) {
        assert_ptr_equal(table_find(&table, 1 + i), &values[90 + i]); // H1
    }
}

// All values, each once, and then none.
static void test_drop(void **state) {
    (void)state;
    struct table table = {NULL, 0};
    for (uint64_t key = 1; key <= 50; key++) {
        void *value = meta_make(100);
        assert_non_null(value);
        assert_true(table_put(&table, key, value));
    }
    size_t values_seen = 0;
    for (size_t i = 0; i < table_capacity(&table); i++) {
        values_seen += table_value(&table, i) != NULL;
    }
    assert_int_equal(values_seen, 50);
    table_drop(&table, 100);
    assert_null(table_find(&table, 1));
    assert_int_equal(table_capacity(&table), 0);
    table_drop(&table, 100);
}

// --- Children in the middle of a change ------------------------------------

#define BEFORE ((size_t)23) // keys; a table of 32 slots grows at the 25th

struct change {
    struct table table;
    size_t done; // keys put in
};

static void change(void *data) {
    struct change *c = data;
    for (size_t i = 0; i < 3; i++) {
        size_t key = c->done + 1;
        (void)!table_put(&c->table, key, &values[key]);
        c->done = key;
    }
}

static bool is_whole(const struct table *table, size_t done) {
    for (size_t key = 1; key <= done; key++) {
        if (table_find(table, key) != &values[key]) {
            return false;
        }
    }
    const char *next = table_find(table, done + 1);
    return (next == NULL || next == &values[done + 1]) &&
           table_find(table, done + 2) == NULL;
}

static bool live_on(size_t instructions, void *data) {
    struct change *c = data;
    (void)instructions;
    meta_forked();
    return is_whole(&c->table, c->done) && // H4
           table_put(&c->table, 1000, &values[0]) &&
           table_find(&c->table, 1000) == &values[0];
}

static void test_forked(void **state) {
    (void)state;
    static struct change c;
    while (c.done < BEFORE) {
        c.done++;
        assert_true(table_put(&c.table, c.done, &values[c.done]));
    }
    struct step_forks forks = {change, live_on, &c, 1, 0, 0};
    if (!step_fork(&forks)) {
        skip();
    }
    assert_true(forks.children > 100);
    assert_int_equal(forks.failed, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_replace),
        cmocka_unit_test(test_drop),
        cmocka_unit_test(test_forked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
