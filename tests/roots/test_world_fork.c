// Children that a signal handler makes in the middle of the world's own work:
// behind every instruction of taking a lock that another thread has, and
// between two attempts to stop.
//
// seconds: 120

#include "roots/world.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "os/copy.h"
#include "os/lock.h"
#include "support/crowd.h"
#include "support/step.h"

#define CHILD_S 20 // a child that takes longer hangs

static pid_t fork_bare(void) {
    pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (child == 0) {
        (void)signal(SIGALRM, SIG_DFL);
        (void)alarm(CHILD_S);
    }
    return child;
}

static int finish(pid_t child) {
    int status = 0;
    pid_t got;
    do {
        got = waitpid(child, &status, 0);
    } while (got < 0 && errno == EINTR);
    return child > 0 && got == child && WIFEXITED(status) ? WEXITSTATUS(status)
                                                          : -1;
}

// --- Taking the lock -------------------------------------------------------

#define BEHIND 120u // instructions with children, after the lock was free

static atomic_bool may_release;

static void *hold_the_lock(void *data) {
    world_lock(NULL);
    atomic_store((atomic_bool *)data, true);
    while (!atomic_load(&may_release)) {
        crowd_nap_ms(1);
    }
    world_unlock();
    return NULL;
}

struct taking {
    size_t free_at; // instruction at which the lock was free; 0: not yet
    size_t children, failed;
    bool is_child, had_lock;
};

static void take_the_lock(void *data) {
    struct taking *taking = data;
    mutator_enter(self);
    world_lock(self);
    taking->had_lock = world.lock.word != 0;
    world_unlock();
    world_leave(self);
}

static void fork_between(size_t instructions, void *data) {
    struct taking *taking = data;
    if (instructions == 200) { // in the middle of waiting
        atomic_store(&may_release, true);
        while (__atomic_load_n(&world.lock.word, __ATOMIC_SEQ_CST) != 0) {
        }
        taking->free_at = instructions;
    }
    if (taking->free_at == 0 ? instructions % 20 != 0
                             : instructions > taking->free_at + BEHIND) {
        return;
    }
    pid_t child = fork_bare();
    if (child == 0) {
        taking->is_child = true;
        step_end();
        return;
    }
    taking->failed += finish(child) != 0;
    taking->children++;
}

// W1: wherever the child begins, it has the lock when it has taken it.
static void test_taking(void **state) {
    (void)state;
    pthread_t holder;
    atomic_bool held = false;
    assert_int_equal(pthread_create(&holder, NULL, hold_the_lock, &held), 0);
    while (!atomic_load(&held)) {
        crowd_nap_ms(1);
    }
    struct taking taking = {.free_at = 0};
    bool ran = step_run(take_the_lock, fork_between, &taking);
    if (taking.is_child) {
        _exit(taking.had_lock && world.lock.word == 0 ? 0 : 1);
    }
    atomic_store(&may_release, true);
    assert_int_equal(pthread_join(holder, NULL), 0);
    if (!ran) {
        skip();
    }
    assert_true(taking.had_lock);
    assert_true(taking.children > BEHIND / 2);
    assert_int_equal(taking.failed, 0);
}

// --- Between two attempts to stop ------------------------------------------

static atomic_bool is_busy; // the worker does not answer
static volatile sig_atomic_t forked, is_child;
static volatile int ended = -1;

static void work_long(struct worker *worker) {
    while (!atomic_load(&over)) {
        mutator_enter(worker->mutator);
        while (atomic_load(&is_busy) && !atomic_load(&over)) {
        }
        world_leave(worker->mutator);
    }
}

// The signals of the conductor are free only while it rests.
static void on_alarm(int number) {
    (void)number;
    if (forked) {
        return;
    }
    forked = 1;
    pid_t child = fork_bare();
    if (child == 0) {
        is_child = 1;
        return;
    }
    ended = finish(child);
    atomic_store(&is_busy, false);
}

// W7: the child does not go on to stop threads that it has not got.
static void test_between_attempts(void **state) {
    (void)state;
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGALRM);
    assert_int_equal(pthread_sigmask(SIG_BLOCK, &mask, NULL), 0);
    atomic_store(&is_busy, true);
    crowd_begin(1, true, work_long); // it does not take the signal
    assert_int_equal(pthread_sigmask(SIG_UNBLOCK, &mask, NULL), 0);
    struct sigaction action = {.sa_handler = on_alarm};
    struct itimerval soon = {.it_value = {.tv_usec = 20000}};
    struct world_stop_report report;
    world_lock(self);
    self->hot_end = __builtin_frame_address(0);
    assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &soon, NULL), 0);
    bool stopped = world_stop(self, &report);
    if (is_child) {
        // What it finds is that of its parent, until it takes the lock anew.
        bool is_whole = !stopped && copy_is_new() && atomic_load(&buried) == 0;
        world_unlock();
        world_lock(self);
        is_whole = is_whole && !copy_is_new() && world.roll.count == 1;
        _exit(is_whole && world_stop(self, &report) ? 0 : 1);
    }
    assert_true(stopped);
    crowd_go();
    crowd_end(1);
    assert_true(report.attempts > 1);
    assert_int_equal(forked, 1);
    assert_int_equal(ended, 0);
}

static void made(void) {
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_taking),
        cmocka_unit_test(test_between_attempts),
    };
    if (SUSPEND_COOPERATIVE) {
        return 77; // nobody is interrupted there
    }
    copy_watch(made);
    return crowd_init() ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
