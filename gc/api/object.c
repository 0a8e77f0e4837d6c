#include "api/object.h"

#include <string.h>

#include "api/hold.h"
#include "api/init.h"
#include "base/bits.h"
#include "base/check.h"
#include "collect/collect.h"
#include "collect/refill.h"
#include "heap/block.h"
#include "heap/blockmap.h"
#include "heap/cache.h"
#include "heap/counted.h"
#include "heap/range.h"
#include "heap/shelf.h"
#include "heap/sizeclass.h"
#include "os/error.h"
#include "roots/mutator.h"
#include "roots/reserve.h"
#include "roots/world.h"

// Above this size a cell shares its span with few others, if with any.
#define OBJECT_RUN_BYTES (28 * KiB)
// A span may be this part of what is in blocks.
#define OBJECT_RUN_SHARE 64

// What is asked for, on its way up the ladder.
struct object_request {
    size_t bytes, alignment;
    struct order order;
    struct collector *collector; // of the heap it is to be in
    struct mutator *mutator;
    struct cache *cache; // NULL: a run
    void *object;        // the answer
    bool clear;          // a leaf is wanted all zero
    bool roomy;          // a run is wanted with room behind it
    bool zero;           // it needs no clearing
};

static void object_climb(void *data) {
    struct object_request *request = data;
    if (request->cache != NULL) {
        request->object =
            refill_cell(request->collector, request->mutator, request->cache);
        return;
    }
    struct run_order run = {request->order, request->bytes, request->alignment,
                            request->roomy};
    request->object =
        refill_run(request->collector, request->mutator, &run, &request->zero);
}

// Cells of 32 KiB and more come in spans of up to 448 KiB.  In a small heap a
// span for each of their classes would be most of it: there they are runs.
static bool object_is_run(const struct object_request *request) {
    unsigned cls = request->order.cls;
    size_t span_bytes = sizeclass_table[cls].blocks * BLOCK_BYTES;
    const struct heap *heap = request->collector->heap;
    return cls == CLASS_FREE ||
           (request->bytes > OBJECT_RUN_BYTES &&
            heap_block_bytes(heap) / OBJECT_RUN_SHARE < span_bytes);
}

// The class that serves a request, or CLASS_FREE if none does.
static unsigned object_class(const struct object_request *request) {
    size_t bytes = request->bytes;
    size_t alignment = request->alignment;
    if (block_kind_is_counted(request->order.kind)) {
        return object_class_counted(bytes, request->order.kind);
    }
    if (alignment > GRANULE_BYTES) {
        return sizeclass_find_aligned(bytes, alignment);
    }
    return bytes <= CELL_BYTES_MAX ? sizeclass_of(bytes) : CLASS_FREE;
}

// The cache may have told another block, which it left for the one that serves
// the request in the end, or that it had when a cycle began.
static void object_note(const struct object_request *request) {
    struct place place;
    if (request->cache != NULL && request->bytes == request->cache->bytes &&
        blockmap_object((uintptr_t)request->object, &place) != NULL) {
        object_use_whole(&place);
    }
}

// The set of a mutator for a heap, made under the lock.
static struct cacheset *object_set(struct mutator *mutator, struct heap *heap) {
    struct cacheset *set = mutator_find_set(mutator, heap);
    if (set == NULL) {
        world_lock(mutator);
        set = mutator_add_set(mutator, heap);
        world_unlock();
    }
    return set;
}

// A cache for described cells is made under the lock; NULL: memory is short.
static struct cache *object_add_described(struct mutator *mutator,
                                          struct cacheset *set,
                                          struct order order) {
    struct cache *cache = NULL;
    world_lock(mutator);
    if (heap_add_described(set->heap, order)) {
        cache = mutator_add_cache(mutator, set, order);
    }
    world_unlock();
    return cache;
}

