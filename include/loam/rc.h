/* loam/rc.h: objects that count who owns them.
 *
 * A counted object dies the moment its last owner lets go: its destructor runs,
 * then its memory is free.  No owner need be trusted to be the last; rings of
 * objects that own each other are found by a collector of their own, which
 * looks at suspects only; and behind both stands the tracer, which finds what
 * neither can.
 *
 *     struct node { struct node *left, *right; FILE *file; };
 *     static void node_destroy(void *node) { ... fclose ... }
 *     static LOAM_TYPE(node_type, struct node,
 *                      LOAM_OWNS(struct node, left, right),
 *                      .destroy = node_destroy);
 *
 *     loam_auto(struct node) root = loam_new(&node_type);    count 1
 *     root->left = loam_new(&node_type);                     the slot owns it
 *     loam_assign(&root->right, root->left);                 count 2
 *                                        here root dies, and all it owned
 *
 * Conventions, beside those of loam.h
 *   Owner     Who has a count.  What returns an object "owned" gives one away
 *             (the caller releases it); every other pointer is borrowed, and
 *             good as long as somebody else owns the object.
 *   Slot      A word in a counted object that owns what it points to.  A type
 *             declares its slots: every declared slot is NULL or holds a count,
 *             and every count that a word of the object holds is declared.
 *             What is not declared is borrowed, or points to a traced object.
 *   Thread    An object of a plain type belongs to the thread that made it: no
 *             other may count it while that thread lives.  What hangs together
 *             of what a thread left when it ended belongs to the one thread
 *             that takes it over; so does garbage among it that only the tracer
 *             finds, which waits until one thread is left.  Types that threads
 *             share say so (LOAM_TYPE_SHARED, LOAM_TYPE_ATOMIC).  LOAM_CHECK=rc
 *             tells of a wrong thread.
 *   Mixed     See "Both worlds" below.
 *   Signals   None of this in a signal handler.
 *   Misuse    A release too many, or of an object that is gone, is reported on
 *             the warning hook with the caller's address, and does nothing,
 *             as long as the memory was not used again.
 *
 * Counting after Collins (1960); the cycle collector after Lins (1992), Bacon
 * and Rajan (2001); biased counts after Choi, Shull and Torrellas (2018);
 * deferred ones after Deutsch and Bobrow (1976).
 */

#ifndef LOAM_RC_H
#define LOAM_RC_H

#include "../loam.h"

