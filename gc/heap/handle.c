#include "heap/handle.h"

#include "base/bits.h"
#include "base/check.h"
#include "heap/counted.h"
#include "heap/heap.h"
#include "heap/range.h"

_Static_assert(sizeof(struct handle) == 16, "four to a cache line");

// The counted object of a handle.
static const void *handle_object(const struct handle *handle) {
    unsigned kind = ENTRY_KIND(block_entry(handle->block));
    return (const void *)(block_cell_address(handle->block, handle->cell) +
                          block_kind_front(kind));
}

bool handle_is_counted_out(const struct handle *handle) {
    uint32_t flags = counted_flags(handle_object(handle));
    bool was_done = (handle->sort & HANDLE_DONE) != 0;
    bool is_short = (handle->sort & HANDLE_SORT_MASK) == HANDLE_SHORT;
    return (flags & (COUNTED_DEAD | COUNTED_CONDEMNED)) ||
           (is_short && !was_done && (flags & COUNTED_DONE));
}

void handle_set(struct handle *handle, uintptr_t target,
                const struct place *place) {
    ASSERT(target - place->start < place->bytes);
    handle_drop(handle); // N5: from here on it is empty
    handle->block = place->block;
    handle->cell = (uint16_t)place->cell;
    unsigned sort = handle->sort & HANDLE_SORT_MASK;
    if (block_kind_is_counted(place->kind)) {
        sort |= HANDLE_COUNTED;
        uint32_t flags = counted_flags(handle_object(handle));
        sort |= flags & COUNTED_DONE ? HANDLE_DONE : 0;
    }
    handle->sort = (uint16_t)sort;
    __atomic_store_n(&handle->target, target, __ATOMIC_RELEASE);
}

#define HANDLE_BATCH 64

// One walk over all handles, by batches: all marks of a batch are asked for
// before the first is read.
struct handle_walk {
    uint16_t sort;
    size_t cleared;
    handle_is_gone *is_gone; // NULL: what is not marked is gone
    void *data;
    struct handle *batch[HANDLE_BATCH];
    size_t count; // of the batch
};

// A handle that a wild store went through must not lead the walk astray.
static bool handle_is_sound(const struct handle *handle) {
    return handle->block < range_block_count() &&
           handle->cell < BLOCK_BYTES / GRANULE_BYTES;
}

static void handle_judge(struct handle_walk *walk) {
    for (size_t i = 0; i < walk->count; i++) {
        struct handle *handle = walk->batch[i];
        if (walk->is_gone != NULL
                ? walk->is_gone(handle->block, walk->data)
                : !block_is_marked(handle->block, handle->cell)) {
            handle_drop(handle); // N1
            walk->cleared++;
        } else {
            block_set_flags(handle->block, BLOCK_WATCHED); // N4
        }
    }
    walk->count = 0;
}

// The handles of one cell: one, or a row of them.
static void handle_clear_cell(struct handle_walk *walk, struct handle *first,
                              size_t count) {
    for (struct handle *handle = first; handle < first + count; handle++) {
        if (handle->target == 0 ||
            (handle->sort & HANDLE_SORT_MASK) != walk->sort ||
            !handle_is_sound(handle)) {
            continue;
        }
        PREFETCH(block_pair(handle->block, handle->cell / 64));
        walk->batch[walk->count++] = handle;
        if (walk->count == HANDLE_BATCH) {
            handle_judge(walk);
        }
    }
}

static void handle_clear_block(uint32_t block, void *data) {
    struct handle_walk *walk = data;
    if (ENTRY_KIND(block_entry(block)) != KIND_HANDLE) {
        return;
    }
    size_t count = block_cell_bytes(block) / sizeof(struct handle);
    for (size_t word = 0; word < block_words(block); word++) {
        uint64_t bits = block_pair(block, word)[1];
        for (; bits != 0; bits &= bits - 1) {
            uint32_t cell = (uint32_t)(word * 64 + bits_lowest(bits));
            handle_clear_cell(
                walk, (struct handle *)block_cell_address(block, cell), count);
        }
    }
    handle_judge(walk); // the caller may change the block next
}

size_t handle_clear(enum handle_sort sort) {
    struct handle_walk walk = {.sort = (uint16_t)sort};
    heap_each_block(handle_clear_block, &walk);
    return walk.cleared;
}

size_t handle_clear_gone(handle_is_gone *is_gone, void *data) {
    struct handle_walk walk = {.is_gone = is_gone, .data = data};
    for (unsigned sort = 0; sort < HANDLE_SORTS; sort++) {
        walk.sort = (uint16_t)sort;
        heap_each_block(handle_clear_block, &walk);
    }
    return walk.cleared;
}
