// wrap_action — the program's handlers of signals, called by one of ours.
//
// A handler may interrupt a wait.  The thread is in a safe region then, nobody
// stops it, and the handler is program code: it would use objects while a
// collection goes on.  So the system is given one function for all handlers,
// wrap_handle, which leaves the region, calls the program's handler, and enters
// the region again.  Which handler that is stands in a table, one word a
// signal, changed by one exchange: an action may be set in a handler, too.
//
//     wrap_actions[n]   [ told | info | ... address of the handler ... ]
//
// Flags and mask are the system's to keep.  What is ours in them (SA_SIGINFO,
// and our signal's bit in the mask) is in the word's high bits as the program
// set it, so that a program that asks is told the truth.
//
// While a thread waits in a call that can be cancelled, the C library has it
// cancelled at any instruction: in a handler over the wait, too, who may be in
// the middle of an allocation.  So the signal by which the library cancels is
// held back in every handler.

#include "wrap.h"

#include <string.h>

#define WRAP_INFO    ((uintptr_t)1 << 63) // the program set SA_SIGINFO
#define WRAP_MASKED  ((uintptr_t)1 << 62) // it set our signal in the mask
#define WRAP_ADDRESS (~(WRAP_INFO | WRAP_MASKED))

#define WRAP_CANCEL 32 // the library's signal, whose name it keeps to itself

static uintptr_t wrap_actions[NSIG]; // atomic

// Puts the signal of cancellation into a mask, or takes it out: the library's
// own functions refuse to.
static void wrap_hold_cancel(sigset_t *mask, bool held) {
    uint64_t bits;
    memcpy(&bits, mask, sizeof bits);
    uint64_t bit = (uint64_t)1 << (WRAP_CANCEL - 1);
    bits = held ? bits | bit : bits & ~bit;
    memcpy(mask, &bits, sizeof bits);
}

// The system's handler for each signal that the program handles.  A handler
// that was set without SA_SIGINFO is called alike: it reads one argument.
static void wrap_handle(int number, siginfo_t *info, void *context) {
    uintptr_t word = __atomic_load_n(&wrap_actions[number], __ATOMIC_ACQUIRE);
    void (*handler)(int, siginfo_t *, void *) =
        (void (*)(int, siginfo_t *, void *))(word & WRAP_ADDRESS);
    if (wrap_is_vforked()) {
        handler(number, info, context); // W8
        return;
    }
    struct loam_door_handler was;
    loam_door_handler_enter(&was); // W5
    handler(number, info, context);
    loam_door_handler_leave(&was);
}

static bool wrap_is_number(int number) {
    return number > 0 && number < NSIG;
}

static bool wrap_is_default(sighandler_t handler) {
    return handler == SIG_DFL || handler == SIG_IGN || handler == SIG_ERR ||
           handler == SIG_HOLD;
}

static sighandler_t wrap_address(uintptr_t word) {
    return (sighandler_t)(word & WRAP_ADDRESS);
}

// What the program once set, in the place of what the system was given.
static void wrap_reveal(struct sigaction *old, uintptr_t word) {
    if (old == NULL || old->sa_sigaction != wrap_handle) {
        return; // W4: set behind our back, or none
    }
    old->sa_handler = wrap_address(word);
    wrap_hold_cancel(&old->sa_mask, false);
    if ((word & WRAP_INFO) == 0) {
        old->sa_flags &= ~SA_SIGINFO;
    }
    if ((word & WRAP_MASKED) != 0) {
        (void)sigaddset(&old->sa_mask, loam_door_signal());
    }
}

// The action as the system is to have it; the table's word for it in *word.
static void wrap_disguise(struct sigaction *action, uintptr_t *word) {
    int ours = loam_door_signal();
    *word = (uintptr_t)action->sa_handler;
    if ((action->sa_flags & SA_SIGINFO) != 0) {
        *word |= WRAP_INFO;
    }
    if (sigismember(&action->sa_mask, ours) == 1) {
        *word |= WRAP_MASKED;
        (void)sigdelset(&action->sa_mask, ours); // W3
    }
    wrap_hold_cancel(&action->sa_mask, true);
    action->sa_sigaction = wrap_handle;
    action->sa_flags |= SA_SIGINFO;
}

// Sets the system's action, or that which the collector's handler goes on to.
static int wrap_install(int number, const struct sigaction *action,
                        struct sigaction *old) {
    if (number == loam_door_signal() && !wrap_is_vforked() &&
        loam_door_chain(action, old)) {
        return 0;
    }
    return WRAP_REAL(sigaction)(number, action, old);
}

