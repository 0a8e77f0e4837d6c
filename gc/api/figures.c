#include "api/figures.h"

#include <string.h>

#include "heap/cache.h"
#include "heap/heap.h"
#include "heap/meta.h"
#include "heap/range.h"
#include "roots/mutator.h"
#include "roots/reserve.h"
#include "roots/world.h"

// What the caches have handed out and not told the heap yet.
struct figures_sum {
    const struct heap *heap;
    uint64_t tail_bytes, allocated_bytes, freed_bytes;
};

// Tails are counted as allocated when they are taken; the program has not seen
// them.  Another thread may be moving its own, without a thought for us: the
// figure is of some instant.
static NO_SANITIZE void figures_add_tail(struct cache *cache, void *data) {
    struct figures_sum *sum = data;
    uintptr_t bump = __atomic_load_n(&cache->bump, __ATOMIC_RELAXED);
    uintptr_t limit = __atomic_load_n(&cache->limit, __ATOMIC_RELAXED);
    sum->tail_bytes += limit - bump <= BLOCK_BYTES * 8 ? limit - bump : 0;
}

static void figures_add_mutator(struct mutator *mutator, void *data) {
    struct figures_sum *sum = data;
    const struct cacheset *set = mutator_find_set(mutator, sum->heap);
    if (set != NULL) {
        const struct tally *tally = &set->tally;
        sum->allocated_bytes +=
            __atomic_load_n(&tally->allocated_bytes, __ATOMIC_RELAXED);
        sum->freed_bytes +=
            __atomic_load_n(&tally->freed_bytes, __ATOMIC_RELAXED);
        mutator_each_cache(mutator, sum->heap, figures_add_tail, data);
    }
    struct tally reserved = reserve_tally(&mutator->reserve, sum->heap);
    sum->allocated_bytes += reserved.allocated_bytes;
    sum->freed_bytes += reserved.freed_bytes;
}

// All fields, for this library; of the caches only with the lock, since threads
// come and go.
static void figures_fill(const struct init_heap *of, bool locked,
                         struct loam_stats *stats) {
    const struct collector *collector = &of->collector;
    const struct collect_figures *figures = &collector->figures;
    const struct heap *heap = &of->heap;
    const struct region *ground = &init_state.home.heap.region;
    struct figures_sum sum = {.heap = heap};
    if (locked) {
        world_each(figures_add_mutator, &sum);
    }
    uint64_t allocated_bytes =
        heap->allocated_bytes + sum.allocated_bytes - sum.tail_bytes;
    uint64_t freed_bytes = heap->freed_bytes + sum.freed_bytes;
    uint64_t gone_bytes = freed_bytes + heap->collected_bytes;
    *stats = (struct loam_stats){
        .collections = figures->cycles,
        .collections_failed = figures->failed,
        .allocated_bytes = allocated_bytes,
        .freed_bytes = freed_bytes,
        .collected_bytes = heap->collected_bytes,
        .live_bytes = figures->last.census.live_bytes,
        .live_objects = figures->last.census.live_objects,
        // Of different instants, if others run: never below zero.
        .used_bytes =
            allocated_bytes > gone_bytes ? allocated_bytes - gone_bytes : 0,
        .block_bytes = heap_block_bytes(heap),
        .heap_bytes = ground->committed_bytes,
        .heap_bytes_max = ground->committed_bytes_max,
        .metadata_bytes = range.table_bytes + meta_bytes(),
        .limit_bytes = ground->limit_bytes,
        .next_bytes = collector->pacer.goal_bytes,
        .root_bytes = figures->last.root_bytes,
        .scanned_bytes = figures->last.scanned_bytes,
        .neighbour_objects = figures->last.neighbour_objects,
        .overflows = init_state.conductor.marker.overflow_count,
        .pause_ns = figures->last.pause_ns,
        .pause_ns_max = figures->pause_ns_max,
        .pause_ns_total = figures->pause_ns_total,
        .mark_ns_total = figures->mark_ns_total,
        .stop_ns = figures->last.stop_ns,
        .stop_ns_max = figures->stop_ns_max,
        .stop_ns_total = figures->stop_ns_total,
    };
}

void figures_copy(const struct init_heap *of, struct loam_stats *stats,
                  size_t stats_bytes) {
    struct loam_stats all = {0};
    if (__atomic_load_n(&init_state.built, __ATOMIC_ACQUIRE)) {
        // None in a cycle, or in a handler that interrupted us.
        struct mutator *mutator = init_lock();
        figures_fill(of, mutator != NULL, &all);
        if (mutator != NULL) {
            init_unlock(mutator);
        }
    } // before, another thread may just be building it
    size_t known = stats_bytes < sizeof all ? stats_bytes : sizeof all;
    memcpy(stats, &all, known);
    memset((char *)stats + known, 0, stats_bytes - known);
}
