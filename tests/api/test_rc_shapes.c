// Shapes of counted objects that other systems trip over: long lists on small
// stacks, rings of every size, trees with ways back, gateways, churn, counts
// past their end, what is destroyed while collections and jumps go on.
//
// seconds: 240
// long: 100000000

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loam.h"
#include "loam/rc.h"
#include "loam/weak.h"
#include "support/scrub.h"

struct node {
    struct node *left, *right, *up; // up: an owner, too
    size_t number;
};

static size_t destroyed, last_number;
static bool is_in_order;
static jmp_buf way_out;

static void note(void *object) {
    const struct node *n = object;
    destroyed++;
    is_in_order &= n->number > last_number || last_number == SIZE_MAX;
    last_number = n->number;
}

static void jump(void *object) {
    note(object);
    longjmp(way_out, 1);
}

#define THREE LOAM_OWNS(struct node, left, right, up)
static LOAM_TYPE(node_type, struct node, THREE, .destroy = note);
static LOAM_TYPE(bare_type, struct node, THREE);
static LOAM_TYPE(shared_type, struct node, THREE, .destroy = note,
                 .flags = LOAM_TYPE_SHARED);
static LOAM_TYPE(jump_type, struct node, THREE, .destroy = jump);
static LOAM_TYPE(zombie_type, struct node, THREE, .destroy = note,
                 .flags = LOAM_TYPE_QUARANTINE);
static LOAM_TYPE(traced_type, struct node, THREE, .destroy = note,
                 .flags = LOAM_TYPE_TRACED);

static void begin(void) {
    destroyed = 0;
    last_number = SIZE_MAX;
    is_in_order = true;
}

static struct loam_rc_stats figures(void) {
    struct loam_rc_stats stats;
    loam_rc_stats(&stats, sizeof stats);
    return stats;
}

// --- Cascades

static size_t list_length = SCALED(1000000, 200000);

static void *run_list(void *type) {
    struct node *head = NULL;
    for (size_t i = 0; i < list_length; i++) {
        struct node *n = loam_new(type);
        if (n == NULL) {
            abort();
        }
        n->number = list_length - i;
        loam_give(&n->left, head);
        head = n;
    }
    uint64_t before = figures().destroyed;
    loam_release(head);
    return figures().destroyed - before == list_length ? type : NULL;
}

// Released in a stack of 64 KiB, head first, at once.
static void release_list(struct loam_type *type) {
    pthread_attr_t attributes;
    pthread_t thread;
    void *result = NULL;
    size_t bytes = (size_t)64 << 10;
    bytes =
        bytes < (size_t)PTHREAD_STACK_MIN ? (size_t)PTHREAD_STACK_MIN : bytes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, bytes);
    begin();
    assert_int_equal(pthread_create(&thread, &attributes, run_list, type), 0);
    pthread_join(thread, &result);
    assert_ptr_equal(result, type);
}

static void test_long_list(void **state) {
    (void)state;
    release_list(&node_type);
    assert_int_equal(destroyed, list_length);
    assert_true(is_in_order); // parents before children
    release_list(&bare_type);
    release_list(&shared_type);
    release_list(&zombie_type);
}

static struct node *grow_tree(size_t depth, size_t *number) {
    struct node *n = loam_new(&node_type);
    assert_non_null(n);
    n->number = ++*number; // before what it owns
    if (depth != 0) {
        loam_give(&n->left, grow_tree(depth - 1, number));
        loam_give(&n->right, grow_tree(depth - 1, number));
    }
    return n;
}

static void test_tree(void **state) {
    (void)state;
    size_t number = 0;
    struct node *root = grow_tree(14, &number);
    begin();
    loam_release(root);
    assert_int_equal(destroyed, number);
    assert_true(is_in_order); // as it was made
}

// --- Rings

static void make_ring(struct loam_type *type, size_t count, bool both_ways) {
    struct node *first = loam_new(type), *last = first;
    for (size_t i = 1; i < count; i++) {
        struct node *n = loam_new(type);
        loam_assign(&last->left, n);
        if (both_ways) {
            loam_assign(&n->right, last);
        }
        loam_release(last == first ? NULL : last);
        last = n;
    }
    loam_assign(&last->left, first);
    if (both_ways) {
        loam_assign(&first->right, last);
    }
    loam_release(last == first ? NULL : last);
    loam_release(first);
}

