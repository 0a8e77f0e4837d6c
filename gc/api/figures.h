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
// figures_copy: any thread.  figures_fill: with the lock, or at exit.
// Design, alternatives and measurements: docs/design/api/figures.md

#ifndef API_FIGURES_H
#define API_FIGURES_H

#include "loam.h"

#include "api/init.h"
#include "base/defs.h"

// All fields that this library knows.
void figures_fill(const struct init_heap *of, struct loam_stats *stats);

// The first `stats_bytes` bytes of them, and zeros beyond what it knows.
void figures_copy(const struct init_heap *of, struct loam_stats *stats,
                  size_t stats_bytes);

#endif
