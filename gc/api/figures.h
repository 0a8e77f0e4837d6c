// figures — what loam_stats tells, of any heap.
//
// Caches tally what they hand out by themselves, so that allocation touches no
// shared word; whoever asks adds the tallies up.  Other threads go on
// allocating meanwhile: each figure is of some instant during the call, and no
// difference of two is shown below zero.
//
// Invariants
//   S1  sum    with no other thread at work the figures obey E2 of heap/heap.h
//   S2  never  no figure is negative, and the monotone ones never fall
//
// Called by any thread, without the lock.
// Design, alternatives and measurements: docs/design/api/figures.md

#ifndef API_FIGURES_H
#define API_FIGURES_H

#include "loam.h"

#include "api/init.h"
#include "base/defs.h"

// The first `stats_bytes` bytes of what this library knows, and zeros beyond.
void figures_copy(const struct init_heap *of, struct loam_stats *stats,
                  size_t stats_bytes);

#endif
