// shelf — blocks of one class and kind that have room, by how much.
//
// A shelf is four lists. The flip rebuilds them in address order, so that a
// mutator that asks for a block gets the emptiest kind of block, and of these
// the lowest: long holes make fast allocation, and low addresses let the chunks
// above fall empty. Blocks with less than a quarter free are tight: they are
// taken only when the heap may not grow, since a hole there costs as many cache
// misses as a longer one elsewhere.
//
//     SHELF_EMPTIEST   at least 3/4 of the cells are free
//     SHELF_HALF       at least 1/2
//     SHELF_QUARTER    at least 1/4
//     SHELF_TIGHT      some
//
// Invariants
//   L1  once    a block is in at most one list, and its field `list` says which
//   L2  linked  next and prev of neighbours agree; head and tail have no
//               neighbour beyond
//   L3  room    shelf_put is asked for blocks with a free cell only
//
// Guarded by the heap lock (a mutator's own list: by the mutator).
// Design, alternatives and measurements: docs/design/heap/shelf.md

#ifndef HEAP_SHELF_H
#define HEAP_SHELF_H

#include "base/defs.h"
#include "heap/block.h"

enum shelf_list {
    SHELF_NONE,
    SHELF_EMPTIEST,
    SHELF_HALF,
    SHELF_QUARTER,
    SHELF_TIGHT,
    SHELF_LISTS, // the number of them; a mutator's own list has this name
    SHELF_MINE = SHELF_LISTS
};

// A doubly linked list of blocks, by number.
struct shelf_ends {
    uint32_t head, tail; // BLOCK_NONE if empty
};

struct shelf {
    struct shelf_ends lists[SHELF_LISTS]; // [SHELF_NONE] is not used
};

// Appends `block` to the list of `ends` that is called `list`.
void shelf_append(struct shelf_ends *ends, uint32_t block, unsigned list);

// Takes `block` out of the list it is in.
void shelf_remove(struct shelf_ends *ends, uint32_t block);

// The list for a block with `live` of `cells` cells in use.
static inline unsigned shelf_list_for(size_t live, size_t cells) {
    size_t quarters = (cells - live) * 4 / cells;
    return SHELF_TIGHT - (unsigned)(quarters > 3 ? 3 : quarters);
}

// Puts a block into the list that its live cells call for.
void shelf_put(struct shelf *shelf, uint32_t block);

// Takes a block out of whichever list it is in, if it is in one.
void shelf_withdraw(struct shelf *shelf, uint32_t block);

// The first block of the fullest-of-room list up to `last`, taken out; or
// BLOCK_NONE.
uint32_t shelf_take(struct shelf *shelf, unsigned first, unsigned last);

// L1, L2 for every list; for VERIFY.
bool shelf_check(const struct shelf *shelf);

#endif
