#ifndef _GNU_SOURCE
#define _GNU_SOURCE // clone, PTRACE_SEIZE
#endif

#include "os/tracer.h"

#include <elf.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>

#include "os/error.h"
#include "os/kernel.h"
#include "os/lock.h"
#include "os/suspend.h"

#define TRACER_STACK_BYTES ((size_t)32 * 1024)
#define TRACER_MOST        64 // threads it holds at a time

enum tracer_word { TRACER_NONE, TRACER_STOP, TRACER_FREE, TRACER_END };

static struct {
    uint32_t order;           // enum tracer_word; futex
    uint32_t done;            // 1 when the order was carried out; futex
    bool stopped;             // the answer to TRACER_STOP
    bool refused;             // it was no, for want of permission
    bool allowed;             // we asked for the permission; to be taken back
    uint32_t helper;          // its process id; 0: there is none
    uint32_t thread;          // to be stopped
    struct tracer_file *file; // to be filled
    size_t count;             // of threads that were told to stop
    uint32_t held[TRACER_MOST];
    _Alignas(16) char stack[TRACER_STACK_BYTES];
} tracer;

// --- The helper: this process's memory, another process --------------------

static long tracer_trace(long request, uint32_t thread, uintptr_t address,
                         uintptr_t data) {
    return kernel_call(SYS_ptrace, (uintptr_t)request, thread, address, data);
}

// Reads one set of registers; how many words there were.
static size_t tracer_read(uint32_t thread, uintptr_t set, uintptr_t *words,
                          size_t count) {
    struct iovec io = {words, count * WORD_BYTES};
    if (tracer_trace(PTRACE_GETREGSET, thread, set, (uintptr_t)&io) != 0) {
        return 0;
    }
    return io.iov_len / WORD_BYTES;
}

#ifndef NT_X86_XSTATE
#define NT_X86_XSTATE 0x202
#endif

// V2
static bool tracer_fill(uint32_t thread, struct tracer_file *file) {
    file->general_count =
        tracer_read(thread, NT_PRSTATUS, file->general, TRACER_GENERAL_WORDS);
    if (file->general_count == 0) {
        return false;
    }
#if defined(__x86_64__)
    struct user_regs_struct registers;
    memcpy(&registers, file->general, sizeof registers);
    file->stack_pointer = registers.rsp;
    file->thread_pointer = registers.fs_base;
    file->vector_count =
        tracer_read(thread, NT_X86_XSTATE, file->vector, TRACER_VECTOR_WORDS);
#elif defined(__aarch64__)
    struct user_regs_struct registers;
    memcpy(&registers, file->general, sizeof registers);
    file->stack_pointer = registers.sp;
    uintptr_t pointer = 0;
    (void)tracer_read(thread, NT_ARM_TLS, &pointer, 1);
    file->thread_pointer = pointer;
#endif
    if (file->vector_count == 0) {
        file->vector_count =
            tracer_read(thread, NT_FPREGSET, file->vector, TRACER_VECTOR_WORDS);
    }
    return true;
}

static void tracer_nap(void) {
    struct timespec nap = {.tv_nsec = 200000};
    (void)kernel_call(SYS_nanosleep, (uintptr_t)&nap, 0, 0, 0);
}

// Waits for a thread to stop; false when it does not, or is gone (V3).
static bool tracer_await(uint32_t thread) {
    for (size_t nap = 0; nap < TRACER_PATIENCE_MS * 5; nap++) {
        int status = 0;
        long got = kernel_call(SYS_wait4, thread, (uintptr_t)&status,
                               __WALL | WNOHANG, 0);
        if (got == (long)thread) {
            return WIFSTOPPED(status);
        }
        if (got < 0 && got != -EINTR) {
            return false;
        }
        if (nap != 0 || got != 0) {
            tracer_nap();
        }
    }
    return false;
}

static bool tracer_is_held(uint32_t thread) {
    for (size_t i = 0; i < tracer.count; i++) {
        if (tracer.held[i] == thread) {
            return true;
        }
    }
    return false;
}

static bool tracer_hold(uint32_t thread, struct tracer_file *file) {
    if (!tracer_is_held(thread)) {
        if (tracer.count == TRACER_MOST) {
            return false;
        }
        long said = tracer_trace(PTRACE_SEIZE, thread, 0, 0);
        if (said != 0) {
            tracer.refused = said == -EPERM;
            return false;
        }
        tracer.held[tracer.count++] = thread;
        (void)tracer_trace(PTRACE_INTERRUPT, thread, 0, 0);
    } else if (tracer_fill(thread, file)) {
        return true; // it was too slow the last time, and stands now
    }
    return tracer_await(thread) && tracer_fill(thread, file);
}