// The cache that serves an order.  A described one whose shelf cannot be made
// is scanned instead: that is always sound.
static struct cache *object_cache(struct mutator *mutator, struct cacheset *set,
                                  struct order order) {
    struct cache *cache = mutator_find_cache(set, order);
    if (cache == NULL && order.kind == KIND_DESCRIBED) {
        cache = object_add_described(mutator, set, order);
        if (cache == NULL) {
            order.kind = KIND_SCANNED;
            order.layout = 0;
            cache = mutator_find_cache(set, order);
        }
    }
    return cache != NULL ? cache : mutator_add_cache(mutator, set, order);
}

// INSIDE: from the cache, or by the ladder.
static void object_take_or_climb(struct object_request *request) {
    struct mutator *mutator = request->mutator;
    request->order.cls = object_class(request);
    if (!object_is_run(request)) {
        struct cacheset *set = object_set(mutator, request->collector->heap);
        if (set == NULL) {
            return;
        }
        request->cache = object_cache(mutator, set, request->order);
        request->zero = !block_kind_is_leaf(request->order.kind);
        cache_note(request->cache, request->bytes);
        if (request->collector->conductor->collect_every == 0) {
            request->object = refill_quick(request->cache);
        } else {
            request->object = cache_take(request->cache);
        }
    }
    if (request->object == NULL) {
        collect_enter(mutator, object_climb, request);
    }
    object_note(request);
}

// A large object is cleared where a stop may interrupt it.
static void object_clear(const struct object_request *request) {
    if (request->object != NULL && !request->zero &&
        (request->clear || !block_kind_is_leaf(request->order.kind))) {
        memset(request->object, 0,
               block_cell_bytes(range_block_of((uintptr_t)request->object)));
    }
}

// A handler has come upon us in its own thread: what we were at is set aside.
static uint8_t object_break_in(struct mutator *mutator) {
    uint8_t busy = mutator->busy;
    mutator_enter(mutator);
    return busy;
}

// And taken up again.  Where only TAKING was interrupted nobody else will ask
// whether a stop has been waiting for this.
static void object_break_out(struct mutator *mutator, uint8_t busy) {
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    __atomic_store_n(&mutator->busy, busy, __ATOMIC_RELAXED);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    if (busy == MUTATOR_TAKING && world_is_stopping()) {
        world_park(mutator);
    }
}

// From a level of the reserve: what it has, or what it can be brought.
static void object_take_reserved(struct object_request *request, size_t level) {
    struct reserve *reserve = &request->mutator->reserve;
    struct reserve_order order = {.heap = request->collector->heap,
                                  .kind = request->order.kind == KIND_DESCRIBED
                                              ? KIND_SCANNED
                                              : request->order.kind,
                                  .bytes = request->bytes,
                                  .alignment = request->alignment};
    request->zero = true;
    request->object = reserve_take(reserve, level, &order);
    if (request->object == NULL) {
        bool locked = world_try_lock();
        request->object =
            reserve_bring(reserve, level, &order, locked, &request->zero);
        if (locked) {
            world_unlock();
        }
    }
    request->zero &= !block_kind_is_leaf(order.kind);
}

// Whether the calling thread is the conductor of a cycle that is on: of the
// signals that cannot be held back a handler may run even there.
static bool object_is_in_cycle(void) {
    return collect_is_on(&init_state.conductor);
}

// In a handler over us: no layout, no climb.
static void object_serve_handler(struct object_request *request) {
    struct mutator *mutator = request->mutator;
    // A handler that was set behind our back may find its thread waiting.
    if (object_is_in_cycle() ||
        __atomic_load_n(&mutator->state, __ATOMIC_RELAXED) != MUTATOR_RUNS) {
        return;
    }
    if (block_kind_is_counted(request->order.kind)) {
        return; // what counts is for no handler
    }
    uint8_t busy = object_break_in(mutator);
    size_t level = reserve_enter(&mutator->reserve, mutator->id);
    if (level != RESERVE_LEVELS) {
        object_take_reserved(request, level);
        reserve_leave(&mutator->reserve);
    }
    struct place place;
    if (request->object != NULL &&
        blockmap_find((uintptr_t)request->object, &place) &&
        place.bytes == request->bytes) {
        object_use_whole(&place);
    }
    object_break_out(mutator, busy); // O4
    object_clear(request);
}

