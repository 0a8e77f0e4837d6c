#include "api/map.h"

#include <string.h>

#include "api/init.h"
#include "api/object.h"
#include "base/bits.h"
#include "base/check.h"
#include "base/hash.h"
#include "collect/settle.h"
#include "heap/block.h"
#include "heap/blockmap.h"
#include "heap/handle.h"
#include "os/error.h"
#include "rc/explain.h"
#include "trace/ephemeron.h"

// Finalizers do not run here: they might use the very map.
static void *map_alloc(size_t bytes, unsigned kind) {
    void *cell = object_take(bytes, kind);
    if (cell == NULL) {
        cell = object_make_in(&init_state.home.collector, bytes,
                              (struct order){.kind = kind});
    }
    return cell;
}

struct map *map_make(unsigned sort) {
    struct map *map = map_alloc(sizeof *map, KIND_SCANNED);
    if (map != NULL) {
        map->sort = sort;
    }
    return map;
}

static uint64_t map_hash(const struct map *map, const void *key) {
    uint64_t hash = map->sort == MAP_TEXTS ? hash_bytes(key, strlen(key))
                                           : hash_word((uintptr_t)key);
    return hash >> 32;
}

// Whether a counted object has begun to die: its cell waits for a cycle, for it
// was watched.
static bool map_is_dead(uint32_t block, uint32_t cell) {
    size_t front = block_kind_front(ENTRY_KIND(block_entry(block)));
    uint32_t flags =
        counted_flags((void *)(block_cell_address(block, cell) + front));
    return (flags & (COUNTED_DEAD | COUNTED_CONDEMNED)) != 0;
}

// The same of the key of an ephemeron, whatever it is.
static bool map_key_is_dead(const struct ephemeron *ephemeron) {
    return ephemeron->block != BLOCK_NONE &&
           block_kind_is_counted(ENTRY_KIND(block_entry(ephemeron->block))) &&
           map_is_dead(ephemeron->block, ephemeron->cell);
}

static bool map_value_is_dead(uintptr_t value) {
    struct place place;
    return explain_is_used() && blockmap_object(value, &place) != NULL &&
           block_kind_is_counted(place.kind) &&
           map_is_dead(place.block, place.cell);
}

// The value of a cell whose entry lives; *key_word is set for weak keys.
static bool map_cell_lives(const struct map *map, const void *cell,
                           uintptr_t *key_word, uintptr_t *value) {
    if (map->sort != MAP_WEAK_KEYS) {
        *value = handle_get(cell);
        return *value != 0;
    }
    const struct ephemeron *ephemeron = cell;
    // Whether it was freed is asked first, for a stop takes the answer away and
    // clears the key.  Then the key: from there on it is held, and the value.
    bool is_freed = ephemeron->block != BLOCK_NONE &&
                    block_is_freed(ephemeron->block, ephemeron->cell);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    *key_word = __atomic_load_n(&ephemeron->key, __ATOMIC_ACQUIRE);
    *value = __atomic_load_n(&ephemeron->value, __ATOMIC_ACQUIRE);
    return *key_word != 0 && !is_freed && !map_key_is_dead(ephemeron) &&
           !map_value_is_dead(*value); // MA7
}

static bool map_slot_is(const struct map *map, const struct map_slot *slot,
                        const void *key) {
    if (map->sort == MAP_TEXTS) {
        return strcmp((const char *)slot->key, key) == 0;
    }
    if (map->sort == MAP_WORDS) {
        return slot->key == ~(uintptr_t)key;
    }
    const struct ephemeron *ephemeron = slot->cell;
    return ephemeron->key == (uintptr_t)key;
}

static bool map_slot_lives(const struct map *map, const struct map_slot *slot,
                           uintptr_t *key_word, uintptr_t *value) {
    return slot->cell != NULL &&
           map_cell_lives(map, slot->cell, key_word, value);
}

struct map_slot *map_find(const struct map *map, const void *key) {
    struct map_table *table = map->table;
    if (table == NULL) {
        return NULL;
    }
    uint64_t hash = map_hash(map, key);
    uintptr_t key_word, value;
    for (size_t at = hash & table->mask; table->index[at] != 0;
         at = (at + 1) & table->mask) {
        struct map_slot *slot = &table->slots[table->index[at] - 1];
        if (slot->hash == hash &&
            map_slot_lives(map, slot, &key_word, &value) &&
            map_slot_is(map, slot, key)) {
            return slot; // MA1
        }
    }
    return NULL;
}

