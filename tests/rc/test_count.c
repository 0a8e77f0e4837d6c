// Lists, trees and graphs without rings, released; each with destructors and
// finalizers that note what they see, against what the counts say.

#include "rc/count.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "support/folk_drain.h"
#include "support/gen.h"

#define NODES  ((size_t)(LOAM_TINY ? 60 : 2000))
#define ROUNDS ((size_t)(LOAM_TINY ? 30 : 60))
#define ROOM   ((size_t)4 * NODES)

static struct ground ground;
static struct count_domain domain;
static const struct kinds_type *plain, *coded, *finalized, *acyclic, *atomic,
    *traced, *deferred, *quarantined;
static void *suspects[ROOM], *zeroes[ROOM];

static size_t destroyed[NODES], order_count;
static size_t order[NODES];
static struct folk_node *kept; // what a finalizer retained
static bool keeps;

static void destroy(void *object) {
    struct folk_node *node = object;
    assert_int_equal(destroyed[node->number]++, 0);  // CN1
    assert_true(counted_flags(node) & COUNTED_DEAD); // CT4
    for (size_t i = 0; i < 2; i++) {
        if (node->slots[i] != NULL) { // CN2
            assert_int_equal(destroyed[node->slots[i]->number], 0);
        }
    }
    order[order_count++] = node->number;
}

static void finalize(void *object) {
    struct folk_node *node = object;
    assert_false(counted_flags(node) & COUNTED_DEAD);
    assert_true(counted_flags(node) & COUNTED_DONE);
    if (keeps) {
        kept = folk_retain(&domain, node);
    }
}

static void begin(void) {
    memset(destroyed, 0, sizeof destroyed);
    order_count = 0;
    folk_room(&domain.suspects, suspects, ROOM);
    folk_room(&domain.zeroes, zeroes, ROOM);
    domain.figures = (struct count_figures){0};
}

static struct folk_node *make(const struct kinds_type *type, size_t number) {
    struct folk_node *node = folk_make(&ground, &domain, type);
    node->number = number;
    return node;
}

static void release(void *object) {
    assert_int_equal(count_release(&domain, object), COUNT_FINE);
}

static void test_list(void **state) {
    (void)state;
    begin();
    struct folk_node *list = NULL;
    for (size_t i = 0; i < NODES; i++) {
        struct folk_node *node = make(i % 3 == 0 ? coded : plain, i);
        node->slots[i % 2] = list;
        list = node;
    }
    size_t cell_bytes = ground_place(counted_of(list)).bytes;
    release(list);
    assert_true(counted_flags(list) & COUNTED_DEAD); // CN5
    size_t freed_bytes = folk_freed_bytes(&domain);
    assert_int_equal(folk_drain(&domain, 7), (NODES + 2) / 3); // CN3: by hand
    freed_bytes = folk_freed_bytes(&domain) - freed_bytes;
    assert_int_equal(freed_bytes, NODES * cell_bytes);
    assert_int_equal(domain.figures.destroyed, NODES);
    assert_int_equal(domain.owed_count, 0);
}

static struct folk_node *tree(size_t depth, size_t *number) {
    struct folk_node *node = make(coded, (*number)++);
    for (size_t i = 0; depth != 0 && i < 2; i++) {
        node->slots[i] = tree(depth - 1, number);
    }
    return node;
}

// Destroyed in the order in which it was made.
static void test_tree(void **state) {
    (void)state;
    begin();
    size_t count = 0;
    release(tree(LOAM_TINY ? 4 : 9, &count));
    folk_drain(&domain, SIZE_MAX);
    assert_int_equal(order_count, count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(order[i], i);
    }
}

// Nodes that own later ones only; owners outside let go one by one.
static void test_graph(void **state) {
    (void)state;
    struct gen gen;
    gen_init(&gen, gen_seed("count"));
    for (size_t round = 0; round < ROUNDS; round++) {
        begin();
        static struct folk_node *nodes[NODES];
        size_t owners[NODES] = {0};
        for (size_t i = 0; i < NODES; i++) {
            nodes[i] = make(gen_chance(&gen, 50) ? coded : plain, i);
            owners[i] = 1;
        }
        for (size_t i = 0; i + 1 < NODES; i++) {
            for (size_t slot = 0; slot < 2; slot++) {
                size_t to = i + 1 + gen_below(&gen, NODES - i - 1);
                folk_own(&domain, nodes[i], slot, nodes[to]);
                owners[to]++;
            }
        }
        for (size_t i = 0; i < NODES; i++) {
            assert_int_equal(count_get(nodes[i]), owners[i]);
        }
        size_t first = gen_below(&gen, NODES);
        for (size_t i = 0; i < NODES; i++) {
            release(nodes[(first + i) % NODES]);
            if (gen_chance(&gen, 30)) {
                folk_drain(&domain, 1 + gen_below(&gen, 50));
            }
        }
        // Zombies wait in the buffer of suspects.
        folk_drain(&domain, SIZE_MAX);
        assert_int_equal(domain.figures.destroyed, NODES);
        for (size_t i = 0; i < domain.suspects.count; i++) {
            void *object = domain.suspects.items[i];
            assert_int_equal(counted_type(object), COUNTED_ZOMBIE); // CN4, CT5
            count_unname(&domain, object);
        }
        gather_settle(&domain.gather);
        ground_clear(&ground);
    }
}

