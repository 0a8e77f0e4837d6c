#include "api/strset.h"

#include <string.h>

#include "api/object.h"
#include "base/bits.h"
#include "base/hash.h"
#include "os/error.h"

// Places are 32 bits, and the greatest would make an empty slot.
#define STRSET_UNITS_MAX ((size_t)UINT32_MAX - 1)
#define STRSET_FIRST     ((size_t)64) // units

// A text that is looked for.
struct strset_key {
    const void *bytes;
    size_t count;
    uint64_t from; // the least word with its hash
};

// Where it is, or should be.
struct strset_spot {
    size_t at;
    bool found;
};

static struct strset *strset_make(enum ordered_values values) {
    struct strset *set =
        object_make(sizeof *set, (struct order){.kind = KIND_SCANNED});
    if (set != NULL) {
        ordered_init(&set->table, values);
    }
    return set;
}

static struct strset_key strset_key(const void *bytes, size_t count) {
    // The last bit: not all may be set, as in an empty slot.
    uint64_t hash = hash_bytes(bytes, count) >> 32 & ~(uint64_t)1;
    return (struct strset_key){bytes, count, hash << 32};
}

static uint32_t strset_length(const unsigned char *text) {
    uint32_t length;
    memcpy(&length, text - sizeof length, sizeof length);
    return length;
}

// The copy that a word leads to: its first byte, behind its length.
static unsigned char *strset_copy(const struct strset *set, uint64_t word) {
    return set->texts + (size_t)(uint32_t)word * STRSET_UNIT_BYTES +
           sizeof(uint32_t);
}

// Units of a copy: its length, its bytes, a zero.
static size_t strset_units(size_t count) {
    return bits_div_ceil(sizeof(uint32_t) + count + 1, STRSET_UNIT_BYTES);
}

// Below, at or above 0 as a copy is before, like or after a key of its hash.
static int strset_compare(const unsigned char *text,
                          const struct strset_key *key) {
    uint32_t length = strset_length(text);
    if (length != key->count) {
        return length < key->count ? -1 : 1;
    }
    return memcmp(text, key->bytes, length);
}

static ALWAYS_INLINE struct strset_spot
strset_find(const struct strset *set, const struct strset_key *key) {
    const struct ordered *table = &set->table;
    size_t at = ordered_seek(table, key->from);
    for (; table->words[at] >> 32 == key->from >> 32; at++) {
        int order = strset_compare(strset_copy(set, table->words[at]), key);
        if (order >= 0) {
            return (struct strset_spot){at, order == 0};
        }
    }
    return (struct strset_spot){at, false};
}

// --- Copies ----------------------------------------------------------------

// Another leaf is the set's.
static void strset_change(struct strset *set, unsigned char *texts,
                          size_t capacity) {
    unsigned char *old = set->is_lent ? NULL : set->texts; // SS5
    set->texts = texts;
    set->capacity = capacity;
    set->is_lent = false;
    loam_free(old);
}

// Moves the copies that are in use to a leaf of their own, in the order of the
// table: places of equal hashes keep their order.
static void strset_pack(struct strset *set, unsigned char *texts,
                        size_t capacity) {
    size_t used = 0;
    struct ordered *table = &set->table;
    for (size_t at = ordered_next(table, 0); at < table->slots;
         at = ordered_next(table, at + 1)) {
        uint64_t word = table->words[at];
        unsigned char *from = strset_copy(set, word) - sizeof(uint32_t);
        size_t units = strset_units(strset_length(strset_copy(set, word)));
        memcpy(texts + used * STRSET_UNIT_BYTES, from,
               units * STRSET_UNIT_BYTES);
        table->words[at] = (word >> 32 << 32) | used;
        used += units;
    }
    strset_change(set, texts, capacity);
    set->used = used;
    set->holes = 0;
}

