// wrap_wait — calls that wait for the system, as safe regions.

#include "wrap.h"

#include <stdarg.h>

// clang-format off
WRAP_WAIT(int, accept, (int fd, __SOCKADDR_ARG from, socklen_t *bytes),
          (fd, from, bytes))
WRAP_WAIT(int, accept4,
          (int fd, __SOCKADDR_ARG from, socklen_t *bytes, int flags),
          (fd, from, bytes, flags))
WRAP_WAIT(int, connect, (int fd, __CONST_SOCKADDR_ARG to, socklen_t bytes),
          (fd, to, bytes))

WRAP_WAIT(ssize_t, read, (int fd, void *buffer, size_t bytes),
          (fd, buffer, bytes))
WRAP_WAIT(ssize_t, readv, (int fd, const struct iovec *parts, int count),
          (fd, parts, count))
WRAP_WAIT(ssize_t, write, (int fd, const void *buffer, size_t bytes),
          (fd, buffer, bytes))
WRAP_WAIT(ssize_t, writev, (int fd, const struct iovec *parts, int count),
          (fd, parts, count))
WRAP_WAIT(ssize_t, recv, (int fd, void *buffer, size_t bytes, int flags),
          (fd, buffer, bytes, flags))
WRAP_WAIT(ssize_t, recvfrom,
          (int fd, void *restrict buffer, size_t bytes, int flags,
           __SOCKADDR_ARG from, socklen_t *restrict from_bytes),
          (fd, buffer, bytes, flags, from, from_bytes))
WRAP_WAIT(ssize_t, recvmsg, (int fd, struct msghdr *message, int flags),
          (fd, message, flags))
WRAP_WAIT(int, recvmmsg,
          (int fd, struct mmsghdr *messages, unsigned count, int flags,
           struct timespec *timeout),
          (fd, messages, count, flags, timeout))
WRAP_WAIT(ssize_t, send, (int fd, const void *buffer, size_t bytes, int flags),
          (fd, buffer, bytes, flags))
WRAP_WAIT(ssize_t, sendto,
          (int fd, const void *buffer, size_t bytes, int flags,
           __CONST_SOCKADDR_ARG to, socklen_t to_bytes),
          (fd, buffer, bytes, flags, to, to_bytes))
WRAP_WAIT(ssize_t, sendmsg, (int fd, const struct msghdr *message, int flags),
          (fd, message, flags))
WRAP_WAIT(int, sendmmsg,
          (int fd, struct mmsghdr *messages, unsigned count, int flags),
          (fd, messages, count, flags))
WRAP_WAIT(ssize_t, __read_chk,
          (int fd, void *buffer, size_t bytes, size_t room),
          (fd, buffer, bytes, room))
WRAP_WAIT(ssize_t, __recv_chk,
          (int fd, void *buffer, size_t bytes, size_t room, int flags),
          (fd, buffer, bytes, room, flags))
WRAP_WAIT(ssize_t, __recvfrom_chk,
          (int fd, void *buffer, size_t bytes, size_t room, int flags,
           __SOCKADDR_ARG from, socklen_t *from_bytes),
          (fd, buffer, bytes, room, flags, from, from_bytes))

WRAP_WAIT(int, poll, (struct pollfd *set, nfds_t count, int timeout),
          (set, count, timeout))
WRAP_WAIT(int, __poll_chk,
          (struct pollfd *set, nfds_t count, int timeout, size_t room),
          (set, count, timeout, room))
WRAP_WAIT(int, select,
          (int count, fd_set *restrict reads, fd_set *restrict writes,
           fd_set *restrict others, struct timeval *restrict timeout),
          (count, reads, writes, others, timeout))
WRAP_WAIT(int, epoll_wait,
          (int fd, struct epoll_event *events, int count, int timeout),
          (fd, events, count, timeout))

WRAP_WAIT(int, nanosleep, (const struct timespec *time, struct timespec *rest),
          (time, rest))
WRAP_WAIT(int, clock_nanosleep,
          (clockid_t clock, int flags, const struct timespec *time,
           struct timespec *rest),
          (clock, flags, time, rest))
WRAP_WAIT(unsigned, sleep, (unsigned seconds), (seconds))
WRAP_WAIT(int, usleep, (useconds_t time), (time))
WRAP_WAIT(int, pause, (void), ())

WRAP_WAIT(pid_t, wait, (int *status), (status))
WRAP_WAIT(pid_t, wait3, (int *status, int options, struct rusage *usage),
          (status, options, usage))
WRAP_WAIT(pid_t, wait4,
          (pid_t pid, int *status, int options, struct rusage *usage),
          (pid, status, options, usage))
WRAP_WAIT(int, waitid, (idtype_t kind, id_t id, siginfo_t *info, int options),
          (kind, id, info, options))
WRAP_WAIT(pid_t, waitpid, (pid_t pid, int *status, int options),
          (pid, status, options))

WRAP_WAIT(ssize_t, msgrcv,
          (int id, void *message, size_t bytes, long type, int flags),
          (id, message, bytes, type, flags))
WRAP_WAIT(int, msgsnd, (int id, const void *message, size_t bytes, int flags),
          (id, message, bytes, flags))
WRAP_WAIT(int, semop, (int id, struct sembuf *operations, size_t count),
          (id, operations, count))
WRAP_WAIT(int, semtimedop,
          (int id, struct sembuf *operations, size_t count,
           const struct timespec *timeout),
          (id, operations, count, timeout))
WRAP_WAIT(ssize_t, mq_receive,
          (mqd_t queue, char *message, size_t bytes, unsigned *priority),
          (queue, message, bytes, priority))
WRAP_WAIT(ssize_t, mq_timedreceive,
          (mqd_t queue, char *restrict message, size_t bytes,
           unsigned *restrict priority, const struct timespec *restrict until),
          (queue, message, bytes, priority, until))
WRAP_WAIT(int, mq_send,
          (mqd_t queue, const char *message, size_t bytes, unsigned priority),
          (queue, message, bytes, priority))
WRAP_WAIT(int, mq_timedsend,
          (mqd_t queue, const char *message, size_t bytes, unsigned priority,
           const struct timespec *until),
          (queue, message, bytes, priority, until))
WRAP_WAIT(int, aio_suspend,
          (const struct aiocb *const list[], int count,
           const struct timespec *restrict timeout),
          (list, count, timeout))

WRAP_WAIT(int, flock, (int fd, int operation), (fd, operation))
WRAP_WAIT(int, lockf, (int fd, int command, off_t bytes), (fd, command, bytes))
// clang-format on

static bool wrap_fcntl_waits(int command) {
    return command == F_SETLKW || command == F_OFD_SETLKW;
}

// One argument or none follows the command, and is passed on as it came: all
// of them are passed alike, in one register.
#define WRAP_FCNTL(name)                                                       \
    WRAP_SHOWN int WRAP(name)(int fd, int command, ...) {                      \
        WRAP_UNWINDS();                                                        \
        va_list list;                                                          \
        va_start(list, command);                                               \
        void *argument = va_arg(list, void *);                                 \
        va_end(list);                                                          \
        if (!wrap_fcntl_waits(command)) {                                      \
            return WRAP_REAL(name)(fd, command, argument);                     \
        }                                                                      \
        int got;                                                               \
        WRAP_WAITING(got = WRAP_REAL(name)(fd, command, argument));            \
        return got;                                                            \
    }

WRAP_FCNTL(fcntl)
WRAP_FCNTL(fcntl64)
