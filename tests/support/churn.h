// churn — a program that does anything, at random.
//
// It allocates objects of every kind and size, links and unlinks them, drops
// and copies roots, resizes, frees, collects, switches collection off and on,
// and lowers the limit; the oracle watches.  It only touches what it can reach
// from its root slots, as a program does.
//
// Invariants
//   U1  honest  it never uses a node that the model calls unreachable
//   U2  alike   its decisions depend on the seed and the graph alone, not on
//               the collector: the same seed makes the same graph on another

#ifndef SUPPORT_CHURN_H
#define SUPPORT_CHURN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "support/gen.h"
#include "support/oracle.h"

struct churn {
    struct oracle *oracle;
    struct gen gen;
    size_t bytes_max;   // of one object
    size_t total_max;   // of all objects, roughly
    bool limits;        // lower the limit now and then
    size_t disabled;    // how deep automatic collection is off
    size_t born, bytes; // nodes and bytes since the last oracle_collect,
                        // plus what was reachable then
    uint64_t graph;     // a digest of the graph at every oracle_collect
    uint64_t refused;   // allocations that returned nothing
};

void churn_init(struct churn *m, struct oracle *o, uint64_t seed);
void churn_run(struct churn *m, size_t steps);

// oracle_collect, and what the program notes of it.
void churn_collect(struct churn *m);

#endif
