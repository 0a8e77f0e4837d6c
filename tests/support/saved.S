// saved — functions that keep what a call must preserve, in assembly.
//
// Included by the .S files of tests.
//
//     saved_begin NAME   a function that anyone may call begins
//     saved_push         every callee-saved register onto the stack
//     saved_pop          back from there, and return
//     saved_end NAME
//
// On x86-64 the stack pointer is 8 short of a multiple of 16 before a call in
// between; on aarch64 it is a multiple.

#if defined(__x86_64__)

.macro saved_begin name
    .text
    .globl \name
    .type \name, %function
\name:
    endbr64
.endm

.macro saved_push
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
.endm

.macro saved_pop
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret
.endm

#elif defined(__aarch64__)

.macro saved_begin name
    .text
    .globl \name
    .type \name, %function
\name:
    hint #34                // bti c: nothing to older machines
.endm

.macro saved_push
    stp x29, x30, [sp, #-160]!
    stp x19, x20, [sp, #16]
    stp x21, x22, [sp, #32]
    stp x23, x24, [sp, #48]
    stp x25, x26, [sp, #64]
    stp x27, x28, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
.endm

.macro saved_pop
    ldp x19, x20, [sp, #16]
    ldp x21, x22, [sp, #32]
    ldp x23, x24, [sp, #48]
    ldp x25, x26, [sp, #64]
    ldp x27, x28, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    ldp x29, x30, [sp], #160
    ret
.endm

#endif

.macro saved_end name
    .size \name, . - \name
.endm

    .section .note.GNU-stack, "", %progbits
