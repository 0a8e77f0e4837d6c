// piece — words that are to be read, and which of them count.
//
// What the marker reads is a stretch of words: a root, an object, or what is
// left of a large one.  In most of them any word may be a pointer; in others
// only those that a layout names, and there a piece knows, too, at which word
// of an element it begins.
//
//     layout 0        [w w w w w w w w w]      all count
//     a layout        [w . w . | w . w . | w   those of its elements
//                              ^ phase 0
//
// Reading is the innermost loop of a collection after the look at the mark: the
// words that lead into the range are written to a stack, and no branch depends
// on what they are.
//
// Invariants
//   PI1  below   what is pushed lies below the frontier
//   PI2  layout  of a described piece the words are pushed that its layout
//                names, wherever it was cut
//   PI3  room    no more than one word above those pushed is written to
//
// Pure, but that the words may be written to by a program meanwhile.
// Design, alternatives and measurements: docs/design/trace/piece.md

#ifndef TRACE_PIECE_H
#define TRACE_PIECE_H

#include "base/defs.h"
#include "heap/block.h"
#include "heap/layout.h"
#include "heap/range.h"

enum { PIECE_WORDS = LOAM_TINY ? 4 : 256 }; // that are read in one go

struct piece {
    const uintptr_t *from, *end; // words still to be read
    uint32_t layout;             // id if described, else 0
    uint32_t phase;              // of a layout: word of the element at `from`
};

// Pushes the words of [words, words + count) that lie below the frontier at
// `top`, where there is room for all, and returns the new top.  No branch
// depends on what is read.
static inline NO_SANITIZE uintptr_t *
piece_push_words(uintptr_t *top, const uintptr_t *words, size_t count) {
    uintptr_t base = range.base;
    size_t frontier = range.frontier_bytes;
    const uintptr_t *end = words + count;
    // Two at a time: a cell has an even number of words, only a root may not.
    if (count % 2 != 0) {
        uintptr_t word = *words++;
        *top = word;
        top += word - base < frontier;
    }
    for (; words < end; words += 2) {
        uintptr_t first = words[0];
        uintptr_t second = words[1];
        *top = first;
        top += first - base < frontier;
        *top = second;
        top += second - base < frontier;
    }
    return top;
}

// The same for roots and large arrays, where most words are no pointers: four
// are turned away together.
static inline NO_SANITIZE uintptr_t *
piece_push_sparse(uintptr_t *top, const uintptr_t *words, size_t count) {
    uintptr_t base = range.base;
    size_t frontier = range.frontier_bytes;
    const uintptr_t *end = words + count;
    for (; end - words >= 4; words += 4) {
        bool any = (words[0] - base < frontier) | (words[1] - base < frontier) |
                   (words[2] - base < frontier) | (words[3] - base < frontier);
        if (UNLIKELY(any)) {
            top = piece_push_words(top, words, 4);
        }
    }
    return piece_push_words(top, words, (size_t)(end - words));
}

// The same for the words that a layout names, beginning with word *phase of an
// element; *phase becomes that of the word behind them.
static inline NO_SANITIZE uintptr_t *
piece_push_described(uintptr_t *top, const struct layout *layout,
                     const uintptr_t *words, size_t count, uint32_t *phase) {
    for (size_t i = 0; i < count; i++) {
        uint64_t bits = layout->pointer_bits[*phase / 64];
        *top = words[i];
        top += ((bits >> (*phase % 64)) & 1) & range_has(words[i]);
        *phase = *phase + 1 == layout->element_words ? 0 : *phase + 1;
    }
    return top;
}

// The words of an object, as its block says; none if it is not read.
static inline struct piece piece_of(uint32_t block, uint32_t cell) {
    const uintptr_t *from = (const uintptr_t *)block_cell_address(block, cell);
    struct piece piece = {from, from + block_cell_bytes(block) / WORD_BYTES, 0,
                          0};
    unsigned kind = ENTRY_KIND(block_entry(block));
    if (!block_kind_is_read(kind)) {
        piece.end = from;
    } else if (kind == KIND_DESCRIBED) {
        piece.layout = block_get(block)->layout;
        if (layout_get(piece.layout)->pointer_count == 0) {
            piece.end = from;
        }
    }
    return piece;
}

// Takes all but the first `count` words off a piece, and returns them (PI2).
static inline struct piece piece_cut(struct piece *piece, size_t count) {
    struct piece rest = *piece;
    rest.from = piece->end = piece->from + count;
    if (rest.layout != 0) {
        size_t words = layout_get(rest.layout)->element_words;
        rest.phase = (uint32_t)((rest.phase + count) % words);
    }
    return rest;
}

#endif
