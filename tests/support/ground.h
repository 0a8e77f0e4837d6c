// ground — a heap to build on, without the door.
//
// Unit tests of the floors above heap/ need objects of every kind in real
// blocks, and must know every root themselves.  ground_make takes a cell or a
// run straight from the heap; no ladder, no collection, no stack is involved.
// A program has one ground: the range is one a process.
//
// For tests that link modules of gc/; header only, since the archive of what
// tests share knows nothing of gc/.

#ifndef SUPPORT_GROUND_H
#define SUPPORT_GROUND_H

#include <string.h>

#include "base/check.h"
#include "heap/blockmap.h"
#include "heap/cache.h"
#include "heap/heap.h"
#include "heap/layout.h"
#include "roots/mutator.h"

struct ground {
    struct heap heap;
    struct mutator *mutator;
};

// False when the system refuses.
static inline bool ground_init(struct ground *ground, size_t range_bytes) {
    if (!range_init(range_bytes) || !heap_init(&ground->heap, NULL)) {
        return false;
    }
    ground->mutator = mutator_make(1, &ground->heap, false);
    return ground->mutator != NULL;
}

static inline struct object *ground_run(struct ground *ground, size_t bytes,
                                        struct order order) {
    bool zero;
    struct object *run =
        heap_make_run(&ground->heap, order.kind, bytes, 1, &zero);
    if (run == NULL) {
        return NULL;
    }
    if (order.layout != 0) {
        heap_describe_run(run, order.layout);
    }
    if (!zero) {
        memset((void *)run, 0, bytes);
    }
    return run;
}

// A cell of that kind and layout (0 unless described), zero unless a leaf; NULL
// when the range is full.  Of a counted kind it has its front in it.
static inline struct object *ground_make(struct ground *ground, size_t bytes,
                                         unsigned kind, unsigned layout) {
    struct order order = {kind, 0, layout};
    bool shifted = block_kind_shift(kind) != 0;
    if (bytes > (shifted ? SMALL_BYTES_MAX : CELL_BYTES_MAX)) {
        return ground_run(ground, bytes, order);
    }
    order.cls = shifted ? sizeclass_of_shifted(bytes) : sizeclass_of(bytes);
    if (kind == KIND_DESCRIBED && !heap_add_described(&ground->heap, order)) {
        return NULL;
    }
    struct cacheset *set = &ground->mutator->home;
    struct cache *cache = mutator_find_cache(set, order);
    if (cache == NULL) {
        cache = mutator_add_cache(ground->mutator, set, order);
    }
    struct object *cell = cache_take(cache);
    if (cell != NULL) {
        return cell;
    }
    if (!cache_refill(cache)) {
        uint32_t block =
            heap_make_block(&ground->heap, order, ground->mutator->id);
        if (block == BLOCK_NONE) {
            return NULL;
        }
        cache_adopt(cache, block);
        if (!cache_refill(cache)) {
            return NULL;
        }
    }
    return cache_take(cache);
}

// Where a pointer to an object, or into one, leads.
static inline struct place ground_place(const void *object) {
    struct place place;
    CHECK(blockmap_object((uintptr_t)object, &place) != NULL);
    return place;
}

// Whether the cell or run is marked, an object or not.
static inline bool ground_is_marked(const void *start) {
    struct place place;
    CHECK(blockmap_find((uintptr_t)start, &place));
    return block_is_marked(place.block, place.cell);
}

static inline void ground_tail_out(struct cache *cache, void *data) {
    (void)data;
    cache_tail_out(cache);
}

static inline void ground_tail_in(struct cache *cache, void *data) {
    cache_tail_in(cache, data, false);
}

// What the caches have tallied, into the sums of the heap.
static inline void ground_fold(struct ground *ground) {
    struct tally *tally = &ground->mutator->home.tally;
    ground->heap.allocated_bytes += tally->allocated_bytes;
    ground->heap.freed_bytes += tally->freed_bytes;
    ground->heap.used_bytes += tally->allocated_bytes - tally->freed_bytes;
    *tally = (struct tally){0, 0};
}

// Frees a cell by hand.
static inline void ground_free(struct ground *ground,
                               const struct place *place) {
    heap_clear_cell(place);
    ground->heap.freed_bytes += place->bytes;
    ground->heap.used_bytes -= place->bytes;
}

// As a cycle begins: tails out, marks clear.
static inline void ground_prepare(struct ground *ground) {
    mutator_each_cache(ground->mutator, NULL, ground_tail_out, NULL);
    ground_fold(ground);
    heap_prepare(&ground->heap);
}

// As it is given up, or ends: tails in.
static inline void ground_resume(struct ground *ground) {
    mutator_each_cache(ground->mutator, NULL, ground_tail_in, &ground->heap);
}

// As it ends: what is not marked is free, tails in.
static inline void ground_flip(struct ground *ground, struct census *census) {
    heap_flip(&ground->heap, census);
    uint32_t block = heap_take_kept(&ground->heap);
    for (; block != BLOCK_NONE; block = heap_take_kept(&ground->heap)) {
        CHECK(mutator_keep(ground->mutator, &ground->heap, block));
    }
    ground_resume(ground);
}

// A cycle in which nothing is marked: only what is pinned is left.
static inline void ground_clear(struct ground *ground) {
    struct census census;
    ground_prepare(ground);
    ground_flip(ground, &census);
}

#endif
