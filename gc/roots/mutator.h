// mutator — a thread of the program, as the collector sees it.
//
// A mutator has an id that blocks name as their owner, a stack with a far end,
// and for each heap a set of caches, one for each class and kind that it has
// used.  Caches of described cells are found in a table, since their number is
// not known beforehand.
//
// Invariants
//   U1  chained  every cache in use is on the chain of its set exactly once
//   U2  apart    two caches of a mutator never have the same block current
//   U3  owner    the caches' owner is the mutator's id, which is never 0
//
// Used by its own thread; by the conductor in a stop.
// Design, alternatives and measurements: docs/design/roots/mutator.md

#ifndef ROOTS_MUTATOR_H
#define ROOTS_MUTATOR_H

#include "base/defs.h"
#include "heap/cache.h"
#include "heap/heap.h"
#include "heap/table.h"

#define MUTATOR_HEAPS 16 // heaps a mutator can have caches for

// One mutator's caches for one heap.
struct cacheset {
    struct cache caches[KIND_COUNT][CLASS_LAST + 1];
    struct table described; // layout and class → struct cache
    struct cache *used;     // chain of those in use
};

struct mutator {
    struct cacheset home;                 // for the default heap, heap 0
    struct cacheset *sets[MUTATOR_HEAPS]; // by heap; NULL until it is used
    const void *cold_end;                 // of the thread's stack
    uint32_t id;                          // blocks name it as owner; not 0
    uint32_t thread;                      // the system's number for the thread
    bool single;                          // caches take one cell at a time
};

// A mutator in meta memory for the calling thread; NULL when memory is short.
MUST_USE struct mutator *mutator_make(uint32_t id, const void *cold_end,
                                      bool single);

// The cache of a described order, or NULL.
struct cache *mutator_find_described(const struct cacheset *set,
                                     struct order order);

// The cache that serves an order; NULL if the mutator has not used it yet.
static inline struct cache *
mutator_find_cache(struct mutator *mutator, size_t heap, struct order order) {
    struct cacheset *set = mutator->sets[heap];
    if (set == NULL) {
        return NULL;
    }
    if (order.kind == KIND_DESCRIBED) {
        return mutator_find_described(set, order);
    }
    struct cache *cache = &set->caches[order.kind][order.cls];
    return cache->bytes == 0 ? NULL : cache;
}

// Readies a cache that the mutator has not used yet; NULL when memory is short,
// which can happen only for a described order.
struct cache *mutator_add_cache(struct mutator *mutator, size_t heap,
                                struct order order);

// The cache for an order, ready for use; NULL as above.
static inline struct cache *mutator_get_cache(struct mutator *mutator,
                                              size_t heap, struct order order) {
    struct cache *cache = mutator_find_cache(mutator, heap, order);
    return cache != NULL ? cache : mutator_add_cache(mutator, heap, order);
}

// Calls visit for each cache in use, of all heaps.
typedef void mutator_visit(struct cache *cache, void *data);
void mutator_each_cache(const struct mutator *mutator, mutator_visit *visit,
                        void *data);

#endif
