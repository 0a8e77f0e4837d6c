// fibers — a switch of stacks, as small as it can be.
//
// fibers_test_switch(void **from, void *to) puts what a call must preserve on
// the stack, stores the stack pointer in *from and goes on where `to` was left.
// fibers_test_hold(uintptr_t hidden, void (*leave)(void)) holds ~hidden in one
// callee-saved register, and in no other place, while it calls leave; returns
// what the register holds then.

#include "support/saved.S"

#if defined(__x86_64__)

    saved_begin fibers_test_switch
    saved_push
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    saved_pop
    saved_end fibers_test_switch

    saved_begin fibers_test_hold
    saved_push
    sub $8, %rsp
    mov %rdi, %rbp
    not %rbp
    xor %ebx, %ebx
    xor %r12d, %r12d
    xor %r13d, %r13d
    xor %r14d, %r14d
    xor %r15d, %r15d
    xor %edi, %edi
    call *%rsi
    mov %rbp, %rax
    add $8, %rsp
    saved_pop
    saved_end fibers_test_hold

#elif defined(__aarch64__)

    saved_begin fibers_test_switch
    saved_push
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    saved_pop
    saved_end fibers_test_switch

    saved_begin fibers_test_hold
    saved_push
    mvn x29, x0
    mov x0, xzr
    .irp number, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28
    mov x\number, xzr
    .endr
    blr x1
    mov x0, x29
    saved_pop
    saved_end fibers_test_hold

#endif
