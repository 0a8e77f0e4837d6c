// subject_small — the small collector, as a subject.

#include "support/small.h"
#include "support/subject.h"

static const void *subject_small_layout(size_t bytes, const size_t *offsets,
                                        size_t count) {
    return small_layout(bytes, offsets, count);
}

static void *subject_small_alloc_typed(const void *layout, size_t count) {
    return small_alloc_typed(layout, count);
}

static void subject_small_free(void *p) {
    (void)small_free(p);
}

static uint64_t subject_small_live_objects(void) {
    return small_live_objects();
}

// Its objects do not touch: none begins where another ends.
static uint64_t subject_small_neighbours(void) {
    return 0;
}

static uint64_t subject_small_collections(void) {
    return small_collections();
}

const struct subject subject_small = {
    .name = "small",
    .alloc = small_alloc,
    .alloc_leaf = small_alloc_leaf,
    .alloc_pinned = small_alloc_pinned,
    .alloc_leaf_pinned = small_alloc_leaf_pinned,
    .alloc_base_only = small_alloc_base_only,
    .alloc_aligned = small_alloc_aligned,
    .layout = subject_small_layout,
    .alloc_typed = subject_small_alloc_typed,
    .realloc = small_realloc,
    .free = subject_small_free,
    .usable_size = small_usable_size,
    .base = small_base,
    .roots_add = small_roots_add,
    .roots_remove = small_roots_remove,
    .collect = small_collect,
    .disable = small_disable,
    .enable = small_enable,
    .set_limit = small_set_limit,
    .live_objects = subject_small_live_objects,
    .neighbours = subject_small_neighbours,
    .collections = subject_small_collections,
};
