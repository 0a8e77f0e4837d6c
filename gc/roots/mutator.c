#include "roots/mutator.h"

#include "base/check.h"
#include "heap/block.h"
#include "heap/meta.h"
#include "os/stack.h"
#include "os/thread.h"

// The least that the kernel leaves free below a stack that grows is twice that.
#define MUTATOR_GROWS_BYTES (64 * MiB)

struct mutator *mutator_make(uint32_t id, struct heap *heap, bool single) {
    ASSERT(id != 0); // U3
    struct mutator *mutator = meta_make(sizeof *mutator);
    if (mutator == NULL) {
        return NULL;
    }
    mutator->home.heap = heap;
    mutator->id = id;
    mutator->single = single;
    return mutator;
}

void mutator_find_stack(struct mutator *mutator, bool may_allocate) {
    const void *lowest = NULL;
    const void *cold_end = stack_cold_end();
    mutator->cold_end = NULL;
    mutator->guessed = !may_allocate;
    if (may_allocate) {
        stack_own_bounds(&lowest, &cold_end);
    } else if (mutator->thread != thread_process_id()) {
        cold_end = (const void *)mutator->thread_pointer;
    }
    mutator->lowest = lowest;
    __atomic_store_n(&mutator->cold_end, cold_end, __ATOMIC_RELEASE);
}

// The tables of a set, whose caches were given up.
static void mutator_clear_set(struct cacheset *set) {
    table_drop(&set->described, sizeof(struct cache));
}

bool mutator_has_room(const struct mutator *mutator, size_t bytes) {
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    uintptr_t lowest = (uintptr_t)mutator->lowest;
    uintptr_t end = (uintptr_t)mutator->cold_end;
    const struct fiber *fiber = mutator->seat.running;
    if (fiber != NULL && here - fiber->lowest < fiber->end - fiber->lowest) {
        return here - fiber->lowest >= bytes;
    }
    if (lowest == 0) { // it grows, and the kernel keeps others away from it
        return !mutator->guessed && end - here < MUTATOR_GROWS_BYTES;
    }
    return here < end && here >= lowest && here - lowest >= bytes;
}

void mutator_free(struct mutator *mutator) {
    mutator_clear_set(&mutator->home);
    while (mutator->sets != NULL) {
        mutator_drop_set(mutator, mutator->sets->heap);
    }
    if (mutator->kept != NULL) {
        meta_free(mutator->kept, MUTATOR_KEPT * WORD_BYTES);
    }
    meta_free(mutator, sizeof *mutator);
}

struct cacheset *mutator_find_set(struct mutator *mutator,
                                  const struct heap *heap) {
    if (mutator->home.heap == heap) {
        return &mutator->home;
    }
    struct cacheset *set = mutator->sets;
    while (set != NULL && set->heap != heap) {
        set = set->next;
    }
    return set;
}

struct cacheset *mutator_add_set(struct mutator *mutator, struct heap *heap) {
    struct cacheset *set = mutator_find_set(mutator, heap);
    if (set == NULL) {
        set = meta_make(sizeof *set);
        if (set != NULL) {
            set->heap = heap;
            set->next = mutator->sets;
            mutator->sets = set;
        }
    }
    return set;
}

void mutator_drop_set(struct mutator *mutator, const struct heap *heap) {
    reserve_drop_heap(&mutator->reserve, heap);
    struct cacheset **at = &mutator->sets;
    while (*at != NULL && (*at)->heap != heap) {
        at = &(*at)->next;
    }
    struct cacheset *set = *at;
    if (set != NULL) {
        *at = set->next;
        mutator_clear_set(set);
        meta_free(set, sizeof *set);
    }
}

void mutator_drop_inbox(struct mutator *mutator, const struct heap *heap) {
    uint32_t block = mutator->inbox;
    mutator->inbox = BLOCK_NONE;
    while (block != BLOCK_NONE) {
        uint32_t next = block_get(block)->next_freed;
        if (!heap_is_block_of(heap, block)) {
            block_get(block)->next_freed = mutator->inbox;
            mutator->inbox = block;
        }
        block = next;
    }
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

struct cache *mutator_add_cache(struct mutator *mutator, struct cacheset *set,
                                struct order order) {
    struct cache *cache = mutator_new_cache(set, order);
    if (cache != NULL) {
        cache_init(cache, order, mutator->id, mutator->single, &set->tally);
        mutator->keeps |= block_kind_is_counted(order.kind);
        cache->next = set->used; // U1
        // Whoever asks for figures walks the chain while this thread runs.
        __atomic_store_n(&set->used, cache, __ATOMIC_RELEASE);
    }
    return cache;
}

bool mutator_keep(struct mutator *mutator, const struct heap *heap,
                  uint32_t block) {
    struct cacheset *set = mutator_find_set(mutator, heap);
    if (set == NULL || mutator->leaving) {
        return false;
    }
    struct order order = heap_order_of(block);
    struct cache *cache = mutator_find_cache(set, order);
    if (cache == NULL) { // it has come from a level of the reserve
        cache = mutator_add_cache(mutator, set, order);
    }
    cache_keep(cache, block);
    return true;
}

static void mutator_each_of_set(const struct cacheset *set,
                                mutator_visit *visit, void *data) {
    struct cache *cache = __atomic_load_n(&set->used, __ATOMIC_ACQUIRE);
    for (; cache != NULL; cache = cache->next) {
        visit(cache, data);
    }
}

void mutator_each_cache(struct mutator *mutator, const struct heap *heap,
                        mutator_visit *visit, void *data) {
    if (heap == NULL || mutator->home.heap == heap) {
        mutator_each_of_set(&mutator->home, visit, data);
    }
    for (struct cacheset *set = mutator->sets; set != NULL; set = set->next) {
        if (heap == NULL || set->heap == heap) {
            mutator_each_of_set(set, visit, data);
        }
    }
    reserve_each_cache(&mutator->reserve, heap, visit, data);
}

static void mutator_tail_out(struct cache *cache, void *data) {
    struct mutator_tails *tails = data;
    tails->bytes += cache_tail_bytes(cache);
    cache_tail_out(cache);
}

void mutator_tails_out(struct mutator *mutator, void *data) {
    const struct mutator_tails *tails = data;
    mutator_each_cache(mutator, tails->heap, mutator_tail_out, data);
}

struct mutator_in {
    struct heap *heap;
    bool taking;
};

static void mutator_tail_in(struct cache *cache, void *data) {
    const struct mutator_in *in = data;
    cache_tail_in(cache, in->heap, in->taking);
}

void mutator_tails_in(struct mutator *mutator, void *data) {
    uint8_t busy = __atomic_load_n(&mutator->busy, __ATOMIC_RELAXED);
    struct mutator_in in = {data, busy == MUTATOR_TAKING};
    mutator_each_cache(mutator, in.heap, mutator_tail_in, &in);
}
