// stack — one register at a time.
//
// stack_test_<register>(hidden, call, body, data) holds ~hidden in exactly one
// callee-saved register and in no other place: all other callee-saved ones are
// zero, and what came in arguments is the complement.  Then it calls
// call(body, data).  What the caller had is put back.
//
// stack_test_blind(body, data) is a spill that saves nothing: with it, the
// value must not be found.

#if defined(__x86_64__)

.macro stub name
    .text
    .globl stack_test_\name
    .type stack_test_\name, @function
stack_test_\name:
    endbr64
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
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
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret
    .size stack_test_\name, . - stack_test_\name
.endm

    stub rbx
    stub rbp
    stub r12
    stub r13
    stub r14
    stub r15

    .globl stack_test_blind
    .type stack_test_blind, @function
stack_test_blind:
    endbr64
    sub $8, %rsp
    mov %rdi, %rax
    mov %rsp, %rdi          // the hot end
    call *%rax
    add $8, %rsp
    ret
    .size stack_test_blind, . - stack_test_blind

#elif defined(__aarch64__)

.macro enter
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
.endm

.macro leave
    mov x9, xzr
    blr x10
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

.macro stub name, move
    .text
    .globl stack_test_\name
    .type stack_test_\name, %function
stack_test_\name:
    bti c
    enter
    \move \name, x9
    leave
    .size stack_test_\name, . - stack_test_\name
.endm

    .arch armv8.5-a         // bti: nothing to older machines
    .irp number, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29
    stub x\number, mov
    .endr
    .irp number, 8, 9, 10, 11, 12, 13, 14, 15
    stub d\number, fmov
    .endr

    .globl stack_test_blind
    .type stack_test_blind, %function
stack_test_blind:
    bti c
    str x30, [sp, #-16]!
    mov x9, x0
    mov x0, sp              // the hot end
    blr x9
    ldr x30, [sp], #16
    ret
    .size stack_test_blind, . - stack_test_blind

#endif

    .section .note.GNU-stack, "", %progbits
