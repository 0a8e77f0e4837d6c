// loam — as its header tells a user to use it.

#include <loam.h>
#include <loam/threads.h>
#include <loam/typed.h>
#include <stdio.h>
#include <stdlib.h>

#define SHIM_MANUAL   0
#define SHIM_COLLECTS 1

struct shim_layout {
    const struct loam_layout *layout;
};

static uint64_t loam_shim_floor_bytes;

static inline struct loam_stats loam_shim_stats(void) {
    struct loam_stats stats;
    loam_stats(&stats, sizeof stats);
    return stats;
}

static inline void shim_open(struct shim_limits limits) {
    if (!loam_init()) {
        abort();
    }
    if (limits.limit_bytes != 0) {
        loam_set_limit(limits.limit_bytes);
    }
    loam_shim_floor_bytes = loam_shim_stats().next_bytes;
}

static inline void *shim_new(size_t bytes) {
    return loam_alloc(bytes);
}

static inline void *shim_raw(size_t bytes) {
    return loam_alloc(bytes);
}

static inline void *shim_leaf(size_t bytes) {
    return loam_alloc_leaf(bytes);
}

static inline void *shim_resize(void *p, size_t bytes) {
    return loam_realloc(p, bytes);
}

static inline void shim_dead(void *p) {
    (void)p;
}

static inline size_t shim_usable(void *p) {
    return loam_usable_size(p);
}

static inline struct shim_layout
shim_layout(size_t bytes, const size_t *offsets, size_t count) {
    return (struct shim_layout){loam_layout(bytes, offsets, count)};
}

static inline void *shim_typed(const struct shim_layout *layout) {
    return loam_alloc_typed(layout->layout);
}

static inline void shim_collect(void) {
    loam_collect();
}

static inline void shim_attach(void) {
    if (!loam_thread_attach()) {
        abort();
    }
}

static inline void shim_blocking(void *(*work)(void *), void *data) {
    loam_blocking_enter();
    work(data);
    loam_blocking_leave();
}

static inline struct shim_figures shim_figures(void) {
    struct loam_stats stats = loam_shim_stats();
    return (struct shim_figures){.heap_bytes = stats.heap_bytes_max,
                                 .block_bytes = stats.block_bytes,
                                 .metadata_bytes = stats.metadata_bytes,
                                 .floor_bytes = loam_shim_floor_bytes,
                                 .collections = stats.collections,
                                 .live_bytes = stats.live_bytes,
                                 .collect_ns = stats.pause_ns_total,
                                 .mark_ns = stats.mark_ns_total,
                                 .pause_ns = stats.pause_ns,
                                 .stop_ns = stats.stop_ns};
}

static inline const char *shim_config(void) {
    static char text[64];
    const char *markers = getenv("LOAM_MARKERS");
    snprintf(text, sizeof text, "Loam %s, at most %s markers", loam_version(),
             markers == NULL ? "16" : markers);
    return text;
}

#ifdef SHIM_WEAK
#include "shims/loam_weak.h"
#endif
