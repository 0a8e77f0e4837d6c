/* loam.h: automatic memory for C.
 *
 * Loam is a conservative mark-and-sweep garbage collector.  It finds what is
 * alive by reading the stack, the registers, the global variables and the heap
 * for words that look like pointers into its heap; everything else is reused.
 * No compiler support, no registration, no declaration of types is needed:
 *
 *     struct node *node = loam_alloc(sizeof *node);    // and never freed
 *
 * What a conservative collector cannot see (a pointer that is stored hidden,
 * split, or outside the memory it reads) is listed in docs/limits.md.
 *
 * Conventions of this header
 *   Memory      What a function returns belongs to the collector.  It stays
 *               while any word in a scanned place points to its first byte or
 *               into it.  Scanned places: stacks, registers, variables (global,
 *               static, thread-local), scanned objects, ranges the program
 *               adds.
 *   Alignment   Every object is aligned to 16 bytes.
 *   Sizes       Bytes, unless the name says otherwise.
 *   Shortage    Allocation returns NULL and sets errno to ENOMEM; nothing
 *               aborts for want of memory.  A size above PTRDIFF_MAX, or a
 *               product that overflows, is a shortage too.
 *   Threads     Any thread may call any function at any time; the first call
 *               makes it known to the collector (loam/thread.h).  An object may
 *               be freed by another thread than the one that made it.  Figures
 *               are the default heap's.
 *   Signals     A handler may allocate and free.  One that interrupted this
 *               library in the same thread is served from a reserve, and
 *               meets NULL when that is used up; it cannot collect, nor change
 *               roots, limits or hooks then.
 *   Cost        "constant" is a few nanoseconds; an allocation may run a
 *               collection.
 */

#ifndef LOAM_H
#define LOAM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#else
#include <stdbool.h>
#endif

#if defined(__GNUC__)
#define LOAM_API __attribute__((__visibility__("default")))
#define LOAM_ALLOC_SIZE(...)                                                   \
    __attribute__((__malloc__, __alloc_size__(__VA_ARGS__)))
#define LOAM_MUST_USE __attribute__((__warn_unused_result__))
#else
#define LOAM_API
#define LOAM_ALLOC_SIZE(...)
#define LOAM_MUST_USE
#endif

#define LOAM_VERSION_MAJOR 0
#define LOAM_VERSION_MINOR 1
#define LOAM_VERSION_PATCH 0

/* --- Start ------------------------------------------------------------- */

/* Sets the collector up: reserves address space, reads LOAM_* from the
 * environment.  Optional: the first allocation does it.  True when the
 * collector is ready; false, with a message on standard error, when the system
 * refuses the address space it needs.  Calling it again changes nothing. */
LOAM_API bool loam_init(void);

/* The version of the library that is linked, as "major.minor.patch". */
LOAM_API const char *loam_version(void);

/* --- Allocate ---------------------------------------------------------- */

/* A new object of at least `bytes` bytes, all zero, scanned for pointers.
 * loam_alloc(0) is a unique object of 16 bytes.  Constant; after McCarthy
 * (1960) in what it promises, after Immix and Go in how (cells are handed out
 * by bumping through the holes of the allocation bitmap). */
LOAM_API void *loam_alloc(size_t bytes) LOAM_ALLOC_SIZE(1) LOAM_MUST_USE;

/* Like loam_alloc, for memory that will never hold a pointer to an object:
 * text, pixels, numbers.  The collector neither reads nor clears it: its bytes
 * are undefined.  What Boehm's collector calls atomic. */
LOAM_API void *loam_alloc_leaf(size_t bytes) LOAM_ALLOC_SIZE(1) LOAM_MUST_USE;

/* Room for `count` elements of `bytes` each, all zero, scanned. */
LOAM_API void *loam_calloc(size_t count, size_t bytes)
    LOAM_ALLOC_SIZE(1, 2) LOAM_MUST_USE;

/* Like loam_alloc, at an address that is a multiple of `alignment`: a power of
 * two of any size; another value is refused with NULL and errno EINVAL.  An
 * alignment above 16 may cost up to `alignment` bytes more. */
LOAM_API void *loam_alloc_aligned(size_t alignment, size_t bytes)
    LOAM_ALLOC_SIZE(2) LOAM_MUST_USE;

