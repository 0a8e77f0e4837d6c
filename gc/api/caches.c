#include "api/caches.h"

#include <string.h>

#include "api/object.h"
#include "heap/layout.h"
#include "loam/typed.h"
#include "os/clock.h"

// --- Keys ------------------------------------------------------------------

// Eight bytes at a time; the last of them overlap those before.
static uint32_t caches_hash(uint64_t seed, const void *start, size_t bytes) {
    const unsigned char *at = start;
    uint64_t hash = seed ^ bytes * 0x9E3779B97F4A7C15u;
    uint64_t word = 0;
    for (; bytes > 8; bytes -= 8, at += 8) {
        memcpy(&word, at, 8);
        hash = (hash ^ word) * 0xFF51AFD7ED558CCDu;
        hash ^= hash >> 29;
    }
    word = 0;
    if (bytes != 0) {
        memcpy(&word, at, bytes);
    }
    return caches_mix((hash ^ word) * 0xC4CEB9FE1A85EC53u);
}

struct caches_key caches_key(const struct loam_cache *cache, const void *key) {
    if (cache->keys == LOAM_CACHE_WORDS) {
        return (struct caches_key){.word = ~(uintptr_t)key,
                                   .hash = caches_mix((uintptr_t)key)};
    }
    struct caches_key made = {.start = key};
    if (cache->keys == LOAM_CACHE_TEXTS) {
        made.bytes = strlen(key) + 1;
    } else {
        const struct loam_cache_bytes *bytes = key;
        made.start = bytes->start;
        made.bytes = bytes->bytes;
    }
    made.hash = caches_hash(cache->seed, made.start, made.bytes);
    return made;
}

const void *caches_key_of(const struct loam_cache *cache,
                          const struct caches_entry *entry) {
    return (const void *)(cache->keys == LOAM_CACHE_WORDS ? ~entry->key
                                                          : entry->key);
}

static bool caches_is(const struct loam_cache *cache,
                      const struct caches_entry *entry,
                      const struct caches_key *key) {
    if (cache->keys == LOAM_CACHE_TEXTS) {
        return strcmp((const char *)entry->key, key->start) == 0;
    }
    const struct loam_cache_bytes *bytes = (const void *)entry->key;
    return bytes->bytes == key->bytes &&
           (key->bytes == 0 ||
            memcmp(bytes->start, key->start, key->bytes) == 0);
}

struct caches_entry *caches_find(const struct loam_cache *cache,
                                 const struct caches_key *key) {
    const struct caches_table *table = &cache->table;
    if (cache->keys == LOAM_CACHE_WORDS) {
        return caches_find_word(cache, key->word, key->hash);
    }
    for (size_t at = caches_table_seek(table, key->hash);
         table->slots[at].mark == (uint64_t)key->hash + 1; at++) {
        if (caches_is(cache, table->slots[at].entry, key)) {
            return table->slots[at].entry;
        }
    }
    return NULL;
}

// The word that an entry keeps of a key: the word itself, or a copy.  Bytes
// have their length before them.
static bool caches_copy_key(const struct loam_cache *cache,
                            const struct caches_key *key, uintptr_t *word) {
    *word = key->word;
    if (cache->keys == LOAM_CACHE_WORDS) {
        return true;
    }
    bool is_text = cache->keys == LOAM_CACHE_TEXTS;
    size_t before = is_text ? 0 : sizeof(struct loam_cache_bytes);
    if (key->bytes > PTRDIFF_MAX - before) {
        return false;
    }
    char *kept =
        object_make(before + key->bytes, (struct order){.kind = KIND_LEAF});
    if (kept == NULL) {
        return false;
    }
    if (key->bytes != 0) {
        memcpy(kept + before, key->start, key->bytes);
    }
    if (!is_text) {
        *(struct loam_cache_bytes *)(void *)kept =
            (struct loam_cache_bytes){kept + before, key->bytes};
    }
    *word = (uintptr_t)kept;
    return true;
}

// --- Records ---------------------------------------------------------------

static size_t caches_cell_bytes(uintptr_t start) {
    struct place place;
    return object_find(start, &place) ? place.bytes : 0;
}