static void tracer_let_go(uint32_t thread) {
    size_t kept = 0;
    for (size_t i = 0; i < tracer.count; i++) {
        if (tracer.held[i] == thread) {
            (void)tracer_trace(PTRACE_DETACH, thread, 0, 0);
        } else {
            tracer.held[kept++] = tracer.held[i];
        }
    }
    tracer.count = kept;
}

// Carries out one order; false: that was the last.
static bool tracer_obey(void) {
    uint32_t order = __atomic_load_n(&tracer.order, __ATOMIC_ACQUIRE);
    if (order == TRACER_NONE) {
        (void)lock_wait(&tracer.order, TRACER_NONE, 0);
        return true;
    }
    if (order == TRACER_END) {
        return false;
    }
    if (order == TRACER_STOP) {
        tracer.stopped = tracer_hold(tracer.thread, tracer.file);
    } else {
        tracer_let_go(tracer.thread);
    }
    __atomic_store_n(&tracer.order, TRACER_NONE, __ATOMIC_RELAXED);
    __atomic_store_n(&tracer.done, 1, __ATOMIC_RELEASE);
    (void)lock_wake(&tracer.done, 1);
    return true;
}

static int tracer_run(void *parent) {
    // If this process dies the helper must not stay.
    (void)kernel_call(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0);
    if (kernel_call(SYS_getppid, 0, 0, 0, 0) != (long)(uintptr_t)parent) {
        return 0;
    }
    while (tracer_obey()) {
    }
    for (size_t i = 0; i < tracer.count; i++) { // V4
        (void)tracer_trace(PTRACE_DETACH, tracer.held[i], 0, 0);
    }
    return 0;
}

// --- This process ----------------------------------------------------------

static bool tracer_start(void) {
    tracer.order = TRACER_NONE;
    tracer.count = 0;
    uintptr_t self = (uintptr_t)kernel_call(SYS_getpid, 0, 0, 0, 0);
    // No signal is sent when it ends (V5), and none may interrupt it.
    uint64_t mask = suspend_block();
    int saved = error_save();
    int helper =
        clone(tracer_run, tracer.stack + sizeof tracer.stack,
              CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_UNTRACED, (void *)self);
    error_restore(saved);
    suspend_unblock(mask);
    tracer.helper = helper < 0 ? 0 : (uint32_t)helper;
    return helper > 0;
}

// Whether the helper is there, though it may be a zombie.
static bool tracer_is_there(void) {
    return kernel_call(SYS_wait4, tracer.helper, 0, __WALL | WNOHANG, 0) == 0;
}

// Has the helper carry out an order about a thread.
static bool tracer_order(enum tracer_word order, uint32_t thread,
                         struct tracer_file *file) {
    tracer.thread = thread;
    tracer.file = file;
    tracer.stopped = false;
    tracer.refused = false;
    __atomic_store_n(&tracer.done, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&tracer.order, order, __ATOMIC_RELEASE);
    (void)lock_wake(&tracer.order, 1);
    while (__atomic_load_n(&tracer.done, __ATOMIC_ACQUIRE) == 0) {
        if (!lock_wait(&tracer.done, 0, 100000000) && !tracer_is_there()) {
            tracer.helper = 0; // somebody killed it: nobody is held now
            return false;
        }
    }
    return tracer.stopped;
}

bool tracer_stop(uint32_t thread, struct tracer_file *file) {
    memset(file, 0, sizeof *file);
    if (tracer.helper == 0 && !tracer_start()) {
        tracer.refused = true;
        return false;
    }
    if (tracer_order(TRACER_STOP, thread, file)) {
        return true;
    }
    if (!tracer.refused || tracer.allowed || tracer.helper == 0) {
        return false;
    }
    // Some systems let only a parent trace its children, unless they agree.
    tracer.allowed = true;
    return kernel_call(SYS_prctl, PR_SET_PTRACER, tracer.helper, 0, 0) == 0 &&
           tracer_order(TRACER_STOP, thread, file);
}

void tracer_free(uint32_t thread) {
    if (tracer.helper != 0) {
        (void)tracer_order(TRACER_FREE, thread, NULL);
    }
}

bool tracer_was_refused(void) {
    return tracer.refused;
}

void tracer_end(void) {
    if (tracer.helper != 0) {
        __atomic_store_n(&tracer.order, TRACER_END, __ATOMIC_RELEASE);
        (void)lock_wake(&tracer.order, 1);
        while (kernel_call(SYS_wait4, tracer.helper, 0, __WALL, 0) == -EINTR) {
        }
        tracer.helper = 0;
    }
    if (tracer.allowed) {
        (void)kernel_call(SYS_prctl, PR_SET_PTRACER, 0, 0, 0);
        tracer.allowed = false;
    }
}

void tracer_forked(void) {
    tracer.helper = 0;
    tracer.allowed = false;
}

const void *tracer_memory(size_t *bytes) {
    *bytes = sizeof tracer;
    return &tracer;
}
