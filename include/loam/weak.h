/* loam/weak.h: references that keep nothing alive, and what happens at the end.
 *
 *   weak references   lead to an object as long as it lives
 *   weak maps         from objects to values that live as long as their key
 *   value maps        from words or texts to objects that live on their own
 *   finalizers        a function to call when nothing leads to an object
 *   guardians         objects handed back when nothing leads to them
 *
 * Conventions, beside those of loam.h
 *   Ownership   References, maps and guardians are objects like any other: kept
 *               by a pointer to them, collected without one, freed by loam_free
 *               if the program likes.  Nothing is to be unregistered.
 *   Target      Where an object is asked for, a pointer to its first byte or
 *               into it will do, unless the text says "start".  What is no
 *               object in use is reported on the warning hook with the caller's
 *               address, and refused with errno EINVAL.
 *   Dead        An object is dead when a collection finds no way to it.  This
 *               collector is conservative: a stray word on a stack can delay
 *               it.  Nothing here happens at a promised time, or at exit.
 *   Freed       After loam_free(object), and loam_realloc that moved it, weak
 *               references give NULL at once, its entries in maps are gone and
 *               its finalizer does not run.
 *   Counted     Objects of loam/rc.h may be targets of weak references, keys
 *               and values, and have finalizers and guardians.  They are gone
 *               from the moment they begin to die, and entries with them.  The
 *               sections say what else is different.
 *   Threads     Each section says.  Collections by other threads are harmless
 *               at any instant, everywhere.
 *   Memory      A collection needs no memory for any of this; it is taken when
 *               things are made, and shortage is told then: NULL or false, and
 *               errno ENOMEM.
 */

#ifndef LOAM_WEAK_H
#define LOAM_WEAK_H

#include "../loam.h"

