// settle — what becomes of the dead before their memory goes.
//
// Between the end of marking and the flip stand those who look at the dead:
// weak references, ephemerons, finalizers.  Each has its module; here is the
// order in which a cycle asks them.
//
//     settle_roots     what finalizers hold is marked like any root
//     settle_mark      ephemerons count from here on
//                      short weak references are cleared
//                      objects to be finalized are marked on
//     (the audit)      everything is still there to be compared with
//     settle_finish    long weak references are cleared, then ephemerons whose
//                      key stayed dead
//
// A program that uses none of this pays two loads a cycle.
//
// Invariants
//   ST1  short    a short weak reference to an object that a finalizer will see
//                 is cleared before that finalizer can run
//   ST2  long     a long one is cleared by the cycle that frees the object, not
//                 before
//   ST3  data     what a waiting or ready finalizer was given as data lives
//   ST4  quiet    without weak references, ephemerons and fates nothing is
//                 walked
//   ST5  void     after settle_void nothing of this leads into the heap
//
// settle_use_* and settle_add_fate: under the heap lock; the rest: the
// conductor in a stop.
// Design, alternatives and measurements: docs/design/collect/settle.md

#ifndef COLLECT_SETTLE_H
#define COLLECT_SETTLE_H

#include "base/defs.h"
#include "heap/fate.h"
#include "heap/heap.h"
#include "trace/ephemeron.h"
#include "trace/mark.h"

struct settle {
    struct fates fates;           // lock
    struct ephemerons ephemerons; // lock
    bool handles;                 // weak references were made; atomic
    uint32_t notices;             // cycles that made finalizers ready; atomic,
                                  // a futex word
};

// What the last cycle cleared; finalizers that became ready stay in the queue.
struct settle_report {
    size_t short_count, long_count; // weak references
    size_t ephemeron_count;
    size_t ready_count; // finalizers
};

// The first weak reference is about to be made; one more ephemeron is; a fate
// is to be added.  False when memory is short.  Lock.
MUST_USE bool settle_use_handles(struct settle *settle);
MUST_USE bool settle_use_ephemeron(struct settle *settle);
MUST_USE struct fate *settle_add_fate(struct settle *settle,
                                      const struct fate *fate);

// Calls visit for every word of finalizers that is a root; `all`: also for the
// objects that must live once settle_mark is done.
typedef void settle_visit(uintptr_t word, void *data);
void settle_roots(struct settle *settle, bool all, settle_visit *visit,
                  void *data);

// The marker has come to its end.
void settle_mark(struct settle *settle, struct marker *marker,
                 struct settle_report *report);

// Everything that lives is marked.
void settle_finish(struct settle *settle, struct settle_report *report);

// A heap is about to go: clears weak references and ephemerons that lead into
// it, and forgets the fates of its objects.  With the world stopped.
void settle_void(struct settle *settle, const struct heap *heap);

#endif
