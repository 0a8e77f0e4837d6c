// resize — an object gets more bytes, or fewer.
//
// An object that still fits its cell, and uses half of it or more, stays.  A
// small one that does not is moved: a cell has a neighbour.  A run, which has
// blocks of its own, gives those back that it no longer needs, and takes those
// behind it if they are free; only if they are not is it moved, to where there
// is room behind it to grow by half:
//
//     | run A ..... | B |  free  |         A cannot grow, B can
//     |    free     | B |  free  | A ......... |   room   |
//
// So whoever reads a file of unknown length copies each byte a few times at
// most, whatever else grows beside it.
//
// Invariants
//   RZ1  stays   a run whose kind and layout do not change with its size keeps
//                its address when it shrinks, but for RZ4, and when it grows if
//                what follows is free and may be had without a collection
//   RZ2  pages   then it has the pages that its bytes need, and no more
//   RZ3  kept    O2 and O3 of api/object.h hold wherever the object ends up
//   RZ4  held    in quarantine no block that was part of an object is free
//                before a cycle has found that nothing leads into it
//
// Called by any thread that called in, for an object that it has.
// Design, alternatives and measurements: docs/design/api/resize.md

#ifndef API_RESIZE_H
#define API_RESIZE_H

#include "base/defs.h"
#include "heap/blockmap.h"

// Whether an object may stay where it is when it has `bytes` bytes: it fits,
// and half of the cell or more is used.
static inline bool resize_fits(const struct place *place, size_t bytes) {
    return bytes <= place->bytes &&
           (bytes > place->bytes / 2 || place->bytes <= 2 * GRANULE_BYTES);
}

// The object with `bytes` > 0 bytes, moved if need be; NULL when memory is
// short.
void *resize_object(const struct place *place, size_t bytes);

#endif
