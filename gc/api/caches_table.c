#include "api/caches_table.h"

#include "api/init.h"
#include "api/object.h"
#include "base/bits.h"
#include "base/check.h"

#define CACHES_TABLE_BITS      32 // of a hash
#define CACHES_TABLE_TAIL      16 // slots behind the last home
#define CACHES_TABLE_DRAWS     64
#define CACHES_TABLE_HOMES_MAX ((size_t)1 << CACHES_TABLE_BITS)

// Loads and stores of entries that no compiler turns into one large move, in
// which an entry would for an instant be in no slot.
static void caches_table_move(struct caches_slot *to,
                              const struct caches_slot *from) {
    to->mark = from->mark;
    __atomic_store_n(&to->entry,
                     __atomic_load_n(&from->entry, __ATOMIC_RELAXED),
                     __ATOMIC_RELAXED);
    __atomic_signal_fence(__ATOMIC_SEQ_CST); // CT4
}

// The first slot behind all entries of that hash, and the first free one.
static size_t caches_table_gap(const struct caches_table *table, uint64_t hash,
                               size_t *place) {
    size_t at = caches_table_seek(table, hash);
    while (table->slots[at].mark == hash + 1) {
        at++;
    }
    *place = at;
    while (table->slots[at].entry != NULL) {
        at++;
    }
    return at;
}

// An empty table has these, in which every search ends at once.
static struct caches_slot caches_table_nobody[CACHES_WINDOW + 1];

void caches_table_init(struct caches_table *table) {
    *table = (struct caches_table){.slots = caches_table_nobody,
                                   .shift = CACHES_TABLE_BITS};
}

// --- Arrays ----------------------------------------------------------------

static void caches_table_free(void *slots) {
    struct place place;
    if (slots != caches_table_nobody && object_is_start(slots, &place)) {
        (void)object_free(&place);
    }
}

// The entries again, in an array for `homes` with `tail` slots behind.  They
// come in order: each goes to its home or behind the one before.
static size_t caches_table_fill(const struct caches_table *from,
                                struct caches_table *to) {
    size_t next = 0;
    for (size_t at = 0; at < from->slot_count; at++) {
        const struct caches_slot *slot = &from->slots[at];
        if (slot->entry == NULL) {
            continue;
        }
        size_t home = caches_table_home(to, slot->mark - 1);
        next = next > home ? next : home;
        if (next + 1 >= to->slot_count) {
            return SIZE_MAX; // the tail is too short
        }
        caches_table_move(&to->slots[next], slot);
        next++;
    }
    return next;
}

static bool caches_table_make(struct caches_table *table, size_t homes,
                              size_t tail) {
    if (homes > CACHES_TABLE_HOMES_MAX ||
        homes + tail > PTRDIFF_MAX / sizeof(struct caches_slot)) {
        return false;
    }
    table->home_count = homes;
    table->shift = CACHES_TABLE_BITS - (unsigned)bits_log2_ceil(homes);
    table->slot_count = homes + tail;
    table->slots = object_make_in(&init_state.home.collector,
                                  table->slot_count * sizeof *table->slots,
                                  (struct order){.kind = KIND_SCANNED});
    return table->slots != NULL;
}

static bool caches_table_renew(struct caches_table *table, size_t homes,
                               size_t tail) {
    struct caches_table renewed = {.count = table->count};
    bool filled = false;
    while (!filled) {
        if (!caches_table_make(&renewed, homes, tail)) {
            return false; // CT5
        }
        filled = caches_table_fill(table, &renewed) != SIZE_MAX;
        if (!filled) {
            caches_table_free(renewed.slots);
            tail *= 2;
        }
    }
    struct caches_slot *old = table->slots;
    __atomic_store_n(&table->slots, renewed.slots, __ATOMIC_RELEASE); // CT4
    table->slot_count = renewed.slot_count;
    table->home_count = renewed.home_count;
    table->shift = renewed.shift;
    caches_table_free(old);
    return true;
}

