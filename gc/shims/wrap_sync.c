// wrap_sync — calls that wait for other threads, as safe regions.
//
// A lock that is free is taken without more ado: only a thread that would have
// to wait for it enters a region.

#include "wrap.h"

#include <errno.h>

#define WRAP_WAIT(result, name, parameters, arguments)                         \
    WRAP_SHOWN result WRAP(name) parameters {                                  \
        WRAP_UNWINDS();                                                        \
        result got;                                                            \
        WRAP_WAITING(got = WRAP_REAL(name) arguments);                         \
        return got;                                                            \
    }

// `try` answers `busy` when the thread would have to wait, and otherwise what
// the call itself would.
#define WRAP_LOCK(name, parameters, arguments, try, busy)                      \
    WRAP_SHOWN int WRAP(name) parameters {                                     \
        WRAP_UNWINDS();                                                        \
        int got = try;                                                         \
        if (got != (busy)) {                                                   \
            return got;                                                        \
        }                                                                      \
        WRAP_WAITING(got = WRAP_REAL(name) arguments);                         \
        return got;                                                            \
    }

// clang-format off
WRAP_LOCK(pthread_mutex_lock, (pthread_mutex_t *mutex), (mutex),
          pthread_mutex_trylock(mutex), EBUSY)
WRAP_LOCK(pthread_mutex_timedlock,
          (pthread_mutex_t *restrict mutex,
           const struct timespec *restrict until),
          (mutex, until), pthread_mutex_trylock(mutex), EBUSY)
WRAP_LOCK(pthread_mutex_clocklock,
          (pthread_mutex_t *restrict mutex, clockid_t clock,
           const struct timespec *restrict until),
          (mutex, clock, until), pthread_mutex_trylock(mutex), EBUSY)
WRAP_LOCK(pthread_rwlock_rdlock, (pthread_rwlock_t *lock), (lock),
          pthread_rwlock_tryrdlock(lock), EBUSY)
WRAP_LOCK(pthread_rwlock_timedrdlock,
          (pthread_rwlock_t *restrict lock,
           const struct timespec *restrict until),
          (lock, until), pthread_rwlock_tryrdlock(lock), EBUSY)
WRAP_LOCK(pthread_rwlock_clockrdlock,
          (pthread_rwlock_t *restrict lock, clockid_t clock,
           const struct timespec *restrict until),
          (lock, clock, until), pthread_rwlock_tryrdlock(lock), EBUSY)
WRAP_LOCK(pthread_rwlock_wrlock, (pthread_rwlock_t *lock), (lock),
          pthread_rwlock_trywrlock(lock), EBUSY)
WRAP_LOCK(pthread_rwlock_timedwrlock,
          (pthread_rwlock_t *restrict lock,
           const struct timespec *restrict until),
          (lock, until), pthread_rwlock_trywrlock(lock), EBUSY)
WRAP_LOCK(pthread_rwlock_clockwrlock,
          (pthread_rwlock_t *restrict lock, clockid_t clock,
           const struct timespec *restrict until),
          (lock, clock, until), pthread_rwlock_trywrlock(lock), EBUSY)
WRAP_LOCK(mtx_lock, (mtx_t *mutex), (mutex), mtx_trylock(mutex), thrd_busy)
WRAP_LOCK(mtx_timedlock,
          (mtx_t *restrict mutex, const struct timespec *restrict until),
          (mutex, until), mtx_trylock(mutex), thrd_busy)

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
