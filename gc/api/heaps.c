// heaps — the functions of loam/heaps.h.
//
// A handle is the heap's slot in its low 16 bits and its serial number above:
// the slot finds the heap, the serial tells whether it is still the same.
//
// Design, alternatives and measurements: docs/design/api/index.md

#include "loam/heaps.h"

#include <string.h>

#include "api/figures.h"
#include "api/init.h"
#include "api/object.h"
#include "api/report.h"
#include "collect/collect.h"
#include "collect/pacer.h"
#include "collect/settle.h"
#include "heap/blockmap.h"
#include "heap/heap.h"
#include "heap/meta.h"
#include "os/error.h"
#include "roots/mutator.h"
#include "roots/world.h"

#define HEAPS_SLOT_BITS   16
#define HEAPS_FLOOR_BYTES (256 * KiB)

static struct loam_heap *heaps_handle(const struct init_heap *heap) {
    if (heap == &init_state.home) {
        return NULL;
    }
    return (struct loam_heap *)((uintptr_t)heap->serial << HEAPS_SLOT_BITS |
                                heap->heap.slot);
}

// The heap of a handle; NULL, and reported, if it was destroyed.
static struct init_heap *
heaps_find(const char *function, struct loam_heap *handle, const void *caller) {
    uintptr_t number = (uintptr_t)handle;
    if (handle == NULL) {
        return &init_state.home;
    }
    struct heap *heap = heap_find(number % ((uintptr_t)1 << HEAPS_SLOT_BITS));
    struct init_heap *found = heap == NULL ? NULL : heap->keeper;
    if (found == NULL || found->serial != number >> HEAPS_SLOT_BITS) {
        report_heap(function, handle, caller);
        return NULL;
    }
    return found;
}

static struct init_heap *heaps_make(void) {
    struct init_heap *made = meta_make(sizeof *made);
    if (made == NULL || !heap_init(&made->heap, &init_state.home.heap)) {
        meta_free(made, sizeof *made);
        return NULL;
    }
    made->heap.keeper = made;
    collect_init(&made->collector, &init_state.conductor, &made->heap);
    pacer_init(&made->collector.pacer, HEAPS_FLOOR_BYTES,
               init_state.options.growth_percent);
    made->serial = ++init_state.serial;
    made->next = init_state.made;
    init_state.made = made;
    return made;
}

struct loam_heap *loam_heap_create(void) {
    struct mutator *mutator = init_lock();
    struct init_heap *made = NULL;
    if (mutator != NULL) {
        made = heaps_make();
        init_unlock(mutator);
    }
    if (made == NULL) {
        error_set_no_memory();
        return NULL;
    }
    return heaps_handle(made);
}

static void *heaps_alloc(struct init_heap *heap, size_t bytes, unsigned kind) {
    if (heap == NULL) {
        error_set_invalid();
        return NULL;
    }
    return object_make_in(&heap->collector, bytes + (bytes == 0),
                          (struct order){.kind = kind});
}

void *loam_heap_alloc(struct loam_heap *heap, size_t bytes) {
    return heaps_alloc(
        heaps_find("loam_heap_alloc", heap, __builtin_return_address(0)), bytes,
        KIND_SCANNED);
}

void *loam_heap_alloc_leaf(struct loam_heap *heap, size_t bytes) {
    return heaps_alloc(
        heaps_find("loam_heap_alloc_leaf", heap, __builtin_return_address(0)),
        bytes, KIND_LEAF);
}

bool loam_heap_collect(struct loam_heap *heap) {
    struct init_heap *found =
        heaps_find("loam_heap_collect", heap, __builtin_return_address(0));
    return found != NULL && init_collect(&found->collector);
}

static bool heaps_grow_roots(struct collector *collector) {
    size_t room = collector->root_heap_room;
    size_t grown = room == 0 ? 2 : room * 2;
    struct heap **roots = meta_make(grown * sizeof *roots);
    if (roots == NULL) {
        return false;
    }
    for (size_t i = 0; i < room; i++) {
        roots[i] = collector->root_heaps[i];
    }
    meta_free(collector->root_heaps, room * sizeof *roots);
    collector->root_heaps = roots;
    collector->root_heap_room = grown;
    return true;
}

