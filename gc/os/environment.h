// environment — the variables this process was started with.
//
// The options are read when the first object is asked for, which may be before
// main and before libc's own start is complete; so they are read where the
// loader put them, with no function of libc in between.
//
// Invariants:
//   V1  exact    a name is found only if it is equal in full, and then the
//                first of that name; the value is what follows its '='
//   V2  each     every entry that has an '=' is visited once, in order; those
//                without one are skipped
//   V3  missing  an absent environment is an empty one
//
// The strings belong to the environment: copy what must outlive a setenv.  Not
// while another thread changes the environment.  errno is kept.
// Design, alternatives and measurements: docs/design/os/environment.md

#ifndef OS_ENVIRONMENT_H
#define OS_ENVIRONMENT_H

#include "base/defs.h"

// Is given one variable; the name is not zero-terminated, the value is.
typedef void environment_visit(const char *name, size_t name_length,
                               const char *value, void *data);

// The value of the variable `name`, or NULL.
const char *environment_find(const char *name);

// Visits every variable.
void environment_each(environment_visit *visit, void *data);

#endif
