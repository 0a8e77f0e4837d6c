#include "api/object.h"

#include <string.h>

#include "api/init.h"
#include "base/bits.h"
#include "base/check.h"
#include "collect/refill.h"
#include "heap/layout.h"
#include "os/error.h"

static void *object_make_run(size_t bytes, size_t alignment,
                             struct order order) {
    if (order.layout != 0 && order.kind != KIND_DESCRIBED) {
        order.layout = 0;
    }
    return refill_run(&init_state.collector, order, bytes, alignment);
}

// A described order whose shelf cannot be made is scanned instead: that is
// always sound.
static struct cache *object_cache(struct mutator *mutator, struct order order) {
    if (order.kind == KIND_DESCRIBED) {
        struct cache *cache = NULL;
        if (heap_add_described(&init_state.heap, order)) {
            cache = mutator_get_cache(mutator, 0, order);
        }
        if (cache != NULL) {
            return cache;
        }
        order.kind = KIND_SCANNED;
        order.layout = 0;
    }
    return mutator_get_cache(mutator, 0, order);
}

static void *object_make_cell(struct mutator *mutator, struct order order) {
    struct cache *cache = object_cache(mutator, order);
    void *cell = cache_take(cache);
    return cell != NULL ? cell : refill_cell(&init_state.collector, cache);
}

void *object_make(size_t bytes, struct order order) {
    struct mutator *mutator = init_ready();
    void *object = NULL;
    if (mutator != NULL && bytes <= CELL_BYTES_MAX) {
        order.cls = sizeclass_of(bytes);
        object = object_make_cell(mutator, order);
    } else if (mutator != NULL && bytes <= PTRDIFF_MAX) {
        object = object_make_run(bytes, 1, order);
    }
    if (object == NULL) {
        error_set_no_memory(); // O3
    }
    return object;
}

void *object_make_aligned(size_t bytes, size_t alignment) {
    struct order order = {.kind = KIND_SCANNED};
    bytes += bytes == 0;
    if (alignment <= GRANULE_BYTES) {
        return object_make(bytes, order);
    }
    struct mutator *mutator = init_ready();
    void *object = NULL;
    if (mutator != NULL && bytes <= PTRDIFF_MAX) {
        order.cls = sizeclass_find_aligned(bytes, alignment);
        object = order.cls != CLASS_FREE
                     ? object_make_cell(mutator, order)
                     : object_make_run(bytes, alignment, order);
    }
    if (object == NULL) {
        error_set_no_memory();
    }
    return object;
}

static struct order object_order(const struct place *place) {
    return (struct order){place->kind, ENTRY_CLASS(block_entry(place->block)),
                          block_get(place->block)->layout};
}

bool object_find(uintptr_t word, struct place *place) {
    if (blockmap_object(word, place) == NULL) {
        return false;
    }
    struct order order = object_order(place);
    if (order.cls > CLASS_LAST || init_mutator == NULL) {
        return true;
    }
    const struct cache *cache = mutator_find_cache(init_mutator, 0, order);
    return cache == NULL || !cache_has_tail(cache, place->start); // O1
}

bool object_is_start(const void *p, struct place *place) {
    return object_find((uintptr_t)p, place) && place->start == (uintptr_t)p;
}

void object_free(const struct place *place) {
    struct heap *heap = &init_state.heap;
    struct mutator *mutator = init_ready();
    // Inside a cycle nothing can be freed: the mark decides.
    if (mutator == NULL || init_state.collector.phase != COLLECT_IDLE) {
        return;
    }
    struct order order = object_order(place);
    if (order.cls > CLASS_LAST) {
        heap_free_run(heap, place->block);
        return;
    }
    struct block *b = block_get(place->block);
    if (b->owner == 0) {
        shelf_withdraw(heap_find_shelf(heap, order), place->block);
        b->owner = mutator->id;
        b->cursor = 0;
    }
    struct cache *cache = mutator_get_cache(mutator, 0, order);
    if (cache != NULL) {
        cache_free(cache, heap, place);
    } else {
        heap_free_cell(heap, place); // the next flip shelves the block
    }
}

// How the object is to be kept when it has `bytes` bytes.  Elements that are
// not a number of words have their pointers at other places in each element, so
// that several of them are scanned instead (api/typed.c).
static struct order object_order_for(const struct place *place, size_t bytes) {
    struct order order = object_order(place);
    if (order.kind == KIND_DESCRIBED) {
        const struct layout *layout = layout_get(order.layout);
        if (layout->element_bytes % WORD_BYTES != 0 &&
            layout->pointer_count != 0 && bytes > layout->element_bytes) {
            return (struct order){.kind = KIND_SCANNED};
        }
    }
    return order;
}

// Whether the object may stay in its cell: it fits, and half of the cell or
// more is used.
static bool object_fits(const struct place *place, size_t bytes) {
    return bytes <= place->bytes &&
           (bytes > place->bytes / 2 || place->bytes <= 2 * GRANULE_BYTES);
}

void *object_resize(const struct place *place, size_t bytes) {
    void *old = (void *)place->start;
    bool zeroed = !kind_is_leaf(place->kind);
    size_t kept = bytes < place->bytes ? bytes : place->bytes;
    if (!object_fits(place, bytes)) {
        int error = error_save();
        void *moved = object_make(bytes, object_order_for(place, bytes));
        if (moved != NULL) {
            memcpy(moved, old, kept);
            object_free(place);
            return moved;
        }
        if (bytes > place->bytes) {
            return NULL; // O3
        }
        error_restore(error);
    }
    if (zeroed) {
        // What is cut off must read zero if the object grows again.
        memset((char *)old + kept, 0, place->bytes - kept); // O2
    }
    return old;
}
