// bdwgc — Boehm's collector, as a user who knows it well would set it up.
//
// One marker, as Loam has one in this step; programs of several threads are
// also run with a marker for each core (GC_MARKERS, set by the harness).  A
// program of one thread says nothing about threads, and never takes the
// allocation lock.  A limit is both the initial and the greatest heap size, so
// that none of the allowed memory is left unused by its growth policy.
// COMPARE_BDWGC_TYPED=1 makes typed objects by its typed interface; 0, the
// default, makes them as ordinary ones, because that is the faster of the two
// (README.md, "Boehm's collector at its best").

#ifdef SHIM_THREADS
#define GC_THREADS
#endif
#include <gc/gc.h>
#include <gc/gc_typed.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SHIM_MANUAL   0
#define SHIM_COLLECTS 1

#ifndef COMPARE_BDWGC_TYPED
#define COMPARE_BDWGC_TYPED 0
#endif

struct shim_layout {
    size_t bytes;
    GC_descr descr;
};

static uint64_t bdwgc_collect_ns, bdwgc_mark_ns;
static uint64_t bdwgc_collect_start, bdwgc_mark_start;
static uint64_t bdwgc_stop_start, bdwgc_stop_ns, bdwgc_pause_ns;

static inline uint64_t bdwgc_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void bdwgc_event(GC_EventType event) {
    uint64_t now = bdwgc_now();
    if (event == GC_EVENT_START) {
        bdwgc_collect_start = now;
    } else if (event == GC_EVENT_MARK_START) {
        bdwgc_mark_start = now;
    } else if (event == GC_EVENT_MARK_END) {
        bdwgc_mark_ns += now - bdwgc_mark_start;
    } else if (event == GC_EVENT_END) {
        bdwgc_collect_ns += now - bdwgc_collect_start;
    } else if (event == GC_EVENT_PRE_STOP_WORLD) {
        bdwgc_stop_start = now;
    } else if (event == GC_EVENT_POST_STOP_WORLD) {
        bdwgc_stop_ns = now - bdwgc_stop_start;
    } else if (event == GC_EVENT_POST_START_WORLD) {
        bdwgc_pause_ns = now - bdwgc_stop_start;
    }
}

static inline void shim_open(struct shim_limits limits) {
    char text[32];
    if (limits.limit_bytes != 0) {
        snprintf(text, sizeof text, "%zu", limits.limit_bytes);
        setenv("GC_INITIAL_HEAP_SIZE", text, 1);
        setenv("GC_MAXIMUM_HEAP_SIZE", text, 1);
    }
    setenv("GC_MARKERS", "1", 0);
#ifdef SHIM_FORK
    GC_set_handle_fork(1);
#endif
    GC_set_warn_proc(GC_ignore_warn_proc);
    GC_INIT();
    GC_set_on_collection_event(bdwgc_event);
}

static inline void *shim_new(size_t bytes) {
    return GC_MALLOC(bytes);
}

static inline void *shim_raw(size_t bytes) {
    return GC_MALLOC(bytes);
}

static inline void *shim_leaf(size_t bytes) {
    return GC_MALLOC_ATOMIC(bytes);
}

static inline void *shim_resize(void *p, size_t bytes) {
    return GC_REALLOC(p, bytes);
}

static inline void shim_dead(void *p) {
    (void)p;
}

static inline size_t shim_usable(void *p) {
    return GC_size(p);
}

static inline struct shim_layout
shim_layout(size_t bytes, const size_t *offsets, size_t count) {
    GC_word map[8] = {0};
    for (size_t at = 0; at < count; at++) {
        GC_set_bit(map, offsets[at] / sizeof(GC_word));
    }
    size_t words = bytes / sizeof(GC_word);
    return (struct shim_layout){bytes, GC_make_descriptor(map, words)};
}

static inline void *shim_typed(const struct shim_layout *layout) {
    if (COMPARE_BDWGC_TYPED) {
        return GC_MALLOC_EXPLICITLY_TYPED(layout->bytes, layout->descr);
    }
    return GC_MALLOC(layout->bytes);
}

static inline void shim_collect(void) {
    GC_gcollect();
}

static inline void shim_attach(void) {
}

static inline void shim_blocking(void *(*work)(void *), void *data) {
    GC_do_blocking(work, data);
}

static inline struct shim_figures shim_figures(void) {
    uint64_t heap_bytes = GC_get_heap_size();
    return (struct shim_figures){.heap_bytes = heap_bytes,
                                 .block_bytes =
                                     heap_bytes - GC_get_free_bytes(),
                                 .collections = GC_get_gc_no(),
                                 .collect_ns = bdwgc_collect_ns,
                                 .mark_ns = bdwgc_mark_ns,
                                 .pause_ns = bdwgc_pause_ns,
                                 .stop_ns = bdwgc_stop_ns};
}

static inline const char *shim_config(void) {
    static char text[96];
    unsigned version = GC_get_version();
#ifdef SHIM_THREADS
    int markers = GC_get_parallel() + 1;
#else
    int markers = 1;
#endif
    snprintf(text, sizeof text,
             "libgc %u.%u.%u, %d marker%s, interior pointers %s%s",
             version >> 16, version >> 8 & 255, version & 255, markers,
             markers > 1 ? "s" : "",
             GC_get_all_interior_pointers() ? "on" : "off",
             COMPARE_BDWGC_TYPED ? ", typed" : "");
    return text;
}

#ifdef SHIM_WEAK
#include "shims/bdwgc_weak.h"
#endif
