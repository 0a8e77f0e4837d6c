// heap — blocks and runs, and what is in them, as one thing.
//
// A heap owns a region of the range, the shelves on which its blocks with room
// stand, and the counts.  It does what it is told and decides nothing: whether
// a fresh block may be had, when to collect and what to do when memory is short
// is decided above (collect/).
//
//     heap_take_block   from a shelf, with room in it
//     heap_make_block   fresh from the region
//     heap_make_run     a large object
//     heap_prepare      a cycle begins: freed cells out, marks clear
//     heap_flip         a cycle ends: what is not marked is free
//
// Described blocks have a shelf of their own for each layout and class, found
// in a table, since a block's cells must share one layout.
//
// There may be several heaps in one range; a block's struct names the slot of
// its heap.  What caches hand out and take back they tally for themselves; the
// tallies are added to the heap's sums when a cycle begins.
//
// A cell that a thread frees in another's block waits in the freed table.  The
// first such cell of a block puts the block on the heap's stack of these, which
// is pushed without a lock and emptied under it.
//
// Invariants, between calls and outside a cycle
//   E1  sum       with all tallies added, used_bytes is the bytes of all cells
//                 and runs whose allocation bit is set
//   E2  balance   allocated_bytes == used_bytes + freed_bytes + collected_bytes
//   E3  shelved   after a flip every ownerless block with a free cell is on its
//                 shelf, none is empty, and a full one is on none.  A counted
//                 block that is a mutator's has stayed so: with a free cell it
//                 is in the list `kept`, until the conductor has brought it to
//                 the cache it belongs to
//   E4  released  a block with no cell in use that is not current is given back
//                 by the flip
//   E5  told      outside a cycle, a block whose freed_any is set is on the
//                 stack, in an inbox, watched, of a reserve, or about to be
//                 pushed
//   E6  apart     a cycle of one heap changes no allocation bit of another's
//
// Guarded by the one lock of the process; heap_prepare and heap_flip: the
// conductor, in a stop.  heap_push_freed, heap_get: any thread.
// Design, alternatives and measurements: docs/design/heap/heap.md

#ifndef HEAP_HEAP_H
#define HEAP_HEAP_H

#include "base/check.h"
#include "base/defs.h"
#include "heap/block.h"
#include "heap/blockmap.h"
#include "heap/region.h"
#include "heap/shelf.h"
#include "heap/table.h"

struct heap {
    struct region region;  // of the home heap; others take from that
    struct region *ground; // the region it takes from; constant
    size_t used_blocks;    // of the ground, by this heap
    struct shelf shelves[KIND_COUNT][CLASS_LAST + 1];
    struct table described;   // layout and class → struct shelf
    struct shelf_ends kept;   // E3; called SHELF_MINE
    uint32_t freed_blocks;    // the stack of blocks with freed cells; atomic
    uint16_t slot;            // in the table of heaps; constant
    bool holds;               // B15 of heap/block.h; set under the lock; atomic
    bool seeks;               // B16; set under the lock
    bool reclaims;            // and frees what it found; set under the lock
    void *keeper;             // what the floors above keep of it; constant
    uint64_t allocated_bytes; // in cells and runs, and in tails while they last
    uint64_t freed_bytes;     // by hand
    uint64_t collected_bytes; // by flips
    size_t used_bytes;        // E1
};

// What a flip found.
struct census {
    size_t live_bytes, live_objects;
    size_t dead_bytes, dead_objects;
    size_t held_bytes, held_objects; // freed, and led to still; of the live
    size_t let_go_bytes;             // freed, and led to no more; of the dead
    size_t block_bytes;              // in blocks and runs that hold something
};

// What one call is to get: the words that choose a shelf.
struct order {
    unsigned kind;   // enum kind
    unsigned cls;    // size class
    unsigned layout; // id, for KIND_DESCRIBED; else 0
};

#define HEAP_SLOT_HOME 0 // of the home heap

// Readies a heap and gives it a slot; false when there is none.  `home` is the
// heap on whose ground it stands; NULL for the home heap itself, in slot 0.
MUST_USE bool heap_init(struct heap *heap, struct heap *home);

// Gives the slot back, of a heap that has no block left.
void heap_fini(struct heap *heap);

// The heap in a slot, or NULL.
struct heap *heap_find(size_t slot);

// The heap of a block in use.
struct heap *heap_get(uint32_t block);

// Whether `block` is the head of a span or run in use, of this heap.
bool heap_is_block_of(const struct heap *heap, uint32_t block);

// What the cells of a block were ordered with.
struct order heap_order_of(uint32_t block);

// The shelf for an order; NULL only for a described one that heap_add_described
// has not made.
struct shelf *heap_find_shelf(struct heap *heap, struct order order);

// Makes the shelf for a described order; false when memory is short.
MUST_USE bool heap_add_described(struct heap *heap, struct order order);

// A block with room for the order, taken off its shelf and given to `owner`:
// one of those at least a quarter free, or a tight one.  BLOCK_NONE if none.
uint32_t heap_take_block(struct heap *heap, struct order order, bool tight,
                         uint32_t owner);

