#ifndef _GNU_SOURCE
#define _GNU_SOURCE // SYS_tgkill, SA_RESTORER
#endif

#include "os/suspend.h"

#include "base/check.h"
#include "os/kernel.h"
#include "os/lock.h"
#include "os/thread.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>

#ifndef SA_RESTORER
#define SA_RESTORER 0x04000000
#endif

#define SUSPEND_CANCEL 32 // the C library's, for pthread_cancel
#define SUSPEND_SETXID 33 // the C library's, for setuid and its like

// A signal's action as the system takes it, which is not as the library does.
struct suspend_action {
    uintptr_t handler;
    unsigned long flags;
    uintptr_t restorer;
    uint64_t mask; // bit n-1 is signal n
};

#define SUSPEND_SLOTS 8 // actions that a reader may be behind

static struct {
    int signal;         // 0 until suspend_install
    uint32_t process;   // this one's number, as of the last stop
    suspend_bell *bell; // constant from then on
    struct lock lock;   // guards `newest` and the slot after it
    uint32_t newest;    // slots[newest % SUSPEND_SLOTS] is the program's
    struct sigaction slots[SUSPEND_SLOTS];
} suspend;

// Where a handler returns to, and the only instructions by which a debugger or
// an unwinder knows the frame of a signal: these bytes and no others.
#if defined(__x86_64__)
void suspend_return(void);
__asm__(".text\n"
        ".balign 16\n"
        "nop\n" // an unwinder looks up the byte before
        ".globl suspend_return\n"
        ".hidden suspend_return\n"
        ".type suspend_return, @function\n"
        "suspend_return:\n"
        "movq $15, %rax\n"
        "syscall\n"
        ".size suspend_return, .-suspend_return\n");
#define SUSPEND_RETURN ((uintptr_t)suspend_return)
#define SUSPEND_FLAGS  SA_RESTORER
#else
#define SUSPEND_RETURN ((uintptr_t)0) // the kernel has its own
#define SUSPEND_FLAGS  0
#endif

static uint64_t suspend_bit(int signal) {
    return (uint64_t)1 << (signal - 1);
}

// Everything that can be held back for a while.  A fault's signal cannot: held
// back, it kills.  setuid waits for all threads, and its handler is a system
// call.  Cancellation must wait: it would run the program's clean-up.
static uint64_t suspend_all(void) {
    return ~(suspend_bit(SIGSEGV) | suspend_bit(SIGBUS) | suspend_bit(SIGILL) |
             suspend_bit(SIGFPE) | suspend_bit(SIGTRAP) | suspend_bit(SIGSYS) |
             suspend_bit(SIGABRT) | suspend_bit(SUSPEND_SETXID));
}

int suspend_default(void) {
    return SIGURG;
}

NO_SANITIZE int suspend_number(void) {
    int signal = __atomic_load_n(&suspend.signal, __ATOMIC_RELAXED);
    return signal != 0 ? signal : suspend_default();
}

// --- The program's own action ----------------------------------------------

static uint64_t suspend_mask_of(const struct sigaction *action) {
    uint64_t mask;
    memcpy(&mask, &action->sa_mask, sizeof mask);
    return mask;
}

static void suspend_read_chained(struct sigaction *action) {
    uint32_t before, after;
    do {
        before = __atomic_load_n(&suspend.newest, __ATOMIC_ACQUIRE);
        *action = suspend.slots[before % SUSPEND_SLOTS];
        // Not a load: that might be made before the slot is read.
        after = __atomic_fetch_add(&suspend.newest, 0, __ATOMIC_ACQ_REL);
    } while (after - before >= SUSPEND_SLOTS - 1);
}

void suspend_set_chained(const struct sigaction *action,
                         struct sigaction *old) {
    // No handler may find this thread with the lock taken.
    uint64_t mask = suspend_block();
    lock_acquire(&suspend.lock);
    struct sigaction before = suspend.slots[suspend.newest % SUSPEND_SLOTS];
    if (action != NULL) {
        suspend.slots[(suspend.newest + 1) % SUSPEND_SLOTS] = *action;
        __atomic_store_n(&suspend.newest, suspend.newest + 1, __ATOMIC_RELEASE);
    }
    lock_release(&suspend.lock);
    suspend_unblock(mask);
    if (old != NULL) {
        *old = before;
    }
}

// Z3.  The mask is that of the interrupted code and what the program asked to
// be held back during its handler; the system restores the former.
static void suspend_chain(int signal, siginfo_t *info, ucontext_t *context) {
    struct sigaction action;
    suspend_read_chained(&action);
    if (action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN) {
        return;
    }
    if (((unsigned)action.sa_flags & (unsigned)SA_RESETHAND) != 0) {
        struct sigaction none = {.sa_flags = 0};
        suspend_set_chained(&none, NULL);
    }
    uint64_t mask;
    memcpy(&mask, &context->uc_sigmask, sizeof mask);
    mask |= suspend_mask_of(&action);
    if ((action.sa_flags & SA_NODEFER) == 0) {
        mask |= suspend_bit(signal);
    }
    suspend_unblock(mask);
    if ((action.sa_flags & SA_SIGINFO) != 0) {
        action.sa_sigaction(signal, info, context);
    } else {
        action.sa_handler(signal);
    }
}

