// collect/lost: what is lost is freed after LOST_AGE cycles, and nothing else
// (LO4, LO1); the sums of a report (LO2, LO3) are test_leak's, and one here.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/init.h"
#include "api/leak.h"
#include "api/object.h"
#include "api/served.h"
#include "collect/lost.h"
#include "support/scrub.h"

#define HIDE(p) (~(uintptr_t)(p))

static void *kept;

static void cycle(void) {
    scrub_stack();
    assert_true(init_collect(&init_state.home.collector));
}

static NOT_INLINED bool is_there(uintptr_t hidden) {
    struct place place;
    bool is = object_is_start((void *)~hidden, &place);
    memset(&place, 0, sizeof place);
    return is;
}

static NOT_INLINED uintptr_t make(size_t bytes) {
    void *p = served_make(bytes, NULL);
    assert_non_null(p);
    return HIDE(p);
}

// LO4: not before the third; one that is found again begins anew.  Many, for a
// stale word may keep some.
static void test_patience(void **state) {
    (void)state;
    static uintptr_t hidden[200];
    size_t left[LOST_AGE + 2] = {0};
    for (size_t i = 0; i < 200; i++) {
        hidden[i] = make(i % 2 == 0 ? 48 : 900);
    }
    for (size_t turn = 1; turn <= LOST_AGE + 1; turn++) {
        if (turn == LOST_AGE) {
            kept = (void *)~hidden[7];
        }
        cycle();
        kept = NULL;
        for (size_t i = 0; i < 200; i++) {
            left[turn] += is_there(hidden[i]);
        }
    }
    assert_int_equal(left[LOST_AGE - 1], 200);
    assert_true(left[LOST_AGE] < 20);
    assert_true(is_there(hidden[7]));
    cycle(); // the second time in a row since it was found
    assert_true(is_there(hidden[7]));
}

// LO4: what a younger one leads to stays with it.  LO1: what is reachable stays
// for ever.
static void test_led(void **state) {
    (void)state;
    static uintptr_t old, young;
    kept = served_make(64, NULL);
    *(void **)kept = served_make(64, NULL);
    uintptr_t reachable = HIDE(*(void **)kept);
    old = make(300);
    cycle();
    cycle();
    young = make(300);
    *(void **)~young = (void *)~old;
    cycle();
    assert_true(is_there(old));
    assert_true(is_there(young));
    for (int i = 0; i < 6; i++) {
        cycle();
    }
    assert_true(is_there(reachable));
    kept = NULL;
}

// A cell that is used again is as new.
static void test_renewed(void **state) {
    (void)state;
    for (int i = 0; i < 100; i++) {
        uintptr_t p = make(800);
        cycle();
        if (i % 2 == 0) {
            cycle();
        }
        assert_true(is_there(p));
        assert_true(served_free((void *)~p));
    }
}

// A random graph, changed at random between cycles; each node knows what it is.
struct node {
    struct node *next[4];
    uint64_t seal;
};
static struct node *roots[50];

static struct node *node_make(uint64_t seed) {
    struct node *node = served_make(sizeof *node + seed % 400, NULL);
    assert_non_null(node);
    memset(node, 0, sizeof *node);
    node->seal = ~HIDE(node) * 31;
    return node;
}

static void walk(const struct node *node, int depth) {
    if (node != NULL && depth != 0) {
        assert_true(node->seal == ~HIDE(node) * 31);
        for (int i = 0; i < 4; i++) {
            walk(node->next[i], depth - 1);
        }
    }
}

// LO1
static void test_random(void **state) {
    (void)state;
    const char *said = getenv("LOAM_SEED");
    uint64_t seed = said != NULL ? strtoull(said, NULL, 0) : 42;
    printf("seed %llu\n", (unsigned long long)seed);
    for (int turn = 0; turn < SCALED(40000, 4000); turn++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        size_t at = (seed >> 33) % 50, other = (seed >> 40) % 50;
        if ((seed >> 20) % 3 == 0) {
            struct node *node = node_make(seed >> 50);
            node->next[0] = roots[at];
            node->next[1] = (seed >> 50) % 8 == 0 ? roots[other] : NULL;
            roots[at] = node;
        } else if ((seed >> 20) % 3 == 1 && roots[at] != NULL) {
            roots[at] = roots[at]->next[0]; // the rest is forgotten
        } else if ((seed >> 45) % 40 == 0) {
            roots[other] = NULL;
        }
        if (turn % 200 == 0) {
            cycle();
            for (size_t i = 0; i < 50; i++) {
                walk(roots[i], 6);
            }
        }
    }
}

// Leaks a gigabyte (a part of it in slow builds), and stays small.
static void test_small(void **state) {
    (void)state;
    size_t most = 0;
    for (size_t sum = 0; sum < SCALED((size_t)1 << 30, (size_t)1 << 27);) {
        size_t bytes = 16 + sum / 7 % 3000;
        memset(served_make(bytes, NULL), 1, bytes);
        sum += bytes;
        size_t now = init_state.home.heap.region.committed_bytes;
        most = now > most ? now : most;
    }
    assert_true(most < (size_t)56 << 20);
}

static NOT_INLINED void lose_pairs(void) {
    for (size_t i = 0; i < 100; i++) {
        void **one = served_make(40, (const void *)(uintptr_t)0x5000);
        *one = served_make(50, (const void *)(uintptr_t)0x5000);
        one[1] = one; // itself does not count
    }
}

// LO2, LO3: each lost object once, in the sum it belongs to; a stale word may
// keep a pair.
static void test_sums(void **state) {
    (void)state;
    struct mutator *mutator = init_lock();
    assert_non_null(mutator);
    assert_true(leak_begin(false));
    init_unlock(mutator);
    lose_pairs();
    scrub_stack();
    struct origin_sum lost[2];
    assert_true(leak_look(lost));
    const struct origin *origin = leak_get(0);
    while (origin != NULL && origin->frames[0] != 0x5000) {
        origin = origin_get(origin->id + 1);
    }
    assert_non_null(origin);
    assert_in_range(origin->direct.objects, 90, 100);
    assert_in_range(origin->indirect.objects, 90, 100);
    assert_int_equal(origin->direct.bytes, origin->direct.objects * 40);
    assert_int_equal(origin->indirect.bytes, origin->indirect.objects * 50);
}

int main(void) {
    (void)setenv("LOAM_MODE", "reclaim", 1);
    kept = served_make(1, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_patience), cmocka_unit_test(test_led),
        cmocka_unit_test(test_renewed),  cmocka_unit_test(test_random),
        cmocka_unit_test(test_small),    cmocka_unit_test(test_sums),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
