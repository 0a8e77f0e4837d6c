// layout — which words of an element may hold pointers.
//
// A layout is a bitmap with one bit for each word of an element; an object of
// that layout is as many elements as fit into its cell.  Layouts are interned:
// the same shape made twice is the same layout, so that a block can say what
// its cells are by one 16-bit id, and two types of one shape share blocks.
//
//     struct node { long n; struct node *left, *right; }    bits 0 1 1
//
// Layouts are never freed.  Small amounts of a layout go to blocks that are
// scanned word by word, which is always sound: a block of 64 KiB for a handful
// of objects would cost more than it saves (LAYOUT_PLAIN_BYTES).
//
// Invariants
//   D1  interned  equal shapes have equal ids, different shapes different ones
//   D2  stable    layout_get(id) answers from the moment the id is known, for
//                 ever, without a lock
//   D3  inside    a bit names a word that lies wholly in the element
//
// Made under the heap lock; read by anyone.
// Design, alternatives and measurements: docs/design/heap/layout.md

#ifndef HEAP_LAYOUT_H
#define HEAP_LAYOUT_H

#include "base/defs.h"

#define LAYOUT_COUNT_MAX   ((size_t)65000)
#define LAYOUT_PLAIN_BYTES (4 * KiB)

struct layout {
    struct layout *next;     // another of the same hash
    size_t element_bytes;    // as the program said
    size_t element_words;    // rounded down: words that lie inside
    size_t pointer_count;    // bits set
    size_t plain_bytes;      // allocated so far in scanned blocks; atomic
    uint32_t id;             // 1 .. LAYOUT_COUNT_MAX
    uint64_t pointer_bits[]; // one bit a word
};

// The layout with a pointer at each of the `count` byte offsets, which are
// words inside `bytes` > 0; NULL when memory or ids are used up.
MUST_USE struct layout *layout_make(size_t bytes, const size_t *offsets,
                                    size_t count);

// The layout of an id.
const struct layout *layout_get(unsigned id);

#endif
