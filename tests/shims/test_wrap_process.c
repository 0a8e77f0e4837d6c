// Children: a parent that waits for one keeps no collection waiting (W2), a
// child of vfork leaves its parent's books alone (W8), and each call does what
// it did (W1).
// seconds: 120

#include "loam.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/scrub.h"

#define STOP SIGURG

static double now_ms(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static _Atomic int phase;    // 1: about to make the child, 2: it is over
static _Atomic bool may_end; // the child of vfork

// Collections while another thread waits for its child, which lives until
// `let` ends it: one that waited for it would be given up.  The shortest, in
// milliseconds; on a busy machine any other may be long.
static double collect_beside(void *(*waiter)(void *), void (*let)(void)) {
    pthread_t thread;
    phase = 0;
    may_end = false;
    assert_int_equal(pthread_create(&thread, NULL, waiter, NULL), 0);
    while (phase == 0) {
        (void)usleep(1000);
    }
    (void)usleep(100000); // by now it waits in the system
    double shortest = 1e9;
    int done = 0;
    for (int n = 0; n < 10; n++) {
        double before = now_ms();
        done += loam_collect();
        double took = now_ms() - before;
        shortest = took < shortest ? took : shortest;
    }
    int still = phase;
    let(); // whatever there is to say: nobody else ends it
    assert_int_equal(done, 10);
    assert_int_equal(still, 1);
    void *wrong;
    assert_int_equal(pthread_join(thread, &wrong), 0);
    assert_null(wrong);
    print_message("shortest of 10 collections: %.2f ms\n", shortest);
    return shortest;
}

static void *wait_for_vfork(void *unused) {
    void *volatile object = loam_alloc(64);
    memset(object, 5, 64);
    (void)unused;
    phase = 1;
    pid_t child = vfork();
    if (child == 0) {
        // In the child, on the parent's stack, wrapped calls work.
        struct timespec time = {.tv_nsec = 10000000};
        for (int n = 0; n < 6000 && !may_end; n++) {
            (void)nanosleep(&time, NULL);
        }
        _exit(may_end ? 7 : 8);
    }
    phase = 2;
    int status = 0;
    bool done = child > 0 && waitpid(child, &status, 0) == child &&
                WIFEXITED(status) && WEXITSTATUS(status) == 7 &&
                ((char *)object)[63] == 5;
    return done ? NULL : &phase;
}

static void end_child(void) {
    may_end = true;
}

static void a_child_of_vfork_delays_no_collection(void **state) { // W2
    (void)state;
    assert_true(collect_beside(wait_for_vfork, end_child) < 500);
}

static char fifo[64];

// posix_spawn waits until its child has opened a pipe that nobody reads.
static void *wait_for_spawn(void *unused) {
    posix_spawn_file_actions_t actions;
    char *arguments[] = {(char *)(uintptr_t) "true", NULL};
    pid_t child;
    int status = 0;
    (void)unused;
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawn_file_actions_addopen(&actions, 1, fifo, O_WRONLY, 0);
    phase = 1;
    int done = posix_spawnp(&child, "true", &actions, NULL, arguments, environ);
    phase = 2;
    (void)posix_spawn_file_actions_destroy(&actions);
    bool right = done == 0 && waitpid(child, &status, 0) == child &&
                 WIFEXITED(status) && WEXITSTATUS(status) == 0;
    return right ? NULL : &phase;
}

static int reader;

static void open_reader(void) {
    reader = open(fifo, O_RDONLY); // waits for the child to open it
}

static void a_slow_spawn_delays_no_collection(void **state) { // W2
    (void)state;
    (void)snprintf(fifo, sizeof fifo, "/tmp/loam-fifo-%d", (int)getpid());
    assert_int_equal(mkfifo(fifo, 0600), 0);
    double shortest = collect_beside(wait_for_spawn, open_reader);
    (void)close(reader);
    (void)unlink(fifo);
    assert_true(shortest < 500);
}

static volatile sig_atomic_t parents, childs;

static void parents_handler(int number) {
    (void)number;
    parents++;
}

static void childs_handler(int number) {
    (void)number;
    childs++;
}

// What a child sets is its own, though the memory is its parent's.
static void a_child_sets_its_own_actions(void **state) { // W8
    (void)state;
    struct sigaction action = {.sa_handler = parents_handler};
    assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
    assert_int_equal(sigaction(STOP, &action, NULL), 0);
    volatile int told = 0;
    pid_t child = vfork();
    if (child == 0) {
        struct sigaction old, own = {.sa_handler = childs_handler};
        told = sigaction(SIGUSR1, &own, &old) == 0 &&
               old.sa_handler == parents_handler;
        (void)sigaction(SIGUSR1, NULL, &old);
        told = told && old.sa_handler == childs_handler;
        (void)raise(SIGUSR1);
        own.sa_handler = SIG_DFL;
        (void)sigaction(STOP, &own, NULL);
        _exit(0);
    }
    assert_true(child > 0);
    assert_true(told);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(childs, 1);
    parents = 0;
    assert_int_equal(raise(SIGUSR1), 0);
    assert_int_equal(parents, 1);
    struct sigaction old;
    assert_int_equal(sigaction(STOP, NULL, &old), 0);
    assert_ptr_equal(old.sa_handler, parents_handler);
    assert_int_equal(raise(STOP), 0);
    assert_int_equal(parents, 2);
    (void)signal(SIGUSR1, SIG_DFL);
    (void)signal(STOP, SIG_DFL);
    assert_true(loam_collect());
}

static unsigned char *handed; // the only reference, until it is taken

NOT_INLINED static void hand_over(void) {
    unsigned char *object = loam_alloc(64);
    assert_non_null(object);
    memset(object, 5, 64);
    __atomic_store_n(&handed, object, __ATOMIC_RELEASE);
}

// In a frame below that of the wait: in a thread that counted as waiting it
// would not be read.
NOT_INLINED static bool take_and_keep(void) {
    unsigned char *object =
        __atomic_exchange_n(&handed, NULL, __ATOMIC_ACQ_REL);
    phase = 2;
    while (phase == 2) {
    }
    bool whole = true;
    for (size_t i = 0; i < 64; i++) {
        whole = whole && object[i] == 5;
    }
    return whole;
}

static void *outlive_a_child(void *unused) {
    (void)unused;
    assert_non_null(loam_alloc(64));
    pid_t child = vfork();
    if (child == 0) {
        // It dies in a call that waits, and never comes out of it.
        struct itimerval soon = {.it_value = {.tv_usec = 10000}};
        struct timespec time = {.tv_sec = 60};
        (void)setitimer(ITIMER_REAL, &soon, NULL);
        (void)nanosleep(&time, NULL);
        _exit(0);
    }
    int status = 0;
    bool killed = child > 0 && waitpid(child, &status, 0) == child &&
                  WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM;
    return killed && take_and_keep() ? NULL : &phase;
}

static void a_child_that_dies_in_a_wait_was_not_waiting_for_us(void **state) {
    (void)state; // W8
    pthread_t thread;
    phase = 1;
    hand_over();
    scrub_stack();
    assert_int_equal(pthread_create(&thread, NULL, outlive_a_child, NULL), 0);
    while (phase != 2) {
        (void)usleep(1000);
    }
    for (size_t turn = 0; turn < 3; turn++) {
        assert_true(loam_collect());
        for (size_t i = 0; i < 2000; i++) {
            memset(loam_alloc(64), 6, 64);
        }
    }
    phase = 3;
    void *wrong;
    assert_int_equal(pthread_join(thread, &wrong), 0);
    assert_null(wrong);
}

static pid_t vfork_exec(const char *path, const char *word) {
    pid_t child = vfork();
    if (child == 0) {
        (void)execl(path, path, "-c", word, (char *)NULL);
        _exit(127);
    }
    return child;
}

static void vfork_and_exec_as_ever(void **state) { // W1
    (void)state;
    for (int n = 0; n < 20; n++) {
        int status = 0;
        pid_t child = vfork_exec("/bin/sh", "exit 3");
        assert_true(child > 0);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(WEXITSTATUS(status), 3);
        child = vfork_exec("/no/such/shell", "exit 3");
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(WEXITSTATUS(status), 127);
        assert_true(loam_collect());
    }
}

static void other_children_as_ever(void **state) { // W1
    (void)state;
    assert_int_equal(WEXITSTATUS(system("exit 5")), 5);
    char line[32] = "";
    FILE *stream = popen("echo hello", "r");
    assert_non_null(stream);
    assert_non_null(fgets(line, sizeof line, stream));
    assert_string_equal(line, "hello\n");
    assert_int_equal(pclose(stream), 0);
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        _exit(loam_alloc(100) != NULL && loam_collect() ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static int set_up(void **state) {
    (void)state;
    return loam_init() && loam_alloc(16) != NULL ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_child_of_vfork_delays_no_collection),
        cmocka_unit_test(a_slow_spawn_delays_no_collection),
        cmocka_unit_test(a_child_sets_its_own_actions),
        cmocka_unit_test(a_child_that_dies_in_a_wait_was_not_waiting_for_us),
        cmocka_unit_test(vfork_and_exec_as_ever),
        cmocka_unit_test(other_children_as_ever),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
