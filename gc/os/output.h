// output — words to standard error, or to the end of a file.
//
// Invariants:
//   O1  whole  all bytes are written in order, however the system splits or
//              interrupts the writing, unless it refuses them for good
//   O2  errno  errno is as the caller left it
//   O3  end    what goes to a file is added to its end, whoever else writes
//              there, and no descriptor stays open
//
// Any thread; async-signal-safe; no buffer, no lock.  A line given whole comes
// out whole where the system writes it in one piece.
// Design, alternatives and measurements: docs/design/os/output.md

#ifndef OS_OUTPUT_H
#define OS_OUTPUT_H

#include "base/defs.h"

// Writes `count` bytes to standard error; what cannot be written is lost.
void output_write(const char *bytes, size_t count);

// Adds `count` bytes to the end of the file at `path`, which is made if there
// is none; false if the system does not let it be opened.
MUST_USE bool output_append(const char *path, const char *bytes, size_t count);

#endif
