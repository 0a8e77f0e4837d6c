// The loop around the dead: nested, jumped out of, in steps, with errno kept;
// pools.

#include "api/counting.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "loam/rc.h"

#include "support/gen.h"

#define LENGTH ((size_t)(LOAM_TINY ? 200 : 5000))

struct node {
    struct node *next, *other;
    size_t number;
};

static size_t destroyed;
static jmp_buf away;
static size_t jump_at; // the node whose destructor jumps out

static void node_destroy(void *object) {
    struct node *node = object;
    assert_int_equal(init_mutator->busy, MUTATOR_OUT); // CU1
    destroyed++;
    errno = 77;
    if (node->number == jump_at) {
        longjmp(away, 1);
    }
}

static LOAM_TYPE(node_type, struct node, LOAM_OWNS(struct node, next, other),
                 .destroy = node_destroy);

static struct node *make_list(size_t length) {
    struct node *list = NULL;
    for (size_t i = 0; i < length; i++) {
        struct node *node = loam_new(&node_type);
        assert_non_null(node);
        node->next = list;
        node->number = i;
        list = node;
    }
    destroyed = 0;
    jump_at = SIZE_MAX;
    return list;
}

static void test_errno(void **state) {
    (void)state;
    struct node *list = make_list(LENGTH);
    errno = 5;
    loam_release(list);
    assert_int_equal(errno, 5); // CU3
    assert_int_equal(destroyed, LENGTH);
}

// A destructor that releases: nothing is drained within a drain.
static size_t depth, depth_max;

static void deep_destroy(void *object) {
    struct node *node = object;
    depth++;
    depth_max = depth > depth_max ? depth : depth_max;
    loam_clear(&node->next); // by hand
    loam_settle();
    depth--;
    destroyed++;
}

static LOAM_TYPE(deep_type, struct node, LOAM_OWNS(struct node, next, other),
                 .destroy = deep_destroy);

static void test_nested(void **state) {
    (void)state;
    struct node *list = NULL;
    for (size_t i = 0; i < LENGTH; i++) {
        struct node *node = loam_new(&deep_type);
        node->next = list;
        list = node;
    }
    destroyed = 0;
    loam_release(list);
    assert_int_equal(destroyed, LENGTH);
    assert_int_equal(depth_max, 1); // CU2
}

static NOINLINE void release_and_jump(void) {
    struct node *list = make_list(LENGTH);
    jump_at = LENGTH / 3;
    loam_release(list);
    fail();
}

static void test_jump(void **state) {
    (void)state;
    static struct loam_rc_stats before, after;
    loam_rc_stats(&before, sizeof before);
    if (setjmp(away) == 0) {
        release_and_jump();
    }
    jump_at = SIZE_MAX;
    loam_settle();
    loam_rc_stats(&after, sizeof after);
    assert_int_equal(destroyed, LENGTH);
    assert_int_equal(after.destroyed - before.destroyed, LENGTH);
}

static void test_step(void **state) {
    (void)state;
    loam_release_step(8);
    struct node *list = make_list(LENGTH);
    loam_release(list);
    assert_in_range(destroyed, 8, 9);
    size_t before = destroyed;
    struct node *fresh = loam_new(&node_type);
    fresh->number = SIZE_MAX - 1;
    assert_in_range(destroyed - before, 8, 9);
    loam_settle();
    assert_int_equal(destroyed, LENGTH);
    loam_release(fresh);
    loam_release_step(0);
    loam_settle();
}

static void test_pools(void **state) {
    (void)state;
    destroyed = 0;
    jump_at = SIZE_MAX;
    struct loam_pool outer = loam_pool_open();
    struct node *first = loam_autorelease(loam_new(&node_type));
    assert_int_equal(loam_count(first), 1);
    loam_scope {
        for (size_t i = 0; i < LENGTH; i++) {
            assert_non_null(loam_autorelease(loam_new(&node_type)));
        }
        assert_int_equal(destroyed, 0);
    }
    assert_int_equal(destroyed, LENGTH);
    struct loam_pool inner = loam_pool_open();
    (void)loam_autorelease(loam_new(&node_type));
    loam_pool_close(&outer); // and what was opened after it
    assert_int_equal(destroyed, LENGTH + 2);
    loam_pool_close(&inner);
    assert_null(loam_autorelease(NULL));
}

static size_t leave_early(void) {
    loam_auto(struct node) mine = loam_new(&node_type);
    loam_scope {
        (void)loam_autorelease(loam_retain(mine));
        return loam_count(mine);
    }
    return 0;
}

static void test_scopes(void **state) {
    (void)state;
    destroyed = 0;
    assert_int_equal(leave_early(), 2);
    assert_int_equal(destroyed, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_errno), cmocka_unit_test(test_nested),
        cmocka_unit_test(test_jump),  cmocka_unit_test(test_step),
        cmocka_unit_test(test_pools), cmocka_unit_test(test_scopes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
