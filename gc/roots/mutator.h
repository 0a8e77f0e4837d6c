// mutator — a thread of the program, as the collector sees it.
//
// A mutator has an id that blocks name as their owner, a stack with a far end,
// and for each heap a set of caches, one for each class and kind that it has
// used.  Caches of described cells are found in a table, since their number is
// not known beforehand.
//
// A stop must know two things of a thread: whether its registers and stack can
// be read, and whether its caches are whole.  Two words tell:
//
//     state    RUNS   somewhere in the program or in here: a signal stops it
//              SAFE   in a safe region: registers saved, hot end published,
//                     it touches no object and no cache
//              HELD   SAFE while a stop lasts; it waits if it wants to leave
//
//     busy     OUT     program code
//              TAKING  in the inline bump of a cell
//              INSIDE  at work on its own caches and blocks
//              AWAY    in a safe region that the program entered: whoever
//                      allocates now has jumped out of it, or is a handler
//                      over it, and must end it first
//
// The signal of a stop takes effect at once in OUT and TAKING, and is put off
// to the end of INSIDE.  TAKING may be interrupted between the load of `bump`
// and its store, so a stop may move that cache's bits, but must leave its
// block, bump and limit as they were.  A signal handler of the program that
// finds busy set keeps away from these caches.
//
// Invariants
//   U1  chained  every cache in use is on the chain of its set exactly once
//   U2  apart    two caches of a mutator never have the same block current
//   U3  owner    the caches' owner is the mutator's id, which is never 0
//   U4  busy     caches, and blocks this mutator owns, change only while busy
//                is INSIDE (but for bump, in TAKING), or in a stop
//   U6  away     busy is AWAY in a safe region that began in program code, so
//                that the inline path of allocation is never taken in one
//   U5  safe     a mutator that is SAFE or HELD changes nothing of the heap's,
//                and its saved registers and its stack from hot_end on hold all
//                its references
//
// Used by its own thread; by the conductor in a stop.
// Design, alternatives and measurements: docs/design/roots/mutator.md

#ifndef ROOTS_MUTATOR_H
#define ROOTS_MUTATOR_H

#include "base/defs.h"
#include "heap/cache.h"
#include "heap/heap.h"
#include "heap/table.h"
#include "os/stack.h"
#include "roots/fiber.h"
#include "roots/reserve.h"

// LENT: in a call of the C library that is better not stopped in the middle.
enum mutator_busy {
    MUTATOR_OUT,
    MUTATOR_TAKING,
    MUTATOR_INSIDE,
    MUTATOR_AWAY,
    MUTATOR_LENT
};
enum mutator_state { MUTATOR_RUNS, MUTATOR_SAFE, MUTATOR_HELD };

// Words that the system keeps for a thread, out of our sight: the values of
// pthread keys, by key (the first 32 are in the thread's block and are found
// there), and in the place of key 0 its signal stack.
#define MUTATOR_KEPT       1024
#define MUTATOR_KEPT_STACK 0

// One mutator's caches for one heap.
struct cacheset {
    struct heap *heap;      // constant while the set is in use
    struct tally tally;     // of these caches, since the last cycle; owner
    struct table described; // layout and class → struct cache; owner
    struct cache *used;     // chain of those in use; owner
    struct cacheset *next;  // of the same mutator; owner
    struct cache caches[KIND_COUNT][CLASS_LAST + 1];
};

struct mutator {
    uint8_t busy;             // enum mutator_busy; its own thread
    bool single;              // caches take one cell at a time; constant
    bool leaving;             // its exit was seen; the thread may live on a bit
    bool in_hook;             // it runs the shortage hook; itself
    bool keeps;               // it may own counted blocks or runs; itself
    bool guessed;             // the library is still to be asked; itself
    uint32_t state;           // enum mutator_state, a futex word; CAS
    uint32_t id;              // blocks name it as owner; not 0; constant
    uint32_t thread;          // the system's number for the thread; constant
    uint32_t safe_depth;      // safe regions it is in; its own thread
    const void *hot_end;      // where the program called in; NULL in its code
    const void *stopped_at;   // stack pointer when it stopped; itself
    uintptr_t *kept;          // MUTATOR_KEPT words, or NULL: roots; itself
    const void *lowest;       // of its stack; NULL if it grows (main thread)
    const void *cold_end;     // of its stack
    uintptr_t thread_pointer; // os/segments.h; constant
    uintptr_t registers[STACK_REGISTERS]; // saved on entry to SAFE
    struct mutator **here;                // where its thread keeps it
    struct fiber_seat seat;               // which stack; itself
    struct mutator *next;                 // in the world; lock
    size_t held_bytes;                    // freed, not yet told; itself
    struct cacheset *sets;                // for other heaps; itself
    void *domain;                         // what the door counts for it; itself
    uint32_t inbox;         // blocks with cells that others freed, linked; lock
    struct cacheset home;   // for the default heap
    struct reserve reserve; // for handlers that interrupt us
};

