#include "trace/ephemeron.h"

#include "base/bits.h"
#include "base/check.h"
#include "heap/heap.h"
#include "heap/meta.h"
#include "heap/range.h"

#define EPHEMERON_FIRST_CAPACITY ((size_t)(LOAM_TINY ? 1 : 64))

_Static_assert(sizeof(struct ephemeron) == 32, "two to a cache line");

bool ephemeron_reserve(struct ephemerons *ephemerons) {
    size_t made = ++ephemerons->made;
    if (made <= 2 * ephemerons->capacity) {
        return true;
    }
    // Between cycles all buckets are empty: nothing is to be moved.
    size_t capacity = ephemerons->capacity == 0 ? EPHEMERON_FIRST_CAPACITY
                                                : 2 * ephemerons->capacity;
    struct ephemeron **buckets =
        meta_make(capacity * sizeof *ephemerons->buckets);
    if (buckets != NULL) {
        meta_free(ephemerons->buckets,
                  ephemerons->capacity * sizeof *ephemerons->buckets);
        // In this order, for children from in between.
        __atomic_store_n(&ephemerons->buckets, buckets, __ATOMIC_RELEASE);
        __atomic_store_n(&ephemerons->capacity, capacity, __ATOMIC_RELEASE);
    }
    return ephemerons->capacity != 0;
}

void ephemeron_forked(struct ephemerons *ephemerons) {
    ephemerons->resolved = NULL;
    for (size_t i = 0; i < ephemerons->capacity; i++) {
        ephemerons->buckets[i] = NULL;
    }
}

void ephemeron_set(struct ephemeron *ephemeron, uintptr_t key,
                   const struct place *place, uintptr_t value) {
    ASSERT(key != 0);
    __atomic_store_n(&ephemeron->key, 0, __ATOMIC_RELAXED); // EP4
    __atomic_store_n(&ephemeron->value, value, __ATOMIC_RELEASE);
    ephemeron->block = place == NULL ? BLOCK_NONE : place->block;
    ephemeron->cell = place == NULL ? 0 : place->cell;
    __atomic_store_n(&ephemeron->key, key, __ATOMIC_RELEASE);
}

// A key that a wild store went through must not lead us astray.
static bool ephemeron_is_sound(const struct ephemeron *ephemeron) {
    return ephemeron->block < range_block_count() &&
           ephemeron->cell < BLOCK_BYTES / GRANULE_BYTES;
}

static struct ephemeron **ephemeron_bucket(const struct ephemerons *ephemerons,
                                           uint32_t block, uint32_t cell) {
    uint64_t key = (uint64_t)block << 16 | cell;
    uint64_t mixed = key * 0x9E3779B97F4A7C15u;
    return &ephemerons->buckets[(mixed >> 32) & (ephemerons->capacity - 1)];
}

static void ephemeron_resolve(struct ephemerons *ephemerons,
                              struct ephemeron *ephemeron) {
    ephemeron->link = ephemerons->resolved;
    ephemerons->resolved = ephemeron;
}

// A marked ephemeron whose key's mark is at hand.
static void ephemeron_look(struct ephemerons *ephemerons,
                           struct ephemeron *ephemeron) {
    ephemerons->looked_count++;
    if (ephemeron->block == BLOCK_NONE) { // EP5
        ephemeron_resolve(ephemerons, ephemeron);
        return;
    }
    block_set_flags(ephemeron->block, BLOCK_WATCHED);
    if (block_is_marked(ephemeron->block, ephemeron->cell)) {
        ephemeron_resolve(ephemerons, ephemeron);
        return;
    }
    struct ephemeron **bucket =
        ephemeron_bucket(ephemerons, ephemeron->block, ephemeron->cell);
    ephemeron->link = *bucket;
    *bucket = ephemeron;
}

static struct ephemeron *ephemeron_at(uint32_t block, uint32_t cell) {
    return (struct ephemeron *)block_cell_address(block, cell);
}

static bool ephemeron_is_used(const struct ephemeron *ephemeron) {
    return ephemeron->key != 0 && ephemeron_is_sound(ephemeron);
}

