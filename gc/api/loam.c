// loam — the door: check, translate, call.
//
// The functions of loam.h.  Each checks what the program handed in, finds the
// mutator, and calls the floor that does the work.  The fast path of allocation
// is compiled into each of them (object_take): a class from the size, a cache
// from the class, a cell from the cache.
//
// Design, alternatives and measurements: docs/design/api/index.md

#include "loam.h"

#include <string.h>

#include "api/init.h"
#include "api/object.h"
#include "api/report.h"
#include "base/bits.h"
#include "collect/collect.h"
#include "heap/cache.h"
#include "heap/heap.h"
#include "heap/meta.h"
#include "os/error.h"
#include "roots/mutator.h"
#include "roots/ranges.h"

#define LOAM_TEXT2(a, b, c) #a "." #b "." #c
#define LOAM_TEXT(a, b, c)  LOAM_TEXT2(a, b, c)

bool loam_init(void) {
    return init_ready() != NULL;
}

const char *loam_version(void) {
    return LOAM_TEXT(LOAM_VERSION_MAJOR, LOAM_VERSION_MINOR,
                     LOAM_VERSION_PATCH);
}

// The fast path, or the ladder.  The caller passes a constant kind.
static ALWAYS_INLINE void *loam_get(size_t bytes, enum kind kind) {
    size_t wanted = bytes + (bytes == 0);
    void *cell = object_take(wanted, kind);
    if (LIKELY(cell != NULL)) {
        return cell;
    }
    return object_make(wanted, (struct order){.kind = kind});
}

void *loam_alloc(size_t bytes) {
    return loam_get(bytes, KIND_SCANNED);
}

void *loam_alloc_leaf(size_t bytes) {
    return loam_get(bytes, KIND_LEAF);
}

void *loam_alloc_pinned(size_t bytes) {
    return loam_get(bytes, KIND_PINNED);
}

void *loam_alloc_leaf_pinned(size_t bytes) {
    return loam_get(bytes, KIND_PINNED_LEAF);
}

void *loam_alloc_base_only(size_t bytes) {
    return loam_get(bytes, KIND_BASE_ONLY);
}

void *loam_calloc(size_t count, size_t bytes) {
    size_t product;
    if (UNLIKELY(bits_mul_overflows(count, bytes, &product))) {
        error_set_no_memory();
        return NULL;
    }
    return loam_get(product, KIND_SCANNED);
}

void *loam_alloc_aligned(size_t alignment, size_t bytes) {
    if (!bits_is_power(alignment)) {
        error_set_invalid();
        return NULL;
    }
    return object_make_aligned(bytes, alignment);
}

char *loam_strndup(const char *text, size_t bytes_max) {
    size_t length = strnlen(text, bytes_max);
    char *copy = loam_alloc_leaf(length + 1);
    if (copy != NULL) {
        memcpy(copy, text, length);
        copy[length] = '\0';
    }
    return copy;
}

char *loam_strdup(const char *text) {
    size_t bytes = strlen(text) + 1;
    char *copy = loam_alloc_leaf(bytes);
    return copy == NULL ? NULL : memcpy(copy, text, bytes);
}

// Whether and how often warnings are printed is known when the options have
// been read.
static COLD void loam_report(const char *function, const void *pointer,
                             const void *caller) {
    if (!init_state.read && !init_state.building) {
        (void)init_ready();
    }
    report_misuse(function, pointer, caller);
}

void *loam_realloc(void *p, size_t bytes) {
    if (p == NULL) {
        return loam_alloc(bytes);
    }
    struct place place;
    if (!object_is_start(p, &place)) {
        loam_report("loam_realloc", p, __builtin_return_address(0));
        error_set_invalid();
        return NULL;
    }
    if (bytes == 0) {
        object_free(&place);
        return NULL;
    }
    return object_resize(&place, bytes);
}

void loam_free(void *p) {
    if (p == NULL) {
        return;
    }
    int error = error_save();
    struct place place;
    if (object_is_start(p, &place)) {
        object_free(&place);
    } else {
        loam_report("loam_free", p, __builtin_return_address(0));
    }
    error_restore(error);
}

size_t loam_usable_size(const void *p) {
    struct place place;
    if (!object_is_start(p, &place)) {
        return 0;
    }
    object_use_whole(&place);
    return place.bytes;
}

bool loam_is_heap(const void *p) {
    struct place place;
    return object_find((uintptr_t)p, &place);
}

void *loam_base(const void *p) {
    struct place place;
    return object_find((uintptr_t)p, &place) ? (void *)place.start : NULL;
}

static bool loam_extent(const void *start, size_t bytes,
                        struct extent *extent) {
    extent->start = (uintptr_t)start;
    return bytes != 0 &&
           !bits_add_overflows(extent->start, bytes, &extent->end);
}

// Whether the lists of roots may be changed now.
static bool loam_may_change(void) {
    return init_ready() != NULL && init_state.collector.phase == COLLECT_IDLE;
}

bool loam_roots_add(const void *start, size_t bytes) {
    struct extent extent;
    return loam_extent(start, bytes, &extent) && loam_may_change() &&
           ranges_add(&init_state.collector.roots.added, extent);
}

