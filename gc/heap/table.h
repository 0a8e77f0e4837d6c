// table — from a number to a pointer.
//
// A small open-addressing table in meta memory, for registries that a cycle
// must be able to read without allocating: layouts, their shelves and caches.
// Keys are never removed: what is registered stays.
//
// Invariants
//   H1  found     table_find returns what table_put stored last under the key,
//                 and NULL for a key that was never stored
//   H2  growth    a table that could not grow still answers for all its keys
//   H3  room      at most three quarters of the slots are in use
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

struct table {
    struct table_slot *slots; // meta memory
    size_t capacity;          // slots, a power of two or 0
    size_t count;             // in use
};

// The value of `key` (not 0), or NULL.
void *table_find(const struct table *table, uint64_t key);

// Stores `value` (not NULL) under `key` (not 0), over an older one if there is
// one; false, and nothing changed, when memory is short.
MUST_USE bool table_put(struct table *table, uint64_t key, void *value);

#endif
