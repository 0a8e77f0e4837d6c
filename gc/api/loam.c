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

#include "api/figures.h"
#include "api/finalizer.h"
#include "api/init.h"
#include "api/object.h"
#include "api/report.h"
#include "api/resize.h"
#include "api/summary.h"
#include "base/bits.h"
#include "collect/collect.h"
#include "heap/block.h"
#include "heap/heap.h"
#include "heap/meta.h"
#include "os/error.h"
#include "roots/mutator.h"
#include "roots/ranges.h"
#include "roots/reserve.h"

#define LOAM_TEXT2(a, b, c) #a "." #b "." #c
#define LOAM_TEXT(a, b, c)  LOAM_TEXT2(a, b, c)

bool loam_init(void) {
    return init_ready() != NULL;
}

// By this `loam run` knows a program into which the library is linked, stripped
// or not (tool/program).
static const char loam_mark[] = "loam: a collector " LOAM_TEXT(
    LOAM_VERSION_MAJOR, LOAM_VERSION_MINOR, LOAM_VERSION_PATCH);

const char *loam_version(void) {
    return strrchr(loam_mark, ' ') + 1;
}

// The fast path, or the ladder.  The caller passes a constant kind.
static ALWAYS_INLINE void *loam_get(size_t bytes, enum kind kind) {
    size_t wanted = bytes + (bytes == 0);
    void *cell = object_take(wanted, kind);
    if (LIKELY(cell != NULL)) {
        return cell;
    }
    cell = object_make(wanted, (struct order){.kind = kind});
    finalizer_poll();
    return cell;
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
    const struct object_form form = {alignment, KIND_SCANNED, false};
    void *made = object_make_form(bytes + (bytes == 0), &form);
    finalizer_poll();
    return made;
}

char *loam_strndup(const char *text, size_t bytes_max) {
    size_t length = strnlen(text, bytes_max);
    char *made = loam_alloc_leaf(length + 1);
    if (made != NULL) {
        memcpy(made, text, length);
        made[length] = '\0';
    }
    return made;
}

char *loam_strdup(const char *text) {
    size_t bytes = strlen(text) + 1;
    char *made = loam_alloc_leaf(bytes);
    return made == NULL ? NULL : memcpy(made, text, bytes);
}

// Whether and how often warnings are printed is known when the options have
// been read.
static COLD void loam_report(const char *function, const void *pointer,
                             const void *caller) {
    if (!init_state.read) {
        (void)init_ready();
    }
    report_misuse(function, pointer, caller);
}

// The object that starts at p and is the caller's alone to free: a counted one
// may have other owners.
static bool loam_find(const void *p, struct place *place) {
    return object_is_start(p, place) && !block_kind_is_counted(place->kind);
}

void *loam_realloc(void *p, size_t bytes) {
    if (p == NULL) {
        return loam_alloc(bytes);
    }
    struct place place;
    if (!loam_find(p, &place)) {
        loam_report("loam_realloc", p, __builtin_return_address(0));
        error_set_invalid();
        return NULL;
    }
    if (bytes == 0) {
        (void)object_free(&place);
        return NULL;
    }
    return resize_object(&place, bytes);
}

static NOINLINE void loam_free_slowly(void *p, const void *caller) {
    int error = error_save();
    struct place place;
    if (!loam_find(p, &place) || !object_free(&place)) {
        loam_report("loam_free", p, caller);
    }
    error_restore(error);
}

void loam_free(void *p) {
    if (UNLIKELY(!object_free_quick(p)) && p != NULL) {
        loam_free_slowly(p, __builtin_return_address(0));
    }
}

size_t loam_usable_size(const void *p) {
    struct place place;
    if (!object_is_start(p, &place)) {
        return 0;
    }
    object_use_whole(&place);
    return object_bytes(&place);
}

bool loam_is_heap(const void *p) {
    struct place place;
    return object_find((uintptr_t)p, &place);
}

void *loam_base(const void *p) {
    struct place place;
    return object_find((uintptr_t)p, &place) ? (void *)object_start(&place)
                                             : NULL;
}

static bool loam_extent(const void *start, size_t bytes,
                        struct extent *extent) {
    extent->start = (uintptr_t)start;
    return bytes != 0 &&
           !bits_add_overflows(extent->start, bytes, &extent->end);
}

static bool loam_ranges_add(struct ranges *ranges, const void *start,
                            size_t bytes) {
    struct extent extent;
    struct mutator *mutator;
    if (!loam_extent(start, bytes, &extent) ||
        (mutator = init_lock()) == NULL) {
        return false;
    }
    bool added = ranges_add(ranges, extent);
    init_unlock(mutator);
    return added;
}

bool loam_roots_add(const void *start, size_t bytes) {
    return loam_ranges_add(&init_state.conductor.roots.added, start, bytes);
}

