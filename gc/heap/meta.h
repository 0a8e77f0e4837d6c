// meta — memory for the collector's own structures.
//
// Tables, mutators and registries must not live in the heap they describe, nor
// in malloc'ed memory (we may be malloc).  meta hands out zeroed pieces of
// pages it maps itself.  They are never scanned for roots, so an address of an
// object that stands in them keeps nothing alive.
//
// A piece is rounded up to a power of two; freed pieces wait on a list by size
// for the next request of that size.  Pieces above half of META_MAP_BYTES are
// mappings of their own and go back to the system.
//
// Invariants
//   M1  zero      a piece is zero when it is handed out
//   M2  apart     pieces in use never overlap, and are aligned to 16 bytes
//   M3  shortage  a refused mapping is NULL; pieces in use are untouched
//   M4  account   meta_bytes() is what is mapped, in use or waiting, and what
//                 others have counted
//
// Guarded by the one lock of the process.
// Design, alternatives and measurements: docs/design/heap/meta.md

#ifndef HEAP_META_H
#define HEAP_META_H

#include "base/defs.h"

#define META_MAP_BYTES ((size_t)1 << 16)

// A zeroed piece of at least `bytes` bytes (> 0), or NULL.
MUST_USE void *meta_make(size_t bytes);

// Gives back a piece; `bytes` is what it was asked with.
void meta_free(void *piece, size_t bytes);

// In a forked child: what waits and what is left of the last mapping may have
// been in the middle of a change, and is given up.
void meta_forked(void);

// Counts memory that another module of the collector has mapped for itself.
void meta_count(size_t bytes);

// Bytes mapped by meta now, and counted.
size_t meta_bytes(void);

#endif
