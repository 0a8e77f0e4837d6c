// Shapes that strain a marker: very long lists, singly and doubly linked, one
// huge array of pointers, deep trees, fans, and all of them at once.
//
// seconds: 240

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "loam.h"
#include "support/gen.h"
#include "support/scrub.h"

struct node {
    struct node *left, *right;
    size_t number;
};

static struct node *root;
static struct node **array;

static uint64_t live_objects(void) {
    struct loam_stats stats = {0};
    scrub_collect();
    loam_stats(&stats, sizeof stats);
    return stats.live_objects;
}

NOT_INLINED static void grow_list(size_t count) {
    for (size_t i = 0; i < count; i++) {
        struct node *n = loam_alloc(sizeof *n);
        n->left = root;
        n->number = i;
        root = n;
    }
}

NOT_INLINED static void check_list(size_t count) {
    const struct node *n = root;
    while (count--) {
        assert_true(n->number == count);
        n = n->left;
    }
    assert_null(n);
}

static void test_long_list(void **state) {
    (void)state;
    size_t count = SCALED(10000000, 1000000);
    uint64_t before = live_objects();
    grow_list(count);
    uint64_t live = live_objects();
    assert_true(live >= count && live <= before + count + 20);
    check_list(count);
    root = NULL;
    scrub_stack(); // where the next frame will lie, too
    assert_true(live_objects() <= before + 20);
}

// Grown at the far end: the marker follows the order of the addresses.
NOT_INLINED static void grow_forward(size_t count) {
    struct node *last = loam_alloc(sizeof *last);
    root = last;
    for (size_t i = 1; i < count; i++) {
        last->left = loam_alloc(sizeof *last);
        last->left->right = last; // and back
        last->left->number = i;
        last = last->left;
    }
}

static void test_long_ring(void **state) {
    (void)state;
    size_t count = SCALED(3000000, 300000);
    uint64_t before = live_objects();
    grow_forward(count);
    uint64_t live = live_objects();
    assert_true(live >= count && live <= before + count + 20);
    size_t number = 0;
    for (const struct node *n = root; n; n = n->left) {
        assert_true(n->number == number++);
        assert_true(!n->left || n->left->right == n);
    }
    assert_int_equal(number, count);
    root = NULL;
    scrub_stack(); // where the next frame will lie, too
    assert_true(live_objects() <= before + 20);
}

// One array of 64 MiB full of pointers: the worst that one object can push.
NOT_INLINED static void grow_array(size_t count) {
    array = loam_alloc(count * sizeof *array);
    assert_non_null(array);
    for (size_t i = 0; i < count; i++) {
        array[i] = loam_alloc(sizeof *array[i]);
        array[i]->number = i;
    }
}

NOT_INLINED static void check_array(size_t count) {
    for (size_t i = 0; i < count; i++) {
        assert_true(array[i]->number == i);
    }
}

static void test_wide_array(void **state) {
    (void)state;
    size_t count = SCALED((size_t)8 << 20, (size_t)1 << 20);
    uint64_t before = live_objects();
    grow_array(count);
    uint64_t live = live_objects();
    assert_true(live > count && live <= before + count + 20);
    check_array(count);
    array = NULL;
    scrub_stack();
    assert_true(live_objects() <= before + 20);
}

NOT_INLINED static struct node *grow_tree(size_t depth, size_t number) {
    struct node *n = loam_alloc(sizeof *n);
    n->number = number;
    if (depth) {
        n->left = grow_tree(depth - 1, 2 * number);
        n->right = grow_tree(depth - 1, 2 * number + 1);
    }
    return n;
}

static size_t count_tree(const struct node *n, size_t number) {
    if (!n) {
        return 0;
    }
    assert_true(n->number == number);
    return 1 + count_tree(n->left, 2 * number) +
           count_tree(n->right, 2 * number + 1);
}

NOT_INLINED static void plant_tree(size_t depth) {
    root = grow_tree(depth, 1);
}

NOT_INLINED static void check_tree(size_t count) {
    assert_int_equal(count_tree(root, 1), count);
}

static void test_tree(void **state) {
    (void)state;
    size_t depth = SCALED(23, 18); // 24 levels
    uint64_t before = live_objects();
    plant_tree(depth);
    uint64_t live = live_objects();
    size_t count = ((size_t)2 << depth) - 1;
    assert_true(live >= count && live <= before + count + 20);
    check_tree(count);
    root = NULL;
    scrub_stack(); // where the next frame will lie, too
    assert_true(live_objects() <= before + 20);
}

// A list each of whose nodes fans out into an array of lists.  The way on
// stands at both ends of a fan: in whichever order a marker takes the words,
// it goes deeper with a fan still to be read, until its bounded stack is full.
NOT_INLINED static void grow_fans(size_t fans, size_t width, struct gen *g) {
    struct node ***spine = NULL;
    for (size_t i = 0; i < fans; i++) {
        struct node ***fan = loam_alloc((width + 2) * sizeof *fan);
        fan[0] = (struct node **)spine;
        fan[width + 1] = (struct node **)spine;
        for (size_t k = 1; k <= width; k++) {
            struct node *head = NULL;
            for (size_t left = 1 + gen_below(g, 5); left; left--) {
                struct node *n = loam_alloc(sizeof *n);
                n->left = head;
                n->number = i * width + k;
                head = n;
            }
            fan[k] = (struct node **)(void *)head;
        }
        spine = fan;
    }
    array = (struct node **)(void *)spine;
}

NOT_INLINED static void check_fans(size_t fans, size_t width) {
    struct node ***spine = (struct node ***)(void *)array;
    for (size_t i = fans; i--;) {
        for (size_t k = 1; k <= width; k++) {
            const struct node *n = (const struct node *)(void *)spine[k];
            for (; n; n = n->left) {
                assert_true(n->number == i * width + k);
                assert_true(loam_is_heap(n)); // dead, it might read the same
            }
        }
        spine = (struct node ***)(void *)spine[0];
    }
    assert_null(spine);
}

static void test_fans(void **state) {
    (void)state;
    struct gen g;
    gen_init(&g, gen_seed("fans"));
    struct loam_stats was = {0};
    loam_stats(&was, sizeof was);
    for (size_t width = 10; width <= 10000; width *= 10) {
        size_t fans = SCALED(1000000, 100000) / width;
        grow_fans(fans, width, &g);
        scrub_collect();
        check_fans(fans, width);
        array = NULL;
    }
    struct loam_stats is = {0};
    loam_stats(&is, sizeof is);
    assert_true(is.overflows > was.overflows); // or it was no strain
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_long_list),  cmocka_unit_test(test_long_ring),
        cmocka_unit_test(test_wide_array), cmocka_unit_test(test_tree),
        cmocka_unit_test(test_fans),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