static void test_suspects(void **state) {
    (void)state;
    begin();
    struct folk_node *node = make(plain, 0), *leaf = make(acyclic, 1);
    folk_retain(&domain, node), folk_retain(&domain, node);
    folk_retain(&domain, leaf);
    release(node);
    assert_int_equal(domain.suspects.count, 1); // CN6
    assert_true(counted_flags(node) & COUNTED_QUIET);
    release(node);
    release(leaf);
    assert_int_equal(domain.suspects.count, 1);
    folk_room(&domain.suspects, suspects, 0);
    struct folk_node *other = folk_retain(&domain, make(plain, 2));
    release(other);
    assert_true(domain.suspects.wants_room);
    assert_false(counted_flags(other) & (COUNTED_QUIET | COUNTED_KEPT));
    release(other), release(leaf);
    folk_drain(&domain, SIZE_MAX);
    ground_clear(&ground);
}

static void test_finalizer(void **state) {
    (void)state;
    begin();
    keeps = true;
    struct folk_node *node = make(finalized, 0);
    node->slots[0] = make(coded, 1);
    release(node);
    folk_drain(&domain, SIZE_MAX);
    assert_ptr_equal(kept, node);
    assert_int_equal(destroyed[0] + destroyed[1], 0);
    assert_int_equal(count_get(node), 1);
    assert_int_equal(domain.figures.resurrected, 1);
    kept = NULL;
    release(node); // CN1: not again
    folk_drain(&domain, SIZE_MAX);
    assert_null(kept);
    assert_int_equal(destroyed[0] + destroyed[1], 2);
}

static void test_kinds_of_counts(void **state) {
    (void)state;
    begin();
    struct folk_node *node = make(atomic, 0);
    folk_retain(&domain, node);
    release(node);
    assert_int_equal(destroyed[0], 0);
    release(node);
    assert_int_equal(count_release(&domain, node), COUNT_GONE);
    folk_drain(&domain, SIZE_MAX);
    assert_int_equal(destroyed[0], 1);
    node = make(traced, 1); // waits for the tracer
    release(node);
    folk_drain(&domain, SIZE_MAX);
    assert_int_equal(destroyed[1], 0);
    assert_int_equal(count_get(node), 0);
    node = folk_retain(&domain, make(deferred, 2));
    release(node); // to be looked at when the stacks are read
    folk_drain(&domain, SIZE_MAX);
    assert_int_equal(destroyed[2], 0);
    assert_int_equal(domain.zeroes.count, 1);
    ground_clear(&ground);
}

static void test_faults(void **state) {
    (void)state;
    begin();
    struct folk_node *node = make(coded, 0);
    release(node);
    assert_int_equal(count_release(&domain, node), COUNT_GONE);
    folk_drain(&domain, SIZE_MAX);
    assert_int_equal(count_release(&domain, node), COUNT_FREED); // CT2
    assert_int_equal(count_retain(&domain, node), COUNT_FREED);
    assert_int_equal(destroyed[0], 1);
    node = make(quarantined, 1); // its cell is not used again
    release(node);
    folk_drain(&domain, SIZE_MAX);
    assert_int_equal(destroyed[1], 1);
    assert_int_equal(count_release(&domain, node), COUNT_GONE); // CN4
    struct place place = ground_place(node);
    assert_true(block_is_allocated(place.block, place.cell));
    ground_clear(&ground);
}

static void test_stuck(void **state) {
    (void)state;
    begin();
    struct folk_node *node = make(coded, 0);
    counted_of(node)->word += COUNTED_COUNT_MASK - COUNTED_ONE; // the most
    assert_false(counted_flags(node) & COUNTED_OTHER);
    folk_retain(&domain, node);
    assert_true(counted_flags(node) & COUNTED_OTHER);
    for (size_t i = 0; i < 5; i++) {
        release(node);
    }
    folk_drain(&domain, SIZE_MAX);
    assert_int_equal(destroyed[0], 0); // the tracer's
    ground_clear(&ground);
}

static int set_up(void **state) {
    (void)state;
    if (!ground_init(&ground, 64 * MiB)) {
        return -1;
    }
    folk_domain(&domain, &ground);
    plain = folk_type(0, NULL, NULL);
    coded = folk_type(0, destroy, NULL);
    finalized = folk_type(0, destroy, finalize);
    acyclic = folk_type(KINDS_ACYCLIC, destroy, NULL);
    atomic = folk_type(KINDS_ATOMIC, destroy, NULL);
    traced = folk_type(KINDS_TRACED, destroy, NULL);
    deferred = folk_type(KINDS_DEFERRED, destroy, NULL);
    quarantined = folk_type(KINDS_QUARANTINE, destroy, NULL);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_list),
                                       cmocka_unit_test(test_tree),
                                       cmocka_unit_test(test_graph),
                                       cmocka_unit_test(test_suspects),
                                       cmocka_unit_test(test_finalizer),
                                       cmocka_unit_test(test_kinds_of_counts),
                                       cmocka_unit_test(test_faults),
                                       cmocka_unit_test(test_stuck)};
    return cmocka_run_group_tests(tests, set_up, NULL);
}
