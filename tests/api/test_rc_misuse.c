// What goes wrong around counted objects: released too often, when they are
// gone, types that are nonsense; no memory; a handler that allocates meanwhile.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include "loam.h"
#include "loam/rc.h"
#include "loam/weak.h"

struct node {
    struct node *left, *right;
    size_t number;
};

static size_t destroyed, warnings;
static struct node *borrowed; // by a destructor
static char last_warning[256];

static void note(void *object) {
    (void)object;
    destroyed++;
}

static void hear(const char *sentence, void *data) {
    (void)data;
    warnings++;
    strncpy(last_warning, sentence, sizeof last_warning - 1);
}

#define TWO LOAM_OWNS(struct node, left, right)
static LOAM_TYPE(node_type, struct node, TWO, .destroy = note);
static LOAM_TYPE(zombie_type, struct node, TWO, .destroy = note,
                 .flags = LOAM_TYPE_QUARANTINE);
static LOAM_TYPE(shared_type, struct node, TWO, .destroy = note,
                 .flags = LOAM_TYPE_SHARED);
static LOAM_TYPE(atomic_type, struct node, TWO, .destroy = note,
                 .flags = LOAM_TYPE_ATOMIC);

static int set_up(void **state) {
    (void)state;
    destroyed = warnings = 0;
    loam_set_warning_hook(hear, NULL);
    return 0;
}

static void test_too_often(void **state) {
    (void)state;
    struct loam_type *const types[] = {&node_type, &zombie_type, &shared_type,
                                       &atomic_type};
    for (size_t i = 0; i < 4; i++) {
        set_up(NULL);
        struct node *n = loam_new(types[i]);
        loam_release(n);
        assert_int_equal(destroyed, 1);
        loam_release(n);
        loam_release(n);
        assert_int_equal(warnings, 2);
        assert_non_null(strstr(last_warning, "loam_release"));
        assert_int_equal(destroyed, 1);
        assert_null(loam_type_of(n));
    }
}

static void test_nothing(void **state) {
    (void)state;
    struct node *none = NULL;
    loam_release(NULL);
    assert_null(loam_retain(NULL));
    loam_assign(&none, NULL);
    loam_clear(&none);
    assert_null(loam_take(&none));
    assert_null(loam_autorelease(NULL));
    assert_int_equal(loam_count(NULL), 0);
    assert_null(loam_type_of(NULL));
    assert_null(loam_type_of(&none));
    assert_false(loam_unique(NULL));
    assert_int_equal(warnings, 0);
}

// The dead that wait are neither owned again nor lost by what is done to them.
static void test_while_it_waits(void **state) {
    (void)state;
    enum { COUNT = 200 };
    static struct node *nodes[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        nodes[i] = loam_new(&node_type);
    }
    struct node *root = nodes[0];
    for (size_t i = 1; i < COUNT; i++) { // a heap: two hang on each
        struct node *above = nodes[(i - 1) / 2];
        loam_give(i % 2 != 0 ? &above->left : &above->right, nodes[i]);
    }
    loam_release_step(1);
    loam_release(root);
    for (size_t i = 1; i < COUNT; i++) {
        if (loam_count(nodes[i]) == 0 || destroyed == 0) {
            break;
        }
    }
    size_t before = destroyed;
    for (size_t i = 1; i < 3; i++) { // these two wait
        for (int k = 0; k < 100; k++) {
            loam_retain(nodes[i]);
        }
    }
    loam_collect(); // with a list of the dead
    loam_release_step(0);
    loam_settle();
    assert_true(before < COUNT);
    assert_int_equal(destroyed, COUNT);
    assert_true(warnings > 0);
}

static void lend(void *object) {
    struct node *n = object;
    destroyed++;
    loam_release(borrowed); // not owned, and dead already
    loam_collect();
    (void)n;
}

static LOAM_TYPE(lend_type, struct node, TWO, .destroy = lend);

static void test_in_a_destructor(void **state) {
    (void)state;
    struct node *root = loam_new(&node_type);
    borrowed = loam_new(&node_type);
    loam_give(&root->right, borrowed);
    loam_give(&root->left, loam_new(&lend_type));
    loam_release(root);
    assert_int_equal(destroyed, 3);
}

