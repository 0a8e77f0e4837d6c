// intset — sets of integers, and maps from them.
//
// The integer sets and maps of loam/data.h: an ordered table (api/ordered.h) of
// hashes.  A hash of an integer can be turned back (base/hash.h), so that the
// table needs no keys beside it.  The one key whose hash means an empty slot
// there is kept apart.
//
// A walk is a number, the least hash that it has not come to; its place is
// found anew in each step, in whatever table there is by then.
//
// Invariants
//   IS1  found    a key is found that was put and not removed, with the value
//                 it was last put with, and no other
//   IS2  once     a walk meets a key once that is there all the time, whatever
//                 is changed meanwhile
//   IS3  refused  when memory is short the set or map is as it was
//   IS4  same     sets of the same keys are walked in the same order
//   IS5  apart    the key whose hash is ORDERED_NONE is like any other
//
// One thread at a time.
// Design, alternatives and measurements: docs/design/api/intset.md

#ifndef API_INTSET_H
#define API_INTSET_H

#include "loam/data.h"

#include "api/ordered.h"

// A set or a map: a struct loam_intset or loam_intmap is one of these.
struct intset {
    struct ordered table;
    void *value;  // of the key kept apart, in a map
    bool is_kept; // that key is there
};

#endif