static struct caches_entry *caches_take(struct loam_cache *cache) {
    struct caches_entry *entry = cache->spare;
    if (entry == NULL) {
        struct order order = {.kind = KIND_DESCRIBED, .layout = cache->layout};
        return object_make(sizeof *entry, order);
    }
    cache->spare = entry->more;
    cache->spare_count--;
    memset(entry, 0, sizeof *entry);
    return entry;
}

// A record that nobody is to be told of.
static void caches_return(struct loam_cache *cache,
                          struct caches_entry *entry) {
    entry->key = 0;
    entry->value = NULL;
    entry->more = NULL;
    if (cache->spare_count < CACHES_SPARE_MAX) {
        entry->more = cache->spare;
        cache->spare = entry;
        cache->spare_count++;
    }
}

// What an entry takes, but for what the program charged.
static size_t caches_bytes(const struct loam_cache *cache,
                           const struct caches_entry *entry,
                           size_t value_bytes) {
    size_t key_bytes =
        cache->keys == LOAM_CACHE_WORDS ? 0 : caches_cell_bytes(entry->key);
    size_t alarm_bytes =
        entry->more == NULL ? 0 : caches_cell_bytes((uintptr_t)entry->more);
    return value_bytes + key_bytes + alarm_bytes +
           sizeof(struct caches_entry); // CA2: that is a cell
}

static void caches_set_bytes(struct loam_cache *cache, size_t bytes) {
    __atomic_store_n(&cache->seat.bytes, bytes, __ATOMIC_RELAXED);
}

// --- To go -----------------------------------------------------------------

// Whether somebody is to be told, or to let go of what went.
static bool caches_tells(const struct loam_cache *cache) {
    return cache->tell != NULL || cache->counted;
}

// A record that holds what is gone, and why.
static void caches_note(struct loam_cache *cache, struct caches_entry *entry,
                        enum loam_cache_reason reason) {
    if (!caches_tells(cache)) {
        caches_return(cache, entry);
        return;
    }
    entry->rank = reason;
    entry->more = NULL;
    if (cache->gone == NULL) {
        cache->gone = entry;
    } else {
        cache->gone_last->more = entry;
    }
    cache->gone_last = entry;
}

void caches_part(struct loam_cache *cache, struct caches_entry *entry,
                 enum loam_cache_reason reason) {
    struct caches_alarm *alarm = entry->more;
    if (alarm != NULL && alarm->expires != 0) {
        caches_wheel_remove(cache->wheel, alarm);
    }
    caches_order_remove(&cache->order, entry);
    caches_table_remove(&cache->table, entry);
    caches_set_bytes(cache, cache->seat.bytes - entry->bytes);
    cache->stats.gone[reason]++; // CA7
    caches_note(cache, entry, reason);
}

// Entries go, but for one, until at most so many bytes are left.
static void caches_reduce(struct loam_cache *cache, size_t bytes,
                          const struct caches_entry *spared,
                          enum loam_cache_reason reason) {
    while (cache->seat.bytes > bytes ||
           cache->table.count > cache->max_entries) {
        struct caches_entry *victim =
            caches_order_victim(&cache->order, &cache->table, spared);
        if (victim == NULL) {
            return;
        }
        caches_part(cache, victim, reason);
    }
}

void caches_fit(struct loam_cache *cache, size_t bytes,
                enum loam_cache_reason reason) {
    caches_reduce(cache, bytes, NULL, reason);
}

static void caches_expire(struct loam_cache *cache, uint64_t now) {
    struct caches_alarm *alarm;
    while ((alarm = caches_wheel_due(cache->wheel, now)) != NULL) {
        alarm->expires = 0;
        caches_part(cache, alarm->entry, LOAM_CACHE_EXPIRED); // CA5
    }
}

void caches_clear(struct loam_cache *cache) {
    struct caches_table *table = &cache->table;
    cache->stats.gone[LOAM_CACHE_CLEARED] += table->count;
    for (size_t at = 0; caches_tells(cache) && at < table->slot_count; at++) {
        if (table->slots[at].entry != NULL) {
            caches_note(cache, table->slots[at].entry, LOAM_CACHE_CLEARED);
        }
    }
    cache->wheel = NULL;
    caches_order_clear(&cache->order);
    caches_table_clear(table);
    caches_set_bytes(cache, 0);
}

