// mapping — what the kernel has mapped where, and reads that cannot crash.
//
// Where a mapping begins and ends only the kernel knows for certain: stacks
// that nobody declared, libraries that are half loaded, files that somebody
// else cuts short while they are mapped.  It tells in /proc/self/maps, a line
// for each; newer kernels answer a question about one address without writing
// all the others down.  And it copies memory for whoever asks, and says so when
// there is none, where a plain read would be the end of the process.
//
// Invariants:
//   MP1  each   a mapping that exists from before the call of mapping_each
//               until after it is visited once; in ascending order
//   MP2  find   mapping_find answers for the mapping that holds the address, as
//               mapping_each would
//   MP3  copy   mapping_copy and mapping_readable read no byte that cannot be
//               read; what they return is the length of the part before the
//               first page that cannot
//   MP4  errno  errno is as the caller left it; no call here allocates or locks
//
// Any thread; async-signal-safe; in a stop.
// Design, alternatives and measurements: docs/design/os/mapping.md

#ifndef OS_MAPPING_H
#define OS_MAPPING_H

#include "base/defs.h"

struct mapping {
    uintptr_t start, end;
    uint64_t offset; // of the start in its file, bytes
    uint64_t inode;  // of the file; 0: memory without one
    uint64_t device; // of the file
    bool is_readable, is_writable;
    bool is_shared;        // writes go to the file, or to other processes
    size_t resident_bytes; // mapping_each_resident alone
};

// Is given one mapping; returns whether to go on.
typedef bool mapping_visit(const struct mapping *mapping, void *data);

// Visits every mapping of this process; false when the system does not tell.
bool mapping_each(mapping_visit *visit, void *data);

// The same, with resident_bytes: what of the mapping is in memory now.  Their
// sum is the resident set of the process.  It takes the kernel a look at every
// page.
bool mapping_each_resident(mapping_visit *visit, void *data);

// How many of the bytes from `start` on, as pages go, are in memory; `start` is
// the start of a page, and all of them are mapped.
size_t mapping_resident(uintptr_t start, size_t bytes);

// The mapping that holds `address`; false if there is none, or the system does
// not tell.
bool mapping_find(uintptr_t address, struct mapping *mapping);

// Copies memory that may not be there; how many bytes were.
size_t mapping_copy(void *to, uintptr_t from, size_t bytes);

// How many of the bytes from `start` on can be read, as pages go.
size_t mapping_readable(uintptr_t start, size_t bytes);

#endif
