// Compiled code cannot wipe what lies right below its caller: its own frame
// stands there, with words in it that it never writes.  These are assembly,
// have no frame, and reach every word.
//
// The second is the first, and goes on to loam_collect in place of returning.

#include "support/scrub.h"

#if defined(__x86_64__)
#define SCRUB(name, end)                                                       \
    __asm__(".pushsection .text\n .globl " name "\n .type " name               \
            ", @function\n" name ":\n .cfi_startproc\n"                        \
            " movl $8192, %ecx\n leaq -8(%rsp), %rdi\n xorl %eax, %eax\n"      \
            "1: movq %rax, (%rdi)\n subq $8, %rdi\n decl %ecx\n jne 1b\n"      \
            " xorl %edx, %edx\n xorl %esi, %esi\n xorl %edi, %edi\n"           \
            " xorl %r8d, %r8d\n xorl %r9d, %r9d\n xorl %r10d, %r10d\n"         \
            " xorl %r11d, %r11d\n pxor %xmm0, %xmm0\n pxor %xmm1, %xmm1\n"     \
            " pxor %xmm2, %xmm2\n pxor %xmm3, %xmm3\n pxor %xmm4, %xmm4\n"     \
            " pxor %xmm5, %xmm5\n pxor %xmm6, %xmm6\n pxor %xmm7, %xmm7\n"     \
            " " end "\n .cfi_endproc\n .size " name ", .-" name                \
            "\n .popsection")
SCRUB("scrub_stack", "ret");
SCRUB("scrub_collect", "jmp loam_collect@PLT");
#elif defined(__aarch64__)
#define SCRUB(name, end)                                                       \
    __asm__(".pushsection .text\n .globl " name "\n .type " name               \
            ", %function\n" name ":\n .cfi_startproc\n"                        \
            " mov x0, sp\n mov x1, #8192\n"                                    \
            "1: str xzr, [x0, #-8]!\n subs x1, x1, #1\n b.ne 1b\n"             \
            " mov x0, xzr\n mov x2, xzr\n mov x3, xzr\n mov x4, xzr\n"         \
            " mov x5, xzr\n mov x6, xzr\n mov x7, xzr\n mov x8, xzr\n"         \
            " mov x9, xzr\n mov x10, xzr\n mov x11, xzr\n mov x12, xzr\n"      \
            " mov x13, xzr\n mov x14, xzr\n mov x15, xzr\n mov x16, xzr\n"     \
            " mov x17, xzr\n movi v0.2d, #0\n movi v1.2d, #0\n"                \
            " movi v2.2d, #0\n movi v3.2d, #0\n movi v4.2d, #0\n"              \
            " movi v5.2d, #0\n movi v6.2d, #0\n movi v7.2d, #0\n"              \
            " " end "\n .cfi_endproc\n .size " name ", .-" name                \
            "\n .popsection")
SCRUB("scrub_stack", "ret");
SCRUB("scrub_collect", "b loam_collect");
#else
#error "scrub: no code for this machine"
#endif