static inline void mutator_enter(struct mutator *mutator) {
    __atomic_store_n(&mutator->busy, MUTATOR_INSIDE, __ATOMIC_RELAXED);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

// The first half of world_leave (roots/world.h), which then asks for a stop.
static inline void mutator_exit(struct mutator *mutator) {
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    __atomic_store_n(&mutator->busy, MUTATOR_OUT, __ATOMIC_RELAXED);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

// A mutator in meta memory for the calling thread, its home set for `heap`;
// NULL when memory is short.  Under the lock.
MUST_USE struct mutator *mutator_make(uint32_t id, struct heap *heap,
                                      bool single);

// Asks for the stack of the calling thread; until then any stack is foreign.
// Unless it may allocate, the library is not asked: of a thread's stack only
// the far end is known then, where the library has put its control block.
void mutator_find_stack(struct mutator *mutator, bool may_allocate);

// Whether the calling thread, which is on no signal stack, has so much room
// below it: false, too, where one cannot know (a stack that is not registered).
bool mutator_has_room(const struct mutator *mutator, size_t bytes);

// Gives one back whose caches are empty.  Under the lock.
void mutator_free(struct mutator *mutator);

// The set for `heap`, or NULL.
struct cacheset *mutator_find_set(struct mutator *mutator,
                                  const struct heap *heap);

// The set for `heap`, made if need be (under the lock then); NULL when memory
// is short.
struct cacheset *mutator_add_set(struct mutator *mutator, struct heap *heap);

// Frees the set for `heap`, whose caches were given up; in a stop, or itself.
void mutator_drop_set(struct mutator *mutator, const struct heap *heap);

// Takes the blocks of `heap` out of the inbox: they are about to be drained, or
// to go.  In a stop.
void mutator_drop_inbox(struct mutator *mutator, const struct heap *heap);

// The cache of a described order, or NULL.
struct cache *mutator_find_described(const struct cacheset *set,
                                     struct order order);

// The cache that serves an order; NULL if the set has not used it yet.
static inline struct cache *mutator_find_cache(struct cacheset *set,
                                               struct order order) {
    if (order.kind == KIND_DESCRIBED) {
        return mutator_find_described(set, order);
    }
    struct cache *cache = &set->caches[order.kind][order.cls];
    return cache->bytes == 0 ? NULL : cache;
}

// Readies a cache that the set has not used yet; NULL when memory is short,
// which can happen only for a described order, which needs the lock.
struct cache *mutator_add_cache(struct mutator *mutator, struct cacheset *set,
                                struct order order);

// In a stop: brings a counted block of this mutator, with room and in no list,
// to the cache it belongs to; false if it has none and cannot.
MUST_USE bool mutator_keep(struct mutator *mutator, const struct heap *heap,
                           uint32_t block);

// Calls visit for each cache in use for `heap`, or of all heaps if NULL; those
// of the reserve, too.
typedef void mutator_visit(struct cache *cache, void *data);
void mutator_each_cache(struct mutator *mutator, const struct heap *heap,
                        mutator_visit *visit, void *data);

// In a stop: the tails of its caches for a heap out, and their bytes added, for
// the cells of a tail count as used and are no objects; and in again.
struct mutator_tails {
    struct heap *heap;
    size_t bytes;
};
void mutator_tails_out(struct mutator *mutator, void *tails);
void mutator_tails_in(struct mutator *mutator, void *heap);

#endif
