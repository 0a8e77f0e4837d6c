// wrap_sync — calls that wait for other threads, as safe regions.
//
// Locks are not among them.  A lock is taken a thousand times for once that it
// is waited for, in about the time that a look at anything else would take; and
// a wait for it that a signal interrupts is resumed.

#include "wrap.h"

// clang-format off
WRAP_WAIT(int, pthread_cond_wait,
          (pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex),
          (cond, mutex))
WRAP_WAIT(int, pthread_cond_timedwait,
          (pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
           const struct timespec *restrict until),
          (cond, mutex, until))
WRAP_WAIT(int, pthread_cond_clockwait,
          (pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
           clockid_t clock, const struct timespec *restrict until),
          (cond, mutex, clock, until))
WRAP_WAIT(int, cnd_wait, (cnd_t *cond, mtx_t *mutex), (cond, mutex))
WRAP_WAIT(int, cnd_timedwait,
          (cnd_t *restrict cond, mtx_t *restrict mutex,
           const struct timespec *restrict until),
          (cond, mutex, until))
WRAP_WAIT(int, pthread_barrier_wait, (pthread_barrier_t *barrier), (barrier))

WRAP_WAIT(int, sem_wait, (sem_t *semaphore), (semaphore))
WRAP_WAIT(int, sem_timedwait,
          (sem_t *restrict semaphore, const struct timespec *restrict until),
          (semaphore, until))
WRAP_WAIT(int, sem_clockwait,
          (sem_t *restrict semaphore, clockid_t clock,
           const struct timespec *restrict until),
          (semaphore, clock, until))

WRAP_WAIT(int, thrd_join, (thrd_t thread, int *result), (thread, result))
WRAP_WAIT(int, thrd_sleep, (const struct timespec *time, struct timespec *rest),
          (time, rest))
// clang-format on
