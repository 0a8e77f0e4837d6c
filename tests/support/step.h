// step — a piece of code, one instruction at a time.
//
// The trap flag of x86-64 makes the processor stop behind each instruction; a
// handler of the signal that follows calls `between`, which may look at what
// the interrupted code has done so far, or fork a child that goes on from there
// as if the other threads, and this code, had vanished.
//
// Invariants
//   P1  each   `between` is called once behind each instruction of body, in all
//              functions that it calls, until body returns
//   P2  same   the code runs as it would have
//
// One thread at a time.  The code must not block SIGTRAP.

#ifndef SUPPORT_STEP_H
#define SUPPORT_STEP_H

#include <stdbool.h>
#include <stddef.h>

// Is given the number of instructions so far.
typedef void step_between(size_t instructions, void *data);

// Runs body(data) in steps; false, and nothing done, on other machines, under
// an emulator and where a sanitizer puts signals off.
bool step_run(void (*body)(void *data), step_between *between, void *data);

// Children in the middle of a piece of code.
struct step_forks {
    void (*body)(void *data);
    bool (*lives)(size_t instructions, void *data); // what a child does
    void *data;                                     // of both
    size_t every;    // a child behind each of so many instructions
    size_t children; // so far
    size_t failed;   // of these: `lives` was false, or they did not get so far
};

// Runs the body in steps, and in children behind them `lives`.  They are made
// by the bare system call: no hook of the C library runs, which may be in the
// middle of anything.  False as step_run.
bool step_fork(struct step_forks *forks);

// Called by `between`: no more steps, the code runs on by itself.
void step_end(void);

#endif