// --- The handler -----------------------------------------------------------

static void suspend_handle(int signal, siginfo_t *info, void *context) {
    // Where too many signals wait the system keeps no word on who sent them.
    bool is_lost = info->si_code == SI_USER && info->si_pid == 0;
    struct suspend_here here = {
        .hot_end = __builtin_frame_address(0), // Z1: the system's frame is
        .thread = thread_id(),                 // above this one
        .ours = is_lost || (info->si_code == SI_TKILL &&
                            (uint32_t)info->si_pid == suspend.process),
    };
    if (!suspend.bell(&here)) {
        suspend_chain(signal, info, context);
    }
}

static long suspend_action(int signal, const struct suspend_action *action,
                           struct suspend_action *old) {
    return kernel_call(SYS_rt_sigaction, (uintptr_t)signal, (uintptr_t)action,
                       (uintptr_t)old, sizeof action->mask);
}

// Puts our handler in; false when it was there or the system refuses.
static bool suspend_put(void) {
    struct suspend_action ours = {
        .handler = (uintptr_t)suspend_handle,
        .flags = SA_SIGINFO | SA_RESTART | SUSPEND_FLAGS,
        .restorer = SUSPEND_RETURN,
        .mask = suspend_all(), // Z2
    };
    struct suspend_action was;
    if (suspend_action(suspend.signal, &ours, &was) != 0 ||
        was.handler == ours.handler) {
        return false;
    }
    struct sigaction chained = {
        .sa_flags = (int)(was.flags & ~(unsigned long)SA_RESTORER)};
    memcpy(&chained.sa_handler, &was.handler, sizeof was.handler);
    memcpy(&chained.sa_mask, &was.mask, sizeof was.mask);
    suspend_set_chained(&chained, NULL);
    return true;
}

bool suspend_install(int signal, suspend_bell *bell) {
    if (signal <= 0 || signal >= 64 ||
        (suspend_all() & suspend_bit(signal)) == 0 || signal == SIGKILL ||
        signal == SIGSTOP || signal == SUSPEND_CANCEL) {
        return false;
    }
    suspend.bell = bell;
    suspend.signal = signal;
    suspend.process = thread_process_id();
    if (suspend_put()) {
        return true;
    }
    suspend.signal = 0;
    return false;
}

bool suspend_refresh(void) {
    struct suspend_action now;
    __atomic_store_n(&suspend.process, thread_process_id(), __ATOMIC_RELAXED);
    if (suspend_action(suspend.signal, NULL, &now) == 0 &&
        now.handler == (uintptr_t)suspend_handle) {
        return true;
    }
    (void)suspend_put(); // Z4
    return false;
}

// --- Sending, blocking -----------------------------------------------------

enum suspend_sent suspend_send(uint32_t thread) {
    ASSERT(suspend.signal != 0);
    long said = kernel_call(SYS_tgkill, suspend.process, thread,
                            (uintptr_t)suspend.signal, 0);
    if (said == -ESRCH) {
        return SUSPEND_GONE;
    }
    if (said == -EAGAIN) {
        return SUSPEND_SHORT;
    }
    return said == 0 ? SUSPEND_SENT : SUSPEND_REFUSED;
}

bool suspend_is_thread(uint32_t thread) {
    return kernel_call(SYS_tgkill, thread_process_id(), thread, 0, 0) != -ESRCH;
}

bool suspend_is_in(uint64_t mask) {
    return (mask & suspend_bit(suspend.signal)) != 0;
}

static uint64_t suspend_block_set(uint64_t set) {
    uint64_t was = 0;
    (void)kernel_call(SYS_rt_sigprocmask, SIG_BLOCK, (uintptr_t)&set,
                      (uintptr_t)&was, sizeof set);
    return was;
}

uint64_t suspend_block(void) {
    return suspend_block_set(suspend_all());
}

uint64_t suspend_block_faults(void) {
    return suspend_block_set(UINT64_MAX);
}

void suspend_unblock(uint64_t mask) {
    (void)kernel_call(SYS_rt_sigprocmask, SIG_SETMASK, (uintptr_t)&mask, 0,
                      sizeof mask);
}

void suspend_rest(uint64_t mask, uint64_t ns) {
    uint32_t never = 0;
    suspend_unblock(mask);
    (void)lock_wait(&never, 0, ns);
    (void)suspend_block();
}

bool suspend_find_alternate(const void **lowest, const void **end) {
    stack_t stack;
    if (kernel_call(SYS_sigaltstack, 0, (uintptr_t)&stack, 0, 0) != 0 ||
        (stack.ss_flags & SS_ONSTACK) == 0) {
        return false;
    }
    *lowest = stack.ss_sp;
    *end = (const char *)stack.ss_sp + stack.ss_size;
    return true;
}

void suspend_forked(void) {
    suspend.process = thread_process_id();
    suspend.lock.word = 0;
}