static void test_rings(void **state) {
    (void)state;
    struct loam_type *const types[] = {&node_type, &bare_type, &zombie_type};
    loam_cycles_when(false, 0);
    for (size_t t = 0; t < 3; t++) {
        for (size_t count = 1; count <= 100000; count = 3 * count + 1) {
            make_ring(types[t], count, t != 1);
            begin();
            assert_int_equal(loam_collect_cycles(0), count);
            assert_int_equal(destroyed, t == 1 ? 0 : count);
            assert_int_equal(loam_collect_cycles(0), 0);
        }
    }
    loam_cycles_when(true, 0);
}

// Rings within rings: a ring of rings that lead to one another.
static void test_ring_of_rings(void **state) {
    (void)state;
    enum { COUNT = 50 };
    struct node *nodes[COUNT];
    loam_cycles_when(false, 0);
    begin();
    for (size_t i = 0; i < COUNT; i++) {
        nodes[i] = loam_new(&node_type);
        loam_assign(&nodes[i]->up, nodes[i]);
    }
    for (size_t i = 0; i < COUNT; i++) {
        loam_assign(&nodes[i]->left, nodes[(i / 7 * 7 + (i + 1) % 7) % COUNT]);
        loam_assign(&nodes[i]->right, nodes[(i + 7) % COUNT]);
    }
    for (size_t i = 0; i < COUNT; i++) {
        assert_int_equal(loam_collect_cycles(0), 0); // one is still held
        loam_release(nodes[i]);
    }
    assert_int_equal(loam_collect_cycles(0), COUNT);
    assert_int_equal(destroyed, COUNT);
    loam_cycles_when(true, 0);
}

// Small rings made and dropped go by themselves, most of them sooner or later:
// how soon is a matter of time.
static void test_churn(void **state) {
    (void)state;
    begin();
    size_t count = SCALED(500000, 50000), rings = 0;
    while (rings < count || (destroyed < rings && rings < 40 * count)) {
        make_ring(&node_type, 2, false);
        rings++;
    }
    assert_true(destroyed >= rings);
    loam_collect_cycles(0);
    assert_int_equal(destroyed, 2 * rings);
}

// What leads to everything is suspected again and again: no work is repeated
// without end, and nothing of it is destroyed.
static void test_gateway(void **state) {
    (void)state;
    size_t number = 0;
    struct node *root = grow_tree(12, &number);
    begin();
    uint64_t before = figures().visited;
    for (size_t i = 0; i < 200000; i++) {
        loam_retain(root);
        loam_release(root);
    }
    assert_int_equal(destroyed, 0);
    assert_true(figures().visited - before < 200000 * 10);
    loam_release(root);
    assert_int_equal(destroyed, number);
}

// --- What the program does meanwhile

// A ring without code owns what has code, which makes things in the cells that
// are just becoming free.
static struct node *made[3000];
static size_t made_count;

static void make_many(void *object) {
    (void)object;
    for (size_t i = 0; i < 100; i++) {
        struct node *n = loam_new(&bare_type);
        assert_non_null(n);
        n->number = 77;
        made[made_count++] = n;
    }
}

static LOAM_TYPE(maker_type, struct node, .destroy = make_many,
                 .flags = LOAM_TYPE_SHARED);

static void test_cells_at_once(void **state) {
    (void)state;
    enum { COUNT = 3000 };
    static struct node *ring[COUNT];
    loam_cycles_when(false, 0);
    made_count = 0;
    for (size_t i = 0; i < COUNT; i++) {
        ring[i] = loam_new(&bare_type);
    }
    for (size_t i = 0; i < COUNT; i++) {
        loam_assign(&ring[i]->left, ring[(i + 1) % COUNT]);
        loam_assign(&ring[i]->right, ring[(i + 1500) % COUNT]);
        if (i % 100 == 0) {
            loam_give(&ring[i]->up, loam_new(&maker_type));
        }
    }
    for (size_t i = 0; i < COUNT; i++) {
        loam_release(ring[i]);
    }
    assert_true(loam_collect_cycles(0) >= COUNT);
    assert_int_equal(made_count, 3000);
    for (size_t i = 0; i < made_count; i++) {
        assert_int_equal(loam_count(made[i]), 1);
        assert_int_equal(made[i]->number, 77);
        loam_release(made[i]);
    }
    loam_cycles_when(true, 0);
}

