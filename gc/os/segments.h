// segments — the variables of the program and its libraries.
//
// Global and static variables live in the writable segments that the loader
// mapped; thread-local ones in blocks of each thread, one a module; values of
// pthread_setspecific (the first few) in the thread's control block.  This is
// the list of these places, as ranges of words to be read.
//
//     program       [ text ][ rodata ][ relro | data | bss ]   <- a range
//     libz.so       [ text ][ rodata ][ relro | data | bss ]   <- a range
//     a thread      [ tls of libz | tls of program ][ control block ]
//                   its table of blocks -> [ tls of a library loaded later ]
//
// They are asked for when every other thread stands still, wherever it was: in
// the loader, in malloc, holding any lock.  So the loader is not called.  It
// keeps a list of its modules for debuggers, and says there whether it is just
// changing it: the list is read in place, without its locks; when it is being
// changed, the kernel's list of mappings is read instead.
//
// Invariants:
//   G1  cover    every variable with static storage that can be written lies
//                in a range of segments_each, those that became read-only
//                after relocation included, in every namespace of the loader
//   G2  threads  every thread-local variable of a thread that has memory, and
//                each value it set under the first 32 keys, lies in a range of
//                segments_each_tls for its thread pointer
//   G3  words    start and end are multiples of WORD_BYTES; every word between
//                can be read
//   G4  quiet    no call here allocates, takes a lock or enters the loader
//   G5  caught   G1 to G3 hold whatever the loader was doing in a thread that
//                was stopped, once the libraries it works on are left out
//   G6  mapped   what segments_each visits segments_each_mapped visits too, of
//                modules whose file is mapped from its beginning
//
// In a stop, or where no library is loaded or unloaded meanwhile.  Of two calls
// of segments_each_tls in a stop both may rely on what the last segments_each
// (or segments_each_mapped) before saw: call that first.  errno is kept.
// Design, alternatives and measurements: docs/design/os/segments.md

#ifndef OS_SEGMENTS_H
#define OS_SEGMENTS_H

#include "base/defs.h"

// Is given one range of words to be read as possible pointers.
typedef void segments_visit(const void *start, const void *end, void *data);

// Visits each writable data segment of the program and its libraries.
void segments_each(segments_visit *visit, void *data);

// The same by the kernel's list of mappings alone; false when the system does
// not tell it, and nothing was visited.
bool segments_each_mapped(segments_visit *visit, void *data);

// Visits the thread-local blocks and the control block of the thread with this
// thread pointer, the caller or one that stands still.
void segments_each_tls(uintptr_t thread_pointer, segments_visit *visit,
                       void *data);

// Whether `variable`, thread-local, of the calling thread, lies in a range of
// segments_each_tls.  Where it does not, this C library is one we do not know.
// In a stop, as the others: it may have to walk the modules first.
bool segments_check_tls(const void *variable);

// The calling thread's thread pointer: its control block lies there.
uintptr_t segments_thread_pointer(void);

#endif
