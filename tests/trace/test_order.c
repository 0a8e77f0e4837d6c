// Fates of every mode on random graphs, against a model that works with sets;
// and the small cases that the modes are for.

#include "trace/order.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "support/gen.h"
#include "support/ground.h"
#include "trace/ephemeron.h"

#define NODES_MAX ((size_t)(LOAM_TINY ? 40 : 200))
#define FATES_MAX ((size_t)400)
#define EDGES     3
#define NONE      ((size_t)0)

static struct ground ground;
static struct marker marker;
static struct ephemerons table;

// Every node begins as a guardian, whether it guards anything or not.
static struct node {
    uintptr_t at;
    size_t edges[EDGES];
} nodes[NODES_MAX];

static struct rule {
    size_t node, guard; // guard: NONE for a finalizer
    unsigned mode;
    bool due, dropped, freed;
} rules[FATES_MAX];

static size_t node_count, rule_count;
static bool reached[NODES_MAX];

static void nothing(void *object, void *data) {
    (void)object;
    (void)data;
}

static uintptr_t *edges_of(size_t node) {
    return (uintptr_t *)(nodes[node].at + sizeof(struct fate_guard));
}

static struct fate_guard *guard_of(size_t node) {
    return (struct fate_guard *)nodes[node].at;
}

static void make_nodes(size_t count) {
    node_count = count;
    rule_count = 0;
    memset(nodes, 0, sizeof nodes);
    for (size_t i = 1; i < count; i++) {
        nodes[i].at = (uintptr_t)ground_make(
            &ground, sizeof(struct fate_guard) + EDGES * WORD_BYTES,
            KIND_SCANNED, 0);
        assert_int_not_equal(nodes[i].at, 0);
    }
}

static void join(size_t from, size_t edge, size_t to) {
    nodes[from].edges[edge] = to;
    edges_of(from)[edge] = to == NONE ? 0 : nodes[to].at;
}

// The fates themselves are made anew for each graph.
static struct fates add_rules(void) {
    struct fates fates = {.waiting_count = 0};
    for (size_t i = 0; i < rule_count; i++) {
        struct rule *rule = &rules[i];
        struct place place = ground_place((void *)nodes[rule->node].at);
        struct fate fate = {.object = place.start,
                            .function = nothing,
                            .data = i + 1,
                            .block = place.block,
                            .cell = (uint16_t)place.cell,
                            .mode = (uint8_t)rule->mode};
        if (rule->mode == FATE_GUARDED) {
            struct fate_token *token = (struct fate_token *)ground_make(
                &ground, sizeof *token, KIND_SCANNED, 0);
            assert_non_null(token);
            fate_token_wait(token, guard_of(rule->guard));
            fate.data = (uintptr_t)token;
        }
        assert_non_null(fate_add(&fates, &fate));
    }
    return fates;
}

static void rule(size_t node, unsigned mode, size_t guard) {
    rules[rule_count++] = (struct rule){node, guard, mode, false, false, false};
}

static void reach(void) {
    bool more = true;
    while (more) {
        more = false;
        for (size_t i = 1; i < node_count; i++) {
            for (size_t e = 0; reached[i] && e < EDGES; e++) {
                size_t to = nodes[i].edges[e];
                more |= to != NONE && !reached[to];
                reached[to] = true;
            }
        }
    }
}

static bool is_dead(const struct rule *rule) {
    return !rule->freed && !rule->dropped && !rule->due && !reached[rule->node];
}

static void model_inside(void) {
    bool seeds[NODES_MAX] = {false};
    for (size_t i = 0; i < rule_count; i++) {
        const struct rule *r = &rules[i];
        if (!is_dead(r) || r->mode == FATE_UNORDERED ||
            r->mode == FATE_GUARDED) {
            continue;
        }
        for (size_t e = 0; e < EDGES; e++) {
            size_t to = nodes[r->node].edges[e];
            seeds[to] |= r->mode != FATE_IGNORES_SELF || to != r->node;
        }
    }
    for (size_t i = 0; i < node_count; i++) {
        reached[i] |= seeds[i];
    }
    reach();
}

static void model_reach_due(void) {
    for (size_t i = 0; i < rule_count; i++) {
        reached[rules[i].node] |= rules[i].due;
    }
    reach();
}

