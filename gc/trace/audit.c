#include "trace/audit.h"

#include <string.h>

#include "base/bitmap.h"
#include "base/check.h"
#include "heap/block.h"
#include "heap/counted.h"
#include "heap/heap.h"
#include "heap/layout.h"
#include "heap/meta.h"
#include "heap/range.h"
#include "trace/ephemeron.h"

#define AUDIT_CELLS_PER_BLOCK (BLOCK_BYTES / GRANULE_BYTES)

bool audit_begin(struct audit *audit, const struct heap *heap,
                 audit_dead *is_dead) {
    *audit = (struct audit){.heap = heap, .is_dead = is_dead, .complete = true};
    audit->seen_bytes = (range_block_count() + 1) * AUDIT_CELLS_PER_BLOCK / 8;
    audit->capacity = META_MAP_BYTES / sizeof *audit->stack;
    audit->seen = meta_make(audit->seen_bytes);
    audit->stack = meta_make(audit->capacity * sizeof *audit->stack);
    if (audit->seen == NULL || audit->stack == NULL) {
        audit_end(audit);
        return false;
    }
    return true;
}

// An ephemeron that waits for its key, by the key's bit in `seen`.
struct audit_pending {
    size_t key;
    struct audit_word value;
    size_t first; // of the chain of this number, plus 1
    size_t next;  // in its own chain, plus 1
};

void audit_end(struct audit *audit) {
    meta_free(audit->pending, audit->pending_capacity * sizeof *audit->pending);
    meta_free(audit->seen, audit->seen_bytes);
    meta_free(audit->stack, audit->capacity * sizeof *audit->stack);
    audit->seen = NULL;
    audit->stack = NULL;
    audit->pending = NULL;
}

static void audit_push(struct audit *audit, struct audit_word word) {
    if (audit->count == audit->capacity) {
        size_t bytes = audit->capacity * sizeof *audit->stack;
        struct audit_word *bigger = meta_make(2 * bytes);
        if (bigger == NULL) {
            audit->complete = false; // Q3
            return;
        }
        memcpy(bigger, audit->stack, bytes);
        meta_free(audit->stack, bytes);
        audit->stack = bigger;
        audit->capacity *= 2;
    }
    audit->stack[audit->count++] = word;
}

// The head of the span or run that a block belongs to.
static uint32_t audit_head(uint32_t block) {
    unsigned entry = block_entry(block);
    if (ENTRY_CLASS(entry) == CLASS_RUN_TAIL) {
        return block - range.distances[block];
    }
    return block - ENTRY_INDEX(entry);
}

// An object by the numbers, and whether its words are to be read.
struct audit_object {
    uintptr_t start;
    size_t bytes;
    uint32_t block, cell;
};

static bool audit_find(uintptr_t word, struct audit_object *object) {
    if (word < range.base || word >= range.base + range.frontier_bytes) {
        return false;
    }
    uint32_t block = (uint32_t)((word - range.base) / BLOCK_BYTES);
    if (ENTRY_CLASS(block_entry(block)) == CLASS_FREE) {
        return false;
    }
    object->block = audit_head(block);
    object->bytes = block_cell_bytes(object->block);
    uintptr_t first = block_first(object->block);
    if (word < first) {
        return false;
    }
    size_t cell = (word - first) / object->bytes;
    if (cell >= block_cells(object->block)) {
        return false;
    }
    object->cell = (uint32_t)cell;
    object->start = first + cell * object->bytes;
    unsigned kind = ENTRY_KIND(block_entry(block));
    if (kind == KIND_BASE_ONLY && word >= object->start + BASE_ONLY_BYTES) {
        return false;
    }
    return block_is_allocated(object->block, object->cell);
}

static NO_SANITIZE uintptr_t audit_load(const uintptr_t *at) {
    return *at;
}

