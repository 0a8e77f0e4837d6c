// deferred — objects whose owners on the stack are not counted.
//
// Of a deferred type only slots, globals and other memory count; a pointer in a
// variable is free of charge.  So a count of 0 is no death sentence: it names
// the object among the *zeroes* of its thread, and now and then these are
// settled (Deutsch and Bobrow 1976).  What a variable holds is found as the
// tracer finds it, by reading the stack as words (Shahriyar, Blackburn and
// McKinley 2014); it is *held*, that is, counted once more, until the
// settlement is over:
//
//     zeroes [ a b c d e ]     stack: ... b ... d ...
//     hold      b, d                     counts 0 1 0 1 0
//     bury      a, c, e                  and what falls to 0 with them
//     let go    b, d                     zeroes [ b d ]
//
// What is held has an owner like any other: neither a cascade nor a trial of
// rings nor the tracer takes it.
//
// Invariants
//   DF1  held    between deferred_hold_word of a word that leads into a
//                deferred object, and deferred_let_go, that object's count is
//                not 0
//   DF2  even    after deferred_let_go every count is what it was, less what
//                was released meanwhile
//   DF3  named   a deferred object that lives and whose count is 0 is among the
//                zeroes of its thread or suspected, or memory was short, or its
//                thread has ended: then the tracer finds it
//   DF4  left    after deferred_bury no object is among the zeroes but zombies
//                that it says
//
// Called by the domain's thread; deferred_bury INSIDE.
// Design, alternatives and measurements: docs/design/rc/deferred.md

#ifndef RC_DEFERRED_H
#define RC_DEFERRED_H

#include "base/defs.h"
#include "rc/count.h"

// Holds the deferred object into which, or one past the end of which, a word of
// the stack points, if it belongs to thread `owner` or to nobody.  False: there
// is no room in `held`.
MUST_USE bool deferred_hold_word(struct count_buffer *held, uintptr_t word,
                                 uint32_t owner);

// Holds them no longer.
void deferred_let_go(struct count_domain *domain, struct count_buffer *held);

// Suspects that have fallen to 0 meanwhile go to the zeroes.
void deferred_recall(struct count_domain *domain);

// Those among the zeroes whose count is 0 are put on the list of the dead; the
// others leave.  Returns how many zombies are left there, to be unnamed.
size_t deferred_bury(struct count_domain *domain);

#endif