// A leaf for `units` more than are in use.
static bool strset_renew(struct strset *set, size_t units) {
    size_t least = set->used - set->holes + units;
    bool pack = set->holes != 0 && set->holes >= set->used / 2; // SS6
    size_t wanted = pack ? least : set->used + units;
    if (units > STRSET_UNITS_MAX || least > STRSET_UNITS_MAX) {
        error_set_no_memory();
        return false;
    }
    if (wanted > STRSET_UNITS_MAX) {
        pack = true;
        wanted = least;
    }
    size_t capacity = wanted + wanted / 2;
    capacity = capacity < STRSET_FIRST ? STRSET_FIRST : capacity;
    capacity = capacity > STRSET_UNITS_MAX ? STRSET_UNITS_MAX : capacity;
    unsigned char *texts = object_make(capacity * STRSET_UNIT_BYTES,
                                       (struct order){.kind = KIND_LEAF});
    if (texts == NULL) {
        return false; // SS3
    }
    if (pack) {
        strset_pack(set, texts, capacity);
        return true;
    }
    if (set->texts != NULL) {
        memcpy(texts, set->texts, set->used * STRSET_UNIT_BYTES);
    }
    strset_change(set, texts, capacity);
    return true;
}

static void strset_write(const struct strset *set,
                         const struct strset_key *key) {
    unsigned char *at = set->texts + set->used * STRSET_UNIT_BYTES;
    uint32_t length = (uint32_t)key->count;
    memcpy(at, &length, sizeof length);
    memcpy(at + sizeof length, key->bytes, length);
    at[sizeof length + length] = '\0';
}

// --- What sets and maps have in common -------------------------------------

static bool strset_put(struct strset *set, const void *bytes, size_t count,
                       void *value) {
    struct strset_key key = strset_key(bytes, count);
    struct strset_spot spot = strset_find(set, &key);
    if (spot.found) {
        if (set->table.sort != ORDERED_SET) {
            set->table.values[spot.at] = value;
        }
        return true;
    }
    if (count > STRSET_UNITS_MAX) {
        error_set_no_memory();
        return false;
    }
    size_t units = strset_units(count);
    if (units > set->capacity - set->used && !strset_renew(set, units)) {
        return false;
    }
    uint64_t word = key.from | set->used;
    if (!ordered_put(&set->table, key.from, spot.at, word, value)) {
        return false; // SS3
    }
    strset_write(set, &key);
    set->used += units;
    return true;
}

static bool strset_has(const struct strset *set, const void *bytes,
                       size_t count) {
    struct strset_key key = strset_key(bytes, count);
    return strset_find(set, &key).found;
}

static void **strset_place(const struct strset *set, const void *bytes,
                           size_t count) {
    struct strset_key key = strset_key(bytes, count);
    struct strset_spot spot = strset_find(set, &key);
    return spot.found ? &set->table.values[spot.at] : NULL;
}

static bool strset_remove(struct strset *set, const void *bytes, size_t count) {
    struct strset_key key = strset_key(bytes, count);
    struct strset_spot spot = strset_find(set, &key);
    if (spot.found) {
        ordered_remove(&set->table, spot.at);
        set->holes += strset_units(count);
    }
    return spot.found;
}

static bool strset_reserve(struct strset *set, size_t more) {
    if (more > STRSET_UNITS_MAX) {
        error_set_no_memory(); // nor could there be a hash for each home
        return false;
    }
    return ordered_reserve(&set->table, more);
}

static void strset_clear(struct strset *set) {
    ordered_clear(&set->table);
    strset_change(set, NULL, 0);
    set->used = 0;
    set->holes = 0;
}

static bool strset_shrink(struct strset *set) {
    if (set->table.count == 0) {
        strset_clear(set);
        return true;
    }
    size_t least = set->used - set->holes;
    if (least != set->capacity) {
        unsigned char *texts = object_make(least * STRSET_UNIT_BYTES,
                                           (struct order){.kind = KIND_LEAF});
        if (texts == NULL) {
            return false;
        }
        strset_pack(set, texts, least);
    }
    return ordered_shrink(&set->table);
}