// A counted object that was destroyed, and that a buffer names still: what it
// led to is nobody's any more (CT5, Q7).
static bool audit_is_zombie(const struct audit_object *object, unsigned kind) {
    const char *start = (const char *)object->start;
    return block_kind_is_counted(kind) &&
           counted_type(start + block_kind_front(kind)) == COUNTED_ZOMBIE;
}

// Pushes the words of an object that may be pointers.
static void audit_scan(struct audit *audit, const struct audit_object *object) {
    unsigned kind = ENTRY_KIND(block_entry(object->block));
    if (!block_kind_is_read(kind) || audit_is_zombie(object, kind)) {
        return;
    }
    const uintptr_t *words = (const uintptr_t *)object->start;
    const struct layout *layout = NULL;
    if (kind == KIND_DESCRIBED) {
        layout = layout_get(block_get(object->block)->layout);
        if (layout->pointer_count == 0) {
            return;
        }
    }
    for (size_t i = 0; i < object->bytes / WORD_BYTES; i++) {
        if (layout == NULL ||
            bitmap_get(layout->pointer_bits, i % layout->element_words)) {
            audit_push(audit,
                       (struct audit_word){audit_load(&words[i]), &words[i]});
        }
    }
}

static size_t audit_bit(const struct audit_object *object) {
    return object->block * AUDIT_CELLS_PER_BLOCK + object->cell;
}

// An ephemeron that was reached: its value follows, now or with its key.
static void audit_hang(struct audit *audit, const struct audit_object *object) {
    const struct ephemeron *ephemeron = (struct ephemeron *)object->start;
    struct audit_word value = {ephemeron->value, &ephemeron->value};
    struct audit_object key;
    if (ephemeron->key == 0) {
        return;
    }
    if (!range_has(ephemeron->key)) {
        audit_push(audit, value);
        return;
    }
    if (!audit_find(ephemeron->key, &key)) {
        return; // freed by hand
    }
    if (block_get(key.block)->heap != audit->heap->slot ||
        bitmap_get(audit->seen, audit_bit(&key))) {
        audit_push(audit, value);
        return;
    }
    ASSERT(audit->pending_count < audit->pending_capacity);
    struct audit_pending *pending = &audit->pending[audit->pending_count++];
    pending->key = audit_bit(&key);
    pending->value = value;
    size_t chain = pending->key % audit->pending_capacity;
    pending->next = audit->pending[chain].first;
    audit->pending[chain].first = audit->pending_count;
}

// A key was reached.
static void audit_wake(struct audit *audit, size_t key) {
    size_t at = audit->pending[key % audit->pending_capacity].first;
    while (at != 0) {
        const struct audit_pending *pending = &audit->pending[at - 1];
        if (pending->key == key) {
            audit_push(audit, pending->value);
        }
        at = pending->next;
    }
}

static void audit_look(struct audit *audit, struct audit_word word) {
    struct audit_object object;
    if ((uintptr_t)word.at - audit->frames_start < audit->frames_bytes) {
        return; // Q6
    }
    if (!audit_find(word.word, &object) ||
        block_get(object.block)->heap != audit->heap->slot) {
        return;
    }
    size_t bit = audit_bit(&object);
    if (bitmap_get(audit->seen, bit)) {
        return;
    }
    if (!block_is_marked(object.block, object.cell)) {
        if (word.at != NULL && audit->is_dead != NULL &&
            audit->is_dead(word.at)) {
            return; // Q6
        }
        audit->first = audit->first.word == 0 ? word : audit->first; // Q5
    }
    bitmap_set(audit->seen, bit);
    audit->object_count++;
    audit_scan(audit, &object);
    if (audit->pending_capacity != 0) {
        audit_wake(audit, bit);
        if (ENTRY_KIND(block_entry(object.block)) == KIND_EPHEMERON) {
            audit_hang(audit, &object);
        }
    }
}

static void audit_drain(struct audit *audit) {
    while (audit->count != 0) {
        audit_look(audit, audit->stack[--audit->count]);
    }
}

