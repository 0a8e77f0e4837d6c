// clock — time that only goes forward.
//
// Invariants:
//   L1  forward  of two readings, in one thread or ordered between threads,
//                the later is not smaller
//   L2  errno    errno is as the caller left it
//   L3  thread   clock_thread_ns stands still while its thread does not run,
//                and is never faster than clock_now_ns
//
// Any thread; async-signal-safe; a few tens of nanoseconds.
// Design, alternatives and measurements: docs/design/os/clock.md

#ifndef OS_CLOCK_H
#define OS_CLOCK_H

#include "base/defs.h"

// Nanoseconds since some fixed moment.
uint64_t clock_now_ns(void);

// Nanoseconds for which the calling thread has run.  Enters the kernel: some
// hundred nanoseconds.
uint64_t clock_thread_ns(void);

// What the threads of the process have had of the processors, together; some
// hundreds of nanoseconds.
uint64_t clock_processor_ns(void);

#endif
