// counting — the loop around the dead, outside of everything.
//
// The rc wing says what is to be done next (rc/count.h); here it is done:
// destructors and finalizers are called where program code may run, freed cells
// go back to the caches of their thread, buffers grow under the lock.
//
//     loam_release, count 0 -> counting_release -> drain: count_advance
//                                                  | destructor, outside
//                                                  | cells back, inside
//                                                  + until nothing is owed
//
// A destructor that releases puts more on the list and returns: nothing is
// drained within a drain.  One that is jumped out of has run, as far as we are
// concerned; the next that looks for the drain finds its frame gone, and
// goes on.
//
// Invariants
//   CU1  outside  no code of the program runs while its thread is INSIDE
//   CU2  single   of one thread at most one drain is at work
//   CU3  errno    is left as it was by every release
//
// Each thread for itself.
// Design, alternatives and measurements: docs/design/api/counting.md

#ifndef API_COUNTING_H
#define API_COUNTING_H

#include "api/init.h"
#include "base/defs.h"
#include "rc/count.h"
#include "rc/reclaim.h"
#include "rc/trial.h"

// Objects to be released when a pool is closed.
struct counting_pool {
    void **items; // meta memory
    size_t count, capacity;
};

// Of deferred objects (api/zeroes.h).
struct counting_deferred {
    struct count_buffer held; // what variables hold
    size_t threshold;         // as many zeroes are settled
};

// When the next slice of the cycle collector is due (api/cycles.h).
struct cycles {
    struct trial trial;
    struct reclaim reclaim;
    size_t batch;      // suspects to be tried at once
    size_t threshold;  // as many suspects begin a slice
    uint64_t slice_ns; // its budget
    uint64_t vain_ns;  // for which the last slice ran, if it was in vain
    uint64_t ended_ns; // when, by the thread's clock
    uint64_t due_ns;   // before that no thread's clock need be asked
    uint64_t began_ns; // the trials, by the thread's clock
    uint64_t share_ns; // their budget; 0: none
    uint64_t slices, aborted, slice_ns_max;
    bool on_demand; // not by themselves
};

// What the door keeps for a thread that counts.
struct counting {
    struct count_domain domain; // what the wing knows
    struct count_call call;     // what is being done
    const uint64_t *frame; // a word of the drainer's frame, which holds ...
    uint64_t nonce;        // ... this while it drains
    struct counting_pool pool;
    struct cycles cycles;
    struct counting_deferred deferred;
    struct count_buffer told;  // biased objects to be merged; lock
    struct count_buffer heard; // of these, destroyed ones to be unnamed
    uint32_t is_told;          // there are some; atomic
    uint32_t condemned; // of the conductor's, when it was last looked for
    bool is_reclaiming; // what `call` asked for is a ring's
};

// The calling thread's, made if need be; NULL when memory is short, or now is
// not the time.
struct counting *counting_here(void);

static ALWAYS_INLINE struct counting *counting_now(void) {
    struct mutator *mutator = init_mutator;
    if (LIKELY(mutator != NULL && mutator->domain != NULL)) {
        return mutator->domain;
    }
    return counting_here();
}

// The calling thread's, or NULL if it has not counted yet.
static inline struct counting *counting_find(void) {
    struct mutator *mutator = init_mutator;
    return mutator == NULL ? NULL : mutator->domain;
}

// Does what is owed, at most the step's worth; returns the number destroyed.
size_t counting_drain(struct counting *counting, size_t limit);

// A simple object loses its only owner: it is destroyed, with what only it
// owned, as long as that is simple too.  The rest is owed.
void counting_drop(struct counting *counting, void *object,
                   const struct kinds_type *type);

// Whether the caller is called by a drain of this thread's.
bool counting_is_draining(const struct counting *counting);

// Frees what was gathered, and ends INSIDE.
void counting_leave(struct counting *counting);

// Whether it has dead ones, or a ring in hand.
bool counting_owes(const struct counting *counting);

// Room for one more in a pool; false when memory is short.
MUST_USE bool counting_grow_pool(struct counting_pool *pool);

// Gives a pool's memory back.  Under the lock.
void counting_free_pool(struct counting_pool *pool);

// Twice the room for a buffer; false when memory is short.  Under the lock.
bool counting_grow(struct count_buffer *buffer);

// Whether a cycle has condemned objects since this thread last looked, or
// another thread has told it something.
static inline bool counting_is_called(void) {
    const struct counting *counting = counting_find();
    return counting != NULL &&
           UNLIKELY(counting->condemned !=
                        __atomic_load_n(&init_state.conductor.condemned,
                                        __ATOMIC_RELAXED) ||
                    __atomic_load_n(&counting->is_told, __ATOMIC_RELAXED));
}

#endif