// After its holder vanished in the middle of anything: what it had is lost, and
// its arrays are left to the collector.
static void caches_reset(struct loam_cache *cache) {
    caches_table_init(&cache->table);
    caches_order_init(&cache->order, cache->order.policy, cache->seed);
    cache->wheel = NULL;
    cache->gone = cache->gone_last = cache->spare = NULL;
    cache->spare_count = 0;
    uint64_t gone = 0;
    for (size_t i = 0; i < LOAM_CACHE_REASONS; i++) {
        gone += i == LOAM_CACHE_SHRUNK ? 0 : cache->stats.gone[i];
    }
    cache->stats.gone[LOAM_CACHE_SHRUNK] =
        cache->stats.puts > gone ? cache->stats.puts - gone : 0;
    caches_set_bytes(cache, 0); // CA9
}

// --- To come and go --------------------------------------------------------

static uint64_t caches_clock(const struct loam_cache *cache) {
    return cache->clock != NULL ? cache->clock(cache->clock_data)
                                : clock_now_ns();
}

bool caches_come_late(struct loam_cache *cache) {
    enum caches_entered how = caches_bell_wait(&cache->seat);
    if (how == CACHES_ORPHANED) {
        caches_reset(cache);
    }
    return how != CACHES_REFUSED;
}

bool caches_enter(struct loam_cache *cache, bool timed, uint64_t *now) {
    if (LIKELY(cache->wheel == NULL && !timed)) {
        *now = 0;
        return caches_come(cache);
    }
    // The program's clock is asked before: nobody is called inside.
    *now = caches_clock(cache);
    if (!caches_come(cache)) {
        return false;
    }
    if (cache->wheel != NULL) {
        caches_expire(cache, *now);
    }
    return true;
}

// With the cache left (CA4).
static COLD void caches_tell(const struct loam_cache *cache,
                             struct caches_entry *entry) {
    while (entry != NULL) {
        if (cache->tell != NULL) {
            cache->tell(caches_key_of(cache, entry), entry->value,
                        (enum loam_cache_reason)entry->rank, cache->tell_data);
        }
        caches_drop(cache, entry->value);
        entry = entry->more;
    }
}

void caches_obey(struct loam_cache *cache, const struct caches_entry *spared) {
    struct caches_seat *seat = &cache->seat;
    size_t target =
        __atomic_exchange_n(&seat->target_bytes, SIZE_MAX, __ATOMIC_RELAXED);
    caches_reduce(cache, target > seat->min_bytes ? target : seat->min_bytes,
                  spared, LOAM_CACHE_SHRUNK);
}

void caches_leave_late(struct loam_cache *cache) {
    caches_obey(cache, NULL);
    struct caches_entry *gone = cache->gone;
    cache->gone = cache->gone_last = NULL;
    caches_bell_leave(&cache->seat);
    caches_tell(cache, gone);
}

// The bell's hands.
static size_t caches_give(struct caches_seat *seat, size_t bytes) {
    struct loam_cache *cache = (struct loam_cache *)(void *)seat;
    size_t has = seat->bytes;
    size_t above = has > seat->min_bytes ? has - seat->min_bytes : 0;
    cache->order.frugal = true; // it would ring again
    caches_fit(cache, has - (bytes < above ? bytes : above), LOAM_CACHE_SHRUNK);
    cache->order.frugal = false;
    __atomic_store_n(&seat->owes, cache->gone != NULL, __ATOMIC_RELAXED);
    return has - seat->bytes;
}

static void caches_tell_of(struct caches_seat *seat) {
    struct loam_cache *cache = (struct loam_cache *)(void *)seat;
    __atomic_store_n(&seat->owes, false, __ATOMIC_RELAXED);
    if (caches_come(cache)) {
        caches_leave(cache);
    }
}

static const struct caches_hands caches_hands = {caches_give, caches_tell_of};

// --- To put ----------------------------------------------------------------

uint64_t caches_until(uint64_t now, uint64_t ttl_ns) {
    return ttl_ns == 0 || ttl_ns >= CACHES_FOREVER - now ? CACHES_FOREVER
                                                         : now + ttl_ns;
}

// The alarm of an entry, made if need be; NULL when memory is short.  Its bytes
// are not counted yet.
static struct caches_alarm *caches_alarm(struct caches_entry *entry) {
    struct caches_alarm *alarm = entry->more;
    if (alarm == NULL) {
        alarm = object_make(sizeof *alarm, (struct order){.kind = KIND_LEAF});
        if (alarm != NULL) {
            *alarm = (struct caches_alarm){.entry = entry};
            entry->more = alarm;
        }
    }
    return alarm;
}

