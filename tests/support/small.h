// small — the collector in 300 lines.
//
// A conservative mark-and-sweep collector that is written to be read.  It does
// what Loam does and nothing of how: every object is one piece of malloc'ed
// memory, and one sorted table says where they all are.  To collect, look at
// every word of the stack, the registers, the global variables and the added
// ranges; what such a word points into is alive; look at every word of that in
// turn; free the rest.  That is the whole idea (McCarthy 1960; Boehm and
// Weiser 1988).
//
// It is slow (an allocation moves half the table) and exact in its
// bookkeeping, which makes it the partner of Loam in differential tests: the
// same random program runs on both, and both must keep what the model in
// oracle.h says is reachable.
//
// Invariants
//   M1  sorted   the table is ordered by address and its objects are disjoint
//   M2  whole    usable bytes are the bytes scanned: a pointer in any aligned
//                word of a scanned object keeps its target
//   M3  safe     what the roots lead to is never freed by a collection
//   M4  final    what small_base denies is gone: a free never frees twice
//
// One thread.  The whole contract is that of loam.h, function by function,
// except for threads, hooks and options.

#ifndef SUPPORT_SMALL_H
#define SUPPORT_SMALL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct small_layout;

void *small_alloc(size_t bytes);
void *small_alloc_leaf(size_t bytes);
void *small_alloc_pinned(size_t bytes);
void *small_alloc_leaf_pinned(size_t bytes);
void *small_alloc_base_only(size_t bytes);
void *small_alloc_aligned(size_t alignment, size_t bytes);
void *small_alloc_typed(const struct small_layout *layout, size_t count);
void *small_realloc(void *p, size_t bytes);

// The layout of an element: its pointers stand at these offsets.
const struct small_layout *small_layout(size_t bytes, const size_t *offsets,
                                        size_t count);

// False when p is not the start of an object; then nothing happens.
bool small_free(void *p);
size_t small_usable_size(const void *p);
void *small_base(const void *p);

bool small_roots_add(const void *start, size_t bytes);
bool small_roots_remove(const void *start, size_t bytes);

void small_collect(void);
void small_disable(void);
void small_enable(void);
bool small_set_limit(size_t bytes);

// After the last collection; and collections so far.
size_t small_live_objects(void);
size_t small_collections(void);

#endif