// The marked ephemerons among 64 cells: the marks of their keys are all asked
// for before the first is read.
static void ephemeron_look_word(struct ephemerons *ephemerons, uint32_t block,
                                size_t word) {
    struct ephemeron *found[64];
    size_t count = 0;
    uint64_t bits = block_pair(block, word)[0];
    for (; bits != 0; bits &= bits - 1) {
        uint32_t cell = (uint32_t)(word * 64 + bits_lowest(bits));
        struct ephemeron *ephemeron = ephemeron_at(block, cell);
        if (ephemeron_is_used(ephemeron)) {
            PREFETCH(block_pair(ephemeron->block, ephemeron->cell / 64));
            found[count++] = ephemeron;
        }
    }
    for (size_t i = 0; i < count; i++) {
        ephemeron_look(ephemerons, found[i]);
    }
}

static void ephemeron_look_block(uint32_t block, void *data) {
    if (ENTRY_KIND(block_entry(block)) == KIND_EPHEMERON) {
        for (size_t word = 0; word < block_words(block); word++) {
            ephemeron_look_word(data, block, word);
        }
    }
}

void ephemeron_begin(struct ephemerons *ephemerons) {
    ASSERT(ephemerons->resolved == NULL);
    ephemerons->visited_count = ephemerons->looked_count = 0;
    if (ephemerons->capacity != 0) {
        heap_each_block(ephemeron_look_block, ephemerons);
    }
}

// Hands on what is hung under a key.
static void ephemeron_wake(struct ephemerons *ephemerons, uint32_t block,
                           uint32_t cell) {
    struct ephemeron **at = ephemeron_bucket(ephemerons, block, cell);
    while (*at != NULL) {
        struct ephemeron *ephemeron = *at;
        ephemerons->visited_count++;
        if (ephemeron->block == block && ephemeron->cell == cell) {
            *at = ephemeron->link; // EP3
            ephemeron_resolve(ephemerons, ephemeron);
        } else {
            at = &ephemeron->link;
        }
    }
}

void ephemeron_marked(struct ephemerons *ephemerons, uint32_t block,
                      uint32_t cell) {
    if (ephemerons->capacity == 0) {
        return;
    }
    if (block_flags(block) & BLOCK_WATCHED) {
        ephemeron_wake(ephemerons, block, cell);
    }
    if (ENTRY_KIND(block_entry(block)) == KIND_EPHEMERON) {
        struct ephemeron *ephemeron = ephemeron_at(block, cell);
        if (ephemeron_is_used(ephemeron)) {
            ephemeron_look(ephemerons, ephemeron);
        }
    }
}

void ephemeron_finish(struct ephemerons *ephemerons) {
    ASSERT(ephemerons->resolved == NULL);
    ephemerons->cleared_count = 0;
    ephemerons->made = ephemerons->looked_count;
    for (size_t i = 0; i < ephemerons->capacity; i++) {
        struct ephemeron *next;
        struct ephemeron *ephemeron = ephemerons->buckets[i];
        for (; ephemeron != NULL; ephemeron = next) {
            next = ephemeron->link;
            ephemeron->key = ephemeron->value = 0; // EP2
            ephemeron->link = NULL;
            ephemerons->cleared_count++;
        }
        ephemerons->buckets[i] = NULL;
    }
}

struct ephemeron_gone {
    ephemeron_is_gone *is_gone;
    void *data;
};

static bool ephemeron_leads_to_gone(const struct ephemeron *ephemeron,
                                    const struct ephemeron_gone *gone) {
    struct place place;
    return (ephemeron->block != BLOCK_NONE &&
            gone->is_gone(ephemeron->block, gone->data)) ||
           (blockmap_find(ephemeron->value, &place) &&
            gone->is_gone(place.block, gone->data));
}

static void ephemeron_clear_block(uint32_t block, void *data) {
    if (ENTRY_KIND(block_entry(block)) != KIND_EPHEMERON) {
        return;
    }
    for (uint32_t cell = 0; cell < block_cells(block); cell++) {
        struct ephemeron *ephemeron = ephemeron_at(block, cell);
        if (block_is_allocated(block, cell) && ephemeron_is_used(ephemeron) &&
            ephemeron_leads_to_gone(ephemeron, data)) {
            ephemeron->key = ephemeron->value = 0;
        }
    }
}

void ephemeron_clear_gone(ephemeron_is_gone *is_gone, void *data) {
    struct ephemeron_gone gone = {is_gone, data};
    heap_each_block(ephemeron_clear_block, &gone);
}
