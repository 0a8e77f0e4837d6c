// Calls that end early when a signal was handled, under collections that come
// a thousand times a second: none may end because of them (W2), and all must
// for the program's own signals (W1).
// seconds: 120

#include "loam.h"

#include <errno.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define WAIT_MS 20
#define TIMES   5

static int pipes[2], sockets[2], poller, queue, semaphores;
static sem_t semaphore;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static volatile sig_atomic_t signals;

static const struct timespec pause_time = {.tv_nsec = WAIT_MS * 1000000};

static struct timespec until(clockid_t clock, long ms) {
    struct timespec now;
    (void)clock_gettime(clock, &now);
    now.tv_nsec += ms * 1000000;
    now.tv_sec += now.tv_nsec / 1000000000;
    now.tv_nsec %= 1000000000;
    return now;
}

// --- The calls: each waits for WAIT_MS or for ever, and then answers 0, or
// the error that it always has at the end of its time ----------------------

static int answer(long result, int usual) {
    if (result >= 0) {
        return 0;
    }
    return errno == usual ? 0 : errno;
}

static int wait_poll(void) {
    return answer(poll(NULL, 0, WAIT_MS), 0);
}

static int wait_ppoll(void) {
    return answer(ppoll(NULL, 0, &pause_time, NULL), 0);
}

static int wait_select(void) {
    struct timeval time = {.tv_usec = WAIT_MS * 1000};
    return answer(select(0, NULL, NULL, NULL, &time), 0);
}

static int wait_pselect(void) {
    return answer(pselect(0, NULL, NULL, NULL, &pause_time, NULL), 0);
}

static int wait_epoll(void) {
    struct epoll_event event;
    return answer(epoll_wait(poller, &event, 1, WAIT_MS), 0);
}

static int wait_epoll_pwait(void) {
    struct epoll_event event;
    return answer(epoll_pwait(poller, &event, 1, WAIT_MS, NULL), 0);
}

static int wait_nanosleep(void) {
    return answer(nanosleep(&pause_time, NULL), 0);
}

static int wait_clock_relative(void) {
    return clock_nanosleep(CLOCK_MONOTONIC, 0, &pause_time, NULL);
}

static int wait_clock_absolute(void) {
    struct timespec end = until(CLOCK_MONOTONIC, WAIT_MS);
    return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL);
}

static int wait_usleep(void) {
    return answer(usleep(WAIT_MS * 1000), 0);
}

static int wait_sleep(void) {
    return sleep(1) == 0 ? 0 : EINTR;
}

static int wait_thrd_sleep(void) {
    return thrd_sleep(&pause_time, NULL) == -1 ? EINTR : 0;
}

static int wait_sem_timed(void) {
    struct timespec end = until(CLOCK_REALTIME, WAIT_MS);
    return answer(sem_timedwait(&semaphore, &end), ETIMEDOUT);
}

static int wait_recv(void) {
    char byte;
    return answer(recv(sockets[0], &byte, 1, 0), EAGAIN);
}

static int wait_recvfrom(void) {
    char byte;
    return answer(recvfrom(sockets[0], &byte, 1, 0, NULL, NULL), EAGAIN);
}

static int wait_semtimedop(void) {
    struct sembuf down = {.sem_num = 0, .sem_op = -1, .sem_flg = 0};
    return answer(semtimedop(semaphores, &down, 1, &pause_time), EAGAIN);
}

static int wait_sigtimed(void) {
    sigset_t none;
    (void)sigemptyset(&none);
    (void)sigaddset(&none, SIGUSR2);
    return answer(sigtimedwait(&none, NULL, &pause_time), EAGAIN);
}

static int wait_cond(void) {
    struct timespec end = until(CLOCK_REALTIME, WAIT_MS);
    (void)pthread_mutex_lock(&mutex);
    int done = pthread_cond_timedwait(&condition, &mutex, &end);
    (void)pthread_mutex_unlock(&mutex);
    return done == ETIMEDOUT ? 0 : done;
}

// These end only when another thread does something.

static int wait_read(void) {
    char byte;
    return answer(read(pipes[0], &byte, 1), 0);
}

static void wake_read(void) {
    (void)!write(pipes[1], "x", 1);
}

