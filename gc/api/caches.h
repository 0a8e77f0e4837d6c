// caches — entries under a budget that the heap itself measures.
//
// What stands behind loam/cache.h: a table finds entries (api/caches_table.h),
// an order says who goes first (api/caches_order.h), a wheel when one expires
// (api/caches_wheel.h), and a bell takes from all caches when memory is short
// (api/caches_bell.h).  Here they make one thing.
//
//     enter    nobody else is in; what expired goes
//     work     takes the memory it needs first, then changes, and calls nobody
//     leave    what the bell asked for goes; nobody is in any more
//     tell     the program hears what went
//
// Memory is taken with the cache entered: should the bell ring then, it finds
// it busy and asks.  The program's functions are called when it is left: they
// may use it.
//
// Invariants
//   CA1  budget   outside of operations bytes <= max_bytes and entries <=
//                 max_entries, where they are set
//   CA2  bytes    bytes are the cells of value, key and record of each entry,
//                 and what the program charged
//   CA3  put      a put that returns true has its entry there when it returns,
//                 before anybody is told
//   CA4  told     for each entry that is gone, and each value that was
//                 replaced, `gone` is called once, with the cache left
//   CA5  expired  an entry is not found once its time is over
//   CA6  refused  where memory is short the cache is as it was, but for what
//                 expired
//   CA7  counts   puts = entries + those gone, by all reasons; what the bell
//                 asked for is gone when they are told
//   CA8  seen     an iteration meets an entry that is there all the time once
//   CA9  orphan   a cache that was left in any state is empty for the next one
//   CA10  heirs   counted values of a cache that is dead are released, though
//                 they lead to it, unless memory was short when they were put
//
// Called by one thread at a time, outside of handlers.
// Design, alternatives and measurements: docs/design/api/caches.md

#ifndef API_CACHES_H
#define API_CACHES_H

#include "loam/cache.h"
#include "loam/rc.h"

#include "api/bonds.h"
#include "api/caches_bell.h"
#include "api/caches_order.h"
#include "api/caches_table.h"
#include "api/caches_wheel.h"
#include "api/init.h"
#include "base/defs.h"
#include "collect/collect.h"
#include "roots/mutator.h"

// Some records that were let go, for the next entries.
#define CACHES_SPARE_MAX 8

struct loam_cache {
    struct caches_seat seat;        // first: the bell knows no more
    struct caches_table table;      // busy, as all below
    struct caches_order order;      //
    struct caches_wheel *wheel;     // NULL while nothing expires
    struct caches_entry *gone;      // whom to tell of, the first
    struct caches_entry *gone_last; // and the last
    struct caches_entry *spare;     // records to use again
    unsigned spare_count;           // of them
    unsigned layout;                // of records
    bool counted;                   // some value was; see caches_hold
    unsigned keys;                  // enum loam_cache_keys
    size_t max_bytes, max_entries;  // SIZE_MAX: no bound
    uint64_t ttl_ns;                // of entries that have none of their own
    uint64_t number;                // of the last entry
    uint64_t seed;                  // of hashes
    loam_cache_gone_fn *tell;       // the program's, or NULL
    void *tell_data;                //
    loam_cache_clock_fn *clock;     // the program's, or NULL
    void *clock_data;               //
    struct loam_cache_stats stats;  // what is counted
};

// What was asked for.
struct caches_key {
    const void *start; // bytes of it, or NULL: a word
    size_t bytes;      // of them, with the zero of a text
    uintptr_t word;    // complemented
    uint32_t hash;
};

// A value, and the bytes of its object.
struct caches_value {
    void *pointer;
    size_t bytes;
};

#define CACHES_FOREVER UINT64_MAX

// --- Counted values ---------------------------------------------------------

// The cache becomes an owner of a value, and ceases to be one: called for each
// value that is put, with the cache entered, and for each that is gone, with
// the cache left, after `gone`.  The first says whether the value is counted at
// all: a cache that holds one is only asked by the bell, never touched, so that
// what loam_cache_get returned stays while its borrower does not use the cache.
// Both are called for traced values too, which need neither.  Where a cache
// dies with values, its counts are given back after the collection (CA10).
static inline bool caches_hold(const struct loam_cache *cache, void *value) {
    if (loam_type_of(value) == NULL) {
        return false;
    }
    loam_retain(value);
    bonds_hold(cache, value);
    return true;
}

