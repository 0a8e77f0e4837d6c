// intern — one copy of each text.
//
// The interned texts of loam/data.h.  A copy is a leaf, its length before its
// bytes; what the program has is a pointer to the bytes.  Tables lead to the
// copies by handles (heap/handle.h), which keep nothing alive: a collection
// that finds a copy dead clears its handle, and so the entry is gone.
//
//     root, pinned   64 shards, by the upper bits of the hash
//     table          tags | 0 | 9a3f | 0 | 77c1 | ...       leaf
//                    row  | - | text | - | gone | ...       handles
//
// An entry is written once: its handle, then, by a releasing store, its tag,
// which is 32 bits of the hash and not 0.  After that only a collection changes
// it, to a handle of nothing.  So whoever reads needs no lock: a tag that is
// seen has its handle.  Writers hold the one lock of the process for the few
// instructions this takes, and allocate nothing meanwhile.  When the entries of
// a table are used up, those that live go to a new one; one store makes it the
// shard's, and who still reads the old one may miss a text that came later, so
// before a text is put in it is looked for again with the lock.
//
// Invariants
//   IN1  same     while a copy is held, its text leads to it and no other
//   IN2  once     of threads that intern a text at the same time, all are given
//                 the same copy
//   IN3  gone     a copy that nothing leads to is collected
//   IN4  refused  when memory is short nothing has changed
//   IN5  bounded  a table has at most four times the entries that lived when it
//                 was made, or INTERN_FIRST
//
// Any thread; in a forked child and in handlers of signals too (api/init.h says
// when the lock cannot be had).
// Design, alternatives and measurements: docs/design/api/intern.md

#ifndef API_INTERN_H
#define API_INTERN_H

#include "loam/data.h"

#include "base/defs.h"
#include "heap/handle.h"

#define INTERN_SHARDS 64
// Entries of the first table of a shard.
#define INTERN_FIRST ((size_t)(LOAM_TINY ? 3 : 12))

struct intern_table {
    uint32_t *tags;     // 0: no entry yet; atomic; a leaf
    struct handle *row; // beside them
    size_t mask;        // places, less 1
    size_t used, limit; // entries, and how many there may be; lock
};

struct intern_root {
    struct intern_table *tables[INTERN_SHARDS]; // or NULL; atomic; lock
};

// The root, or NULL: nothing was interned yet.  Atomic; lock.
extern struct intern_root *intern_root;

#endif
