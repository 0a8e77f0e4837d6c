// foreign — what stands in memory that neither Loam nor the program's data is.
//
// A pointer may be kept where no collector looks for roots: in memory that the
// program, a library or another language's runtime has mapped for itself.  Who
// wants to know whether any word of the process points to an object reads that
// too.  All of it would be far too much: a runtime reserves a terabyte and uses
// a megabyte.  But the kernel tells which pages are there.
//
//     /proc/self/maps   private, readable mappings; those of files only if
//                       they are writable, too
//        less           what Loam has reserved itself      os/holding.h
//        less           the holes that the caller names
//        of these       the pages that are in memory or in swap, and were
//                       written by this process; of a file, then, its copies
//
// Nothing is read in place.  Each piece is copied by the kernel (os/mapping.h)
// into a buffer of ours, and that is what the visitor sees.  So a mapping may
// go away meanwhile, its file be cut short, its pages be guards, poisoned, or
// shut to this thread by a protection key, and nothing happens but that they
// are not visited.  What the visitor is given is *values*: they do not stand at
// the addresses where it finds them, and are gone when it returns.
//
// Which pages are there is asked of the kernel in the best way it has:
//
//     PAGEMAP_SCAN    Linux 6.7   a call a mapping; costs what is there
//     pagemap, read   before      8 bytes a page, be it there or not: 1 ms for
//                     a GiB of nothing; so of a mapping what the holes leave is
//                     left out if it is above FOREIGN_BLIND_MOST
//     mincore         where pagemap may not be opened (a process that is not
//                     dumpable and not root's): the same limit; what is in swap
//                     is missed; and files count in full up to
//                     FOREIGN_FILE_MOST, not at all above
//
// Invariants
//   FN1  all      every aligned word of every such page is visited once, if it
//                 is there from before the call until after and does not
//                 change; but for what is above those limits
//   FN2  without  no word of Loam's own reservations (as far as they are
//                 listed), of a hole, or of shared memory is visited
//   FN3  absent   a page that is not there does not come to be there, unless
//                 mincore alone tells
//   FN4  calm     no mapping, file or page that goes away during the walk makes
//                 it fail
//   FN5  errno    errno is as the caller left it; no call here allocates or
//                 locks, and nothing that was read stays behind
//
// One walk at a time: the conductor's, in a stop or not.
// Design, alternatives and measurements: docs/design/os/foreign.md

#ifndef OS_FOREIGN_H
#define OS_FOREIGN_H

#include "base/defs.h"

#define FOREIGN_BLIND_MOST (64 * GiB)
#define FOREIGN_FILE_MOST  (16 * MiB)

// Addresses [start, end) that are not to be visited.
struct foreign_hole {
    uintptr_t start, end;
};

// Is given copies of words, [start, end).
typedef void foreign_visit(const uintptr_t *start, const uintptr_t *end,
                           void *data);

// Visits what there is, less `count` holes in the order of their starts.
// False when the system does not tell (no /proc, no descriptor left): then
// something may have been missed.
bool foreign_each(const struct foreign_hole *holes, size_t count,
                  foreign_visit *visit, void *data);

#endif
