// error — errno, the one thing a library must put back.
//
// A program that frees an object, or whose allocation happens to run a
// collection, finds errno as it left it, unless the contract says otherwise.
// errno belongs to the system's floor, so that the floors above neither name
// it nor include its header: they save, restore and set it here.
//
// Invariants:
//   E1  exact  error_restore(error_save()) leaves errno as it was, and each
//              setter sets exactly the code in its name
//
// errno is per thread; async-signal-safe.
// Design, alternatives and measurements: docs/design/os/error.md

#ifndef OS_ERROR_H
#define OS_ERROR_H

#include "base/defs.h"

// The calling thread's errno.
int error_save(void);

// Sets the calling thread's errno to what error_save returned.
void error_restore(int saved);

// Sets errno to ENOMEM: there was not enough memory.
void error_set_no_memory(void);

// Sets errno to EINVAL: an argument that no heap could serve.
void error_set_invalid(void);

#endif