// A child of vfork has handlers of its own in the system, and its parent's
// table: what it sets goes to the system as it is (W8).
static int wrap_set(int number, const struct sigaction *action,
                    struct sigaction *old) {
    if (!wrap_is_number(number)) {
        return WRAP_REAL(sigaction)(number, action, old);
    }
    uintptr_t *slot = &wrap_actions[number];
    uintptr_t before = __atomic_load_n(slot, __ATOMIC_ACQUIRE);
    if (action == NULL || wrap_is_default(action->sa_handler) ||
        wrap_is_vforked()) {
        int done = wrap_install(number, action, old);
        if (done == 0) {
            wrap_reveal(old, before);
        }
        return done;
    }
    struct sigaction given = *action;
    uintptr_t word;
    wrap_disguise(&given, &word);
    // First the table: the system may call at once.
    before = __atomic_exchange_n(slot, word, __ATOMIC_ACQ_REL);
    int done = wrap_install(number, &given, old);
    if (done != 0) {
        (void)__atomic_compare_exchange_n(slot, &word, before, false,
                                          __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
        return done;
    }
    wrap_reveal(old, before);
    return 0;
}

WRAP_SHOWN int WRAP(sigaction)(int number,
                               const struct sigaction *restrict action,
                               struct sigaction *restrict old) {
    return wrap_set(number, action, old);
}

WRAP_SHOWN int WRAP(__sigaction)(int number, const struct sigaction *action,
                                 struct sigaction *old) {
    return wrap_set(number, action, old);
}

// --- The older ways ----------------------------------------------------

// The action of our signal is set by the collector alone.
static sighandler_t wrap_signal_ours(int number, sighandler_t handler,
                                     int flags) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    struct sigaction old;
    (void)sigemptyset(&action.sa_mask);
    if (wrap_set(number, &action, &old) != 0) {
        return SIG_ERR;
    }
    return old.sa_handler;
}

// These give no mask.
static void wrap_hold_cancel_of(int number) {
    struct sigaction action;
    if (WRAP_REAL(sigaction)(number, NULL, &action) == 0 &&
        action.sa_sigaction == wrap_handle) {
        wrap_hold_cancel(&action.sa_mask, true);
        (void)WRAP_REAL(sigaction)(number, &action, NULL);
    }
}

// Calls one of them with our handler in the place of the program's: each has
// flags of its own, and one a state (siginterrupt).
static sighandler_t wrap_signal(int number, sighandler_t handler, int flags,
                                sighandler_t (*real)(int, sighandler_t)) {
    if (number == loam_door_signal() && handler != SIG_HOLD &&
        handler != SIG_ERR && !wrap_is_vforked()) {
        return wrap_signal_ours(number, handler, flags);
    }
    sighandler_t ours = (sighandler_t)(uintptr_t)wrap_handle;
    bool is_plain = !wrap_is_number(number) || wrap_is_default(handler) ||
                    wrap_is_vforked();
    uintptr_t word = (uintptr_t)handler;
    uintptr_t before = 0;
    if (wrap_is_number(number)) {
        uintptr_t *slot = &wrap_actions[number];
        before = is_plain ? __atomic_load_n(slot, __ATOMIC_ACQUIRE)
                          : __atomic_exchange_n(slot, word, __ATOMIC_ACQ_REL);
    }
    sighandler_t old = real(number, is_plain ? handler : ours);
    if (old == SIG_ERR && !is_plain) {
        (void)__atomic_compare_exchange_n(&wrap_actions[number], &word, before,
                                          false, __ATOMIC_ACQ_REL,
                                          __ATOMIC_RELAXED);
    }
    if (old != SIG_ERR && !is_plain) {
        wrap_hold_cancel_of(number);
    }
    return old == ours ? wrap_address(before) : old;
}

WRAP_SHOWN sighandler_t WRAP(signal)(int number, sighandler_t handler) {
    return wrap_signal(number, handler, SA_RESTART, WRAP_REAL(signal));
}

WRAP_SHOWN sighandler_t WRAP(bsd_signal)(int number, sighandler_t handler) {
    return wrap_signal(number, handler, SA_RESTART, WRAP_REAL(bsd_signal));
}

WRAP_SHOWN sighandler_t WRAP(ssignal)(int number, sighandler_t handler) {
    return wrap_signal(number, handler, SA_RESTART, WRAP_REAL(ssignal));
}

#define WRAP_ONCE ((int)SA_RESETHAND | SA_NODEFER)

WRAP_SHOWN sighandler_t WRAP(sysv_signal)(int number, sighandler_t handler) {
    return wrap_signal(number, handler, WRAP_ONCE, WRAP_REAL(sysv_signal));
}

WRAP_SHOWN sighandler_t WRAP(__sysv_signal)(int number, sighandler_t handler) {
    return wrap_signal(number, handler, WRAP_ONCE, WRAP_REAL(__sysv_signal));
}

WRAP_SHOWN sighandler_t WRAP(sigset)(int number, sighandler_t handler) {
    if (number == loam_door_signal() && handler == SIG_HOLD) {
        handler = SIG_ERR; // W3; refused as an action that does not exist
    }
    return wrap_signal(number, handler, 0, WRAP_REAL(sigset));
}

WRAP_SHOWN int WRAP(sigignore)(int number) {
    if (number == loam_door_signal()) {
        return wrap_signal_ours(number, SIG_IGN, 0) == SIG_ERR ? -1 : 0;
    }
    return WRAP_REAL(sigignore)(number);
}

// Our own handler's calls are always begun again.
WRAP_SHOWN int WRAP(siginterrupt)(int number, int interrupts) {
    return number == loam_door_signal()
               ? 0
               : WRAP_REAL(siginterrupt)(number, interrupts);
}
