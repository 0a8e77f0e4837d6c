// vec — elements in a row, that grow.
//
// The vectors of loam/data.h.  A vector is five public words and one array,
// which is a leaf or scanned; everything is in the order in which the two are
// changed, so that the collector sees all elements at any instant and a refusal
// changes nothing.
//
// Elements of a scanned array beyond the count are zero, lest they keep alive
// what was taken off.
//
// Sorting swaps elements and does nothing else with them, so that whenever the
// comparison is called the array holds each of them once: that is what makes it
// safe for pointers, and for comparisons that do not return.  It is a quicksort
// of medians, which becomes a heapsort where the medians prove bad (Musser
// 1997), and insertion for few.
//
// Invariants
//   VE1  fields   count <= capacity; data is NULL if and only if capacity is 0
//   VE2  whole    a capacity fills its object, up to less than one element
//   VE3  clean    a scanned array is zero beyond its count
//   VE4  refused  when memory is short, or the size absurd, the vector is as
//                 it was
//   VE5  swaps    during a sort the array is a permutation of what it was
//   VE6  bounded  a sort of n elements compares at most some 4 n log2 n times
//
// One thread at a time.
// Design, alternatives and measurements: docs/design/api/vec.md

#ifndef API_VEC_H
#define API_VEC_H

#include "loam/data.h"

// VE1 to VE3; a walk.
bool vec_check(const struct loam_vec *vec);

#endif
