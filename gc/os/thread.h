// thread — who runs here, and when it ends.
//
// The kernel's numbers, not the library's: threads that were never made by
// pthread_create (timers, other runtimes) have them too.  The end of a thread
// the library tells, which calls a function in it, late: after the destructors
// of C++, among those of other keys.
//
// Invariants:
//   T1  distinct  two threads that live at the same time have different ids,
//                 and a thread's id does not change
//   T2  parting   a thread that armed itself and ends by returning, by
//                 pthread_exit or by cancellation has the function called
//                 once, with the value of the last arming; arming in that call
//                 makes for another, up to the rounds of the library (4)
//   T3  errno     errno is as the caller left it
//
// Any thread; the ids: async-signal-safe.  thread_at_exit and thread_exit_arm
// are for ordinary code: the first needs one of the system's 1024 keys, the
// second may allocate when more than 32 are in use.
// Design, alternatives and measurements: docs/design/os/thread.md

#ifndef OS_THREAD_H
#define OS_THREAD_H

#include "base/defs.h"

#define THREAD_CPUS 1024

struct thread_cpus {
    uint64_t bits[THREAD_CPUS / 64];
};

// The processors on which the calling thread may run; none where the system
// does not tell, or has more.  Async-signal-safe.
void thread_find_cpus(struct thread_cpus *cpus);

// The one it runs on at this moment.  Async-signal-safe.
unsigned thread_cpu(void);

// The kernel's id of the calling thread; never 0.
uint32_t thread_id(void);

// The kernel's id of this process; never 0.  A forked child has its own.
uint32_t thread_process_id(void);

// Names the function to be called in each thread that armed itself, when it
// ends; it runs in that thread.  Once in a process; false when the system has
// no key left.
MUST_USE bool thread_at_exit(void (*parting)(void *value));

// Whether thread_exit_arm allocates nothing: it is then async-signal-safe.
bool thread_arms_freely(void);

// Has the function called for the calling thread when it ends, with `value`;
// NULL: it is not called.  False when the system refuses.
bool thread_exit_arm(void *value);

#endif
