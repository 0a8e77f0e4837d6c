// Children: of fork, of _Fork and of the bare system call; of a quiet process,
// of one with threads at work, from a safe region, from a finalizer, of a
// thread that was never attached, and their own children.  Each allocates,
// collects, frees, and finds every object of its parent as it was.

#include "api/fork.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "api/door.h"
#include "loam.h"
#include "loam/threads.h"
#include "loam/weak.h"
#include "os/copy.h"
#include "support/scrub.h"
#include "support/step.h"

#define LIST 2000

struct node {
    struct node *next;
    uint64_t number, again;
};

static struct node *list; // LIST nodes, numbered

static struct node *grow(struct node *onto, uint64_t from, uint64_t count) {
    for (uint64_t i = from; i < from + count; i++) {
        struct node *node = loam_alloc(sizeof *node);
        if (node == NULL) {
            return NULL;
        }
        *node = (struct node){onto, i, ~i};
        onto = node;
    }
    return onto;
}

static bool is_whole(const struct node *node, uint64_t count) {
    while (node != NULL && count != 0) {
        count--;
        if (node->number != count || node->again != ~count) {
            return false;
        }
        node = node->next;
    }
    return node == NULL && count == 0;
}

static volatile size_t child_alarm = 20; // seconds

static void *begin(void *data) {
    (void)data;
    return loam_init() ? NULL : &list;
}

// In a process that has not called Loam: one thread begins, and at some point
// of that the other one forks.
static int fork_while_beginning(unsigned turn) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, begin, NULL) != 0) {
        return 10;
    }
    for (volatile unsigned i = 0; i < turn * 97 % 60000; i++) {
    }
    pid_t child =
        turn % 2 == 0 ? fork() : (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (child == 0) {
        alarm(20);
        struct node *own = grow(NULL, 0, 3000);
        _exit(!loam_collect() || !is_whole(own, 3000));
    }
    int status = -1;
    void *failed = NULL;
    if (waitpid(child, &status, 0) != child || status != 0 ||
        pthread_join(thread, &failed) != 0 || failed != NULL) {
        return 11;
    }
    return loam_collect() ? 0 : 12;
}

static void test_beginning(void **state) {
    (void)state;
    for (unsigned turn = 0; turn < 400; turn++) {
        pid_t process = fork();
        if (process == 0) {
            _exit(fork_while_beginning(turn));
        }
        int status = -1;
        assert_int_equal(waitpid(process, &status, 0), process);
        assert_int_equal(status, 0); // FO1
    }
}

// What a child does.  0 when all is well.
static int live(void) {
    alarm((unsigned)child_alarm);
    struct loam_stats stats;
    if (!is_whole(list, LIST)) {
        return 1;
    }
    struct node *own = grow(NULL, 0, 3000);
    if (own == NULL || !is_whole(own, 3000)) {
        return 2;
    }
    if (!loam_collect()) {
        return 3;
    }
    if (!is_whole(list, LIST) || !is_whole(own, 3000)) {
        return 4;
    }
    for (size_t i = 0; i < 200; i++) {
        char *run = loam_alloc_leaf(50000 + i * 16);
        if (run == NULL) {
            return 5;
        }
        memset(run, 1, 50000);
        if (i % 2 == 0) {
            loam_free(run);
        }
    }
    if (!loam_collect() || !is_whole(list, LIST) || !is_whole(own, 3000)) {
        return 6;
    }
    loam_stats(&stats, sizeof stats);
    return stats.live_objects >= LIST ? 0 : 7;
}

