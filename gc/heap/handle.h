// handle — a reference that keeps nothing alive.
//
// A handle is a cell of KIND_HANDLE: sixteen bytes that hold the address of its
// target and the place of the target's bits.  The marker marks handles like any
// object and never reads them.  When everything alive is marked, a walk over
// the blocks of this kind clears the handles whose target is not: the blocks
// are the registry, there is no other list.
//
//     | target word, 8 bytes | block, 4 | cell, 2 | flags, 2 |
//
// A larger object of this kind is a row of handles, as many as fit, all zero at
// first: a table of weak references in one piece.
//
// Reading a handle takes no lock.  It is cleared only while the world is
// stopped: a thread that has loaded the target has it in a register, which is a
// root; one that has not will load 0.
//
// A cell freed by hand keeps its place until the next cycle if its block is
// watched (B13 of heap/block.h), so that the reader can tell.
//
// Invariants
//   N1  cleared  after handle_clear no handle of that sort leads to an object
//                that is not marked
//   N2  kept     a handle whose target is marked is not changed
//   N3  freed    handle_get is 0 from the moment the target is freed by hand
//   N4  watched  the block of a target, watched once the handle was set, stays
//                so until a clearing that finds no handle to it
//   N6  counted  handle_get is 0 from the moment a counted target begins to
//                die, or a cycle condemned it; that of a short one, from when
//                its finalizer is due
//   N5  instant  a stop at any instruction of handle_set meets a handle that
//                is empty or whole
//   N7  rows     all handles of a row are treated like single ones
//
// handle_get and handle_set: the program's threads, a handle being set by one
// at a time; the rest: the conductor in a stop.
// Design, alternatives and measurements: docs/design/heap/handle.md

#ifndef HEAP_HANDLE_H
#define HEAP_HANDLE_H

#include "base/defs.h"
#include "heap/block.h"
#include "heap/blockmap.h"

enum handle_sort {
    HANDLE_SHORT, // cleared when nothing but a finalizer's graph leads there
    HANDLE_LONG,  // cleared when the memory goes
    HANDLE_SORTS
};

// Beside the sort: the target is a counted object, whose head says whether it
// is dead; and its finalizer had run when the reference was made.
#define HANDLE_SORT_MASK 15u
#define HANDLE_COUNTED   16u
#define HANDLE_DONE      32u

struct handle {
    uintptr_t target; // a word inside the object, or 0; atomic
    uint32_t block;   // head of the object's span or run
    uint16_t cell;    // index there
    uint16_t sort;    // enum handle_sort, and HANDLE_*; constant between sets
};

// Whether a counted target is gone, or to a short reference as good as gone.
bool handle_is_counted_out(const struct handle *handle);

// The target, or 0 when it was cleared or freed.  It is asked last: a stop
// after the first question takes the bit in freed away, and clears the handle.
static inline uintptr_t handle_get(const struct handle *handle) {
    bool is_freed = block_is_freed(handle->block, handle->cell);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    uintptr_t target = __atomic_load_n(&handle->target, __ATOMIC_ACQUIRE);
    if (UNLIKELY(target != 0 && (handle->sort & HANDLE_COUNTED) != 0) &&
        handle_is_counted_out(handle)) {
        return 0; // N6
    }
    return UNLIKELY(is_freed) ? 0 : target; // N3
}

// Lets a handle, that is zero or was set before, lead to `target`, a word
// inside the object at `place`.  When that is done the caller sees to it that
// the block is watched: not before, or a cycle in between would find nobody who
// watches; and under the heap lock, or a drain that found it unwatched would
// take along what is freed from now on.
void handle_set(struct handle *handle, uintptr_t target,
                const struct place *place);

// Lets it lead nowhere.
static inline void handle_drop(struct handle *handle) {
    __atomic_store_n(&handle->target, 0, __ATOMIC_RELAXED);
}

// Clears the handles of a sort whose target is not marked, and watches the
// blocks of the other targets; returns how many were cleared.
size_t handle_clear(enum handle_sort sort);

// Clears the handles whose target `is_gone` names: a heap is being dropped.
typedef bool handle_is_gone(uint32_t block, void *data);
size_t handle_clear_gone(handle_is_gone *is_gone, void *data);

#endif