// A fresh block for `order`, given to `owner`; BLOCK_NONE when the region has
// none to give.
uint32_t heap_make_block(struct heap *heap, struct order order, uint32_t owner);

// A run for an object of `bytes` bytes, at a multiple of `alignment`: its
// address, in use, or NULL.  *zero: whether it is known to be zero.
struct object *heap_make_run(struct heap *heap, unsigned kind, size_t bytes,
                             size_t alignment, bool *zero);

// The same at any address, with free blocks behind it for it to grow by half,
// unless the region has a limit or not so much to give.
struct object *heap_make_roomy_run(struct heap *heap, unsigned kind,
                                   size_t bytes, bool *zero);

// Gives a run of no counted kind, in use, as many pages as `bytes` bytes need;
// false, and nothing is done, where the blocks behind it are not free.  *zero:
// whether those that were added are known to be zero.
MUST_USE bool heap_resize_run(struct heap *heap, uint32_t block, size_t bytes,
                              bool *zero);

// Makes a block of an order out of one that was taken from the region and is of
// no heap yet; needs no lock.
void heap_use_block(struct heap *heap, uint32_t block, bool zero,
                    struct order order, uint32_t owner);

// The same for a run; the caller counts the bytes returned, of an object that
// was made.
size_t heap_use_run(struct heap *heap, uint32_t block, unsigned kind,
                    size_t bytes);

// Sets the layout of a run of KIND_DESCRIBED before its address is known to
// anybody else.
void heap_describe_run(struct object *object, unsigned layout);

// Frees a run by hand, that is not asked to be freed already (block_is_freed).
void heap_free_run(struct heap *heap, uint32_t block);

// Clears the bits of a cell that is freed by hand.  The block is the caller's,
// or ownerless; the cell is an object, and not asked to be freed already
// (block_is_freed).
static ALWAYS_INLINE void heap_clear_cell(const struct place *place) {
    uint64_t *pair = block_pair(place->block, place->cell / 64);
    uint64_t bit = (uint64_t)1 << (place->cell % 64);
    ASSERT((pair[1] & bit) != 0);
    block_clear_flags(place->block, BLOCK_ZERO); // B10: before the bit
    // The mark goes with the cell, or a new object in it would be born marked.
    pair[0] &= ~bit;
    __atomic_store_n(&pair[1], pair[1] & ~bit, __ATOMIC_RELAXED);
    block_get(place->block)->live--; // B6
}

// Tells the heap that a block has cells that others freed; any thread.
void heap_push_freed(struct heap *heap, uint32_t block);

// Empties the stack: its blocks, linked by next_freed.
uint32_t heap_take_freed(struct heap *heap);

// The heap of a block that was taken from a stack of these; NULL, and the block
// forgets that it was told, if it is free by now: only a wrong program, which
// frees an object in two threads at once, brings that about.
struct heap *heap_find_freed(uint32_t block);

// Frees what was asked for in an ownerless block, and puts it where it belongs
// then.
void heap_drain_block(struct heap *heap, uint32_t block);

// Gives an empty block, that is in no list and no cache, back to the region.
void heap_release_block(struct heap *heap, uint32_t block);

// Puts an ownerless block with room on its shelf.
void heap_shelve(struct heap *heap, uint32_t block);

// A block in no list that is to be nobody's: to its shelf, or back if empty.
void heap_disown(struct heap *heap, uint32_t block);

// The same with every counted block and run, of any heap, of a mutator that has
// given its caches up; others may still have such blocks when they are full.
void heap_disown_counted(uint32_t mutator);

// A block of E3, taken off the list; BLOCK_NONE if none is left.
uint32_t heap_take_kept(struct heap *heap);

// Leaves a counted block, in a stop, to its mutator alone: not to a level of
// its reserve, whose own lists are forgotten.  In no list, and released if it
// is empty; with room, in `kept`.
void heap_keep(struct heap *heap, uint32_t block);

// Forgets which blocks stand on the shelves; their list fields stay.
void heap_clear_shelves(struct heap *heap);

// Drains freed tables and clears all marks (pinned cells: marked) in the blocks
// of the heap, whose tails have been taken out; in those of others every cell
// is marked, so that the marker passes it by (E6).
void heap_prepare(struct heap *heap);

// The flip over every block of the heap; tails are still out.
void heap_flip(struct heap *heap, struct census *census);

// Gives every block and run of the heap back, whatever is in it; in a stop,
// with the caches of the heap given up.
void heap_void(struct heap *heap);

// Calls visit for the head of each span and run in use, of all heaps, in
// address order.
typedef void heap_visit(uint32_t block, void *data);
void heap_each_block(heap_visit *visit, void *data);

// Bytes in blocks and runs that hold objects.
static inline size_t heap_block_bytes(const struct heap *heap) {
    return __atomic_load_n(&heap->used_blocks, __ATOMIC_RELAXED) * BLOCK_BYTES;
}

#endif
