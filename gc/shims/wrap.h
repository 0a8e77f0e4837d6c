// wrap — calls of the C library that the collector must see.
//
// A collector works without this.  Threads that begin unseen are found in
// /proc, and a thread that waits in the system is stopped by a signal like any
// other.  But some calls end early when a signal was handled, whatever its
// flags say; a program can block or take away the signal; and ten thousand
// threads that only wait need ten thousand signals.  So libloam stands in front
// of some hundred functions (wrap.def), under their own names:
//
//     waits      the thread is in a safe region meanwhile: a stop passes by,
//                and nothing ends early            wrap_wait.c, wrap_sync.c
//     masks      the signal that stops threads is never blocked   wrap_mask.c
//     actions    nor is its handler taken away, and handlers of the program
//                that interrupt a wait leave its region      wrap_action.c
//     threads    a thread is known before its first word of code
//                                                          wrap_thread.c
//     processes  a parent that waits for its vfork child keeps nobody waiting
//                                             wrap_process.c, wrap_vfork.S
//     limits     what the heap has reserved leaves room below a limit on
//                address space                               wrap_limit.c
//
// Two ways lead to the original.  In a program with shared libraries the next
// library that has the name is asked for it (dlsym, RTLD_NEXT), once.  In a
// program without, there is no next library: the linker then renames the calls
// (--wrap=read makes __wrap_read of read and read of __real_read), and the same
// sources are compiled with WRAP_LINKED to those names.
//
// Invariants:
//   W1  through  a wrapped call does what its original does: result, errno,
//                cancellation and the program's own signals included
//   W2  calm     a wrapped wait never ends early because of a collection
//   W3  open     the signal that stops threads is blocked in no thread by a
//                wrapped call, nor is its handler replaced
//   W4  told     a program that asks is told the action that it has set
//   W5  handler  a handler of the program never runs in a thread that counts
//                as waiting
//   W6  start    a thread made by a wrapped call is known when its code begins,
//                and its argument is alive until then
//   W7  result  what such a thread ends with is alive until it is joined
//   W8  child    nothing of the parent's is changed in a child of vfork
//   W9  late     every call here works before any constructor has run
//
// The names are weak: a program's own function of such a name stays its own.
// Design, alternatives and measurements: docs/design/shims/wrap.md

#ifndef SHIMS_WRAP_H
#define SHIMS_WRAP_H

#include "api/door.h"

#include <aio.h>
#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <threads.h>
#include <unistd.h>

#ifndef WRAP_LINKED
#define WRAP_LINKED 0
#endif

// Names of the C library that its headers do not declare, or that stand in one
// which has no place in gc/.
struct _IO_FILE *popen(const char *command, const char *type);
int pclose(struct _IO_FILE *stream);
ssize_t __read_chk(int fd, void *buffer, size_t bytes, size_t room);
ssize_t __recv_chk(int fd, void *buffer, size_t bytes, size_t room, int flags);
ssize_t __recvfrom_chk(int fd, void *buffer, size_t bytes, size_t room,
                       int flags, __SOCKADDR_ARG from, socklen_t *from_bytes);
int __poll_chk(struct pollfd *set, nfds_t count, int timeout, size_t room);
int __ppoll_chk(struct pollfd *set, nfds_t count,
                const struct timespec *timeout, const sigset_t *mask,
                size_t room);
int __sigaction(int number, const struct sigaction *action,
                struct sigaction *old);
sighandler_t bsd_signal(int number, sighandler_t handler);

#define WRAP_SHOWN __attribute__((visibility("default"), weak))

#if WRAP_LINKED
#define WRAP(name)      __wrap_##name
#define WRAP_REAL(name) __real_##name
#define WRAPPED(name)   __typeof__(name) __wrap_##name, __real_##name;
#include "wrap.def"
#undef WRAPPED
#else
#define WRAP(name) name
#define WRAP_REAL(name)                                                        \
    ((__typeof__(name) *)wrap_real(WRAP_##name, &wrap_slots[WRAP_##name]))

enum wrap_row {
#define WRAPPED(name) WRAP_##name,
#include "wrap.def"
#undef WRAPPED
    WRAP_COUNT
};

// What the loader reads, in programs that have one: the linker makes it.
extern const char wrap_dynamic[] __asm__("_DYNAMIC")
    __attribute__((visibility("hidden")));

extern uintptr_t wrap_slots[WRAP_COUNT]; // the originals; 0: not asked for yet
uintptr_t wrap_find(enum wrap_row row);

static inline uintptr_t wrap_real(enum wrap_row row, const uintptr_t *slot) {
    uintptr_t real = __atomic_load_n(slot, __ATOMIC_RELAXED);
    return LIKELY(real != 0) ? real : wrap_find(row);
}
#endif

// Stands first in a function that waits.  When the thread is cancelled there,
// its frames are unwound and the program's cleanup handlers run: by then it
// must no longer count as waiting.  This names, in the unwind table, the
// function that the unwinder calls for this frame.
#define WRAP_UNWINDS() __asm__ volatile(".cfi_personality 0x1b, wrap_unwinding")

// Of the unwinder's protocol: the phase in which frames are taken down, and
// what it is told: "nothing for you in this frame, go on".
#define WRAP_CLEANUP_PHASE   2
#define WRAP_CONTINUE_UNWIND 8

// `statement`, which waits, in a safe region; a child of vfork is in its
// parent's (W8).
#define WRAP_WAITING(statement)                                                \
    do {                                                                       \
        bool entered = false;                                                  \
        if (loam_door_stops() && !wrap_is_vforked()) {                         \
            loam_door_safe_enter(&entered);                                    \
        }                                                                      \
        statement;                                                             \
        if (entered) {                                                         \
            loam_door_safe_leave();                                            \
        }                                                                      \
    } while (0)

// Defines the wrapper of `name`, which does nothing but wait.
#define WRAP_WAIT(result, name, parameters, arguments)                         \
    WRAP_SHOWN result WRAP(name) parameters {                                  \
        WRAP_UNWINDS();                                                        \
        result got;                                                            \
        WRAP_WAITING(got = WRAP_REAL(name) arguments);                         \
        return got;                                                            \
    }

// Whether this is the child of a vfork, in its parent's memory.
bool wrap_is_vforked(void);

#endif
