// malloc_dlopen — a library that is to prefer its own names.
//
// RTLD_DEEPBIND has a library look for names in what it was linked with before
// it looks where everybody does: it finds the C library's malloc and not the
// one in front.  What it then frees of Loam's, or lends to others, is another
// allocator's; php loads its modules so.  The flag is taken out.
//
// The loader asks for the caller's address, and looks where that library would
// look: so this jumps on, and leaves no frame.

#define DEEPBIND 8

        .section .note.GNU-stack, "", %progbits
        .text
        .globl        dlopen
        .type        dlopen, %function

#if defined(__x86_64__)
dlopen:
        .cfi_startproc
        andl        $~DEEPBIND, %esi
        movq        malloc_dlopen(%rip), %rax
        testq        %rax, %rax
        je        1f
        jmp        *%rax
1:        pushq        %rdi
        .cfi_adjust_cfa_offset 8
        pushq        %rsi
        .cfi_adjust_cfa_offset 8
        subq        $8, %rsp
        .cfi_adjust_cfa_offset 8
        call        malloc_find_dlopen
        addq        $8, %rsp
        .cfi_adjust_cfa_offset -8
        popq        %rsi
        .cfi_adjust_cfa_offset -8
        popq        %rdi
        .cfi_adjust_cfa_offset -8
        jmp        *%rax
        .cfi_endproc
#elif defined(__aarch64__)
dlopen:
        .cfi_startproc
        and        w1, w1, #~DEEPBIND
        adrp        x16, malloc_dlopen
        ldr        x16, [x16, #:lo12:malloc_dlopen]
        cbz        x16, 1f
        br        x16
1:        stp        x29, x30, [sp, #-32]!
        .cfi_adjust_cfa_offset 32
        .cfi_offset 30, -24
        stp        x0, x1, [sp, #16]
        bl        malloc_find_dlopen
        mov        x16, x0
        ldp        x0, x1, [sp, #16]
        ldp        x29, x30, [sp], #32
        .cfi_adjust_cfa_offset -32
        .cfi_restore 30
        br        x16
        .cfi_endproc
#else
#error "dlopen: no code for this machine"
#endif
        .size        dlopen, . - dlopen
