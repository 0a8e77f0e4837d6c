// counted — the eight bytes before a counted object.
//
// A counted object is an object like any other to the tracer.  To those who
// count, it has a head: how many own it, what it is, and what becomes of it.
//
//     word   31     | 30 .. 6 | 5         | 4     | 3      2    1       0
//            OTHER  | count   | CONDEMNED | QUIET | DONE   KEPT WATCHED DEAD
//     info   31 .. 20   19 .. 0
//            type id    scratch count, 0 outside of a collection
//
// An object of a type that threads share by bias has eight bytes more before
// these: | shared count 32 | OWNER_BIT and owner 32 |.
//
// While an object waits to be destroyed its head is one 64-bit word that links
// it to the next: type in bits 63 .. 52, the next object's address in 47 .. 4,
// but for its bit 31, which is in 48: OTHER is set, so that nobody counts it
// inline; and the lowest four flags as ever.
//
// Invariants
//   CT1  apart    the head of an object, read as a pointer, leads to no place
//                 of the heap: the type is never 0, and in the high bits
//   CT2  gone     the head of a freed cell has type 0 until the cell is used
//                 again, so that a release too many is seen
//   CT3  scratch  outside of a trial and of a stop the scratch count of what is
//                 not DEAD is 0
//   CT4  dead     DEAD is set before the destructor runs, and never cleared
//                 while the cell is in use
//   CT5  zombie   an object that was destroyed, and whose cell must wait, has
//                 the type COUNTED_ZOMBIE and is DEAD
//   CT6  whole    where both halves of a head change, they do by one store: who
//                 asks a weak reference meanwhile reads either, in any thread
//
// A head is changed by the thread its object belongs to (types that are shared:
// by all, atomically); scratch: by the conductor in a stop, too.
// Design, alternatives and measurements: docs/design/heap/counted.md

#ifndef HEAP_COUNTED_H
#define HEAP_COUNTED_H

#include "base/defs.h"

enum {
    COUNTED_DEAD = 1,      // its destructor runs, has run, or is about to
    COUNTED_WATCHED = 2,   // weak references may lead to it: its cell waits for
                           // a cycle that clears them
    COUNTED_KEPT = 4,      // a buffer names it: its cell waits for that
    COUNTED_DONE = 8,      // its finalizer has run, or is about to; short weak
                           // references from before are cleared
    COUNTED_QUIET = 16,    // no suspect, or one already
    COUNTED_CONDEMNED = 32 // found by the tracer, to be destroyed by its owner
};

#define COUNTED_ONE        UINT32_C(64)
#define COUNTED_OTHER      UINT32_C(0x80000000) // biased, atomic, or stuck
#define COUNTED_COUNT_MASK UINT32_C(0x7fffffc0)
// Of what is CONDEMNED, and of a type that traced memory may hold without a
// count: something that leads there has a finalizer that is due.
#define COUNTED_SHOWN COUNTED_QUIET
// While one that is stuck is taken apart, its count.
#define COUNTED_STUCK        UINT32_C(0x3fffffc0)
#define COUNTED_TYPE_SHIFT   20
#define COUNTED_SCRATCH_MASK UINT32_C(0xfffff)
#define COUNTED_LISTED       UINT32_C(0x80000) // in info, of what is DEAD
#define COUNTED_ZOMBIE       4095u             // CT5
#define COUNTED_TYPE_MAX     4094u
#define COUNTED_OWNER_BIT    UINT32_C(0x80000000)

struct counted {
    uint32_t word; // count and flags
    uint32_t info; // type and scratch
};

// What stands before the head of a biased object.
struct counted_bias {
    uint32_t shared; // counts of other threads, a signed number; atomic
    uint32_t owner;  // OWNER_BIT and the id of the mutator that made it, or
                     // OWNER_BIT alone: nobody; atomic
};

static inline struct counted *counted_of(const void *object) {
    return (struct counted *)(uintptr_t)object - 1;
}

static inline struct counted_bias *counted_bias_of(const void *object) {
    return (struct counted_bias *)(uintptr_t)object - 2;
}

static inline uint32_t counted_flags(const void *object) {
    return __atomic_load_n(&counted_of(object)->word, __ATOMIC_RELAXED);
}

static inline unsigned counted_type(const void *object) {
    return __atomic_load_n(&counted_of(object)->info, __ATOMIC_RELAXED) >>
           COUNTED_TYPE_SHIFT;
}

// The whole head: info, and word below it.
static inline uint64_t counted_head(const void *object) {
    return __atomic_load_n((const uint64_t *)(const void *)counted_of(object),
                           __ATOMIC_RELAXED);
}

static inline void counted_set_head(void *object, uint64_t head) {
    __atomic_store_n((uint64_t *)(void *)counted_of(object), head,
                     __ATOMIC_RELAXED); // CT6
}

#endif