static NOINLINE void *object_serve(struct object_request *request) {
    struct mutator *mutator = init_ready();
    if (mutator != NULL && request->bytes <= PTRDIFF_MAX) {
        request->mutator = mutator;
        if (init_is_free(mutator)) {
            mutator_enter(mutator);
            object_take_or_climb(request);
            init_leave(mutator); // O4: the object is in the request
            object_clear(request);
        } else {
            object_serve_handler(request);
        }
    }
    if (request->object == NULL) {
        error_set_no_memory(); // O3
    }
    return request->object;
}

// Where each allocation is to pass the ladder nothing is taken here.
void *object_pop(struct mutator *mutator, struct cache *cache) {
    if (UNLIKELY(cache->free_count == 0 || mutator->single)) {
        return NULL;
    }
    mutator_enter(mutator);
    void *cell = cache_pop(cache);
    world_leave(mutator); // O4: this frame holds it
    return cell;
}

void *object_park_with(struct mutator *mutator, void *cell) {
    world_park(mutator);
    return cell;
}

void *object_make_in(struct collector *collector, size_t bytes,
                     struct order order) {
    struct object_request request = {
        .bytes = bytes, .alignment = 1, .order = order, .collector = collector};
    return object_serve(&request);
}

void *object_make_roomy(struct collector *collector, size_t bytes,
                        struct order order) {
    struct object_request request = {.bytes = bytes,
                                     .alignment = 1,
                                     .order = order,
                                     .collector = collector,
                                     .roomy = true};
    return object_serve(&request);
}

void *object_make(size_t bytes, struct order order) {
    struct collector *home = &init_state.home.collector;
    void *cell =
        order.kind != KIND_DESCRIBED ? object_take(bytes, order.kind) : NULL;
    return LIKELY(cell != NULL) ? cell : object_make_in(home, bytes, order);
}

void *object_make_counted(size_t bytes, unsigned kind) {
    size_t cell_bytes, front = block_kind_front(kind);
    ASSERT(front != 0);
    if (bits_add_overflows(bytes, front, &cell_bytes)) {
        error_set_no_memory();
        return NULL;
    }
    void *object = object_take_counted(cell_bytes, kind);
    if (UNLIKELY(object == NULL)) {
        char *cell = object_make_in(&init_state.home.collector, cell_bytes,
                                    (struct order){.kind = kind});
        object = cell == NULL ? NULL : cell + front;
    }
    return object;
}

void *object_make_form(size_t bytes, const struct object_form *form) {
    struct object_request request = {.bytes = bytes,
                                     .alignment = form->alignment,
                                     .order = {.kind = form->kind},
                                     .collector = &init_state.home.collector,
                                     .clear = form->clear};
    return object_serve(&request);
}

// Whether an address lies in a tail of the calling thread.  INSIDE meanwhile: a
// stop in which a heap is destroyed takes sets of caches away.
static bool object_is_ahead(const struct place *place) {
    struct mutator *mutator = init_mutator;
    if (!(block_flags(place->block) & BLOCK_CURRENT) || mutator == NULL ||
        mutator->busy != MUTATOR_OUT ||
        block_owner(place->block) != mutator->id) {
        return false;
    }
    mutator_enter(mutator);
    struct cacheset *set = mutator_find_set(mutator, heap_get(place->block));
    const struct cache *cache =
        set == NULL ? NULL
                    : mutator_find_cache(set, heap_order_of(place->block));
    bool is_ahead = cache != NULL && cache_has_tail(cache, place->start);
    world_leave(mutator);
    return is_ahead;
}

bool object_find(uintptr_t word, struct place *place) {
    if (!blockmap_find(word, place) ||
        block_is_freed(place->block, place->cell)) {
        return false;
    }
    // In this order: a cycle in between takes both bits of a freed cell away.
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    return block_is_allocated(place->block, place->cell) &&
           !object_is_ahead(place); // O1
}

bool object_is_start(const void *p, struct place *place) {
    return object_find((uintptr_t)p, place) &&
           object_start(place) == (uintptr_t)p;
}

// --- Free ------------------------------------------------------------------

