// Programs that wait, and that use for themselves the signal by which Loam
// stops threads, on libloam_malloc: as long as nobody is stopped the wrappers
// are not there (W1); from the first cycle on they are.

#include "loam.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static sigset_t only(int number) {
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, number);
    return set;
}

// --- A thread from before main ---------------------------------------------

static pthread_t early;
static int early_pipe[2];
static char *volatile early_made;

static void *run_early(void *data) {
    char byte = 0;
    early_made = malloc(100); // NOLINT: freed by another thread
    while (read(early_pipe[0], &byte, 1) == 1 && byte != 0) {
        free(malloc(1000));
    }
    return data;
}

__attribute__((constructor)) static void begin_early(void) {
    if (pipe(early_pipe) != 0 ||
        pthread_create(&early, NULL, run_early, &early_pipe) != 0) {
        abort();
    }
}

// --- Before anybody is stopped ---------------------------------------------

// W1: blocked, waited for, and read, as if Loam were not there.
static void test_plain_signal(void **state) {
    (void)state;
    free(malloc(1));
    sigset_t set = only(SIGURG);
    sigset_t now;
    assert_int_equal(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
    assert_int_equal(pthread_sigmask(SIG_BLOCK, NULL, &now), 0);
    assert_int_equal(sigismember(&now, SIGURG), 1);
    assert_int_equal(raise(SIGURG), 0);
    int number = 0;
    assert_int_equal(sigwait(&set, &number), 0);
    assert_int_equal(number, SIGURG);
    int file = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    assert_true(file >= 0);
    assert_int_equal(raise(SIGURG), 0);
    struct signalfd_siginfo info;
    assert_int_equal(read(file, &info, sizeof info), sizeof info);
    assert_int_equal(info.ssi_signo, SIGURG);
    assert_int_equal(close(file), 0);
    assert_int_equal(pthread_sigmask(SIG_UNBLOCK, &set, NULL), 0);
}

static volatile sig_atomic_t urgent;

static void note_urgent(int number) {
    urgent += number == SIGURG;
    free(malloc(50)); // NOLINT: allowed here
}

// W4: its own handler of that signal is called, and told to who asks.  Where
// stops go on (`merges`), the system may take a signal and that of a stop for
// one, as two of anybody's: it is sent until it is heard (H6).
static void handle_urgent(bool merges) {
    struct sigaction action = {.sa_handler = note_urgent};
    struct sigaction old, told;
    assert_int_equal(sigaction(SIGURG, &action, &old), 0);
    assert_int_equal(sigaction(SIGURG, NULL, &told), 0);
    assert_true(told.sa_handler == note_urgent);
    urgent = 0;
    int sent = 0;
    do {
        assert_int_equal(raise(SIGURG), 0);
        sent++;
    } while (merges && urgent == 0);
    assert_int_equal(urgent, 1);
    assert_true(sent < 1000);
    assert_int_equal(sigaction(SIGURG, &old, NULL), 0);
}

static void test_plain_handler(void **state) {
    (void)state;
    handle_urgent(false);
}

static void *add_one(void *data) {
    char *made = malloc(300);
    memset(made, 1, 300);
    free(made);
    return (char *)data + 1;
}

static void make_children(void) {
    char *const arguments[] = {"true", NULL};
    pid_t child = 0;
    int status = 1;
    assert_int_equal(
        posix_spawn(&child, "/bin/true", NULL, NULL, arguments, environ), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    child = vfork();
    if (child == 0) {
        (void)execv("/bin/true", arguments);
        _exit(1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    child = fork();
    if (child == 0) {
        free(malloc(1000));
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

// Threads with an argument and a result of malloc's; children of all kinds.
static void make_threads(void) {
    for (size_t turn = 0; turn < 20; turn++) {
        char *argument = malloc(64);
        void *result = NULL;
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, add_one, argument), 0);
        assert_int_equal(pthread_join(thread, &result), 0);
        assert_ptr_equal(result, argument + 1);
        free(argument);
    }
}

static void test_plain_threads(void **state) {
    (void)state;
    make_threads();
    make_children();
}

static char bare_stack[64 * 1024] __attribute__((aligned(16)));
static volatile int bare_done;

// A thread that no library knows; it may not call any.
static int run_bare(void *data) {
    *(volatile int *)data = 1;
    return 0;
}

static void make_bare_thread(void) {
    bare_done = 0;
    int thread = clone(run_bare, bare_stack + sizeof bare_stack,
                       CLONE_VM | CLONE_FS | CLONE_FILES | SIGCHLD,
                       (void *)(uintptr_t)&bare_done);
    assert_true(thread > 0);
    assert_int_equal(waitpid(thread, NULL, 0), thread);
    assert_int_equal(bare_done, 1);
}

static void test_plain_clone(void **state) {
    (void)state;
    make_bare_thread();
}

// --- And from then on ------------------------------------------------------

static volatile bool enough;

static void *stop_the_world(void *data) {
    while (!enough) {
        loam_collect();
        (void)sched_yield();
    }
    return data;
}

// W2, W3: waits do not end, and nobody blocks the signal any more.
static void test_stops(void **state) {
    (void)state;
    loam_collect(); // the first of them: they are expected from here on
    pthread_t stopper;
    assert_int_equal(pthread_create(&stopper, NULL, stop_the_world, NULL), 0);
    for (size_t turn = 0; turn < 10; turn++) {
        assert_int_equal(poll(NULL, 0, 5), 0);
        struct timespec time = {.tv_nsec = 5000000};
        assert_int_equal(nanosleep(&time, NULL), 0);
        make_threads();
    }
    make_children();
    make_bare_thread();
    handle_urgent(true);
    sigset_t set = only(SIGURG);
    sigset_t now;
    assert_int_equal(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
    assert_int_equal(pthread_sigmask(SIG_BLOCK, NULL, &now), 0);
    assert_int_equal(sigismember(&now, SIGURG), 0);
    enough = true;
    assert_int_equal(pthread_join(stopper, NULL), 0);
}

// The thread that was there before all.
static void test_early(void **state) {
    (void)state;
    const char bytes[] = {1, 1, 0};
    assert_int_equal(write(early_pipe[1], bytes, sizeof bytes), sizeof bytes);
    void *result = NULL;
    assert_int_equal(pthread_join(early, &result), 0);
    assert_ptr_equal(result, &early_pipe);
    assert_non_null(early_made);
    free(early_made);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_signal),
        cmocka_unit_test(test_plain_handler),
        cmocka_unit_test(test_plain_threads),
        cmocka_unit_test(test_plain_clone),
        cmocka_unit_test(test_stops),
        cmocka_unit_test(test_early),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
