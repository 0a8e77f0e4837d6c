// weak — the functions of loam/weak.h that lead to cells: weak references and
// maps.  Finalizers and guardians are in api/finalizer.c.
//
// A struct loam_weak is a struct handle, a map is a struct map: the program
// sees only their addresses.
//
// Design, alternatives and measurements: docs/design/api/map.md

#include "loam/weak.h"

#include "loam/rc.h"

#include "api/bonds.h"
#include "api/counting.h"
#include "api/init.h"
#include "api/map.h"
#include "api/object.h"
#include "api/report.h"
#include "collect/settle.h"
#include "heap/handle.h"
#include "heap/range.h"
#include "os/error.h"
#include "trace/ephemeron.h"

static bool weak_refuse(const char *function, const void *p,
                        const void *caller) {
    report_misuse(function, p, caller);
    error_set_invalid();
    return false;
}

// The object of a target; false, and reported, if it is none.
static bool weak_find(const char *function, const void *target,
                      struct place *place, const void *caller) {
    return (init_ready() != NULL && object_find((uintptr_t)target, place)) ||
           weak_refuse(function, target, caller);
}

// --- References ------------------------------------------------------------

static bool weak_reserve(void) {
    struct settle *settle = &init_state.conductor.settle;
    if (LIKELY(__atomic_load_n(&settle->handles, __ATOMIC_ACQUIRE))) {
        return true;
    }
    struct mutator *mutator = init_lock();
    bool reserved = false;
    if (mutator != NULL) {
        reserved = settle_use_handles(settle);
        init_unlock(mutator);
    }
    if (!reserved) {
        error_set_no_memory();
    }
    return reserved;
}

static struct loam_weak *weak_make(const void *target,
                                   const struct place *place,
                                   enum handle_sort sort) {
    struct handle *handle = NULL;
    if (weak_reserve()) {
        handle =
            object_make(sizeof *handle, (struct order){.kind = KIND_HANDLE});
    }
    if (handle != NULL) {
        handle->sort = (uint16_t)sort;
        handle_set(handle, (uintptr_t)target, place);
        map_watch(place);
    }
    loam_keep(target);
    return (struct loam_weak *)handle;
}

struct loam_weak *loam_weak_make(const void *target) {
    struct place place;
    return weak_find("loam_weak_make", target, &place,
                     __builtin_return_address(0))
               ? weak_make(target, &place, HANDLE_SHORT)
               : NULL;
}

struct loam_weak *loam_weak_make_long(const void *target) {
    struct place place;
    return weak_find("loam_weak_make_long", target, &place,
                     __builtin_return_address(0))
               ? weak_make(target, &place, HANDLE_LONG)
               : NULL;
}

void *loam_weak_get(const struct loam_weak *weak) {
    return weak == NULL ? NULL
                        : (void *)handle_get((const struct handle *)weak);
}

bool loam_weak_set(struct loam_weak *weak, const void *target) {
    struct place place;
    struct handle *handle = (struct handle *)weak;
    if (handle == NULL) {
        return weak_refuse("loam_weak_set", NULL, __builtin_return_address(0));
    }
    if (target == NULL) {
        handle_drop(handle);
        return true;
    }
    if (!weak_find("loam_weak_set", target, &place,
                   __builtin_return_address(0))) {
        return false;
    }
    handle_set(handle, (uintptr_t)target, &place);
    map_watch(&place);
    loam_keep(target);
    return true;
}

// --- Weak maps -------------------------------------------------------------

struct loam_weakmap *loam_weakmap_make(void) {
    return (struct loam_weakmap *)map_make(MAP_WEAK_KEYS);
}

struct loam_weakmap *loam_weakmap_make_owning(void) {
    struct map *map = map_make(MAP_WEAK_KEYS);
    if (map != NULL) {
        map->owns = true;
    }
    return (struct loam_weakmap *)map;
}

// bonds_hang, for the calling thread; false also where it cannot count.
static bool weak_hang(const void *key, const struct ephemeron *cell,
                      const void *value, void **old) {
    struct counting *counting = counting_here();
    *old = NULL;
    return counting != NULL &&
           bonds_hang(&counting->domain, key, cell, value, old);
}

