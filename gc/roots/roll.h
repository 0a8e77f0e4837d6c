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
// Invariants
//   J1  once    a thread on the roll is in the list once, and found by its id
//   J2  typed   memory that was a record is a record for ever; the same for
//               leaves: a late reader finds nothing or a record with its id
//   J3  count   roll.count is the length of the list
//
// roll_find: anybody, async-signal-safe.  The rest under the world's lock.
// Design, alternatives and measurements: docs/design/roots/roll.md

#ifndef ROOTS_ROLL_H
#define ROOTS_ROLL_H

#include "base/defs.h"

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
    bool signalled;        // one of our signals is under way; exchanged
    uint8_t stop;          // enum record_stop; conductor
    bool apart;            // not of the program (a worker of the kernel, of
                           // an emulator): never stopped; conductor
    bool deaf;             // it blocked the signal when last seen; conductor
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
    struct record *records; // the list
    size_t count;           // its length
    struct record *unused;  // those that may be used again
    struct roll_leaf *leaves[ROLL_LEAVES];
};

// The record of a thread, or NULL.
struct record *roll_find(const struct roll *roll, uint32_t thread);

// A record for a thread that has none; NULL when memory is short, or when the
// id is none that Linux gives.
MUST_USE struct record *roll_add(struct roll *roll, uint32_t thread);

// Strikes a thread off; the record is the roll's from then on.
void roll_remove(struct roll *roll, struct record *record);

// Forgets everything that the roll points to, as if it were new.
void roll_forget(struct roll *roll);

#endif
