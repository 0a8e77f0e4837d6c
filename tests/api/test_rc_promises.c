// What loam/rc.h promises of loam_unique, loam_reuse, loam_abandon and
// loam_weak_retain, word for word.
//
// with: LOAM_CHECK=all LOAM_COLLECT_EVERY=1

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "loam.h"
#include "loam/rc.h"
#include "loam/weak.h"

struct node {
    struct node *left, *right;
    size_t number;
};

struct box { // another shape, no larger
    struct box *only;
    char text[8];
};

static size_t destroyed, finalized, warnings;
static struct loam_weak *watched; // asked by a destructor
static void *seen;                // what it was given

static void note(void *object) {
    const struct node *n = object;
    destroyed++;
    assert_true(n->number == 0 || n->number == 7); // as it was
    if (watched != NULL) {
        seen = loam_weak_retain(watched);
    }
}

static void bring_back(void *object) {
    finalized++;
    (void)object;
}

static void hear(const char *sentence, void *data) {
    (void)sentence, (void)data;
    warnings++;
}

#define TWO LOAM_OWNS(struct node, left, right)
static LOAM_TYPE(bare_type, struct node);
static LOAM_TYPE(node_type, struct node, TWO, .destroy = note);
static LOAM_TYPE(last_type, struct node, TWO, .destroy = note,
                 .finalize = bring_back);
static LOAM_TYPE(shared_type, struct node, TWO, .flags = LOAM_TYPE_SHARED);
static LOAM_TYPE(atomic_type, struct node, TWO, .flags = LOAM_TYPE_ATOMIC);
static LOAM_TYPE(traced_type, struct node, TWO, .flags = LOAM_TYPE_TRACED);
static LOAM_TYPE(late_type, struct node, TWO, .flags = LOAM_TYPE_QUARANTINE);
static LOAM_TYPE(deferred_type, struct node, TWO, .flags = LOAM_TYPE_DEFERRED);
static LOAM_TYPE(leaf_type, struct node, .flags = LOAM_TYPE_LEAF);
static LOAM_TYPE(box_type, struct box, LOAM_OWNS(struct box, only));
static LOAM_TYPE(large_type, char[4000]);

static int set_up(void **state) {
    (void)state;
    destroyed = finalized = warnings = 0;
    watched = NULL;
    seen = NULL;
    loam_set_warning_hook(hear, NULL);
    loam_cycles_when(false, 0); // rings: when they are asked for
    return 0;
}

// --- loam_unique -------------------------------------------------------------

static void test_unique(void **state) {
    (void)state;
    struct loam_type *const types[] = {&bare_type,   &node_type,   &last_type,
                                       &shared_type, &atomic_type, &leaf_type,
                                       &late_type};
    assert_false(loam_unique(NULL));
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        struct node *n = loam_new(types[i]);
        assert_true(loam_unique(n));
        assert_ptr_equal(loam_retain(n), n);
        assert_false(loam_unique(n)); // another owner
        loam_release(n);
        assert_true(loam_unique(n));
        assert_non_null(loam_weak_make(n));
        assert_false(loam_unique(n)); // something weak
        assert_int_equal(loam_count(n), 1);
        loam_release(n);
    }
}

static void test_unique_otherwise_weak(void **state) {
    (void)state;
    struct loam_type *const types[] = {&bare_type, &shared_type, &atomic_type};
    struct loam_weakmap *map = loam_weakmap_make();
    for (size_t i = 0; i < 3; i++) {
        struct node *a = loam_new(types[i]), *b = loam_new(types[i]);
        struct loam_weak *w = loam_weak_make_long(a);
        assert_false(loam_unique(a));
        assert_true(loam_weak_set(w, b)); // led away: both may be known
        assert_false(loam_unique(b));
        struct node *c = loam_new(types[i]);
        assert_true(loam_weakmap_put(map, c, &watched));
        assert_false(loam_unique(c));
        loam_release(a);
        loam_release(b);
        loam_release(c);
    }
}

// --- loam_reuse --------------------------------------------------------------