static void test_nonsense_types(void **state) {
    (void)state;
    static const uint32_t far[] = {4096}, odd[] = {3}, twice[] = {0, 0};
    struct loam_type types[] = {
        {.name = "empty", .bytes = 0},
        {.name = "huge", .bytes = SIZE_MAX},
        {.name = "flags", .bytes = 16, .flags = 1u << 30},
        {.name = "far", .bytes = 16, .slot_count = 1, .slots = far},
        {.name = "odd", .bytes = 16, .slot_count = 1, .slots = odd},
        {.name = "twice", .bytes = 16, .slot_count = 2, .slots = twice},
        {.name = "none", .bytes = 16, .slot_count = 1, .slots = NULL},
        {.name = "leaf",
         .bytes = 16,
         .slot_count = 1,
         .slots = twice,
         .flags = LOAM_TYPE_LEAF},
        {.name = "both",
         .bytes = 16,
         .flags = LOAM_TYPE_SHARED | LOAM_TYPE_ATOMIC},
        {.name = "slow",
         .bytes = 16,
         .flags = LOAM_TYPE_DEFERRED | LOAM_TYPE_ATOMIC},
    };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        errno = 0;
        assert_null(loam_new(&types[i]));
        assert_int_equal(errno, EINVAL);
        assert_int_equal(warnings, i + 1);
    }
    size_t before = warnings;
    errno = 0;
    assert_null(loam_new(NULL));
    assert_int_equal(errno, EINVAL);
    struct node *whole = loam_new(&node_type);
    assert_null(loam_reuse(whole, NULL));
    loam_release(whole);
    assert_int_equal(warnings, before + 2);
    assert_null(loam_weak_retain(NULL));
    errno = 0;
    assert_null(loam_new_flex(&node_type, SIZE_MAX - 4));
    assert_int_equal(errno, ENOMEM);
}

// A description that was copied after its first object bears an id that is
// another's: it is a type of its own.  So is one with an id that nobody has.
static void test_copied_types(void **state) {
    (void)state;
    loam_release(loam_new(&node_type));
    static const uint32_t ids[] = {0, 4000, 4094, 4095, UINT32_MAX};
    static struct loam_type copies[sizeof ids / sizeof *ids];
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        copies[i] = node_type;
        copies[i].bytes = 20 * sizeof(struct node);
        copies[i].id = ids[i] == 0 ? node_type.id : ids[i];
        for (size_t again = 0; again < 2; again++) {
            struct node *n = loam_new(&copies[i]);
            assert_non_null(n);
            assert_ptr_equal(loam_type_of(n), &copies[i]);
            assert_true(loam_usable_size(n) >= copies[i].bytes);
            loam_release(n);
        }
        for (size_t j = 0; j < i; j++) {
            assert_int_not_equal(copies[i].id, copies[j].id);
        }
    }
    assert_int_equal(destroyed, 1 + 2 * sizeof ids / sizeof *ids);
    assert_int_equal(warnings, 0);
}

// No memory: refused, and everything can still be released.
static void test_short_of_memory(void **state) {
    (void)state;
    struct node *list = NULL, *n;
    size_t count = 0;
    assert_true(loam_set_limit((size_t)24 << 20));
    errno = 0;
    while ((n = loam_new(&node_type)) != NULL) {
        loam_give(&n->left, list);
        list = n;
        count++;
        assert_true(count < (size_t)4 << 20);
    }
    assert_int_equal(errno, ENOMEM);
    errno = 4711;
    for (struct node *at = list; at != NULL; at = at->left) {
        loam_retain(at); // each of them falls, and is suspected
        loam_release(at);
    }
    loam_collect_cycles(1000);
    loam_release(list);
    loam_settle();
    assert_int_equal(errno, 4711);
    assert_int_equal(destroyed, count);
    assert_true(loam_set_limit(0));
    n = loam_new(&node_type);
    assert_non_null(n);
    loam_release(n);
}

static volatile sig_atomic_t handled;

static void handle(int number) {
    (void)number;
    void *p = loam_alloc(32);
    handled += p != NULL;
    loam_free(p);
}

static void test_handler(void **state) {
    (void)state;
    struct sigaction action = {.sa_handler = handle, .sa_flags = SA_RESTART};
    struct sigaction was;
    struct itimerval often = {{0, 200}, {0, 200}}, never = {{0, 0}, {0, 0}};
    sigaction(SIGALRM, &action, &was);
    setitimer(ITIMER_REAL, &often, NULL);
    size_t made = 0;
    for (size_t i = 0; i < 4000 || (handled < 20 && i < 400000); i++) {
        struct node *a = loam_new(&node_type), *b = loam_new(&shared_type);
        assert_true(a != NULL && b != NULL);
        loam_assign(&a->left, b);
        loam_assign(&b->left, i % 2 != 0 ? NULL : b);
        loam_assign(&a->right, i % 3 != 0 ? NULL : a);
        loam_release(a);
        loam_clear(&b->left);
        loam_release(b);
        made += 2;
        if (i % 1000 == 0) {
            loam_collect();
        }
    }
    setitimer(ITIMER_REAL, &never, NULL);
    sigaction(SIGALRM, &was, NULL);
    loam_collect_cycles(0);
    assert_true(handled > 0);
    assert_int_equal(destroyed, made);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_too_often, set_up),
        cmocka_unit_test_setup(test_nothing, set_up),
        cmocka_unit_test_setup(test_while_it_waits, set_up),
        cmocka_unit_test_setup(test_in_a_destructor, set_up),
        cmocka_unit_test_setup(test_nonsense_types, set_up),
        cmocka_unit_test_setup(test_copied_types, set_up),
        cmocka_unit_test_setup(test_short_of_memory, set_up),
        cmocka_unit_test_setup(test_handler, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
