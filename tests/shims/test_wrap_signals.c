// Masks and actions: the stop signal cannot be blocked or taken (W3), what the
// program set is what it is told (W4), and its handlers run as program code
// (W5).  And what is called before anything is ready (W9).
// seconds: 120

#include "loam.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/shuffle.h"

#define STOP SIGURG // the signal that stops threads

// --- Before any constructor (W9) ---------------------------------------

static int early_pipe, early_cond, early_action, early_poll;

static void early_handler(int number) {
    (void)number;
}

// Runs before the constructors of libraries, when this is a program's.
static void call_early(void) {
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
    int ends[2];
    char byte = 0;
    early_pipe = pipe(ends) == 0 && write(ends[1], "x", 1) == 1 &&
                 read(ends[0], &byte, 1) == 1 && byte == 'x';
    (void)close(ends[0]);
    (void)close(ends[1]);
    struct timespec past = {0, 0};
    early_cond = pthread_mutex_lock(&mutex) == 0 &&
                 pthread_cond_timedwait(&cond, &mutex, &past) == ETIMEDOUT &&
                 pthread_mutex_unlock(&mutex) == 0;
    struct sigaction action = {.sa_handler = early_handler};
    struct sigaction old;
    early_action = sigaction(SIGUSR2, &action, NULL) == 0 &&
                   sigaction(SIGUSR2, NULL, &old) == 0 &&
                   old.sa_handler == early_handler;
    early_poll = poll(NULL, 0, 1) == 0;
}

__attribute__((section(".preinit_array"),
               used)) static void (*const early)(void) = call_early;

static void calls_work_before_constructors(void **state) { // W9
    (void)state;
    assert_true(early_pipe);
    assert_true(early_cond);
    assert_true(early_action);
    assert_true(early_poll);
}

// --- What the program is told (W4) -------------------------------------

static void plain_handler(int number) {
    (void)number;
}

static void info_handler(int number, siginfo_t *info, void *context) {
    (void)number;
    (void)info;
    (void)context;
}

static bool same_mask(const sigset_t *a, const sigset_t *b) {
    for (int number = 1; number < NSIG; number++) {
        if (sigismember(a, number) != sigismember(b, number)) {
            return false;
        }
    }
    return true;
}

static void check_told(int number, const struct sigaction *set) {
    struct sigaction told;
    assert_int_equal(sigaction(number, set, NULL), 0);
    assert_int_equal(sigaction(number, NULL, &told), 0);
    assert_ptr_equal(told.sa_handler, set->sa_handler);
    // The C library's own flag (SA_RESTORER) shows on some machines.
    assert_int_equal(told.sa_flags & ~0x04000000, set->sa_flags);
    assert_true(same_mask(&told.sa_mask, &set->sa_mask));
}

static void every_action_is_told_as_it_was_set(void **state) { // W4
    (void)state;
    const int flags[] = {0, SA_RESTART, SA_NODEFER, (int)SA_RESETHAND,
                         SA_ONSTACK | SA_RESTART};
    for (int number = 1; number < NSIG; number++) {
        struct sigaction before;
        // The library keeps some to itself, and the system two.
        if (sigaction(number, NULL, &before) != 0 || number == SIGKILL ||
            number == SIGSTOP || number == SIGABRT || number == STOP) {
            continue;
        }
        for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
            struct sigaction action = {.sa_handler = plain_handler,
                                       .sa_flags = flags[i]};
            (void)sigemptyset(&action.sa_mask);
            check_told(number, &action);
            (void)sigaddset(&action.sa_mask, SIGUSR2);
            (void)sigaddset(&action.sa_mask, STOP); // though it is left out
            check_told(number, &action);
            action.sa_sigaction = info_handler;
            action.sa_flags |= SA_SIGINFO;
            check_told(number, &action);
        }
        assert_int_equal(sigaction(number, &before, NULL), 0);
    }
}