void audit_word(struct audit *audit, uintptr_t word, const uintptr_t *at) {
    audit_look(audit, (struct audit_word){word, at});
    audit_drain(audit);
}

void audit_range(struct audit *audit, const uintptr_t *start,
                 const uintptr_t *end) {
    for (const uintptr_t *at = start; at < end; at++) {
        audit_word(audit, audit_load(at), at);
    }
}

static void audit_pinned_block(uint32_t block, void *data) {
    if (!block_kind_is_pinned(ENTRY_KIND(block_entry(block))) ||
        (heap_get(block)->holds && block_is_holding(block))) {
        return;
    }
    for (size_t cell = 0; cell < block_cells(block); cell++) {
        audit_word(data, block_cell_address(block, (uint32_t)cell), NULL);
    }
}

void audit_pinned(struct audit *audit) {
    heap_each_block(audit_pinned_block, audit);
}

struct audit_roots {
    struct audit *audit;
    const struct heap *heap;
};

static void audit_heap_block(uint32_t block, void *data) {
    const struct audit_roots *roots = data;
    if (block_get(block)->heap != roots->heap->slot) {
        return;
    }
    size_t bytes = block_cell_bytes(block);
    for (uint32_t cell = 0; cell < block_cells(block); cell++) {
        struct audit_object object = {block_cell_address(block, cell), bytes,
                                      block, cell};
        if (block_is_allocated(block, cell)) {
            audit_scan(roots->audit, &object);
            audit_drain(roots->audit);
        }
    }
}

void audit_heap(struct audit *audit, const struct heap *heap) {
    struct audit_roots roots = {audit, heap};
    heap_each_block(audit_heap_block, &roots);
}

static void audit_count_ephemerons(uint32_t block, void *data) {
    if (ENTRY_KIND(block_entry(block)) == KIND_EPHEMERON) {
        *(size_t *)data += block_cells(block);
    }
}

static void audit_ephemeron_block(uint32_t block, void *data) {
    struct audit *audit = data;
    if (ENTRY_KIND(block_entry(block)) != KIND_EPHEMERON) {
        return;
    }
    size_t bytes = block_cell_bytes(block);
    for (uint32_t cell = 0; cell < block_cells(block); cell++) {
        struct audit_object object = {block_cell_address(block, cell), bytes,
                                      block, cell};
        if (bitmap_get(audit->seen, audit_bit(&object))) {
            audit_hang(audit, &object);
        }
    }
}

void audit_ephemerons(struct audit *audit) {
    size_t count = 0;
    heap_each_block(audit_count_ephemerons, &count);
    if (count == 0) {
        return;
    }
    audit->pending = meta_make(count * sizeof *audit->pending);
    if (audit->pending == NULL) {
        audit->complete = false; // Q3
        return;
    }
    audit->pending_capacity = count;
    heap_each_block(audit_ephemeron_block, audit);
    audit_drain(audit);
}

struct audit_missed {
    const struct audit *audit;
    size_t count;
    uintptr_t example;
};

static void audit_compare_block(uint32_t block, void *data) {
    struct audit_missed *missed = data;
    // Where what is freed is held, nothing else need be marked.
    bool holds = missed->audit->heap->holds && block_is_holding(block);
    for (uint32_t cell = 0; cell < block_cells(block); cell++) {
        size_t bit = block * AUDIT_CELLS_PER_BLOCK + cell;
        if (bitmap_get(missed->audit->seen, bit) &&
            !block_is_marked(block, cell) &&
            (!holds || block_is_freed(block, cell))) {
            missed->count++;
            missed->example = block_cell_address(block, cell);
        }
    }
}

size_t audit_compare(const struct audit *audit, uintptr_t *example) {
    struct audit_missed missed = {audit, 0, 0};
    heap_each_block(audit_compare_block, &missed);
    *example = missed.example;
    return missed.count;
}
