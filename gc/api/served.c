#include "api/served.h"

#include <string.h>

#include "api/init.h"
#include "api/object.h"
#include "base/check.h"
#include "collect/collect.h"
#include "heap/block.h"
#include "heap/region.h"
#include "os/clock.h"
#include "os/error.h"

// Collections, which give memory back, do not come by themselves here.
#define SERVED_LARGE_BYTES (64 * KiB)
#define SERVED_SPARE_BYTES (LOAM_TINY ? 2 * MiB : 8 * MiB)
#define SERVED_PAUSE_NS    50000000 // between two looks

static uint64_t served_looked_ns; // atomic

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

// Off the fast path.  That malloc is ours is told before anything is built.
static NOINLINE void *served_climb(size_t bytes, size_t alignment, bool clear) {
    __atomic_store_n(&init_state.conductor.serves, true, __ATOMIC_RELAXED);
    const struct object_form form = {alignment, KIND_PINNED_LEAF, clear};
    served_give_back();
    return object_make_form(bytes, &form); // SV1
}

void *served_make(size_t bytes) {
    size_t wanted = bytes + (bytes == 0);
    void *cell = object_take(wanted, KIND_PINNED_LEAF);
    return LIKELY(cell != NULL) ? cell : served_climb(wanted, 1, false);
}

void *served_make_zero(size_t bytes) {
    size_t wanted = bytes + (bytes == 0);
    void *cell = object_take(wanted, KIND_PINNED_LEAF);
    return LIKELY(cell != NULL) ? memset(cell, 0, wanted)
                                : served_climb(wanted, 1, true);
}

void *served_make_aligned(size_t alignment, size_t bytes) {
    return alignment <= GRANULE_BYTES
               ? served_make(bytes)
               : served_climb(bytes + (bytes == 0), alignment, false);
}

// A counted object may have other owners.
static bool served_find(const void *p, struct place *place) {
    return object_is_start(p, place) && !block_kind_is_counted(place->kind);
}

// A small cell of this thread's, to which nothing is to be done but that.
static void *served_move(void *p, size_t bytes, const struct place *place) {
    int error = error_save();
    void *moved = served_make(bytes);
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

void *served_resize(void *p, size_t bytes, bool *known) {
    struct place place;
    if (LIKELY(object_find_own(p, &place)) && place.kind == KIND_PINNED_LEAF) {
        *known = true;
        return object_fits(&place, bytes) ? p : served_move(p, bytes, &place);
    }
    *known = served_find(p, &place); // SV2
    return *known ? object_resize(&place, bytes + (bytes == 0)) : NULL;
}

bool served_free(void *p) {
    if (LIKELY(object_free_quick(p))) {
        return true; // SV2, SV3; too small for SV5
    }
    struct place place;
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

size_t served_bytes(const void *p) {
    struct place place;
    return served_find(p, &place) ? object_bytes(&place) : 0;
}

bool served_trim(void) {
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
