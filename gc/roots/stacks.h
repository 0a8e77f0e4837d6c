// stacks — which words of a stopped thread may hold its pointers.
//
// From where a thread stopped to the far end of its stack, and its registers.
// That is simple as long as it stopped on the stack that it was born with.  If
// the stack pointer lies elsewhere there are three places to think of:
//
//     a registered fiber         the fiber is read from there (roots/fiber.h),
//                                the thread's own stack from where it left it
//     a signal stack             it is read from there; how far down the own
//                                stack was in use nobody says: all of it
//     anywhere else              from there to the end of the mapping, and all
//                                of the own stack
//
// A stranger's own stack is unknown.  What is known is where it stopped, and
// where its thread pointer points, which in the usual library lies on the stack
// too.
//
// Invariants
//   Y1  own       a thread on its own stack: every word from its hot end to the
//                 far end; all of it where a signal stack lies in it
//   Y2  foreign   a thread elsewhere: every word of that stack from its hot end
//                 on, and every word of its own stack that may be in use
//   Y3  readable  no word is visited that cannot be read
//   Y4  file      the registers that were saved for it, or read by the tracer
//   Y5  cut       what lies below the conductor's hot end is its own, and not
//                 visited, though a stranger's stack may seem to hold it
//   Y6  unused    nor is what lies below the hot end of a thread on its own
//                 stack, where another's has no end that is known
//
// Called by the conductor in a stop; allocates nothing.
// Design, alternatives and measurements: docs/design/roots/stacks.md

#ifndef ROOTS_STACKS_H
#define ROOTS_STACKS_H

#include "base/defs.h"
#include "roots/roll.h"

// Is given words [start, end).
typedef void stacks_visit(const uintptr_t *start, const uintptr_t *end,
                          void *data);

// Visits the words of a thread that stopped as its record says, but for those
// of fibers: it notes where it found the thread in one (fiber_note).
void stacks_each(const struct record *record, stacks_visit *visit, void *data);

// The same for all threads on the list, among them the conductor's, in a stop;
// none of the conductor's words below its hot end (Y5).
void stacks_all(const struct record *records, stacks_visit *visit, void *data);

// The thread that stopped nearest below `at`, a word of a stack; 0: nobody.
uint32_t stacks_nearest(const struct record *records, const void *at);

// Whether `at` lies below the place where a thread stopped, in its stack or the
// signal stack or fiber that it was on.  Such words may change in a stop: who
// helps to mark has frames there, and a handler that comes in while it is held.
bool stacks_is_dead(const struct record *records, const void *at);

// Visits the thread pointer of each that has one.
typedef void stacks_pointer(uintptr_t thread_pointer, void *data);
void stacks_each_pointer(const struct record *records, stacks_pointer *visit,
                         void *data);

#endif
