// What the kernel tells of threads: of many at once, of each one, of one that
// has gone.

#include "os/task.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define THREADS 200u // their entries fill more than one buffer

static pthread_barrier_t all_here;
static pthread_mutex_t may_go = PTHREAD_MUTEX_INITIALIZER;

static uint32_t own_id(void) {
    return (uint32_t)syscall(SYS_gettid);
}

static void *wait_for_all(void *data) {
    *(uint32_t *)data = own_id();
    (void)pthread_barrier_wait(&all_here);
    (void)pthread_mutex_lock(&may_go);
    (void)pthread_mutex_unlock(&may_go);
    return NULL;
}

static void nap(long milliseconds) {
    struct timespec time = {.tv_nsec = milliseconds * 1000000};
    (void)nanosleep(&time, NULL);
}

struct visits {
    const uint32_t *sought;
    size_t found[THREADS];
    size_t tasks;
    size_t left; // stop after so many
};

static bool note(uint32_t task, void *data) {
    struct visits *visits = data;
    visits->tasks++;
    for (size_t index = 0; index < THREADS; index++) {
        visits->found[index] += visits->sought[index] == task;
    }
    return --visits->left != 0;
}

// TK1, TK2
static void test_many(void **state) {
    (void)state;
    pthread_t threads[THREADS];
    static uint32_t ids[THREADS];
    pthread_attr_t attributes;
    assert_int_equal(pthread_attr_init(&attributes), 0);
    assert_int_equal(pthread_attr_setstacksize(&attributes, 256 * KiB), 0);
    assert_int_equal(pthread_barrier_init(&all_here, NULL, THREADS + 1), 0);
    assert_int_equal(pthread_mutex_lock(&may_go), 0);
    for (size_t index = 0; index < THREADS; index++) {
        assert_int_equal(pthread_create(&threads[index], &attributes,
                                        wait_for_all, &ids[index]),
                         0);
    }
    (void)pthread_barrier_wait(&all_here);
    struct visits visits = {.sought = ids, .left = SIZE_MAX};
    assert_true(task_each(note, &visits));
    for (size_t index = 0; index < THREADS; index++) {
        assert_int_equal(visits.found[index], 1); // TK2
    }
    assert_int_equal(visits.tasks, task_count()); // TK1
    assert_true(visits.tasks > THREADS);
    visits = (struct visits){.sought = ids, .left = 3};
    assert_true(task_each(note, &visits));
    assert_int_equal(visits.tasks, 3); // the visit said: enough
    assert_int_equal(pthread_mutex_unlock(&may_go), 0);
    for (size_t index = 0; index < THREADS; index++) {
        assert_int_equal(pthread_join(threads[index], NULL), 0);
    }
}

// The status of a thread once it waits.
static struct task_status status_of_sleeper(uint32_t task) {
    struct task_status status;
    assert_true(task_read(task, &status));
    for (size_t turn = 0; turn < 5000 && status.state != 'S'; turn++) {
        nap(1);
        assert_true(task_read(task, &status));
    }
    return status;
}

struct odd {
    uint32_t id;
    const void *frame;
};

// A thread with a name that is hard to read, which blocks three signals.
static void *be_odd(void *data) {
    struct odd *odd = data;
    sigset_t blocked;
    (void)sigemptyset(&blocked);
    (void)sigaddset(&blocked, SIGHUP);
    (void)sigaddset(&blocked, SIGURG);
    (void)sigaddset(&blocked, SIGUSR2);
    (void)pthread_sigmask(SIG_BLOCK, &blocked, NULL);
    (void)prctl(PR_SET_NAME, "odd) S 1 (x", 0, 0, 0);
    (void)pthread_kill(pthread_self(), SIGHUP);
    odd->frame = __builtin_frame_address(0);
    return wait_for_all(&odd->id);
}