// Each member of a ring owns something by its first slot that nobody else does.
static void test_tails(void **state) {
    (void)state;
    struct node *ring[40];
    loam_cycles_when(false, 0);
    begin();
    for (size_t i = 0; i < 40; i++) {
        ring[i] = loam_new(&node_type);
        loam_give(&ring[i]->left, loam_new(&shared_type)); // no part of a trial
    }
    for (size_t i = 0; i < 40; i++) {
        loam_assign(&ring[i]->right, ring[(i + 1) % 40]);
    }
    for (size_t i = 0; i < 40; i++) {
        loam_release(ring[i]);
    }
    loam_collect_cycles(0);
    assert_int_equal(destroyed, 80);
    loam_cycles_when(true, 0);
}

// A destructor that is jumped out of: what hangs on it is destroyed later.
static void settle_on(void) {
    volatile size_t jumps = 0;
    if (setjmp(way_out) != 0) {
        jumps = jumps + 1;
    }
    if (jumps < 10) {
        loam_settle();
        loam_collect_cycles(0);
    }
}

static void release_jumping(struct node *n) {
    if (setjmp(way_out) == 0) {
        loam_release(n);
    }
}

static void test_jump(void **state) {
    (void)state;
    begin();
    loam_cycles_when(false, 0);
    for (size_t i = 1; i <= 20; i++) {
        struct node *n = loam_new(&jump_type);
        loam_give(&n->left, loam_new(&node_type));
        loam_give(&n->right, loam_new(&jump_type));
        release_jumping(n);
        settle_on();
        assert_int_equal(destroyed, 3 * i);
    }
    make_ring(&jump_type, 3, false);
    settle_on();
    assert_int_equal(destroyed, 63);
    loam_cycles_when(true, 0);
}

// Owned too often to be counted: kept, until the tracer finds nobody.
static void test_saturation(void **state) {
    (void)state;
    struct node *n = loam_new(&bare_type);
    for (size_t i = 0; i < ((size_t)1 << 25) + 5; i++) {
        loam_retain(n);
    }
    for (size_t i = 0; i < ((size_t)1 << 25) + 50; i++) {
        loam_release(n); // those too many are not told of
    }
    assert_ptr_equal(loam_type_of(n), &bare_type);
    struct loam_weak *weak = loam_weak_make(n);
    uintptr_t hidden = LOAM_HIDE(n);
    n = NULL;
    for (size_t i = 0; i < 4 && loam_weak_get(weak) != NULL; i++) {
        scrub_collect();
        loam_settle();
    }
    assert_true(loam_weak_get(weak) == NULL ||
                LOAM_HIDE(loam_weak_get(weak)) == hidden);
}

// Borrowed for too long: a dead object, and never another in its place.
static void test_quarantine(void **state) {
    (void)state;
    begin();
    struct node *volatile old = loam_new(&zombie_type);
    old->number = 4711;
    loam_release(old);
    assert_int_equal(destroyed, 1);
    for (size_t i = 0; i < 20000; i++) {
        struct node *n = loam_new(&zombie_type);
        assert_ptr_not_equal(n, old);
        loam_release(n);
        if (i % 5000 == 0) {
            loam_collect();
        }
    }
    assert_int_equal(old->number, 4711);
    assert_null(loam_type_of(old));
}

// Traced memory leads to it without a count: it waits, and may be owned again.
static void test_traced(void **state) {
    (void)state;
    struct node **place = loam_alloc(sizeof *place);
    begin();
    *place = loam_new(&traced_type);
    loam_release(*place);
    loam_collect();
    loam_settle();
    assert_int_equal(destroyed, 0);
    loam_retain(*place);
    assert_int_equal(loam_count(*place), 1);
    loam_assign(&(*place)->left, *place); // and a ring of it
    loam_release(*place);
    loam_collect_cycles(0);
    loam_collect();
    loam_settle();
    assert_int_equal(destroyed, 0);
    assert_int_equal(loam_count(*place), 1);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_long_list),
        cmocka_unit_test(test_tree),
        cmocka_unit_test(test_rings),
        cmocka_unit_test(test_ring_of_rings),
        cmocka_unit_test(test_churn),
        cmocka_unit_test(test_gateway),
        cmocka_unit_test(test_cells_at_once),
        cmocka_unit_test(test_tails),
        cmocka_unit_test(test_jump),
        cmocka_unit_test(test_saturation),
        cmocka_unit_test(test_quarantine),
        cmocka_unit_test(test_traced),
    };
    if (argc > 1) {
        list_length = strtoul(argv[1], NULL, 10);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
