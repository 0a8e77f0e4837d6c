// roots — every place outside the heap that may hold a pointer into it.
//
// Given a stopped world with all registers in memory, the roots are the stacks
// of all threads (roots/world.h knows from where to where), their thread-local
// variables, the writable segments of the program and its libraries, and what
// the program added, less what it excluded.  Pinned objects are roots too, but
// they are in the heap (trace/mark.h).
//
// Invariants
//   P1  all      every aligned word of every root is visited, once for each
//                way in which it is a root
//   P2  named    words of a stack are visited as ROOT_STACK: there compilers
//                and C's rules put pointers that lie beside their object
//   P3  without  excluded bytes are visited only as ROOT_STACK
//
// Called by the conductor in a stop; allocates nothing.
// Design, alternatives and measurements: docs/design/roots/roots.md

#ifndef ROOTS_ROOTS_H
#define ROOTS_ROOTS_H

#include "base/defs.h"
#include "roots/ranges.h"

enum root_kind { ROOT_STACK, ROOT_STATIC, ROOT_ADDED };

struct roots {
    struct ranges added, excluded;
    struct scanners scanners; // called by collect/, which knows their type
};

// Is given words [start, end), both aligned.
typedef void roots_visit(const uintptr_t *start, const uintptr_t *end,
                         enum root_kind kind, void *data);

// Visits every root but those of the program's scanners.
void roots_each(const struct roots *roots, roots_visit *visit, void *data);

// Visits the words of one range that a scanner pushed.
void roots_visit_pushed(const struct roots *roots, struct extent extent,
                        roots_visit *visit, void *data);

#endif
