// seconds: 120
// Deferred objects as a program has them: variables are free of charge, what no
// variable holds is destroyed at the next settlement, and what one holds never;
// in main, in threads, beside the cycle collector and the tracer.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "loam/rc.h"
#include "support/gen.h"
#include "support/scrub.h"
#include "support/team.h"

#define ALIVE UINT64_C(0x616C697665)

struct node {
    struct node *left, *right;
    uint64_t state;
};

static atomic_uint made, destroyed;

static void node_destroy(void *object) {
    struct node *node = object;
    MUST(node->state == ALIVE);
    node->state = 0;
    atomic_fetch_add(&destroyed, 1);
}

static LOAM_TYPE(node_type, struct node, LOAM_OWNS(struct node, left, right),
                 .flags = LOAM_TYPE_DEFERRED, .destroy = node_destroy);
static LOAM_TYPE(root_type, struct node, LOAM_OWNS(struct node, left, right),
                 .destroy = node_destroy);

static struct node *node_new(struct loam_type *type) {
    struct node *node = loam_new(type);
    MUST(node != NULL);
    node->state = ALIVE;
    atomic_fetch_add(&made, 1);
    return node;
}

static int begin_count(void **state) {
    (void)state;
    atomic_store(&made, 0);
    atomic_store(&destroyed, 0);
    return 0;
}

static size_t settle(void) {
    scrub_stack();
    return loam_settle();
}

// DS2: nothing is stored, nothing is leaked.
static NOT_INLINED void make_some(int count) {
    for (int i = 0; i < count; i++) {
        struct node *node = node_new(&node_type);
        loam_assign(&node->left, node_new(&node_type));
        if (i % 3 == 0) {
            loam_assign(&node->right, node->left);
        }
    }
}

static void test_nothing_stored(void **state) {
    (void)state;
    make_some(100);
    size_t count = settle();
    // A word or two on the stack may still show the last one.
    assert_true(atomic_load(&destroyed) >= 190);
    // The tiny build settles by itself meanwhile.
    assert_true(count == atomic_load(&destroyed) ||
                (LOAM_TINY && count < atomic_load(&destroyed)));
    begin_count(NULL);
    make_some(SCALED(300000, 20000));
    unsigned left = atomic_load(&made) - atomic_load(&destroyed);
    assert_true(left < 100000); // now and then, by itself
}

// DS1: what a variable holds, directly or not, is there.
static NOT_INLINED void hold_and_settle(void) {
    struct node *node = node_new(&node_type);
    loam_assign(&node->left, node_new(&node_type));
    struct node *volatile kept = node;
    make_some(10);
    settle();
    assert_int_equal(kept->state, ALIVE);
    assert_int_equal(kept->left->state, ALIVE);
    assert_int_equal(loam_count(kept), 0);
    loam_clear(&kept->left);
}

static void test_variables(void **state) {
    (void)state;
    hold_and_settle();
    settle();
    assert_true(atomic_load(&destroyed) + 4 >= atomic_load(&made));
}

// From one owner to another, by way of a variable.
static void test_moved(void **state) {
    (void)state;
    struct node *root = node_new(&root_type);
    loam_assign(&root->left, node_new(&node_type));
    struct node *volatile moved = root->left;
    loam_clear(&root->left);
    settle();
    assert_int_equal(moved->state, ALIVE);
    loam_assign(&root->right, moved);
    assert_int_equal(loam_count(moved), 1);
    settle();
    assert_int_equal(atomic_load(&destroyed), 0);
    moved = NULL;
    loam_release(root);
    settle();
    assert_true(atomic_load(&destroyed) >= 1);
}

// A ring, held by a variable and then not: beside the trials, and the tracer.
static NOT_INLINED struct node *ring(size_t size) {
    struct node *first = node_new(&node_type), *last = first;
    for (size_t i = 1; i < size; i++) {
        struct node *node = node_new(&node_type);
        loam_assign(&last->left, node);
        last = node;
    }
    loam_assign(&last->left, first);
    // A second owner comes and goes: suspected.
    loam_assign(&first->right, last);
    loam_clear(&first->right);
    return first;
}

static NOT_INLINED void hold_ring(void) {
    struct node *volatile kept = ring(50);
    settle();
    loam_collect_cycles(0);
    (void)loam_collect();
    settle();
    struct node *node = kept;
    for (int i = 0; i < 100; i++) {
        assert_int_equal(node->state, ALIVE);
        node = node->left;
    }
    kept = NULL;
    node = NULL;
}

static void test_rings(void **state) {
    (void)state;
    for (int i = 0; i < 20; i++) {
        hold_ring();
    }
    settle();
    loam_collect_cycles(0);
    (void)scrub_collect();
    settle();
    assert_true(atomic_load(&destroyed) + 200 >= atomic_load(&made));
}

// A thread that ends settles what it has; what it put into a slot is there.
static struct node *handed;

static void *work(void *data) {
    (void)data;
    make_some(50);
    struct node *root = node_new(&root_type);
    loam_assign(&root->left, node_new(&node_type));
    handed = root;
    return NULL;
}

static void test_thread(void **state) {
    (void)state;
    join(begin(work, NULL));
    assert_true(atomic_load(&destroyed) >= 90);
    assert_int_equal(handed->left->state, ALIVE);
    struct node *root = handed;
    handed = NULL;
    loam_release(root);
    settle();
    assert_true(atomic_load(&destroyed) >= 91);
}

// Random: variables in an array on the stack, slots, settlements whenever.
static NOT_INLINED void storm(uint64_t seed, size_t steps) {
    struct gen g = {seed};
    struct node *variables[16] = {NULL};
    struct node *root = node_new(&root_type);
    for (size_t i = 0; i < steps; i++) {
        struct node **v = &variables[gen_below(&g, 16)];
        struct node *w = variables[gen_below(&g, 16)];
        switch (gen_below(&g, 6)) {
        case 0:
            *v = node_new(&node_type);
            break;
        case 1:
            *v = gen_chance(&g, 50) ? root->left : root->right;
            break;
        case 2:
            loam_assign(gen_chance(&g, 50) ? &root->left : &root->right, w);
            break;
        case 3:
            if (*v != NULL) {
                loam_assign(gen_chance(&g, 50) ? &(*v)->left : &(*v)->right, w);
            }
            break;
        case 4:
            *v = *v == NULL ? NULL : (*v)->left;
            break;
        default:
            if (gen_chance(&g, 2)) {
                loam_settle();
            } else if (gen_chance(&g, 1)) {
                loam_collect_cycles(0);
            } else if (gen_below(&g, steps) < 30) {
                (void)loam_collect();
            }
        }
        for (size_t k = 0; k < 16; k++) {
            MUST(variables[k] == NULL || variables[k]->state == ALIVE);
        }
    }
    loam_release(root);
}

static void test_random(void **state) {
    (void)state;
    uint64_t seed = gen_seed("deferred");
    for (size_t i = 0; i < 5; i++) {
        storm(gen_mix(seed, i), SCALED(50000, 5000));
    }
    settle();
    loam_collect_cycles(0);
    (void)scrub_collect();
    settle();
    assert_true(atomic_load(&destroyed) + 1000 >= atomic_load(&made));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_nothing_stored, begin_count),
        cmocka_unit_test_setup(test_variables, begin_count),
        cmocka_unit_test_setup(test_moved, begin_count),
        cmocka_unit_test_setup(test_rings, begin_count),
        cmocka_unit_test_setup(test_thread, begin_count),
        cmocka_unit_test_setup(test_random, begin_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
