// table — from a number to a pointer.
//
// A small open-addressing table in meta memory, for registries that a cycle
// must be able to read without allocating: layouts, their shelves and caches.
// Keys are never removed: what is registered stays.
//
// Growth is published by one store, and a key after its value, so that a child
// that was forked in the middle of a change by another thread has the table
// from before or after it.
//
// Invariants
//   H1  found     table_find returns what table_put stored last under the key,
//                 and NULL for a key that was never stored
//   H2  growth    a table that could not grow still answers for all its keys
//   H3  room      at most three quarters of the slots are in use
//   H4  at once   whoever reads a table while table_put is stopped for ever
//                 finds all keys stored before, and perhaps that one
//
// Whoever owns the table guards it.
// Design, alternatives and measurements: docs/design/heap/table.md

#ifndef HEAP_TABLE_H
#define HEAP_TABLE_H

#include "base/defs.h"

struct table_slot {
    uint64_t key; // 0: empty
    void *value;  // not NULL if the slot is in use
};

struct table_slots {
    size_t capacity; // a power of two
    struct table_slot items[];
};

struct table {
    struct table_slots *slots; // meta memory; NULL: empty
    size_t count;              // in use
};

static inline size_t table_capacity(const struct table *table) {
    return table->slots == NULL ? 0 : table->slots->capacity;
}

// The value in slot `i` below the capacity, or NULL.
static inline void *table_value(const struct table *table, size_t i) {
    const struct table_slot *slot = &table->slots->items[i];
    return slot->key == 0 ? NULL : slot->value;
}

// The value of `key` (not 0), or NULL.
void *table_find(const struct table *table, uint64_t key);

// Stores `value` (not NULL) under `key` (not 0), over an older one if there is
// one; false, and nothing changed, when memory is short.
MUST_USE bool table_put(struct table *table, uint64_t key, void *value);

// Empties the table and frees its values, pieces of meta memory of that size.
void table_drop(struct table *table, size_t value_bytes);

#endif
