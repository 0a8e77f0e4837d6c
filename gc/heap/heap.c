#include "heap/heap.h"

#include <string.h>

#include "base/bits.h"
#include "base/check.h"
#include "heap/block.h"
#include "heap/meta.h"
#include "heap/range.h"

#define HEAP_PAGE_BYTES ((size_t)4096) // the unit in which runs are counted

// The table of heaps.  Slots are taken and given under the lock, and read by
// whoever has an object of the heap, which lasts as long.
static struct {
    struct heap **slots; // meta memory; an older one is not given back
    size_t capacity;     // slots
} heaps;

#define HEAP_SLOTS_FIRST ((size_t)8)

static bool heap_grow_slots(void) {
    size_t grown = heaps.capacity == 0 ? HEAP_SLOTS_FIRST : heaps.capacity * 2;
    struct heap **slots = grown > UINT16_MAX + (size_t)1
                              ? NULL
                              : meta_make(grown * sizeof *slots);
    if (slots == NULL) {
        return false;
    }
    if (heaps.capacity != 0) {
        memcpy(slots, heaps.slots, heaps.capacity * sizeof *slots);
    }
    // Readers that have the old table see the same in it.
    __atomic_store_n(&heaps.slots, slots, __ATOMIC_RELEASE);
    __atomic_store_n(&heaps.capacity, grown, __ATOMIC_RELEASE);
    return true;
}

// A slot that no heap has, or the capacity.
static size_t heap_find_slot(void) {
    size_t slot = 1;
    while (slot < heaps.capacity && heaps.slots[slot] != NULL) {
        slot++;
    }
    return slot < heaps.capacity ? slot : heaps.capacity;
}

bool heap_init(struct heap *heap, struct heap *home) {
    size_t slot = home == NULL ? HEAP_SLOT_HOME : heap_find_slot();
    if (slot >= heaps.capacity && !heap_grow_slots()) {
        return false;
    }
    memset(heap, 0, sizeof *heap);
    region_init(&heap->region);
    heap->ground = home == NULL ? &heap->region : home->ground;
    heap->slot = (uint16_t)slot;
    __atomic_store_n(&heaps.slots[slot], heap, __ATOMIC_RELEASE);
    return true;
}

void heap_fini(struct heap *heap) {
    ASSERT(heap->used_blocks == 0);
    table_drop(&heap->described, sizeof(struct shelf));
    heaps.slots[heap->slot] = NULL;
}

struct heap *heap_find(size_t slot) {
    if (slot >= __atomic_load_n(&heaps.capacity, __ATOMIC_ACQUIRE)) {
        return NULL;
    }
    struct heap **slots = __atomic_load_n(&heaps.slots, __ATOMIC_ACQUIRE);
    return __atomic_load_n(&slots[slot], __ATOMIC_ACQUIRE);
}

struct heap *heap_get(uint32_t block) {
    struct heap **slots = __atomic_load_n(&heaps.slots, __ATOMIC_ACQUIRE);
    return slots[block_get(block)->heap];
}

bool heap_is_block_of(const struct heap *heap, uint32_t block) {
    unsigned entry = block_entry(block);
    unsigned cls = ENTRY_CLASS(entry);
    return cls != CLASS_FREE && cls != CLASS_RUN_TAIL &&
           ENTRY_INDEX(entry) == 0 && block_get(block)->heap == heap->slot;
}

struct order heap_order_of(uint32_t block) {
    unsigned entry = block_entry(block);
    return (struct order){ENTRY_KIND(entry), ENTRY_CLASS(entry),
                          block_get(block)->layout};
}

// Blocks that were taken are this heap's from now on.  Counted as if without
// the lock (heap_use_block).
static void heap_own(struct heap *heap, uint32_t block, size_t count) {
    __atomic_fetch_add(&heap->used_blocks, count, __ATOMIC_RELAXED);
    block_get(block)->heap = heap->slot;
}

