// unwind — from an address in the code to a place a person can find.
//
// A report names its caller.  What the loader knows suffices for that: the
// nearest exported function, and the file and the offset in it, which a
// debugger turns into a line: "main+0x12 (program+0x1234)".
//
// Invariants:
//   U1  always  some text is added for every address, NULL and wild ones
//               included: at the least the address in hexadecimal
//   U2  offset  the offset after the file's name is the address less the
//               file's load address, so that it means the same in every run
//   U3  errno   errno is as the caller left it
//   U4  outside unwind_stack waits for no lock, loads nothing and allocates
//               nothing; it knows nothing before unwind_ready, nor when the
//               unwinder itself is the caller
//
// unwind_describe takes the loader's lock: not from a signal handler, nor in a
// child that was forked from several threads.
// Design, alternatives and measurements: docs/design/os/unwind.md

#ifndef OS_UNWIND_H
#define OS_UNWIND_H

#include "base/defs.h"
#include "base/text.h"

// Appends what is known about the code at `code`.
void unwind_describe(struct text *text, const void *code);

// Readies unwind_stack: the C library loads the unwinder.  Not with a lock held
// that the loader might want.
void unwind_ready(void);

// Where the loader's code lies; [0, 0) where there is none.  As the first.
void unwind_loader(uintptr_t *start, uintptr_t *end);

// The addresses to which the calls on the calling thread's stack return, from
// `caller` on outwards, at most `most`; 0 where that is not known (U4).
size_t unwind_stack(const void *caller, uintptr_t *frames, size_t most);

#endif
