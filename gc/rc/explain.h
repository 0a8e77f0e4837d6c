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
// marked once more, and flagged; a thread that may (rc/portion.h) takes them
// apart as a dead ring (rc/reclaim.h) when it is out of the stop.
//
// In between nobody can get at them: nothing leads there, weak references give
// NULL, and trials leave them out.
//
// What is being destroyed while the world is stopped is kept likewise.
//
// Before that, where a finalizer of a condemned object is due, what it leads to
// is marked first.  A finalizer may put such an object into traced memory,
// which some types allow without a count: these are SHOWN.  No count tells if
// they came back; the next cycle does.
//
// Invariants
//   EX1  held     after explain_held, with the marker drained, every unmarked
//                 counted object is explained by unmarked ones
//   EX2  kept     after explain_show, with the marker drained, no counted
//                 object that is in use and not a zombie is unmarked, and no
//                 zombie that a buffer names
//   EX3  clean    after explain_condemn every scratch count is 0
//   EX4  stuck    a count that was too large to be kept counts as explained
//   EX5  anew     what was condemned in an earlier cycle and was not taken is
//                 asked again: what is not condemned by this one is no longer
//   EX6  mixed    who owns and who is owned may be of any types: plain, shared
//                 and atomic objects explain each other
//   EX7  entry    the count that a weak map has of a value is explained by its
//                 entry; what lives by that is marked when ephemerons are
//   EX8  shown    of the condemned that traced memory may hold without a count
//                 those are SHOWN, and no others, to which there is a way from
//                 one whose finalizer is due
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
    size_t due_count;       // of those in question, finalizers that are due
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

// Condemns the rest, and visits those whose finalizer is due.
void explain_condemn(const struct heap *heap, explain_visit *visit, void *data,
                     struct explain_report *report);

// With the marker drained: notes what finalizers are shown, and visits what is
// left.
void explain_show(const struct heap *heap, explain_visit *visit, void *data,
                  struct explain_report *report);

// The condemned: those in blocks of `owner`, if it is `alone` those of nobody's
// too, and all of types that threads share. Puts at most `capacity` into
// `items` (NULL: none), by address, and returns how many there are. What is
// taken of them is dead or held before the next stop. Under the lock.
size_t explain_take(uint32_t owner, bool alone, void **items, size_t capacity);

#endif
