#include "collect/refill.h"

#include "base/bits.h"
#include "base/check.h"
#include "collect/help.h"
#include "collect/pacer.h"
#include "collect/quarantine.h"
#include "heap/block.h"
#include "heap/cache.h"
#include "heap/heap.h"
#include "heap/range.h"
#include "heap/region.h"
#include "roots/mutator.h"
#include "roots/reserve.h"
#include "roots/world.h"
#include "trace/worklist.h"

// One way up the ladder: for a cell of a cache, or for a run.
struct climb {
    struct collector *collector;
    struct mutator *mutator;
    struct cache *cache; // NULL: a run is wanted
    struct order order;
    size_t bytes, alignment; // of a run
    bool roomy;              // the same
    void *got;               // the answer
    bool zero;               // what was got needs no clearing
    bool collected;          // a collection was run
    bool let_go;             // and one that lets go of what is held
    bool again;              // start from the first rung
    unsigned rings;          // how often caches were asked for their all
};

// The heap may have grown: what depends on its size follows.
static void refill_grown(struct collector *collector) {
    struct conductor *conductor = collector->conductor;
    const struct region *ground = collector->heap->ground;
    worklist_grow(&conductor->marker.list, ground->committed_bytes,
                  region_spare_bytes(ground));
    help_grow(&conductor->help, ground);
    if (conductor->huge_bytes != 0 &&
        ground->committed_bytes >= conductor->huge_bytes) {
        range_use_huge();
        conductor->huge_bytes = 0;
    }
}

// What the cache itself has: a freed cell, or the first of a new tail.  A hook
// that allocates may have left it a tail during this climb.
void *refill_quick(struct cache *cache) {
    void *cell = cache_pop(cache);
    if (cell == NULL) {
        cell = cache_take(cache);
    }
    if (cell == NULL && cache_refill(cache)) {
        cell = cache_take(cache);
    }
    return cell;
}

static bool refill_own(struct climb *climb) {
    if (climb->cache != NULL) {
        climb->got = refill_quick(climb->cache);
    }
    return climb->got != NULL;
}

// The cache of a mutator that a block's cells belong to.  A counted block is
// its own for good, if only by way of its reserve.
static struct cache *refill_cache_of(struct mutator *mutator, uint32_t block) {
    struct cacheset *set = mutator_find_set(mutator, heap_get(block));
    struct order order = heap_order_of(block);
    if (set == NULL) {
        return NULL;
    }
    struct cache *cache = mutator_find_cache(set, order);
    return cache == NULL && block_kind_is_counted(order.kind)
               ? mutator_add_cache(mutator, set, order)
               : cache;
}

// A counted run: they have an owner like counted blocks.
static void refill_drain_run(struct heap *heap, uint32_t block) {
    uint32_t owner = block_owner(block);
    bool gone = block_is_freed(block, 0);
    block_set_owner(block, 0);
    heap_drain_block(heap, block);
    if (!gone) { // told of nothing
        block_set_owner(block, owner);
    }
}

// A block of this mutator in which others freed cells.
static void refill_drain_own(struct climb *climb, struct heap *heap,
                             uint32_t block) {
    if (ENTRY_CLASS(block_entry(block)) == CLASS_RUN_HEAD) {
        refill_drain_run(heap, block);
        return;
    }
    struct cache *cache = refill_cache_of(climb->mutator, block);
    if (cache == NULL) {
        // Inherited, with the id of a thread that is gone.
        block_set_owner(block, 0);
        heap_drain_block(heap, block);
        return;
    }
    uint32_t empty = cache_drain(cache, block);
    if (empty != BLOCK_NONE) {
        heap_release_block(heap, empty);
    }
}