// Blocks of the ground, for this heap.
static uint32_t heap_take_ground(struct heap *heap, size_t count,
                                 size_t alignment, bool *zero) {
    uint32_t block = region_take(heap->ground, count, alignment, zero);
    if (block != BLOCK_NONE) {
        heap_own(heap, block, count);
    }
    return block;
}

static uint64_t heap_described_key(struct order order) {
    return (uint64_t)order.layout << 8 | order.cls;
}

struct shelf *heap_find_shelf(struct heap *heap, struct order order) {
    if (order.kind == KIND_DESCRIBED) {
        return table_find(&heap->described, heap_described_key(order));
    }
    return &heap->shelves[order.kind][order.cls];
}

bool heap_add_described(struct heap *heap, struct order order) {
    ASSERT(order.kind == KIND_DESCRIBED && order.layout != 0);
    uint64_t key = heap_described_key(order);
    if (table_find(&heap->described, key) != NULL) {
        return true;
    }
    struct shelf *shelf = meta_make(sizeof *shelf);
    if (shelf == NULL) {
        return false;
    }
    if (!table_put(&heap->described, key, shelf)) {
        meta_free(shelf, sizeof *shelf);
        return false;
    }
    return true;
}

uint32_t heap_take_block(struct heap *heap, struct order order, bool tight,
                         uint32_t owner) {
    struct shelf *shelf = heap_find_shelf(heap, order);
    uint32_t block = tight ? shelf_take(shelf, SHELF_EMPTIEST, SHELF_TIGHT)
                           : shelf_take(shelf, SHELF_EMPTIEST, SHELF_QUARTER);
    if (block != BLOCK_NONE) {
        block_set_owner(block, owner);
        block_get(block)->cursor = 0;
    }
    return block;
}

static void heap_dress(uint32_t block, bool zero, struct order order,
                       uint32_t owner) {
    struct block *b = block_get(block);
    b->layout = (uint16_t)order.layout;
    block_set_owner(block, owner);
    b->flags = zero ? BLOCK_ZERO : 0; // B10
    block_format(block, order.cls, order.kind);
}

uint32_t heap_make_block(struct heap *heap, struct order order,
                         uint32_t owner) {
    bool zero;
    size_t count = sizeclass_table[order.cls].blocks;
    uint32_t block = heap_take_ground(heap, count, 1, &zero);
    if (block == BLOCK_NONE) {
        return BLOCK_NONE;
    }
    heap_dress(block, zero, order, owner);
    return block;
}

void heap_use_block(struct heap *heap, uint32_t block, bool zero,
                    struct order order, uint32_t owner) {
    heap_own(heap, block, sizeclass_table[order.cls].blocks);
    heap_dress(block, zero, order, owner);
}

static void heap_count_made(struct heap *heap, size_t bytes) {
    heap->allocated_bytes += bytes;
    heap->used_bytes += bytes;
}

// The bytes that a run is counted with.
static size_t heap_dress_run(uint32_t block, unsigned kind, size_t bytes) {
    size_t pages = bits_div_ceil(bytes, HEAP_PAGE_BYTES);
    block_format_run(block, bits_div_ceil(bytes, BLOCK_BYTES), pages, kind);
    block_set_hole(block, (struct hole){0, 1});
    return block_cell_bytes(block);
}

size_t heap_use_run(struct heap *heap, uint32_t block, unsigned kind,
                    size_t bytes) {
    heap_own(heap, block, bits_div_ceil(bytes, BLOCK_BYTES));
    return heap_dress_run(block, kind, bytes);
}

