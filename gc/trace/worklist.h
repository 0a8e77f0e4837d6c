// worklist — what is still to be looked at.
//
// Two stacks that are mapped before a collection begins, so that it never asks
// for memory.  The first holds words that may be pointers and have not been
// looked up; the second holds pieces of large objects that have been marked but
// not read to their end.  The first grows with the heap, a word for every
// 4 KiB, which few graphs overflow.
//
//     words  [w0 w1 w2 ... ]           pieces  [{from, end, layout} ...]
//
// Both are bounded. Who finds one full does not push but sets the rescan flag
// of the block of the object it was reading; the marker reads such blocks again
// when the stacks are empty (trace/mark.h).
//
// Invariants
//   W1  bounded  word_count <= word_capacity, piece_count <= piece_capacity
//   W2  inside   every word pushed was below the frontier
//
// Used by one marker; between cycles both stacks are empty.
// Design, alternatives and measurements: docs/design/trace/worklist.md

#ifndef TRACE_WORKLIST_H
#define TRACE_WORKLIST_H

#include "base/check.h"
#include "base/defs.h"
#include "trace/piece.h"

struct worklist {
    uintptr_t *words;      // the stack of words; marker
    size_t word_count;     // words on it
    size_t word_capacity;  // grows between cycles
    size_t word_reserved;  // bytes of address space it may grow into; never
                           // more again
    struct piece *pieces;  // the stack of pieces; marker
    size_t piece_count;    // pieces on it
    size_t piece_capacity; // constant
};

// Maps the stacks; false when memory is short.
MUST_USE bool worklist_init(struct worklist *list);

// Gives the stack of words its share of a heap of `heap_bytes`, in at most
// `spare_bytes` more and as far as the system allows.  Between cycles.
void worklist_grow(struct worklist *list, size_t heap_bytes,
                   size_t spare_bytes);

// Address space is short: gives back what is reserved beyond `most_bytes` and
// beyond what the stack of words has.  Between cycles.
void worklist_fit(struct worklist *list, size_t most_bytes);

// Whether `count` more words fit.
static inline bool worklist_has_room(const struct worklist *list,
                                     size_t count) {
    return list->word_capacity - list->word_count >= count;
}

// Pushes a piece; false if the stack is full.
static inline bool worklist_push_piece(struct worklist *list,
                                       struct piece piece) {
    if (list->piece_count == list->piece_capacity) {
        return false;
    }
    list->pieces[list->piece_count++] = piece;
    return true;
}

static inline struct piece worklist_pop_piece(struct worklist *list) {
    ASSERT(list->piece_count > 0);
    return list->pieces[--list->piece_count];
}

static inline bool worklist_is_empty(const struct worklist *list) {
    return list->word_count == 0 && list->piece_count == 0;
}

#endif
