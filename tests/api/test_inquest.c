// Programs with one fault each, run in a child with the options that look for
// it: what is said names the type, the place and the number; and one without a
// fault, of which nothing is said.

#include "api/inquest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>

#include "heap/counted.h"
#include "loam/rc.h"
#include "loam/weak.h"
#include "support/child.h"
#include "support/scrub.h"

#define COUNT ((size_t)100)

struct node {
    struct node *next, *other, *parent;
};

static LOAM_TYPE(node_type, struct node, LOAM_OWNS(struct node, next, other));
static LOAM_TYPE(atomic_type, struct node, LOAM_OWNS(struct node, next, other),
                 .flags = LOAM_TYPE_ATOMIC);
static LOAM_TYPE(shared_type, struct node, LOAM_OWNS(struct node, next, other),
                 .flags = LOAM_TYPE_SHARED);

static void *volatile kept;

// A call is not the last that its function does.
static void keep(void *object) {
    kept = object;
    kept = NULL;
}

#define want(what)                                                             \
    do {                                                                       \
        if (!(what)) {                                                         \
            fprintf(stderr, "WRONG: %s\n", #what);                             \
        }                                                                      \
    } while (0)

// --- The programs ------------------------------------------------------------

static NOT_INLINED struct node *make(void) {
    struct node *node = loam_new(&node_type);
    keep(node);
    return node;
}

// Owners that no variable keeps.
static NOT_INLINED void lose(struct node *node) {
    loam_retain(node);
    keep(node);
}

static NOT_INLINED void drop(struct node *node) {
    loam_release(node);
    keep(node);
}

static NOT_INLINED void forget(void) {
    for (size_t i = 0; i < 2 * COUNT; i++) {
        struct node *node = make();
        if (i % 2 == 0) {
            lose(node);
        }
        drop(node);
    }
}

static void run_forget(void) {
    forget();
    scrub_stack();
}

static void *count_here(void *data) {
    lose(data);
    drop(data);
    return NULL;
}

static void run_thread(void) {
    struct node *node = make();
    pthread_t thread;
    pthread_create(&thread, NULL, count_here, node);
    pthread_join(thread, NULL);
    drop(node);
}

static void *make_here(void *data) {
    *(struct node **)data = make();
    return NULL;
}

// What a thread that ended has left is anybody's.
static void run_heir(void) {
    static struct node *node;
    pthread_t thread;
    pthread_create(&thread, NULL, make_here, &node);
    pthread_join(thread, NULL);
    lose(node);
    drop(node);
    loam_clear(&node);
}

static void run_too_often(void) {
    struct node *node = make();
    drop(node);
    drop(node);
    drop(node);
}

// Two slots lead to an object with one owner.
static NOT_INLINED struct node *make_unowned(void) {
    struct node *node = make();
    node->next = make();
    node->other = node->next;
    return node;
}

static void run_unowned(void) {
    struct node *node = make_unowned();
    lose(node);
    drop(node); // which makes it suspect
    loam_collect_cycles(0);
    node->other = NULL;
    drop(node);
}

static NOT_INLINED uintptr_t hide_unowned(void) {
    return ~(uintptr_t)make_unowned();
}

static void run_unowned_traced(void) {
    uintptr_t hidden = hide_unowned();
    scrub_collect();
    struct node *node = (struct node *)~hidden;
    node->other = NULL;
    drop(node);
}

struct box {
    struct node *lid, *wall;
    struct box *whole; // borrowed
};

static LOAM_TYPE(box_type, struct box, LOAM_OWNS(struct box, lid));
static LOAM_TYPE(ring_type, struct box, LOAM_OWNS(struct box, whole));

// Boxes that own their walls without a word; they die.
static NOT_INLINED void build(void) {
    struct box *first = loam_new(&box_type);
    for (size_t i = 0; i < COUNT; i++) {
        struct box *box = loam_new(&box_type);
        box->lid = make();
        box->wall = make();
        box->whole = first;
        loam_release(box);
    }
    loam_release(first);
}

static void run_undeclared(void) {
    build();
    scrub_stack();
}

// Rings that are closed by a word that is not declared: they stay.
static NOT_INLINED void build_rings(void) {
    for (size_t i = 0; i < COUNT; i++) {
        struct box *ring = loam_new(&ring_type);
        struct box *other = loam_new(&ring_type);
        ring->whole = other;
        other->lid = loam_retain(ring);
        loam_release(ring);
    }
}

static void run_undeclared_ring(void) {
    build_rings();
    scrub_stack();
}

// Trees with borrowed parents of which the roots are forgotten: parents of what
// is below acquit them.
static NOT_INLINED void plant(void) {
    for (size_t i = 0; i < COUNT; i++) {
        struct node *root = make();
        root->next = make();
        root->next->parent = root;
        root->next->next = make();
        root->next->next->parent = root->next;
    }
}

static void run_borrowed(void) {
    plant();
    scrub_stack();
}

static size_t finalized, destroyed;
static struct node *revived;

static void finalize(void *object) {
    finalized++;
    if (finalized == 1) {
        revived = loam_retain(object);
    }
}

static void destroy(void *object) {
    (void)object;
    destroyed++;
}

static LOAM_TYPE(final_type, struct node, .finalize = finalize,
                 .destroy = destroy);
static LOAM_TYPE(waiting_type, struct node, .flags = LOAM_TYPE_TRACED);

static void run_final(void) {
    loam_release(loam_new(&final_type));
    want(finalized == 1 && destroyed == 0 && loam_count(revived) == 1);
    loam_clear(&revived);
    want(finalized == 1 && destroyed == 1);
    loam_release(loam_new(&final_type));
    want(finalized == 2 && destroyed == 2);
    struct node *waiting = loam_new(&waiting_type);
    loam_release(waiting);
    loam_release(waiting); // told of
    want(loam_count(waiting) == 0);
}

// Everything that is right, with parents that are borrowed, rings, threads,
// weak references and pools.
static NOT_INLINED void be_right(struct loam_type *type) {
    struct node *root = loam_new(type);
    struct node *node = root;
    for (size_t i = 0; i < COUNT; i++) {
        loam_give(&node->next, loam_new(type));
        node->next->parent = node;
        node = node->next;
        loam_give(&node->other, loam_new(type));
        node->other->parent = node;
    }
    struct loam_weak *weak = loam_weak_make(node);
    loam_release(loam_weak_retain(weak));
    struct node *ring = loam_new(type);
    loam_assign(&ring->next, ring);
    loam_autorelease(ring);
    loam_release(root);
}

static void *be_right_here(void *data) {
    (void)data;
    be_right(&node_type);
    be_right(&shared_type);
    return NULL;
}

static void run_right(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, be_right_here, NULL);
    loam_scope {
        be_right(&node_type);
        be_right(&shared_type);
        be_right(&atomic_type);
    }
    pthread_join(thread, NULL);
    scrub_stack();
    loam_collect_cycles(0);
    scrub_stack();
    loam_collect();
    loam_settle();
}