static void test_reuse(void **state) {
    (void)state;
    struct loam_rc_stats before, after;
    struct node *n = loam_new(&node_type), *kept = loam_new(&bare_type);
    n->left = loam_new(&node_type);
    n->right = loam_retain(kept);
    n->number = 7;
    loam_rc_stats(&before, sizeof before);
    struct box *b = loam_reuse(n, &box_type);
    loam_rc_stats(&after, sizeof after);
    assert_ptr_equal(b, n); // the memory
    static const char zeroes[sizeof(struct node)];
    assert_memory_equal(b, zeroes, sizeof zeroes); // all zero
    assert_ptr_equal(loam_type_of(b), &box_type);
    assert_int_equal(loam_count(b), 1);
    assert_true(loam_unique(b));
    assert_int_equal(destroyed, 2); // n, once, and what it alone owned
    assert_int_equal(loam_count(kept), 1);
    assert_int_equal(after.destroyed - before.destroyed, 2);
    assert_int_equal(after.made - before.made, 1);
    b->only = loam_new(&box_type);
    struct node *again = loam_reuse(b, &node_type); // by its new type
    assert_ptr_equal(again, n);
    assert_null(again->left);
    loam_release(again);
    assert_int_equal(destroyed, 3);
    loam_release(kept);
    assert_int_equal(warnings, 0);
}

// What is refused is as it was.
static void refuse(struct node *n, struct loam_type *type) {
    struct loam_type *old = loam_type_of(n);
    size_t count = loam_count(n);
    n->number = 7;
    assert_null(loam_reuse(n, type));
    assert_ptr_equal(loam_type_of(n), old);
    assert_int_equal(loam_count(n), count);
    assert_int_equal(n->number, 7);
    assert_int_equal(destroyed + finalized, 0);
}

static void test_reuse_refused(void **state) {
    (void)state;
    struct loam_type *const others[] = {&shared_type,   &atomic_type,
                                        &traced_type,   &late_type,
                                        &deferred_type, &leaf_type};
    assert_null(loam_reuse(NULL, &node_type));
    struct node *n = loam_new(&node_type);
    refuse(n, &large_type); // needs more room
    for (size_t i = 0; i < 6; i++) {
        refuse(n, others[i]);
        struct node *other = loam_new(others[i]);
        refuse(other, &node_type);
    }
    loam_retain(n);
    refuse(n, &node_type); // others own it
    loam_release(n);
    refuse(n, &node_type);  // it was suspected since
    loam_collect_cycles(0); // and is no longer
    assert_non_null(loam_weak_make(n));
    refuse(n, &node_type);                    // something weak
    refuse(loam_new(&last_type), &node_type); // a finalizer would be due
    struct loam_type nonsense = {.name = "nonsense", .bytes = 0};
    errno = 0;
    struct node *m = loam_new(&bare_type);
    refuse(m, &nonsense);
    assert_int_equal(errno, EINVAL);
    assert_int_equal(warnings, 1);
}

// A list that is rebuilt in place.
static void test_reuse_of_many(void **state) {
    (void)state;
    struct node *head = NULL;
    for (size_t i = 0; i < 1000; i++) {
        struct node *n = loam_new(&node_type);
        n->left = head;
        head = n;
    }
    struct node *rebuilt = NULL;
    while (head != NULL) {
        struct node *rest = loam_take(&head->left);
        struct node *n = loam_reuse(head, &bare_type);
        assert_ptr_equal(n, head);
        n->left = rebuilt; // borrowed: no slots
        rebuilt = n;
        head = rest;
    }
    assert_int_equal(destroyed, 1000);
    for (struct node *next; rebuilt != NULL; rebuilt = next) {
        next = rebuilt->left;
        loam_release(rebuilt);
    }
}

// --- loam_abandon ------------------------------------------------------------

