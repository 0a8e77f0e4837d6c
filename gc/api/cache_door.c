// cache_door — the functions of loam/cache.h.
//
// Each checks what the program handed in, enters the cache, has api/caches.c do
// the work, and leaves.  A struct loam_cache is what it is called.
//
// Design, alternatives and measurements: docs/design/api/caches.md

#include "loam/cache.h"

#include <string.h>

#include "api/caches.h"
#include "api/caches_bell.h"
#include "api/caches_order.h"
#include "api/caches_table.h"
#include "api/finalizer.h"
#include "api/init.h"
#include "api/object.h"
#include "api/report.h"
#include "os/error.h"

static COLD bool cache_door_refuse(const char *function, const void *p,
                                   const void *caller) {
    report_misuse(function, p, caller);
    error_set_invalid();
    return false;
}

// Whether a key is one; a word is, whatever it is.
static bool cache_door_is_key(const struct loam_cache *cache, const void *key) {
    const struct loam_cache_bytes *bytes = key;
    if (cache->keys == LOAM_CACHE_WORDS) {
        return true;
    }
    return key != NULL &&
           (cache->keys == LOAM_CACHE_TEXTS || bytes->bytes == 0 ||
            (bytes->start != NULL && bytes->bytes <= PTRDIFF_MAX));
}

// A call of the program's, and what it is about.
struct cache_door {
    struct loam_cache *cache;
    struct caches_key key;
    uint64_t now;
};

// With the cache entered if it is true.
static bool cache_door_open(struct cache_door *door, struct loam_cache *cache,
                            bool timed, const char *function,
                            const void *caller) {
    door->cache = cache;
    return LIKELY(caches_enter(cache, timed, &door->now)) ||
           cache_door_refuse(function, cache, caller);
}

// The same for a key, whose entry is *entry.
static bool cache_door_find(struct cache_door *door, struct loam_cache *cache,
                            const void *key, struct caches_entry **entry,
                            const char *function, const void *caller) {
    *entry = NULL;
    if (UNLIKELY(!cache_door_is_key(cache, key))) {
        return cache_door_refuse(function, key, caller);
    }
    door->key = caches_key(cache, key);
    if (!cache_door_open(door, cache, false, function, caller)) {
        return false;
    }
    *entry = caches_find(cache, &door->key);
    return true;
}

#define CACHE_DOOR_CALLER __builtin_return_address(0)

// --- Make ------------------------------------------------------------------

struct loam_cache *loam_cache_make(const struct loam_cache_settings *settings,
                                   size_t settings_bytes) {
    struct loam_cache_settings known = {0};
    if (settings != NULL) {
        memcpy(&known, settings,
               settings_bytes < sizeof known ? settings_bytes : sizeof known);
    }
    if ((unsigned)known.policy > LOAM_CACHE_S3FIFO ||
        (unsigned)known.keys > LOAM_CACHE_BYTES ||
        (unsigned)known.pressure > LOAM_CACHE_NEVER) {
        error_set_invalid();
        return NULL;
    }
    struct loam_cache *cache = caches_make(&known);
    if (cache == NULL) {
        error_set_no_memory();
    }
    finalizer_poll();
    return cache;
}

// --- Use -------------------------------------------------------------------

// What is kept of a value: its object's bytes as well.
static bool cache_door_value(const void *value, struct caches_value *known,
                             const char *function, const void *caller) {
    struct place place;
    if (UNLIKELY(init_ready() == NULL ||
                 !object_find((uintptr_t)value, &place))) {
        return cache_door_refuse(function, value, caller);
    }
    *known = (struct caches_value){(void *)(uintptr_t)value, place.bytes};
    return true;
}

static bool cache_door_put(struct loam_cache *cache, const void *key,
                           const void *value, uint64_t ttl_ns,
                           const char *function, const void *caller) {
    struct cache_door door;
    struct caches_value known;
    if (UNLIKELY(!cache_door_is_key(cache, key))) {
        return cache_door_refuse(function, key, caller);
    }
    if (!cache_door_value(value, &known, function, caller) ||
        !cache_door_open(&door, cache, ttl_ns != 0, function, caller)) {
        return false;
    }
    door.key = caches_key(cache, key);
    bool put = caches_put(cache, &door.key, &known, door.now,
                          caches_until(door.now, ttl_ns));
    caches_leave(cache);
    if (UNLIKELY(!put)) {
        error_set_no_memory();
    }
    finalizer_poll();
    loam_keep(value);
    return put;
}

bool loam_cache_put(struct loam_cache *cache, const void *key,
                    const void *value) {
    return cache_door_put(cache, key, value, cache->ttl_ns, "loam_cache_put",
                          CACHE_DOOR_CALLER);
}

bool loam_cache_put_for(struct loam_cache *cache, const void *key,
                        const void *value, uint64_t ttl_ns) {
    return cache_door_put(cache, key, value, ttl_ns, "loam_cache_put_for",
                          CACHE_DOOR_CALLER);
}

static void *cache_door_hit(struct loam_cache *cache,
                            struct caches_entry *entry) {
    if (entry == NULL) {
        cache->stats.misses++;
        return NULL;
    }
    cache->stats.hits++;
    caches_use(cache, entry);
    return entry->value;
}

static NOINLINE void *cache_door_get(struct loam_cache *cache, const void *key,
                                     const void *caller) {
    struct cache_door door;
    struct caches_entry *entry;
    if (!cache_door_find(&door, cache, key, &entry, "loam_cache_get", caller)) {
        return NULL;
    }
    void *value = cache_door_hit(cache, entry);
    caches_leave(cache);
    return value;
}

