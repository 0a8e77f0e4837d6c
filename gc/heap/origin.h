// origin — where an object was allocated, in eight bytes behind it.
//
// A report of what was lost is only as good as the places it names.  A stack is
// kept once and has a number; each object carries the number of its own, and
// how much of its cell was not asked for, in the last word of its cell:
//
//     cell   | the program's bytes ............ | not asked for | trail |
//     trail  | ~ (not asked for | number) |          no address: its top is set
//
// A place that allocates is found by its address in a table that is read
// without a lock and never shrinks.  It counts how often it allocates: so that
// a few stacks can be taken in full, and all others cost one look into the
// table.  The place in the table is a number, too: it names the caller, and
// becomes one of a stack of one frame when somebody wants to add to its sums.
//
// Invariants
//   OR1  interned  the same frames have the same number, different ones another
//   OR2  stable    a number answers from the moment it is known, for ever
//   OR3  apart     no trail is the address of an object, nor is it zero
//   OR4  frugal    where memory or numbers are used up the number is 0, which
//                  is of no stack
//   OR5  at once   a caller that has a place has a number, without a lock and
//                  without memory
//
// Made and interned under the one lock; found and read by anyone.
// Design, alternatives and measurements: docs/design/heap/origin.md

#ifndef HEAP_ORIGIN_H
#define HEAP_ORIGIN_H

#include "base/defs.h"
#include "heap/blockmap.h"

#define ORIGIN_FRAMES      24 // of a stack, at most
#define ORIGIN_TRAIL_BYTES WORD_BYTES
#define ORIGIN_CALLER      ((uint32_t)1 << 31) // and more: of a caller
#define ORIGIN_CALLERS     ((size_t)(LOAM_TINY ? 64 : 1 << 15))
#define ORIGIN_FACTOR      UINT64_C(0x9E3779B97F4A7C15)

struct origin_sum {
    size_t bytes, objects;
};

// A stack, and what was found to be lost of it (collect/lost.h).
struct origin {
    uint32_t id;
    uint32_t next;                      // of the same hash, or 0; constant
    uint32_t frame_count;               // of them
    struct origin_sum direct, indirect; // conductor, in a stop
    uintptr_t frames[]; // where calls return to, innermost first
};

// A place that allocates.
struct origin_caller {
    uintptr_t code;  // 0: none yet; atomic
    uint32_t origin; // of one frame; 0: not made yet; lock
    uint32_t count;  // allocations, as far as threads do not race; atomic
    uint32_t due;    // when so many, a stack is to be taken; atomic
    uint32_t gap;    // allocations from the last one to this; atomic
};

// Makes the tables; false when memory is short.  Under the lock.
MUST_USE bool origin_use(void);

// A table of ORIGIN_CALLERS.
extern struct origin_caller *origin_callers;

struct origin_caller *origin_find_slow(const void *code);

// Where an address is looked for first.
static inline size_t origin_slot(uintptr_t code) {
    return (size_t)(code * ORIGIN_FACTOR >> 32) % ORIGIN_CALLERS;
}

// The place of that address; NULL where there are too many.  Any thread.
static inline struct origin_caller *origin_find(const void *code) {
    struct origin_caller *caller =
        &origin_callers[origin_slot((uintptr_t)code)];
    uintptr_t found = __atomic_load_n(&caller->code, __ATOMIC_RELAXED);
    return found == (uintptr_t)code && found != 0 ? caller
                                                  : origin_find_slow(code);
}

// The number of a stack; 0 if it has none.  Any thread.
uint32_t origin_ask(const uintptr_t *frames, size_t count);

// The same, and gives it one.  Under the lock.
uint32_t origin_intern(const uintptr_t *frames, size_t count);

// The number of a caller.  Any thread.
static inline uint32_t origin_of(const struct origin_caller *caller) {
    return ORIGIN_CALLER | (uint32_t)(caller - origin_callers); // OR5
}

// The innermost frame of a number of either sort, or 0.  Any thread.
uintptr_t origin_code(uint32_t id);

// The stack of a number of a stack, or NULL.
struct origin *origin_get(uint32_t id);

// The stack of a number of either sort, or NULL.  Under the lock.
struct origin *origin_settle(uint32_t id);

// How many stacks there are: their numbers go from 1 to this.
uint32_t origin_count(void);

static inline uint64_t *origin_trail(const struct place *place) {
    uintptr_t end = place->start + place->bytes;
    return (uint64_t *)(end - ORIGIN_TRAIL_BYTES);
}

// What its cell has beside the trail.
static inline size_t origin_room(const struct place *place) {
    return place->bytes - ORIGIN_TRAIL_BYTES;
}

// Notes that the object has `bytes` bytes and a number.
static inline void origin_set(const struct place *place, size_t bytes,
                              uint32_t id) {
    size_t rest = origin_room(place) - bytes;
    rest = rest > INT32_MAX ? INT32_MAX : rest;
    *origin_trail(place) = ~((uint64_t)rest << 32 | id); // OR3
}

// Notes nothing, and takes back what was noted.
static inline void origin_clear(const struct place *place) {
    *origin_trail(place) = 0;
}

// What was noted; false if nothing was.  A program that writes past the end of
// an object may have changed it: then the number is 0.
bool origin_read(const struct place *place, size_t *bytes, uint32_t *id);

#endif
