#include "api/strset.h"

#include <string.h>

#include "api/object.h"
#include "base/bits.h"
#include "base/hash.h"
#include "os/error.h"

// Of all leaves together.
#define STRSET_UNITS_MAX ((STRSET_FIRST << STRSET_LEAVES) - STRSET_FIRST)

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

// Leaf k begins at place (2^k - 1) * STRSET_FIRST.
static size_t strset_leaf(size_t place) {
    return bits_log2_floor(place + STRSET_FIRST) - STRSET_FIRST_LOG2;
}

static unsigned char *strset_address(unsigned char *const *leaves,
                                     size_t place) {
    size_t leaf = strset_leaf(place);
    size_t unit = place + STRSET_FIRST - (STRSET_FIRST << leaf);
    return leaves[leaf] + unit * STRSET_UNIT_BYTES;
}

// The copy that a word leads to: its first byte, behind its length.
static unsigned char *strset_copy(const struct strset *set, uint64_t word) {
    return strset_address(set->leaves, (uint32_t)word) + sizeof(uint32_t);
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

// The first place from `used` on where so many units fit into one leaf; at or
// above STRSET_UNITS_MAX if there is none.
static size_t strset_fit(size_t used, size_t units) {
    while (used < STRSET_UNITS_MAX) {
        size_t end = (STRSET_FIRST << (strset_leaf(used) + 1)) - STRSET_FIRST;
        if (units <= end - used) {
            return used;
        }
        used = end;
    }
    return used;
}

// Sees to it that the leaf of a place is there.
static bool strset_make_leaf(unsigned char **leaves, size_t place) {
    size_t leaf = strset_leaf(place);
    if (leaves[leaf] == NULL) {
        leaves[leaf] = object_make((STRSET_FIRST << leaf) * STRSET_UNIT_BYTES,
                                   (struct order){.kind = KIND_LEAF});
    }
    return leaves[leaf] != NULL;
}

static void strset_free_leaves(unsigned char *const *leaves) {
    for (size_t leaf = 0; leaf < STRSET_LEAVES; leaf++) {
        loam_free(leaves[leaf]);
    }
}

// Leaves for all copies that are in use, packed; what they would use, or 0 when
// memory is short.
static size_t strset_make_leaves(const struct strset *set,
                                 unsigned char **leaves) {
    const struct ordered *table = &set->table;
    size_t used = 0;
    for (size_t at = ordered_next(table, 0); at < table->slots;
         at = ordered_next(table, at + 1)) {
        const unsigned char *text = strset_copy(set, table->words[at]);
        size_t units = strset_units(strset_length(text));
        size_t place = strset_fit(used, units);
        if (place >= STRSET_UNITS_MAX || !strset_make_leaf(leaves, place)) {
            strset_free_leaves(leaves);
            return 0;
        }
        used = place + units;
    }
    return used;
}

// Moves the copies that are in use to leaves of their own, in the order of the
// table: texts of equal hashes keep their order.
static bool strset_pack(struct strset *set) {
    unsigned char *leaves[STRSET_LEAVES] = {NULL};
    struct ordered *table = &set->table;
    size_t end = strset_make_leaves(set, leaves);
    if (end == 0) {
        return false; // SS3
    }
    size_t used = 0;
    size_t filled = 0;
    for (size_t at = ordered_next(table, 0); at < table->slots;
         at = ordered_next(table, at + 1)) {
        uint64_t word = table->words[at];
        const unsigned char *text = strset_copy(set, word);
        size_t units = strset_units(strset_length(text));
        size_t place = strset_fit(used, units);
        memcpy(strset_address(leaves, place), text - sizeof(uint32_t),
               units * STRSET_UNIT_BYTES);
        table->words[at] = (word >> 32 << 32) | place;
        used = place + units;
        filled += units;
    }
    if (!set->is_lent) {
        strset_free_leaves(set->leaves); // SS5
    }
    memcpy(set->leaves, leaves, sizeof leaves);
    set->is_lent = false;
    set->used = used;
    set->holes = used - filled;
    return true;
}

// The place for a copy of so many units, in a leaf that is there; at or above
// STRSET_UNITS_MAX when memory is short.
static size_t strset_room(struct strset *set, size_t units) {
    size_t place = strset_fit(set->used, units);
    bool is_full =
        place >= STRSET_UNITS_MAX || set->leaves[strset_leaf(place)] == NULL;
    bool pack = set->table.count != 0 && set->holes >= set->used / 2;
    if (is_full && pack && strset_pack(set)) { // SS6
        place = strset_fit(set->used, units);
    }
    if (place >= STRSET_UNITS_MAX) {
        error_set_no_memory();
        return place;
    }
    return strset_make_leaf(set->leaves, place) ? place : STRSET_UNITS_MAX;
}

static void strset_write(unsigned char *at, const struct strset_key *key) {
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
    size_t place = strset_room(set, units);
    if (place >= STRSET_UNITS_MAX ||
        !ordered_put(&set->table, key.from, spot.at, key.from | place, value)) {
        return false; // SS3
    }
    strset_write(strset_address(set->leaves, place), &key);
    set->holes += place - set->used;
    set->used = place + units;
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
    if (!set->is_lent) {
        strset_free_leaves(set->leaves);
    }
    memset(set->leaves, 0, sizeof set->leaves);
    set->is_lent = false;
    set->used = 0;
    set->holes = 0;
}

static bool strset_shrink(struct strset *set) {
    if (set->table.count == 0) {
        strset_clear(set);
        return true;
    }
    return strset_pack(set) && ordered_shrink(&set->table);
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
