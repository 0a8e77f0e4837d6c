// leak — malloc where what is lost is told, or taken back.
//
// In two modes of libloam_malloc, leakcheck and reclaim, malloc's cells are
// cells of KIND_PINNED in a heap that seeks (heap/block.h, B16): zeroed, read
// by the marker, and no roots.  The short ways of api/served.h find no cell of
// that kind in their caches, fail, and come here; so that the other modes pay
// nothing for these two.
//
//     leakcheck   the last word of a cell says who allocated it; no cycle comes
//                 but by leak_look, and none frees anything
//     reclaim     nothing is written; cycles come as they do for loam_alloc
//
// The caller of malloc is known each time; its whole stack for the first
// LEAK_FIRST calls from a place, and then the more seldom the less is news:
// after a stack that was known the gap to the next one doubles, up to LEAK_GAP;
// and it is never below one in LEAK_SHARE of all calls from there.  Or each
// time where the user asks for it (LOAM_STACKS=all).
//
//     call    1 2 3 4 5 6 7 8 10 14 22 38 ... 4096 apart
//     stack   a a b a c a a b  a  a  b  a
//
// Invariants
//   LK1  ready    a cell is zero, and has its trail or its age, before its
//                 address is known to the program
//   LK2  behind   a trail is no part of what leak_bytes says may be used
//   LK3  known    every object made since the mode began is told with the stack
//                 or the caller that made it, or last resized it
//   LK4  calm     nothing is unwound while something is; a lock of the program
//                 or of the loader is never waited for
//   LK5  spared   what a thread makes or resizes between leak_spare(true) and
//                 (false), and what leak_ignore was given, is never told, nor
//                 what that or a region leads to
//
// Any thread, at any time.
// Design, alternatives and measurements: docs/design/api/leak.md

#ifndef API_LEAK_H
#define API_LEAK_H

#include "base/defs.h"
#include "heap/blockmap.h"
#include "heap/origin.h"

#define LEAK_FIRST ((uint32_t)8)
#define LEAK_GAP   ((uint32_t)4096)
#define LEAK_SHARE ((uint32_t)32)

// Begins one of the modes; false when memory is short.  With the lock.
MUST_USE bool leak_begin(bool reclaims);

// Whether one has begun.
bool leak_is_on(void);

// An object of `bytes` > 0 bytes at a multiple of `alignment`, for `caller`;
// NULL, errno ENOMEM, when memory is short.
void *leak_make(size_t bytes, size_t alignment, const void *caller);

// The object of a cell of KIND_PINNED with `bytes` > 0 bytes, moved if need be;
// NULL when memory is short.
void *leak_resize(const struct place *place, size_t bytes, const void *caller);

// The bytes of such an object that its owner may use.
size_t leak_bytes(const struct place *place);

// Looks for what is lost, and sorts the stacks by it; lost[0] is direct,
// lost[1] indirect.  False where the mode is another, or now is not the time.
bool leak_look(struct origin_sum lost[2]);

// From now on what the calling thread makes is spared, or no longer.  It nests.
void leak_spare(bool spares);

// The object that it points into is spared; nothing if there is none.
void leak_ignore(const void *p);

// Memory to be read as roots are by leak_look, where it can be read; false when
// memory is short.  As often as it is added, it is to be removed.
bool leak_add_region(const void *start, size_t bytes);
void leak_remove_region(const void *start, size_t bytes);

// The stack at that place of the last look, the largest at 0; NULL past the
// last.
const struct origin *leak_get(size_t index);

#endif
