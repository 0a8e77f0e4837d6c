// wrap_mask — masks of signals, in which the signal that stops threads is
// never set, and the waits that take one.

#include "wrap.h"

// The mask without our signal: the program's own where it has not got it.
static const sigset_t *wrap_strip(const sigset_t *mask, sigset_t *room) {
    int number = loam_door_signal();
    if (mask == NULL || !loam_door_stops() || sigismember(mask, number) != 1) {
        return mask;
    }
    *room = *mask;
    (void)sigdelset(room, number);
    return room;
}

// The same of a mask as one word, as old calls have it.
static int wrap_strip_word(int mask) {
    unsigned ours = 1u << (unsigned)(loam_door_signal() - 1);
    return loam_door_stops() ? (int)((unsigned)mask & ~ours) : mask;
}

#define WRAP_STRIPPED(mask)                                                    \
    sigset_t room;                                                             \
    const sigset_t *stripped = wrap_strip(mask, &room)

// --- The mask of a thread ----------------------------------------------

WRAP_SHOWN int WRAP(pthread_sigmask)(int how, const sigset_t *mask,
                                     sigset_t *old) {
    if (how == SIG_UNBLOCK) {
        return WRAP_REAL(pthread_sigmask)(how, mask, old);
    }
    WRAP_STRIPPED(mask);
    return WRAP_REAL(pthread_sigmask)(how, stripped, old);
}

WRAP_SHOWN int WRAP(sigprocmask)(int how, const sigset_t *mask, sigset_t *old) {
    if (how == SIG_UNBLOCK) {
        return WRAP_REAL(sigprocmask)(how, mask, old);
    }
    WRAP_STRIPPED(mask);
    return WRAP_REAL(sigprocmask)(how, stripped, old);
}

WRAP_SHOWN int WRAP(pthread_attr_setsigmask_np)(pthread_attr_t *attributes,
                                                const sigset_t *mask) {
    WRAP_STRIPPED(mask);
    return WRAP_REAL(pthread_attr_setsigmask_np)(attributes, stripped);
}

WRAP_SHOWN int WRAP(sigblock)(int mask) {
    return WRAP_REAL(sigblock)(wrap_strip_word(mask));
}

WRAP_SHOWN int WRAP(sigsetmask)(int mask) {
    return WRAP_REAL(sigsetmask)(wrap_strip_word(mask));
}

WRAP_SHOWN int WRAP(sighold)(int number) {
    bool is_ours = number == loam_door_signal() && loam_door_stops();
    return is_ours ? 0 : WRAP_REAL(sighold)(number);
}

// --- Waits with a mask, and for signals --------------------------------

// As WRAP_WAIT, where the original is given `stripped` for `mask`.
#define WRAP_WAIT_MASKED(name, parameters, mask, arguments)                    \
    WRAP_SHOWN int WRAP(name) parameters {                                     \
        WRAP_UNWINDS();                                                        \
        WRAP_STRIPPED(mask);                                                   \
        int got;                                                               \
        WRAP_WAITING(got = WRAP_REAL(name) arguments);                         \
        return got;                                                            \
    }

// clang-format off
WRAP_WAIT_MASKED(sigsuspend, (const sigset_t *mask), mask, (stripped))
WRAP_WAIT_MASKED(ppoll,
                 (struct pollfd *set, nfds_t count,
                  const struct timespec *timeout, const sigset_t *mask),
                 mask, (set, count, timeout, stripped))
WRAP_WAIT_MASKED(__ppoll_chk,
                 (struct pollfd *set, nfds_t count,
                  const struct timespec *timeout, const sigset_t *mask,
                  size_t room_bytes),
                 mask, (set, count, timeout, stripped, room_bytes))
WRAP_WAIT_MASKED(pselect,
                 (int count, fd_set *restrict reads, fd_set *restrict writes,
                  fd_set *restrict others,
                  const struct timespec *restrict timeout,
                  const sigset_t *restrict mask),
                 mask, (count, reads, writes, others, timeout, stripped))
WRAP_WAIT_MASKED(epoll_pwait,
                 (int fd, struct epoll_event *events, int count, int timeout,
                  const sigset_t *mask),
                 mask, (fd, events, count, timeout, stripped))
WRAP_WAIT_MASKED(epoll_pwait2,
                 (int fd, struct epoll_event *events, int count,
                  const struct timespec *timeout, const sigset_t *mask),
                 mask, (fd, events, count, timeout, stripped))

// A thread that waits for our signal would take the next stop for its answer.
WRAP_WAIT_MASKED(sigwait, (const sigset_t *restrict set, int *restrict number),
                 set, (stripped, number))
WRAP_WAIT_MASKED(sigwaitinfo,
                 (const sigset_t *restrict set, siginfo_t *restrict info), set,
                 (stripped, info))
WRAP_WAIT_MASKED(sigtimedwait,
                 (const sigset_t *restrict set, siginfo_t *restrict info,
                  const struct timespec *restrict timeout),
                 set, (stripped, info, timeout))
// clang-format on

WRAP_SHOWN int WRAP(signalfd)(int fd, const sigset_t *set, int flags) {
    WRAP_STRIPPED(set);
    return WRAP_REAL(signalfd)(fd, stripped, flags);
}
