// help — who marks beside the conductor.
//
// A program with several threads that run has as many processors, and while the
// world stands all but one would be idle.  So threads that answered the stop
// mark, too (roots/assist), each with a marker of its own, and what one has too
// much of goes to others in packets (trace/packets).  A program with one thread
// marks as one thread: Loam starts none of its own.
//
// The helpers' markers are made after the first cycle in which they would have
// been of use, and kept.  Where memory is short there are none.
//
// Invariants
//   HP1  apart    between help_end and the next help_begin no thread but the
//                 conductor marks
//   HP2  counted  what helpers marked and read is in the conductor's counts
//                 after help_end
//   HP3  frugal   a stop asks for no memory
//
// help_ready, help_grow and help_fit: under the lock; the rest: the conductor
// in a stop.
// Design, alternatives and measurements: docs/design/collect/help.md

#ifndef COLLECT_HELP_H
#define COLLECT_HELP_H

#include "base/defs.h"
#include "heap/region.h"
#include "trace/mark.h"

struct help {
    struct packets *packets; // made once; NULL: not yet
    struct marker *markers;  // of helpers
    size_t count;            // of them
    size_t most;             // that the program allows; constant
    size_t used;             // markers of the last cycle, the conductor's too
};

// Makes the markers for cycles to come, if the last one, in which threads were
// stopped, took long enough; once.
void help_ready(struct help *help, const struct region *ground,
                uint64_t mark_ns);

// The heap has grown: as worklist_grow, for each.
void help_grow(struct help *help, const struct region *ground);

// Address space is limited: their stacks take less of it.
void help_fit(struct help *help);

// Marking begins, and at most `threads` may come, where all markers together
// took long enough the last time.
void help_begin(struct help *help, struct marker *marker, size_t threads,
                uint64_t mark_ns);

// The marker is drained: helpers go, if there were any.
void help_end(struct help *help, struct marker *marker);

// In a forked child; `in_cycle`: its parent was in the middle of one.
void help_forked(struct help *help, bool in_cycle);

#endif
