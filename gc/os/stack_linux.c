#ifndef _GNU_SOURCE
#define _GNU_SOURCE // pthread_getattr_np
#endif

#include "os/stack.h"

#include "base/bits.h"
#include "os/error.h"
#include "os/memory.h"
#include "os/thread.h"

#include <pthread.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/resource.h>

// gcc may learn which registers a function leaves alone and let its callers
// keep values there.  Nothing may be learnt about the two frames below.
#if defined(__has_attribute)
#if __has_attribute(noipa)
#define STACK_OPAQUE __attribute__((noipa, noinline))
#endif
#endif
#ifndef STACK_OPAQUE
#define STACK_OPAQUE NOINLINE
#endif

// What comes after a call with this behind it is not a tail call.
#define STACK_STAY() __asm__ volatile("" ::: "memory")

// --- The hot end -----------------------------------------------------------

STACK_OPAQUE static void stack_call(void (*body)(const void *, void *),
                                    void *data) {
    const void *hot_end;
#if defined(__x86_64__)
    __asm__ volatile("movq %%rsp, %0" : "=r"(hot_end));
#elif defined(__aarch64__)
    __asm__ volatile("mov %0, sp" : "=r"(hot_end));
#else
    hot_end = __builtin_frame_address(0);
#endif
    body(hot_end, data); // K2: the callers and stack_spill lie above
    STACK_STAY();
}

STACK_OPAQUE void stack_spill(void (*body)(const void *, void *), void *data) {
    __builtin_unwind_init(); // K1
    stack_call(body, data);
    STACK_STAY();
}

// In assembly, and the whole of it, so that no compiler pushes a register
// before it is saved (K5).
#if defined(__x86_64__)
__asm__(".text\n.p2align 4\n.globl stack_save\n.hidden stack_save\n"
        ".type stack_save, @function\nstack_save:\n.cfi_startproc\nendbr64\n"
        "movq %rbx, (%rdi)\nmovq %rbp, 8(%rdi)\nmovq %r12, 16(%rdi)\n"
        "movq %r13, 24(%rdi)\nmovq %r14, 32(%rdi)\nmovq %r15, 40(%rdi)\n"
        "ret\n.cfi_endproc\n.size stack_save, . - stack_save\n");
#elif defined(__aarch64__)
__asm__(".text\n.p2align 2\n.globl stack_save\n.hidden stack_save\n"
        ".type stack_save, %function\nstack_save:\n.cfi_startproc\nhint #34\n"
        "stp x19, x20, [x0]\nstp x21, x22, [x0, #16]\n"
        "stp x23, x24, [x0, #32]\nstp x25, x26, [x0, #48]\n"
        "stp x27, x28, [x0, #64]\nstr x29, [x0, #80]\n"
        "stp d8, d9, [x0, #88]\nstp d10, d11, [x0, #104]\n"
        "stp d12, d13, [x0, #120]\nstp d14, d15, [x0, #136]\n"
        "ret\n.cfi_endproc\n.size stack_save, . - stack_save\n");
#endif

STACK_OPAQUE void stack_clear_below(void) {
    char below[STACK_CLEAR_BYTES];
    memset(below, 0, sizeof below);
    __asm__ volatile("" : : "r"(below) : "memory"); // it is read by nobody
}

// --- The cold end ----------------------------------------------------------

// glibc keeps the stack pointer that the kernel started the process with.
__attribute__((weak)) extern const void *const
    stack_at_start __asm__("__libc_stack_end");

const void *stack_cold_end(void) {
    if (&stack_at_start != NULL && stack_at_start != NULL) {
        return (const void *)bits_round_down((uintptr_t)stack_at_start,
                                             WORD_BYTES);
    }
    // The kernel puts sixteen random bytes above the arguments, which lie
    // above the first frame.
    int saved = error_save();
    uintptr_t random = getauxval(AT_RANDOM);
    error_restore(saved);
    return (const void *)bits_round_down(random, WORD_BYTES);
}

// Whether `here` lies on the stack that ends at cold_end: a child that was
// forked by another thread has the process's id and that thread's stack.
static bool stack_holds(const void *cold_end, const void *here) {
    size_t page = memory_page_bytes();
    uintptr_t at = bits_round_down((uintptr_t)here, page);
    for (; at < (uintptr_t)cold_end; at += page) {
        if (!memory_is_readable((const void *)at)) {
            return false;
        }
    }
    return (uintptr_t)here < (uintptr_t)cold_end;
}

bool stack_is_whole(const void *hot_end, const void *cold_end) {
    uintptr_t hot = (uintptr_t)hot_end;
    uintptr_t cold = (uintptr_t)cold_end;
    if (hot > cold) {
        return false;
    }
    int saved = error_save();
    struct rlimit limit;
    bool known = getrlimit(RLIMIT_STACK, &limit) == 0;
    error_restore(saved); // K4
    return !known || limit.rlim_cur == RLIM_INFINITY ||
           cold - hot <= limit.rlim_cur;
}

void stack_own_bounds(const void **lowest, const void **cold_end) {
    const void *main_end = stack_cold_end();
    *lowest = NULL;
    *cold_end = main_end;
    if (thread_id() == thread_process_id() &&
        stack_holds(main_end, &main_end)) {
        return;
    }
    int saved = error_save();
    pthread_attr_t attributes;
    void *start = NULL;
    size_t bytes = 0;
    if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
        (void)pthread_attr_getstack(&attributes, &start, &bytes);
        (void)pthread_attr_destroy(&attributes);
    }
    error_restore(saved); // K4
    uintptr_t end = bits_round_down((uintptr_t)start + bytes, WORD_BYTES);
    *lowest = start;
    *cold_end = start == NULL ? NULL : (const void *)end; // K7
}
