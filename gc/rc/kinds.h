// kinds — what is known of the types of counted objects.
//
// The program describes a type once; what is needed of it again and again is
// kept here, under a number that fits into the head of each object.
//
// Invariants
//   TY1  stable  kinds_get(id) answers from the moment the id is known, for
//                ever, without a lock
//   TY2  apart   id 0 and COUNTED_ZOMBIE are no types
//   TY3  inside  a slot is a word that lies wholly in the object
//   TY4  checked of a checked type that no threads share, the head is OTHER,
//                and its count a plain number all the same
//
// Added under the heap lock; read by anyone.
// Design, alternatives and measurements: docs/design/rc/kinds.md

#ifndef RC_KINDS_H
#define RC_KINDS_H

#include "base/defs.h"
#include "heap/counted.h"

enum {
    KINDS_ACYCLIC = 1,
    KINDS_LEAF = 2,
    KINDS_DEFERRED = 4,
    KINDS_SHARED = 8,
    KINDS_ATOMIC = 16,
    KINDS_TRACED = 32,
    KINDS_QUARANTINE = 64,
    KINDS_FLAGS = 127,
    KINDS_CHECKED = 128 // the door's: never counted inline, and has a trail
};

struct sites;

typedef void kinds_destroy(void *object);
typedef void kinds_slot(void *slot, void *data);
typedef void kinds_visit(void *object, kinds_slot *slot, void *data);

// A type; constant but for what its module guards.
struct kinds_type {
    const char *name;
    size_t bytes;
    const uint32_t *slots; // offsets in bytes
    uint32_t slot_count;
    uint32_t flags;          // KINDS_*
    kinds_visit *visit;      // more slots, or NULL
    kinds_destroy *destroy;  // or NULL
    kinds_destroy *finalize; // or NULL
    void *origin;            // the program's description
    uint32_t id;
    uint32_t kind;        // enum kind of its cells
    uint32_t front;       // bytes before an object
    uint32_t word;        // of the head of a new object
    uint32_t trail_bytes; // behind an object (rc/sites.h), or 0
    struct sites *sites;  // who counts its objects, or NULL
    bool is_simple; // at count 0 its listed slots are released, and it is freed
};

extern struct kinds_type *kinds_table[COUNTED_TYPE_MAX + 2];

// The type of an id that was given out; NULL for other numbers up to
// COUNTED_ZOMBIE.
static inline const struct kinds_type *kinds_get(unsigned id) {
    return __atomic_load_n(&kinds_table[id], __ATOMIC_ACQUIRE);
}

// The type of a counted object that is in use and no zombie.
static inline const struct kinds_type *kinds_of(const void *object) {
    return kinds_table[counted_type(object)];
}

// Whether the count in an object's head is a plain number, which its thread
// alone changes; `word` is of the head.
static inline bool kinds_is_plain(const void *object, uint32_t word) {
    if (LIKELY(!(word & (COUNTED_OTHER | COUNTED_DEAD)))) {
        return true;
    }
    const uint32_t asked = KINDS_CHECKED | KINDS_SHARED | KINDS_ATOMIC;
    const struct kinds_type *type = kinds_of(object);
    return !(word & COUNTED_DEAD) && type != NULL &&
           (type->flags & asked) == KINDS_CHECKED && // TY4
           (word & COUNTED_COUNT_MASK) != COUNTED_COUNT_MASK;
}

// Whether there may be objects of checked types.
bool kinds_checks(void);

// Whether there may be objects of deferred types.
bool kinds_defers(void);

// Whether a description makes sense; else what is wrong with it.
const char *kinds_fault(const struct kinds_type *type);

// Adds a copy of `type`, whose id, kind, front and word are set here; NULL when
// memory or numbers are used up.
MUST_USE const struct kinds_type *kinds_add(const struct kinds_type *type);

#endif
