// stack — one register at a time.
//
// stack_test_<register>(hidden, call, body, data) holds ~hidden in exactly one
// callee-saved register and in no other place: all other callee-saved ones are
// zero, and what came in arguments is the complement.  Then it calls
// call(body, data).  What the caller had is put back.
//
// stack_test_blind(body, data) is a spill that saves nothing: with it, the
// value must not be found.

#include "support/saved.S"

#if defined(__x86_64__)

.macro stub name
    saved_begin stack_test_\name
    saved_push
    sub $8, %rsp            // aligned to 16 at the call
    mov %rdi, %rax          // hidden
    mov %rsi, %r10          // call
    mov %rdx, %rdi          // body
    mov %rcx, %rsi          // data
    xor %ebx, %ebx
    xor %ebp, %ebp
    xor %r12d, %r12d
    xor %r13d, %r13d
    xor %r14d, %r14d
    xor %r15d, %r15d
    mov %rax, %\name
    not %\name
    xor %eax, %eax
    call *%r10
    add $8, %rsp
    saved_pop
    saved_end stack_test_\name
.endm

    .irp register, rbx, rbp, r12, r13, r14, r15
    stub \register
    .endr

    saved_begin stack_test_blind
    sub $8, %rsp
    mov %rdi, %rax
    mov %rsp, %rdi          // the hot end
    call *%rax
    add $8, %rsp
    ret
    saved_end stack_test_blind

#elif defined(__aarch64__)

.macro stub name, move
    saved_begin stack_test_\name
    saved_push
    mvn x9, x0              // the value
    mov x10, x1             // call
    mov x0, x2              // body
    mov x1, x3              // data
    mov x2, xzr
    mov x3, xzr
    .irp number, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29
    mov x\number, xzr
    .endr
    .irp number, 8, 9, 10, 11, 12, 13, 14, 15
    fmov d\number, xzr
    .endr
    \move \name, x9
    mov x9, xzr
    blr x10
    saved_pop
    saved_end stack_test_\name
.endm

    .irp number, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29
    stub x\number, mov
    .endr
    .irp number, 8, 9, 10, 11, 12, 13, 14, 15
    stub d\number, fmov
    .endr

    saved_begin stack_test_blind
    str x30, [sp, #-16]!
    mov x9, x0
    mov x0, sp              // the hot end
    blr x9
    ldr x30, [sp], #16
    ret
    saved_end stack_test_blind

#endif