static void older_calls_tell_the_same(void **state) { // W4
    (void)state;
    assert_ptr_equal(signal(SIGUSR1, plain_handler), SIG_DFL);
    assert_ptr_equal(signal(SIGUSR1, SIG_IGN), plain_handler);
    assert_ptr_equal(sysv_signal(SIGUSR1, early_handler), SIG_IGN);
    assert_ptr_equal(signal(SIGUSR1, SIG_DFL), early_handler);
    assert_ptr_equal(signal(STOP, plain_handler), SIG_DFL);
    assert_ptr_equal(signal(STOP, early_handler), plain_handler);
    struct sigaction told;
    assert_int_equal(sigaction(STOP, NULL, &told), 0);
    assert_ptr_equal(told.sa_handler, early_handler);
    assert_ptr_equal(signal(STOP, SIG_DFL), early_handler);
    assert_ptr_equal(signal(SIGKILL, plain_handler), SIG_ERR);
    assert_int_equal(errno, EINVAL);
    assert_ptr_equal(signal(NSIG + 1, plain_handler), SIG_ERR);
    assert_int_equal(sigaction(-1, NULL, &told), -1);
    assert_int_equal(errno, EINVAL);
}

static volatile sig_atomic_t once_calls;

static void once_handler(int number) {
    (void)number;
    once_calls++;
}

static void an_action_for_once_is_gone_after_it(void **state) { // W1, W4
    (void)state;
    struct sigaction action = {.sa_handler = once_handler,
                               .sa_flags = (int)SA_RESETHAND};
    struct sigaction told;
    assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
    assert_int_equal(raise(SIGUSR1), 0);
    assert_int_equal(once_calls, 1);
    assert_int_equal(sigaction(SIGUSR1, NULL, &told), 0);
    assert_ptr_equal(told.sa_handler, SIG_DFL);
}

// --- The signal of stops (W3) ------------------------------------------

static _Atomic int chained, chained_value;

static void chained_handler(int number, siginfo_t *info, void *context) {
    (void)number;
    (void)context;
    chained++;
    chained_value = info->si_value.sival_int;
}

static _Atomic bool spinning, spin_end;

static void *spin(void *unused) {
    (void)unused;
    spinning = true;
    while (!spin_end) {
    }
    return NULL;
}

static void collect_beside(void *(*other)(void *)) {
    pthread_t thread;
    spinning = spin_end = false;
    assert_int_equal(pthread_create(&thread, NULL, other, NULL), 0);
    while (!spinning) {
    }
    struct timespec before, after;
    (void)clock_gettime(CLOCK_MONOTONIC, &before);
    for (int n = 0; n < 20; n++) {
        assert_true(loam_collect());
    }
    (void)clock_gettime(CLOCK_MONOTONIC, &after);
    spin_end = true;
    assert_int_equal(pthread_join(thread, NULL), 0);
    long ms = (after.tv_sec - before.tv_sec) * 1000 +
              (after.tv_nsec - before.tv_nsec) / 1000000;
    print_message("20 collections in %ld ms\n", ms);
    assert_true(ms < 5000); // a signal that is blocked costs 100 ms a try
}

static void its_handler_is_chained(void **state) { // W3, W4
    (void)state;
    struct sigaction action = {.sa_sigaction = chained_handler,
                               .sa_flags = SA_SIGINFO | SA_RESTART};
    struct sigaction told;
    assert_int_equal(sigaction(STOP, &action, NULL), 0);
    assert_int_equal(sigaction(STOP, NULL, &told), 0);
    assert_ptr_equal(told.sa_sigaction, chained_handler);
    assert_int_equal(told.sa_flags & ~0x04000000, SA_SIGINFO | SA_RESTART);
    chained = 0;
    collect_beside(spin);
    assert_int_equal(chained, 0); // stops are none of its business
    assert_int_equal(raise(STOP), 0);
    assert_int_equal(chained, 1);
    assert_int_equal(kill(getpid(), STOP), 0);
    assert_int_equal(chained, 2);
    union sigval value = {.sival_int = 4711};
    assert_int_equal(sigqueue(getpid(), STOP, value), 0);
    assert_int_equal(chained, 3);
    assert_int_equal(chained_value, 4711);
    assert_true((uintptr_t)signal(STOP, SIG_DFL) == (uintptr_t)chained_handler);
    collect_beside(spin);
    assert_int_equal(chained, 3);
}

