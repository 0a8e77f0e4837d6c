// kernel — a system call and nothing else.
//
// The C library's way into the system writes errno, which lies in thread-local
// storage, and some of its functions are cancellation points, are replaced by
// sanitizers, or are wrapped by ourselves.  A handler that stops a thread at
// any instruction, and a process that only borrows this one's memory, can have
// none of that.  This is the bare call: it goes in, it comes out.
//
// Invariants:
//   N1  answer  what the system says is returned: -4095..-1 is an error's
//               number, negated
//   N2  bare    errno, thread-local storage and cancellation are not touched
//
// Any thread, any state; async-signal-safe.
// Design, alternatives and measurements: docs/design/os/kernel.md

#ifndef OS_KERNEL_H
#define OS_KERNEL_H

#include "base/defs.h"

#if !defined(__x86_64__) && !defined(__aarch64__)
#include <errno.h>
#include <unistd.h>
#endif

// A system call of at most four arguments; give 0 for those it does not take.
static inline long kernel_call(long number, uintptr_t a, uintptr_t b,
                               uintptr_t c, uintptr_t d) {
#if defined(__x86_64__)
    long said = number;
    register uintptr_t fourth __asm__("r10") = d;
    __asm__ volatile("syscall"
                     : "+a"(said)
                     : "D"(a), "S"(b), "d"(c), "r"(fourth)
                     : "rcx", "r11", "memory");
    return said;
#elif defined(__aarch64__)
    register long which __asm__("x8") = number;
    register uintptr_t first __asm__("x0") = a;
    register uintptr_t second __asm__("x1") = b;
    register uintptr_t third __asm__("x2") = c;
    register uintptr_t fourth __asm__("x3") = d;
    __asm__ volatile("svc 0"
                     : "+r"(first)
                     : "r"(which), "r"(second), "r"(third), "r"(fourth)
                     : "memory");
    return (long)first;
#else
    int saved = errno; // N2, as well as it can be had here
    long said = syscall(number, a, b, c, d);
    said = said == -1 ? -errno : said;
    errno = saved;
    return said;
#endif
}

#endif
