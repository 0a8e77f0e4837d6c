#include "api/served.h"

#include <string.h>

#include "api/hold.h"
#include "api/init.h"
#include "api/leak.h"
#include "api/object.h"
#include "api/resize.h"
#include "base/check.h"
#include "collect/collect.h"
#include "heap/block.h"
#include "heap/range.h"
#include "heap/region.h"
#include "os/clock.h"
#include "os/copy.h"
#include "os/error.h"
#include "roots/mutator.h"

// Collections, which give memory back, do not come by themselves here.
#define SERVED_LARGE_BYTES (64 * KiB)
#define SERVED_SPARE_BYTES (LOAM_TINY ? 2 * MiB : 8 * MiB)
#define SERVED_PAUSE_NS    50000000 // between two looks

static uint64_t served_looked_ns; // atomic
static bool served_begun;         // atomic

// Whether it is time to look for what can be given back: a quarter of what is
// in use may stand by.
static bool served_is_due(void) {
    const struct region *ground = &init_state.home.heap.region;
    size_t used =
        __atomic_load_n(&ground->used_blocks, __ATOMIC_RELAXED) * BLOCK_BYTES;
    size_t committed =
        __atomic_load_n(&ground->committed_bytes, __ATOMIC_RELAXED);
    if (committed < used + used / 4 + SERVED_SPARE_BYTES) {
        return false;
    }
    uint64_t now = clock_now_ns();
    uint64_t looked = __atomic_load_n(&served_looked_ns, __ATOMIC_RELAXED);
    return now - looked >= SERVED_PAUSE_NS &&
           __atomic_compare_exchange_n(&served_looked_ns, &looked, now, false,
                                       __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

// What was free at the last look, too (SV5).
static void served_give_back(void) {
    struct mutator *mutator = served_is_due() ? init_lock() : NULL;
    if (mutator != NULL) {
        (void)region_trim(&init_state.home.heap.region, false);
        init_unlock(mutator);
    }
}

// That malloc is ours is told before anything is built; what the environment
// wishes is known when it is.
static COLD void served_begin(void) {
    __atomic_store_n(&init_state.conductor.serves, true, __ATOMIC_RELAXED);
    struct mutator *mutator = init_lock();
    if (mutator == NULL) {
        return; // tried again when there is memory
    }
    enum options_mode mode = init_state.options.mode;
    __atomic_store_n(&init_state.conductor.stops, mode != OPTIONS_MODE_PLAIN,
                     __ATOMIC_RELAXED);
    bool begun = true;
    if (mode == OPTIONS_MODE_QUARANTINE) {
        begun = hold_begin(); // SV6
    } else if (mode != OPTIONS_MODE_PLAIN) {
        begun = leak_begin(mode == OPTIONS_MODE_RECLAIM);
    }
    __atomic_store_n(&served_begun, begun, __ATOMIC_RELAXED);
    init_unlock(mutator);
}

// Off the fast path.
static NOINLINE void *served_climb(size_t bytes, size_t alignment, bool clear,
                                   const void *caller) {
    if (UNLIKELY(!__atomic_load_n(&served_begun, __ATOMIC_RELAXED))) {
        served_begin();
    }
    const struct object_form form = {alignment, KIND_PINNED_LEAF, clear};
    if (leak_is_on()) {
        return leak_make(bytes, alignment, caller);
    }
    served_give_back();
    return object_make_form(bytes, &form); // SV1
}

// What the fast path left may still be at hand.
static NOINLINE void *served_make_any(size_t bytes, const void *caller) {
    size_t wanted = bytes + (bytes == 0);
    if (UNLIKELY(leak_is_on())) {
        return leak_make(wanted, 1, caller); // no cell is ever at hand there
    }
    void *cell = object_take(wanted, KIND_PINNED_LEAF);
    return cell != NULL ? cell : served_climb(wanted, 1, false, caller);
}

void *served_make(size_t bytes, const void *caller) {
    void *cell = LIKELY(!hold_is_on()) ? object_take_leaf(bytes) : NULL;
    return LIKELY(cell != NULL) ? cell : served_make_any(bytes, caller);
}

void *served_make_zero(size_t bytes, const void *caller) {
    size_t wanted = bytes + (bytes == 0);
    void *cell = object_take(wanted, KIND_PINNED_LEAF);
    return LIKELY(cell != NULL) ? memset(cell, 0, wanted)
                                : served_climb(wanted, 1, true, caller);
}

void *served_make_aligned(size_t alignment, size_t bytes, const void *caller) {
    return alignment <= GRANULE_BYTES
               ? served_make(bytes, caller)
               : served_climb(bytes + (bytes == 0), alignment, false, caller);
}

// A counted object may have other owners.
static bool served_find(const void *p, struct place *place) {
    return object_is_start(p, place) && !block_kind_is_counted(place->kind);
}

// A small cell of this thread's, to which nothing is to be done but that.
static void *served_move(void *p, size_t bytes, const struct place *place) {
    int error = error_save();
    void *moved = served_make(bytes, NULL);
    if (moved == NULL && bytes <= place->bytes) {
        error_restore(error);
        return p;
    }
    if (moved == NULL) {
        return NULL;
    }
    memcpy(moved, p, bytes < place->bytes ? bytes : place->bytes);
    bool freed = served_free(p);
    ASSERT(freed);
    (void)freed;
    return moved;
}

void *served_resize(void *p, size_t bytes, const void *caller, bool *known) {
    struct place place;
    bool own = object_find_own(p, &place);
    if (LIKELY(own) && place.kind == KIND_PINNED_LEAF) {
        *known = true;
        return resize_fits(&place, bytes) ? p : served_move(p, bytes, &place);
    }
    *known =
        (own && place.kind == KIND_PINNED) || served_find(p, &place); // SV2
    if (*known && leak_is_on() && place.kind == KIND_PINNED) {
        return leak_resize(&place, bytes + (bytes == 0), caller);
    }
    return *known ? resize_object(&place, bytes + (bytes == 0)) : NULL;
}

bool served_free_near(const void *p) {
    struct mutator *mutator = init_mutator;
    if (UNLIKELY(mutator == NULL || mutator->busy != MUTATOR_OUT)) {
        return false;
    }
    mutator_enter(mutator);
    struct place place;
    unsigned cls = object_find_quick(p, &place);
    if (cls != CLASS_FREE && place.kind == KIND_PINNED_LEAF) {
        uint32_t owner = block_owner(place.block);
        if (owner == mutator->id) {
            return object_free_own(mutator, p);
        }
        // Who has not heard that it is a copy hears of it elsewhere.
        if (owner != 0 && !copy_is_new() &&
            __atomic_load_n(&range.freed_in_use, __ATOMIC_ACQUIRE)) {
            return object_leave_with(mutator, object_free_far(&place));
        }
    }
    return object_leave_with(mutator, false);
}

// Small, and not so plain.
static bool served_free_small(void *p) {
    if (hold_is_on()) {
        return hold_quick(p); // SV6
    }
    return leak_is_on() ? object_free_quick(p) : served_free_near(p);
}

// Off the fast path.
static NOINLINE bool served_free_any(void *p) {
    struct place place;
    if (LIKELY(served_free_small(p))) {
        return true; // SV3; too small for SV5
    }
    if (UNLIKELY(!served_find(p, &place))) {
        return false; // SV2
    }
    int saved = error_save(); // SV3
    bool first = init_mutator == NULL && init_gone
                     ? object_free_late(&place) // SV4
                     : object_free(&place);
    if (place.bytes >= SERVED_LARGE_BYTES && init_mutator != NULL) {
        served_give_back();
    }
    error_restore(saved);
    return first;
}

bool served_free(void *p) {
    // SV2, SV3; too small for SV5
    if (UNLIKELY(hold_is_on() || !object_free_leaf(p))) {
        return served_free_any(p);
    }
    return true;
}

size_t served_bytes(const void *p) {
    struct place place;
    if (!served_find(p, &place)) {
        return 0;
    }
    return leak_is_on() && place.kind == KIND_PINNED ? leak_bytes(&place)
                                                     : object_bytes(&place);
}

bool served_trim(void) {
    if (hold_is_on()) {
        (void)init_collect(&init_state.home.collector); // what is held first
    }
    struct mutator *mutator = init_lock();
    if (mutator == NULL) {
        return false;
    }
    const struct region *ground = &init_state.home.heap.region;
    size_t before = ground->committed_bytes;
    collect_trim(&init_state.home.collector);
    bool trimmed = ground->committed_bytes < before;
    init_unlock(mutator);
    return trimmed;
}