bool loam_roots_remove(const void *start, size_t bytes) {
    struct extent extent;
    bool removed;
    return loam_extent(start, bytes, &extent) && loam_may_change() &&
           ranges_remove(&init_state.collector.roots.added, extent, &removed) &&
           removed;
}

bool loam_roots_exclude(const void *start, size_t bytes) {
    struct extent extent;
    return loam_extent(start, bytes, &extent) && loam_may_change() &&
           ranges_add(&init_state.collector.roots.excluded, extent);
}

bool loam_roots_scanner(loam_scanner_fn *scanner, void *data) {
    struct scanner item = {(void (*)(void))scanner, data};
    return scanner != NULL && loam_may_change() &&
           ranges_add_scanner(&init_state.collector.roots.scanners, item);
}

bool loam_roots_scanner_remove(loam_scanner_fn *scanner, void *data) {
    struct scanner item = {(void (*)(void))scanner, data};
    return loam_may_change() &&
           ranges_remove_scanner(&init_state.collector.roots.scanners, item);
}

bool loam_collect(void) {
    return init_ready() != NULL &&
           collect_cycle(&init_state.collector, COLLECT_ASKED);
}

void loam_disable(void) {
    if (init_ready() != NULL) {
        init_state.collector.disabled++;
    }
}

void loam_enable(void) {
    if (init_ready() == NULL) {
        return;
    }
    if (init_state.collector.disabled == 0) {
        report_warning(REPORT_BALANCE,
                       "loam_enable without loam_disable; ignored");
        return;
    }
    init_state.collector.disabled--;
}

static size_t loam_committed_bytes(void) {
    return init_state.heap.region.committed_bytes + range.table_bytes +
           meta_bytes();
}

bool loam_set_limit(size_t bytes) {
    if (!loam_may_change()) {
        return false;
    }
    struct collector *collector = &init_state.collector;
    init_state.heap.region.limit_bytes = bytes;
    collector->pacer.limit_bytes = bytes;
    if (bytes == 0) {
        return true;
    }
    if (collector->pacer.goal_bytes > bytes) {
        collector->pacer.goal_bytes = bytes;
    }
    if (loam_committed_bytes() > bytes) {
        collect_cycle(collector, COLLECT_ASKED);
        collect_trim(collector);
    }
    return loam_committed_bytes() <= bytes;
}

static void loam_add_tail(struct cache *cache, void *data) {
    *(size_t *)data += cache_tail_bytes(cache);
}

// All fields, for this library.
static void loam_fill_stats(struct loam_stats *stats) {
    const struct collector *collector = &init_state.collector;
    const struct collect_figures *figures = &collector->figures;
    const struct heap *heap = &init_state.heap;
    // Tails are counted as allocated when they are taken; the program has not
    // seen them.
    size_t tail_bytes = 0;
    if (init_state.built) {
        mutator_each_cache(collector->mutator, loam_add_tail, &tail_bytes);
    }
    *stats = (struct loam_stats){
        .collections = figures->cycles,
        .collections_failed = figures->failed,
        .allocated_bytes = heap->allocated_bytes - tail_bytes,
        .freed_bytes = heap->freed_bytes,
        .collected_bytes = heap->collected_bytes,
        .live_bytes = figures->last.census.live_bytes,
        .live_objects = figures->last.census.live_objects,
        .used_bytes = heap->used_bytes - tail_bytes,
        .block_bytes = heap_block_bytes(heap),
        .heap_bytes = heap->region.committed_bytes,
        .heap_bytes_max = heap->region.committed_bytes_max,
        .metadata_bytes = range.table_bytes + meta_bytes(),
        .limit_bytes = heap->region.limit_bytes,
        .next_bytes = collector->pacer.goal_bytes,
        .root_bytes = figures->last.root_bytes,
        .scanned_bytes = figures->last.scanned_bytes,
        .neighbour_objects = figures->last.neighbour_objects,
        .overflows = collector->marker.overflow_count,
        .pause_ns = figures->last.pause_ns,
        .pause_ns_max = figures->pause_ns_max,
        .pause_ns_total = figures->pause_ns_total,
        .mark_ns_total = figures->mark_ns_total,
    };
}

void loam_stats(struct loam_stats *stats, size_t stats_bytes) {
    struct loam_stats all;
    loam_fill_stats(&all);
    size_t known = stats_bytes < sizeof all ? stats_bytes : sizeof all;
    memcpy(stats, &all, known);
    memset((char *)stats + known, 0, stats_bytes - known);
}

// At exit, after the program's own handlers.
__attribute__((destructor)) static void loam_exit(void) {
    if (init_state.built && init_state.options.stats) {
        struct loam_stats stats;
        loam_fill_stats(&stats);
        report_exit(&stats);
    }
}

void loam_set_warning_hook(loam_warning_fn *hook, void *data) {
    report_set_hook(hook, data);
}

void loam_set_shortage_hook(loam_shortage_fn *hook, void *data) {
    init_state.shortage = hook;
    init_state.shortage_data = data;
}
