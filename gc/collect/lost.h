// lost — what malloc handed out and nothing leads to.
//
// A program that frees by hand can forget to.  Where a heap seeks what is lost
// (B16 of heap/block.h), malloc's cells are read by the marker as any object
// is, and are no roots.  What is not marked then is lost.  Two uses of that:
//
//     report    nothing is freed: each lost object is added to the sums of the
//               stack that allocated it (heap/origin.h).  It is indirect if
//               another lost object leads to it, else direct.
//     reclaim   nothing is told: each lost cell grows older by a cycle, one
//               that is found again is new, and what was lost in LOST_AGE
//               cycles in a row is free, if nothing younger leads to it.
//
//     word of a block     mark 0 0 1 1 0      two words of age:  low  0 1 0 0 1
//                         alloc 1 0 1 1 1                        high 0 0 0 0 1
//     after this cycle    low  1 0 0 0 1      lost once; lost three times
//                         high 0 0 0 0 1
//
// Then whatever is not to be freed is marked, with all that it leads to: the
// flip and all else in a cycle know nothing of this.
//
// Invariants
//   LO1  kept      what a root leads to is never lost, nor a cell of
//                  KIND_PINNED that has no trail, where trails are written,
//                  or was allocated by the loader, nor what they lead to
//   LO2  told      each lost object is in exactly one sum, once
//   LO3  indirect  it is in the indirect one if and only if a word of another
//                  lost object leads into it
//   LO4  patience  a cell is freed only by the LOST_AGE-th cycle in a row that
//                  found it lost, and not while a cell that stays leads to it
//
// Called by the conductor in a stop, when all that roots lead to is marked; but
// for lost_renew.
// Design, alternatives and measurements: docs/design/collect/lost.md

#ifndef COLLECT_LOST_H
#define COLLECT_LOST_H

#include "base/defs.h"
#include "heap/heap.h"
#include "heap/origin.h"
#include "trace/mark.h"

#define LOST_AGE 3

// Memory in which roots are, by the program's word: [start, end).
struct lost_region {
    uintptr_t start, end;
};

// What a report is told, and tells.
struct lost_tally {
    uintptr_t spared_start, spared_end; // who is called from here loses nothing
    const struct lost_region *regions;  // roots beside all others
    size_t region_count;                // of them
    struct origin_sum direct, indirect; // the totals
};

// Adds up what is lost, and marks it.
void lost_report(struct heap *heap, struct marker *marker,
                 struct lost_tally *tally);

// Reads what other libraries have mapped for themselves, and adds that to
// *read_bytes.  Lets what is lost grow older, if all was read, and marks what
// stays of it.  Returns the bytes of those that wait.
size_t lost_age(struct heap *heap, struct marker *marker, size_t *read_bytes);

// A cell is handed out: it is new.  By its owner, any time.
void lost_renew(const struct place *place);

#endif
