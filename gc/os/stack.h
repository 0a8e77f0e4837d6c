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
//   K5  saved    after stack_save the array holds the value that each
//                callee-saved register had in its caller, at the call
//   K6  door     the body of a STACK_DOOR is given the values that these
//                registers had in the door's caller, and the door changes none
//   K7  bounds   [lowest, cold_end) of stack_own_bounds holds every frame that
//                the thread's calls will ever have on its own stack
//
// A thread may be read while it waits in the system.  Its frames lie still, but
// it runs on in a function that has saved nothing: so its registers are copied
// before, to where they are read.  The trap is the frame between.  A function
// that calls stack_save and then returns has pushed a register or two for its
// own use, with its caller's values, into a frame that is gone; what stack_save
// saw in them is its own.  Hence:
//
//   - who saves and waits in the same frame, or in one deeper, calls stack_save
//     and names an address below that frame as the hot end: what it pushed is
//     read as part of the stack;
//   - who saves and returns is a STACK_DOOR, which pushes nothing.
//
// stack_spill, stack_save: any thread, any time, a signal handler included.
// The cold ends and bounds: see each; the thread's own call before the world is
// stopped, the value may be kept for its life.
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

// The callee-saved registers of the machine: rbx, rbp, r12 to r15; or x19 to
// x29, d8 to d15.
#if defined(__x86_64__)
#define STACK_REGISTERS 6
#else
#define STACK_REGISTERS 19
#endif

// Copies the callee-saved registers into an array of STACK_REGISTERS (K5).
void stack_save(uintptr_t *registers);

// Defines, at file level, the function `void name(void *argument)` which calls
//
//     void body(void *argument, const uintptr_t *saved, const void *hot_end)
//
// with the registers as name's caller has them (K6) and the hot end as it is
// when name has returned.  The array lives until body returns.  `body` may be a
// static function; it must be declared `used`, for only assembly names it.
// `name` needs a declaration, and has the visibility that its declaration gives
// if `show` is ".globl"; with ".hidden" it stays in the library.
#if defined(__x86_64__)
#define STACK_DOOR(name, body, show)                                           \
    __asm__(".text\n.p2align 4\n.globl " #name "\n" show " " #name "\n"        \
            ".type " #name ", @function\n" #name ":\n"                         \
            ".cfi_startproc\nendbr64\nsubq $56, %rsp\n"                        \
            ".cfi_adjust_cfa_offset 56\n"                                      \
            "movq %rbx, (%rsp)\nmovq %rbp, 8(%rsp)\n"                          \
            "movq %r12, 16(%rsp)\nmovq %r13, 24(%rsp)\n"                       \
            "movq %r14, 32(%rsp)\nmovq %r15, 40(%rsp)\n"                       \
            "movq %rsp, %rsi\nleaq 64(%rsp), %rdx\ncall " #body "\n"           \
            "addq $56, %rsp\n.cfi_adjust_cfa_offset -56\nret\n"                \
            ".cfi_endproc\n.size " #name ", . - " #name "\n")
#elif defined(__aarch64__)
#define STACK_DOOR(name, body, show)                                           \
    __asm__(".text\n.p2align 2\n.globl " #name "\n" show " " #name "\n"        \
            ".type " #name ", %function\n" #name ":\n"                         \
            ".cfi_startproc\nhint #34\nstp x29, x30, [sp, #-176]!\n"           \
            ".cfi_def_cfa_offset 176\n.cfi_offset 29, -176\n"                  \
            ".cfi_offset 30, -168\n"                                           \
            "stp x19, x20, [sp, #16]\nstp x21, x22, [sp, #32]\n"               \
            "stp x23, x24, [sp, #48]\nstp x25, x26, [sp, #64]\n"               \
            "stp x27, x28, [sp, #80]\nstp x29, xzr, [sp, #96]\n"               \
            "stp d8, d9, [sp, #104]\nstp d10, d11, [sp, #120]\n"               \
            "stp d12, d13, [sp, #136]\nstp d14, d15, [sp, #152]\n"             \
            "add x1, sp, #16\nadd x2, sp, #176\nbl " #body "\n"                \
            "ldp x29, x30, [sp], #176\n.cfi_def_cfa_offset 0\nret\n"           \
            ".cfi_endproc\n.size " #name ", . - " #name "\n")
#endif

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

// Both ends of the calling thread's stack (K7); *cold_end is NULL when unknown,
// *lowest also in the main thread, whose stack grows.  In other threads it asks
// the threads library, which may allocate: call it once, outside the
// collector's own allocation, and never with a lock of ours held.
void stack_own_bounds(const void **lowest, const void **cold_end);

#endif
