// wrap_vfork — vfork, as a safe region of the parent.
//
// The child runs on the parent's stack, in the frame of vfork's caller and
// below it, so what a function of C has put there is gone when the parent comes
// back.  Here the return address is the only such thing, and it waits in a
// register, of which parent and child have one each.

#if WRAP_LINKED
#define VFORK __wrap_vfork
#else
#define VFORK vfork
#endif

        .text
        .weak VFORK
        .hidden wrap_vfork_begin
        .hidden wrap_vfork_end

#if defined(__x86_64__)

        .p2align 4
        .type VFORK, @function
VFORK:
        .cfi_startproc
        endbr64
        subq $8, %rsp
        .cfi_adjust_cfa_offset 8
        movb $0, (%rsp)
        call wrap_vfork_begin
        testb %al, %al
        jz 1f
        movq %rsp, %rdi
        call loam_door_safe_enter@PLT
1:      movzbl (%rsp), %esi             // whether it is to be left
        addq $8, %rsp
        .cfi_adjust_cfa_offset -8
        popq %rdx                       // both survive the system call
        .cfi_adjust_cfa_offset -8
        .cfi_register %rip, %rdx
        movl $58, %eax                  // vfork
        syscall
        pushq %rdx
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %rip, 0
        testq %rax, %rax
        jz 2f
        movq %rax, %rdi
        subq $8, %rsp
        .cfi_adjust_cfa_offset 8
        call wrap_vfork_end
        addq $8, %rsp
        .cfi_adjust_cfa_offset -8
2:      ret
        .cfi_endproc
        .size VFORK, . - VFORK

#elif defined(__aarch64__)

        .p2align 2
        .type VFORK, %function
VFORK:
        .cfi_startproc
        hint #34
        stp x29, x30, [sp, #-32]!
        .cfi_def_cfa_offset 32
        .cfi_offset 29, -32
        .cfi_offset 30, -24
        strb wzr, [sp, #16]
        bl wrap_vfork_begin
        tbz w0, #0, 1f
        add x0, sp, #16
        bl loam_door_safe_enter
1:      ldrb w9, [sp, #16]              // whether it is to be left
        ldp x29, x30, [sp], #32         // all survive the system call
        .cfi_restore 29
        .cfi_restore 30
        .cfi_def_cfa_offset 0
        mov x0, #0x4111                 // CLONE_VM | CLONE_VFORK | SIGCHLD
        mov x1, #0
        mov x2, #0
        mov x3, #0
        mov x4, #0
        mov x8, #220                    // clone
        svc #0
        cbz x0, 2f
        mov w1, w9
        b wrap_vfork_end                // which returns to the caller
2:      ret
        .cfi_endproc
        .size VFORK, . - VFORK

#endif

        .section .note.GNU-stack, "", %progbits