struct sum {
    size_t entries, made, retained, released;
};

static void add(const struct loam_ledger *entry, void *data) {
    struct sum *sum = data;
    sum->entries++;
    sum->made += entry->made;
    sum->retained += entry->retained;
    sum->released += entry->released;
    if (entry->type != &node_type && entry->type != &shared_type) {
        abort();
    }
}

static void run_ask(void) {
    struct node *node = make();
    lose(node);
    lose(node);
    drop(node);
    struct sum sum = {0, 0, 0, 0};
    size_t entries = loam_rc_ledger(node, add, &sum);
    want(entries == sum.entries && entries == 3);
    want(sum.made == 1 && sum.retained == 2 && sum.released == 1);
    want(loam_count(node) == sum.made + sum.retained - sum.released);
    struct node *shared = loam_new(&shared_type);
    loam_retain(shared);
    loam_release(shared);
    sum = (struct sum){0, 0, 0, 0};
    want(loam_rc_ledger(NULL, add, &sum) == sum.entries);
    want(sum.made == 2 && sum.retained == 3 && sum.released == 2);
    want(loam_rc_ledger(&sum, add, &sum) == 0);
    struct node *other = loam_new(&atomic_type); // not named
    want(loam_rc_ledger(other, add, &sum) == 0);
    want(loam_reuse(node, &node_type) == NULL);
    loam_release(other);
    loam_release(shared);
    drop(node);
    drop(node);
}

// The count of a checked object sticks as that of any other.
static NOT_INLINED void stick(void) {
    struct node *node = make();
    counted_of(node)->word |= COUNTED_COUNT_MASK - COUNTED_ONE;
    lose(node);
    lose(node);
    lose(node);
    drop(node);
    want(loam_count(node) == COUNTED_COUNT_MASK / COUNTED_ONE);
}

static void run_stuck(void) {
    stick();
    scrub_stack();
    loam_collect();
    loam_settle();
    struct loam_rc_stats stats;
    loam_rc_stats(&stats, sizeof stats);
    want(stats.destroyed == 1);
}

static const struct {
    const char *name;
    void (*run)(void);
} programs[] = {{"forget", run_forget},
                {"thread", run_thread},
                {"heir", run_heir},
                {"too_often", run_too_often},
                {"right", run_right},
                {"ask", run_ask},
                {"stuck", run_stuck},
                {"unowned", run_unowned},
                {"unowned_traced", run_unowned_traced},
                {"undeclared", run_undeclared},
                {"undeclared_ring", run_undeclared_ring},
                {"borrowed", run_borrowed},
                {"final", run_final}};

// --- What is said ------------------------------------------------------------

static const char *said;

static void run(const char *program, const char *check, const char *trace) {
    static struct child child;
    char options[2][64];
    snprintf(options[0], sizeof options[0], "LOAM_CHECK=%s", check);
    snprintf(options[1], sizeof options[1], "LOAM_RC_TRACE=%s", trace);
    const char *settings[] = {options[0], options[1], NULL};
    child_exec(&child, program, settings);
    if (child.status != 0 || strstr(child.text, "WRONG") != NULL) {
        child_show(&child);
        fail();
    }
    said = child.text;
}