// The freed table is committed when it is first needed.  Where it cannot be,
// the cell is left to the collector.
static bool object_use_freed(struct mutator *mutator, bool may_wait) {
    if (__atomic_load_n(&range.freed_in_use, __ATOMIC_ACQUIRE)) {
        return true;
    }
    if (may_wait) {
        world_lock(mutator);
    } else if (!world_try_lock()) {
        return false;
    }
    bool used = range_use_freed();
    world_unlock();
    return used;
}

bool object_free_far(const struct place *place) {
    enum freed_by by = block_free_remotely(place->block, place->cell);
    if (by == FREED_FIRST) {
        heap_push_freed(heap_get(place->block), place->block);
    }
    return by != FREED_TWICE;
}

// INSIDE; in a block that is another's, or watched, or in a handler over us,
// which may not wait: the cell itself waits in the freed table.
static bool object_free_remotely(struct mutator *mutator,
                                 const struct place *place, bool may_wait) {
    if (!object_use_freed(mutator, may_wait)) {
        return true;
    }
    return object_free_far(place);
}

// A block that a free left empty goes back, unless a cycle was faster.
static void object_release(struct mutator *mutator, struct heap *heap,
                           uint32_t block) {
    struct block *b = block_get(block);
    world_lock(mutator);
    if (b->owner == mutator->id && heap_is_block_of(heap, block) &&
        b->live == 0 && b->list == SHELF_NONE &&
        !(block_flags(block) & BLOCK_CURRENT)) {
        heap_release_block(heap, block);
    }
    world_unlock();
}

// Whether the cell is still what it was when its order was read: a program that
// frees one object in two threads may have let go of its block since.
static bool object_is_still(const struct place *place, const struct heap *heap,
                            struct order order) {
    struct order now = heap_order_of(place->block);
    return heap_is_block_of(heap, place->block) && now.kind == order.kind &&
           now.cls == order.cls && now.layout == order.layout &&
           block_is_allocated(place->block, place->cell) &&
           !block_is_freed(place->block, place->cell);
}

// Makes an ownerless block the mutator's; false when another was faster.
static bool object_claim(struct mutator *mutator, const struct place *place,
                         struct heap *heap, struct order order) {
    struct block *b = block_get(place->block);
    world_lock(mutator);
    bool mine = b->owner == 0 && object_is_still(place, heap, order);
    if (mine) {
        shelf_withdraw(heap_find_shelf(heap, order), place->block);
        b->cursor = 0;
        block_set_owner(place->block, mutator->id);
    }
    world_unlock();
    return mine;
}

static bool object_free_run(struct mutator *mutator, uint32_t block) {
    world_lock(mutator);
    // Two threads that free it at once: the second finds it gone.
    bool is_there = ENTRY_CLASS(block_entry(block)) == CLASS_RUN_HEAD &&
                    block_is_allocated(block, 0) && !block_is_freed(block, 0);
    if (is_there) {
        heap_free_run(heap_get(block), block);
    }
    world_unlock();
    return is_there;
}

// INSIDE.
static bool object_free_inside(struct mutator *mutator,
                               const struct place *place) {
    uint32_t block = place->block;
    if (block_flags(block) & BLOCK_WATCHED) {
        return object_free_remotely(mutator, place,
                                    true); // B13 of heap/block.h
    }
    uint32_t id = block_owner(block);
    if (id != 0 && id != mutator->id) {
        return object_free_remotely(mutator, place, true);
    }
    struct heap *heap = heap_get(block);
    struct order order = heap_order_of(block);
    if (order.cls > CLASS_LAST) {
        return object_free_run(mutator, block);
    }
    if (order.cls < CLASS_FIRST ||
        (order.kind == KIND_DESCRIBED && order.layout == 0)) {
        return false; // another thread has just freed it
    }
    // The cache first: making one may wait, and a cycle meanwhile may disown
    // the block.
    struct cacheset *set = object_set(mutator, heap);
    if (set == NULL) {
        return true; // memory is short: left to the collector
    }
    struct cache *cache = object_cache(mutator, set, order);
    id = block_owner(block);
    if (id != mutator->id &&
        (id != 0 || !object_claim(mutator, place, heap, order))) {
        return object_free_remotely(mutator, place, true);
    }
    if (!object_is_still(place, heap, order)) {
        return false; // another thread has just freed it
    }
    if (cache->order.kind != order.kind) {
        return true; // a described cell without a cache: left to the collector
    }
    uint32_t empty = cache_free(cache, place);
    if (empty != BLOCK_NONE) {
        object_release(mutator, heap, empty);
    }
    return true;
}