// Into a map that owns: the entry first, with no value, then the count, then
// the value.
static bool weak_put_owned(struct map *map, const void *key, void *value,
                           const void *caller) {
    const char *fault = bonds_fault(key, value);
    if (fault != NULL) {
        report_count("loam_weakmap_put", key, fault, caller);
        error_set_invalid();
        return false;
    }
    const struct map_slot *slot = map_find(map, key);
    bool is_new = slot == NULL;
    if (is_new &&
        (!map_put(map, key, NULL) || (slot = map_find(map, key)) == NULL)) {
        return false;
    }
    void *old;
    if (!weak_hang(key, slot->cell, value, &old)) {
        if (is_new) {
            (void)map_remove(map, key);
        }
        error_set_no_memory();
        return false;
    }
    bool put = map_put(map, key, value); // over what is there: it is
    loam_release(old);                   // last: its destructor may use the map
    return put;
}

static bool weak_remove_owned(struct map *map, const void *key) {
    const struct map_slot *slot = map_find(map, key);
    void *old = NULL;
    if (slot == NULL || !weak_hang(key, slot->cell, NULL, &old)) {
        return false;
    }
    (void)map_remove(map, key);
    loam_release(old);
    return true;
}

static void weak_clear_owned(struct map *map) {
    struct map_table *table = map->table;
    map->table = NULL;
    for (size_t i = 0; table != NULL && i < table->used; i++) {
        struct ephemeron *cell = table->slots[i].cell;
        const void *key =
            cell == NULL
                ? NULL
                : (void *)__atomic_load_n(&cell->key, __ATOMIC_ACQUIRE);
        void *old;
        if (key != NULL && weak_hang(key, cell, NULL, &old)) {
            ephemeron_drop(cell);
            loam_release(old);
        }
    }
}

bool loam_weakmap_put(struct loam_weakmap *map, const void *key, void *value) {
    struct place place;
    // What lies in no heap of ours never dies.
    if (key == NULL ||
        (range_has((uintptr_t)key) && !object_find((uintptr_t)key, &place))) {
        return weak_refuse("loam_weakmap_put", key,
                           __builtin_return_address(0));
    }
    return ((struct map *)map)->owns
               ? weak_put_owned((struct map *)map, key, value,
                                __builtin_return_address(0))
               : map_put((struct map *)map, key, value);
}

void *loam_weakmap_get(struct loam_weakmap *map, const void *key) {
    return key == NULL ? NULL : map_get((struct map *)map, key);
}

bool loam_weakmap_remove(struct loam_weakmap *map, const void *key) {
    struct map *known = (struct map *)map;
    return key != NULL && (known->owns ? weak_remove_owned(known, key)
                                       : map_remove(known, key));
}

size_t loam_weakmap_count(struct loam_weakmap *map) {
    return map_count((struct map *)map);
}

void loam_weakmap_clear(struct loam_weakmap *map) {
    if (((struct map *)map)->owns) {
        weak_clear_owned((struct map *)map);
    } else {
        ((struct map *)map)->table = NULL;
    }
}

bool loam_weakmap_next(struct loam_weakmap *map, struct loam_cursor *cursor,
                       const void **key, void **value) {
    return map_next((struct map *)map, cursor, key, value);
}

// --- Value maps ------------------------------------------------------------

struct loam_valuemap *loam_valuemap_make(enum loam_keys keys) {
    return (struct loam_valuemap *)map_make(
        keys == LOAM_KEYS_TEXTS ? MAP_TEXTS : MAP_WORDS);
}

bool loam_valuemap_put(struct loam_valuemap *map, const void *key,
                       const void *value) {
    struct map *known = (struct map *)map;
    struct place place;
    const void *caller = __builtin_return_address(0);
    if (known->sort == MAP_TEXTS && key == NULL) {
        return weak_refuse("loam_valuemap_put", key, caller);
    }
    return weak_find("loam_valuemap_put", value, &place, caller) &&
           map_put(known, key, value);
}

// A map of texts has no entry for NULL.
static bool weak_is_key(const struct loam_valuemap *map, const void *key) {
    return key != NULL || ((const struct map *)map)->sort != MAP_TEXTS;
}

void *loam_valuemap_get(struct loam_valuemap *map, const void *key) {
    return weak_is_key(map, key) ? map_get((struct map *)map, key) : NULL;
}

bool loam_valuemap_remove(struct loam_valuemap *map, const void *key) {
    return weak_is_key(map, key) && map_remove((struct map *)map, key);
}

size_t loam_valuemap_count(struct loam_valuemap *map) {
    return map_count((struct map *)map);
}

void loam_valuemap_clear(struct loam_valuemap *map) {
    ((struct map *)map)->table = NULL;
}

bool loam_valuemap_next(struct loam_valuemap *map, struct loam_cursor *cursor,
                        const void **key, void **value) {
    return map_next((struct map *)map, cursor, key, value);
}
