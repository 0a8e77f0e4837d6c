// strset — sets of texts, and maps from them.
//
// The text sets and maps of loam/data.h: an ordered table (api/ordered.h) of
// words that hold 32 bits of a text's hash and the place of its copy; and the
// copies, one behind the other in leaves, each twice as large as the last:
//
//     words    | hash, 32 bits | place, 32 bits |      place in units of 4
//     leaf 0   | length | bytes ... 0 | length | bytes ... 0 |
//     leaf 1   | length | bytes ...                                          |
//
// A place is a number through all leaves; its upper bits say which leaf it is
// in.  No pointer leads to a copy, so that the collector has thirty objects to
// look at however many texts there are; and no leaf is copied to make room:
// there is another one.
//
// Texts with the same 32 bits stand next to each other, the shorter before the
// longer, then in the order of their bytes.  A walk holds the copy that it came
// to last, which is enough to find its place again.  For that reason a leaf of
// copies is never written over: what is removed leaves a hole.  When another
// leaf is wanted and half is holes, all copies move to new leaves instead.  The
// old ones are freed, unless a copy was handed out: then they are the
// collector's.
//
// Invariants
//   SS1  found    a text is found that was put and not removed, with the value
//                 it was last put with, and no other
//   SS2  once     a walk meets a text once that is there all the time, whatever
//                 is changed meanwhile
//   SS3  refused  when memory is short the set or map is as it was
//   SS4  same     sets of the same texts are walked in the same order
//   SS5  stays    a copy that was handed out stays as it is while it is held
//   SS6  holes    where half of what is used is holes, or more, no leaf is made
//                 beside the others before all copies have moved together
//
// One thread at a time.
// Design, alternatives and measurements: docs/design/api/strset.md

#ifndef API_STRSET_H
#define API_STRSET_H

#include "loam/data.h"

#include "api/ordered.h"

#define STRSET_UNIT_BYTES ((size_t)4)

// Leaf k has 2^k times as many units as the first: places up to 2^32 - 17.
#define STRSET_FIRST_LOG2 4u // units
#define STRSET_FIRST      ((size_t)1 << STRSET_FIRST_LOG2)
#define STRSET_LEAVES     28u

// A set or a map: a struct loam_strset or loam_strmap is one of these.
struct strset {
    struct ordered table;
    unsigned char *leaves[STRSET_LEAVES]; // or NULL
    size_t used;  // units of all leaves, holes included: the next place
    size_t holes; // of these: removed, or left at the end of a leaf
    bool is_lent; // a copy in these leaves was handed out
};

#endif
