#include "heap/table.h"

#include "base/check.h"
#include "heap/meta.h"

#define TABLE_FIRST_CAPACITY ((size_t)(LOAM_TINY ? 2 : 32))

// The slot of `key`, or the empty one where it belongs.
static struct table_slot *table_slot(const struct table *table, uint64_t key) {
    size_t mask = table->capacity - 1;
    size_t at = (size_t)(key * 0x9E3779B97F4A7C15u >> 32) & mask;
    while (table->slots[at].key != 0 && table->slots[at].key != key) {
        at = (at + 1) & mask;
    }
    return &table->slots[at];
}

void *table_find(const struct table *table, uint64_t key) {
    ASSERT(key != 0);
    return table->capacity == 0 ? NULL : table_slot(table, key)->value;
}

static bool table_grow(struct table *table) {
    struct table bigger = {.count = table->count};
    bigger.capacity =
        table->capacity == 0 ? TABLE_FIRST_CAPACITY : table->capacity * 2;
    bigger.slots = meta_make(bigger.capacity * sizeof *bigger.slots);
    if (bigger.slots == NULL) {
        return false;
    }
    for (size_t i = 0; i < table->capacity; i++) {
        if (table->slots[i].key != 0) {
            *table_slot(&bigger, table->slots[i].key) = table->slots[i];
        }
    }
    meta_free(table->slots, table->capacity * sizeof *table->slots);
    *table = bigger;
    return true;
}

bool table_put(struct table *table, uint64_t key, void *value) {
    ASSERT(key != 0 && value != NULL);
    if ((table->count + 1) * 4 > table->capacity * 3 && !table_grow(table)) {
        return false; // H2, H3
    }
    struct table_slot *slot = table_slot(table, key);
    table->count += slot->key == 0;
    slot->key = key;
    slot->value = value;
    return true;
}