static void map_index(struct map_table *table, size_t slot) {
    size_t at = table->slots[slot].hash & table->mask;
    while (table->index[at] != 0) {
        at = (at + 1) & table->mask;
    }
    table->index[at] = (uint32_t)(slot + 1);
}

static struct map_table *map_make_table(size_t capacity) {
    if (capacity > UINT32_MAX / 4) {
        return NULL;
    }
    size_t index_count = 2 * capacity;
    struct map_table *table = map_alloc(
        sizeof *table + capacity * sizeof *table->slots, KIND_SCANNED);
    if (table == NULL) {
        return NULL;
    }
    table->index = map_alloc(index_count * sizeof *table->index, KIND_LEAF);
    if (table->index == NULL) {
        return NULL;
    }
    memset(table->index, 0, index_count * sizeof *table->index);
    table->mask = index_count - 1;
    table->capacity = capacity;
    return table;
}

// A table with room, for those that live.
static bool map_renew(struct map *map) {
    size_t count = map_count(map);
    size_t capacity = (size_t)1 << bits_log2_ceil(2 * count + 1);
    if (capacity < MAP_FIRST_CAPACITY) {
        capacity = MAP_FIRST_CAPACITY; // MA6
    }
    struct map_table *renewed = map_make_table(capacity);
    if (renewed == NULL) {
        return false; // MA5
    }
    const struct map_table *table = map->table;
    uintptr_t key_word, value;
    for (size_t i = 0; table != NULL && i < table->used; i++) {
        if (map_slot_lives(map, &table->slots[i], &key_word, &value)) {
            CHECK(renewed->used < renewed->capacity);
            renewed->slots[renewed->used] = table->slots[i];
            map_index(renewed, renewed->used);
            renewed->used++;
        }
    }
    __atomic_store_n(&map->table, renewed, __ATOMIC_RELEASE); // MA4
    return true;
}

// The place of a word that leads to an object of ours; NULL if it does not.
static const struct place *map_place(const void *p, struct place *place) {
    return blockmap_object((uintptr_t)p, place) != NULL ? place : NULL;
}

void map_watch_block(uint32_t block) {
    struct mutator *mutator = init_lock();
    block_set_flags(block, BLOCK_WATCHED);
    if (mutator != NULL) {
        init_unlock(mutator);
    }
}

// What collections need for one more entry.
static bool map_reserve(const struct map *map) {
    struct settle *settle = &init_state.conductor.settle;
    if (map->sort != MAP_WEAK_KEYS &&
        __atomic_load_n(&settle->handles, __ATOMIC_ACQUIRE)) {
        return true;
    }
    struct mutator *mutator = init_lock();
    if (mutator == NULL) {
        return false;
    }
    bool reserved = map->sort == MAP_WEAK_KEYS ? settle_use_ephemeron(settle)
                                               : settle_use_handles(settle);
    init_unlock(mutator);
    if (!reserved) {
        error_set_no_memory();
    }
    return reserved;
}

// A value that counts its owners: where it dies, its entry is gone.
static void map_watch_value(uintptr_t value) {
    struct place place;
    if (explain_is_used() && blockmap_object(value, &place) != NULL &&
        block_kind_is_counted(place.kind)) {
        map_watch(&place);
    }
}

static void map_set_handle(struct handle *handle, const void *value,
                           const struct place *place) {
    handle_set(handle, (uintptr_t)value, place);
    map_watch(place);
}

// The weak part of a new entry.
static void *map_make_cell(const struct map *map, const void *key,
                           const void *value) {
    struct place place;
    if (!map_reserve(map)) {
        return NULL;
    }
    if (map->sort == MAP_WEAK_KEYS) {
        struct ephemeron *ephemeron =
            map_alloc(sizeof *ephemeron, KIND_EPHEMERON);
        if (ephemeron != NULL) {
            const struct place *at = map_place(key, &place);
            ephemeron_set(ephemeron, (uintptr_t)key, at, (uintptr_t)value);
            if (at != NULL) {
                map_watch(at);
            }
            map_watch_value((uintptr_t)value);
        }
        return ephemeron;
    }
    struct handle *handle = map_alloc(sizeof *handle, KIND_HANDLE);
    if (handle != NULL && map_place(value, &place) != NULL) {
        handle->sort = HANDLE_LONG;
        map_set_handle(handle, value, &place);
    }
    return handle;
}