/* The object of `p`, resized: the smaller of the two sizes of its bytes is
 * kept, and its kind (scanned, leaf, pinned, base-only, typed) stays.  Where
 * the kind is zeroed, new bytes are zero.  The object may move: then the old
 * one is freed at once.  loam_realloc(NULL, n) is loam_alloc(n);
 * loam_realloc(p, 0) frees p and returns NULL.  When memory is short p is left
 * as it was.  `p` must be the start of an object. */
LOAM_API void *loam_realloc(void *p, size_t bytes) LOAM_MUST_USE;

/* Copies of a text, as leaves.  loam_strndup copies at most `bytes_max` bytes
 * and always ends the copy with a zero. */
LOAM_API char *loam_strdup(const char *text) LOAM_MUST_USE;
LOAM_API char *loam_strndup(const char *text, size_t bytes_max) LOAM_MUST_USE;

/* Objects that are never collected, only freed by loam_free.  The first kind
 * is scanned and thereby a root: what it points to is alive.  The second holds
 * no pointers and is not zeroed. */
LOAM_API void *loam_alloc_pinned(size_t bytes) LOAM_ALLOC_SIZE(1) LOAM_MUST_USE;
LOAM_API void *loam_alloc_leaf_pinned(size_t bytes)
    LOAM_ALLOC_SIZE(1) LOAM_MUST_USE;

/* For huge arrays: scanned and zeroed, but kept alive only by a pointer into
 * the first 4 KiB of the object, so that a stray integer is less likely to
 * retain it.  The program must keep such a pointer while it uses the array. */
LOAM_API void *loam_alloc_base_only(size_t bytes)
    LOAM_ALLOC_SIZE(1) LOAM_MUST_USE;

/* --- Free, and ask ----------------------------------------------------- */

/* Frees the object of `p` at once, without waiting for a collection.  Never
 * needed; it saves a collection's work where the program knows better.  Weak
 * references to the object are cleared and its finalizer is dropped, not run.
 * NULL is allowed.  A pointer that is not the start of an object in use (freed
 * already, inside an object, foreign) is reported on the warning hook with the
 * caller's address, and nothing is freed. */
LOAM_API void loam_free(void *p);

/* The bytes of the object that starts at `p` that the program may use, all of
 * which are scanned if the object is; at least what was asked for.  0 for NULL
 * and for what is not the start of an object. */
LOAM_API size_t loam_usable_size(const void *p);

/* Whether `p` points into an object in use.  Any value may be asked about. */
LOAM_API bool loam_is_heap(const void *p);

/* The start of the object in use that `p` points into, or NULL: one past the
 * end of an object is not in it. */
LOAM_API void *loam_base(const void *p);

/* Keeps the object of `p` alive up to this point of the code: a compiler may
 * otherwise forget the pointer after its last visible use.  Costs nothing.
 * Not a pin: past this line it has no effect. */
static inline void loam_keep(const void *p) {
#if defined(__GNUC__)
    __asm__ volatile("" : : "g"(p) : "memory");
#else
    static const void *volatile sink;
    sink = p;
#endif
}

/* A pointer as a number that the collector does not recognise, and back.
 * A hidden pointer keeps nothing alive. */
#define LOAM_HIDE(p)        (~(uintptr_t)(p))
#define LOAM_REVEAL(hidden) ((void *)(~(uintptr_t)(hidden)))

/* --- Roots ------------------------------------------------------------- */

/* Memory that is not the collector's but holds pointers to its objects: every
 * aligned word in [start, start + bytes) is scanned.  Global variables, stacks
 * and thread-local variables are found without help; a malloc'ed or mapped
 * area is not.  False when the range is empty, wraps, or memory is short. */
LOAM_API bool loam_roots_add(const void *start, size_t bytes);

/* Takes back what loam_roots_add added within [start, start + bytes): a range
 * that sticks out on either side keeps what sticks out.  False when nothing
 * was added there or memory for a remaining half is short. */
LOAM_API bool loam_roots_remove(const void *start, size_t bytes);

/* Never scan [start, start + bytes) as a root, whoever says it is one: for a
 * large global array of numbers.  A stack is always scanned.  Stays in force
 * until the process ends. */
LOAM_API bool loam_roots_exclude(const void *start, size_t bytes);

/* A scanner for roots that only the program can find.  At every collection it
 * is called with the world stopped, and calls push(cycle, start, bytes) for
 * each piece of memory to scan.  It must not allocate, lock, or jump out.
 * The same function and data may be added once; data is passed through. */