// Sets the time of an entry, which has an alarm if it has one.
static void caches_set_time(struct loam_cache *cache,
                            struct caches_entry *entry, uint64_t expires) {
    struct caches_alarm *alarm = entry->more;
    if (alarm != NULL && alarm->expires != 0) {
        caches_wheel_remove(cache->wheel, alarm);
        alarm->expires = 0;
    }
    if (expires != CACHES_FOREVER) {
        // A clock that went back is the program's fault, and does no harm.
        uint64_t now = cache->wheel->now;
        alarm->expires = expires > now ? expires : now + 1;
        caches_wheel_add(cache->wheel, alarm);
    }
}

// A record for a new entry, its key, and what else an insertion takes; NULL
// when memory is short.
static struct caches_entry *caches_prepare(struct loam_cache *cache,
                                           const struct caches_key *key,
                                           uint64_t expires) {
    struct caches_entry *entry = caches_take(cache);
    if (entry == NULL) {
        return NULL;
    }
    if (!caches_copy_key(cache, key, &entry->key) ||
        (expires != CACHES_FOREVER && caches_alarm(entry) == NULL) ||
        !caches_table_reserve(&cache->table, key->hash) ||
        !caches_order_reserve(&cache->order)) {
        caches_return(cache, entry); // CA6
        return NULL;
    }
    return entry;
}

static void caches_own(struct loam_cache *cache, void *value) {
    if (caches_hold(cache, value)) {
        cache->counted = true;
        __atomic_store_n(&cache->seat.asks, true, __ATOMIC_RELAXED);
    }
}

// What has grown fits again, but for the entry that has.
static void caches_settle(struct loam_cache *cache,
                          const struct caches_entry *entry) {
    caches_reduce(cache, cache->max_bytes, entry, LOAM_CACHE_EVICTED); // CA1
    if (UNLIKELY(caches_is_asked(cache))) {
        caches_obey(cache, entry); // CA3
    }
    if (cache->seat.bytes > cache->stats.bytes_max) {
        cache->stats.bytes_max = cache->seat.bytes;
    }
}

// Whether an entry of so many bytes may be there; `had` of them are.
static bool caches_may(const struct loam_cache *cache, size_t bytes,
                       size_t had) {
    return bytes <= cache->max_bytes &&
           bytes <= PTRDIFF_MAX - (cache->seat.bytes - had);
}

static bool caches_add(struct loam_cache *cache, const struct caches_key *key,
                       const struct caches_value *value, uint64_t expires) {
    struct caches_entry *entry = caches_prepare(cache, key, expires);
    if (entry == NULL) {
        return false;
    }
    entry->bytes = caches_bytes(cache, entry, value->bytes);
    if (!caches_may(cache, entry->bytes, 0)) {
        caches_return(cache, entry);
        return false;
    }
    caches_own(cache, value->pointer);
    entry->value = value->pointer;
    entry->hash = key->hash;
    entry->number = ++cache->number;
    caches_table_insert(&cache->table, entry);
    caches_order_insert(&cache->order, entry);
    caches_set_time(cache, entry, expires);
    caches_set_bytes(cache, cache->seat.bytes + entry->bytes);
    caches_settle(cache, entry);
    return true;
}

static void caches_change_bytes(struct loam_cache *cache,
                                struct caches_entry *entry, size_t bytes) {
    caches_set_bytes(cache, cache->seat.bytes - entry->bytes + bytes);
    caches_order_resize(&cache->order, entry, bytes);
}

// What goes when a value is replaced, as a record of its own.
static void caches_replaced(struct loam_cache *cache,
                            const struct caches_entry *entry,
                            struct caches_entry *old) {
    cache->stats.gone[LOAM_CACHE_REPLACED]++;
    if (old != NULL) {
        old->key = entry->key;
        old->value = entry->value;
        caches_note(cache, old, LOAM_CACHE_REPLACED);
    }
}

