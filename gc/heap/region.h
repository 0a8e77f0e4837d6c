// region — blocks in and out.
//
// A region is a stretch of the range that belongs to one heap.  It answers one
// question, "so many free blocks in a row, please", from a bitmap with one bit
// a block, first fit from the lowest address, so that what lives gathers at the
// low end and whole chunks fall empty at the high one.
//
//     | chunk 0: 32 blocks | chunk 1 | ... | frontier ... reserved |
//       taken 1110111...     dropped
//
// A chunk of 2 MiB that has been free for two cycles is dropped: its pages go
// back to the system, and it counts as not committed until it is taken again.
// Smaller pieces are never returned: they would break huge pages apart.
//
// Invariants
//   N1  taken     taken bits of the region below the frontier are 1 exactly for
//                 blocks handed out; block 0 of the range is always taken
//   N2  apart     region_take never returns blocks that are taken already
//   N3  clean     a block whose dirty bit is clear is all zero; *zero is true
//                 only if all blocks returned are
//   N4  count     used_blocks is the number handed out; committed_bytes is the
//                 bytes below the frontier, less dropped chunks
//   N5  limit     committed_bytes, the range's tables and meta memory together
//                 are not grown past limit_bytes (0: no limit)
//   N6  refusal   a refusal changes nothing
//
// Guarded by the heap lock of its heap.
// Design, alternatives and measurements: docs/design/heap/region.md

#ifndef HEAP_REGION_H
#define HEAP_REGION_H

#include "base/defs.h"

struct region {
    uint32_t low;           // no free block lies below; heap lock
    size_t used_blocks;     // handed out
    size_t committed_bytes; // see N4
    size_t committed_bytes_max;
    size_t limit_bytes; // see N5; 0: none
    size_t keep_bytes;  // region_trim leaves so much committed; conductor
};

// The whole range as one region, nothing committed.
void region_init(struct region *region);

// `count` >= 1 free blocks in a row whose address is a multiple of `alignment`
// blocks (a power of two); BLOCK_NONE if there are none and the region may not
// or cannot grow.  *zero: whether their memory is known to be zero.
MUST_USE uint32_t region_take(struct region *region, size_t count,
                              size_t alignment, bool *zero);

// `count` >= 1 blocks, with free ones behind them that are half as many and may
// be taken by anybody; BLOCK_NONE if there are none, or the region has a limit.
MUST_USE uint32_t region_take_roomy(struct region *region, size_t count,
                                    bool *zero);

// Exactly these blocks, of which the one before is taken; false if one of them
// is, too, or they cannot be committed.
MUST_USE bool region_take_at(struct region *region, uint32_t block,
                             size_t count, bool *zero);

// Gives blocks back; their entries are free already.
void region_give(struct region *region, uint32_t block, size_t count);

// What may still be committed under the limit; SIZE_MAX if there is none.
size_t region_spare_bytes(const struct region *region);

// Called once a cycle: drops chunks that were free at the last call too, from
// the highest down to keep_bytes, which the program is about to use anyway; all
// free ones if `now`.  Returns the bytes dropped.
size_t region_trim(struct region *region, bool now);

// N1, N4; for VERIFY.
bool region_check(const struct region *region);

#endif