#ifdef __cplusplus
extern "C" {
#endif

/* --- What the analyzers are told --------------------------------------- */

/* Compiled with LOAM_ANALYZE defined, for analysis alone, what counts inline is
 * declared only, and gcc -fanalyzer (from gcc 11 on) and clang's analyzer know
 * who gives an owner away and who takes it: what is not released, or once too
 * often, is told.  They know one owner a pointer: what loam_retain returns is
 * another, to be released by that name.  clang does not follow loam_auto. */
#if defined(LOAM_ANALYZE) && defined(__clang__)
#define LOAM_OWNED   __attribute__((__ownership_returns__(malloc)))
#define LOAM_LETS_GO __attribute__((__ownership_takes__(malloc, 1)))
#elif defined(LOAM_ANALYZE) && defined(__GNUC__) && !defined(__cplusplus)
#define LOAM_OWNED __attribute__((__malloc__(loam_release, 1)))
#define LOAM_LETS_GO
#else
#define LOAM_OWNED
#define LOAM_LETS_GO
#endif

/* --- Types ------------------------------------------------------------- */

/* Is given a dying object.  A destructor runs once: its slots are as they were,
 * what they own is still there, weak references to the object give NULL.  It
 * releases what the library does not know of; the slots are released after it,
 * by the library, parents before children.  It may allocate, retain, release
 * and ask weak references; it may not retain its own object, nor what is part
 * of the same ring.
 *
 * Part of a dead ring is what hangs on it alone, too.  These die together, in
 * no order: what hangs on the ring may be destroyed before its owner in it, and
 * a destructor may find that those of what it owns have run.  The memory of all
 * is whole until the last of them is done with, and what one of them releases
 * of another is not destroyed twice.
 *
 * A finalizer, if a type has one, runs before that, at most once in the life of
 * an object, and may retain it: then the object lives on.  What traced memory
 * may hold without a count (LOAM_TYPE_TRACED) it may put there instead; such an
 * object, to which a finalizer led, is destroyed a collection later if it did
 * not. */
typedef void loam_destroy_fn(void *object);

/* Calls slot(&object->field, data) for each word that owns something now.  For
 * objects whose slots cannot be listed; it changes and allocates nothing. */
typedef void loam_slot_fn(void *slot, void *data);
typedef void loam_visit_fn(void *object, loam_slot_fn *slot, void *data);

enum {
    /* Can be no part of a ring: never suspected.  So is a type without slots,
     * without saying so. */
    LOAM_TYPE_ACYCLIC = 1,
    /* No word of it points to an object of Loam: the tracer does not read it.
     * No slots. */
    LOAM_TYPE_LEAF = 2,
    /* Pointers in local variables are not counted, only those that loam_assign
     * puts into slots, globals and other memory.  An object is new with count
     * 0, and one whose count is 0 dies when no stack holds it any more: at
     * loam_settle, and now and then, and when its thread ends.  Its destructor
     * puts none into variables of its callers.  Plain types only. */
    LOAM_TYPE_DEFERRED = 4,
    /* Counted by any thread, cheaply by the one that made it: 16 bytes before
     * the object instead of 8. */
    LOAM_TYPE_SHARED = 8,
    /* Counted by any thread, by atomic instructions: where no thread uses it
     * most. */
    LOAM_TYPE_ATOMIC = 16,
    /* Traced memory may point to it without a count: at count 0 it waits until
     * the tracer finds nothing that leads to it, and is destroyed then. */
    LOAM_TYPE_TRACED = 32,
    /* Its memory is not used again until the tracer has found no pointer to it:
     * a borrowed pointer that is too old reads a dead object, not a new one. */
    LOAM_TYPE_QUARANTINE = 64
};

/* g++ warns of fields that are left out, unless they say what they are then. */
#if defined(__cplusplus) && __cplusplus >= 201402L
#define LOAM_LEFT_OUT = {}
#else
#define LOAM_LEFT_OUT
#endif

struct loam_type {
    const char *name;                        /* for messages; stays */
    size_t bytes;                            /* of an object */
    uint32_t flags LOAM_LEFT_OUT;            /* LOAM_TYPE_* */
    uint32_t slot_count LOAM_LEFT_OUT;       /* slots at known places, */
    const uint32_t *slots LOAM_LEFT_OUT;     /* their offsets in bytes; stay */
    loam_visit_fn *visit LOAM_LEFT_OUT;      /* slots beside these, or NULL */
    loam_destroy_fn *destroy LOAM_LEFT_OUT;  /* or NULL */
    loam_destroy_fn *finalize LOAM_LEFT_OUT; /* or NULL */
    uint32_t id; /* the library's: 0 until the first object */
};

/* Defines a type: LOAM_TYPE(name, struct tag), and after these, if need be,
 * designated initializers.  Static or global; at most 4,000 types.  Put
 * `static` before it.  In C++ it takes C++20 and the order of the fields above
 * (.flags, LOAM_OWNS, .visit, .destroy, .finalize); an older one fills in a
 * struct loam_type by hand, or has its types from loam/rc.hpp. */
#define LOAM_TYPE(variable, ...)                                               \
    struct loam_type variable = {LOAM_TYPE_FIELDS(__VA_ARGS__, .id = 0)}
#define LOAM_TYPE_FIELDS(T, ...) .name = #T, .bytes = sizeof(T), __VA_ARGS__

/* The slots of a type by the names of their fields, up to sixteen. */
#define LOAM_OWNS(T, ...)                                                      \
    .slot_count = LOAM_OWNS_COUNT(__VA_ARGS__),                                \
    .slots = LOAM_OWNS_LIST(LOAM_OWNS_EACH(T, __VA_ARGS__))
#ifndef __cplusplus
#define LOAM_OWNS_LIST(...) ((const uint32_t[]){__VA_ARGS__})
#else
#define LOAM_OWNS_LIST(...) loam_owns<__VA_ARGS__>::list
extern "C++" {
template <uint32_t... offsets> struct loam_owns {
    static constexpr uint32_t list[] = {offsets...};
};
template <uint32_t... offsets> constexpr uint32_t loam_owns<offsets...>::list[];
}
#endif

#define LOAM_OWNS_COUNT(...)                                                   \
    LOAM_OWNS_17TH(__VA_ARGS__, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4,  \
                   3, 2, 1, 0)
#define LOAM_OWNS_17TH(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, ...) q
#define LOAM_OWNS_EACH(T, ...)                                                 \
    LOAM_OWNS_JOIN(LOAM_OWNS_, LOAM_OWNS_COUNT(__VA_ARGS__))(T, __VA_ARGS__)
#define LOAM_OWNS_JOIN(a, b)    LOAM_OWNS_JOIN_(a, b)
#define LOAM_OWNS_JOIN_(a, b)   a##b
#define LOAM_OWNS_1(T, a)       (uint32_t) offsetof(T, a)
#define LOAM_OWNS_2(T, a, ...)  LOAM_OWNS_1(T, a), LOAM_OWNS_1(T, __VA_ARGS__)
#define LOAM_OWNS_3(T, a, ...)  LOAM_OWNS_1(T, a), LOAM_OWNS_2(T, __VA_ARGS__)
#define LOAM_OWNS_4(T, a, ...)  LOAM_OWNS_1(T, a), LOAM_OWNS_3(T, __VA_ARGS__)
#define LOAM_OWNS_5(T, a, ...)  LOAM_OWNS_1(T, a), LOAM_OWNS_4(T, __VA_ARGS__)
#define LOAM_OWNS_6(T, a, ...)  LOAM_OWNS_1(T, a), LOAM_OWNS_5(T, __VA_ARGS__)
#define LOAM_OWNS_7(T, a, ...)  LOAM_OWNS_1(T, a), LOAM_OWNS_6(T, __VA_ARGS__)
#define LOAM_OWNS_8(T, a, ...)  LOAM_OWNS_1(T, a), LOAM_OWNS_7(T, __VA_ARGS__)
#define LOAM_OWNS_9(T, a, ...)  LOAM_OWNS_1(T, a), LOAM_OWNS_8(T, __VA_ARGS__)
#define LOAM_OWNS_10(T, a, ...) LOAM_OWNS_1(T, a), LOAM_OWNS_9(T, __VA_ARGS__)
#define LOAM_OWNS_11(T, a, ...) LOAM_OWNS_1(T, a), LOAM_OWNS_10(T, __VA_ARGS__)
#define LOAM_OWNS_12(T, a, ...) LOAM_OWNS_1(T, a), LOAM_OWNS_11(T, __VA_ARGS__)
#define LOAM_OWNS_13(T, a, ...) LOAM_OWNS_1(T, a), LOAM_OWNS_12(T, __VA_ARGS__)
#define LOAM_OWNS_14(T, a, ...) LOAM_OWNS_1(T, a), LOAM_OWNS_13(T, __VA_ARGS__)
#define LOAM_OWNS_15(T, a, ...) LOAM_OWNS_1(T, a), LOAM_OWNS_14(T, __VA_ARGS__)
#define LOAM_OWNS_16(T, a, ...) LOAM_OWNS_1(T, a), LOAM_OWNS_15(T, __VA_ARGS__)

/* --- Count ------------------------------------------------------------- */

/* What stands before every counted object.  For the inline functions below. */
struct loam_head {
    uint32_t word; /* count and flags */
    uint32_t info; /* type and what the collectors note */
};
#define LOAM_HEAD_ONE   UINT32_C(64)         /* one owner */
#define LOAM_HEAD_QUIET UINT32_C(16)         /* a release looks no closer */
#define LOAM_HEAD_OTHER UINT32_C(0x80000000) /* not counted inline */

/* Inlined even where nothing is optimised: what is told of who counted an
 * object (loam_rc_ledger) names the program's functions. */
#define LOAM_IN_CALLER static inline __attribute__((__always_inline__))

LOAM_API void loam_release_slow(void *object);
LOAM_API void loam_retain_slow(void *object);
#ifdef LOAM_ANALYZE
void loam_release(void *object) LOAM_LETS_GO;
#endif

/* A new object of a type, all zero, owned: count 1 (0 if deferred).  NULL with
 * errno ENOMEM when memory is short; EINVAL, and a warning, when the type is
 * nonsense.  `extra_bytes` more at its end for the second. */
LOAM_API void *loam_new(struct loam_type *type) LOAM_OWNED LOAM_MUST_USE;
LOAM_API void *loam_new_flex(struct loam_type *type,
                             size_t extra_bytes) LOAM_OWNED LOAM_MUST_USE;

/* One owner more; returns the object.  NULL is allowed.  Half a nanosecond for
 * plain types.  33 million owners are one too many to count: from there on the
 * object is left to the tracer. */
#ifdef LOAM_ANALYZE
void *loam_retain(void *object) LOAM_OWNED;
#else
LOAM_IN_CALLER void *loam_retain(void *object) {
    if (object != NULL) {
        struct loam_head *head = (struct loam_head *)object - 1;
        uint32_t word = __atomic_load_n(&head->word, __ATOMIC_RELAXED);
        if (__builtin_expect((word & LOAM_HEAD_OTHER) == 0, 1)) {
            head->word = word + LOAM_HEAD_ONE;
        } else {
            loam_retain_slow(object);
        }
    }
    return object;
}
#endif

/* One owner less; the last one destroys the object, and all that only it owned,
 * without recursion.  NULL is allowed. */
#ifndef LOAM_ANALYZE
LOAM_IN_CALLER void loam_release(void *object) {
    if (object != NULL) {
        struct loam_head *head = (struct loam_head *)object - 1;
        uint32_t word = __atomic_load_n(&head->word, __ATOMIC_RELAXED);
        word -= LOAM_HEAD_ONE;
        if (__builtin_expect((int32_t)word >= (int32_t)LOAM_HEAD_ONE &&
                                 (word & LOAM_HEAD_QUIET) != 0,
                             1)) {
            head->word = word;
        } else {
            loam_release_slow(object);
        }
    }
}
#endif

/* Slots.  `slot` is the address of a pointer variable of any type.
 * loam_assign retains the new object, stores it, and releases the old one last;
 * the same object is fine.  loam_give stores one that the caller owns.
 * loam_clear empties the slot first and releases then: what the destructor sees
 * is a slot that is empty.  loam_take empties it and returns what it owned. */
#ifdef LOAM_ANALYZE
void loam_give(void *slot, void *owned);
void loam_assign(void *slot, void *object);
void loam_clear(void *slot);
void *loam_take(void *slot) LOAM_OWNED;
#else
LOAM_IN_CALLER void loam_give(void *slot, void *owned) {
    void *old;
    __builtin_memcpy(&old, slot, sizeof old);
    __builtin_memcpy(slot, &owned, sizeof owned);
    loam_release(old);
}

LOAM_IN_CALLER void loam_assign(void *slot, void *object) {
    loam_give(slot, loam_retain(object));
}

LOAM_IN_CALLER void loam_clear(void *slot) {
    loam_give(slot, NULL);
}

static inline void *loam_take(void *slot) {
    void *old, *none = NULL;
    __builtin_memcpy(&old, slot, sizeof old);
    __builtin_memcpy(slot, &none, sizeof none);
    return old;
}
#endif

/* One owner less, of an object that was never finished: neither its destructor
 * nor its finalizer will run, whoever lets go of it last; its slots, which are
 * NULL or own, are released.  For constructors that fail.  NULL is allowed. */
LOAM_API void loam_abandon(void *unfinished);

/* The owners now.  Of a type that threads share, a number that was right a
 * moment ago. */
LOAM_API size_t loam_count(const void *object);

/* The type of a counted object; NULL if `p` is the start of none. */
LOAM_API struct loam_type *loam_type_of(const void *p);

/* Whether the caller is the only owner, and nothing weak leads to the object,
 * nor ever did: it may be changed in place instead of copied.  Of a shared type
 * it is no, too, where something weak leads to a neighbour. */
LOAM_API bool loam_unique(const void *object);

/* The memory of an object that the caller owns alone, as a new object of
 * `type`, which needs no more room: it is destroyed, and made again.  NULL, and
 * nothing is done, where it is not unique or does not fit: loam_new then
 * (Reinking, Xie, de Moura and Leijen 2021). */
LOAM_API void *loam_reuse(void *object, struct loam_type *type) LOAM_MUST_USE;

/* The object of a weak reference (loam/weak.h), owned; NULL if it is gone, of
 * NULL, or if the first memory that this thread counts with is refused.  Any
 * thread, of types that threads share: whoever lets go meanwhile, and whatever
 * is collected, it is that object, alive.  A traced object is returned as it
 * is.  loam_weak_get returns the same, borrowed. */
struct loam_weak;
LOAM_API void *loam_weak_retain(const struct loam_weak *weak) LOAM_MUST_USE;

/* --- Scopes ------------------------------------------------------------ */

/* Releases a number of objects later: at the end of the pool that is open.
 * Without a pool, at loam_settle.  Returns the object, borrowed; NULL, and it
 * stays owned, when memory is short. */
LOAM_API void *loam_autorelease(void *owned);

/* Pools, one within the other; each thread has its own.  Closing one closes
 * those that were opened after it, too: after longjmp nothing is owed. */
struct loam_pool {
    uint64_t depth;
};
LOAM_API struct loam_pool loam_pool_open(void);
LOAM_API void loam_pool_close(struct loam_pool *pool);

LOAM_IN_CALLER void loam_auto_release(void *slot) {
    void *old;
    __builtin_memcpy(&old, slot, sizeof old);
    loam_release(old);
}

/* A local variable that owns: loam_auto(struct node) n = loam_new(&node_type);
 * is released where its scope ends, by whichever way but longjmp and
 * pthread_exit. */
#define loam_auto(T) __attribute__((__cleanup__(loam_auto_release))) T *

/* loam_scope { ... }: a pool for the statements in braces, also left by break,
 * return and goto. */
#define loam_scope                                                             \
    for (struct loam_pool loam_scope_pool                                      \
         __attribute__((__cleanup__(loam_pool_close))) = loam_pool_open(),     \
         *loam_scope_once = &loam_scope_pool;                                  \
         loam_scope_once != NULL; loam_scope_once = NULL)

/* --- Rings ------------------------------------------------------------- */

/* Looks for rings among what the calling thread suspects, for at most about
 * `budget_ns` (0: until done), and destroys them, beside what is owed already
 * and what a collection found of this thread's.  Returns how many objects.
 * What is suspected: whose count fell, and not to 0.  It happens by itself, in
 * small pieces; a thread that has time calls it.  0 in a destructor. */
LOAM_API size_t loam_collect_cycles(uint64_t budget_ns);

/* By itself or only when asked (both as at the beginning: by itself).  A piece
 * takes at most `slice_ns` (0: as it was; 1 ms at the beginning). */
LOAM_API void loam_cycles_when(bool by_itself, uint64_t slice_ns);

/* Does what is owed: releases that were put off, deferred objects that no
 * variable holds, garbage that the tracer found of this thread's.  Returns how
 * many objects were destroyed. */
LOAM_API size_t loam_settle(void);

/* The most objects that one release destroys; the others wait for the next
 * releases and allocations.  0, the beginning: no limit.  Also
 * LOAM_RELEASE_STEP in the environment. */
LOAM_API void loam_release_step(size_t count);

/* --- Both worlds ------------------------------------------------------- */

/* Counted and traced objects (loam_alloc) may point to each other:
 *   counted -> counted   a declared slot, or borrowed
 *   counted -> traced    a plain pointer: alive as long as the counted one is
 *   traced  -> counted   retained by hand, and released by hand; or without a
 *                        count if the type is LOAM_TYPE_TRACED
 *   variable -> counted  owned by hand; deferred types: without a count
 *   malloc'd memory, the kernel, other places the tracer does not see
 *           -> counted   retained.  It is never collected under them.
 * The tracer destroys a counted object when nothing it can see leads there and
 * every count is explained by slots of objects that it destroys with it; or its
 * owner forgot it (loam_rc_forgotten names these; they are kept).
 * A ring through both worlds is collected where the counted ends of traced
 * pointers are LOAM_TYPE_TRACED. */

/* An object that nothing leads to, as far as the tracer sees, while some of its
 * owners are no slots of such objects: they forgot to release it, or they are
 * where nobody looks, in malloc'd memory, the kernel, an open pool. */
struct loam_forgotten {
    void *object;
    struct loam_type *type;
    size_t owners; /* that are not known; 0: a slot leads to it that was given
                      no count */
};

/* Collects, and calls visit(&forgotten, data) for each such object; not for
 * what is alive through it alone.  Returns how many; SIZE_MAX, and errno, when
 * memory is short, another thread asks too, or there was no collection.
 * `visit` may be NULL, and may do what it likes: an object that it or another
 * thread releases for the last time is still listed.  LOAM_CHECK=rc says at
 * exit how many there are of each type.  Undeclared words that seem to own them
 * are told of on the warning hook. */
typedef void loam_forgotten_fn(const struct loam_forgotten *forgotten,
                               void *data);
LOAM_API size_t loam_rc_forgotten(loam_forgotten_fn *visit, void *data);

/* What a place in the program did to counted objects: how many it made, how
 * many owners it added and took away. */
struct loam_ledger {
    struct loam_type *type;
    const void *site; /* where the call returns to; NULL: several places */
    uint64_t made, retained, released;
};

/* Calls visit(&entry, data) for each place that made, retained or released
 * objects of the types that LOAM_RC_TRACE names in the environment; of `object`
 * alone, if it is not NULL.  Returns how many.  What owners released when they
 * died is in none of them: made + retained - released - loam_count.  Deferred
 * types and LOAM_TYPE_TRACED are not noted: much of what leads to their objects
 * has no count. */
typedef void loam_ledger_fn(const struct loam_ledger *entry, void *data);
LOAM_API size_t loam_rc_ledger(const void *object, loam_ledger_fn *visit,
                               void *data);

/* --- Figures ----------------------------------------------------------- */

/* Of the calling thread, since it began.  Fields are added at the end. */
struct loam_rc_stats {
    uint64_t made, destroyed; /* objects */
    uint64_t in_rings;        /* of these, found by the cycle collector */
    uint64_t by_tracer;       /* of these, found by the tracer */
    uint64_t resurrected;     /* finalizers that kept their object */
    uint64_t slices, aborted; /* of the cycle collector */
    uint64_t slice_ns_max;    /* the longest */
    uint64_t visited;         /* objects it looked at */
    uint64_t suspects;        /* now */
    uint64_t owed;            /* objects whose destruction waits, now */
};
LOAM_API void loam_rc_stats(struct loam_rc_stats *stats, size_t bytes);

#ifdef __cplusplus
}
#endif

#endif