// To whom a block with freed cells goes: to be drained here and now, to its
// owner's inbox, or nowhere before the next cycle: watched (B13), or of a
// reserve (roots/reserve.h).
static void refill_route(struct climb *climb, uint32_t block) {
    struct block *b = block_get(block);
    // An inbox holds blocks of all heaps.
    struct heap *heap = heap_find_freed(block);
    if (heap == NULL || (block_flags(block) & BLOCK_WATCHED) ||
        reserve_is_owner(b->owner)) {
        return;
    }
    if (b->owner == climb->mutator->id) {
        refill_drain_own(climb, heap, block);
        return;
    }
    struct mutator *owner = b->owner == 0 ? NULL : world_find(b->owner);
    if (owner == NULL || owner->leaving) {
        block_set_owner(block, 0);
        heap_drain_block(heap, block);
        return;
    }
    b->next_freed = owner->inbox;
    owner->inbox = block;
}

static void refill_route_all(struct climb *climb, uint32_t block) {
    while (block != BLOCK_NONE) {
        uint32_t next = block_get(block)->next_freed;
        refill_route(climb, block);
        block = next;
    }
}

// Cells that others freed: in this mutator's blocks they are its own again.
static bool refill_freed(struct climb *climb) {
    refill_route_all(climb, heap_take_freed(climb->collector->heap));
    uint32_t inbox = climb->mutator->inbox;
    climb->mutator->inbox = BLOCK_NONE;
    refill_route_all(climb, inbox);
    return refill_own(climb);
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
    struct heap *heap = climb->collector->heap;
    struct object *run =
        climb->roomy ? heap_make_roomy_run(heap, climb->order.kind,
                                           climb->bytes, &climb->zero)
                     : heap_make_run(heap, climb->order.kind, climb->bytes,
                                     climb->alignment, &climb->zero);
    if (run == NULL) {
        return false;
    }
    if (climb->order.layout != 0) {
        heap_describe_run(run, climb->order.layout);
    }
    if (block_kind_is_counted(climb->order.kind)) {
        climb->mutator->keeps = true;
        block_set_owner(range_block_of((uintptr_t)run), climb->mutator->id);
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
        return bits_round_up(climb->bytes + block_kind_shift(climb->order.kind),
                             BLOCK_BYTES);
    }
    return sizeclass_table[climb->order.cls].blocks * BLOCK_BYTES;
}

// No cycle would find malloc's own cells dead.
static bool refill_is_disabled(const struct climb *climb) {
    const struct conductor *conductor = climb->collector->conductor;
    return __atomic_load_n(&conductor->disabled, __ATOMIC_RELAXED) != 0 ||
           (climb->order.kind == KIND_PINNED_LEAF &&
            __atomic_load_n(&conductor->serves, __ATOMIC_RELAXED)) ||
           (climb->order.kind == KIND_PINNED && conductor->lists_lost);
}

// Whether a cycle can free what is held of malloc's.
static bool refill_holds(const struct climb *climb) {
    return climb->order.kind == KIND_PINNED_LEAF &&
           climb->collector->heap->holds;
}

// Before a heap that holds grows, what can be had back is.
static bool refill_is_held(const struct climb *climb) {
    return refill_holds(climb) && !climb->collected &&
           quarantine_is_due(&climb->collector->conductor->quarantine);
}

