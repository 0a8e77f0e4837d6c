#include "roots/mutator.h"

#include "base/check.h"
#include "heap/meta.h"
#include "os/thread.h"

struct mutator *mutator_make(uint32_t id, const void *cold_end, bool single) {
    ASSERT(id != 0); // U3
    struct mutator *mutator = meta_make(sizeof *mutator);
    if (mutator == NULL) {
        return NULL;
    }
    mutator->sets[0] = &mutator->home;
    mutator->cold_end = cold_end;
    mutator->id = id;
    mutator->thread = thread_id();
    mutator->single = single;
    return mutator;
}

static uint64_t mutator_key(struct order order) {
    return (uint64_t)order.layout << 8 | order.cls;
}

struct cache *mutator_find_described(const struct cacheset *set,
                                     struct order order) {
    return table_find(&set->described, mutator_key(order));
}

// A cache that the set has not used before.
static struct cache *mutator_new_cache(struct cacheset *set,
                                       struct order order) {
    if (order.kind != KIND_DESCRIBED) {
        return &set->caches[order.kind][order.cls];
    }
    struct cache *cache = meta_make(sizeof *cache);
    if (cache != NULL &&
        !table_put(&set->described, mutator_key(order), cache)) {
        meta_free(cache, sizeof *cache);
        return NULL;
    }
    return cache;
}

struct cache *mutator_add_cache(struct mutator *mutator, size_t heap,
                                struct order order) {
    struct cacheset *set = mutator->sets[heap];
    ASSERT(set != NULL);
    struct cache *cache = mutator_new_cache(set, order);
    if (cache != NULL) {
        cache_init(cache, order, mutator->id, mutator->single);
        cache->next = set->used; // U1
        set->used = cache;
    }
    return cache;
}

void mutator_each_cache(const struct mutator *mutator, mutator_visit *visit,
                        void *data) {
    for (size_t heap = 0; heap < MUTATOR_HEAPS; heap++) {
        if (mutator->sets[heap] == NULL) {
            continue;
        }
        struct cache *cache = mutator->sets[heap]->used;
        for (; cache != NULL; cache = cache->next) {
            visit(cache, data);
        }
    }
}
