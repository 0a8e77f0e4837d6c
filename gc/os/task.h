// task — the threads of this process, as the kernel tells of them.
//
// Not every thread is known to the threads library, and none is known to all
// libraries: timers, asynchronous reads and other runtimes make their own.  The
// kernel knows them all, numbers them and lists them in /proc/self/task, where
// there is a folder for each: what it does, what it waits for, which signals it
// blocks.
//
// Invariants:
//   TK1  count   task_count is the number of tasks at some instant between call
//                and return, or 0 where the system does not tell
//   TK2  each    a task that lives from before the call of task_each until
//                after it is visited once; one that begins or ends meanwhile
//                may be visited
//   TK3  status  what task_read tells was true at some instant between call and
//                return; what the system does not tell is 0, "", '?' or -1
//   TK4  errno   errno is as the caller left it; no call here allocates or is a
//                point of cancellation
//
// Any thread; async-signal-safe; in a stop.
// Design, alternatives and measurements: docs/design/os/task.md

#ifndef OS_TASK_H
#define OS_TASK_H

#include "base/defs.h"

struct task_status {
    char name[20];           // as prctl(PR_SET_NAME) set it; "" unknown
    char state;              // R S D T t Z X I, as in ps; '?' unknown
    bool is_worker;          // the kernel's own, made for io_uring
    bool is_traced;          // by a debugger, or by another collector
    uint64_t blocked;        // signals it blocks; bit n - 1 is signal n
    uint64_t pending;        // signals that wait for it alone, likewise
    int system_call;         // its number; -1 running, or unknown
    uintptr_t stack_pointer; // if it waits in the system; else 0
    char waits_in[36];       // the kernel's function that waits; "" unknown
};

// Is given the kernel's id of a task; returns whether to go on.
typedef bool task_visit(uint32_t task, void *data);

// The tasks (threads) of this process now; 0 when unknown.  A thread that was
// joined may be counted until the kernel has buried it, some microseconds; so
// are threads the program never made (of a sanitizer, of an emulator).  Needs
// no file descriptor.
size_t task_count(void);

// Visits every task of this process; false when the system does not tell, or
// the process has no descriptor left.
bool task_each(task_visit *visit, void *data);

// What is known about a task of this process; false if it is gone, or the
// system does not tell.  Of the last three members the kernel tells only the
// privileged, or nobody, as it was built and configured.
bool task_read(uint32_t task, struct task_status *status);

#endif