// The number of homes for one entry more.
static size_t caches_table_homes(const struct caches_table *table) {
    size_t homes = table->home_count;
    size_t count = table->count + 1;
    if (homes == 0) {
        return CACHES_HOMES_MIN;
    }
    if (count > homes / 4 * 3) {
        return homes * 2;
    }
    while (homes > CACHES_HOMES_MIN && count < homes / 8) {
        homes /= 2;
    }
    return homes; // CT6
}

bool caches_table_reserve(struct caches_table *table, uint32_t hash) {
    size_t homes = caches_table_homes(table);
    // A smaller array would be nice, no more.
    if (homes != table->home_count &&
        !caches_table_renew(table, homes, CACHES_TABLE_TAIL) &&
        homes > table->home_count) {
        return false;
    }
    size_t place;
    size_t tail = table->slot_count - table->home_count;
    return caches_table_gap(table, hash, &place) + 1 < table->slot_count ||
           caches_table_renew(table, table->home_count, tail * 2); // CT3
}

void caches_table_clear(struct caches_table *table) {
    void *old = table->slots;
    caches_table_init(table);
    caches_table_free(old);
}

// --- Entries ---------------------------------------------------------------

void caches_table_insert(struct caches_table *table,
                         struct caches_entry *entry) {
    size_t place;
    size_t at = caches_table_gap(table, entry->hash, &place);
    ASSERT(at + 1 < table->slot_count); // CT3
    for (; at > place; at--) {
        caches_table_move(&table->slots[at], &table->slots[at - 1]);
    }
    table->slots[place].mark = (uint64_t)entry->hash + 1; // CT1
    __atomic_store_n(&table->slots[place].entry, entry, __ATOMIC_RELEASE);
    table->count++;
}

void caches_table_remove(struct caches_table *table,
                         const struct caches_entry *entry) {
    size_t at = caches_table_seek(table, entry->hash);
    while (table->slots[at].entry != entry) {
        ASSERT(table->slots[at].mark == (uint64_t)entry->hash + 1);
        at++;
    }
    // Those behind it move up, as long as they stand behind their homes (CT2).
    while (table->slots[at + 1].entry != NULL &&
           caches_table_home(table, table->slots[at + 1].mark - 1) <= at) {
        caches_table_move(&table->slots[at], &table->slots[at + 1]);
        at++;
    }
    __atomic_store_n(&table->slots[at].entry, NULL, __ATOMIC_RELEASE);
    table->slots[at].mark = 0;
    table->count--;
}

struct caches_entry *caches_table_next(const struct caches_table *table,
                                       uint64_t hash, uint64_t number) {
    if (table->count == 0 || hash > UINT32_MAX) {
        return NULL;
    }
    for (size_t at = caches_table_home(table, hash); at < table->slot_count;
         at++) {
        const struct caches_slot *slot = &table->slots[at];
        if (slot->entry != NULL &&
            (slot->mark > hash + 1 ||
             (slot->mark == hash + 1 && slot->entry->number > number))) {
            return slot->entry; // CT1
        }
    }
    return NULL;
}

// splitmix64 (Steele, Lea and Flood 2014).
static uint64_t caches_table_draw(uint64_t *random) {
    uint64_t x = *random += 0x9E3779B97F4A7C15u;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

struct caches_entry *caches_table_pick(const struct caches_table *table,
                                       uint64_t *random) {
    size_t at = 0;
    for (unsigned draw = 0; draw < CACHES_TABLE_DRAWS; draw++) {
        at = (size_t)(caches_table_draw(random) % table->slot_count);
        if (table->slots[at].entry != NULL) {
            return table->slots[at].entry;
        }
    }
    while (table->slots[at].entry == NULL) {
        at = at + 1 == table->slot_count ? 0 : at + 1;
    }
    return table->slots[at].entry;
}