static int wait_msgrcv(void) {
    struct {
        long type;
        char text[8];
    } message;
    return answer(msgrcv(queue, &message, sizeof message.text, 0, 0), 0);
}

static void wake_msgrcv(void) {
    struct {
        long type;
        char text[8];
    } message = {1, "hello"};
    (void)msgsnd(queue, &message, sizeof message.text, 0);
}

static int wait_semop(void) {
    struct sembuf down = {.sem_num = 0, .sem_op = -1, .sem_flg = 0};
    return answer(semop(semaphores, &down, 1), 0);
}

static void wake_semop(void) {
    struct sembuf up = {.sem_num = 0, .sem_op = 1, .sem_flg = 0};
    (void)semop(semaphores, &up, 1);
}

static int wait_sem(void) {
    return answer(sem_wait(&semaphore), 0);
}

static void wake_sem(void) {
    (void)sem_post(&semaphore);
}

struct call {
    const char *name;
    int (*wait)(void);
    void (*wake)(void); // NULL: it ends by itself
    bool restarts;      // after a signal of the program's, too
};

static const struct call calls[] = {
    {"poll", wait_poll, NULL, false},
    {"ppoll", wait_ppoll, NULL, false},
    {"select", wait_select, NULL, false},
    {"pselect", wait_pselect, NULL, false},
    {"epoll_wait", wait_epoll, NULL, false},
    {"epoll_pwait", wait_epoll_pwait, NULL, false},
    {"nanosleep", wait_nanosleep, NULL, false},
    {"clock_nanosleep", wait_clock_relative, NULL, false},
    {"clock_nanosleep until", wait_clock_absolute, NULL, false},
    {"usleep", wait_usleep, NULL, false},
    {"thrd_sleep", wait_thrd_sleep, NULL, false},
    {"sem_timedwait", wait_sem_timed, NULL, false},
    {"recv with a timeout", wait_recv, NULL, false},
    {"recvfrom with a timeout", wait_recvfrom, NULL, false},
    {"semtimedop", wait_semtimedop, NULL, false},
    {"sigtimedwait", wait_sigtimed, NULL, false},
    {"pthread_cond_timedwait", wait_cond, NULL, true},
    {"read", wait_read, wake_read, false},
    {"msgrcv", wait_msgrcv, wake_msgrcv, false},
    {"semop", wait_semop, wake_semop, false},
    {"sem_wait", wait_sem, wake_sem, false},
    {"sleep", wait_sleep, NULL, false},
};
#define CALLS (sizeof calls / sizeof *calls)

// --- Those who disturb -------------------------------------------------

static _Atomic bool stop_collecting;
static _Atomic unsigned collections;

// Unwrapped sleep: this thread is to be no example.
static void nap(long us) {
    struct timespec time = {.tv_nsec = us * 1000};
    (void)syscall(SYS_nanosleep, &time, NULL);
}

static void *collect_often(void *unused) {
    (void)unused;
    while (!stop_collecting) {
        collections += loam_collect();
        nap(500);
    }
    return NULL;
}

struct waker {
    void (*wake)(void);
};

static void *wake_later(void *data) {
    const struct waker *waker = data;
    nap(WAIT_MS * 1000L);
    waker->wake();
    return NULL;
}

struct sleeper {
    pthread_t thread;
    atomic_bool is_back;
};

// Again and again: on a busy machine, and under TSan, which puts signals off,
// one may come before the wait has begun, and nothing would ever end that.
static void *signal_until_back(void *data) {
    struct sleeper *sleeper = data;
    while (!atomic_load(&sleeper->is_back)) {
        nap(WAIT_MS * 500L);
        (void)pthread_kill(sleeper->thread, SIGUSR1);
    }
    return NULL;
}

static int run(const struct call *call) {
    if (call->wake == NULL) {
        return call->wait();
    }
    pthread_t thread;
    struct waker waker = {call->wake};
    assert_int_equal(pthread_create(&thread, NULL, wake_later, &waker), 0);
    int done = call->wait();
    assert_int_equal(pthread_join(thread, NULL), 0);
    return done;
}

