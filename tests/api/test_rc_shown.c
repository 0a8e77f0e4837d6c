// What a finalizer is shown while the tracer's garbage is taken apart, and puts
// into traced memory without a count, as types that are traced allow: it lives.
// And what finalizers were shown, and left alone, goes with the next cycle.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "loam.h"
#include "loam/rc.h"
#include "loam/weak.h"
#include "support/scrub.h"

#define WHOLE 0x77686f6c65
#define GONE  0x676f6e65

#define MANY  ((size_t)40)
#define STRAY ((size_t)8) // so many a stray word may keep

struct node {
    struct node *left, *right;
    struct node *borrowed; // no slot
    void *plain;           // to a traced object
    uint64_t state;
    size_t program; // which call of begin() it comes after
};

enum wish {
    LEAVE_IT,
    KEEP_IT,
    KEEP_RIGHT,
    KEEP_PLAIN,
    KEEP_WEAK,
    KEEP_A_WHILE
};

static void **root; // traced memory: one word
static enum wish wish;
static size_t made, destroyed, finalized, program;

static void node_destroy(void *object) {
    struct node *node = object;
    assert_true(node->state == WHOLE);
    node->state = GONE;
    destroyed += node->program == program;
}

static void node_finalize(void *object) {
    struct node *node = object;
    if (node->program != program) {
        return;
    }
    finalized++;
    switch (wish) {
    case LEAVE_IT:
        break;
    case KEEP_IT:
        *root = node;
        break;
    case KEEP_RIGHT:
        *root = node->right;
        break;
    case KEEP_PLAIN:
        *root = *(void **)node->plain;
        break;
    case KEEP_WEAK:
        *root = loam_weak_get(node->plain);
        break;
    case KEEP_A_WHILE:
        loam_retain(node);
        *root = node->right;
        loam_release(node);
        break;
    }
}

#define OWNS LOAM_OWNS(struct node, left, right), .destroy = node_destroy

static LOAM_TYPE(plain_type, struct node, OWNS);
static LOAM_TYPE(final_type, struct node, OWNS, .finalize = node_finalize);
static LOAM_TYPE(traced_type, struct node, OWNS, .flags = LOAM_TYPE_TRACED);
static LOAM_TYPE(both_type, struct node, OWNS, .finalize = node_finalize,
                 .flags = LOAM_TYPE_TRACED);

static struct node *make(struct loam_type *type) {
    struct node *node = loam_new(type);
    assert_non_null(node);
    node->state = WHOLE;
    node->program = program;
    made++;
    return node;
}

static void begin(enum wish now) {
    program++;
    wish = now;
    *root = NULL;
    made = destroyed = finalized = 0;
}

// With the suspects, whose cells wait for a slice, and keep what they point to.
static void collect(void) {
    assert_true(scrub_collect());
    (void)loam_settle();
    (void)loam_collect_cycles(0);
}

static NOT_INLINED void check_whole(size_t kept) {
    const struct node *node = *root;
    assert_non_null(node);
    for (size_t n = 0; n < kept; n++, node = node->right) {
        assert_true(node->state == WHOLE);
    }
}

// What the root leads to is whole; when it does not, all of it goes.
static void check_kept(size_t kept) {
    for (int i = 0; i < 4; i++) {
        collect();
        assert_int_equal(finalized, 1);
        check_whole(kept);
    }
    assert_int_equal(destroyed, made - kept);
    *root = NULL;
    collect();
    collect();
    assert_int_equal(destroyed, made);
    assert_int_equal(finalized, 1);
}

// --- One, and what it owns --------------------------------------------------

static NOT_INLINED void build_one(void) {
    struct node *node = make(&both_type);
    node->right = make(&plain_type);
    loam_release(node);
}

static void test_itself(void **state) {
    (void)state;
    begin(KEEP_IT);
    build_one();
    check_kept(2);
}

// --- Out of a ring -----------------------------------------------------------

// A ring of two, and on it one that is traced, which owns one more.
static NOT_INLINED struct node *build_ring(struct loam_type *type) {
    struct node *first = make(type), *second = make(&plain_type);
    first->right = make(&traced_type);
    first->right->right = make(&plain_type);
    first->left = second;
    loam_assign(&second->left, first);
    return first;
}

static NOT_INLINED void drop_ring(void) {
    loam_release(build_ring(&final_type));
}

static void test_peer(void **state) {
    (void)state;
    begin(KEEP_RIGHT);
    drop_ring();
    check_kept(2);
    begin(KEEP_A_WHILE);
    drop_ring();
    check_kept(2);
}

// --- Through traced memory ---------------------------------------------------

static NOT_INLINED void drop_through(void) {
    struct node *first = make(&final_type);
    first->left = make(&plain_type);
    loam_assign(&first->left->left, first);
    first->plain = loam_alloc(sizeof(void *));
    struct node *behind = make(&traced_type);
    behind->right = make(&plain_type);
    *(void **)first->plain = behind;
    loam_release(behind);
    loam_release(first);
}

static void test_through(void **state) {
    (void)state;
    begin(KEEP_PLAIN);
    drop_through();
    check_kept(2);
}

// --- By a weak reference -----------------------------------------------------

static NOT_INLINED void drop_weak(struct loam_type *type) {
    struct node *first = make(&final_type);
    first->left = make(&plain_type);
    loam_assign(&first->left->left, first);
    struct node *other = make(type);
    first->plain = loam_weak_make_long(other);
    loam_release(first);
    loam_release(other);
}

// Either it is gone, or what was got lives.
static void check_weak(void) {
    collect();
    assert_true(finalized != 0);
    const struct node *got = *root;
    assert_true(got == NULL || got->state == WHOLE);
    for (int i = 0; i < 3; i++) {
        collect();
        assert_true(got == NULL || got->state == WHOLE);
    }
    *root = NULL;
    got = NULL;
    collect();
    collect();
    assert_int_equal(destroyed, made);
}

static void test_weak(void **state) {
    (void)state;
    begin(KEEP_WEAK);
    drop_weak(&traced_type);
    check_weak();
}

// --- And it goes -------------------------------------------------------------

static NOT_INLINED void drop_many(void) {
    for (size_t i = 0; i < MANY; i++) {
        build_one();
        drop_ring();
    }
}

// Others' finalizers, due in each collection, do not keep what was shown once.
static void test_goes(void **state) {
    (void)state;
    begin(LEAVE_IT);
    for (int i = 0; i < 10; i++) {
        drop_many();
        collect();
        // What the last collection found, and no more.
        assert_true(made - destroyed <= 6 * MANY + STRAY);
    }
    collect();
    collect();
    assert_true(made - destroyed <= STRAY);
}

static int set_up(void **state) {
    (void)state;
    loam_cycles_when(false, 0);
    root = loam_alloc(sizeof *root);
    return root == NULL ? -1 : 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_itself), cmocka_unit_test(test_peer),
        cmocka_unit_test(test_through), cmocka_unit_test(test_weak),
        cmocka_unit_test(test_goes)};
    return cmocka_run_group_tests(tests, set_up, NULL);
}
