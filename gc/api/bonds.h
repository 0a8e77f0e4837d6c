// bonds — what the program hangs on counted objects, and when it comes down.
//
// The records are those of rc/bond.h.  Here they are made for the public calls,
// and here is done what they say, outside of everything, by the thread that
// destroys the object:
//
//     count 0, or a dead ring
//       bonds_finalize   the type's finalizer, the one that was set, guardians;
//                        whoever owns the object then has it, and it lives
//       bonds_destroy    entries of maps under it go, and their values are
//                        released; the type's destructor
//     after a stop
//       bonds_settle     values of maps and guardians that are no more
//
// Invariants
//   BN1  once      what was set or watched once is called or delivered at most
//                  once
//   BN2  order     the type's finalizer, then the one that was set, then
//                  guardians, then entries, then the destructor
//   BN3  given     a guardian owns a count of each object it has ready, and
//                  loam_guardian_next passes it on
//   BN4  entry     an owning map owns one count of each counted value of an
//                  entry that lives, and of no other
//   BN5  refused   when memory is short all counts are as they were
//
// Any thread that may count the objects in question.
// Design, alternatives and measurements: docs/design/api/bonds.md

#ifndef API_BONDS_H
#define API_BONDS_H

#include "loam/weak.h"

#include "base/defs.h"
#include "heap/blockmap.h"
#include "heap/fate.h"
#include "rc/count.h"

// The finalizers of an object, and its guardians: what COUNT_FINALIZE wishes.
void bonds_finalize(struct count_domain *domain, const struct count_call *call);

// What hangs on it comes down, and its destructor runs.
void bonds_destroy(struct count_domain *domain, void *object,
                   const struct kinds_type *type);

// Releases values that nobody owns any more; `nobodys`: also those of threads
// that have ended.
void bonds_settle(struct count_domain *domain, bool nobodys);

// Sets the finalizer of a counted object, as loam_finalizer_set.
MUST_USE bool bonds_set(const struct place *place,
                        const struct loam_finalizer *finalizer,
                        struct loam_finalizer *previous);

// The one that is set; false if there is none.
bool bonds_get(const struct place *place, struct loam_finalizer *finalizer);

// Lets a guardian's token wait for a counted object.
MUST_USE bool bonds_watch(const struct place *place, struct fate_guard *guard,
                          struct fate_token *token);

// The object was taken from `cell`: the count is the caller's, if it had one.
// Under the lock.
bool bonds_take_held(uintptr_t object, const void *cell);

// A traced object, `cell`, owns a count of a counted one for as long as it
// lives or until it lets go.  Where memory is short, for ever.
void bonds_hold(const void *cell, void *object);
void bonds_let_go(const void *cell, void *object);

// The caller has it now: variables count, but not for deferred types.
void bonds_hand_over(struct count_domain *domain, void *object);

// Whether an owning map may have `value` under `key`; else what is wrong.
const char *bonds_fault(const void *key, const void *value);

// The entry of `cell` under `key` is to have `value` instead of what it had,
// and its count, if it is counted, is taken first.  *old is to be released when
// the entry is changed.  False when memory is short.
MUST_USE bool bonds_hang(struct count_domain *domain, const void *key,
                         const void *cell, const void *value, void **old);

#endif
