// Ephemerons between objects that point anywhere, against a model that goes
// over all of them until nothing changes; chains in the worst order.

#include "trace/ephemeron.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/gen.h"
#include "support/keyed.h"

#define NODES_MAX ((size_t)(LOAM_TINY ? 60 : 600))
#define CHAIN     ((size_t)(LOAM_TINY ? 3000 : 1000000))
#define EDGES     3

static struct keyed keyed;

// A node is an object with edges, or an ephemeron; both are known by number.
static struct node {
    uintptr_t at;        // the cell
    bool ephemeron;      //
    size_t edges[EDGES]; // of an object: the nodes it leads to
    size_t key, value;   // of an ephemeron; the key 0: of no heap
    bool reached;        // by the model
} nodes[NODES_MAX];

static size_t node_count;

static bool is_marked(uintptr_t start) {
    return ground_is_marked((void *)start);
}

// Node 0 is nothing; an edge there is none.
static void make_nodes(struct gen *gen) {
    node_count = 2 + gen_below(gen, NODES_MAX - 2);
    unsigned share = (unsigned)gen_below(gen, 90);
    for (size_t i = 1; i < node_count; i++) {
        struct node *node = &nodes[i];
        *node = (struct node){.ephemeron = gen_chance(gen, share)};
        if (node->ephemeron) {
            node->at = (uintptr_t)keyed_make(&keyed);
        } else {
            size_t bytes = EDGES * WORD_BYTES + gen_bytes(gen, 5000);
            node->at = keyed_object(&keyed, bytes, KIND_SCANNED);
        }
    }
}

static uintptr_t inside(struct gen *gen, size_t node) {
    if (node == 0) {
        return 0;
    }
    struct place place = ground_place((void *)nodes[node].at);
    return gen_chance(gen, 80) ? place.start
                               : place.start + gen_below(gen, place.bytes);
}

static void join_nodes(struct gen *gen) {
    static int foreign;
    for (size_t i = 1; i < node_count; i++) {
        struct node *node = &nodes[i];
        for (size_t e = 0; !node->ephemeron && e < EDGES; e++) {
            node->edges[e] =
                gen_chance(gen, 30) ? gen_below(gen, node_count) : 0;
            ((uintptr_t *)node->at)[e] = inside(gen, node->edges[e]);
        }
        if (node->ephemeron && gen_chance(gen, 95)) {
            node->key = gen_chance(gen, 5) ? 0 : gen_below(gen, node_count);
            node->value = gen_below(gen, node_count);
            struct place place;
            uintptr_t key = (uintptr_t)&foreign;
            if (node->key != 0) {
                place = ground_place((void *)nodes[node->key].at);
                key = inside(gen, node->key);
            }
            ephemeron_set((struct ephemeron *)node->at, key,
                          node->key == 0 ? NULL : &place,
                          inside(gen, node->value));
        }
    }
}

// Everything, again and again, until nothing changes.
static void model_reach(void) {
    bool more = true;
    nodes[0].reached = true;
    while (more) {
        more = false;
        for (size_t i = 1; i < node_count; i++) {
            const struct node *node = &nodes[i];
            for (size_t e = 0; node->reached && e < EDGES; e++) {
                more |= !nodes[node->edges[e]].reached;
                nodes[node->edges[e]].reached = true;
            }
            if (node->reached && node->ephemeron && nodes[node->key].reached) {
                more |= !nodes[node->value].reached;
                nodes[node->value].reached = true;
            }
        }
    }
}

static void mark_from(const uintptr_t *roots, size_t count) {
    keyed_mark(&keyed, roots, count);
    keyed_close(&keyed);
}

static void check_nodes(void) {
    for (size_t i = 1; i < node_count; i++) {
        struct node *node = &nodes[i];
        assert_int_equal(is_marked(node->at), node->reached); // EP1
        if (!node->reached || !node->ephemeron) {
            continue;
        }
        const struct ephemeron *ephemeron = (struct ephemeron *)node->at;
        bool full = ephemeron->key != 0;
        assert_true(full || ephemeron->value == 0); // EP2
        assert_true(nodes[node->key].reached ||
                    (!full && ephemeron->link == NULL)); // EP2
    }
    for (size_t i = 0; i < keyed.table.capacity; i++) {
        assert_null(keyed.table.buckets[i]);
    }
}