// Words that do not expire are found in so few instructions that the processor
// is already at the next question while memory answers the last ones.
void *loam_cache_get(struct loam_cache *cache, const void *key) {
    if (UNLIKELY(cache->keys != LOAM_CACHE_WORDS || cache->wheel != NULL ||
                 !caches_come(cache))) {
        return cache_door_get(cache, key, CACHE_DOOR_CALLER);
    }
    uintptr_t word = (uintptr_t)key;
    void *value =
        cache_door_hit(cache, caches_find_word(cache, ~word, caches_mix(word)));
    caches_leave(cache);
    return value;
}

void *loam_cache_peek(struct loam_cache *cache, const void *key) {
    struct cache_door door;
    struct caches_entry *entry;
    if (!cache_door_find(&door, cache, key, &entry, "loam_cache_peek",
                         CACHE_DOOR_CALLER)) {
        return NULL;
    }
    void *value = entry == NULL ? NULL : entry->value;
    caches_leave(cache);
    return value;
}

bool loam_cache_remove(struct loam_cache *cache, const void *key) {
    struct cache_door door;
    struct caches_entry *entry;
    if (!cache_door_find(&door, cache, key, &entry, "loam_cache_remove",
                         CACHE_DOOR_CALLER)) {
        return false;
    }
    if (entry != NULL) {
        caches_part(cache, entry, LOAM_CACHE_REMOVED);
    }
    caches_leave(cache);
    return entry != NULL;
}

void loam_cache_clear(struct loam_cache *cache) {
    struct cache_door door;
    if (cache_door_open(&door, cache, false, "loam_cache_clear",
                        CACHE_DOOR_CALLER)) {
        caches_clear(cache);
        caches_leave(cache);
    }
}

void loam_cache_tidy(struct loam_cache *cache) {
    struct cache_door door;
    if (cache_door_open(&door, cache, false, "loam_cache_tidy",
                        CACHE_DOOR_CALLER)) {
        caches_leave(cache);
    }
}

bool loam_cache_next(struct loam_cache *cache, struct loam_cursor *cursor,
                     const void **key, void **value) {
    struct cache_door door;
    if (!cache_door_open(&door, cache, false, "loam_cache_next",
                         CACHE_DOOR_CALLER)) {
        return false;
    }
    const struct caches_entry *entry =
        caches_table_next(&cache->table, cursor->place, cursor->number);
    if (entry != NULL) {
        *cursor = (struct loam_cursor){entry->number, entry->hash};
        if (key != NULL) {
            *key = caches_key_of(cache, entry);
        }
        if (value != NULL) {
            *value = entry->value;
        }
    }
    caches_leave(cache);
    return entry != NULL;
}

// --- Room and pressure -----------------------------------------------------

bool loam_cache_charge(struct loam_cache *cache, const void *key,
                       size_t bytes) {
    struct cache_door door;
    struct caches_entry *entry;
    if (!cache_door_find(&door, cache, key, &entry, "loam_cache_charge",
                         CACHE_DOOR_CALLER)) {
        return false;
    }
    bool charged = entry != NULL && caches_charge(cache, entry, bytes);
    caches_leave(cache);
    return charged;
}

void loam_cache_resize(struct loam_cache *cache, size_t max_bytes,
                       size_t min_bytes) {
    struct cache_door door;
    if (cache_door_open(&door, cache, false, "loam_cache_resize",
                        CACHE_DOOR_CALLER)) {
        cache->max_bytes = max_bytes == 0 ? SIZE_MAX : max_bytes;
        __atomic_store_n(&cache->seat.min_bytes, min_bytes, __ATOMIC_RELAXED);
        caches_fit(cache, cache->max_bytes, LOAM_CACHE_EVICTED);
        caches_leave(cache);
    }
}

size_t loam_cache_shrink(struct loam_cache *cache, size_t bytes) {
    struct cache_door door;
    if (!cache_door_open(&door, cache, false, "loam_cache_shrink",
                         CACHE_DOOR_CALLER)) {
        return 0;
    }
    size_t had = cache->seat.bytes;
    caches_fit(cache, bytes, LOAM_CACHE_SHRUNK);
    size_t given = had - cache->seat.bytes;
    caches_leave(cache);
    return given;
}

size_t loam_caches_relieve(size_t bytes) {
    return init_ready() == NULL ? 0 : caches_bell_ring(bytes);
}

// --- Look ------------------------------------------------------------------

void loam_cache_stats(struct loam_cache *cache, struct loam_cache_stats *stats,
                      size_t stats_bytes) {
    struct cache_door door;
    memset(stats, 0, stats_bytes);
    if (!cache_door_open(&door, cache, false, "loam_cache_stats",
                         CACHE_DOOR_CALLER)) {
        return;
    }
    // Not on the way out: what goes then would be among what was counted.
    caches_obey(cache, NULL);
    struct loam_cache_stats known = cache->stats;
    known.entries = cache->table.count;
    known.bytes = cache->seat.bytes;
    known.table_bytes = cache->table.slot_count * sizeof *cache->table.slots +
                        caches_order_bytes(&cache->order) +
                        (cache->wheel == NULL ? 0 : sizeof *cache->wheel);
    memcpy(stats, &known,
           stats_bytes < sizeof known ? stats_bytes : sizeof known);
    caches_leave(cache);
}
