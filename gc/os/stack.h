// stack — where a thread's calls live, with their registers.
//
// Whatever a caller of the collector holds is on its stack or in a register.
// Registers come in two kinds.  Those a call may destroy are saved by whoever
// still wants them, so they are on the stack already.  Those a call preserves
// may hold the only pointer to an object in the whole process: they must be
// written to the stack before it is read.  stack_spill does that:
//
//     cold end   [ main                ]   higher addresses
//                [ ... the callers ... ]
//                [ stack_spill: every callee-saved register ]
//     hot_end -> [ a frame of its own: below it nothing of theirs lies ]
//                [ body(hot_end, data) ]   lower addresses
//
// The compiler saves them (__builtin_unwind_init); setjmp would not do, for
// some C libraries scramble the frame pointer in a jmp_buf.  The hot end is
// read from the stack pointer one call deeper, since the address of a local
// variable may lie above the saved registers.
//
// Invariants:
//   K1  spilled  while body runs, [hot_end, cold end) holds the value that each
//                callee-saved register had in the caller of stack_spill
//   K2  covered  [hot_end, cold end) holds every frame of the callers
//   K3  word     hot_end and every cold end are multiples of WORD_BYTES
//   K4  errno    errno is as the caller left it
//
// stack_spill: any thread, any time.  The cold ends: see each; the thread's
// own call before the world is stopped, the value may be kept for its life.
// Design, alternatives and measurements: docs/design/os/stack.md

#ifndef OS_STACK_H
#define OS_STACK_H

#include "base/defs.h"

// How far before the start or past the end of an object a word in a register
// or a stack slot may point while the program, correct C, still uses it.  On
// x86-64 every bias fits into the instruction, which leaves C's own "one past
// the end"; on aarch64 compilers keep base - K * size in a register.
#if defined(__x86_64__)
#define STACK_SLOP_BYTES ((size_t)1)
#else
#define STACK_SLOP_BYTES ((size_t)64)
#endif

// Calls body with all callee-saved registers in memory (K1) and the hot end of
// the stack; body returns before stack_spill does.
void stack_spill(void (*body)(const void *hot_end, void *data), void *data);

// Overwrites STACK_CLEAR_BYTES of the stack below the caller's frame, where old
// calls have left words that later frames would otherwise show again.
#define STACK_CLEAR_BYTES ((size_t)8 * 1024)
void stack_clear_below(void);

// Whether [hot_end, cold_end) can be a part of one stack: not if hot_end lies
// beyond cold_end, or further from it than a stack of this process may reach.
bool stack_is_whole(const void *hot_end, const void *cold_end);

// The far end of the main thread's stack: all its frames lie below.  NULL when
// unknown.
const void *stack_cold_end(void);

// The far end of the calling thread's stack; NULL when unknown.  In a thread
// other than main it asks the threads library, which may allocate: call it
// once, outside the collector's own allocation.
const void *stack_own_cold_end(void);

#endif
