// reclaim — how a dead ring is taken apart.
//
// The members of a ring own each other, so none of them falls to 0 by itself,
// and each sees the others while it dies.  All are held by one owner more until
// the last of them is done with; what is asked of one that is dead already
// still finds its memory.  What hangs on a ring alone was visited with it, and
// is a member like the others: it may be destroyed before its owner.  No code
// of a member may retain a member once destructors run: the hold says that all
// of them are freed.
//
//     hold       all; short weak references are cleared
//     finalize   those that have a finalizer, once each
//     review     what a finalizer has brought back, and what that owns, lives
//     destroy    the rest is dead: destructors
//     slots      what they owned is released; within the ring, uncounted
//     free
//
// Where no member has code of its own all of them are dead when the trial ends,
// and two steps are left, slots and free; where they lead to each other alone,
// one.  A cell is freed when no slot that leads there will be read again.
//
// Invariants
//   RE1  weak   no code of a member or for it runs before weak references to
//               every member give NULL; long ones when destructors begin
//   RE2  whole  while a destructor of a member runs, no member's memory is free
//               or changed by us
//   RE3  back   a member that is owned from outside after the finalizers lives
//               on, with all it owns
//   RE4  slice  between two calls the program may run
//   RE5  count  a member that threads share is counted as ever until it is
//               DEAD; whether it is, no other thread running, is decided once
//   RE6  shown  what was SHOWN to finalizers (rc/explain.h), and may be held
//               without a count, lives on with all it owns; of such, no weak
//               reference leads a finalizer to one that was not, unless threads
//               share it
//
// Called by the domain's thread, INSIDE; reclaim_review under the lock, too.
// Design, alternatives and measurements: docs/design/rc/reclaim.md

#ifndef RC_RECLAIM_H
#define RC_RECLAIM_H

#include "base/defs.h"
#include "rc/count.h"
#include "rc/trial.h"

enum reclaim_phase {
    RECLAIM_IDLE,
    RECLAIM_QUICK_SLOTS, // all are DEAD already, none has code
    RECLAIM_QUICK_FREE,  // nor does any own anything but its peers
    RECLAIM_BEGIN,
    RECLAIM_FINALIZE,
    RECLAIM_REVIEW, // others may have got at members
    RECLAIM_DIE,
    RECLAIM_DESTROY,
    RECLAIM_SLOTS,
    RECLAIM_FREE
};

struct reclaim {
    enum reclaim_phase phase;
    size_t next;    // of the members, in this phase
    bool finalizes; // some member has a finalizer that is due
    bool shares;    // some member is of a type that threads share
    bool shows;     // some member is SHOWN
    bool by_tracer; // who found them; members may be of shared types, too
};

static inline bool reclaim_is_on(const struct reclaim *reclaim) {
    return reclaim->phase != RECLAIM_IDLE;
}

static inline bool reclaim_is_quick(const struct reclaim *reclaim) {
    return reclaim->phase == RECLAIM_QUICK_SLOTS ||
           reclaim->phase == RECLAIM_QUICK_FREE;
}

// The first of the members whose cell is not free yet.
static inline size_t reclaim_first_whole(const struct reclaim *reclaim,
                                         const struct trial *trial) {
    bool frees =
        reclaim->phase == RECLAIM_FREE || reclaim->phase == RECLAIM_QUICK_FREE;
    return !reclaim_is_on(reclaim) ? trial->visited.count
                                   : (frees ? reclaim->next : 0);
}

// Begins with the members that trial_take left in `trial`, or that the tracer
// found (then has_code is set): nobody owns them but each other, and nobody can
// reach them.  Not while another is on.
void reclaim_begin(struct reclaim *reclaim, const struct trial *trial,
                   bool by_tracer);

// Goes on, for about `limit` members, or until something is to be done outside:
// then true, as count_advance.
bool reclaim_advance(struct reclaim *reclaim, struct trial *trial,
                     struct count_domain *domain, struct count_call *call,
                     size_t limit);

// What COUNT_REVIEW wishes: which members live on after the finalizers, and
// death to the rest; `is_still`: no other thread runs, else all live on.
void reclaim_review(struct reclaim *reclaim, struct trial *trial,
                    struct count_domain *domain, bool is_still);

#endif
