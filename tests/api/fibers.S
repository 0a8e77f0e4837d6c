// fibers — a switch of stacks, as small as it can be.
//
// fibers_test_switch(void **from, void *to) puts what a call must preserve on
// the stack, stores the stack pointer in *from and goes on where `to` was left.
// fibers_test_hold(uintptr_t hidden, void (*leave)(void)) holds ~hidden in one
// callee-saved register, and in no other place, while it calls leave; returns
// what the register holds then.

#if defined(__x86_64__)

    .text
    .globl fibers_test_switch
    .type fibers_test_switch, @function
fibers_test_switch:
    endbr64
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret
    .size fibers_test_switch, . - fibers_test_switch

    .globl fibers_test_hold
    .type fibers_test_hold, @function
fibers_test_hold:
    endbr64
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
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
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret
    .size fibers_test_hold, . - fibers_test_hold

#elif defined(__aarch64__)

    .text
    .globl fibers_test_switch
    .type fibers_test_switch, %function
fibers_test_switch:
    hint #34
    sub sp, sp, #160
    stp x19, x20, [sp]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
    .size fibers_test_switch, . - fibers_test_switch

    .globl fibers_test_hold
    .type fibers_test_hold, %function
fibers_test_hold:
    hint #34
    stp x29, x30, [sp, #-96]!
    stp x19, x20, [sp, #16]
    stp x21, x22, [sp, #32]
    stp x23, x24, [sp, #48]
    stp x25, x26, [sp, #64]
    stp x27, x28, [sp, #80]
    mvn x29, x0
    mov x0, xzr
    .irp number, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28
    mov x\number, xzr
    .endr
    blr x1
    mov x0, x29
    ldp x19, x20, [sp, #16]
    ldp x21, x22, [sp, #32]
    ldp x23, x24, [sp, #48]
    ldp x25, x26, [sp, #64]
    ldp x27, x28, [sp, #80]
    ldp x29, x30, [sp], #96
    ret
    .size fibers_test_hold, . - fibers_test_hold

#endif

    .section .note.GNU-stack, "", %progbits
