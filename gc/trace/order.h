// order — which objects may be finalized, and in which order.
//
// The marker has come to its end.  Objects that have a fate and are not marked
// are dead to the program, but a finalizer will see them again, and all that
// they lead to.  What may be finalized now depends on what else leads there:
//
//     ordered         what it leads to is marked before anything is decided, so
//                     that of a chain of such objects only the first is due;
//                     a ring of them is never due (GC_register_finalizer)
//     ignores self    the same, but for pointers from an object to itself
//     unordered       what it leads to does not wait for it
//     guarded         as unordered; due only while the guardian lives, which
//                     may be because another guardian hands it out
//     unreachable     as ordered; and decided last, when all that is due by
//                     now, and what it leads to, is marked
//
// Objects that are due are marked on: the finalizer, or who asks the guardian,
// finds them whole.
//
// Invariants
//   OR1  waits    after order_settle every object whose fate still waits is
//                 marked
//   OR2  due      an object that was not marked and that nothing dead, ordered
//                 and finalizable led to is in the queue, or with its
//                 guardians
//   OR3  chain    no ordered object becomes due in a cycle in which another
//                 dead object with an ordered finalizer leads to it
//   OR4  last     an unreachable one becomes due only if no object that became
//                 due in this cycle leads to it
//   OR5  whole    an object that became due is marked, with all it leads to
//   OR6  dropped  a fate whose object was freed by hand, or whose guardian is
//                 dead, is forgotten
//
// Called by the conductor in a stop, once mark_ephemerons has been drained.
// The order is that of Boehm's collector (finalize.c describes it); guardians
// are those of Dybvig, Bruggeman and Eby (1993).
// Design, alternatives and measurements: docs/design/trace/order.md

#ifndef TRACE_ORDER_H
#define TRACE_ORDER_H

#include "base/defs.h"
#include "heap/fate.h"
#include "trace/mark.h"

// Moves what is due from `fates` to their queue and to guardians.
void order_settle(struct fates *fates, struct marker *marker);

#endif
