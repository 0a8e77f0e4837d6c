// ranges — what the program says about roots.
//
// Four lists that the program writes and a collection reads: ranges to scan
// besides what is found without help, ranges never to scan, and scanners, which
// are functions of the program that push ranges of their own.
//
// Added ranges are kept sorted, apart and merged, so that adding twice is the
// same as adding once and a piece can be removed from the middle.
//
// A child that was forked while another thread changed a list has no such
// thread, but its list.  So a change is prepared beside the list and takes
// effect by one store: of the pointer to the new version, of the count behind
// an extent that was appended, of the link that a scanner hangs on.
//
// Invariants
//   A1  union     the added set is the union of what was added less what was
//                 removed since, byte for byte
//   A2  sorted    ranges of a list are in address order and do not touch
//   A3  never     no excluded byte is ever visited as an added, scanned or
//                 static root
//   A4  shortage  a change for which memory is short changes nothing
//   A5  at once   whoever reads a list while a change of it is stopped for ever
//                 finds it as it was before or as it is to be after
//
// Changed under the lock, outside a cycle; read by the conductor.
// Design, alternatives and measurements: docs/design/roots/ranges.md

#ifndef ROOTS_RANGES_H
#define ROOTS_RANGES_H

#include "base/defs.h"

// Addresses [start, end).
struct extent {
    uintptr_t start, end;
};

// One version of a list; meta memory.
struct extents {
    size_t count, capacity;
    struct extent items[];
};

struct ranges {
    struct extents *now;   // NULL: empty
    struct extents *spare; // of the same capacity, for the next version
};

// A function of the program, and what it is given.
struct scanner {
    void (*function)(void); // of a type that loam.h gives it
    void *data;
};

struct scanner_link {
    struct scanner_link *next;
    struct scanner scanner;
};

struct scanners {
    struct scanner_link *first; // in the order they were added; meta memory
};

static inline size_t ranges_count(const struct ranges *ranges) {
    return ranges->now == NULL ? 0 : ranges->now->count;
}

static inline struct extent ranges_get(const struct ranges *ranges, size_t i) {
    return ranges->now->items[i];
}

// The union with [start, end); false when memory is short.
MUST_USE bool ranges_add(struct ranges *ranges, struct extent extent);

// The difference.  *removed: whether anything of it was in the set.  False
// when memory is short for a remaining half.
MUST_USE bool ranges_remove(struct ranges *ranges, struct extent extent,
                            bool *removed);

// Calls visit for each piece of [start, end) that is not in `holes`.
typedef void ranges_visit(struct extent extent, void *data);
void ranges_each_outside(const struct ranges *holes, struct extent extent,
                         ranges_visit *visit, void *data);

// Adds a scanner once; false when memory is short.
MUST_USE bool ranges_add_scanner(struct scanners *scanners,
                                 struct scanner scanner);

// Removes it; false when it is not there.
bool ranges_remove_scanner(struct scanners *scanners, struct scanner scanner);

#endif
