// check — what must be true.
//
// Three words, by what they cost and when they are compiled:
//
//   CHECK(cond)   always.       A broken heap must not run on: constant-time
//                               tests of what a caller or a wild store breaks.
//   ASSERT(cond)  LOAM_CHECK 1  Arguments, results, invariants at a point.
//   VERIFY(cond)  LOAM_CHECK 2  Walks: `block_check(block)` and its like, at
//                               the borders of a phase.
//
// All three stop the process.  None of them handles an error: running out of
// memory is an event, not a broken promise, and is returned to the caller.
// Conditions have no side effects.  Cite the invariant: ASSERT(...); // S3
//
// Invariants:
//   C1  says   a failed check names file, line and condition on standard
//              error, on one line, before the process aborts
//   C2  still  a check that is compiled out does not evaluate its condition,
//              but the condition must still compile
//
// Any thread, any state, also in a signal handler: only write and abort.
// Design, alternatives and measurements: docs/design/base/check.md

#ifndef BASE_CHECK_H
#define BASE_CHECK_H

#include "base/defs.h"

// Says "loam: FILE:LINE: broken: WHAT" and aborts.
COLD _Noreturn void check_fail(const char *file, int line, const char *what);

// Says "loam: SENTENCE" and aborts: where nothing is broken, but the program
// asks for what this version cannot do and cannot be told in another way.
COLD _Noreturn void check_stop(const char *sentence);

#define CHECK(cond)                                                            \
    (LIKELY(cond) ? (void)0 : check_fail(__FILE__, __LINE__, #cond))
#define CHECK_NEVER(why) check_fail(__FILE__, __LINE__, why)

#if LOAM_CHECK >= 1
#define ASSERT(cond) CHECK(cond)
#else
#define ASSERT(cond) ((void)sizeof((cond) ? 1 : 0))
#endif

#if LOAM_CHECK >= 2
#define VERIFY(cond) CHECK(cond)
#else
#define VERIFY(cond) ((void)sizeof((cond) ? 1 : 0))
#endif

#endif
