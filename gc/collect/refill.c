#include "collect/refill.h"

#include <string.h>

#include "base/bits.h"
#include "base/check.h"
#include "collect/pacer.h"
#include "heap/block.h"
#include "heap/cache.h"
#include "heap/heap.h"
#include "heap/range.h"
#include "heap/region.h"
#include "trace/worklist.h"

// One way up the ladder: for a cell of a cache, or for a run.
struct climb {
    struct collector *collector;
    struct cache *cache; // NULL: a run is wanted
    struct order order;
    size_t bytes, alignment; // of a run
    void *got;               // the answer
    bool collected;          // a collection was run
    bool again;              // start from the first rung
};

// The heap may have grown: what depends on its size follows.
static void refill_grown(struct collector *collector) {
    size_t committed = collector->heap->region.committed_bytes;
    worklist_grow(&collector->marker.list, committed,
                  region_spare_bytes(&collector->heap->region));
    if (collector->huge_bytes != 0 && committed >= collector->huge_bytes) {
        range_use_huge();
        collector->huge_bytes = 0;
    }
}

// What the cache itself has: a freed cell, or the first of a new tail.  A hook
// that allocates may have left it a tail during this climb.
static void *refill_from_cache(struct cache *cache, struct heap *heap) {
    void *cell = cache_pop(cache, heap);
    if (cell == NULL) {
        cell = cache_take(cache);
    }
    if (cell == NULL && cache_refill(cache, heap)) {
        cell = cache_take(cache);
    }
    return cell;
}

static bool refill_own(struct climb *climb) {
    if (climb->cache != NULL) {
        climb->got = refill_from_cache(climb->cache, climb->collector->heap);
    }
    return climb->got != NULL;
}

// A block for the cache, current from now on.
static bool refill_adopt(struct climb *climb, uint32_t block) {
    if (block == BLOCK_NONE) {
        return false;
    }
    cache_adopt(climb->cache, block);
    bool refilled = refill_own(climb);
    ASSERT(refilled);
    return refilled;
}

// A block that the heap has on a shelf, for the cache.
static bool refill_listed(struct climb *climb, bool tight) {
    return climb->cache != NULL &&
           refill_adopt(climb,
                        heap_take_block(climb->collector->heap, climb->order,
                                        tight, climb->cache->owner));
}

static bool refill_shelf(struct climb *climb) {
    return refill_listed(climb, false);
}

static bool refill_tight(struct climb *climb) {
    return refill_listed(climb, true);
}

static bool refill_run_fresh(struct climb *climb) {
    bool zero;
    struct object *run =
        heap_make_run(climb->collector->heap, climb->order.kind, climb->bytes,
                      climb->alignment, &zero);
    if (run == NULL) {
        return false;
    }
    if (climb->order.layout != 0) {
        heap_describe_run(run, climb->order.layout);
    }
    if (!zero && !block_kind_is_leaf(climb->order.kind)) { // Y3
        memset((void *)run, 0,
               block_cell_bytes(range_block_of((uintptr_t)run)));
    }
    climb->got = run;
    return true;
}

static bool refill_new(struct climb *climb) {
    struct collector *collector = climb->collector;
    bool got =
        climb->cache == NULL
            ? refill_run_fresh(climb)
            : refill_adopt(climb, heap_make_block(collector->heap, climb->order,
                                                  climb->cache->owner));
    if (got) {
        refill_grown(collector);
    }
    return got;
}

// Bytes of blocks that refill_new would take.
static size_t refill_new_bytes(const struct climb *climb) {
    if (climb->cache == NULL) {
        return bits_round_up(climb->bytes, BLOCK_BYTES);
    }
    return sizeclass_table[climb->order.cls].blocks * BLOCK_BYTES;
}

static bool refill_fresh(struct climb *climb) {
    struct collector *collector = climb->collector;
    size_t block_bytes = heap_block_bytes(collector->heap);
    if (collector->disabled == 0 &&
        !pacer_may_grow(&collector->pacer, block_bytes,
                        refill_new_bytes(climb))) {
        return false;
    }
    return refill_new(climb);
}

