// copy — is this still the process that it was?
//
// A fork copies all memory and one thread.  What the other threads were in the
// middle of stays as it was, for ever; locks they held stay taken.  So a copy
// has to find out that it is one, before it relies on anything that another
// thread may have been changing, whichever way it was made: by fork, by _Fork
// or by a system call that no library sees.
//
// The kernel tells: a page can be marked so that every copy finds it zero
// (MADV_WIPEONFORK).  One word there is 1 in a process that knows itself, and 0
// in a copy that has not noticed yet.  A child of vfork shares the memory of
// its parent and is no copy.
//
//     process                  child
//     [ 1 ] mark    --fork-->  [ 0 ] mark    copy_is_new
//                              [ 1 ]         copy_accept
//
// Where the kernel cannot do that, the library's own hook on fork sets the word
// to 0.  Where the hook is called it is also the best time to put things in
// order: there is no second thread yet.
//
// Invariants:
//   P1  copy     after copy_watch, copy_is_new is true in a child from
//                its first instruction until copy_accept, and never in the
//                process that watches; the same for children of children
//   P2  errno    errno is as the caller left it
//
// copy_watch: once, under somebody's lock; it may allocate.  The others: any
// thread, async-signal-safe.
// Design, alternatives and measurements: docs/design/os/copy.md

#ifndef OS_COPY_H
#define OS_COPY_H

#include "base/defs.h"

struct copy {
    uint32_t *mark; // 1, or 0 in a copy; where the kernel wipes it
    uint32_t alone; // 1; the mark until there is such a page
    void (*made)(void);
    bool watched; // the mark and the hook stand
};

extern struct copy copy;

// From now on a copy is found out; where it is made by the library's fork,
// `made` is called in it, by its one thread.
void copy_watch(void (*made)(void));

static inline bool copy_is_new(void) {
    return __atomic_load_n(copy.mark, __ATOMIC_RELAXED) == 0;
}

// The copy knows itself.
static inline void copy_accept(void) {
    __atomic_store_n(copy.mark, 1, __ATOMIC_RELAXED);
}

#endif
