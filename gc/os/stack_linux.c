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

const void *stack_own_cold_end(void) {
    const void *cold_end = stack_cold_end();
    if (thread_id() == thread_process_id() &&
        stack_holds(cold_end, &cold_end)) {
        return cold_end;
    }
    int saved = error_save();
    pthread_attr_t attributes;
    void *lowest = NULL;
    size_t bytes = 0;
    if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
        (void)pthread_attr_getstack(&attributes, &lowest, &bytes);
        (void)pthread_attr_destroy(&attributes);
    }
    error_restore(saved); // K4
    if (lowest == NULL) {
        return NULL;
    }
    return (const void *)bits_round_down((uintptr_t)lowest + bytes, WORD_BYTES);
}
