// The same random program on Loam and on the small collector.  Both must keep
// what the model says is reachable, lose the rest, and end with the same graph.
//
//   M3 safe, U2 alike, O1 whole, O2 edges, O3 gone, O4 closed: all of them are
//   judged by the oracle while the program runs.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "support/churn.h"
#include "support/scrub.h"

#define SLOTS 48

static void *global_slots[SLOTS / 2];

struct outcome {
    uint64_t graph;     // digest of every collected graph
    size_t chance_max;  // survivors by chance
    uint64_t refused;   // allocations
    uint64_t collected; // collections
};

NOT_INLINED static struct outcome run(const struct subject *s, uint64_t seed,
                                      size_t steps) {
    struct oracle o;
    struct churn m;
    void *stack_slots[SLOTS / 2];
    oracle_init(&o, s, 3000, SLOTS, seed);
    oracle_add_slots(&o, global_slots, SLOTS / 2);
    oracle_add_slots(&o, stack_slots, SLOTS / 2);
    churn_init(&m, &o, seed);
    m.bytes_max = 100000;
    m.total_max = 24 << 20;
    churn_run(&m, steps);
    oracle_fini(&o);
    struct outcome outcome = {m.graph, o.chance_max, m.refused,
                              s->collections()};
    printf("  %-5s graph %016llx, %zu kept by chance, %llu collections\n",
           s->name, (unsigned long long)outcome.graph, outcome.chance_max,
           (unsigned long long)outcome.collected);
    fflush(stdout);
    return outcome;
}

static void test_same_graph(void **state) {
    (void)state;
    uint64_t seed = gen_seed("differential");
    for (uint64_t i = 0; i < SCALED(12, 4); i++) {
        struct outcome small = run(&subject_small, seed + i, 3000);
        struct outcome loam = run(&subject_loam, seed + i, 3000);
        assert_int_equal(small.refused, 0);
        assert_int_equal(loam.refused, 0);
        assert_true(small.graph == loam.graph);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_graph),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
