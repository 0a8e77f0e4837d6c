#include "heap/layout.h"

#include <string.h>

#include "base/bitmap.h"
#include "base/check.h"
#include "heap/meta.h"
#include "heap/table.h"

#define LAYOUT_PAGE_IDS ((size_t)256)

static struct {
    struct table by_hash; // hash → first layout
    struct layout **by_id[LAYOUT_COUNT_MAX / LAYOUT_PAGE_IDS + 1]; // pages
    size_t count;
} layouts;

static uint64_t layout_hash(const struct layout *layout) {
    uint64_t hash = layout->element_bytes * 0x9E3779B97F4A7C15u;
    size_t words = bitmap_words(layout->element_words);
    for (size_t i = 0; i < words; i++) {
        hash = (hash ^ layout->pointer_bits[i]) * 0xD6E8FEB86659FD93u;
        hash ^= hash >> 32;
    }
    return hash | 1;
}

static bool layout_equal(const struct layout *a, const struct layout *b) {
    return a->element_bytes == b->element_bytes &&
           memcmp(a->pointer_bits, b->pointer_bits,
                  bitmap_words(a->element_words) * sizeof(uint64_t)) == 0;
}

// Where the layout of `id` is noted: ids come in pages, made when the first of
// them is needed and never moved, so that a reader needs no lock (D2).
static struct layout **layout_slot(size_t id) {
    struct layout ***page = &layouts.by_id[id / LAYOUT_PAGE_IDS];
    if (*page == NULL) {
        *page = meta_make(LAYOUT_PAGE_IDS * sizeof **page);
    }
    return *page == NULL ? NULL : &(*page)[id % LAYOUT_PAGE_IDS];
}

// Registers a new layout; false when memory or ids are used up.
static bool layout_register(struct layout *layout, uint64_t hash) {
    size_t id = layouts.count + 1;
    struct layout **slot = id <= LAYOUT_COUNT_MAX ? layout_slot(id) : NULL;
    if (slot == NULL) {
        return false;
    }
    // By hash last: a child must not find it before it has its id.
    layout->id = (uint32_t)id;
    *slot = layout;
    __atomic_store_n(&layouts.count, id, __ATOMIC_RELEASE);
    if (!table_put(&layouts.by_hash, hash, layout)) {
        __atomic_store_n(&layouts.count, id - 1, __ATOMIC_RELEASE);
        *slot = NULL;
        return false;
    }
    return true;
}

struct layout *layout_make(size_t bytes, const size_t *offsets, size_t count) {
    size_t words = bytes / WORD_BYTES;
    size_t made_bytes =
        sizeof(struct layout) + bitmap_words(words) * sizeof(uint64_t);
    struct layout *made = meta_make(made_bytes);
    if (made == NULL) {
        return NULL;
    }
    made->element_bytes = bytes;
    made->element_words = words;
    for (size_t i = 0; i < count; i++) {
        ASSERT(offsets[i] / WORD_BYTES < words); // D3
        bitmap_set(made->pointer_bits, offsets[i] / WORD_BYTES);
    }
    made->pointer_count = bitmap_count(made->pointer_bits, 0, words);
    uint64_t hash = layout_hash(made);
    struct layout *first = table_find(&layouts.by_hash, hash);
    for (struct layout *at = first; at != NULL; at = at->next) {
        if (layout_equal(at, made)) { // D1
            meta_free(made, made_bytes);
            return at;
        }
    }
    made->next = first;
    if (!layout_register(made, hash)) {
        meta_free(made, made_bytes);
        return NULL;
    }
    return made;
}

const struct layout *layout_get(unsigned id) {
    ASSERT(id >= 1 && id <= layouts.count);
    return layouts.by_id[id / LAYOUT_PAGE_IDS][id % LAYOUT_PAGE_IDS];
}
