#include "heap/table.h"

#include "base/check.h"
#include "heap/meta.h"

#define TABLE_FIRST_CAPACITY ((size_t)(LOAM_TINY ? 2 : 32))

static size_t table_bytes(size_t capacity) {
    return sizeof(struct table_slots) + capacity * sizeof(struct table_slot);
}

// The slot of `key`, or the empty one where it belongs.
static struct table_slot *table_slot(struct table_slots *slots, uint64_t key) {
    size_t mask = slots->capacity - 1;
    size_t at = (size_t)(key * 0x9E3779B97F4A7C15u >> 32) & mask;
    while (slots->items[at].key != 0 && slots->items[at].key != key) {
        at = (at + 1) & mask;
    }
    return &slots->items[at];
}

void *table_find(const struct table *table, uint64_t key) {
    ASSERT(key != 0);
    return table->slots == NULL ? NULL : table_slot(table->slots, key)->value;
}

static bool table_grow(struct table *table) {
    struct table_slots *old = table->slots;
    size_t capacity = table_capacity(table);
    size_t grown = capacity == 0 ? TABLE_FIRST_CAPACITY : capacity * 2;
    struct table_slots *bigger = meta_make(table_bytes(grown));
    if (bigger == NULL) {
        return false;
    }
    bigger->capacity = grown;
    for (size_t i = 0; i < capacity; i++) {
        if (old->items[i].key != 0) {
            *table_slot(bigger, old->items[i].key) = old->items[i];
        }
    }
    __atomic_store_n(&table->slots, bigger, __ATOMIC_RELEASE); // H4
    if (old != NULL) {
        meta_free(old, table_bytes(capacity));
    }
    return true;
}

bool table_put(struct table *table, uint64_t key, void *value) {
    ASSERT(key != 0 && value != NULL);
    if ((table->count + 1) * 4 > table_capacity(table) * 3 &&
        !table_grow(table)) {
        return false; // H2, H3
    }
    struct table_slot *slot = table_slot(table->slots, key);
    table->count += slot->key == 0;
    __atomic_store_n(&slot->value, value, __ATOMIC_RELEASE);
    __atomic_store_n(&slot->key, key, __ATOMIC_RELEASE); // H4
    return true;
}

void table_drop(struct table *table, size_t value_bytes) {
    struct table_slots *slots = table->slots;
    __atomic_store_n(&table->slots, NULL, __ATOMIC_RELEASE);
    table->count = 0;
    for (size_t i = 0; slots != NULL && i < slots->capacity; i++) {
        if (slots->items[i].key != 0) {
            meta_free(slots->items[i].value, value_bytes);
        }
    }
    if (slots != NULL) {
        meta_free(slots, table_bytes(slots->capacity));
    }
}