static void *spin_blocked(void *how) {
    sigset_t all;
    (void)sigfillset(&all);
    (void)how;
    (void)pthread_sigmask(SIG_SETMASK, &all, NULL);
    return spin(NULL);
}

static void *spin_blocked_too(void *unused) {
    sigset_t all;
    (void)sigfillset(&all);
    (void)sigprocmask(SIG_BLOCK, &all, NULL);
    return spin(unused);
}

static _Atomic bool handler_blocks;

static void spin_handler(int number) {
    sigset_t told;
    (void)number;
    (void)sigemptyset(&told);
    (void)pthread_sigmask(SIG_SETMASK, NULL, &told);
    handler_blocks =
        sigismember(&told, STOP) != 0 || sigismember(&told, SIGUSR2) != 1;
    (void)spin(NULL);
}

static void *spin_in_handler(void *unused) {
    struct sigaction action = {.sa_handler = spin_handler};
    (void)sigfillset(&action.sa_mask);
    (void)sigaction(SIGUSR1, &action, NULL);
    (void)raise(SIGUSR1);
    return unused;
}

static void it_cannot_be_blocked(void **state) { // W3
    (void)state;
    collect_beside(spin_blocked);
    collect_beside(spin_blocked_too);
    collect_beside(spin_in_handler);
    assert_false(handler_blocks);
    sigset_t all, told;
    (void)sigfillset(&all);
    (void)sigemptyset(&told);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, &all, NULL), 0);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &told), 0);
    assert_int_equal(sigismember(&told, SIGUSR1), 1);
    assert_int_equal(sigismember(&told, STOP), 0);
    (void)sigemptyset(&all);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, &all, NULL), 0);
}

// A file of signals takes those that are pending, and no stop.
static void it_cannot_be_waited_for(void **state) { // W3
    (void)state;
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, STOP);
    int fd = signalfd(-1, &set, SFD_NONBLOCK);
    assert_true(fd >= 0);
    collect_beside(spin);
    struct signalfd_siginfo info;
    assert_int_equal(read(fd, &info, sizeof info), -1);
    assert_int_equal(errno, EAGAIN);
    (void)close(fd);
    struct timespec time = {.tv_nsec = 1000000};
    assert_int_equal(sigtimedwait(&set, NULL, &time), -1);
    assert_int_equal(errno, EAGAIN);
}

static void attributes_cannot_block_it(void **state) { // W3
    (void)state;
    pthread_attr_t attributes;
    sigset_t all, told;
    (void)sigfillset(&all);
    assert_int_equal(pthread_attr_init(&attributes), 0);
    assert_int_equal(pthread_attr_setsigmask_np(&attributes, &all), 0);
    assert_int_equal(pthread_attr_getsigmask_np(&attributes, &told), 0);
    assert_int_equal(sigismember(&told, SIGUSR1), 1);
    assert_int_equal(sigismember(&told, STOP), 0);
    (void)pthread_attr_destroy(&attributes);
}

// --- Handlers are program code (W5) ------------------------------------

static struct shuffle *shuffled;
static _Atomic bool handler_wrong, handler_ran;

static void shuffle_handler(int number) {
    (void)number;
    if (!shuffle_run(shuffled, 500)) {
        handler_wrong = true;
    }
    handler_ran = true;
}

static _Atomic bool collect_end;

static void *collect_always(void *unused) {
    (void)unused;
    while (!collect_end) {
        (void)loam_collect();
        shuffle_fill(2000);
    }
    return NULL;
}