bool loam_roots_remove(const void *start, size_t bytes) {
    struct extent extent;
    struct mutator *mutator;
    if (!loam_extent(start, bytes, &extent) ||
        (mutator = init_lock()) == NULL) {
        return false;
    }
    bool removed;
    bool done =
        ranges_remove(&init_state.conductor.roots.added, extent, &removed);
    init_unlock(mutator);
    return done && removed;
}

bool loam_roots_exclude(const void *start, size_t bytes) {
    return loam_ranges_add(&init_state.conductor.roots.excluded, start, bytes);
}

bool loam_roots_scanner(loam_scanner_fn *scanner, void *data) {
    struct scanner item = {(void (*)(void))scanner, data};
    struct mutator *mutator;
    if (scanner == NULL || (mutator = init_lock()) == NULL) {
        return false;
    }
    bool added = ranges_add_scanner(&init_state.conductor.roots.scanners, item);
    init_unlock(mutator);
    return added;
}

bool loam_roots_scanner_remove(loam_scanner_fn *scanner, void *data) {
    struct scanner item = {(void (*)(void))scanner, data};
    struct mutator *mutator = init_lock();
    if (mutator == NULL) {
        return false;
    }
    bool removed =
        ranges_remove_scanner(&init_state.conductor.roots.scanners, item);
    init_unlock(mutator);
    return removed;
}

bool loam_collect(void) {
    bool done = init_collect(&init_state.home.collector);
    finalizer_poll();
    return done;
}

void loam_disable(void) {
    if (init_ready() != NULL) {
        __atomic_fetch_add(&init_state.conductor.disabled, 1, __ATOMIC_RELAXED);
    }
}

void loam_enable(void) {
    if (init_ready() == NULL) {
        return;
    }
    uint32_t *disabled = &init_state.conductor.disabled;
    uint32_t was = __atomic_load_n(disabled, __ATOMIC_RELAXED);
    while (was != 0 &&
           !__atomic_compare_exchange_n(disabled, &was, was - 1, true,
                                        __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    if (was == 0) {
        report_warning(REPORT_BALANCE,
                       "loam_enable without loam_disable; ignored");
    }
}

static size_t loam_committed_bytes(void) {
    return init_state.home.heap.region.committed_bytes + range.table_bytes +
           meta_bytes();
}

// With the lock: whether what is committed is below the new limit by now.
static bool loam_apply_limit(size_t bytes) {
    struct collector *collector = &init_state.home.collector;
    init_state.home.heap.region.limit_bytes = bytes;
    collector->pacer.limit_bytes = bytes;
    reserve_keep(&init_state.home.heap.region, 0);
    reserve_keep(&init_state.home.heap.region, RESERVE_BLOCKS);
    if (bytes == 0) {
        return true;
    }
    if (collector->pacer.goal_bytes > bytes) {
        collector->pacer.goal_bytes = bytes;
    }
    return loam_committed_bytes() <= bytes;
}

static bool loam_shrink_to(size_t bytes) {
    struct mutator *mutator = init_lock();
    if (mutator == NULL) {
        return false;
    }
    collect_trim(&init_state.home.collector);
    bool below = loam_committed_bytes() <= bytes;
    init_unlock(mutator);
    return below;
}

#define LOAM_RELIEVE_TIMES 4

// What caches let go of is free after one more collection, but for what shares
// its pages with others: so it is asked for again.
static bool loam_relieve_to(size_t bytes) {
    size_t (*relieve)(size_t) = init_state.conductor.relieve;
    bool below = false;
    for (unsigned i = 0; i < LOAM_RELIEVE_TIMES && !below; i++) {
        size_t committed = loam_committed_bytes();
        if (relieve == NULL || committed <= bytes ||
            relieve(committed - bytes) == 0) {
            break;
        }
        (void)loam_collect();
        below = loam_shrink_to(bytes);
    }
    return below;
}

bool loam_set_limit(size_t bytes) {
    struct mutator *mutator = init_lock();
    if (mutator == NULL) {
        return false;
    }
    bool below = loam_apply_limit(bytes);
    init_unlock(mutator);
    if (!below) {
        (void)loam_collect();
        below = loam_shrink_to(bytes) || loam_relieve_to(bytes);
    }
    return below;
}

void loam_stats(struct loam_stats *stats, size_t stats_bytes) {
    figures_copy(&init_state.home, stats, stats_bytes);
}

// At exit, after the program's own handlers.
__attribute__((destructor)) static void loam_exit(void) {
    if (init_state.built && init_state.options.stats) {
        struct loam_stats stats;
        figures_copy(&init_state.home, &stats, sizeof stats);
        report_exit(&stats, init_state.home.heap.holds);
        summary_say();
    }
}

void loam_set_warning_hook(loam_warning_fn *hook, void *data) {
    report_set_hook(hook, data);
}

void loam_set_shortage_hook(loam_shortage_fn *hook, void *data) {
    init_state.shortage = hook;
    init_state.shortage_data = data;
}
