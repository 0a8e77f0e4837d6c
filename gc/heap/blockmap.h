// blockmap — from any word to the cell it points into.
//
// The conservative question has two halves.  This is the first: where would an
// object be, if the word pointed into one?  It is arithmetic on one entry of a
// flat table and one row of the class table, the same few nanoseconds for any
// heap size: there is no tree, no hash, no search.
//
//     word - base = block number, offset        one subtraction, one shift
//     entry       = class, kind, index in span  one 16-bit load
//     cell        = offset * reciprocal >> 40   one multiplication
//
// Of a shifted block the offset counts from its first cell.  The second half,
// whether that cell is an object, is its allocation bit.
//
// Invariants, for every word of the address space
//   F1  inside   blockmap_find is true exactly when the word lies in
//                [start, start + bytes) of a cell of a block in use, or of the
//                object of a run
//   F2  where    place.block is the head of its span or run, place.cell the
//                cell's index, place.start its address
//   F3  total    no word makes it read memory outside the tables
//
// Reads entries and structs of blocks: correct for any thread while the block
// cannot be given back under it, and for the conductor in a stop.
// Design, alternatives and measurements: docs/design/heap/blockmap.md

#ifndef HEAP_BLOCKMAP_H
#define HEAP_BLOCKMAP_H

#include "base/defs.h"
#include "heap/block.h"
#include "heap/range.h"
#include "heap/sizeclass.h"

// A cell that a word points into.  The object that the program sees there
// begins behind what a counted kind has in front.
struct place {
    uintptr_t start; // address of the cell
    size_t bytes;    // of the cell
    uint32_t block;  // head of its span or run
    uint32_t cell;   // index
    unsigned kind;   // enum kind
};

// The start of the program's object in a cell.
static inline uintptr_t blockmap_start(const struct place *place) {
    return place->start + block_kind_front(place->kind);
}

// The run of large object that `word` points into; see blockmap_find.
bool blockmap_find_run(uintptr_t word, uint32_t block, struct place *place);

static inline bool blockmap_find(uintptr_t word, struct place *place) {
    if (!range_has(word)) {
        return false;
    }
    uintptr_t offset = word - range.base;
    uint32_t block = (uint32_t)(offset >> BLOCK_SHIFT);
    unsigned entry = range.entries[block];
    unsigned cls = ENTRY_CLASS(entry);
    if (cls >= CLASS_RUN_HEAD) {
        return blockmap_find_run(word, block, place);
    }
    const struct sizeclass *sizeclass = &sizeclass_table[cls];
    unsigned index = ENTRY_INDEX(entry);
    // Before the first cell of a shifted block this is less than nothing, and
    // the number of the cell larger than any.
    size_t shift = ENTRY_SHIFT(entry);
    uint64_t inside =
        (offset & (BLOCK_BYTES - 1)) + index * BLOCK_BYTES - shift;
    uint64_t cell = inside * sizeclass->reciprocal >> 40;
    place->block = block - index;
    place->cell = (uint32_t)cell;
    place->bytes = sizeclass->bytes;
    place->start =
        range_block_address(place->block) + shift + cell * place->bytes;
    place->kind = ENTRY_KIND(entry);
    return cell < sizeclass->cells;
}

// The same, and whether the cell's allocation bit is set: the one function in
// which a word becomes an object.  NULL if it is none.
static inline struct object *blockmap_object(uintptr_t word,
                                             struct place *place) {
    if (!blockmap_find(word, place) ||
        !block_is_allocated(place->block, place->cell)) {
        return NULL;
    }
    return (struct object *)place->start;
}

#endif
