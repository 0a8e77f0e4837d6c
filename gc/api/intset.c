#include "api/intset.h"

#include "api/object.h"
#include "base/hash.h"

static struct intset *intset_make(enum ordered_values values) {
    struct intset *set =
        object_make(sizeof *set, (struct order){.kind = KIND_SCANNED});
    if (set != NULL) {
        ordered_init(&set->table, values);
    }
    return set;
}

// A key was put in; the one apart, which needs no memory.
static bool intset_put(struct intset *set, uint64_t key, void *value) {
    uint64_t hash = hash_word(key);
    if (UNLIKELY(hash == ORDERED_NONE)) {
        set->is_kept = true; // IS5
        set->value = value;
        return true;
    }
    struct ordered *table = &set->table;
    size_t at = ordered_seek(table, hash);
    if (!ordered_is(table, at, hash)) {
        return ordered_put(table, hash, at, hash, value); // IS3
    }
    if (table->sort != ORDERED_SET) {
        table->values[at] = value;
    }
    return true;
}

static bool intset_has(const struct intset *set, uint64_t key) {
    uint64_t hash = hash_word(key);
    if (UNLIKELY(hash == ORDERED_NONE)) {
        return set->is_kept;
    }
    return ordered_is(&set->table, ordered_seek(&set->table, hash), hash);
}

static bool intset_remove(struct intset *set, uint64_t key) {
    uint64_t hash = hash_word(key);
    if (UNLIKELY(hash == ORDERED_NONE)) {
        bool was_kept = set->is_kept;
        set->is_kept = false;
        set->value = NULL;
        return was_kept;
    }
    size_t at = ordered_seek(&set->table, hash);
    if (!ordered_is(&set->table, at, hash)) {
        return false;
    }
    ordered_remove(&set->table, at);
    return true;
}

static size_t intset_count(const struct intset *set) {
    return set->table.count + set->is_kept;
}

static void intset_clear(struct intset *set) {
    ordered_clear(&set->table);
    set->is_kept = false;
    set->value = NULL;
}

static bool intset_next(const struct intset *set, struct loam_walk *walk,
                        uint64_t *key, void **value) {
    const struct ordered *table = &set->table;
    size_t at = table->slots;
    if (walk->key != NULL) {
        return false; // it has met the last of all hashes
    }
    if (table->slots != 0 && walk->number != ORDERED_NONE) {
        at = ordered_next(table, ordered_seek(table, walk->number));
    }
    if (at < table->slots) {
        walk->number = table->words[at] + 1; // IS2
        *key = hash_unword(table->words[at]);
        if (value != NULL) {
            *value = table->values[at];
        }
        return true;
    }
    if (!set->is_kept) {
        return false;
    }
    walk->key = set;
    *key = hash_unword(ORDERED_NONE);
    if (value != NULL) {
        *value = set->value;
    }
    return true;
}

// --- Sets ------------------------------------------------------------------

struct loam_intset *loam_intset_make(void) {
    return (struct loam_intset *)intset_make(ORDERED_SET);
}

bool loam_intset_add(struct loam_intset *set, uint64_t key) {
    return intset_put((struct intset *)set, key, NULL);
}

bool loam_intset_has(const struct loam_intset *set, uint64_t key) {
    return intset_has((const struct intset *)set, key);
}

bool loam_intset_remove(struct loam_intset *set, uint64_t key) {
    return intset_remove((struct intset *)set, key);
}

size_t loam_intset_count(const struct loam_intset *set) {
    return intset_count((const struct intset *)set);
}

void loam_intset_clear(struct loam_intset *set) {
    intset_clear((struct intset *)set);
}

bool loam_intset_reserve(struct loam_intset *set, size_t more) {
    return ordered_reserve(&((struct intset *)set)->table, more);
}

bool loam_intset_shrink(struct loam_intset *set) {
    return ordered_shrink(&((struct intset *)set)->table);
}

bool loam_intset_next(const struct loam_intset *set, struct loam_walk *walk,
                      uint64_t *key) {
    return intset_next((const struct intset *)set, walk, key, NULL);
}

// --- Maps ------------------------------------------------------------------

struct loam_intmap *loam_intmap_make(enum loam_data values) {
    return (struct loam_intmap *)intset_make(
        values == LOAM_DATA_LEAF ? ORDERED_LEAF : ORDERED_SCANNED);
}

bool loam_intmap_put(struct loam_intmap *map, uint64_t key, void *value) {
    return intset_put((struct intset *)map, key, value);
}

void **loam_intmap_find(struct loam_intmap *map, uint64_t key) {
    struct intset *known = (struct intset *)map;
    uint64_t hash = hash_word(key);
    if (UNLIKELY(hash == ORDERED_NONE)) {
        return known->is_kept ? &known->value : NULL;
    }
    size_t at = ordered_seek(&known->table, hash);
    return ordered_is(&known->table, at, hash) ? &known->table.values[at]
                                               : NULL;
}

void *loam_intmap_get(const struct loam_intmap *map, uint64_t key) {
    const struct intset *known = (const struct intset *)map;
    uint64_t hash = hash_word(key);
    if (UNLIKELY(hash == ORDERED_NONE)) {
        return known->value;
    }
    size_t at = ordered_seek(&known->table, hash);
    return ordered_is(&known->table, at, hash) ? known->table.values[at] : NULL;
}

bool loam_intmap_remove(struct loam_intmap *map, uint64_t key) {
    return intset_remove((struct intset *)map, key);
}

size_t loam_intmap_count(const struct loam_intmap *map) {
    return intset_count((const struct intset *)map);
}

void loam_intmap_clear(struct loam_intmap *map) {
    intset_clear((struct intset *)map);
}

bool loam_intmap_reserve(struct loam_intmap *map, size_t more) {
    return ordered_reserve(&((struct intset *)map)->table, more);
}

bool loam_intmap_shrink(struct loam_intmap *map) {
    return ordered_shrink(&((struct intset *)map)->table);
}

bool loam_intmap_next(const struct loam_intmap *map, struct loam_walk *walk,
                      uint64_t *key, void **value) {
    void *unused;
    return intset_next((const struct intset *)map, walk, key,
                       value != NULL ? value : &unused);
}
