// served — malloc's family, as far as the heap is concerned.
//
// What malloc hands out is a pinned leaf of the default heap: the marker does
// not read it, and it begins no collection for want of memory.  Freed, it is
// free at once, or held first (api/hold.h), as LOAM_MODE says.  A program
// without an object of loam.h is never stopped for one.
//
// malloc is called before anything is built, while it is being built, and when
// its thread has ended: so building asks the C library for nothing that would
// ask malloc, and a thread that has ended frees into the freed table, and is
// no mutator again.  Nobody would take its caches back.
//
// Invariants
//   SV1  leaf      a cell that is served is a pinned leaf: no collection frees
//                  it, and none is begun for want of one; but where leaks are
//                  looked for (api/leak.h)
//   SV2  exact     what is freed or resized is the start of an object that is
//                  in use, and not counted: else nothing is done
//   SV3  errno     served_free leaves errno as it was
//   SV4  late      a thread that has ended is not attached again by a free
//   SV5  returned  where much of what is committed is free, and stays so, it is
//                  given back to the system while objects come and go
//   SV6  held      in quarantine (api/hold.h) a cell that was freed, resized
//                  away or moved is handed out again only after a cycle that
//                  found no word leading to it
//
// Any thread, at any time; in a handler of signals like loam_alloc.
// Design, alternatives and measurements: docs/design/api/served.md

#ifndef API_SERVED_H
#define API_SERVED_H

#include "base/defs.h"

// `caller` is who asks, where that is recorded.
// `bytes` may be 0, which is 1, or absurd; NULL, errno ENOMEM, when memory is
// short.
void *served_make(size_t bytes, const void *caller);

// The same, all zero.
void *served_make_zero(size_t bytes, const void *caller);

// The same as the first, at a multiple of `alignment`, a power of two.
void *served_make_aligned(size_t alignment, size_t bytes, const void *caller);

// What is at p, with `bytes` bytes, moved if need be; *known tells whether
// anything is there.
void *served_resize(void *p, size_t bytes, const void *caller, bool *known);

// False where p is not the start of an object in use.
MUST_USE bool served_free(void *p);

// The second way of a free, where object_free_leaf says no: a small cell, in a
// block of this thread that is not so plain, or of another's.  False, and
// nothing is done, if more has to be looked at; errno stays (SV2, SV3).
MUST_USE bool served_free_near(const void *p);

// The bytes at p that its owner may use; 0 if no object begins there.
size_t served_bytes(const void *p);

// Gives memory that is free back to the system; false if there was none.
bool served_trim(void);

#endif
