// caches_table — the entries of a cache by the hash of their keys, in order.
//
// An array of slots, open addressing, and one rule besides: slots that are in
// use are sorted by hash.  An entry's home is the top bits of its hash, so that
// the order of hashes is the order of homes; it stands there or, if that is
// taken, a little behind.
//
//     hash       04 17 17 22 .. .. 6a .. 80 81 81 83 .. ..   sorted
//     home        0  1  1  2        6     8  8  8  8
//     slot        0  1  2  3  4  5  6  7  8  9 10 11 12 13  two behind the last
//
// So a search ends as soon as it meets a greater hash; an iteration remembers
// the hash and the number of the last entry it saw, and finds its place again
// whatever was put, removed or moved meanwhile, even in another array.  Nothing
// wraps round: behind the last home there is room for those it pushes on.
//
// Invariants
//   CT1  sorted    slots in use are sorted by hash, then by number of the entry
//   CT2  reached   from its home to an entry every slot is in use
//   CT3  ended     the last slot of the array is free
//   CT4  instant   a stop at any instruction finds every entry in some slot
//   CT5  refused   where memory for a larger array is short all is as it was
//   CT6  load      at most three quarters of the homes have entries; after an
//                  insertion at least an eighth, or there are CACHES_HOMES_MIN
//
// Called by whoever is in the cache (api/caches.h).
// Design, alternatives and measurements: docs/design/api/caches_table.md

#ifndef API_CACHES_TABLE_H
#define API_CACHES_TABLE_H

#include "base/defs.h"

#define CACHES_HOMES_MIN ((size_t)8)

// An entry of a cache: a line of the processor's cache.
struct caches_entry {
    uintptr_t key;                      // a word complemented, or the copy
    void *value;                        // as it was put
    struct caches_entry *older, *newer; // in its queue (api/caches_order.h)
    void *more;      // its struct caches_alarm (api/caches_wheel.h), or NULL;
                     // once it is gone the next such entry
    uint64_t number; // of all entries ever; grows
    size_t bytes;    // what it takes, all told
    uint32_t hash;   //
    uint32_t rank;   // the policy's; once it is gone: why
};

struct caches_slot {
    uint64_t mark;              // 32 bits of hash, plus 1; 0: free
    struct caches_entry *entry; // NULL: free
};

struct caches_table {
    struct caches_slot *slots; // those of nobody while there is no entry
    size_t slot_count;         // homes, and those behind the last
    size_t home_count;         // a power of two
    unsigned shift;            // from hash to home
    size_t count;              // entries
};

static inline size_t caches_table_home(const struct caches_table *table,
                                       uint64_t hash) {
    return (size_t)(hash >> table->shift);
}

#define CACHES_WINDOW 4 // slots that are always there behind a home

// The first slot that is free or whose hash is `hash` or greater.  How far that
// is from home cannot be guessed, and a branch on it would wait for the slots:
// nearly always it is counted instead.
static inline size_t caches_table_seek(const struct caches_table *table,
                                       uint64_t hash) {
    size_t at = caches_table_home(table, hash);
    const struct caches_slot *slots = &table->slots[at];
    size_t less = 0;
    for (size_t i = 0; i < CACHES_WINDOW; i++) {
        less += slots[i].mark - 1 < hash; // a free one is greatest
    }
    at += less;
    if (UNLIKELY(less == CACHES_WINDOW)) {
        while (table->slots[at].mark - 1 < hash) {
            at++;
        }
    }
    return at;
}

// An empty table.
void caches_table_init(struct caches_table *table);

// Room for one entry more, so that the next insertion succeeds; false when
// memory is short.
MUST_USE bool caches_table_reserve(struct caches_table *table, uint32_t hash);

// Adds an entry whose number is greater than all before; there must be room.
void caches_table_insert(struct caches_table *table,
                         struct caches_entry *entry);

// Removes an entry that is there.
void caches_table_remove(struct caches_table *table,
                         const struct caches_entry *entry);

// The first entry behind one of that hash and number, which need not be there;
// NULL if there is none.
struct caches_entry *caches_table_next(const struct caches_table *table,
                                       uint64_t hash, uint64_t number);

// One of the entries, by a random number, each as likely as another; but where
// nearly all slots are free the first that is found.  There must be one.
struct caches_entry *caches_table_pick(const struct caches_table *table,
                                       uint64_t *random);

// All go, and the array.
void caches_table_clear(struct caches_table *table);

#endif