// The first slot behind the copy that a walk came to last.
static size_t strset_behind(const struct strset *set,
                            const struct loam_walk *walk) {
    const struct ordered *table = &set->table;
    const unsigned char *text = walk->key;
    size_t at = (size_t)walk->number;
    if (text == NULL) {
        return 0;
    }
    if (at < table->slots && table->words[at] != ORDERED_NONE &&
        strset_copy(set, table->words[at]) == text) {
        return at + 1; // nothing moved it
    }
    struct strset_key key = strset_key(text, strset_length(text));
    struct strset_spot spot = strset_find(set, &key);
    return spot.at + spot.found;
}

static bool strset_next(struct strset *set, struct loam_walk *walk) {
    if (set->table.slots == 0) {
        return false;
    }
    size_t at = ordered_next(&set->table, strset_behind(set, walk)); // SS2
    if (at >= set->table.slots) {
        return false;
    }
    set->is_lent = true;
    walk->number = at;
    walk->key = strset_copy(set, set->table.words[at]);
    return true;
}

// --- Sets ------------------------------------------------------------------

struct loam_strset *loam_strset_make(void) {
    return (struct loam_strset *)strset_make(ORDERED_SET);
}

bool loam_strset_add(struct loam_strset *set, const void *bytes, size_t count) {
    return strset_put((struct strset *)set, bytes, count, NULL);
}

bool loam_strset_has(const struct loam_strset *set, const void *bytes,
                     size_t count) {
    return strset_has((const struct strset *)set, bytes, count);
}

bool loam_strset_remove(struct loam_strset *set, const void *bytes,
                        size_t count) {
    return strset_remove((struct strset *)set, bytes, count);
}

size_t loam_strset_count(const struct loam_strset *set) {
    return ((const struct strset *)set)->table.count;
}

void loam_strset_clear(struct loam_strset *set) {
    strset_clear((struct strset *)set);
}

bool loam_strset_reserve(struct loam_strset *set, size_t more) {
    return strset_reserve((struct strset *)set, more);
}

bool loam_strset_shrink(struct loam_strset *set) {
    return strset_shrink((struct strset *)set);
}

bool loam_strset_next(struct loam_strset *set, struct loam_walk *walk,
                      const char **key, size_t *count) {
    if (!strset_next((struct strset *)set, walk)) {
        return false;
    }
    *key = walk->key;
    *count = strset_length(walk->key);
    return true;
}

// --- Maps ------------------------------------------------------------------

struct loam_strmap *loam_strmap_make(enum loam_data values) {
    return (struct loam_strmap *)strset_make(
        values == LOAM_DATA_LEAF ? ORDERED_LEAF : ORDERED_SCANNED);
}

bool loam_strmap_put(struct loam_strmap *map, const void *bytes, size_t count,
                     void *value) {
    return strset_put((struct strset *)map, bytes, count, value);
}

void **loam_strmap_find(struct loam_strmap *map, const void *bytes,
                        size_t count) {
    return strset_place((const struct strset *)map, bytes, count);
}

void *loam_strmap_get(const struct loam_strmap *map, const void *bytes,
                      size_t count) {
    void **place = strset_place((const struct strset *)map, bytes, count);
    return place != NULL ? *place : NULL;
}

bool loam_strmap_remove(struct loam_strmap *map, const void *bytes,
                        size_t count) {
    return strset_remove((struct strset *)map, bytes, count);
}

size_t loam_strmap_count(const struct loam_strmap *map) {
    return ((const struct strset *)map)->table.count;
}

void loam_strmap_clear(struct loam_strmap *map) {
    strset_clear((struct strset *)map);
}

bool loam_strmap_reserve(struct loam_strmap *map, size_t more) {
    return strset_reserve((struct strset *)map, more);
}

bool loam_strmap_shrink(struct loam_strmap *map) {
    return strset_shrink((struct strset *)map);
}

bool loam_strmap_next(struct loam_strmap *map, struct loam_walk *walk,
                      size_t *count, void **value) {
    struct strset *known = (struct strset *)map;
    if (!strset_next(known, walk)) {
        return false;
    }
    *count = strset_length(walk->key);
    if (value != NULL) {
        *value = known->table.values[walk->number];
    }
    return true;
}
