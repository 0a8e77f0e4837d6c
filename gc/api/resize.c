#include "api/resize.h"

#include <string.h>

#include "api/hold.h"
#include "api/init.h"
#include "api/object.h"
#include "base/bits.h"
#include "collect/refill.h"
#include "heap/block.h"
#include "heap/heap.h"
#include "heap/layout.h"
#include "os/error.h"
#include "roots/mutator.h"

// How the object is to be kept when it has `bytes` bytes.  Elements that are
// not a number of words have their pointers at other places in each element, so
// that several of them are scanned instead (api/typed.c).
static struct order resize_order(const struct place *place, size_t bytes) {
    struct order order = heap_order_of(place->block);
    if (order.kind == KIND_DESCRIBED) {
        const struct layout *layout = layout_get(order.layout);
        if (layout->element_bytes % WORD_BYTES != 0 &&
            layout->pointer_count != 0 && bytes > layout->element_bytes) {
            return (struct order){.kind = KIND_SCANNED};
        }
    }
    return order;
}

// Moves the bytes, and frees the old object: unless a shortage hook has freed
// it meanwhile, when the new one may even stand in its place.
static void resize_replace(void *old, void *moved, size_t bytes) {
    struct place place;
    if (moved != old && object_is_start(old, &place)) {
        memcpy(moved, old, bytes);
        (void)object_free(&place);
    }
}

// Whether what would be cut off is to be held: there are no objects but whole
// ones to hold, so it moves, and leaves all of the old run behind (RZ4).
static bool resize_holds(const struct place *place, size_t bytes) {
    return bytes < place->bytes && hold_is_on() &&
           place->kind == KIND_PINNED_LEAF;
}

// A run that stays where it is (RZ1); false, and nothing is done, if it cannot.
// What becomes part of it may have held something: all but pages that are fresh
// from the system is cleared where the kind wants that.
static bool resize_run(const struct place *place, size_t bytes) {
    if (ENTRY_CLASS(block_entry(place->block)) != CLASS_RUN_HEAD ||
        block_kind_is_counted(place->kind) || bytes <= CELL_BYTES_MAX ||
        resize_holds(place, bytes) ||
        resize_order(place, bytes).kind != place->kind) {
        return false;
    }
    struct mutator *mutator = init_ready();
    if (mutator == NULL || !init_is_free(mutator)) {
        return false;
    }
    mutator_enter(mutator);
    bool zero;
    bool stays = refill_resize_run(init_collector_of(place->block), mutator,
                                   place->block, bytes, &zero);
    init_leave(mutator);
    if (stays && bytes > place->bytes && !block_kind_is_leaf(place->kind)) {
        size_t blocks_end = bits_round_up(place->bytes, BLOCK_BYTES);
        size_t now = block_cell_bytes(place->block);
        size_t end = zero && blocks_end < now ? blocks_end : now;
        memset((char *)place->start + place->bytes, 0, end - place->bytes);
    }
    return stays;
}

// Another object for what is in this one; NULL when memory is short.
static void *resize_make(const struct place *place, size_t bytes) {
    struct collector *collector = init_collector_of(place->block);
    struct order order = resize_order(place, bytes);
    return bytes > place->bytes ? object_make_roomy(collector, bytes, order)
                                : object_make_in(collector, bytes, order);
}

void *resize_object(const struct place *place, size_t bytes) {
    void *old = (void *)place->start;
    bool zeroed = !block_kind_is_leaf(place->kind);
    size_t kept = bytes < place->bytes ? bytes : place->bytes;
    size_t held = place->bytes;
    if (!resize_fits(place, bytes)) {
        if (resize_run(place, bytes)) {
            held = block_cell_bytes(place->block);
        } else {
            int error = error_save();
            void *moved = resize_make(place, bytes);
            if (moved != NULL) {
                resize_replace(old, moved, kept);
                return moved;
            }
            if (bytes > place->bytes) {
                return NULL; // O3
            }
            error_restore(error);
        }
    }
    if (bytes == held) {
        object_use_whole(place);
    }
    if (zeroed && bytes < held) {
        // What is cut off must read zero if the object grows again.
        memset((char *)old + kept, 0, held - kept); // O2
    }
    return old;
}
