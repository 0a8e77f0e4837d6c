// suspend — the signal that stops a thread.
//
// A thread of the program is stopped by interrupting it: a signal is sent to
// it, and its handler does not return before it may go on.  This module owns
// the signal; what a stop is, and who takes part in it, the bell decides that
// is rung in the handler ("suspended here").
//
//     the thread's stack    [ frames of the program                ]
//                           [ every register, written by the system ]
//         here->hot_end ->  [ the handler's frame                   ]
//
// The signal may be used by the program too.  What was not sent by us goes on
// to the program's own handler, with the mask that it asked for.
//
// Invariants:
//   Z1  registers  every register the thread had when it was interrupted lies
//                  on its stack at or above here->hot_end
//   Z2  quiet      no signal handler of the program runs in a thread while the
//                  bell does, and none between suspend_block and its end
//   Z3  chained    a signal that the bell says was not for it is given to the
//                  handler that the program set, before or after ours
//   Z4  held       after suspend_refresh the system's handler is ours, and
//                  what stood in its place is the one to be chained
//   Z5  errno      errno is as the interrupted code left it
//
// Any thread; async-signal-safe but for suspend_install.  The handler and what
// it calls touch no thread-local storage.
// Design, alternatives and measurements: docs/design/os/suspend.md

#ifndef OS_SUSPEND_H
#define OS_SUSPEND_H

#include "base/defs.h"

struct sigaction; // of <signal.h>

// ThreadSanitizer puts signals off for as long as it likes: there threads stop
// only where they ask whether they should.
#if defined(__SANITIZE_THREAD__)
#define SUSPEND_COOPERATIVE 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SUSPEND_COOPERATIVE 1
#endif
#endif
#ifndef SUSPEND_COOPERATIVE
#define SUSPEND_COOPERATIVE 0
#endif

// Below the stack pointer a function may keep as much without saying so.
#if defined(__x86_64__)
#define SUSPEND_RED_ZONE_BYTES ((uintptr_t)128)
#else
#define SUSPEND_RED_ZONE_BYTES ((uintptr_t)0)
#endif

// What the bell is told.
struct suspend_here {
    const void *hot_end; // Z1
    uint32_t thread;     // the calling thread's id
    bool ours;           // this process sent the signal to this thread alone,
                         // or the system has lost who sent it
};

// Rung in the handler; returns whether the signal was meant for it.
typedef bool suspend_bell(const struct suspend_here *here);

// The signal that is used unless the program names another: SIGURG.
int suspend_default(void);

// The signal in use; before suspend_install, that which will be if nobody names
// another.
int suspend_number(void);

// Installs the handler for `signal`, with the bell it is to ring; false when
// the system refuses, or the signal is one that cannot be used so.
MUST_USE bool suspend_install(int signal, suspend_bell *bell);

// Before a stop: looks whether the handler is still ours and puts it back if
// not (Z4); false when it had been replaced.
bool suspend_refresh(void);

// Sends the signal to a thread of this process, as it was when suspend_refresh
// was last called.
// SHORT: the system has no room for it just now.  REFUSED: nor will it ever.
enum suspend_sent {
    SUSPEND_SENT,
    SUSPEND_GONE,
    SUSPEND_SHORT,
    SUSPEND_REFUSED
};
enum suspend_sent suspend_send(uint32_t thread);

// Whether a thread of this process has this id (a zombie has, too).
bool suspend_is_thread(uint32_t thread);

// Whether a mask, as /proc tells it, holds the signal back.
bool suspend_is_in(uint64_t mask);

// Blocks for the calling thread every signal but those that a fault raises;
// returns the mask that was, for suspend_unblock.
uint64_t suspend_block(void);
void suspend_unblock(uint64_t mask);

// The same with those of faults, which programs send to threads, too; a real
// one ends the process then, whatever handler it has.
uint64_t suspend_block_faults(void);

// Whether the calling thread traps at each of its instructions (x86's trap
// flag): SIGTRAP cannot be blocked then.
static inline bool suspend_is_stepped(void) {
#if defined(__x86_64__)
    return (__builtin_ia32_readeflags_u64() & 0x100) != 0;
#else
    return false; // aarch64 leaves stepping to the kernel
#endif
}

// Rests for so long with the signals of `mask`, and blocks all again.
void suspend_rest(uint64_t mask, uint64_t ns);

// The calling thread's alternate signal stack, if it runs on it.
MUST_USE bool suspend_find_alternate(const void **lowest, const void **end);

// What the program believes the signal's action to be: each may be NULL.
void suspend_set_chained(const struct sigaction *action, struct sigaction *old);

// In a forked child: nobody is in the middle of anything here.
void suspend_forked(void);

#endif