static bool heaps_add_root(struct collector *collector, struct heap *from) {
    size_t count = collector->root_heap_count;
    for (size_t i = 0; i < count; i++) {
        if (collector->root_heaps[i] == from) {
            return true;
        }
    }
    if (count == collector->root_heap_room && !heaps_grow_roots(collector)) {
        return false;
    }
    collector->root_heaps[collector->root_heap_count++] = from;
    return true;
}

bool loam_heap_root(struct loam_heap *heap, struct loam_heap *from) {
    const void *caller = __builtin_return_address(0);
    struct init_heap *to = heaps_find("loam_heap_root", heap, caller);
    struct init_heap *source = heaps_find("loam_heap_root", from, caller);
    struct mutator *mutator;
    if (to == NULL || source == NULL || to == source ||
        (mutator = init_lock()) == NULL) {
        return false;
    }
    bool added = heaps_add_root(&to->collector, &source->heap);
    init_unlock(mutator);
    return added;
}

// --- Destroy ---------------------------------------------------------------

static void heaps_remove_root(struct collector *collector,
                              const struct heap *heap) {
    struct heap **roots = collector->root_heaps;
    size_t kept = 0;
    for (size_t i = 0; i < collector->root_heap_count; i++) {
        if (roots[i] != heap) {
            roots[kept++] = roots[i];
        }
    }
    collector->root_heap_count = kept;
}

static void heaps_drop_set(struct mutator *mutator, void *data) {
    mutator_drop_inbox(mutator, data);
    mutator_drop_set(mutator, data);
}

static void heaps_unlink(struct init_heap *heap) {
    struct init_heap **at = &init_state.made;
    while (*at != heap) {
        at = &(*at)->next;
    }
    *at = heap->next;
    heaps_remove_root(&init_state.home.collector, &heap->heap);
    for (struct init_heap *it = init_state.made; it != NULL; it = it->next) {
        heaps_remove_root(&it->collector, &heap->heap);
    }
}

struct heaps_destroy {
    struct init_heap *heap;
    bool done;
};

static void heaps_destroy(struct mutator *mutator, void *data) {
    struct heaps_destroy *call = data;
    struct init_heap *heap = call->heap;
    struct world_stop_report stop = {0};
    if (!world_stop(mutator, &stop)) {
        report_stop(&stop);
        return;
    }
    world_each(heaps_drop_set, &heap->heap);
    settle_void(&init_state.conductor.settle, &heap->heap);
    heap_void(&heap->heap);
    world_resume();
    heaps_unlink(heap);
    heap_fini(&heap->heap);
    meta_free(heap->collector.root_heaps,
              heap->collector.root_heap_room * sizeof(struct heap *));
    meta_free(heap, sizeof *heap);
    call->done = true;
}

bool loam_heap_destroy(struct loam_heap *heap) {
    struct init_heap *found =
        heaps_find("loam_heap_destroy", heap, __builtin_return_address(0));
    if (found == NULL) {
        return false;
    }
    if (found == &init_state.home) {
        report_heap("loam_heap_destroy", NULL, __builtin_return_address(0));
        return false;
    }
    struct heaps_destroy call = {found, false};
    return init_locked(heaps_destroy, &call) && call.done;
}

struct loam_heap *loam_heap_of(const void *p, bool *is_object) {
    struct place place;
    bool found = object_find((uintptr_t)p, &place);
    if (is_object != NULL) {
        *is_object = found;
    }
    return found ? heaps_handle(heap_get(place.block)->keeper) : NULL;
}

void loam_heap_stats(struct loam_heap *heap, struct loam_stats *stats,
                     size_t stats_bytes) {
    const struct init_heap *found =
        heaps_find("loam_heap_stats", heap, __builtin_return_address(0));
    if (found == NULL) {
        memset(stats, 0, stats_bytes);
        return;
    }
    figures_copy(found, stats, stats_bytes);
}