static void no_collection_ends_a_wait(void **state) { // W2
    (void)state;
    pthread_t thread;
    stop_collecting = false;
    assert_int_equal(pthread_create(&thread, NULL, collect_often, NULL), 0);
    for (size_t i = 0; i < CALLS; i++) {
        int times = strcmp(calls[i].name, "sleep") == 0 ? 1 : TIMES;
        unsigned before = collections;
        // More often where the machine is too busy to collect meanwhile.
        for (int n = 0; n < times || (collections == before && n < 100 * TIMES);
             n++) {
            int done = run(&calls[i]);
            if (done != 0) {
                stop_collecting = true;
                (void)pthread_join(thread, NULL);
                fail_msg("%s ended with %s", calls[i].name, strerror(done));
            }
        }
        assert_true(collections > before);
    }
    // Without a wrapper it would have: the test is not blind.
    bool ended = false;
    for (int n = 0; n < 200 && !ended; n++) {
        ended = syscall(SYS_ppoll, NULL, 0, &pause_time, NULL, 0) < 0 &&
                errno == EINTR;
    }
    stop_collecting = true;
    assert_int_equal(pthread_join(thread, NULL), 0);
    print_message("%u collections; unwrapped ppoll ended early: %s\n",
                  (unsigned)collections, ended ? "yes" : "no");
#if !defined(__SANITIZE_THREAD__)
    assert_true(ended);
#endif
}

static void count_signal(int number) {
    (void)number;
    signals++;
}

static void a_signal_of_the_program_ends_it(void **state) { // W1
    (void)state;
    struct sigaction action = {.sa_handler = count_signal};
    assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
    for (size_t i = 0; i < CALLS; i++) {
        if (calls[i].restarts || calls[i].wait == wait_sleep) {
            continue;
        }
        // The wait may be over just before the signal: tried again.
        int done = 0;
        for (int n = 0; n < 100 && done == 0; n++) {
            struct sleeper self = {.thread = pthread_self()};
            pthread_t thread;
            assert_int_equal(
                pthread_create(&thread, NULL, signal_until_back, &self), 0);
            done = calls[i].wait();
            atomic_store(&self.is_back, true);
            assert_int_equal(pthread_join(thread, NULL), 0);
        }
        if (done != EINTR) {
            fail_msg("%s ended with %s", calls[i].name, strerror(done));
        }
    }
    assert_true(signals >= (sig_atomic_t)CALLS - 2);
}

static void pause_ends_with_its_signal_alone(void **state) { // W1, W2
    (void)state;
    pthread_t collecting, thread;
    stop_collecting = false;
    assert_int_equal(pthread_create(&collecting, NULL, collect_often, NULL), 0);
    sigset_t none;
    (void)sigemptyset(&none);
    for (int n = 0; n < 2 * TIMES; n++) {
        struct sleeper self = {.thread = pthread_self()};
        signals = 0;
        assert_int_equal(
            pthread_create(&thread, NULL, signal_until_back, &self), 0);
        int done = n % 2 == 0 ? pause() : sigsuspend(&none);
        int error = errno;
        int count = signals;
        atomic_store(&self.is_back, true);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(done, -1);
        assert_int_equal(error, EINTR);
        assert_true(count >= 1);
    }
    stop_collecting = true;
    assert_int_equal(pthread_join(collecting, NULL), 0);
}

static int set_up(void **state) {
    (void)state;
    struct timeval time = {.tv_usec = WAIT_MS * 1000};
    bool done = loam_init() && loam_alloc(16) != NULL && pipe(pipes) == 0 &&
                socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0 &&
                setsockopt(sockets[0], SOL_SOCKET, SO_RCVTIMEO, &time,
                           sizeof time) == 0 &&
                sem_init(&semaphore, 0, 0) == 0;
    poller = epoll_create1(0);
    queue = msgget(IPC_PRIVATE, 0600);
    semaphores = semget(IPC_PRIVATE, 1, 0600);
    return done && poller >= 0 && queue >= 0 && semaphores >= 0 ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    (void)msgctl(queue, IPC_RMID, NULL);
    (void)semctl(semaphores, 0, IPC_RMID);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_collection_ends_a_wait),
        cmocka_unit_test(a_signal_of_the_program_ends_it),
        cmocka_unit_test(pause_ends_with_its_signal_alone),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
