// fate — what is to happen when an object dies.
//
// A fate is a record beside the heap: for this object, when nothing leads to it
// any more, call that function (a finalizer), or hand the object to that
// guardian.  The module keeps the records and knows where they are; which
// objects are dead, and in which order their fates come, is decided above
// (trace/order.h).
//
//     WAITS     in the table, found by object
//     DYING     the same, seen dead in this cycle
//     READY     in the queue of finalizers to be run
//     FREE      on the list of records for the next
//
// Records lie in chunks of meta memory that never move and are walked in
// sequence.  They are the truth; table, queue and list of free records are
// derived from them and can be built again, as a child after fork must.
//
// An object has at most one finalizer, and any number of guardians.  A guardian
// and its tokens are objects of the heap: a token is held by its guardian
// alone, and the fate that names it does not hold it.  So a fate whose token is
// dead has lost its guardian.
//
// Invariants
//   FA1  once     fate_find finds the one finalizer of an object that waits,
//                 and no other
//   FA2  count    waiting_count and ready_count are the numbers of records that
//                 wait (or are dying), and that are ready
//   FA3  queue    finalizers are taken in the order in which they became ready
//   FA4  shortage a refused record or table changes nothing that was there
//   FA5  truth    fate_rebuild finds every record that waits or is ready, and
//                 none that is not
//   FA6  token    a token is in exactly one list of its guardian until its
//                 object is taken
//
// Guarded by the heap lock; by the conductor in a stop.
// Design, alternatives and measurements: docs/design/heap/fate.md

#ifndef HEAP_FATE_H
#define HEAP_FATE_H

#include "base/defs.h"

enum fate_mode {
    FATE_ORDERED,      // after those of objects that lead to it
    FATE_IGNORES_SELF, // the same, what it says of itself not counted
    FATE_UNORDERED,    // at once
    FATE_UNREACHABLE,  // when no finalizer that is due leads to it either
    FATE_GUARDED       // handed to a guardian
};

enum fate_state { FATE_FREE, FATE_WAITS, FATE_DYING, FATE_READY };

typedef void fate_function(void *object, void *data);

struct fate {
    uintptr_t object;        // its start
    fate_function *function; // of a finalizer
    uintptr_t data;          // for it; of a guarded object: its token
    struct fate *next;       // in its bucket, the queue or the list of free
    uint32_t block;          // of the object; constant while in use
    uint16_t cell;           //
    uint8_t mode;            // enum fate_mode
    uint8_t state;           // enum fate_state; written last
};

struct fate_buckets;
struct fate_chunk;

struct fates {
    struct fate_buckets *buckets; // by object; NULL until the first
    struct fate_chunk *chunks;    // all records
    struct fate *free;            // records not in use
    struct fate *first, *last;    // of the queue
    size_t waiting_count;         // see FA2
    size_t ready_count;           // atomic: read without the lock
};

// The finalizer that waits for the object that starts at `object`, or NULL.
struct fate *fate_find(const struct fates *fates, uintptr_t object);

// A new record that waits, like `fate` but for its links; NULL when memory is
// short.  There is no finalizer for the object yet, if this is one.
MUST_USE struct fate *fate_add(struct fates *fates, const struct fate *fate);

// Forgets a record that waits.
void fate_remove(struct fates *fates, struct fate *fate);

// Puts a finalizer that waits into the queue.
void fate_release(struct fates *fates, struct fate *fate);

// Takes the first of the queue out; false if it is empty.
bool fate_take(struct fates *fates, struct fate *taken);

// Calls visit for every record that waits or is ready; it may remove or release
// the record that it is given.
typedef void fate_visit(struct fates *fates, struct fate *fate, void *data);
void fate_each(struct fates *fates, fate_visit *visit, void *data);

// Builds what is derived from the records anew, within what memory there is.
void fate_rebuild(struct fates *fates);

// A guardian's lists, and what it holds for one object: both in scanned cells.
struct fate_guard {
    struct fate_token *waiting;            // objects that live
    struct fate_token *ready, *ready_last; // objects found dead, not yet taken
};

struct fate_token {
    uintptr_t object; // 0 while it waits
    struct fate_token *next, *prev;
    uintptr_t hidden; // ~ of the guardian, which would lead to itself if not
};

static inline struct fate_guard *
fate_token_guard(const struct fate_token *token) {
    return (struct fate_guard *)~token->hidden;
}

// Lets a token, all zero, wait in a guardian.
void fate_token_wait(struct fate_token *token, struct fate_guard *guard);

// Lets the guardian of a waiting token have the object.
void fate_token_deliver(struct fate_token *token, uintptr_t object);

// Takes a waiting token out of its guardian: its object is no more.
void fate_token_cancel(struct fate_token *token);

// Takes an object out of a guardian; 0 if none is ready.
uintptr_t fate_guard_take(struct fate_guard *guard);

#endif