static void test_abandon(void **state) {
    (void)state;
    struct loam_type *const types[] = {&node_type, &last_type, &bare_type,
                                       &shared_type, &atomic_type};
    loam_abandon(NULL);
    for (size_t i = 0; i < 5; i++) {
        struct node *n = loam_new(types[i]), *hung = loam_new(&bare_type);
        struct loam_weak *w = loam_weak_make(n), *v = loam_weak_make(hung);
        n->left = hung;
        loam_abandon(n);
        assert_null(loam_weak_get(w));
        if (types[i] != &bare_type) {
            assert_null(loam_weak_get(v)); // slots are released
        }
        n = loam_new(types[i]);
        loam_retain(n); // somebody owns it
        loam_abandon(n);
        assert_ptr_equal(loam_type_of(n), types[i]);
        assert_int_equal(loam_count(n), 1);
        loam_release(n);
    }
    assert_int_equal(destroyed + finalized, 0); // whoever lets go last
    assert_int_equal(warnings, 0);
    struct node *n = loam_new(&node_type);
    loam_release(n);
    assert_int_equal(destroyed, 1); // others of the type have their code
    loam_abandon(n);
    assert_int_equal(warnings, 1);
}

// --- loam_weak_retain --------------------------------------------------------

static void test_weak_retain(void **state) {
    (void)state;
    struct loam_type *const types[] = {&node_type, &shared_type, &atomic_type,
                                       &late_type, &traced_type, &leaf_type};
    for (size_t i = 0; i < 6; i++) {
        struct node *n = loam_new(types[i]);
        struct loam_weak *w = loam_weak_make(n);
        assert_ptr_equal(loam_weak_get(w), n);
        assert_int_equal(loam_count(n), 1); // borrowed
        assert_ptr_equal(loam_weak_retain(w), n);
        assert_int_equal(loam_count(n), 2); // owned
        loam_release(n);
        assert_ptr_equal(loam_weak_retain(w), n); // by one that remains
        loam_release(n);
        if (types[i] != &traced_type) {
            loam_release(n);
            assert_null(loam_weak_retain(w)); // gone
            assert_null(loam_weak_get(w));
        }
    }
    struct node *n = loam_new(&deferred_type);
    struct loam_weak *w = loam_weak_make(n);
    assert_ptr_equal(loam_weak_retain(w), n);
    assert_int_equal(loam_count(n), 1);
    loam_release(n);
    void *traced = loam_alloc(64); // owned by whoever holds it
    w = loam_weak_make(traced);
    assert_ptr_equal(loam_weak_retain(w), traced);
    assert_true(loam_weak_set(w, NULL));
    assert_null(loam_weak_retain(w));
}

// What a collection condemned before is none of them.
static uint64_t in_rings(void) {
    struct loam_rc_stats stats;
    loam_rc_stats(&stats, sizeof stats);
    return stats.in_rings;
}

static void test_weak_retain_of_the_dying(void **state) {
    (void)state;
    struct node *n = loam_new(&node_type);
    watched = loam_weak_make_long(n);
    seen = n;
    loam_release(n);
    assert_int_equal(destroyed, 1);
    assert_null(seen);
    // A member of a dead ring, asked by another.
    struct node *a = loam_new(&node_type), *b = loam_new(&node_type);
    loam_assign(&a->left, b);
    loam_assign(&b->left, a);
    watched = loam_weak_make(a);
    seen = n;
    loam_release(a);
    loam_release(b);
    uint64_t before = in_rings();
    assert_in_range(loam_collect_cycles(0), 2, SIZE_MAX);
    assert_int_equal(in_rings() - before, 2);
    assert_null(seen);
    assert_null(loam_weak_retain(watched));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_unique, set_up),
        cmocka_unit_test_setup(test_unique_otherwise_weak, set_up),
        cmocka_unit_test_setup(test_reuse, set_up),
        cmocka_unit_test_setup(test_reuse_refused, set_up),
        cmocka_unit_test_setup(test_reuse_of_many, set_up),
        cmocka_unit_test_setup(test_abandon, set_up),
        cmocka_unit_test_setup(test_weak_retain, set_up),
        cmocka_unit_test_setup(test_weak_retain_of_the_dying, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