struct object *heap_make_run(struct heap *heap, unsigned kind, size_t bytes,
                             size_t alignment, bool *zero) {
    size_t wanted = bytes + block_kind_shift(kind);
    size_t pages = bits_div_ceil(wanted, HEAP_PAGE_BYTES);
    size_t count = bits_div_ceil(wanted, BLOCK_BYTES);
    if (pages > UINT32_MAX || count > UINT32_MAX) {
        return NULL;
    }
    size_t align = bits_div_ceil(alignment, BLOCK_BYTES);
    if (align > 1 && align > range_most_bytes() / BLOCK_BYTES) {
        return NULL;
    }
    uint32_t block = heap_take_ground(heap, count, align, zero);
    if (block == BLOCK_NONE) {
        return NULL;
    }
    heap_count_made(heap, heap_dress_run(block, kind, wanted));
    return (struct object *)block_first(block);
}

struct object *heap_make_roomy_run(struct heap *heap, unsigned kind,
                                   size_t bytes, bool *zero) {
    size_t count = bits_div_ceil(bytes, BLOCK_BYTES);
    uint32_t block = bytes > range_most_bytes() || block_kind_is_counted(kind)
                         ? BLOCK_NONE
                         : region_take_roomy(heap->ground, count, zero);
    if (block == BLOCK_NONE) {
        return heap_make_run(heap, kind, bytes, 1, zero);
    }
    heap_count_made(heap, heap_use_run(heap, block, kind, bytes));
    return (struct object *)block_first(block);
}

// Blocks that a run no longer has.
static void heap_cut_run(struct heap *heap, uint32_t block, size_t before,
                         size_t count) {
    block_cut_run(block, before, count);
    region_give(heap->ground, block + (uint32_t)count, before - count);
    __atomic_fetch_sub(&heap->used_blocks, before - count, __ATOMIC_RELAXED);
}

bool heap_resize_run(struct heap *heap, uint32_t block, size_t bytes,
                     bool *zero) {
    size_t pages = bits_div_ceil(bytes, HEAP_PAGE_BYTES);
    size_t count = bits_div_ceil(bytes, BLOCK_BYTES);
    size_t before = block_span(block);
    size_t held = block_cell_bytes(block);
    *zero = true;
    if (pages > UINT32_MAX ||
        (count > before &&
         !region_take_at(heap->ground, block + (uint32_t)before, count - before,
                         zero))) {
        return false;
    }
    if (count > before) {
        __atomic_fetch_add(&heap->used_blocks, count - before,
                           __ATOMIC_RELAXED);
        block_add_to_run(block, before, count);
    }
    block_set_pages(block, pages);
    if (count < before) {
        heap_cut_run(heap, block, before, count);
    }
    size_t now = block_cell_bytes(block);
    if (now > held) {
        heap_count_made(heap, now - held);
    } else {
        heap->freed_bytes += held - now;
        heap->used_bytes -= held - now;
    }
    return true;
}

void heap_describe_run(struct object *object, unsigned layout) {
    uint32_t block = range_block_of((uintptr_t)object);
    block_get(block)->layout = (uint16_t)layout;
}

void heap_release_block(struct heap *heap, uint32_t block) {
    ASSERT(block_get(block)->live == 0);
    ASSERT(block_get(block)->list == SHELF_NONE);
    size_t span = block_span(block);
    size_t words = block_words(block);
    for (size_t word = 0; word < words; word++) {
        uint64_t *pair = block_pair(block, word);
        ASSERT(pair[1] == 0);
        pair[0] = 0;
    }
    block_clear(block);
    region_give(heap->ground, block, span);
    __atomic_fetch_sub(&heap->used_blocks, span, __ATOMIC_RELAXED);
}

void heap_free_run(struct heap *heap, uint32_t block) {
    size_t bytes = block_cell_bytes(block);
    block_clear_hole(block, (struct hole){0, 1});
    heap_release_block(heap, block);
    heap->freed_bytes += bytes;
    heap->used_bytes -= bytes;
}

void heap_push_freed(struct heap *heap, uint32_t block) {
    uint32_t *link = &block_get(block)->next_freed;
    uint32_t head = __atomic_load_n(&heap->freed_blocks, __ATOMIC_RELAXED);
    do {
        __atomic_store_n(link, head, __ATOMIC_RELAXED);
    } while (!__atomic_compare_exchange_n(&heap->freed_blocks, &head, block,
                                          true, __ATOMIC_RELEASE,
                                          __ATOMIC_RELAXED));
}

