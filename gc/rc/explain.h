// explain — counted objects that the tracer did not reach.
//
// The tracer finds no way to an object. Yet its count is 2: who are the two?
// If both are slots of objects that were not reached either, the object is
// garbage, by both accounts. If one is not, somebody holds it where the tracer
// cannot look (malloc'd memory, the kernel's), or forgot it; it is kept, with
// all that it leads to.
//
//     marked from roots    U: the rest      scratch = count
//                                           less one for each slot in U
//                          scratch > 0  ->  marked, and what it leads to
//                          the rest     ->  condemned
//
// The condemned are not freed here: their destructors are the program's code,
// and the counts of what they own are changed by one thread alone. They are
// marked once more, and flagged; the thread to which their block belongs takes
// them apart as a dead ring (rc/reclaim.h) when it is out of the stop.
//
// What is being destroyed while the world is stopped is kept likewise.
//
// Invariants
//   EX1  held     after explain_held, with the marker drained, every unmarked
//                 counted object is explained by unmarked ones
//   EX2  kept     after explain_condemn, with the marker drained, no counted
//                 object that is in use and not a zombie is unmarked, and no
//                 zombie that a buffer names
//   EX3  clean    after explain_condemn every scratch count is 0
//   EX4  stuck    a count that was too large to be kept counts as explained
//   EX5  apart    an object that threads share is explained by such objects
//                 alone: what it is owned by otherwise is destroyed at its
//                 owner's leisure
//   EX6  entry    the count that a weak map has of a value is explained by its
//                 entry; what lives by that is marked when ephemerons are
//
// The conductor in a stop; with no memory but the heads'.
// Design, alternatives and measurements: docs/design/rc/explain.md

#ifndef RC_EXPLAIN_H
#define RC_EXPLAIN_H

#include "base/defs.h"
#include "heap/heap.h"
#include "rc/kinds.h"
#include "rc/slots.h"

typedef void explain_visit(uintptr_t word, void *data);

struct explain_report {
    size_t condemned_count; // in this cycle
    size_t held_count;      // unmarked, and owned by nobody that is known
    size_t faulty_count;    // slots that own without a count
    const void *faulty;     // to which one of them leads, or NULL
    bool loosened;          // counts of maps wait to be given back (rc/bond.h)
};

// An object that is held where nobody sees it.
struct explain_named {
    void *object;
    const struct kinds_type *type;
    size_t owner_count; // that are not known; 0: some slot that leads to it was
                        // given no count
    size_t other_count; // words that lead to it and are no declared slots
    uint32_t place;     // of list->others, where they are
};

#define EXPLAIN_PLACES 16u

// A word of a type that is no declared slot (rc/others.h).
struct explain_others {
    struct slots_place place;
    const struct kinds_type *target; // what it leads to
    size_t exact_count;              // objects whose owners it would be
    size_t acquitted_count;          // words that own nothing
};

// Room for some, in the order of addresses; count goes on where there is none.
struct explain_list {
    struct explain_named *items;
    size_t count, capacity;
    struct explain_others others[EXPLAIN_PLACES];
};

// Whether there may be counted objects at all.
bool explain_is_used(void);

// Visits what is held from places that nobody sees.
void explain_held(const struct heap *heap, explain_visit *visit, void *data,
                  struct explain_report *report);

// Who leads to the faulty object that explain_held found, before anything is
// condemned.
void explain_blame(const struct heap *heap, const void *faulty,
                   struct slots_fault *fault);

// Lists what explain_held visited, before anything is condemned.
void explain_list(const struct heap *heap, struct explain_list *list);

// Between explain_list and explain_condemn: whether an object is in question;
// and whether it is, and needs no owner beside the slots that lead to it.
bool explain_is_asked(const void *object);
bool explain_is_explained(const void *object);

// Condemns the rest, and visits it.
void explain_condemn(const struct heap *heap, explain_visit *visit, void *data,
                     struct explain_report *report);

// The condemned in blocks of `owner` (0: of nobody), of plain types; or those
// of types that threads share, in all blocks. Puts at most `capacity` into
// `items` (NULL: none) and returns how many there are. Whoever takes them sees
// to it, before a stop, that they are dead or held. Under the lock.
size_t explain_take(uint32_t owner, bool shared, void **items, size_t capacity);

#endif
