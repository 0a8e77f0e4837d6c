// mark — from roots to everything alive.
//
// The marker's stack holds raw words.  Looking a word up and reading the object
// it leads to would each wait for memory; so the marker works on batches.  It
// pops up to sixteen words, computes for each the address of its mark bits and
// of its object, and asks for both cache lines; then it turns to the batch
// before, whose lines have arrived meanwhile: tests and sets the mark bits, and
// reads the objects, pushing every word that lies in the heap.
//
//     pop 16 words -> look up, prefetch -> [batch A]   while
//                     test, mark, read  <- [batch B]   then the roles change
//
// Leaf objects are marked and never touched.  Objects of more than a piece
// (2 KiB) are read piece by piece, so that the stack grows by little at a time.
//
// A full stack loses nothing: the block of the object being read is flagged,
// and when the stacks are empty every marked object of flagged blocks is read
// again, a piece at a time with the stacks drained in between.
//
// Invariants
//   K1  closed    after mark_drain every object that a marked object points to
//                 is marked, as its kind and layout say which words count
//   K2  objects   only cells with their allocation bit set are marked
//   K3  once      each object is read once, unless an overflow sends the
//                 marker there again
//   K4  bounded   marking needs no memory but the worklist's
//   K5  progress  every overflow marks an object that was not marked before, so
//                 reading again comes to an end
//   K6  base      an object of KIND_BASE_ONLY is marked only for a word that
//                 points into its first BASE_ONLY_BYTES
//   K7  keyed     after mark_ephemerons the marker is closed under ephemerons
//                 too: mark_drain marks the value of each that is marked and
//                 whose key is
//   K8  together  between mark_together and mark_apart other threads may mark
//                 as well: K1 to K3 hold for all of them as for one
//
// Called by the conductor in a stop, from heap_prepare to heap_flip; mark_help
// by any thread that the conductor lets, until mark_apart.
// After Cher, Hosking and Vijaykumar (2004) and Garner, Blackburn and Frampton
// (2007): edges are enqueued, and prefetched in order of arrival.
// Design, alternatives and measurements: docs/design/trace/mark.md

#ifndef TRACE_MARK_H
#define TRACE_MARK_H

#include "base/defs.h"
#include "heap/blockmap.h"
#include "heap/heap.h"
#include "trace/ephemeron.h"
#include "trace/packets.h"
#include "trace/worklist.h"

struct marker {
    struct worklist list;
    struct ephemerons *ephemerons; // told of each object marked, or NULL
    struct packets *packets;       // shared with other markers, or NULL
    bool helps;                    // it is not the conductor's
    bool overflowed;               // some block has its rescan flag set
    uint64_t overflow_count;       // times a stack was full, for ever
    size_t object_count;           // marked in this cycle
    size_t scanned_bytes;          // read in objects in this cycle
};

// Maps the worklist; false when memory is short.
MUST_USE bool mark_init(struct marker *marker);

// A cycle begins: the counts go to zero.
void mark_begin(struct marker *marker);

// Marks what the words of a root point to, and all that this leads to as far as
// room asks for it.
void mark_range(struct marker *marker, const uintptr_t *start,
                const uintptr_t *end);

// The same for one word; its object is read later.
void mark_word(struct marker *marker, uintptr_t word);

// Reads every pinned object of the heap that may hold pointers: they are roots.
void mark_pinned(struct marker *marker, const struct heap *heap);

// Reads every object of another heap, which is a root of the one being marked.
void mark_heap(struct marker *marker, const struct heap *heap);

// Marks what an object leads to, which is not marked itself; its words that
// lead into it count only if `self`.
void mark_inside(struct marker *marker, const struct place *place, bool self);

// The marker is at its end, but for ephemerons: from here to the end of the
// cycle they count.
void mark_ephemerons(struct marker *marker, struct ephemerons *ephemerons);

// Until nothing is left to be looked at (K1).
void mark_drain(struct marker *marker);

// --- More than one marker --------------------------------------------------

// From here to mark_apart at most `helpers` others may help, by way of the
// packets.  Before mark_ephemerons.
void mark_together(struct marker *marker, struct packets *packets,
                   size_t helpers);

// Helpers are told to go, if there were any.  After mark_drain; what they
// marked stands in range.aside, and block_is_marked says nothing of it.
void mark_apart(struct marker *marker);

// Helps with a marker of its own, which mark_init made, until there has been
// nothing to do for a while, or mark_apart.
void mark_help(struct marker *marker, struct packets *packets);

// Adds what a helper counted to the conductor's counts; it has gone.
void mark_fold(struct marker *marker, struct marker *helper);

#endif