uint32_t heap_take_freed(struct heap *heap) {
    if (__atomic_load_n(&heap->freed_blocks, __ATOMIC_RELAXED) == BLOCK_NONE) {
        return BLOCK_NONE;
    }
    return __atomic_exchange_n(&heap->freed_blocks, BLOCK_NONE,
                               __ATOMIC_ACQUIRE);
}

struct heap *heap_find_freed(uint32_t block) {
    struct heap *heap = heap_get(block);
    if (heap_is_block_of(heap, block)) {
        return heap;
    }
    block_forget_freed(block);
    return NULL;
}

// Before all blocks of the heap are drained: the stack may hold others that
// were this heap's once.
static void heap_clear_freed(struct heap *heap) {
    uint32_t block = heap_take_freed(heap);
    while (block != BLOCK_NONE) {
        uint32_t next = block_get(block)->next_freed;
        struct heap *other = heap_find_freed(block);
        if (other != NULL && other != heap) {
            heap_push_freed(other, block);
        }
        block = next;
    }
}

void heap_drain_block(struct heap *heap, uint32_t block) {
    struct block *b = block_get(block);
    ASSERT(b->owner == 0);
    uint32_t count = block_drain_freed(block, (struct hole){0, 0});
    size_t bytes = (size_t)count * block_cell_bytes(block);
    heap->freed_bytes += bytes;
    heap->used_bytes -= bytes;
    if (b->list != SHELF_NONE) {
        shelf_withdraw(heap_find_shelf(heap, heap_order_of(block)), block);
    }
    if (b->live == 0) {
        heap_release_block(heap, block);
    } else if (b->live < block_cells(block)) {
        heap_shelve(heap, block);
    }
}

void heap_shelve(struct heap *heap, uint32_t block) {
    struct shelf *shelf = heap_find_shelf(heap, heap_order_of(block));
    shelf_put(shelf, block);
}

void heap_disown(struct heap *heap, uint32_t block) {
    struct block *b = block_get(block);
    block_set_owner(block, 0);
    if (b->live == 0) {
        heap_release_block(heap, block);
    } else if (b->live < block_cells(block)) {
        heap_shelve(heap, block);
    }
}

static void heap_disown_block(uint32_t block, void *data) {
    const uint32_t *mutator = data;
    if (block_kind_is_counted(ENTRY_KIND(block_entry(block))) &&
        block_owner_mutator(block) == *mutator) {
        heap_disown(heap_get(block), block);
    }
}

void heap_disown_counted(uint32_t mutator) {
    heap_each_block(heap_disown_block, &mutator);
}

void heap_keep(struct heap *heap, uint32_t block) {
    const struct block *b = block_get(block);
    if (b->live == 0) {
        heap_release_block(heap, block);
        return;
    }
    block_set_owner(block, block_owner_mutator(block));
    if (b->live < block_cells(block)) {
        shelf_append(&heap->kept, block, SHELF_MINE);
    }
}

uint32_t heap_take_kept(struct heap *heap) {
    uint32_t block = heap->kept.head;
    if (block != BLOCK_NONE) {
        shelf_remove(&heap->kept, block);
    }
    return block;
}

void heap_each_block(heap_visit *visit, void *data) {
    uint32_t end = (uint32_t)range_block_count();
    uint32_t block = 1;
    while (block < end) {
        if (ENTRY_CLASS(block_entry(block)) == CLASS_FREE) {
            block++;
            continue;
        }
        // The visit may release the block.
        uint32_t span = (uint32_t)block_span(block);
        visit(block, data);
        block += span;
    }
}

