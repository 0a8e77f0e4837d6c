// typed — the door for objects whose pointers are known.
//
// The functions of loam/typed.h.  A struct loam_layout is a struct layout: the
// program sees only its address.
//
// Design, alternatives and measurements: docs/design/api/index.md

#include "loam/typed.h"

#include "api/finalizer.h"
#include "api/init.h"
#include "api/object.h"
#include "base/bits.h"
#include "heap/layout.h"
#include "heap/range.h"
#include "os/error.h"

const struct loam_layout *loam_layout(size_t bytes, const size_t *offsets,
                                      size_t count) {
    bool good = bytes != 0 && bytes <= PTRDIFF_MAX;
    for (size_t i = 0; good && i < count; i++) {
        good = offsets[i] % WORD_BYTES == 0 && bytes >= WORD_BYTES &&
               offsets[i] <= bytes - WORD_BYTES;
    }
    if (!good) {
        error_set_invalid();
        return NULL;
    }
    struct layout *layout = NULL;
    struct mutator *mutator = init_lock();
    // A bitmap for what no range could hold would only cost time.
    if (mutator != NULL && bytes <= range_most_bytes()) {
        layout = layout_make(bytes, offsets, count);
    }
    if (mutator != NULL) {
        init_unlock(mutator);
    }
    if (layout == NULL) {
        error_set_no_memory();
    }
    return (const struct loam_layout *)(const void *)layout;
}

// How `bytes` bytes of a layout are to be kept.
static struct order typed_order(struct layout *layout, size_t bytes) {
    // Elements that are not a number of words meet words at other places in
    // each element: such an array is scanned.
    bool plain = layout->element_bytes % WORD_BYTES != 0 &&
                 bytes > layout->element_bytes && layout->pointer_count != 0;
    if (plain) {
        return (struct order){.kind = KIND_SCANNED};
    }
    size_t plain_bytes =
        __atomic_load_n(&layout->plain_bytes, __ATOMIC_RELAXED);
    if (plain_bytes < LAYOUT_PLAIN_BYTES && bytes <= CELL_BYTES_MAX) {
        // Two threads at once may count one of the two: it is a threshold.
        __atomic_store_n(&layout->plain_bytes, plain_bytes + bytes,
                         __ATOMIC_RELAXED);
        return (struct order){.kind = KIND_SCANNED};
    }
    return (struct order){.kind = KIND_DESCRIBED, .layout = layout->id};
}

static struct layout *typed_layout(const struct loam_layout *layout) {
    return (struct layout *)(uintptr_t)layout;
}

static void *typed_make(struct layout *layout, size_t bytes) {
    void *made = object_make(bytes, typed_order(layout, bytes));
    finalizer_poll();
    return made;
}

void *loam_alloc_typed(const struct loam_layout *layout) {
    struct layout *known = typed_layout(layout);
    return typed_make(known, known->element_bytes);
}

void *loam_calloc_typed(const struct loam_layout *layout, size_t count) {
    struct layout *known = typed_layout(layout);
    size_t bytes;
    if (bits_mul_overflows(known->element_bytes, count, &bytes)) {
        error_set_no_memory();
        return NULL;
    }
    bytes += bytes == 0;
    return typed_make(known, bytes);
}
