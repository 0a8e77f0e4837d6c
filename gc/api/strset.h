// strset — sets of texts, and maps from them.
//
// The text sets and maps of loam/data.h: an ordered table (api/ordered.h) of
// words that hold 32 bits of a text's hash and the place of its copy, and the
// copies, one behind the other in one leaf:
//
//     words    | hash, 32 bits | place, 32 bits |      place in units of 4
//     copies   | length | bytes ... 0 | length | bytes ...
//
// No pointer leads to a copy, so that the collector has two objects to look at
// however many texts there are.
//
// Texts with the same 32 bits stand next to each other, the shorter before the
// longer, then in the order of their bytes.  A walk holds the copy that it came
// to last, which is enough to find its place again.  For that reason a leaf of
// copies is never written over: what is removed leaves a hole, and when half is
// holes the next leaf is made without them.  The old leaf is freed, unless a
// copy in it was handed out: then it is the collector's.
//
// Invariants
//   SS1  found    a text is found that was put and not removed, with the value
//                 it was last put with, and no other
//   SS2  once     a walk meets a text once that is there all the time, whatever
//                 is changed meanwhile
//   SS3  refused  when memory is short the set or map is as it was
//   SS4  same     sets of the same texts are walked in the same order
//   SS5  stays    a copy that was handed out stays as it is while it is held
//   SS6  holes    a leaf is made anew without holes when half of it is holes or
//                 more
//
// One thread at a time.
// Design, alternatives and measurements: docs/design/api/strset.md

#ifndef API_STRSET_H
#define API_STRSET_H

#include "loam/data.h"

#include "api/ordered.h"

#define STRSET_UNIT_BYTES ((size_t)4)

// A set or a map: a struct loam_strset or loam_strmap is one of these.
struct strset {
    struct ordered table;
    unsigned char *texts;  // copies; a leaf, or NULL
    size_t used, capacity; // of it, in units
    size_t holes;          // units of what was removed
    bool is_lent;          // a copy in this leaf was handed out
};

#endif