static void heap_prepare_block(uint32_t block, void *data) {
    struct heap *heap = data;
    struct block *b = block_get(block);
    b->rescan = 0;
    if (b->heap != heap->slot) {
        block_mark_all(block); // E6
        return;
    }
    size_t freed =
        block_drain_freed(block, (struct hole){0, 0}) * block_cell_bytes(block);
    heap->freed_bytes += freed;
    heap->used_bytes -= freed;
    b->next_freed = BLOCK_NONE;
    if ((heap->holds && block_is_holding(block)) ||
        (heap->seeks && block_is_sought(block))) {
        block_unmark(block); // B15, B16: no roots, and what is in use stays
    } else {
        block_clear_marks(block);
    }
}

void heap_prepare(struct heap *heap) {
    heap_clear_freed(heap);
    heap_each_block(heap_prepare_block, heap);
}

struct heap_flip {
    struct heap *heap;
    struct census *census;
};

static uint32_t heap_flip_words(const struct heap *heap, uint32_t block,
                                uint32_t *held) {
    if (heap->holds && block_is_holding(block)) {
        return block_flip_held(block, held);
    }
    return heap->reclaims && block_is_sought(block) ? block_flip_lost(block)
                                                    : block_flip(block);
}

static void heap_flip_block(uint32_t block, void *data) {
    struct heap_flip *flip = data;
    struct census *census = flip->census;
    struct block *b = block_get(block);
    if (b->heap != flip->heap->slot) {
        return;
    }
    size_t bytes = block_cell_bytes(block);
    uint32_t held = 0;
    uint32_t dead = heap_flip_words(flip->heap, block, &held);
    census->held_objects += held;
    census->held_bytes += held * bytes;
    census->dead_objects += dead;
    census->dead_bytes += dead * bytes;
    if (flip->heap->holds && block_is_holding(block)) {
        census->let_go_bytes += dead * bytes;
    }
    census->live_objects += b->live;
    census->live_bytes += b->live * bytes;
    if (block_flags(block) & BLOCK_CURRENT) { // B9
        census->block_bytes += block_span(block) * BLOCK_BYTES;
        return;
    }
    b->list = SHELF_NONE;
    b->next = b->prev = BLOCK_NONE;
    if (b->live != 0) { // E4
        census->block_bytes += block_span(block) * BLOCK_BYTES;
    }
    if (block_kind_is_counted(ENTRY_KIND(block_entry(block))) &&
        block_owner(block) != 0) {
        heap_keep(flip->heap, block); // E3
    } else {
        heap_disown(flip->heap, block); // E3
    }
}

void heap_clear_shelves(struct heap *heap) {
    heap->kept = (struct shelf_ends){BLOCK_NONE, BLOCK_NONE};
    memset(heap->shelves, 0, sizeof heap->shelves);
    for (size_t i = 0; i < table_capacity(&heap->described); i++) {
        struct shelf *shelf = table_value(&heap->described, i);
        if (shelf != NULL) {
            memset(shelf, 0, sizeof *shelf);
        }
    }
}

void heap_flip(struct heap *heap, struct census *census) {
    memset(census, 0, sizeof *census);
    heap_clear_shelves(heap);
    struct heap_flip flip = {heap, census};
    heap_each_block(heap_flip_block, &flip);
    heap->collected_bytes += census->dead_bytes;
    heap->used_bytes -= census->dead_bytes;
}

static void heap_void_block(uint32_t block, void *data) {
    struct heap *heap = data;
    struct block *b = block_get(block);
    if (b->heap != heap->slot) {
        return;
    }
    size_t words = block_words(block);
    for (size_t word = 0; word < words; word++) {
        block_pair(block, word)[1] = 0;
    }
    (void)block_drain_freed(block, (struct hole){0, 0});
    b->live = 0;
    b->list = SHELF_NONE;
    heap_release_block(heap, block);
}

void heap_void(struct heap *heap) {
    heap_clear_freed(heap);
    heap_each_block(heap_void_block, heap);
    heap->collected_bytes += heap->used_bytes;
    heap->used_bytes = 0;
    memset(heap->shelves, 0, sizeof heap->shelves);
}