typedef void loam_push_fn(void *cycle, const void *start, size_t bytes);
typedef void loam_scanner_fn(loam_push_fn *push, void *cycle, void *data);
LOAM_API bool loam_roots_scanner(loam_scanner_fn *scanner, void *data);
LOAM_API bool loam_roots_scanner_remove(loam_scanner_fn *scanner, void *data);

/* --- Collect ----------------------------------------------------------- */

/* One full collection, done when it returns.  True when it ran to its end;
 * false when it was given up (nothing is reclaimed then, and nothing lost).
 * Inside a finalizer or a root scanner it does nothing and returns false.
 * Cost: proportional to what is alive. */
LOAM_API bool loam_collect(void);

/* No automatic collection between loam_disable and the loam_enable that pairs
 * with it; they nest.  loam_collect still collects.  At the limit allocation
 * returns NULL instead of collecting.  An enable too many is reported. */
LOAM_API void loam_disable(void);
LOAM_API void loam_enable(void);

/* At most `bytes` of committed heap and side tables from now on; 0 lifts the
 * limit.  Below what is in use now, it collects, has caches (loam/cache.h) let
 * go, and gives free memory back first, then refuses to grow: false when still
 * more than `bytes` is in use. */
LOAM_API bool loam_set_limit(size_t bytes);

/* --- Look -------------------------------------------------------------- */

/* Figures of the collector.  Every field is defined and never negative. */
struct loam_stats {
    uint64_t collections;        /* completed */
    uint64_t collections_failed; /* begun and given up */
    uint64_t allocated_bytes;    /* handed out since the start, in cells */
    uint64_t freed_bytes;        /* by loam_free and loam_realloc */
    uint64_t collected_bytes;    /* found dead by collections */
    uint64_t live_bytes;         /* in objects after the last collection */
    uint64_t live_objects;       /* after the last collection */
    uint64_t used_bytes;         /* in objects now: allocated, not yet dead */
    uint64_t block_bytes;        /* in blocks and runs that hold objects */
    uint64_t heap_bytes;         /* committed for objects */
    uint64_t heap_bytes_max;     /* the largest heap_bytes so far */
    uint64_t metadata_bytes;     /* committed beside the heap: side tables */
    uint64_t limit_bytes;        /* loam_set_limit, 0 if none */
    uint64_t next_bytes;         /* block_bytes at which the next one begins */
    uint64_t root_bytes;         /* scanned as roots by the last collection */
    uint64_t scanned_bytes;      /* read in objects by the last collection */
    uint64_t neighbour_objects;  /* kept by a pointer one past another's end */
    uint64_t overflows;          /* times the mark stack was full, in all */
    uint64_t pause_ns;           /* the last collection */
    uint64_t pause_ns_max;       /* the longest so far */
    uint64_t pause_ns_total;     /* all so far */
    uint64_t mark_ns_total;      /* of these, marking */
    uint64_t stop_ns;            /* of pause_ns, until the last thread stood */
    uint64_t stop_ns_max;        /* the longest so far */
    uint64_t stop_ns_total;      /* all so far */
};

/* Fills in `*stats`.  `stats_bytes` is sizeof *stats: a program built with an
 * older header passes less and is given the fields it knows; one built with a
 * newer header finds zero in the fields that this library lacks.  Constant. */
LOAM_API void loam_stats(struct loam_stats *stats, size_t stats_bytes);

/* Called with each warning (a sentence without a newline) instead of printing
 * it to standard error.  NULL restores the default.  It may not allocate. */
typedef void loam_warning_fn(const char *sentence, void *data);
LOAM_API void loam_set_warning_hook(loam_warning_fn *hook, void *data);

/* Called when an allocation is about to fail after a collection did not help:
 * it may free, drop references, or raise the limit, and returns true to have
 * the allocation tried once more.  `bytes` is the size of the object it would
 * become, at least what was asked for.  It must return.  NULL: none. */
typedef bool loam_shortage_fn(size_t bytes, void *data);
LOAM_API void loam_set_shortage_hook(loam_shortage_fn *hook, void *data);

#ifdef __cplusplus
}
#endif

/* What most programs with threads, all with fibers, and those with heaps of
 * their own need besides: */
#include "loam/heaps.h"
#include "loam/threads.h"

#endif