static inline void caches_drop(const struct loam_cache *cache, void *value) {
    if (loam_type_of(value) != NULL) {
        bonds_let_go(cache, value);
        loam_release(value);
    }
}

// ----------------------------------------------------------------------------

// An empty cache; NULL when memory is short.
MUST_USE struct loam_cache *
caches_make(const struct loam_cache_settings *settings);

// Whether the calling thread is in; then what expired is gone, and *now is the
// time, if something may expire or the caller is `timed`.
MUST_USE bool caches_enter(struct loam_cache *cache, bool timed, uint64_t *now);

// The same where nothing expires; and in another thread than the last time.
MUST_USE COLD bool caches_come_late(struct loam_cache *cache);

MUST_USE static inline bool caches_come(struct loam_cache *cache) {
    const struct mutator *mutator = init_mutator;
    if (UNLIKELY(mutator == NULL || mutator->busy != MUTATOR_OUT ||
                 !caches_bell_enter(&cache->seat, mutator->id)) &&
        !caches_come_late(cache)) {
        return false;
    }
    const struct collect_figures *figures = &init_state.home.collector.figures;
    __atomic_store_n(&cache->seat.used,
                     __atomic_load_n(&figures->cycles, __ATOMIC_RELAXED),
                     __ATOMIC_RELAXED);
    return true;
}

// Whether the bell asked it for something.
static inline bool caches_is_asked(const struct loam_cache *cache) {
    return __atomic_load_n(&cache->seat.target_bytes, __ATOMIC_RELAXED) !=
           SIZE_MAX;
}

// Gives what the bell asked for, but for one entry or NULL; with it entered.
COLD void caches_obey(struct loam_cache *cache,
                      const struct caches_entry *spared);

// Leaves it, and tells; where the bell asked, or something is gone.
COLD void caches_leave_late(struct loam_cache *cache);

static inline void caches_leave(struct loam_cache *cache) {
    if (UNLIKELY(caches_is_asked(cache) || cache->gone != NULL)) {
        caches_leave_late(cache);
    } else {
        caches_bell_leave(&cache->seat);
    }
}

static inline uint32_t caches_mix(uint64_t word) {
    return (uint32_t)((word ^ word >> 32) * 0x9E3779B97F4A7C15u >> 32);
}

// What a key of the program's means; NULL and absurd ones are refused before.
struct caches_key caches_key(const struct loam_cache *cache, const void *key);

// Entered, as are all below.
struct caches_entry *caches_find(const struct loam_cache *cache,
                                 const struct caches_key *key);

// For a cache of words.
static inline struct caches_entry *
caches_find_word(const struct loam_cache *cache, uintptr_t word,
                 uint32_t hash) {
    const struct caches_table *table = &cache->table;
    for (size_t at = caches_table_seek(table, hash);
         table->slots[at].mark == (uint64_t)hash + 1; at++) {
        if (table->slots[at].entry->key == word) {
            return table->slots[at].entry;
        }
    }
    return NULL;
}

// It was asked for.
static inline void caches_use(struct loam_cache *cache,
                              struct caches_entry *entry) {
    if (cache->order.policy == LOAM_CACHE_LRU) {
        caches_order_renew(&cache->order.queues[0], entry);
    } else {
        caches_order_use(&cache->order, entry);
    }
}

// An entry until `expires`; false when memory is short or it is too large.
MUST_USE bool caches_put(struct loam_cache *cache, const struct caches_key *key,
                         const struct caches_value *value, uint64_t now,
                         uint64_t expires);

// When an entry that is put now expires.
uint64_t caches_until(uint64_t now, uint64_t ttl_ns);

// The entry goes.
void caches_part(struct loam_cache *cache, struct caches_entry *entry,
                 enum loam_cache_reason reason);

void caches_clear(struct loam_cache *cache);

// Entries go until at most so many bytes are left.
void caches_fit(struct loam_cache *cache, size_t bytes,
                enum loam_cache_reason reason);

// What the program adds to an entry's bytes; false when it is too large then.
bool caches_charge(struct loam_cache *cache, struct caches_entry *entry,
                   size_t bytes);

// The key as the program is given it.
const void *caches_key_of(const struct loam_cache *cache,
                          const struct caches_entry *entry);

#endif
