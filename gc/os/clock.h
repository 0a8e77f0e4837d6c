// clock — time that only goes forward.
//
// Invariants:
//   L1  forward  of two readings, in one thread or ordered between threads,
//                the later is not smaller
//   L2  errno    errno is as the caller left it
//
// Any thread; async-signal-safe; a few tens of nanoseconds.
// Design, alternatives and measurements: docs/design/os/clock.md

#ifndef OS_CLOCK_H
#define OS_CLOCK_H

#include "base/defs.h"

// Nanoseconds since some fixed moment.
uint64_t clock_now_ns(void);

#endif