#ifdef __cplusplus
extern "C" {
#endif

/* --- Weak references --------------------------------------------------- */

struct loam_weak;

/* A weak reference to the object of `target`.  It is cleared when a collection
 * finds the object dead: loam_weak_make's before any finalizer can see the
 * object again; loam_weak_make_long's when its memory goes, so that it leads to
 * an object that a finalizer brought back.  Some ten nanoseconds, 16 bytes, and
 * some nanoseconds in each collection.  An old idea: Xerox's Cedar had them;
 * Boehm calls them disappearing links, and the two sorts are his. */
LOAM_API struct loam_weak *loam_weak_make(const void *target) LOAM_MUST_USE;
LOAM_API struct loam_weak *
loam_weak_make_long(const void *target) LOAM_MUST_USE;

/* The target, as it was given, or NULL when it was found dead or freed; of
 * NULL, as where making one was refused, NULL.  What it returns is a strong
 * pointer: the object lives while it is held.  Any thread, no lock, a
 * nanosecond or two. */
LOAM_API void *loam_weak_get(const struct loam_weak *weak);

/* Lets the reference lead to another object; NULL: to none.  False when it is
 * none in use, and the reference is as it was.  Not while another thread sets
 * or reads the same reference. */
LOAM_API bool loam_weak_set(struct loam_weak *weak, const void *target);

/* --- Weak maps --------------------------------------------------------- */

/* From objects, by identity, to any words.  The map keeps an entry's value
 * alive while the key is alive, and the key not at all: also when the value
 * leads to the key, directly or through other entries or maps.  An entry whose
 * key is dead is gone.  Such entries are ephemerons (Hayes 1997); a collection
 * resolves them in linear time (docs/design/trace/ephemeron.md).
 *
 * A pointer that leads to no place of Loam's, a static variable's, is a key
 * that never dies.  A map is used by one thread at a time, like any structure
 * of the program's.  An entry costs about 70 bytes. */
struct loam_weakmap;

LOAM_API struct loam_weakmap *loam_weakmap_make(void) LOAM_MUST_USE;

/* The value of an entry that is a counted object (loam/rc.h) is borrowed, and
 * takes its entry along when its count falls to 0; if its type is
 * LOAM_TYPE_TRACED, the map keeps it as it keeps others.  One of a shared type
 * is to be owned as long as its entry is there.
 *
 * A map that this function makes owns its counted values: one count of each,
 * released when the entry goes, be it that it is removed or replaced, that its
 * key dies, or that the map does.  A counted key dies when its count falls to
 * 0: its entries go then, before its destructor runs, and their values after
 * it.  As ever a value that leads to its own key does not keep it: the ring
 * through the entry is found by loam_collect_cycles or the tracer, like one
 * through slots, when both are of plain types.  A finalizer that brings the key
 * back keeps its entries.  What loam_weakmap_get returns is borrowed.
 *
 * A counted value is refused, with errno EINVAL and a warning, under a key of a
 * type that threads share or of another heap than the default one; and if value
 * or key is of a plain type and belongs to another thread.  Where the map dies,
 * or a key that is not counted, the values are released by the thread that put
 * them, at its next allocation that is not the fastest, or loam_settle. */
LOAM_API struct loam_weakmap *loam_weakmap_make_owning(void) LOAM_MUST_USE;

/* Puts an entry, over an older one of the same key.  False, and the map is as
 * it was, when memory is short or the key is no object. */
LOAM_API bool loam_weakmap_put(struct loam_weakmap *map, const void *key,
                               void *value);

/* The value of a key; NULL if there is none.  Constant. */
LOAM_API void *loam_weakmap_get(struct loam_weakmap *map, const void *key);

/* Removes an entry; whether there was one. */
LOAM_API bool loam_weakmap_remove(struct loam_weakmap *map, const void *key);

/* The number of entries now; proportional to the map's size. */
LOAM_API size_t loam_weakmap_count(struct loam_weakmap *map);

/* Removes every entry. */
LOAM_API void loam_weakmap_clear(struct loam_weakmap *map);

/* Where an iteration stands; all zero at the beginning. */
struct loam_cursor {
    uint64_t number;
    size_t place;
};

/* The next entry, oldest first; false when there is none.  What `key` and
 * `value` receive (either may be NULL) is held by them like by any pointer.
 * The map may be changed between calls in every way, and collections may clear
 * entries: an entry that is there all the time is seen once, one that is put
 * or removed meanwhile may be seen or not. */
LOAM_API bool loam_weakmap_next(struct loam_weakmap *map,
                                struct loam_cursor *cursor, const void **key,
                                void **value);

/* --- Value maps -------------------------------------------------------- */

/* From words, or from texts, to objects that the map does not keep alive: a
 * cache, a table of what was interned.  An entry whose value is dead is gone.
 * A key is any word, not kept alive either if it looks like a pointer; or a
 * text, of which the map keeps a copy.  Threads, costs and functions as for
 * weak maps. */
enum loam_keys { LOAM_KEYS_WORDS, LOAM_KEYS_TEXTS };

struct loam_valuemap;

LOAM_API struct loam_valuemap *
loam_valuemap_make(enum loam_keys keys) LOAM_MUST_USE;
LOAM_API bool loam_valuemap_put(struct loam_valuemap *map, const void *key,
                                const void *value);
LOAM_API void *loam_valuemap_get(struct loam_valuemap *map, const void *key);
LOAM_API bool loam_valuemap_remove(struct loam_valuemap *map, const void *key);
LOAM_API size_t loam_valuemap_count(struct loam_valuemap *map);
LOAM_API void loam_valuemap_clear(struct loam_valuemap *map);
LOAM_API bool loam_valuemap_next(struct loam_valuemap *map,
                                 struct loam_cursor *cursor, const void **key,
                                 void **value);

/* --- Finalizers -------------------------------------------------------- */

/* Is given the start of the object and the data it was set with.  It may do
 * all that the program may: allocate, collect, set finalizers, free the object.
 * If it stores a pointer to the object the object lives on, as it was, but has
 * no finalizer any more.  It must return. */
typedef void loam_finalizer_fn(void *object, void *data);

/* Which objects that are dead at the same time wait for one another.
 *   ORDERED      An object waits for those that lead to it: it is whole, with
 *                all it leads to, when its finalizer runs.  Objects that lead
 *                to each other, or one to itself, are never finalized and stay:
 *                break the ring, or say otherwise.
 *   IGNORING_SELF  The same, but what an object says of itself does not count.
 *   UNORDERED    Waits for nothing, as in Java.  What it leads to may have been
 *                finalized before.
 *   UNREACHABLE  As ordered, and it waits for unordered ones too: when its
 *                finalizer runs nobody else's can ever see the object.
 * The modes are those of Boehm's collector. */
enum loam_finalize {
    LOAM_FINALIZE_ORDERED,
    LOAM_FINALIZE_IGNORING_SELF,
    LOAM_FINALIZE_UNORDERED,
    LOAM_FINALIZE_UNREACHABLE
};

/* A finalizer that was set. */
struct loam_finalizer {
    loam_finalizer_fn *function; /* NULL: none */
    void *data;
    enum loam_finalize mode;
};

/* Sets the finalizer of the object that starts at `object`, instead of the one
 * it had, which `previous` (may be NULL) receives.  `finalizer` NULL, or one
 * with a NULL function, removes.  `data` is kept alive until the finalizer has
 * run: it must not lead to the object, which would never be dead.  Finalizers
 * run once.  Pinned objects never die, and theirs never run.  False when the
 * object is none or memory is short.  Any thread; some hundred nanoseconds, 40
 * bytes beside the heap.
 *
 * The finalizer of a counted object (loam/rc.h) runs when its count falls to 0,
 * or when it is found dead: at once, in the thread that destroys it, whatever
 * loam_finalizers_when says, and whatever the mode: parents come before what
 * they own.  The finalizer of its type runs first, then this one, then the
 * object is given to its guardians.  Who retains it meanwhile keeps it alive;
 * else its destructor follows.  The object is the finalizer's for as long as it
 * runs: it releases nothing that it has not retained. */
LOAM_API bool loam_finalizer_set(void *object,
                                 const struct loam_finalizer *finalizer,
                                 struct loam_finalizer *previous);

/* The finalizer that is set now; false if there is none. */
LOAM_API bool loam_finalizer_get(const void *object,
                                 struct loam_finalizer *finalizer);

/* When finalizers run that are due: on their own, at the end of an allocation
 * that had to leave its fast path or of loam_collect, in the thread that did
 * so, one thread at a time and none within another; or only when the program
 * asks.  The first is the default; the second is for programs whose finalizers
 * need locks that an allocating thread may hold. */
enum loam_finalizers {
    LOAM_FINALIZERS_ON_THEIR_OWN,
    LOAM_FINALIZERS_ON_DEMAND
};
LOAM_API void loam_finalizers_when(enum loam_finalizers when);

/* Runs up to `count_max` finalizers that are due, also from within another, and
 * returns how many it ran.  The thread that calls it in a loop with
 * loam_finalizers_wait is the thread that finalizes. */
LOAM_API size_t loam_finalizers_run(size_t count_max);

/* Waits until some are due, at most `wait_ms` milliseconds, or for ever if that
 * is negative; whether there are.  The wait is a safe region: it delays no
 * collection. */
LOAM_API bool loam_finalizers_wait(int wait_ms);

/* How many are due; and how many are set and not due, those that guardians
 * hold included.  A count of the second kind that only grows is a ring of
 * ordered objects. */
LOAM_API size_t loam_finalizers_due(void);
LOAM_API size_t loam_finalizers_waiting(void);

/* Called after each collection that made some due, by the thread that ran it,
 * outside all locks of Loam's: to wake the thread that is to run them.  NULL:
 * nobody.  Replaces the one before. */
typedef void loam_notifier_fn(void *data);
LOAM_API void loam_finalizers_notify(loam_notifier_fn *notifier, void *data);

/* --- Guardians --------------------------------------------------------- */

/* Holds objects that it was given until they are dead, and then gives them
 * back, whole, when it is asked: cleaning up where and when the program likes
 * (Dybvig, Bruggeman and Eby 1993).  An object may be given to several, and
 * several times.  A guardian that nothing leads to is dead, and what it holds
 * dies as if it had not been there.  Any thread.
 *
 * A counted object (loam/rc.h) is given back instead of being destroyed, when
 * its count falls to 0 or it is found dead, after its finalizers.  The guardian
 * owns a count of it until then, and the caller of loam_guardian_next from then
 * on (of a deferred type: nobody does): released once more it dies, or goes to
 * the guardian that it was given to anew. */
struct loam_guardian;

LOAM_API struct loam_guardian *loam_guardian_make(void) LOAM_MUST_USE;

/* Gives an object to the guardian.  False when it is none or memory is
 * short. */
LOAM_API bool loam_guardian_watch(struct loam_guardian *guardian, void *object);

/* An object that was found dead, or NULL: the start of it, once for each time
 * it was given. */
LOAM_API void *loam_guardian_next(struct loam_guardian *guardian);

/* --- By hand ----------------------------------------------------------- */

/* Calls function(data) while no collection can begin, and returns what it
 * returns: for programs that hide pointers (LOAM_HIDE) and must make a strong
 * one of a hidden one without a collection in between.  The function may
 * allocate: the heap grows instead.  A collection that anybody asks for
 * meanwhile is given up: keep it short.  It must return, and not fork. */
typedef void *loam_locked_fn(void *data);
LOAM_API void *loam_with_collection_lock(loam_locked_fn *function, void *data);

#ifdef __cplusplus
}
#endif

#endif
