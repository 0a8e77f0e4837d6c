// Random programs on Loam under the oracle: all kinds and sizes, roots in
// globals, on the stack, in thread-local, malloc'ed and pinned memory, limits
// that come and go.  `long` as an argument runs for many minutes.
//
//   O1 whole, O2 edges, O3 gone, O4 closed, O5 fresh, O6 count: judged by the
//   oracle at every collection; G1 again, U1 honest: by construction.
//
// seconds: 240
// long: long

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loam.h"
#include "support/child.h"
#include "support/churn.h"
#include "support/scrub.h"

#define SLOTS 40 // of each sort

static bool is_long;
static uint64_t seed;
static void *global_slots[SLOTS];
static _Thread_local void *thread_slots[SLOTS];

struct shape {
    const char *name;
    size_t nodes;     // of the model
    size_t bytes_max; // of one object
    size_t total_max; // of all
    size_t steps;     // of one program
    size_t programs;  // how many, for a fast build
    bool limits;      // lower the limit now and then
};

NOT_INLINED static void run(const struct shape *shape, uint64_t number) {
    struct oracle o;
    struct churn c;
    void *stack_slots[SLOTS];
    void **added_slots = calloc(SLOTS, sizeof *added_slots);
    void **pinned_slots = loam_alloc_pinned(SLOTS * sizeof *pinned_slots);
    assert_true(loam_roots_add(added_slots, SLOTS * sizeof *added_slots));
    oracle_init(&o, &subject_loam, shape->nodes, 5 * SLOTS, number);
    oracle_add_slots(&o, global_slots, SLOTS);
    oracle_add_slots(&o, thread_slots, SLOTS);
    oracle_add_slots(&o, stack_slots, SLOTS);
    oracle_add_slots(&o, added_slots, SLOTS);
    oracle_add_slots(&o, pinned_slots, SLOTS);
    churn_init(&c, &o, number);
    c.bytes_max = shape->bytes_max;
    c.total_max = shape->total_max;
    c.limits = shape->limits;
    churn_run(&c, shape->steps);
    oracle_fini(&o);
    assert_true(shape->limits || c.refused == 0);
    assert_true(loam_roots_remove(added_slots, SLOTS * sizeof *added_slots));
    loam_free(pinned_slots);
    free(added_slots);
}

static void run_shape(const struct shape *shape) {
    size_t programs = SCALED(shape->programs, (shape->programs + 4) / 5);
    programs *= is_long ? 40 : 1;
    struct loam_stats was;
    struct loam_stats is;
    loam_stats(&was, sizeof was);
    for (uint64_t i = 0; i < programs; i++) {
        run(shape, seed + i);
    }
    loam_stats(&is, sizeof is);
    printf("%s: %zu programs, %llu collections\n", shape->name, programs,
           (unsigned long long)(is.collections - was.collections));
    fflush(stdout);
}

static void test_small_objects(void **state) {
    (void)state;
    run_shape(
        &(struct shape){"small objects", 4000, 200, 4 << 20, 20000, 20, false});
}

static void test_all_sizes(void **state) {
    (void)state;
    run_shape(&(struct shape){"all sizes", 3000, 1 << 20, 64 << 20, 10000, 10,
                              false});
}

static void test_large_objects(void **state) {
    (void)state;
    run_shape(&(struct shape){"large objects", 600, 16 << 20, 200 << 20, 1500,
                              5, false});
}

static void test_limits(void **state) {
    (void)state;
    run_shape(
        &(struct shape){"limits", 3000, 300000, 40 << 20, 10000, 10, true});
}

static void test_many_nodes(void **state) {
    (void)state;
    run_shape(
        &(struct shape){"many nodes", 30000, 500, 60 << 20, 60000, 1, false});
}

// A child that is forked anywhere goes on by itself, and so does the parent.
static int run_forked(void *data) {
    struct churn *c = data;
    churn_run(c, 1500);
    return c->refused ? 1 : 0;
}

NOT_INLINED static void run_and_fork(uint64_t number) {
    static struct child child;
    struct oracle o;
    struct churn c;
    void *stack_slots[SLOTS];
    oracle_init(&o, &subject_loam, 2000, 2 * SLOTS, number);
    oracle_add_slots(&o, global_slots, SLOTS);
    oracle_add_slots(&o, stack_slots, SLOTS);
    churn_init(&c, &o, number);
    c.bytes_max = 100000;
    c.total_max = 16 << 20;
    for (size_t round = 0; round < 10; round++) {
        churn_run(&c, 300 + number % 97);
        child_fork(&child, run_forked, &c);
        if (child.status || child.count) {
            child_show(&child);
        }
        assert_int_equal(child.status, 0);
    }
    oracle_fini(&o);
}

static void test_forks(void **state) {
    (void)state;
    for (uint64_t i = 0; i < SCALED(8, 2); i++) {
        run_and_fork(seed + i);
    }
}

int main(int argc, char **argv) {
    is_long = argc > 1 && strcmp(argv[1], "long") == 0;
    seed = gen_seed("random programs");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_objects), cmocka_unit_test(test_all_sizes),
        cmocka_unit_test(test_large_objects), cmocka_unit_test(test_limits),
        cmocka_unit_test(test_many_nodes),    cmocka_unit_test(test_forks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
