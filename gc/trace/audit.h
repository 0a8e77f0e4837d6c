// audit — a second marker, to check the first.
//
// It does the same as trace/mark.h in the plainest way: one word at a time from
// a stack that grows, division instead of a reciprocal, a bitmap of its own for
// what it has seen.  After the first marker is done the audit walks from the
// same roots and counts the objects that it reached and the first did not.
// LOAM_CHECK=mark turns it on.  Go calls the idea checkmark.
//
// Invariants
//   Q1  apart     what it reaches does not depend on mark bits, and it writes
//                 none
//   Q2  missed    audit_compare counts exactly the objects that it reached and
//                 that are not marked
//   Q3  shortage  when memory for it is short it says so (audit_begin, or
//                 complete is false) and finds nothing; the cycle goes on
//   Q4  keyed     audit_ephemerons reaches the value of each ephemeron that it
//                 reached and whose key it reached, and of no other
//   Q5  first     `first` is the first object that it reached unmarked, and the
//                 word that led there: who holds that word was marked, or is a
//                 root
//   Q6  frames    a word that stands in [frames_start, frames_start +
//                 frames_bytes) leads nowhere: there the cycle has its own
//                 frames, which change between two walks.  Nor does a word for
//                 which is_dead says so lead to an object that is not marked:
//                 there others have frames that they made in the stop
//   Q7  zombies   it does not go on from a counted object that was destroyed
//                 and waits for a buffer that names it (heap/counted.h)
//
// Called by the conductor in a stop.
// Design, alternatives and measurements: docs/design/trace/audit.md

#ifndef TRACE_AUDIT_H
#define TRACE_AUDIT_H

#include "base/defs.h"

struct heap;

struct audit_pending;

// A word to look at, and where it stood; NULL: it was not read from memory.
struct audit_word {
    uintptr_t word;
    const uintptr_t *at;
};

// Whether what stands at `at` may have been written in this stop (Q6).
typedef bool audit_dead(const void *at);

struct audit {
    const struct heap *heap;  // whose objects are walked; others end the walk
    audit_dead *is_dead;      // NULL: of no place
    uint64_t *seen;           // one bit a cell, 64 words a block
    uintptr_t frames_start;   // set by the caller after audit_begin
    size_t frames_bytes;      // 0: none
    size_t seen_bytes;        // of that
    struct audit_word *stack; // to be looked at
    struct audit_word first;  // that led to an unmarked object; word 0: none
    size_t count, capacity;   // words
    bool complete;            // no shortage so far
    size_t object_count;      // reached
    struct audit_pending *pending; // ephemerons whose key was not reached yet
    size_t pending_count;          // of them, keys reached meanwhile included
    size_t pending_capacity;       // 0: ephemerons do not count yet
};

// Maps what the audit needs; false when memory is short.
MUST_USE bool audit_begin(struct audit *audit, const struct heap *heap,
                          audit_dead *is_dead);

// Walks from one root word, which stands at `at` (NULL: nowhere), or from all
// words of a range.
void audit_word(struct audit *audit, uintptr_t word, const uintptr_t *at);
void audit_range(struct audit *audit, const uintptr_t *start,
                 const uintptr_t *end);

// Walks from every pinned object that is scanned.
void audit_pinned(struct audit *audit);

// Walks from every object of another heap, which is a root of this one.
void audit_heap(struct audit *audit, const struct heap *heap);

// All other roots were walked from: on from values of ephemerons.
void audit_ephemerons(struct audit *audit);

// The objects reached but not marked; the address of one of them in *example.
size_t audit_compare(const struct audit *audit, uintptr_t *example);

// Gives its memory back.
void audit_end(struct audit *audit);

#endif
