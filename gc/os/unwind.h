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
//
// Takes the loader's lock: not from a signal handler, nor in a child that was
// forked from several threads.
// Design, alternatives and measurements: docs/design/os/unwind.md

#ifndef OS_UNWIND_H
#define OS_UNWIND_H

#include "base/text.h"

// Appends what is known about the code at `code`.
void unwind_describe(struct text *text, const void *code);

#endif
