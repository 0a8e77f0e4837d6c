// Collection at every allocation, with the second marker and the verifier on:
// every moment at which a collection may happen, happens.  The program starts
// itself again with LOAM_COLLECT_EVERY=1 and LOAM_CHECK=all.
//
//   O1 whole, O2 edges, O5 fresh: judged by the oracle after every step's
//   collections
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

#define SLOTS 30

static bool is_long;
static void *global_slots[SLOTS];

// --- In the child ------------------------------------------------------

NOT_INLINED static void run(uint64_t number, size_t nodes, size_t bytes_max,
                            size_t steps) {
    struct oracle o;
    struct churn c;
    void *stack_slots[SLOTS];
    oracle_init(&o, &subject_loam, nodes, 2 * SLOTS, number);
    oracle_add_slots(&o, global_slots, SLOTS);
    oracle_add_slots(&o, stack_slots, SLOTS);
    churn_init(&c, &o, number);
    c.bytes_max = bytes_max;
    c.total_max = 16 << 20;
    churn_run(&c, steps);
    oracle_fini(&o);
    if (c.refused) {
        abort();
    }
}

static uint64_t collections(void) {
    struct loam_stats stats;
    loam_stats(&stats, sizeof stats);
    return stats.collections;
}

// Some seeds make programs that hardly allocate: then more of them are run.
static int run_child(void) {
    uint64_t seed = gen_seed("every allocation");
    size_t programs = is_long ? 100 : SCALED(4, 1);
    const uint64_t enough = SCALED(1000, 100);
    for (uint64_t i = 0;
         i < programs || (collections() <= enough && i < programs + 20); i++) {
        run(seed + i, 300, 400, SCALED(4000, 1000));
        run(seed + i, 300, 30000, SCALED(3000, 600));
        run(seed + i, 100, 1000000, SCALED(600, 100));
    }
    printf("%llu collections\n", (unsigned long long)collections());
    return collections() > enough ? 0 : 1;
}

// A tree in the making: each new node is only in a register for a while.
struct node {
    struct node *left, *right;
    size_t number;
};

NOT_INLINED static struct node *grow(size_t depth, size_t number) {
    struct node *n = loam_alloc(sizeof *n);
    n->number = number;
    if (depth) {
        n->left = grow(depth - 1, 2 * number);
        n->right = grow(depth - 1, 2 * number + 1);
    }
    return n;
}

static size_t count(const struct node *n, size_t number) {
    if (!n) {
        return 0;
    }
    if (n->number != number) {
        abort();
    }
    return 1 + count(n->left, 2 * number) + count(n->right, 2 * number + 1);
}

static char *join(const char *a, const char *b) {
    size_t length = strlen(a);
    char *text = loam_realloc(loam_strdup(a), length + strlen(b) + 1);
    strcpy(text + length, b);
    return text;
}

static int grow_child(void) {
    const size_t depth = SCALED(10, 7);
    const size_t joins = SCALED(500, 100);
    const struct node *root = grow(depth, 1);
    char *text = loam_strdup("");
    for (size_t i = 0; i < joins; i++) {
        text = join(text, "abc");
    }
    bool whole = count(root, 1) == ((size_t)2 << depth) - 1;
    return whole && strlen(text) == 3 * joins ? 0 : 1;
}

// --- In the parent -----------------------------------------------------

static void expect_good(const char *mode, const char *check) {
    static struct child child;
    const char *settings[] = {"LOAM_COLLECT_EVERY=1", check, NULL};
    child_exec(&child, mode, settings);
    if (child.status || child.count) {
        child_show(&child);
    }
    assert_int_equal(child.status, 0);
    assert_int_equal(child.count, 0);
}

static void test_programs(void **state) {
    (void)state;
    expect_good(is_long ? "long programs" : "programs", "LOAM_CHECK=all");
}

static void test_growing(void **state) {
    (void)state;
    expect_good("growing", "LOAM_CHECK=all");
    expect_good("growing", "LOAM_CHECK");
    expect_good("growing", "LOAM_NEIGHBOURS=0");
}

int main(int argc, char **argv) {
    const char *mode = child_mode(argc, argv);
    is_long = argc > 1 && strcmp(argv[argc - 1], "long") == 0;
    if (mode) {
        is_long = strcmp(mode, "long programs") == 0;
        return strcmp(mode, "growing") == 0 ? grow_child() : run_child();
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_growing),
        cmocka_unit_test(test_programs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
