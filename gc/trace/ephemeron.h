// ephemeron — a value that lives as long as its key.
//
// An ephemeron is a cell of KIND_EPHEMERON that keeps its value alive while
// itself and its key are alive, and its key not at all.  Nothing but this works
// for a table that hangs data on objects: were the value held always, a value
// that leads to its own key would keep both for ever (Hayes 1997).
//
// The marker marks ephemerons and does not read them.  When it has come to its
// end, every marked one is looked at.  Is its key marked, its value is to be
// marked on; else it is hung into a table, by key.  From now on each object
// that is newly marked is looked up in that table, and each ephemeron newly
// marked is looked at as the others were.  So every ephemeron is touched at
// most twice, in whatever order keys come alive: the work is linear, where
// going over all of them until nothing changes is quadratic for a chain in
// which each value is the next key.
//
//     key marked?   yes -> resolved list -> value marked on
//                   no  -> bucket of key -> taken when the key is marked
//                                        -> cleared when the cycle ends
//
// Only keys in blocks that are watched (B13 of heap/block.h) are looked up.
// The links lie in the ephemerons, the buckets are reserved when ephemerons are
// made: no memory is needed in a cycle.  Where buckets were refused, chains are
// longer.
//
// Invariants
//   EP1  value    when nothing is resolved any more, the value of a marked
//                 ephemeron was handed out if its key is marked, and only then
//   EP2  cleared  after ephemeron_finish a marked ephemeron has a marked key,
//                 or none, with no value either
//   EP3  linear   each ephemeron is hung at most once and taken at most once in
//                 a cycle
//   EP4  instant  a stop at any instruction of ephemeron_set meets an ephemeron
//                 that is empty or whole
//   EP5  foreign  a key that lies in no heap lives for ever
//
// ephemeron_set: the program's threads; ephemeron_reserve: under the heap lock;
// the rest: the conductor in a stop.
// Design, alternatives and measurements: docs/design/trace/ephemeron.md

#ifndef TRACE_EPHEMERON_H
#define TRACE_EPHEMERON_H

#include "base/defs.h"
#include "heap/block.h"
#include "heap/blockmap.h"

struct ephemeron {
    uintptr_t key;          // a word inside the key, or 0: empty
    uintptr_t value;        // any word
    struct ephemeron *link; // in a bucket or the resolved list, in a cycle
    uint32_t block;         // of the key; BLOCK_NONE if it is in no heap
    uint32_t cell;          //
};

struct ephemerons {
    struct ephemeron **buckets; // meta memory; empty between cycles
    size_t capacity;            // a power of two, or 0
    size_t made;                // in the last cycle's count, and since
    size_t looked_count;        // at in this cycle
    struct ephemeron *resolved; // whose values are to be handed out
    size_t cleared_count;       // by the last ephemeron_finish
    size_t visited_count;       // bucket steps of this cycle
};

// Counts one more ephemeron, and sees to buckets for it; false when there is
// not one bucket.
MUST_USE bool ephemeron_reserve(struct ephemerons *ephemerons);

// In a forked child, which may come from the middle of a cycle: the buckets are
// empty.
void ephemeron_forked(struct ephemerons *ephemerons);

// Fills an ephemeron that is zero or empty.  `place` is that of the key, NULL
// if it is in no heap.  The caller keeps key and value alive, and sees to it
// afterwards that the key's block is watched, as for handle_set.
void ephemeron_set(struct ephemeron *ephemeron, uintptr_t key,
                   const struct place *place, uintptr_t value);

// Empties one: the key first (EP4).
static inline void ephemeron_drop(struct ephemeron *ephemeron) {
    __atomic_store_n(&ephemeron->key, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&ephemeron->value, 0, __ATOMIC_RELEASE);
}

// The marker is at its end: looks at every marked ephemeron.
void ephemeron_begin(struct ephemerons *ephemerons);

// A cell was just marked: it may be an ephemeron, or a key.
void ephemeron_marked(struct ephemerons *ephemerons, uint32_t block,
                      uint32_t cell);

// A value that is to be marked on; false if there is none.
static inline bool ephemeron_take(struct ephemerons *ephemerons,
                                  uintptr_t *value) {
    struct ephemeron *ephemeron = ephemerons->resolved;
    if (ephemeron == NULL) {
        return false;
    }
    ephemerons->resolved = ephemeron->link;
    ephemeron->link = NULL;
    *value = ephemeron->value;
    return true;
}

// Clears those whose key stayed dead.
void ephemeron_finish(struct ephemerons *ephemerons);

// Clears those whose key lies in a block that `is_gone` names, or whose value
// does: a heap is being dropped.
typedef bool ephemeron_is_gone(uint32_t block, void *data);
void ephemeron_clear_gone(ephemeron_is_gone *is_gone, void *data);

#endif