// Whether it is the pacer that says no, and not the limit or the system.
static bool refill_is_planned(const struct climb *climb) {
    const struct collector *collector = climb->collector;
    const struct pacer *pacer = &collector->pacer;
    size_t block_bytes = heap_block_bytes(collector->heap);
    return !pacer_may_grow(pacer, block_bytes, refill_new_bytes(climb)) &&
           (pacer->limit_bytes == 0 || pacer->goal_bytes < pacer->limit_bytes);
}

// In a heap that cannot grow, each tight block would cost a collection if the
// ladder did not come by here: they are used up first.
static bool refill_scraps(struct climb *climb) {
    return !refill_is_planned(climb) && refill_tight(climb);
}

static bool refill_collect(struct climb *climb) {
    struct collector *collector = climb->collector;
    if (climb->collected || collector->disabled != 0) { // Y1
        return false;
    }
    climb->collected = true;
    climb->again = collect_cycle(
        collector, refill_is_planned(climb) ? COLLECT_GOAL : COLLECT_SHORTAGE);
    return false;
}

static bool refill_beyond(struct climb *climb) {
    if (!refill_new(climb)) {
        return false;
    }
    pacer_outgrown(&climb->collector->pacer,
                   heap_block_bytes(climb->collector->heap));
    return true;
}

static bool refill_hook(struct climb *climb) {
    struct collector *collector = climb->collector;
    size_t bytes = climb->cache == NULL ? climb->bytes : climb->cache->bytes;
    // A hook that allocates, and meets the shortage it was called for, is not
    // called from within itself.
    if (collector->shortage != NULL && !collector->in_hook) {
        // The program runs: a cycle that it asks for begins at its own frames,
        // not at those that led into this climb.
        const void *outer = collector->hot_end;
        collector->hot_end = NULL;
        collector->in_hook = true;
        climb->again = collector->shortage(bytes);
        collector->in_hook = false;
        collector->hot_end = outer;
        climb->collected = false;
    }
    return false;
}

typedef bool refill_rung(struct climb *climb);

static refill_rung *const refill_ladder[] = {
    refill_own,     refill_shelf, refill_fresh,  refill_scraps,
    refill_collect, refill_tight, refill_beyond, refill_hook,
};

static void *refill_climb(struct climb *climb) {
    struct collector *collector = climb->collector;
    // Inside a cycle there is nothing to be had (C3 of collect/collect.h).
    if (collector->phase != COLLECT_IDLE) {
        return NULL;
    }
    uint32_t every = collector->collect_every;
    if (every != 0 && ++collector->slow_paths % every == 0 &&
        collector->disabled == 0) {
        climb->collected = collect_cycle(collector, COLLECT_EVERY); // Y1
    }
    size_t rungs = sizeof refill_ladder / sizeof *refill_ladder;
    for (size_t rung = 0; rung < rungs; rung++) {
        if (refill_ladder[rung](climb)) {
            return climb->got;
        }
        if (climb->again) {
            climb->again = false;
            rung = SIZE_MAX; // the loop makes it 0
        }
    }
    return NULL;
}

void *refill_quick(const struct collector *collector, struct cache *cache) {
    if (collector->collect_every != 0 || collector->phase != COLLECT_IDLE) {
        return NULL;
    }
    return refill_from_cache(cache, collector->heap);
}

void *refill_cell(struct collector *collector, struct cache *cache) {
    struct climb climb = {
        .collector = collector, .cache = cache, .order = cache->order};
    return refill_climb(&climb);
}

void *refill_run(struct collector *collector, struct order order, size_t bytes,
                 size_t alignment) {
    if (bytes > range.bytes || alignment > range.bytes) {
        return NULL; // no collection makes room for this
    }
    struct climb climb = {.collector = collector,
                          .order = order,
                          .bytes = bytes,
                          .alignment = alignment};
    return refill_climb(&climb);
}
