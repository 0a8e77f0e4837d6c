// inquest — what is asked of those who count, when somebody doubts them.
//
// For programs that look for a fault.  LOAM_CHECK=rc has every type checked,
// LOAM_RC_TRACE those it names: their objects are not counted inline, and the
// slow way of each count passes here, with the address it was called from.
//
//     loam_release(o) -> OTHER: loam_release_slow -> inquest_released
//                              its thread?   else a warning
//                              its sites     (rc/sites.h), if named
//
// At the end, or when it is asked, what nothing leads to and is owned all the
// same is told of: how many there are, where they were made, and who retained
// and released just these.
//
// Invariants
//   IQ1  off     without these options no object is checked, and counting costs
//                what it cost
//   IQ2  same    a checked object is destroyed when an unchecked one would be
//   IQ3  owner   a thread that counts a plain object is told of when another
//                that made it lives, and never else
//
// Any thread, outside; inquest_type under the lock.
// Design, alternatives and measurements: docs/design/api/inquest.md

#ifndef API_INQUEST_H
#define API_INQUEST_H

#include "api/counting.h"
#include "base/defs.h"
#include "rc/count.h"
#include "rc/sites.h"

// Whether a new type is checked, and whether its sites are noted.
void inquest_type(struct kinds_type *type);

// An object of a checked type was made.
COLD void inquest_made(const struct counting *counting, void *object,
                       const struct kinds_type *type, const void *caller);

// A count of a checked object, if it is one, is about to change.
COLD void inquest_changed(const struct counting *counting, void *object,
                          enum sites_change change, const void *caller);

// Tells what is wrong with counting an object, as far as it is known.
COLD void inquest_refuse(const char *function, enum count_fault fault,
                         const void *object, const void *caller);

#endif
