#include "api/object.h"

#include <string.h>

#include "api/init.h"
#include "collect/collect.h"
#include "collect/refill.h"
#include "heap/block.h"
#include "heap/blockmap.h"
#include "heap/cache.h"
#include "heap/layout.h"
#include "heap/shelf.h"
#include "heap/sizeclass.h"
#include "os/error.h"
#include "roots/mutator.h"

// Above this size a cell shares its span with few others, if with any.
#define OBJECT_RUN_BYTES (28 * KiB)
// A span may be this part of what is in blocks.
#define OBJECT_RUN_SHARE 64

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

// What is asked for, on its way up the ladder.
struct object_request {
    size_t bytes, alignment;
    struct order order;
    struct cache *cache; // NULL: a run
    void *object;        // the answer
};

static void object_climb(void *data) {
    struct object_request *request = data;
    struct collector *collector = &init_state.collector;
    if (request->cache != NULL) {
        request->object = refill_cell(collector, request->cache);
    } else {
        request->object = refill_run(collector, request->order, request->bytes,
                                     request->alignment);
    }
}

// Cells of 32 KiB and more come in spans of up to 448 KiB.  In a small heap a
// span for each of their classes would be most of it: there they are runs.
static bool object_is_run(const struct object_request *request) {
    unsigned cls = request->order.cls;
    size_t span_bytes = sizeclass_table[cls].blocks * BLOCK_BYTES;
    return cls == CLASS_FREE ||
           (request->bytes > OBJECT_RUN_BYTES &&
            heap_block_bytes(&init_state.heap) / OBJECT_RUN_SHARE < span_bytes);
}

// The class that serves a request, or CLASS_FREE if none does.
static unsigned object_class(size_t bytes, size_t alignment) {
    if (alignment > GRANULE_BYTES) {
        return sizeclass_find_aligned(bytes, alignment);
    }
    return bytes <= CELL_BYTES_MAX ? sizeclass_of(bytes) : CLASS_FREE;
}

// The cache may have told another block, which it left for the one that serves
// the request in the end, or that it had when a cycle began.
static void object_note(const struct object_request *request) {
    struct place place;
    if (request->cache != NULL && request->bytes == request->cache->bytes &&
        blockmap_object((uintptr_t)request->object, &place) != NULL) {
        object_use_whole(&place);
    }
}

static void *object_serve(struct object_request *request) {
    struct mutator *mutator = init_ready();
    if (mutator != NULL && request->bytes <= PTRDIFF_MAX) {
        request->order.cls = object_class(request->bytes, request->alignment);
        if (!object_is_run(request)) {
            request->cache = object_cache(mutator, request->order);
            request->object = cache_take_for(request->cache, request->bytes);
            if (request->object == NULL) {
                request->object =
                    refill_quick(&init_state.collector, request->cache);
            }
        }
        if (request->object == NULL) {
            collect_enter(&init_state.collector, object_climb, request);
        }
        object_note(request);
    }
    if (request->object == NULL) {
        error_set_no_memory(); // O3
    }
    return request->object;
}

void *object_make(size_t bytes, struct order order) {
    void *cell =
        order.kind != KIND_DESCRIBED ? object_take(bytes, order.kind) : NULL;
    if (LIKELY(cell != NULL)) {
        return cell;
    }
    struct object_request request = {bytes, 1, order, NULL, NULL};
    return object_serve(&request);
}

void *object_make_aligned(size_t bytes, size_t alignment) {
    struct order order = {.kind = KIND_SCANNED};
    struct object_request request = {bytes + (bytes == 0), alignment, order,
                                     NULL, NULL};
    return object_serve(&request);
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

void object_use_whole(const struct place *place) {
    block_get(place->block)->flags |= BLOCK_EXACT; // B12 of heap/block.h
}

// Whether the object may stay in its cell: it fits, and half of the cell or
// more is used.
static bool object_fits(const struct place *place, size_t bytes) {
    return bytes <= place->bytes &&
           (bytes > place->bytes / 2 || place->bytes <= 2 * GRANULE_BYTES);
}

// Moves the bytes, and frees the old object: unless a shortage hook has freed
// it meanwhile, when the new one may even stand in its place.
static void object_replace(void *old, void *moved, size_t bytes) {
    struct place place;
    if (moved != old && object_is_start(old, &place)) {
        memcpy(moved, old, bytes);
        object_free(&place);
    }
}

void *object_resize(const struct place *place, size_t bytes) {
    void *old = (void *)place->start;
    bool zeroed = !block_kind_is_leaf(place->kind);
    size_t kept = bytes < place->bytes ? bytes : place->bytes;
    if (!object_fits(place, bytes)) {
        int error = error_save();
        void *moved = object_make(bytes, object_order_for(place, bytes));
        if (moved != NULL) {
            object_replace(old, moved, kept);
            return moved;
        }
        if (bytes > place->bytes) {
            return NULL; // O3
        }
        error_restore(error);
    }
    if (bytes == place->bytes) {
        object_use_whole(place);
    }
    if (zeroed) {
        // What is cut off must read zero if the object grows again.
        memset((char *)old + kept, 0, place->bytes - kept); // O2
    }
    return old;
}
