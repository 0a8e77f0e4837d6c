// segments — the variables of the program and its libraries.
//
// Global and static variables live in the writable segments that the loader
// mapped; thread-local ones in blocks of each thread, one a module; values of
// pthread_setspecific (the first few) in the thread's control block.  This is
// the list of these places, as ranges of words to be read.
//
//     program       [ text ][ rodata ][ relro | data | bss ]   <- a range
//     libz.so       [ text ][ rodata ][ relro | data | bss ]   <- a range
//     this thread   [ tls of libz | tls of program ][ control block ]
//
// Invariants:
//   G1  cover    every variable with static storage that can be written lies
//                in a range of segments_each, those that became read-only
//                after relocation included
//   G2  threads  every thread-local variable of the calling thread that has
//                memory, and each value it set under the first 32 keys, lies
//                in a range of segments_each_tls
//   G3  words    start and end are multiples of WORD_BYTES; every word between
//                can be read
//   G4  quiet    no call here allocates, nor does a visit begin an allocation
//
// segments_each holds the loader's lock (dl_iterate_phdr) while it visits: the
// visitor must neither load nor unload libraries.  Never between a fork in a
// process with threads and the exec.  errno is kept.
// Design, alternatives and measurements: docs/design/os/segments.md

#ifndef OS_SEGMENTS_H
#define OS_SEGMENTS_H

#include "base/defs.h"

// Is given one range of words to be read as possible pointers.
typedef void segments_visit(const void *start, const void *end, void *data);

// Visits each writable data segment of the program and its libraries.
void segments_each(segments_visit *visit, void *data);

// Visits the calling thread's thread-local blocks and its control block.
void segments_each_tls(segments_visit *visit, void *data);

// The calling thread's thread pointer: its control block lies there.
uintptr_t segments_thread_pointer(void);

#endif