static int finish(pid_t child) {
    int status = 0;
    assert_true(child > 0);
    pid_t got;
    do {
        got = waitpid(child, &status, 0);
    } while (got < 0 && errno == EINTR);
    assert_int_equal(got, child);
    if (WIFSIGNALED(status)) {
        print_message("a child died of signal %d\n", WTERMSIG(status));
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

__attribute__((unused)) static pid_t fork_bare(void) {
    return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

static pid_t fork_one(size_t i) {
#if defined(__aarch64__)
    (void)i; // an emulator loses count of what it does not see
    return fork();
#else
    return i % 3 == 0 ? fork() : i % 3 == 1 ? _Fork() : fork_bare();
#endif
}

static void start(void) {
    if (list == NULL) {
        list = grow(NULL, 0, LIST);
        assert_non_null(list);
    }
}

static void test_quiet(void **state) {
    (void)state;
    start();
    for (size_t i = 0; i < 12; i++) {
        pid_t child = fork_one(i);
        if (child == 0) {
            _exit(live()); // FO1
        }
        assert_int_equal(finish(child), 0);
    }
    assert_true(is_whole(list, LIST)); // FO2
    assert_true(loam_collect());
}

// A child that has a child that has one.
static int deeper(size_t levels) {
    int wrong = live();
    if (wrong != 0 || levels == 0) {
        return wrong;
    }
    pid_t child = fork_one(levels);
    if (child == 0) {
        _exit(deeper(levels - 1));
    }
    int status = -1;
    return waitpid(child, &status, 0) == child ? status : 99;
}

static void test_generations(void **state) {
    (void)state;
    start();
    pid_t child = fork();
    if (child == 0) {
        _exit(deeper(6));
    }
    assert_int_equal(finish(child), 0);
}

// A child starts threads of its own, and they are stopped by its collections.
static void *churn(void *data) {
    const bool *stop = data;
    struct node *kept[16] = {NULL};
    for (size_t i = 0; !__atomic_load_n(stop, __ATOMIC_RELAXED); i++) {
        kept[i % 16] = grow(NULL, 0, 1 + i % 40);
        if (i % 7 == 0) {
            loam_free(kept[i % 16]);
            kept[i % 16] = NULL;
        }
        if (i % 50 == 0) {
            (void)loam_collect();
        }
    }
    return kept[3];
}

// Threads that do so.
struct churners {
    pthread_t threads[4];
    size_t count;
    bool stop;
};

static bool churn_begin(struct churners *churners, size_t count) {
    churners->stop = false;
    for (churners->count = 0; churners->count < count; churners->count++) {
        if (pthread_create(&churners->threads[churners->count], NULL, churn,
                           &churners->stop) != 0) {
            return false;
        }
    }
    return true;
}

static void churn_end(struct churners *churners) {
    __atomic_store_n(&churners->stop, true, __ATOMIC_RELAXED);
    for (size_t i = 0; i < churners->count; i++) {
        pthread_join(churners->threads[i], NULL);
    }
}

static int live_with_threads(void) {
    struct churners churners;
    if (!churn_begin(&churners, 3)) {
        return 20;
    }
    int wrong = live();
    churn_end(&churners);
    return wrong;
}

static void test_threads(void **state) {
    (void)state;
    start();
    struct churners churners;
    assert_true(churn_begin(&churners, 4));
    for (size_t i = 0; i < 60; i++) {
        pid_t child = fork_one(i);
        if (child == 0) {
            _exit(i % 3 == 0 && i % 6 != 0 ? live_with_threads() : live());
        }
        assert_int_equal(finish(child), 0); // FO1
    }
    churn_end(&churners);
    assert_true(is_whole(list, LIST));
}

// While others collect: the thread that forks is not asked to stop.
static void test_from_region(void **state) {
    (void)state;
    start();
    struct churners churners;
    assert_true(churn_begin(&churners, 2));
    for (size_t i = 0; i < 60; i++) {
        loam_blocking_enter();
        pid_t child = fork_one(i);
        loam_blocking_leave();
        if (child == 0) {
            _exit(live());
        }
        assert_int_equal(finish(child), 0);
    }
    churn_end(&churners);
}

// A thread that has never called Loam forks, and its child does.
static void *fork_only(void *data) {
    pid_t child = fork();
    if (child == 0) {
        _exit(live());
    }
    *(int *)data = finish(child);
    return NULL;
}

static void test_stranger(void **state) {
    (void)state;
    start();
    pthread_t thread;
    int got = -1;
    assert_int_equal(pthread_create(&thread, NULL, fork_only, &got), 0);
    pthread_join(thread, NULL);
    assert_int_equal(got, 0);
}

static int finalizer_result = -1;

static void fork_finally(void *object, void *data) {
    (void)object;
    (void)data;
    pid_t child = fork();
    if (child == 0) {
        _exit(live());
    }
    finalizer_result = finish(child);
}

static __attribute__((noinline)) void drop_one(void) {
    void *dropped = loam_alloc(48);
    struct loam_finalizer finalizer = {fork_finally, NULL,
                                       LOAM_FINALIZE_ORDERED};
    (void)loam_finalizer_set(dropped, &finalizer, NULL);
}

static void test_from_finalizer(void **state) {
    (void)state;
    start();
    for (size_t i = 0; i < 50 && finalizer_result < 0; i++) {
        drop_one();
        (void)grow(NULL, 0, 100);
        (void)loam_collect();
    }
    assert_int_equal(finalizer_result, 0);
}

// A handler that interrupts our work at any instruction, and forks: the child
// finishes what was interrupted, and lives on.
struct steps {
    size_t every, children, failed;
    bool is_child;
};

static void work_in_steps(void *data) {
    (void)data;
    for (size_t i = 0; i < 6; i++) {
        void *cell = loam_alloc(3000); // a refill, a fresh block
        void *run = loam_alloc_leaf(300000);
        loam_free(run);
        loam_free(cell);
    }
    (void)grow(NULL, 0, 10);
}

// Where signals are blocked no handler comes.
static bool are_blocked(void) {
    sigset_t mask;
    return pthread_sigmask(SIG_BLOCK, NULL, &mask) != 0 ||
           sigismember(&mask, SIGUSR1) == 1;
}

static void fork_between(size_t instructions, void *data) {
    struct steps *steps = data;
    if (instructions % steps->every != 0 || are_blocked()) {
        return;
    }
    pid_t child = fork_one(instructions / steps->every);
    if (child == 0) {
        (void)alarm((unsigned)child_alarm);
        steps->is_child = true;
        step_end();
        return;
    }
    int status = 1;
    steps->failed += child < 0 || waitpid(child, &status, 0) != child || status;
    steps->children++;
}

static void check_steps(void (*body)(void *data), size_t every) {
    struct steps steps = {.every = every};
    loam_disable();
    bool ran = step_run(body, fork_between, &steps);
    loam_enable();
    if (steps.is_child) {
        _exit(live());
    }
    if (!ran) {
        skip();
    }
    print_message("%zu children\n", steps.children);
    assert_int_not_equal(steps.children, 0);
    assert_int_equal(steps.failed, 0);
}

static void test_steps(void **state) {
    (void)state;
    start();
    check_steps(work_in_steps, SCALED(199, 397));
}

// The same while others work, and collect: the lock is taken now and then, and
// a stop may be on.
static void work_with_others(void *data) {
    (void)data;
    bool entered = false;
    loam_door_safe_enter(&entered);
    loam_door_safe_leave();
    void *cell = loam_alloc(3000);
    loam_free(cell);
    struct loam_weak *weak = loam_weak_make(list);
    void *run = loam_alloc_leaf(300000);
    loam_blocking_enter();
    loam_blocking_leave();
    loam_free(run);
    if (!entered || loam_weak_get(weak) != list) {
        abort();
    }
    loam_thread_detach();
    (void)grow(NULL, 0, 10);
}

static void test_steps_with_others(void **state) {
    (void)state;
    start();
    struct churners churners;
    assert_true(churn_begin(&churners, 2));
    check_steps(work_with_others, SCALED(97, 293));
    churn_end(&churners);
}

// The child of vfork shares memory with its parent: it is no copy, and does
// nothing of ours.
static void test_vfork(void **state) {
    (void)state;
    start();
    for (size_t i = 0; i < 20; i++) {
        pid_t child = vfork();
        if (child == 0) {
            _exit(copy_is_new());
        }
        assert_int_equal(finish(child), 0);
        assert_non_null(grow(NULL, 0, 1000));
    }
    assert_true(loam_collect());
    assert_true(is_whole(list, LIST)); // FO2
}

int main(void) {
    const struct CMUnitTest tests[] = {
        // This one first: Loam must not have been called.
        cmocka_unit_test(test_beginning),
        cmocka_unit_test(test_quiet),
        cmocka_unit_test(test_generations),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_from_region),
        cmocka_unit_test(test_stranger),
        cmocka_unit_test(test_from_finalizer),
        cmocka_unit_test(test_steps),
        cmocka_unit_test(test_steps_with_others),
        cmocka_unit_test(test_vfork),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
