/* loam/cache.h: what may be made again.
 *
 * A cache keeps objects under keys as long as there is room for them, and knows
 * itself how much room they take: the heap tells, nobody has to.  When memory
 * is short caches shrink before the heap grows or an allocation fails, those
 * first that are large, cold and cheap to fill again.
 *
 *     struct loam_cache_settings settings = {.keys = LOAM_CACHE_TEXTS,
 *                                            .max_bytes = 64 << 20};
 *     cache = loam_cache_make(&settings, sizeof settings);
 *
 *     page = loam_cache_get(cache, "/index");
 *     if (page == NULL) {
 *         page = page_render("/index");
 *         loam_cache_put(cache, "/index", page);
 *     }
 *
 * Conventions, beside those of loam.h
 *   Ownership  A cache is an object like any other: kept by a pointer to it,
 *              collected without one together with what only it kept.  Nothing
 *              is to be unregistered.  It is not to be freed by loam_free.
 *   Values     Pointers to objects of the default heap, or into them; a cache
 *              keeps them alive.  What is no object is reported on the warning
 *              hook and refused with errno EINVAL.  An object that is in a
 *              cache is not to be freed by hand.
 *   Keys       Words, which are not kept alive if they look like pointers; or
 *              texts, or bytes, of which the cache keeps a copy.  A key must
 *              not be NULL, but for the word 0.
 *   Gone       What left a cache is dead when nothing else leads to it, and its
 *              memory serves again after the next collection.
 *   Threads    A cache is used by one thread at a time, like any structure of
 *              the program's: the program locks.  What the collector does to
 *              caches under pressure needs no lock of the program's; see
 *              "Pressure".
 *   Signals    Not in a handler.
 *   Memory     False or NULL, and errno ENOMEM, where memory is short; the
 *              cache is as it was then.
 */

#ifndef LOAM_CACHE_H
#define LOAM_CACHE_H

#include "../loam.h"
#include "weak.h" /* struct loam_cursor */