// What the slot keeps of the key.
static bool map_key_word(const struct map *map, const void *key,
                         uintptr_t *word) {
    *word = map->sort == MAP_WORDS ? ~(uintptr_t)key : 0;
    if (map->sort == MAP_TEXTS) {
        size_t bytes = strlen(key) + 1;
        char *kept = map_alloc(bytes, KIND_LEAF);
        if (kept == NULL) {
            return false;
        }
        memcpy(kept, key, bytes);
        *word = (uintptr_t)kept;
    }
    return true;
}

static bool map_add(struct map *map, const void *key, const void *value) {
    uintptr_t word;
    void *cell;
    if (((map->table == NULL || map->table->used == map->table->capacity) &&
         !map_renew(map)) ||
        !map_key_word(map, key, &word) ||
        (cell = map_make_cell(map, key, value)) == NULL) {
        return false;
    }
    struct map_table *table = map->table;
    struct map_slot *slot = &table->slots[table->used];
    *slot = (struct map_slot){word, cell, ++map->number, map_hash(map, key)};
    map_index(table, table->used);
    table->used++;
    return true;
}

bool map_put(struct map *map, const void *key, const void *value) {
    struct map_slot *slot = map_find(map, key);
    bool put = true;
    struct place place;
    if (slot == NULL) {
        put = map_add(map, key, value);
    } else if (map->sort == MAP_WEAK_KEYS) {
        struct ephemeron *ephemeron = slot->cell;
        __atomic_store_n(&ephemeron->value, (uintptr_t)value, __ATOMIC_RELEASE);
        map_watch_value((uintptr_t)value);
    } else if (map_place(value, &place) != NULL) {
        map_set_handle(slot->cell, value, &place);
    }
    loam_keep(key);
    loam_keep(value);
    return put;
}

void *map_get(const struct map *map, const void *key) {
    uintptr_t key_word;
    uintptr_t value = 0;
    const struct map_slot *slot = map_find(map, key);
    if (slot == NULL || !map_cell_lives(map, slot->cell, &key_word, &value)) {
        return NULL;
    }
    loam_keep(key);
    return (void *)value;
}

bool map_remove(struct map *map, const void *key) {
    struct map_slot *slot = map_find(map, key);
    if (slot == NULL) {
        return false;
    }
    if (map->sort == MAP_WEAK_KEYS) {
        ephemeron_drop(slot->cell);
    }
    slot->cell = NULL;
    slot->key = 0;
    return true;
}

size_t map_count(const struct map *map) {
    const struct map_table *table = map->table;
    size_t count = 0;
    uintptr_t key_word, value;
    for (size_t i = 0; table != NULL && i < table->used; i++) {
        count += map_slot_lives(map, &table->slots[i], &key_word, &value);
    }
    return count;
}

// The first slot with a number above `number`.
static size_t map_seek(const struct map_table *table, uint64_t number,
                       size_t hint) {
    if (hint != 0 && hint <= table->used &&
        table->slots[hint - 1].number == number) {
        return hint;
    }
    size_t low = 0;
    size_t high = table->used;
    while (low < high) { // MA2
        size_t middle = low + (high - low) / 2;
        if (table->slots[middle].number <= number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

bool map_next(const struct map *map, struct loam_cursor *cursor,
              const void **key, void **value) {
    const struct map_table *table = map->table;
    if (table == NULL) {
        return false;
    }
    size_t at = map_seek(table, cursor->number, cursor->place); // MA3
    for (; at < table->used; at++) {
        const struct map_slot *slot = &table->slots[at];
        uintptr_t key_word = map->sort == MAP_WORDS ? ~slot->key : slot->key;
        uintptr_t value_word;
        if (map_slot_lives(map, slot, &key_word, &value_word)) {
            *cursor = (struct loam_cursor){slot->number, at + 1};
            if (key != NULL) {
                *key = (const void *)key_word;
            }
            if (value != NULL) {
                *value = (void *)value_word;
            }
            return true;
        }
    }
    return false;
}
