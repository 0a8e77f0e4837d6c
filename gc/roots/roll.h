// roll — every thread of the process that we know of.
//
// The kernel's ids of threads lead to records.  A mutator has one from its
// attaching until its thread is gone; a thread that never called us, a
// *stranger*, has one from the stop that met it until one that misses it.
//
//     thread id  [ upper bits | lower 10 bits ]
//                      |             |
//               leaves[4096] --> slots[1024] --> record --> mutator
//
// A record is found by the signal handler of a thread that knows no more of
// itself than its id, maybe late, while another stop or none is on.  So what
// it reads is never given back: records and leaves are used again as records
// and leaves only, and who finds a record compares the id.
//
// A mutator has an id, by which blocks name their owner.  Ids are slots, used
// again at once.  A mutator that is leaving has given its caches up; it stays
// until its thread is seen to be gone, or attaches again.
//
// Invariants
//   J1  once    a thread on the roll is in the list once, and found by its id
//   J2  typed   memory that was a record is a record for ever; the same for
//               leaves: a late reader finds nothing or a record with its id
//   J3  count   count is the length of the list, strangers the number of those
//               without a mutator, leaving of mutators that are leaving
//   J4  ids     two mutators on the roll have different ids, and roll_find_id
//               finds each
//   J5  gone    a mutator whose thread is gone leaves the roll when that is
//               seen; the bell rings for it first, unless it was leaving
//
// roll_find: anybody, async-signal-safe.  The rest under the world's lock.
// Design, alternatives and measurements: docs/design/roots/roll.md

#ifndef ROOTS_ROLL_H
#define ROOTS_ROLL_H

#include "base/defs.h"

struct heap;
struct mutator;
struct tracer_file;

#define ROLL_LEAF_BITS 10
#define ROLL_LEAVES    ((size_t)1 << 12) // ids of Linux have 22 bits

// How a thread stands in the stop that is on.
enum record_stop {
    RECORD_RUNS,     // not stopped yet
    RECORD_SELF,     // the conductor
    RECORD_HELD,     // in a safe region
    RECORD_ANSWERED, // by the signal's handler, or where it asked
    RECORD_TRACED,   // by ptrace
    RECORD_PASSED,   // cannot be stopped: read while it runs
};

struct record {
    uint32_t thread;       // the kernel's id; 0: not on the roll; lock
    uint32_t acknowledged; // the stop it answered last; its thread
    bool signalled;        // one of our signals is under way; set by who
                           // sends it, cleared by its handler
    uint8_t stop;          // enum record_stop; conductor
    bool apart;            // not of the program (a worker of the kernel, of
                           // an emulator): never stopped; conductor
    bool deaf;             // it blocked the signal when last seen; conductor
    bool refused;          // the system would not send it; conductor
    bool slow;             // it could run when last seen, and did not;
                           // conductor
    bool named;            // the program was warned of it; conductor
    uint32_t seen;         // pass in which the kernel listed it; conductor
    const void *hot_end;   // its stack from here on was to be read, at the
                           // last stop that it answered; its thread
    const void *alternate_lowest, *alternate_end; // signal stack it was on; the
                                                  // same
    uintptr_t thread_pointer;                     // a stranger's; the same
    struct tracer_file *file; // its registers, if it was traced; conductor
    struct mutator *mutator;  // NULL: a stranger; lock
    struct record *next;      // in the list, or among the unused; lock
    struct record **link;     // what leads to it in the list; lock
};

struct roll_leaf {
    struct record *slots[(size_t)1 << ROLL_LEAF_BITS];
};

struct roll {
    struct record *records;   // the list
    struct record *unused;    // those that may be used again
    struct mutator *mutators; // the list of mutators
    struct mutator **slots;   // by id - 1
    size_t slot_count;        // as many as there is room for
    size_t slot_last;         // where the search for a free one ended
    size_t count;             // of records
    size_t strangers;         // of records without a mutator
    size_t leaving;           // of mutators that are leaving
    size_t dead;              // of mutators to be reaped
    size_t sweep_at;          // as many leaving are looked at once more
    // Bell: a mutator's thread vanished with its caches.  Under the lock.
    void (*buried)(struct mutator *mutator);
    struct roll_leaf *leaves[ROLL_LEAVES];
};

// The record of a thread, or NULL.
struct record *roll_find(const struct roll *roll, uint32_t thread);

// The record of a stranger, made if need be; NULL when memory is short, or when
// the id is none that Linux gives.
MUST_USE struct record *roll_meet(struct roll *roll, uint32_t thread);

// The mutator of a living thread, made if it has none that is leaving; whoever
// had the thread's id before is buried.  NULL as above.
MUST_USE struct mutator *roll_attach(struct roll *roll, uint32_t thread,
                                     struct heap *home, bool single);

// The mutator's caches were given up.
void roll_detach(struct roll *roll, struct mutator *mutator);

// The mutator with this id, or NULL.
struct mutator *roll_find_id(const struct roll *roll, uint32_t id);

// The thread of this record is gone: strikes it off.  Its mutator leaves with
// the next roll_reap, which has to follow before the lock is released.
void roll_bury(struct roll *roll, struct record *record);
void roll_reap(struct roll *roll);

// In a forked child: forgets all but the calling thread and its mutator, whose
// memory is not given back, but for what that thread needs.  False: the parent
// had nobody on the roll, and there is no memory.
MUST_USE bool roll_forked(struct roll *roll, uint32_t thread,
                          struct mutator *self);

// Visits each mutator; a visit may remove the one it is given.
typedef void roll_visit(struct mutator *mutator, void *data);
void roll_each(const struct roll *roll, roll_visit *visit, void *data);

#endif
