#include "api/hold.h"

#include <string.h>

#include "api/init.h"
#include "api/report.h"
#include "collect/collect.h"
#include "collect/quarantine.h"
#include "heap/block.h"
#include "heap/cache.h"
#include "heap/heap.h"
#include "heap/range.h"
#include "os/error.h"
#include "os/memory.h"
#include "roots/mutator.h"
#include "roots/world.h"

bool hold_on;

bool hold_begin(void) {
    if (!range_use_freed()) {
        return false;
    }
    quarantine_begin(&init_state.conductor.quarantine);
    init_state.conductor.quarantine.unseen = report_unseen;
    __atomic_store_n(&init_state.home.heap.holds, true, __ATOMIC_RELAXED);
    __atomic_store_n(&hold_on, true, __ATOMIC_RELAXED);
    return true;
}

static void hold_clear(const struct place *place) {
    if (place->bytes < HOLD_DROP_BYTES ||
        !memory_drop((void *)place->start, place->bytes)) {
        memset((void *)place->start, 0, place->bytes);
    }
}

static void hold_collect(struct mutator *mutator, void *data) {
    const struct quarantine *quarantine = &init_state.conductor.quarantine;
    (void)data;
    if (quarantine_is_overdue(quarantine)) { // nobody was faster
        (void)collect_cycle(&init_state.home.collector, mutator, COLLECT_HELD);
    }
}

NOINLINE void hold_tell(struct mutator *mutator) {
    struct quarantine *quarantine = &init_state.conductor.quarantine;
    size_t bytes = mutator->held_bytes;
    mutator->held_bytes = 0;
    quarantine_count(quarantine, bytes);
    if (quarantine_is_overdue(quarantine)) {
        int saved = error_save();
        (void)init_locked(hold_collect, NULL);
        error_restore(saved);
    }
}

// Whether a cell lies in the tail of a cache whose owner may be taking cells:
// what it had not handed out when this was asked.  Its stores are plain.
static NOINLINE NO_SANITIZE bool hold_has_tail(const struct cache *cache,
                                               uintptr_t word) {
    uintptr_t bump = __atomic_load_n(&cache->bump, __ATOMIC_ACQUIRE);
    uintptr_t limit = __atomic_load_n(&cache->limit, __ATOMIC_ACQUIRE);
    return bump <= word && word < limit &&
           word >= __atomic_load_n(&cache->bump, __ATOMIC_RELAXED);
}

// Whether a cell of a block in which a thread bumps was not handed out yet.
// Under the lock, so that the thread does not end meanwhile.
static bool hold_is_ahead(struct mutator *mutator, const struct place *place) {
    if (!(block_flags(place->block) & BLOCK_CURRENT)) {
        return false;
    }
    world_lock(mutator);
    struct mutator *owner = world_find(block_owner(place->block));
    const struct cache *cache =
        owner == NULL
            ? NULL
            : mutator_find_cache(&owner->home, heap_order_of(place->block));
    bool is_ahead = cache != NULL && hold_has_tail(cache, place->start);
    world_unlock();
    return is_ahead;
}

// INSIDE.
static bool hold_inside(struct mutator *mutator, const struct place *place) {
    if (hold_is_ahead(mutator, place) || // HO3
        !block_hold(place->block, place->cell)) {
        return false; // HO1
    }
    hold_clear(place); // HO2
    mutator->held_bytes +=
        place->bytes >= HOLD_DROP_BYTES ? HOLD_TELL_BYTES : place->bytes;
    return true;
}

// At the thread's end, in a handler, or within the collector.
static bool hold_late(const struct place *place) {
    if (block_is_freed(place->block, place->cell)) {
        return false;
    }
    hold_clear(place);                            // HO2
    return block_hold(place->block, place->cell); // HO1
}

bool hold_place(const struct place *place) {
    struct mutator *mutator = init_gone ? init_mutator : init_ready();
    if (mutator == NULL || !init_is_free(mutator)) {
        return hold_late(place);
    }
    mutator_enter(mutator);
    bool held = hold_inside(mutator, place);
    world_leave(mutator);
    if (mutator->held_bytes >= HOLD_TELL_BYTES) {
        hold_tell(mutator); // HO4
    }
    return held;
}

size_t hold_bytes(void) {
    struct mutator *mutator = hold_is_on() ? init_lock() : NULL;
    if (mutator == NULL) {
        return 0;
    }
    size_t bytes = quarantine_held_bytes(&init_state.home.heap);
    init_unlock(mutator);
    return bytes;
}
