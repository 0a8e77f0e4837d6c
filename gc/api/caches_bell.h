// caches_bell — caches that give memory back when it is short.
//
// The ladder (collect/refill.h) rings: so many bytes would help.  It knows no
// caches; here they are on a roll, by weak references, and the one is chosen
// that is large, has not been used for long, and is cheap to fill again.  It
// gives a part, then the choice is made anew, until there is enough or nobody
// has anything left.
//
//     value of taking from a cache = bytes above its minimum
//                                    * (cycles since its last use + 1) / cost
//
// A cache has an owner, the thread that used it last, and the owner comes and
// goes without an atomic instruction: one would wait until all that the thread
// wrote before, in lines that are far away, has arrived.  So the bell does the
// waiting.  It may claim a cache of its own thread that is not busy; for those
// of others it stops the world, in which a thread has either set `busy` or will
// see the claim.  What it cannot claim gets a target, to which the cache
// shrinks itself when it is used next.
//
//     owner   id of the mutator that was in last
//     busy    0, or the owner's id: it is in
//     claim   0, or the id of the mutator whose bell is in
//     target  bytes to shrink to; SIZE_MAX: none
//
// Invariants
//   CB1  alone    a cache changes only by its owner while it is busy and not
//                 claimed, or by who claimed it
//   CB2  outside  the bell runs in no lock, cycle or operation of ours, and
//                 takes no memory; while it has claims it calls nobody
//   CB3  order    the first to give is the one with the greatest value
//   CB4  minimum  no cache gives below min_bytes
//   CB5  weak     the roll keeps no cache alive
//   CB6  asked    a cache that may not be touched is given a target, no more
//   CB7  gone     a cache whose holder has gone without leaving (it is in the
//                 parent of this process) is entered by the next, who is told
//   CB8  nested   a thread that is in a cache is refused when it comes again
//
// The roll is under the lock of the world.
// Design, alternatives and measurements: docs/design/api/caches_bell.md

#ifndef API_CACHES_BELL_H
#define API_CACHES_BELL_H

#include "base/defs.h"

// What the bell knows of a cache; its first part.
struct caches_seat {
    uint32_t owner;      // a mutator's id, or 0; lock; atomic
    uint32_t busy;       // the owner's id, or 0; the owner's; atomic
    uint32_t claim;      // of a bell, or 0; lock; atomic
    uint32_t ring;       // the last that is through with it; lock
    uint32_t claim_ring; // the one that claimed it; lock
    bool asks;           // only asked, never touched; who is in; atomic
    bool confined;       // touched by its owner alone; constant
    bool never;          // neither; constant
    bool owes;           // it gave, and is to tell; who is in
    size_t target_bytes; // asked for; SIZE_MAX: none; atomic
    size_t bytes;        // of its entries; who is in; atomic
    size_t min_bytes;    // it keeps so much; who is in; atomic
    uint64_t used;       // cycles when it was used last; atomic
    uint64_t cost;       // to make a byte again; constant, not 0
};

// What the bell has done by those who know caches.
struct caches_hands {
    // Takes about so many bytes out of a cache that is claimed, calls nobody,
    // and returns how many went.
    size_t (*give)(struct caches_seat *seat, size_t bytes);
    // Tells the program what went from a cache of this thread's.
    void (*tell)(struct caches_seat *seat);
};

// How a cache was entered.
enum caches_entered {
    CACHES_REFUSED, // by this thread itself, or not at this time
    CACHES_ENTERED,
    CACHES_ORPHANED // its holder is gone, and left it in any state
};

// Puts a cache on the roll; false when memory is short.
MUST_USE bool caches_bell_enrol(struct caches_seat *seat,
                                const struct caches_hands *hands);

// Enters a cache of another owner, waiting for the bell if it must.
MUST_USE COLD enum caches_entered caches_bell_wait(struct caches_seat *seat);

// Whether the mutator, whose cache it is, entered.
MUST_USE static inline bool caches_bell_enter(struct caches_seat *seat,
                                              uint32_t id) {
    if (__atomic_load_n(&seat->owner, __ATOMIC_RELAXED) != id ||
        __atomic_load_n(&seat->busy, __ATOMIC_RELAXED) != 0) {
        return false;
    }
    __atomic_store_n(&seat->busy, id, __ATOMIC_RELAXED);
    // A stop comes before the store, and the claim is seen, or after it.
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    if (UNLIKELY(__atomic_load_n(&seat->claim, __ATOMIC_ACQUIRE) != 0)) {
        __atomic_store_n(&seat->busy, 0, __ATOMIC_RELAXED);
        return false;
    }
    return true; // CB1
}

static inline void caches_bell_leave(struct caches_seat *seat) {
    __atomic_store_n(&seat->busy, 0, __ATOMIC_RELEASE);
}

// Takes about so many bytes from all caches; how many went at once.
size_t caches_bell_ring(size_t bytes);

#endif