static bool refill_fresh(struct climb *climb) {
    struct collector *collector = climb->collector;
    size_t block_bytes = heap_block_bytes(collector->heap);
    if (refill_is_held(climb)) {
        return false;
    }
    if (!refill_is_disabled(climb) &&
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
    return !refill_is_planned(climb) && !refill_is_held(climb) &&
           refill_tight(climb);
}

static bool refill_beyond(struct climb *climb) {
    if (!refill_new(climb)) {
        return false;
    }
    pacer_outgrown(&climb->collector->pacer,
                   heap_block_bytes(climb->collector->heap));
    return true;
}

// The program's functions run as the program does: outside the lock and our
// operations, and a cycle that they ask for begins at their own frames, not at
// those that led into this climb.
static const void *refill_step_out(struct climb *climb) {
    struct mutator *mutator = climb->mutator;
    const void *outer = mutator->hot_end;
    world_unlock(); // Y4
    mutator->hot_end = NULL;
    mutator->in_hook = true;
    world_leave(mutator);
    return outer;
}

static void refill_step_in(struct climb *climb, const void *outer) {
    struct mutator *mutator = climb->mutator;
    mutator_enter(mutator);
    mutator->in_hook = false;
    mutator->hot_end = outer;
    world_lock(mutator);
}

static bool refill_ring(struct climb *climb, size_t bytes) {
    const void *outer = refill_step_out(climb);
    bool again = climb->collector->conductor->shortage(bytes);
    refill_step_in(climb, outer);
    return again;
}

// Whether caches, which are in the default heap, may be asked now.
static bool refill_has_caches(const struct climb *climb) {
    const struct collector *collector = climb->collector;
    return collector->conductor->relieve != NULL &&
           collector->heap->ground == &collector->heap->region &&
           !climb->mutator->in_hook && !refill_is_disabled(climb); // Y5
}

static size_t refill_relieve(struct climb *climb, size_t bytes) {
    const void *outer = refill_step_out(climb);
    size_t given = climb->collector->conductor->relieve(bytes);
    refill_step_in(climb, outer);
    return given;
}

// After a collection: where three quarters of the limit are alive, the next one
// shall find less, lest they follow each other ever more closely.
static void refill_ease(struct climb *climb) {
    const struct pacer *pacer = &climb->collector->pacer;
    size_t limit_bytes = pacer->limit_bytes;
    if (limit_bytes != 0 && pacer->live_bytes > limit_bytes / 4 * 3 &&
        refill_has_caches(climb)) {
        (void)refill_relieve(climb, pacer->live_bytes - limit_bytes / 8 * 5);
    }
}

static bool refill_collect(struct climb *climb) {
    struct collector *collector = climb->collector;
    if (climb->collected ||
        (refill_is_disabled(climb) && !refill_holds(climb))) { // Y1
        return false;
    }
    enum collect_reason reason = refill_is_held(climb)      ? COLLECT_HELD
                                 : refill_is_planned(climb) ? COLLECT_GOAL
                                                            : COLLECT_SHORTAGE;
    climb->collected = true;
    climb->again = collect_cycle(collector, climb->mutator, reason);
    if (climb->again) {
        refill_ease(climb);
    }
    return false;
}

// Memory was refused.  What caches let go of is free after one more collection,
// which is worth it if it is much: more each time.
static bool refill_caches(struct climb *climb) {
    if (climb->rings == REFILL_RINGS || !refill_has_caches(climb)) {
        return false;
    }
    size_t part = heap_block_bytes(climb->collector->heap) / 8;
    size_t bytes = (refill_new_bytes(climb) + part) << 2 * climb->rings;
    climb->rings++;
    if (refill_relieve(climb, bytes) != 0) {
        climb->again = true;
        climb->collected = false;
    }
    return false;
}

// Memory was refused, and a cycle has not brought enough: what is held is let
// go, for the program comes first, whatever kind of object it asks for.
static bool refill_let_go(struct climb *climb) {
    struct quarantine *quarantine = &climb->collector->conductor->quarantine;
    if (climb->collected && !climb->let_go && climb->collector->heap->holds) {
        climb->let_go = true;
        quarantine->gives_way = true;
        climb->again =
            collect_cycle(climb->collector, climb->mutator, COLLECT_SHORTAGE);
        quarantine->gives_way = false;
    }
    return false;
}

static bool refill_hook(struct climb *climb) {
    size_t bytes = climb->cache == NULL ? climb->bytes : climb->cache->bytes;
    // A hook that allocates, and meets the shortage it was called for, is not
    // called from within itself.
    if (climb->collector->conductor->shortage != NULL &&
        !climb->mutator->in_hook) {
        climb->again = refill_ring(climb, bytes);
        climb->collected = false;
    }
    return false;
}

typedef bool refill_rung(struct climb *climb);

static refill_rung *const refill_ladder[] = {
    refill_own,    refill_freed,   refill_shelf, refill_fresh,
    refill_scraps, refill_collect, refill_tight, refill_beyond,
    refill_let_go, refill_caches,  refill_hook,
};

static void refill_count(struct climb *climb) {
    struct conductor *conductor = climb->collector->conductor;
    uint32_t every = conductor->collect_every;
    if (every != 0 && ++conductor->slow_paths % every == 0 &&
        (!refill_is_disabled(climb) || refill_holds(climb))) {
        climb->collected =
            collect_cycle(climb->collector, climb->mutator, COLLECT_EVERY);
    }
}

// Other cells than malloc's may begin cycles.
static void refill_note_kind(const struct climb *climb) {
    struct conductor *conductor = climb->collector->conductor;
    if (climb->order.kind != KIND_PINNED_LEAF &&
        !__atomic_load_n(&conductor->stops, __ATOMIC_RELAXED)) {
        __atomic_store_n(&conductor->stops, true, __ATOMIC_RELAXED);
    }
}

static void refill_climb(struct climb *climb) {
    refill_note_kind(climb);
    refill_count(climb); // Y1
    size_t rungs = sizeof refill_ladder / sizeof *refill_ladder;
    for (size_t rung = 0; rung < rungs; rung++) {
        if (refill_ladder[rung](climb)) {
            return;
        }
        if (climb->again) {
            climb->again = false;
            rung = SIZE_MAX; // the loop makes it 0
        }
    }
}

// What a handler may want next, and the end of the climb.
static void refill_unlock(const struct climb *climb) {
    if (climb->collected) {
        reserve_settle();
    }
    world_unlock();
}

// No lock for what the cache has; one for all rungs above.
void *refill_cell(struct collector *collector, struct mutator *mutator,
                  struct cache *cache) {
    struct climb climb = {.collector = collector,
                          .mutator = mutator,
                          .cache = cache,
                          .order = cache->order};
    if (collector->conductor->collect_every == 0 && refill_own(&climb)) {
        return climb.got;
    }
    world_lock(mutator);
    refill_climb(&climb);
    refill_unlock(&climb);
    return climb.got;
}

void *refill_run(struct collector *collector, struct mutator *mutator,
                 const struct run_order *run, bool *zero) {
    if (run->bytes > range_most_bytes() ||
        run->alignment > range_most_bytes()) {
        return NULL; // no collection makes room for this
    }
    struct climb climb = {.collector = collector,
                          .mutator = mutator,
                          .order = run->order,
                          .bytes = run->bytes,
                          .alignment = run->alignment,
                          .roomy = run->roomy};
    world_lock(mutator);
    refill_climb(&climb);
    refill_unlock(&climb);
    *zero = climb.zero;
    return climb.got;
}

// Whether a run may become larger by so many bytes, here and now (Y2).
static bool refill_may_add(const struct climb *climb, size_t more_bytes) {
    const struct collector *collector = climb->collector;
    return refill_is_disabled(climb) ||
           pacer_may_grow(&collector->pacer, heap_block_bytes(collector->heap),
                          bits_round_up(more_bytes, BLOCK_BYTES));
}

bool refill_resize_run(struct collector *collector, struct mutator *mutator,
                       uint32_t block, size_t bytes, bool *zero) {
    struct heap *heap = collector->heap;
    if (bytes > range_most_bytes()) {
        return false;
    }
    world_lock(mutator);
    struct climb climb = {.collector = collector,
                          .mutator = mutator,
                          .order = heap_order_of(block)};
    // Two threads with one object: the second may find it gone.
    bool resized = heap_is_block_of(heap, block) &&
                   climb.order.cls == CLASS_RUN_HEAD &&
                   block_is_allocated(block, 0) && !block_is_freed(block, 0);
    size_t held = resized ? block_cell_bytes(block) : 0;
    resized = resized &&
              (bytes <= held || refill_may_add(&climb, bytes - held)) &&
              heap_resize_run(heap, block, bytes, zero);
    if (resized && bytes > held) {
        refill_grown(collector);
    }
    world_unlock();
    return resized;
}