// TK3
static void test_status(void **state) {
    (void)state;
    struct odd odd;
    pthread_t thread;
    assert_int_equal(pthread_barrier_init(&all_here, NULL, 2), 0);
    assert_int_equal(pthread_mutex_lock(&may_go), 0);
    assert_int_equal(pthread_create(&thread, NULL, be_odd, &odd), 0);
    (void)pthread_barrier_wait(&all_here);
    struct task_status status = status_of_sleeper(odd.id);
    assert_int_equal(status.state, 'S');
    assert_string_equal(status.name, "odd) S 1 (x");
    assert_true(status.blocked >> (SIGHUP - 1) & 1);
    assert_true(status.blocked >> (SIGURG - 1) & 1);
    assert_true(status.blocked >> (SIGUSR2 - 1) & 1);
    assert_false(status.blocked >> (SIGTERM - 1) & 1);
    assert_int_equal(status.pending, (uint64_t)1 << (SIGHUP - 1));
    assert_false(status.is_worker);
    if (status.system_call == SYS_futex) { // else not told, or by an emulator
        assert_true((uintptr_t)odd.frame > status.stack_pointer);
        assert_true((uintptr_t)odd.frame - status.stack_pointer < MiB);
    }
    assert_int_equal(pthread_mutex_unlock(&may_go), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    struct task_status gone;
    for (size_t turn = 0; turn < 5000 && task_read(odd.id, &gone); turn++) {
        nap(1);
    }
    assert_false(task_read(odd.id, &gone));
    assert_int_equal(gone.state, '?');
    assert_int_equal(gone.system_call, -1);
    assert_int_equal(gone.blocked, 0);
    assert_string_equal(gone.name, "");
    assert_false(task_read(UINT32_MAX, &gone));
    assert_true(task_read(own_id(), &status)); // and ourselves
    assert_int_equal(status.state, 'R');
}

static bool note_worker(uint32_t task, void *data) {
    struct task_status status;
    if (task_read(task, &status) && status.is_worker) {
        *(uint32_t *)data = task;
    }
    return true;
}

// TK3: the kernel's own threads in our process.
static void test_worker(void **state) {
    (void)state;
    uint32_t worker = 0;
    assert_true(task_each(note_worker, &worker));
    assert_int_equal(worker, 0);
    struct io_uring_params ring = {.flags = IORING_SETUP_SQPOLL};
    long file = syscall(SYS_io_uring_setup, 4, &ring);
    if (file < 0) {
        skip(); // this kernel, or this machine's rules, have none
    }
    assert_true(task_each(note_worker, &worker));
    (void)close((int)file);
    assert_int_not_equal(worker, 0);
    assert_int_not_equal(worker, own_id());
}

static void *judge_leader(void *leader) {
    struct task_status status = {0};
    for (size_t turn = 0; turn < 5000 && status.state != 'Z'; turn++) {
        nap(1);
        if (!task_read(*(uint32_t *)leader, &status)) {
            _exit(2);
        }
    }
    _exit(status.state == 'Z' ? 0 : 1);
}

// TK3: a process may outlive its first thread.
static void test_dead_leader(void **state) {
    (void)state;
    pid_t child = fork();
    if (child == 0) {
        static uint32_t leader;
        leader = own_id();
        pthread_t thread;
        (void)pthread_create(&thread, NULL, judge_leader, &leader);
        (void)syscall(SYS_exit, 0); // this thread alone
    }
    int status = 1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

// TK4
static void test_quiet(void **state) {
    (void)state;
    static uint32_t nobody[THREADS];
    struct visits visits = {.sought = nobody, .left = SIZE_MAX};
    struct task_status status;
    int before = open("/dev/null", O_RDONLY);
    errno = 83;
    (void)task_count();
    assert_true(task_each(note, &visits));
    assert_true(task_read(own_id(), &status));
    assert_false(task_read(UINT32_MAX, &status));
    assert_int_equal(errno, 83);
    int after = open("/dev/null", O_RDONLY);
    assert_int_equal(after, before + 1); // nothing was left open
    (void)close(before);
    (void)close(after);
}

// TK4: with no descriptor left, nor a limit above that might be raised.
static void test_no_descriptor(void **state) {
    (void)state;
    pid_t child = fork(); // what it gives up here it does not get back
    assert_true(child >= 0);
    if (child == 0) {
        static uint32_t nobody[THREADS];
        struct visits visits = {.sought = nobody, .left = SIZE_MAX};
        struct task_status task;
        const struct rlimit none = {0, 0};
        int wrong = setrlimit(RLIMIT_NOFILE, &none) != 0;
        errno = 84;
        wrong |= task_each(note, &visits) << 1;
        wrong |= task_read(own_id(), &task) << 2;
        wrong |= (task_count() < 1) << 3; // needs no descriptor
        wrong |= (errno != 84) << 4;
        _exit(wrong);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many),   cmocka_unit_test(test_status),
        cmocka_unit_test(test_worker), cmocka_unit_test(test_dead_leader),
        cmocka_unit_test(test_quiet),  cmocka_unit_test(test_no_descriptor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
