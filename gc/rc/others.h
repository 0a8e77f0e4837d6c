// others — words that seem to hold a count, and are not declared.
//
// A word owns what it leads to, and its type does not say so.  When the object
// around it dies, nobody releases what it owned; when the object is part of a
// ring, the ring stays.  Either way there are forgotten objects in the end: the
// tracer finds no way to them, and some of their owners are not known.
//
// To whom could those belong?  In what died or was not reached either, words
// are looked for that are no declared slots and lead there.  If there are just
// as many as owners are missing, the words are under suspicion:
//
//     struct box, offset 8, undeclared ->  struct lid, count 1, forgotten
//
// A borrowed pointer, to a parent say, looks the same from one object.  The
// others give it away: some leads to what is explained without it, or to what
// was destroyed in order, or more of them lead to one object than it has
// owners.  One such word acquits its place in the type.  And nothing is said at
// all in a program that forgets nothing.
//
// Invariants
//   OT1  forgotten  only words that lead to what explain_list named are
//                   suspected
//   OT2  exact      a place is told of if some object has exactly as many
//                   undeclared words as unknown owners, all of that place
//   OT3  acquitted  and no word of it leads to what needs no owner more
//
// The conductor in a stop, between explain_list and explain_condemn.
// Design, alternatives and measurements: docs/design/rc/others.md

#ifndef RC_OTHERS_H
#define RC_OTHERS_H

#include "base/defs.h"
#include "heap/heap.h"
#include "rc/explain.h"

// Suspects all words of the heap, and keeps in list->others what is left.
void others_find(const struct heap *heap, struct explain_list *list);

// Whether a place is told of.
static inline bool others_is_told(const struct explain_others *others) {
    return others->exact_count != 0 && others->acquitted_count == 0;
}

#endif