static void *wait_long(void *data) {
    char byte;
    uintptr_t *kept = loam_alloc(sizeof *kept);
    *kept = 42;
    spinning = true;
    // Waits in a safe region until it is told to end; the handler runs there.
    while (read(*(int *)data, &byte, 1) < 0 && errno == EINTR) {
    }
    return *kept == 42 ? NULL : data;
}

static void a_handler_over_a_wait_is_program_code(void **state) { // W5
    (void)state;
    int ends[2];
    pthread_t waiting, collecting;
    struct sigaction action = {.sa_handler = shuffle_handler};
    assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
    assert_int_equal(pipe(ends), 0);
    shuffled = shuffle_make(4711);
    assert_non_null(shuffled);
    handler_wrong = spinning = collect_end = false;
    assert_int_equal(pthread_create(&waiting, NULL, wait_long, &ends[0]), 0);
    assert_int_equal(pthread_create(&collecting, NULL, collect_always, NULL),
                     0);
    while (!spinning) {
    }
    for (int n = 0; n < 100 && !handler_wrong; n++) {
        handler_ran = false;
        assert_int_equal(pthread_kill(waiting, SIGUSR1), 0);
        while (!handler_ran && !handler_wrong) {
            (void)usleep(100);
        }
    }
    collect_end = true;
    assert_int_equal(pthread_join(collecting, NULL), 0);
    assert_int_equal(write(ends[1], "x", 1), 1);
    void *wrong;
    assert_int_equal(pthread_join(waiting, &wrong), 0);
    assert_null(wrong);
    assert_false(handler_wrong);
}

static sigjmp_buf jump;

static void jump_handler(int number) {
    (void)number;
    siglongjmp(jump, 1);
}

// Out of a handler that interrupted a wait: the thread runs again, and is
// stopped as one that runs.
static void *jump_often(void *data) {
    struct sigaction action = {.sa_handler = jump_handler};
    (void)sigaction(SIGALRM, &action, NULL);
    (void)!loam_alloc(16);
    for (volatile int n = 0; n < 30; n++) {
        if (sigsetjmp(jump, 1) == 0) {
            struct timespec time = {.tv_nsec = 2000000};
            timer_t timer = *(timer_t *)data;
            struct itimerspec when = {.it_value = time};
            (void)timer_settime(timer, 0, &when, NULL);
            (void)pause();
        }
        if (!shuffle_run(shuffled, 500)) {
            handler_wrong = true;
        }
    }
    return NULL;
}

static void jumping_out_of_a_wait_ends_it(void **state) { // W5
    (void)state;
    pthread_t collecting;
    timer_t timer;
    shuffled = shuffle_make(815);
    assert_non_null(shuffled);
    handler_wrong = collect_end = false;
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID,
                             .sigev_signo = SIGALRM};
#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif
    event.sigev_notify_thread_id = (int)syscall(SYS_gettid);
    assert_int_equal(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
    assert_int_equal(pthread_create(&collecting, NULL, collect_always, NULL),
                     0);
    (void)jump_often(&timer);
    collect_end = true;
    assert_int_equal(pthread_join(collecting, NULL), 0);
    assert_int_equal(timer_delete(timer), 0);
    assert_false(handler_wrong);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_work_before_constructors),
        cmocka_unit_test(every_action_is_told_as_it_was_set),
        cmocka_unit_test(older_calls_tell_the_same),
        cmocka_unit_test(an_action_for_once_is_gone_after_it),
        cmocka_unit_test(its_handler_is_chained),
        cmocka_unit_test(every_action_is_told_as_it_was_set), // once built
        cmocka_unit_test(older_calls_tell_the_same),
        cmocka_unit_test(it_cannot_be_blocked),
        cmocka_unit_test(it_cannot_be_waited_for),
        cmocka_unit_test(attributes_cannot_block_it),
        cmocka_unit_test(a_handler_over_a_wait_is_program_code),
        cmocka_unit_test(jumping_out_of_a_wait_ends_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
