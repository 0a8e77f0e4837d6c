// sites — who counts the objects of a type, by call site.
//
// An object has two owners and nothing leads to it.  Who retained it, and did
// not release it?  The count does not know.  For types that are asked for by
// name, each place in the program that makes, retains or releases an object is
// noted with its address: for the type, and for the object itself.
//
//     type    sites[ address | made, retained, released ]   open addressing
//     object  | the program's bytes | trail: last site; sites and how often |
//
// What is noted of an object stands behind it in its own cell, so that nothing
// is allocated when it is counted and nothing is left when it dies.  The trail
// is also there, and says which thread made the object and who released it
// last, for types that are only checked (KINDS_CHECKED): it outlives the object
// until its memory is used again.
//
// What the library releases by itself, slots of an owner that dies, passes none
// of this: it is the difference between what was noted and the count.
//
// Invariants
//   SI1  all     what a type's sites tell is all that was noted of its objects;
//                where there are too many sites the last place tells of the
//                others
//   SI2  own     an object's trail lies behind all bytes that were asked for,
//                and in its cell
//   SI3  doubt   sites_trail of what is no checked object, or one whose memory
//                was used again, is NULL
//
// Called by the thread that counts; of types that threads share, by several at
// once: numbers are atomic.
// Design, alternatives and measurements: docs/design/rc/sites.md

#ifndef RC_SITES_H
#define RC_SITES_H

#include "base/defs.h"
#include "rc/kinds.h"

#define SITES_MAX      ((uint32_t)(LOAM_TINY ? 4 : 255)) // of a type
#define SITES_OF_TRAIL 12u                               // of an object
#define SITES_NONE     UINT16_MAX

// A place in the program, or, without an address, those that found no room.
struct site {
    uintptr_t code;                    // where the call returns to; 0: none yet
    uint64_t made, retained, released; // objects; owners; owners
};

struct sites {
    struct site items[SITES_MAX + 1];
};

// How often one of them counted an object.
struct sites_entry {
    uint16_t index;              // SITES_NONE: none yet
    uint16_t retained, released; // as far as they can be counted
};

// Behind an object.
struct sites_trail {
    uint64_t magic; // made of the object's address
    uint32_t owner; // the thread that made it
    uint32_t type;  // its id, turned over: no pointer
    uintptr_t made; // where
    uintptr_t last; // where it was last released; 0: nowhere yet
    struct sites_entry entries[SITES_OF_TRAIL]; // the first: where it was made
};

enum sites_change { SITES_RETAINED, SITES_RELEASED };

// Empty ones; NULL when memory is short.  Under the lock.
MUST_USE struct sites *sites_make(void);

// A new object of a checked type, before anybody else knows it.
void sites_begin(void *object, const struct kinds_type *type, uint32_t owner,
                 const void *code);

// The trail of an object that is checked, or was; NULL: it is none.
struct sites_trail *sites_trail(const void *object);

// Who released what was a checked object and is gone: its type.
const struct kinds_type *sites_type(const struct sites_trail *trail);

// Notes a change of a living object's count.
void sites_note(const struct kinds_type *type, struct sites_trail *trail,
                enum sites_change change, const void *code);

// What one object's trail tells, added to `sum`, site by site, where a site of
// the type has the same index; the addresses are left out.
void sites_add(struct sites *sum, const struct sites_trail *trail);

#endif