#ifdef __cplusplus
extern "C" {
#endif

struct loam_cache;

/* --- Make -------------------------------------------------------------- */

/* Which entry goes first when there is no room.  All take constant time.
 *   LRU     The one that was not used for longest.
 *   LFU     The one that was used least often since it was put; among several
 *           the one not used for longest (Shah, Mitra and Matani 2010).
 *   FIFO    The one that was put first.
 *   RANDOM  Any, each as likely as another.
 *   S3FIFO  A tenth of the room is for what is new; what was asked for again
 *           there moves on to the rest, where it stays as long as it is asked
 *           for (Yang, Zhang, Qiu, Yue and Rashmi 2023).  Good where many keys
 *           are asked for once, as in a scan.
 * An entry was used when loam_cache_get found it or loam_cache_put found its
 * key. */
enum loam_cache_policy {
    LOAM_CACHE_LRU,
    LOAM_CACHE_LFU,
    LOAM_CACHE_FIFO,
    LOAM_CACHE_RANDOM,
    LOAM_CACHE_S3FIFO
};

/* What `key` is in the functions below.
 *   WORDS  the key itself: a number, an address
 *   TEXTS  a const char *
 *   BYTES  a const struct loam_cache_bytes * */
enum loam_cache_keys { LOAM_CACHE_WORDS, LOAM_CACHE_TEXTS, LOAM_CACHE_BYTES };

struct loam_cache_bytes {
    const void *start;
    size_t bytes;
};

/* Why an entry is gone. */
enum loam_cache_reason {
    LOAM_CACHE_EVICTED,  /* another needed the room */
    LOAM_CACHE_EXPIRED,  /* its time was over */
    LOAM_CACHE_REPLACED, /* its key was given another value */
    LOAM_CACHE_REMOVED,  /* by loam_cache_remove */
    LOAM_CACHE_CLEARED,  /* by loam_cache_clear */
    LOAM_CACHE_SHRUNK,   /* under pressure, or by loam_cache_shrink */
    LOAM_CACHE_REASONS
};

/* Called for each entry that is gone, after the fact and outside of everything:
 * it may allocate, use this cache and any other, and put the entry back.  It
 * must return.  Key and value are as loam_cache_next gives them. */
typedef void loam_cache_gone_fn(const void *key, void *value,
                                enum loam_cache_reason reason, void *data);

/* The time in nanoseconds since any fixed moment; never goes back. */
typedef uint64_t loam_cache_clock_fn(void *data);

/* What the collector may do to the cache when memory is short.
 *   AT_ONCE  Take entries whenever the cache is not in use: in the thread that
 *            allocates, at an allocation that would grow the heap or fail.  A
 *            cache with a function `gone` is shrunk so only in the thread that
 *            used it last; other threads ask it to shrink when it is used next.
 *   IN_USE   Only ask: the cache shrinks when it is used next, or in
 *            loam_cache_tidy.
 *   NEVER    Nothing. */
enum loam_cache_pressure {
    LOAM_CACHE_AT_ONCE,
    LOAM_CACHE_IN_USE,
    LOAM_CACHE_NEVER
};

/* What a cache is to be; all zero is a cache of words without a bound, which
 * shrinks only under pressure. */
struct loam_cache_settings {
    enum loam_cache_policy policy;
    enum loam_cache_keys keys;
    enum loam_cache_pressure pressure;
    size_t max_bytes;           /* 0: no bound; see "Room" */
    size_t min_bytes;           /* pressure leaves it at least so much */
    size_t max_entries;         /* 0: no bound */
    uint64_t ttl_ns;            /* how long an entry stays; 0: for ever */
    uint64_t cost;              /* to make what is in a byte again, in any
                                   unit that all caches share; 0: 1 */
    uint64_t seed;              /* of RANDOM; 0: another each time */
    loam_cache_gone_fn *gone;   /* NULL: nobody is told */
    void *gone_data;            /* kept alive by the cache */
    loam_cache_clock_fn *clock; /* NULL: the system's */
    void *clock_data;           /* kept alive by the cache */
};

/* An empty cache.  `settings` may be NULL, for all zero; `settings_bytes` is
 * sizeof *settings, as for loam_stats.  NULL, and errno EINVAL, when an enum
 * has a value of none of its names. */
LOAM_API struct loam_cache *
loam_cache_make(const struct loam_cache_settings *settings,
                size_t settings_bytes) LOAM_MUST_USE;

/* --- Use --------------------------------------------------------------- */

/* Puts a value under a key, over an older one of the same key.  Others go if
 * there is no room, but never the one that was put.  The entry stays for the
 * cache's time, or, with the second function, for `ttl_ns` nanoseconds, 0: for
 * ever.  False, and errno ENOMEM, also when it alone is larger than max_bytes:
 * then the key has no entry any more.  Constant, but for what expires. */
LOAM_API bool loam_cache_put(struct loam_cache *cache, const void *key,
                             const void *value);
LOAM_API bool loam_cache_put_for(struct loam_cache *cache, const void *key,
                                 const void *value, uint64_t ttl_ns);

/* The value of a key, or NULL.  The first counts as a use of the entry and as a
 * hit or a miss; the second leaves no trace.  Constant, but for what expires:
 * each entry that does costs so once. */
LOAM_API void *loam_cache_get(struct loam_cache *cache, const void *key);
LOAM_API void *loam_cache_peek(struct loam_cache *cache, const void *key);

/* Removes an entry; whether there was one. */
LOAM_API bool loam_cache_remove(struct loam_cache *cache, const void *key);

/* Removes every entry. */
LOAM_API void loam_cache_clear(struct loam_cache *cache);

/* Does what is due: what expired goes, and what the collector asked for.  Every
 * function above and below does it too; this one is for a program that does
 * not use the cache for a while. */
LOAM_API void loam_cache_tidy(struct loam_cache *cache);

/* The next entry, in no order; false when there is none.  `*cursor` is all zero
 * at the beginning; `key` and `value` may be NULL.  What they receive is held
 * by them like by any pointer.  The cache may be changed between calls in every
 * way: an entry that is there all the time is seen once, one that is put or
 * goes meanwhile may be seen or not.  No use, no hit. */
LOAM_API bool loam_cache_next(struct loam_cache *cache,
                              struct loam_cursor *cursor, const void **key,
                              void **value);

/* --- Room -------------------------------------------------------------- */

/* An entry takes the bytes of its value's object, of the cache's copy of its
 * key, and of its own record (64, and 48 more if it expires or was charged),
 * each as the heap counts them: a whole cell.  What the object leads to is not
 * counted, and an object in two entries counts twice.  What the program knows
 * besides, memory of the system's or objects behind the value, it may add:
 * `bytes` more for the entry of a key, instead of what it added before.  Others
 * go if there is no room.  False if there is no such entry, or memory is short,
 * or the entry is larger than max_bytes now: then it is gone. */
LOAM_API bool loam_cache_charge(struct loam_cache *cache, const void *key,
                                size_t bytes);

/* Sets max_bytes and min_bytes; entries go until the rest has room. */
LOAM_API void loam_cache_resize(struct loam_cache *cache, size_t max_bytes,
                                size_t min_bytes);

/* --- Pressure ---------------------------------------------------------- */

/* When the heap is nearly as large as loam_set_limit allows after a collection,
 * or when it had to grow and could not, the collector takes entries from
 * caches: always from the one for which
 *
 *     bytes * (collections since it was last used + 1) / cost
 *
 * is greatest, a part of it, then from the one for which it is greatest now;
 * never below min_bytes; in a cache those first that its policy would evict.
 * That happens within an allocation of any thread, as for the shortage hook,
 * before it; functions `gone` are called there, when the cache was told
 * AT_ONCE and is this thread's: they must not wait for a lock that the program
 * may hold while it allocates.  Where they have to, say IN_USE.
 *
 * A child made by fork while another thread was using a cache, or was shrinking
 * it, finds it empty. */

/* Shrinks a cache to `bytes` or to nearly so; how many bytes went. */
LOAM_API size_t loam_cache_shrink(struct loam_cache *cache, size_t bytes);

/* Takes about `bytes` bytes from all caches, as the collector does; how many
 * went at once.  For a program that learns of pressure in its own way. */
LOAM_API size_t loam_caches_relieve(size_t bytes);

/* --- Look -------------------------------------------------------------- */

struct loam_cache_stats {
    uint64_t hits;                     /* loam_cache_get that found an entry */
    uint64_t misses;                   /* and that did not */
    uint64_t puts;                     /* that succeeded */
    uint64_t gone[LOAM_CACHE_REASONS]; /* entries, by reason */
    uint64_t entries;                  /* now */
    uint64_t bytes;                    /* of entries now; see "Room" */
    uint64_t bytes_max;                /* the most so far */
    uint64_t table_bytes;              /* of its tables, beside the entries */
};

/* Fills in `*stats`; `stats_bytes` as for loam_stats.  Constant. */
LOAM_API void loam_cache_stats(struct loam_cache *cache,
                               struct loam_cache_stats *stats,
                               size_t stats_bytes);

#ifdef __cplusplus
}
#endif

#endif
