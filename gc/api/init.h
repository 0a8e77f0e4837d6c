// init — the house, built from the ground up, and its one state.
//
// Everything that the process has once stands here: the default heap, its
// collector, the options, the shortage hook, and for each thread the pointer to
// its mutator.  The first allocation builds it (init_mutator is NULL until
// then); nothing is built before, no constructor runs.
//
// Invariants
//   I1  once     init_ready builds once, whichever threads call; a try that the
//                system refused is said once, leaves what it built, and the
//                next call tries again
//   I2  attached init_mutator is NULL or this thread's mutator, and NULL while
//                the program's own code runs inside a cycle
//   I3  ended    a thread that ends has given up its caches, and is no mutator
//                afterwards, until it calls in again
//
// Called by api/ and, through api/door.h, by shims/.
// Design, alternatives and measurements: docs/design/api/init.md

#ifndef API_INIT_H
#define API_INIT_H

#include "loam.h"

#include "api/options.h"
#include "api/report.h"
#include "base/defs.h"
#include "collect/collect.h"
#include "heap/heap.h"
#include "roots/world.h"

// A heap, and what the door keeps for it.
struct init_heap {
    struct heap heap;
    struct collector collector; // its conductor's part
    uint64_t serial;            // of all heaps ever made; 0: the default one
    struct init_heap *next;     // of those the program made; lock
};

struct counting;

// What counts, from the first counted type on: asked where threads end, and in
// children, by those who know nothing of it.
struct init_counts {
    void (*exchange)(struct counting *counting);
    void (*end)(struct mutator *mutator);
    void (*bury)(struct mutator *mutator);
    void (*forked)(struct mutator *self);
};

// The state of the process.
struct init_state {
    struct init_heap home;            // the default heap
    struct conductor conductor;       // what all heaps share
    struct options options;           // as the environment set them
    const struct init_counts *counts; // NULL: nothing is counted; atomic
    loam_shortage_fn *shortage;       // the program's hook, or NULL
    void *shortage_data;
    uint32_t gate;          // the process one of whose threads builds, or 0
    uint32_t builder;       // that thread, or 0; atomic
    struct init_heap *made; // heaps of the program; lock
    uint64_t serial;        // of the last one; lock
    bool read;              // the environment was read
    bool ground;            // the range and the home heap stand
    bool built;             // all stands; atomic
    bool said;              // that a try failed
};

extern struct init_state init_state;

// What counts, or NULL.
static inline const struct init_counts *init_counts(void) {
    return __atomic_load_n(&init_state.counts, __ATOMIC_ACQUIRE);
}

// The calling thread's mutator; initial-exec, since every allocation reads it.
extern __thread struct mutator *init_mutator
    __attribute__((tls_model("initial-exec")));

// Where the frames of the innermost handler of the calling thread begin, as far
// as the shims tell; NULL: it runs none.  One that jumped out leaves it behind.
extern __thread const void *init_handler
    __attribute__((tls_model("initial-exec")));

// Whether the end of the calling thread was seen, which may go on for a while.
extern __thread bool init_gone __attribute__((tls_model("initial-exec")));

// Whether the caller may have interrupted the C library.
static inline bool init_is_in_handler(void) {
    const void *here = __builtin_frame_address(0);
    return init_handler != NULL && here <= init_handler;
}

// The thread calls in from a safe region: it jumped out of it, or a handler
// runs over it.  Ends the region; false where it is inside of us.
COLD bool init_come_back(struct mutator *mutator);

// Whether the thread may begin something here: not where its handler came upon
// an operation of its own.
static inline bool init_is_free(struct mutator *mutator) {
    return LIKELY(mutator->busy == MUTATOR_OUT) || init_come_back(mutator);
}

// Builds the house if it is not built and attaches the calling thread: its
// mutator, or NULL when the system refused something (said once), or inside a
// cycle.
struct mutator *init_ready(void);

// The same for a thread that is about to wait, perhaps in the middle of an
// allocator of its own: the C library is asked about it only when it allocates.
// Not `patient`: NULL where the lock is not to be had soon (W9 of
// roots/world.h).
struct mutator *init_ready_to_wait(bool patient);

// The thread is not in the middle of anything, an allocator least of all: asks
// the C library about it, if that is still to be done.
void init_ask(struct mutator *mutator);

// A cycle of one heap, at the program's wish; false when it did not run.
bool init_collect(struct collector *collector);

// Calls body(data) with the lock, where a cycle may begin; false when now is
// not the time.
bool init_locked(void (*body)(struct mutator *mutator, void *data), void *data);

// The lock, for a thread that changes what is shared; NULL: now is not the
// time.  init_unlock ends it.
struct mutator *init_lock(void);
void init_unlock(struct mutator *mutator);

// Says what was noted under the lock; the thread holds nothing.
COLD void init_say(struct mutator *mutator);

// Ends what mutator_enter began at the door.
static inline void init_leave(struct mutator *mutator) {
    world_leave(mutator);
    if (UNLIKELY(report_has_notes())) {
        init_say(mutator);
    }
}

// Gives up what the calling thread has: it is no mutator any more.
void init_detach(void);

// The collector of the heap of an object.
static inline struct collector *init_collector_of(uint32_t block) {
    return &((struct init_heap *)heap_get(block)->keeper)->collector;
}

#endif