static void model_guard(const bool *dying) {
    bool more = true;
    while (more) {
        more = false;
        model_reach_due();
        for (size_t i = 0; i < rule_count; i++) {
            struct rule *r = &rules[i];
            if (dying[i] && !r->due && reached[r->guard]) {
                r->due = more = true;
            }
        }
    }
}

static void model_settle(const size_t *roots, size_t count) {
    bool dying[FATES_MAX] = {false};
    memset(reached, 0, sizeof reached);
    for (size_t i = 0; i < count; i++) {
        reached[roots[i]] = true;
    }
    reach();
    model_inside();
    for (size_t i = 0; i < rule_count; i++) {
        dying[i] = is_dead(&rules[i]) && rules[i].mode == FATE_GUARDED;
        rules[i].due = is_dead(&rules[i]) && rules[i].mode < FATE_UNREACHABLE;
    }
    model_guard(dying);
    bool last[FATES_MAX] = {false};
    for (size_t i = 0; i < rule_count; i++) {
        last[i] = is_dead(&rules[i]) && rules[i].mode == FATE_UNREACHABLE;
    }
    for (size_t i = 0; i < rule_count; i++) {
        rules[i].due |= last[i];
    }
    model_guard(dying);
    for (size_t i = 0; i < rule_count; i++) {
        struct rule *r = &rules[i];
        r->dropped = r->freed ||
                     (!r->due && r->mode == FATE_GUARDED && !reached[r->guard]);
    }
}

static void run(struct fates *fates, const uintptr_t *roots, size_t count) {
    ground_prepare(&ground);
    mark_begin(&marker);
    mark_range(&marker, roots, roots + count);
    mark_drain(&marker);
    mark_ephemerons(&marker, &table);
    mark_drain(&marker);
    order_settle(fates, &marker);
    ephemeron_finish(&table);
}

// Every guardian gives what it should, once.
static void check_guards(void) {
    for (size_t guard = 1; guard < node_count; guard++) {
        uintptr_t object;
        while (reached[guard] &&
               (object = fate_guard_take(guard_of(guard))) != 0) {
            size_t i = 0;
            while (i < rule_count &&
                   !(rules[i].mode == FATE_GUARDED && rules[i].due &&
                     rules[i].guard == guard &&
                     nodes[rules[i].node].at == object)) {
                i++;
            }
            assert_true(i < rule_count);
            rules[i].due = false;
        }
    }
    for (size_t i = 0; i < rule_count; i++) {
        assert_false(rules[i].mode == FATE_GUARDED && rules[i].due); // OR2
    }
}

static void check(struct fates *fates) {
    for (size_t i = 1; i < node_count; i++) {
        bool freed = false;
        for (size_t r = 0; r < rule_count; r++) {
            freed |= rules[r].freed && rules[r].node == i;
        }
        assert_int_equal(ground_is_marked((void *)nodes[i].at),
                         reached[i] && !freed); // OR1, OR5
    }
    size_t waiting = 0;
    for (size_t i = 0; i < rule_count; i++) {
        waiting += !rules[i].due && !rules[i].dropped;
    }
    assert_int_equal(fates->waiting_count, waiting); // OR6
    struct fate taken;
    while (fate_take(fates, &taken)) {
        struct rule *r = &rules[taken.data - 1];
        assert_true(r->due); // OR2, OR3, OR4
        assert_int_equal(taken.object, nodes[r->node].at);
        r->due = false;
    }
    check_guards();
}

static void finish(struct fates *fates) {
    struct census census;
    ground_flip(&ground, &census);
    ground_prepare(&ground);
    ground_flip(&ground, &census);
    assert_int_equal(census.live_objects, 0);
    assert_int_equal(fates->ready_count, 0);
}

static bool has_finalizer(size_t node) {
    for (size_t i = 0; i < rule_count; i++) {
        if (rules[i].node == node && rules[i].mode != FATE_GUARDED) {
            return true;
        }
    }
    return false;
}

static void free_some(struct gen *gen, const bool *rooted) {
    for (size_t i = 0; i < rule_count; i++) {
        size_t node = rules[i].node;
        bool leads = false;
        for (size_t from = 1; from < node_count; from++) {
            for (size_t e = 0; e < EDGES; e++) {
                leads |= nodes[from].edges[e] == node;
            }
        }
        for (size_t r = 0; r < rule_count; r++) {
            leads |= rules[r].guard == node;
        }
        if (leads || rooted[node] || rules[i].freed || !gen_chance(gen, 30)) {
            continue;
        }
        for (size_t r = 0; r < rule_count; r++) {
            rules[r].freed |= rules[r].node == node;
        }
        for (size_t e = 0; e < EDGES; e++) {
            nodes[node].edges[e] = NONE;
        }
        struct place place = ground_place((void *)nodes[node].at);
        heap_clear_cell(&place);
    }
}