// Cycles without a flip between them: what was cleared stays so, the rest is
// found again.
static void one_graph(struct gen *gen) {
    struct census census;
    uintptr_t roots[4];
    size_t root_nodes[4];
    make_nodes(gen);
    join_nodes(gen);
    for (size_t r = 0; r < 4; r++) {
        root_nodes[r] = gen_below(gen, node_count);
        roots[r] = inside(gen, root_nodes[r]);
    }
    for (size_t cycle = 0; cycle < 3; cycle++) {
        for (size_t i = 0; i < node_count; i++) {
            nodes[i].reached = false;
        }
        for (size_t r = 0; r < 4; r++) {
            nodes[root_nodes[r]].reached = true;
        }
        model_reach();
        mark_from(roots, 4);
        ephemeron_finish(&keyed.table);
        check_nodes();
        ground_resume(&keyed.ground);
    }
    ground_prepare(&keyed.ground);
    ground_flip(&keyed.ground, &census);
    assert_int_equal(census.live_objects, 0);
}

static void test_random(void **state) {
    (void)state;
    struct gen gen;
    gen_init(&gen, gen_seed("ephemerons"));
    for (size_t i = 0; i < (LOAM_TINY ? 100 : 300); i++) {
        one_graph(&gen);
    }
}

// Each value is the next key; the order of cells is that of the chain, its
// reverse, or none.
static void one_chain(struct gen *gen, unsigned way, bool rooted) {
    struct keyed_chain chain =
        keyed_chain(&keyed, CHAIN, way == 1, way == 2 ? gen : NULL);
    uintptr_t roots[3] = {(uintptr_t)chain.keys, (uintptr_t)chain.holders,
                          rooted ? chain.keys[0] : 0};
    mark_from(roots, 3);
    assert_true(keyed.table.visited_count <= 8 * CHAIN); // EP3
    ephemeron_finish(&keyed.table);
    assert_int_equal(keyed.table.cleared_count, rooted ? 0 : CHAIN);
    for (size_t i = 0; i <= CHAIN; i++) {
        assert_int_equal(is_marked(chain.keys[i]), rooted); // EP1
    }
    struct census census;
    ground_flip(&keyed.ground, &census);
    ground_clear(&keyed.ground);
}

static void test_chain(void **state) {
    (void)state;
    struct gen gen;
    gen_init(&gen, gen_seed("chain"));
    for (unsigned way = 0; way < 3; way++) {
        one_chain(&gen, way, true);
        one_chain(&gen, way, false);
    }
}

// A value that leads to its own key, and one that is an ephemeron for it.
static void test_own_key(void **state) {
    (void)state;
    struct census census;
    struct ephemeron *outer = keyed_make(&keyed);
    struct ephemeron *inner = keyed_make(&keyed);
    uintptr_t *key = (uintptr_t *)keyed_object(&keyed, 32, KIND_SCANNED);
    uintptr_t *value = (uintptr_t *)keyed_object(&keyed, 32, KIND_SCANNED);
    value[0] = (uintptr_t)key;
    value[1] = (uintptr_t)inner;
    keyed_set(outer, (uintptr_t)key, (uintptr_t)value);
    keyed_set(inner, (uintptr_t)key, (uintptr_t)value);
    uintptr_t roots[2] = {(uintptr_t)outer, (uintptr_t)inner};
    mark_from(roots, 2);
    assert_false(is_marked((uintptr_t)key)); // EP1
    assert_false(is_marked((uintptr_t)value));
    ephemeron_finish(&keyed.table);
    assert_int_equal(outer->key | outer->value, 0); // EP2, EP4
    ground_flip(&keyed.ground, &census);
    assert_int_equal(census.live_objects, 2);
    ground_clear(&keyed.ground);
}

// A key in no heap, and a wild store through an ephemeron.
static void test_foreign(void **state) {
    (void)state;
    struct census census;
    static int foreign;
    struct ephemeron *ephemeron = keyed_make(&keyed);
    struct ephemeron *wild = keyed_make(&keyed);
    uintptr_t value = keyed_object(&keyed, 64, KIND_LEAF);
    ephemeron_set(ephemeron, (uintptr_t)&foreign, NULL, value);
    memset((void *)wild, 0xff, sizeof *wild);
    uintptr_t roots[2] = {(uintptr_t)ephemeron, (uintptr_t)wild};
    mark_from(roots, 2);
    ephemeron_finish(&keyed.table);
    assert_true(is_marked(value)); // EP5
    ground_flip(&keyed.ground, &census);
}

static int setup(void **state) {
    (void)state;
    return keyed_init(&keyed, 4 * GiB) ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_own_key),
        cmocka_unit_test(test_chain),
        cmocka_unit_test(test_foreign),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