struct cache *object_cache_at_hand(struct mutator *mutator, uint32_t block) {
    const struct block *b = block_get(block);
    unsigned entry = block_entry(block);
    if (UNLIKELY(block_owner(block) != mutator->id ||
                 ENTRY_CLASS(entry) > CLASS_LAST ||
                 (block_flags(block) & BLOCK_WATCHED) ||
                 b->heap != mutator->home.heap->slot)) {
        return NULL;
    }
    struct cache *cache =
        &mutator->home.caches[ENTRY_KIND(entry)][ENTRY_CLASS(entry)];
    return cache->bytes != 0 ? cache : NULL;
}

bool object_leave_with(struct mutator *mutator, bool result) {
    world_leave(mutator);
    return result;
}

bool object_free_own(struct mutator *mutator, const void *p) {
    struct place place;
    unsigned cls = object_find_quick(p, &place);
    if (UNLIKELY(cls == CLASS_FREE)) {
        return object_leave_with(mutator, false);
    }
    struct cache *cache = &mutator->home.caches[place.kind][cls];
    bool freed = object_is_own(mutator, cache, &place); // O1
    if (LIKELY(freed)) {
        uint32_t empty = cache_free(cache, &place);
        if (UNLIKELY(empty != BLOCK_NONE)) {
            object_release_empty(mutator, empty);
        }
    }
    return object_leave_with(mutator, freed);
}

bool object_free(const struct place *place) {
    if (UNLIKELY(hold_is_on() && block_is_holding(place->block))) {
        return hold_place(place);
    }
    struct mutator *mutator = init_ready();
    if (mutator == NULL) {
        return true; // inside a cycle the mark decides
    }
    if (!init_is_free(mutator)) {
        if (object_is_in_cycle()) {
            return true; // the mark decides
        }
        uint8_t busy = object_break_in(mutator);
        bool first = object_free_remotely(mutator, place, false);
        object_break_out(mutator, busy);
        return first;
    }
    mutator_enter(mutator);
    bool freed = object_free_inside(mutator, place);
    world_leave(mutator);
    return freed;
}

bool object_free_late(const struct place *place) {
    if (UNLIKELY(hold_is_on() && block_is_holding(place->block))) {
        return hold_place(place);
    }
    return object_free_remotely(NULL, place, false);
}

void object_free_dead(struct mutator *mutator, void *object) {
    struct place place;
    if (blockmap_find((uintptr_t)counted_of(object), &place)) {
        (void)object_free_inside(mutator, &place);
    }
}

void object_release_empty(struct mutator *mutator, uint32_t block) {
    int error = error_save();
    object_release(mutator, mutator->home.heap, block);
    error_restore(error);
}

bool object_free_counted(const struct place *place) {
    ASSERT(block_kind_is_counted(place->kind));
    struct mutator *mutator = init_mutator;
    if (UNLIKELY(mutator == NULL || mutator->busy != MUTATOR_OUT)) {
        return object_free(place);
    }
    mutator_enter(mutator);
    struct cache *cache = object_cache_at_hand(mutator, place->block);
    bool freed;
    if (LIKELY(cache != NULL)) {
        freed = block_is_allocated(place->block, place->cell) &&
                !block_is_freed(place->block, place->cell);
        uint32_t empty = freed ? cache_free(cache, place) : BLOCK_NONE;
        if (UNLIKELY(empty != BLOCK_NONE)) {
            object_release(mutator, mutator->home.heap, empty);
        }
    } else {
        freed = object_free_inside(mutator, place);
    }
    world_leave(mutator);
    return freed;
}

void object_use_whole(const struct place *place) {
    block_set_flags(place->block, BLOCK_EXACT); // B12 of heap/block.h
}