static void one_graph(struct gen *gen) {
    make_nodes(2 + gen_below(gen, NODES_MAX - 2));
    unsigned dense = 10 + (unsigned)gen_below(gen, 40);
    for (size_t i = 1; i < node_count; i++) {
        for (size_t e = 0; e < EDGES; e++) {
            if (gen_chance(gen, dense)) {
                join(i, e,
                     gen_chance(gen, 15) ? i : gen_below(gen, node_count));
            }
        }
    }
    for (size_t i = gen_below(gen, FATES_MAX / 2); i > 0; i--) {
        size_t node = 1 + gen_below(gen, node_count - 1);
        unsigned mode = (unsigned)gen_below(gen, FATE_GUARDED + 1);
        if (mode == FATE_GUARDED) {
            rule(node, mode, 1 + gen_below(gen, node_count - 1));
        } else if (!has_finalizer(node)) {
            rule(node, mode, NONE);
        }
    }
    struct fates fates = add_rules();
    size_t root_nodes[3];
    uintptr_t roots[3];
    bool rooted[NODES_MAX] = {false};
    for (size_t i = 0; i < 3; i++) {
        root_nodes[i] = gen_chance(gen, 60) ? gen_below(gen, node_count) : NONE;
        roots[i] = nodes[root_nodes[i]].at;
        rooted[root_nodes[i]] = true;
    }
    free_some(gen, rooted);
    model_settle(root_nodes, 3);
    run(&fates, roots, 3);
    check(&fates);
    finish(&fates);
}

static void test_random(void **state) {
    (void)state;
    struct gen gen;
    gen_init(&gen, gen_seed("order"));
    for (size_t i = 0; i < (LOAM_TINY ? 200 : 1000); i++) {
        one_graph(&gen);
    }
}

// The rules that are due of a graph without roots, as bits.
static unsigned due_of(void) {
    struct fates fates = add_rules();
    unsigned due = 0;
    model_settle(NULL, 0);
    run(&fates, NULL, 0);
    struct fate taken;
    while (fate_take(&fates, &taken)) {
        due |= 1u << (taken.data - 1);
        assert_true(rules[taken.data - 1].due);
    }
    finish(&fates);
    return due;
}

// 1 -> 2 -> 3, and a ring, in each mode.
static void test_small(void **state) {
    (void)state;
    static const struct {
        unsigned mode, chain, ring, self;
    } cases[] = {
        {FATE_ORDERED, 1, 0, 0},      // OR3
        {FATE_IGNORES_SELF, 1, 0, 1}, // OR3
        {FATE_UNORDERED, 7, 7, 1},    // OR2
        {FATE_UNREACHABLE, 1, 0, 0},  // OR4
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (unsigned shape = 0; shape < 3; shape++) {
            make_nodes(shape == 2 ? 2 : 4);
            for (size_t node = 1; node < node_count; node++) {
                rule(node, cases[i].mode, NONE);
            }
            for (size_t node = 1; shape < 2 && node < 3; node++) {
                join(node, 0, node + 1);
            }
            if (shape > 0) {
                join(shape == 1 ? 3 : 1, 0, 1);
            }
            assert_int_equal(due_of(), shape == 0   ? cases[i].chain
                                       : shape == 1 ? cases[i].ring
                                                    : cases[i].self);
        }
    }
}

// An unordered one leads to an unreachable one, which waits (OR4); and the
// other way round, where both are due.
static void test_last(void **state) {
    (void)state;
    make_nodes(3);
    rule(1, FATE_UNORDERED, NONE);
    rule(2, FATE_UNREACHABLE, NONE);
    join(1, 0, 2);
    assert_int_equal(due_of(), 1); // OR4
    make_nodes(3);
    rule(1, FATE_UNREACHABLE, NONE);
    rule(2, FATE_UNORDERED, NONE);
    join(1, 0, 2);
    assert_int_equal(due_of(), 1); // OR3
}

static int setup(void **state) {
    (void)state;
    return ground_init(&ground, 1 * GiB) && mark_init(&marker) ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small),
        cmocka_unit_test(test_last),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
