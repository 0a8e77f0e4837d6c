// summary — where the memory of the process is, at its end.
//
// Whoever compares two allocators compares what the system says of the process:
// its resident set.  The sum of an allocator's own figures is something else,
// since pages that were never touched are not resident, and others are not the
// heap's.  So the summary begins with the system's figure, and says of every
// KiB of it whose it is:
//
//     resident  =  in objects  +  held  +  free in the heap  +  side tables
//                  +  files (program, libraries)  +  stacks and others
//
// Of a block that is resident in part the objects are said to be the resident
// part, then what is held.
//
// Invariants
//   SU1  sum     the parts add up to the resident set, which is that of the
//                system's list of mappings
//   SU2  quiet   nothing is allocated; no more than eight lines are written
//
// Takes the lock.  Called at exit; any thread.
// Design, alternatives and measurements: docs/design/api/summary.md

#ifndef API_SUMMARY_H
#define API_SUMMARY_H

#include "base/defs.h"

// Of what is in memory, KiB.
struct summary {
    size_t resident; // all of it
    size_t used;     // in objects, and in cells that threads have at hand
    size_t held;     // freed by the program, held by the quarantine
    size_t free;     // in the heap, and in no cell
    size_t tables;   // what the collector knows of the heap, block by block
    size_t files;    // of the program, its libraries and what it has mapped
    size_t other;    // stacks, data without a file, lists of the collector's
};

// False if the system does not tell, or this is not the time.
MUST_USE bool summary_take(struct summary *summary);

// Says it.
void summary_say(void);

#endif
