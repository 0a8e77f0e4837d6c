// hold — what malloc's program frees, kept from being handed out again.
//
// In quarantine (collect/quarantine.h) an object that is freed by hand is
// zeroed, and its bit set in the freed table of its block: nothing else.  It
// is no object any more to whoever asks, nor is its cell free.  Each mutator
// counts what it has freed, and tells the quarantine now and then, which may
// find that a cycle is overdue.
//
//     free(p)  ->  zeroed  ->  held  ->  counted  ...  a cycle  ->  free
//
// A free is one operation to a stop: the bit and the zeroes come with the
// mutator INSIDE, so that no cycle can hand the cell out in between.  Who has
// no mutator, or is at something else in it, zeroes before the bit is set.
//
// Invariants
//   HO1  once   of several frees of an object one holds it; the others are told
//               that it is none
//   HO2  zero   what is held was zeroed since it was freed, and is written by
//               nobody but the program thereafter
//   HO3  ahead  a cell that another thread has not handed out yet is not held
//   HO4  told   of what a mutator has freed all but HOLD_TELL_BYTES was told
//
// Any thread, at any time; hold_begin with the lock.
// Design, alternatives and measurements: docs/design/api/hold.md

#ifndef API_HOLD_H
#define API_HOLD_H

#include "api/init.h"
#include "api/object.h"
#include "base/defs.h"
#include "heap/block.h"
#include "heap/blockmap.h"
#include "heap/cache.h"
#include "roots/mutator.h"
#include "roots/world.h"

#define HOLD_TELL_BYTES ((size_t)(LOAM_TINY ? 1 : 16) * KiB)

// From this size on the pages go back to the system when they are freed, and
// come back all zero; a small part of them is counted.
#define HOLD_DROP_BYTES (256 * KiB)

extern bool hold_on; // atomic

// Whether what is freed is held.
static inline bool hold_is_on(void) {
    return __atomic_load_n(&hold_on, __ATOMIC_RELAXED);
}

// From now on it is; false when memory is short.
MUST_USE bool hold_begin(void);

// Holds an object of a block that holds (block_is_holding); false if it was not
// there to be freed (HO1, HO3).  errno may change.
bool hold_place(const struct place *place);

// What is held now; 0 where a cycle is on.  It takes the lock and a walk over
// the tables of all blocks.
size_t hold_bytes(void);

// Tells what the calling thread has freed; a cycle may follow.
void hold_tell(struct mutator *mutator);

// Whether a small cell is an object, seen from a thread that is INSIDE.
static ALWAYS_INLINE bool hold_is_object(const struct mutator *mutator,
                                         unsigned cls,
                                         const struct place *place) {
    if (cls == CLASS_FREE || place->kind != KIND_PINNED_LEAF ||
        !block_is_allocated(place->block, place->cell) ||
        block_is_freed(place->block, place->cell)) {
        return false;
    }
    return !(block_flags(place->block) & BLOCK_CURRENT) ||
           object_is_own(mutator, &mutator->home.caches[place->kind][cls],
                         place); // HO3
}

// The short way of a small object; false, and nothing is done, if more has to
// be looked at.
MUST_USE static ALWAYS_INLINE bool hold_quick(void *p) {
    struct mutator *mutator = init_mutator;
    if (UNLIKELY(mutator == NULL || mutator->busy != MUTATOR_OUT)) {
        return false;
    }
    mutator_enter(mutator); // no cycle from here on
    struct place place;
    unsigned cls = object_find_quick(p, &place);
    bool held = hold_is_object(mutator, cls, &place) &&
                block_hold(place.block, place.cell); // HO1
    if (LIKELY(held)) {
        cache_clear_cell(p, place.bytes); // HO2
        mutator->held_bytes += place.bytes;
    }
    world_leave(mutator);
    if (UNLIKELY(held && mutator->held_bytes >= HOLD_TELL_BYTES)) {
        hold_tell(mutator); // HO4
    }
    return held;
}

#endif
