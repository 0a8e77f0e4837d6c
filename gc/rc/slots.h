// slots — which words of an object own what they point to, and which should.
//
// All that subtracts trusts what a type declares.  Two mistakes are easy: a
// slot is declared, and what was stored there was not retained; or a word holds
// a count, and is not declared.  The first is seen when more slots lead to an
// object than it has owners.  It is not seen which of them has no count, so all
// are named.
//
//     object of count 1 <- struct node, offset 0
//                       <- struct node, offset 8      one of the two lies
//
// The second is seen where nothing else is left to explain a count: see
// slots_visit_others and rc/explain.h.
//
// Invariants
//   SL1  declared  slots_to finds the slots that a type declares, listed and
//                  visited ones, and no other words
//   SL2  others    slots_visit_others visits each aligned word of an object, up
//                  to its end or its trail, that is no declared slot and is not
//                  NULL
//
// The conductor in a stop, or the object's thread.
// Design, alternatives and measurements: docs/design/rc/slots.md

#ifndef RC_SLOTS_H
#define RC_SLOTS_H

#include "base/defs.h"
#include "rc/kinds.h"

#define SLOTS_PLACES 3u

// A word of every object of a type.
struct slots_place {
    const struct kinds_type *type;
    size_t offset; // bytes from the object's start
};

// More slots lead to an object than it has owners.
struct slots_fault {
    const void *object;
    const struct kinds_type *type; // its own
    size_t owner_count;            // as its head says
    size_t slot_count;             // that lead there
    uint32_t place_count;          // different ones, as far as there is room
    struct slots_place places[SLOTS_PLACES];
};

void slots_begin(struct slots_fault *fault, const void *object);

// Adds the slots of `owner` that lead to the object.
void slots_blame(struct slots_fault *fault, void *owner);

// How many slots of an object lead to `target`; the offset of the last of them.
size_t slots_to(void *object, const struct kinds_type *type, const void *target,
                size_t *offset);

// The words of an object, `bytes` long, that are no declared slots.
typedef void slots_visit(uintptr_t word, size_t offset, void *data);
void slots_visit_others(void *object, const struct kinds_type *type,
                        size_t bytes, slots_visit *visit, void *data);

#endif