static bool caches_replace(struct loam_cache *cache, struct caches_entry *entry,
                           const struct caches_value *value, uint64_t expires) {
    struct caches_entry *old = caches_tells(cache) ? caches_take(cache) : NULL;
    bool is_timed = expires != CACHES_FOREVER;
    if ((caches_tells(cache) && old == NULL) ||
        (is_timed && caches_alarm(entry) == NULL)) {
        return false; // CA6
    }
    size_t bytes = caches_bytes(cache, entry, value->bytes);
    if (!caches_may(cache, bytes, entry->bytes)) {
        caches_part(cache, entry, LOAM_CACHE_REPLACED);
        return false;
    }
    caches_replaced(cache, entry, old);
    caches_own(cache, value->pointer);
    entry->value = value->pointer;
    if (entry->more != NULL) {
        ((struct caches_alarm *)entry->more)->charge = 0;
    }
    caches_use(cache, entry);
    caches_set_time(cache, entry, expires);
    caches_change_bytes(cache, entry, bytes);
    caches_settle(cache, entry);
    return true;
}

bool caches_put(struct loam_cache *cache, const struct caches_key *key,
                const struct caches_value *value, uint64_t now,
                uint64_t expires) {
    if (expires != CACHES_FOREVER && cache->wheel == NULL) {
        cache->wheel = caches_wheel_make(now);
        if (cache->wheel == NULL) {
            return false;
        }
    }
    struct caches_entry *entry = caches_find(cache, key);
    bool put = entry != NULL ? caches_replace(cache, entry, value, expires)
                             : caches_add(cache, key, value, expires);
    cache->stats.puts += put;
    return put;
}

bool caches_charge(struct loam_cache *cache, struct caches_entry *entry,
                   size_t bytes) {
    size_t had = entry->more == NULL ? 0 : entry->bytes;
    struct caches_alarm *alarm = caches_alarm(entry);
    if (alarm == NULL) {
        return false;
    }
    size_t bare = had != 0 ? had - alarm->charge
                           : entry->bytes + caches_cell_bytes((uintptr_t)alarm);
    if (bytes > PTRDIFF_MAX - bare ||
        !caches_may(cache, bare + bytes, entry->bytes)) {
        caches_part(cache, entry, LOAM_CACHE_EVICTED);
        return false;
    }
    alarm->charge = bytes;
    caches_change_bytes(cache, entry, bare + bytes);
    caches_settle(cache, entry);
    return true;
}

// --- To make ---------------------------------------------------------------

static unsigned caches_layout(void) {
    static const size_t pointers[] = {offsetof(struct caches_entry, key),
                                      offsetof(struct caches_entry, value),
                                      offsetof(struct caches_entry, more)};
    const struct layout *layout =
        (const void *)loam_layout(sizeof(struct caches_entry), pointers,
                                  sizeof pointers / sizeof *pointers);
    return layout == NULL ? 0 : layout->id;
}

static size_t caches_bound(size_t bound) {
    return bound == 0 ? SIZE_MAX : bound;
}

struct loam_cache *caches_make(const struct loam_cache_settings *settings) {
    unsigned layout = caches_layout();
    struct loam_cache *cache =
        layout == 0
            ? NULL
            : object_make(sizeof *cache, (struct order){.kind = KIND_SCANNED});
    if (cache == NULL) {
        return NULL;
    }
    cache->layout = layout;
    cache->keys = settings->keys;
    cache->max_bytes = caches_bound(settings->max_bytes);
    cache->max_entries = caches_bound(settings->max_entries);
    cache->ttl_ns = settings->ttl_ns;
    cache->seed = settings->seed != 0 ? settings->seed : clock_now_ns();
    cache->tell = settings->gone;
    cache->tell_data = settings->gone_data;
    cache->clock = settings->clock;
    cache->clock_data = settings->clock_data;
    cache->seat.target_bytes = SIZE_MAX;
    cache->seat.min_bytes = settings->min_bytes;
    cache->seat.cost = settings->cost != 0 ? settings->cost : 1;
    cache->seat.confined = settings->gone != NULL;
    cache->seat.asks = settings->pressure == LOAM_CACHE_IN_USE;
    cache->seat.never = settings->pressure == LOAM_CACHE_NEVER;
    caches_table_init(&cache->table);
    caches_order_init(&cache->order, settings->policy, cache->seed);
    return caches_bell_enrol(&cache->seat, &caches_hands) ? cache : NULL;
}
