// holding — the address space that Loam itself has taken.
//
// What reads the memory of the whole process must know which of it is Loam's
// own: its heap, its tables, its stacks.  Whoever reserves address space writes
// it down here, and strikes it out before giving it back.
//
//     [ heap ......................... ]   [ tables ][ meta ]   [ stack ]
//     a list of extents, sorted; what touches is one
//
// There are two lists, of which one counts.  A change is prepared in the other,
// and then one store says that it is that one which counts.  So a reader never
// waits, though the thread that changes the list is stopped for ever.
//
// The list has room for HOLDING_MOST extents.  What does not fit is not listed:
// Loam's own memory then counts as somebody else's, which costs time and keeps
// what it seems to point to, but never loses anything.
//
// Invariants:
//   H1  sorted   extents are in ascending order and do not touch
//   H2  union    what is listed is what was added less what was removed since,
//                but for what did not fit: and nothing that was not added
//   H3  at once  a reader gets the list as it was before a change or as it is
//                after, and does not wait for a thread that does not run
//   H4  hidden   the list holds no word that is an address in what it lists
//
// holding_add, holding_remove: any thread, a lock of their own.  holding_read:
// any thread; async-signal-safe; in a stop.
// Design, alternatives and measurements: docs/design/os/holding.md

#ifndef OS_HOLDING_H
#define OS_HOLDING_H

#include "base/defs.h"

#define HOLDING_MOST ((size_t)(LOAM_TINY ? 16 : 256))

// Addresses [start, end).
struct holding {
    uintptr_t start, end;
};

// Writes [start, end) down; false when there is no room.
bool holding_add(uintptr_t start, uintptr_t end);

// Strikes it out, as much of it as is listed.  Where a hole would need an
// extent more than there is room for, its smaller neighbour goes with it.
void holding_remove(uintptr_t start, uintptr_t end);

// Copies the list to `list`, of HOLDING_MOST; how many there are.
size_t holding_read(struct holding *list);

// In a forked child, whose parent's threads may have been changing the list.
void holding_forked(void);

#endif