// Of the numbers behind `before`, the one that follows `word`.
static unsigned long number(const char *before, const char *word) {
    const char *at = strstr(said, before);
    assert_non_null(at);
    at = strstr(at, word);
    assert_non_null(at);
    return strtoul(at + strlen(word), NULL, 10);
}

static void test_forgotten(void **state) {
    (void)state;
    run("forget", "", "struct node");
    // A stray word may hide one or two.
    unsigned long count = number("forgotten, of type struct node", ": ");
    assert_in_range(count, COUNT - 4, COUNT);
    assert_int_equal(number(": made ", "made "), count);
    assert_int_equal(number(": made ", " of "), 2 * COUNT);
    assert_int_equal(number(": retained ", "retained "), count);
    assert_int_equal(number(": retained ", " of "), COUNT);
    assert_int_equal(number(": released ", "released "), count);
    assert_int_equal(number(": released ", " of "), 2 * COUNT);
    assert_non_null(strstr(said, "test_inquest+0x"));
}

// Without the ledger: where one was made.
static void test_checked(void **state) {
    (void)state;
    run("forget", "rc", "");
    assert_non_null(strstr(said, ", made at "));
    assert_null(strstr(said, "retained "));
}

static void test_thread(void **state) {
    (void)state;
    run("thread", "rc", ""); // IQ3
    assert_non_null(strstr(said, "loam_retain("));
    assert_non_null(
        strstr(said, "of type struct node, made by another thread"));
    assert_non_null(strstr(said, "called from "));
    // Once.
    assert_null(strstr(said, "loam_release("));
    run("heir", "rc", "");
    assert_string_equal(said, "");
}

// In a trial and in a collection, with and without the option, once.
static void test_unowned(void **state) {
    (void)state;
    const char *const names[] = {"unowned", "unowned_traced"};
    for (size_t i = 0; i < 4; i++) {
        run(names[i % 2], i < 2 ? "" : "rc", "");
        assert_non_null(strstr(
            said, "has 1 owner, but 2 declared slots lead to it: struct node, "
                  "offset 0; struct node, offset 8: "));
        assert_null(strstr(strstr(said, "loam: ") + 1, "loam: "));
    }
}

static void test_undeclared(void **state) {
    (void)state;
    run("undeclared", "rc", "");
    assert_in_range(number("struct box, offset 8, is no declared slot", "own "),
                    COUNT / 2, COUNT);
    assert_null(strstr(said, "offset 16,"));
    assert_null(strstr(said, "offset 0,"));
    run("undeclared_ring", "rc", "");
    assert_in_range(number("struct box, offset 0, is no declared slot", "own "),
                    COUNT - 4, COUNT);
    run("undeclared_ring", "", "struct box");
    assert_non_null(strstr(said, "struct box, offset 0, is no declared slot"));
    run("borrowed", "rc", "");
    assert_non_null(strstr(said, "forgotten, of type struct node"));
    assert_null(strstr(said, "declared"));
}

static void test_too_often(void **state) {
    (void)state;
    run("too_often", "rc", "");
    assert_non_null(strstr(said, "loam_release("));
    assert_non_null(strstr(said, "its type is struct node, last released at "));
    assert_non_null(strstr(said, "called from "));
    assert_null(strstr(strstr(said, "loam: ") + 1, "loam: ")); // once
}

static void test_right(void **state) {
    (void)state;
    run("right", "rc", "");
    assert_string_equal(said, "");
    run("right", "rc", "all"); // IQ2
    assert_string_equal(said, "");
    run("stuck", "rc", "all");
    run("final", "rc", ""); // IQ2
    assert_non_null(strstr(said, "released more often than retained"));
}

static void test_ask(void **state) {
    (void)state;
    run("ask", "", "struct nod,struct node");
    assert_string_equal(said, "");
}

// IQ1: nothing is checked here, where no option asks for it.
static void test_off(void **state) {
    (void)state;
    struct node *node = make();
    assert_int_equal(counted_flags(node) & COUNTED_OTHER, 0);
    assert_false(kinds_checks());
    assert_null(sites_trail(node));
    drop(node);
}

int main(int argc, char **argv) {
    const char *program = child_mode(argc, argv);
    for (size_t i = 0; i < sizeof programs / sizeof *programs; i++) {
        if (program != NULL && strcmp(program, programs[i].name) == 0) {
            if (strcmp(program, "ask") == 0) {
                shared_type.name = "struct node";
                atomic_type.name = "another";
            }
            programs[i].run();
            return 0;
        }
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forgotten),  cmocka_unit_test(test_checked),
        cmocka_unit_test(test_thread),     cmocka_unit_test(test_too_often),
        cmocka_unit_test(test_undeclared), cmocka_unit_test(test_unowned),
        cmocka_unit_test(test_right),      cmocka_unit_test(test_ask),
        cmocka_unit_test(test_off)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
