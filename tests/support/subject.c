#include "support/subject.h"

#include "loam.h"
#include "loam/typed.h"

static const void *subject_layout(size_t bytes, const size_t *offsets,
                                  size_t count) {
    return loam_layout(bytes, offsets, count);
}

static void *subject_alloc_typed(const void *layout, size_t count) {
    return count == 1 ? loam_alloc_typed(layout)
                      : loam_calloc_typed(layout, count);
}

static void subject_collect(void) {
    (void)loam_collect();
}

static uint64_t subject_live_objects(void) {
    struct loam_stats stats;
    loam_stats(&stats, sizeof stats);
    return stats.live_objects;
}

static uint64_t subject_neighbours(void) {
    struct loam_stats stats;
    loam_stats(&stats, sizeof stats);
    return stats.neighbour_objects;
}

static uint64_t subject_collections(void) {
    struct loam_stats stats;
    loam_stats(&stats, sizeof stats);
    return stats.collections;
}

const struct subject subject_loam = {
    .name = "loam",
    .alloc = loam_alloc,
    .alloc_leaf = loam_alloc_leaf,
    .alloc_pinned = loam_alloc_pinned,
    .alloc_leaf_pinned = loam_alloc_leaf_pinned,
    .alloc_base_only = loam_alloc_base_only,
    .alloc_aligned = loam_alloc_aligned,
    .layout = subject_layout,
    .alloc_typed = subject_alloc_typed,
    .realloc = loam_realloc,
    .free = loam_free,
    .usable_size = loam_usable_size,
    .base = loam_base,
    .roots_add = loam_roots_add,
    .roots_remove = loam_roots_remove,
    .collect = subject_collect,
    .disable = loam_disable,
    .enable = loam_enable,
    .set_limit = loam_set_limit,
    .live_objects = subject_live_objects,
    .neighbours = subject_neighbours,
    .collections = subject_collections,
};
