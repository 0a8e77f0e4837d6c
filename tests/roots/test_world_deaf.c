// Threads that no signal reaches, and signals that are not ours.

#include "roots/world.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "os/clock.h"
#include "os/tracer.h"
#include "support/crowd.h"

// Not through the library: nobody can wrap this.
static void block_everything(void) {
    uint64_t all = ~(uint64_t)0;
    (void)syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, sizeof all);
}

static void *stay(void *data) {
    *(_Atomic uint32_t *)data = thread_id();
    while (!atomic_load(&over)) {
        crowd_nap_ms(1);
    }
    return NULL;
}

// Whether this system lets us trace a thread at all.
static bool may_trace(void) {
    static _Atomic uint32_t thread;
    static struct tracer_file file;
    pthread_t sleeper;
    atomic_store(&over, false);
    assert_int_equal(pthread_create(&sleeper, NULL, stay, &thread), 0);
    while (atomic_load(&thread) == 0) {
        crowd_nap_ms(1);
    }
    bool may = false;
    for (size_t turn = 0; !may && turn < 20; turn++) {
        may = tracer_stop(atomic_load(&thread), &file);
    }
    tracer_end();
    atomic_store(&over, true);
    assert_int_equal(pthread_join(sleeper, NULL), 0);
    return may;
}

static bool traces; // what may_trace said

static void work_deaf(struct worker *worker) {
    block_everything();
    while (!atomic_load(&over)) {
        atomic_fetch_add(&worker->before, 1);
        atomic_fetch_add(&worker->after, 1);
    }
}

// Deaf, and at work inside most of the time: traced at the right moment, or
// stopped where it leaves (W3).
static void work_deaf_inside(struct worker *worker) {
    block_everything();
    while (!atomic_load(&over)) {
        mutator_enter(worker->mutator);
        atomic_fetch_add(&worker->before, 1);
        atomic_fetch_add(&worker->after, 1);
        world_leave(worker->mutator);
    }
}

#if defined(__x86_64__)
struct search {
    uintptr_t word; // complemented
    size_t found;
};

NO_SANITIZE static void search_words(const uintptr_t *start,
                                     const uintptr_t *end, void *data) {
    struct search *search = data;
    for (const volatile uintptr_t *at = start; at < end; at++) {
        search->found += *at == ~search->word;
    }
}

#define SECRET ((uintptr_t)0x5ec4e71)

// Deaf, with words that are in one register only: ~SECRET and SECRET + 1.
static void work_deaf_register(struct worker *worker) {
    block_everything();
    __asm__ volatile("movq %2, %%rax\n"
                     "notq %%rax\n"
                     "movq %%rax, %%r13\n"
                     "notq %%rax\n"
                     "incq %%rax\n"
                     "movq %%rax, %%xmm5\n"
                     "movq $1, %0\n" // from here on they are there
                     "1: pause\n"
                     "movl %1, %%eax\n"
                     "testl $1, %%eax\n"
                     "jz 1b\n"
                     "xorq %%r13, %%r13\n"
                     : "=m"(worker->before)
                     : "m"(over), "i"(SECRET)
                     : "rax", "r13", "xmm5", "memory", "cc");
}

// V2 of the tracer, as far as the stop hands it on (W4).
static void test_traced_register(void **state) {
    (void)state;
    if (!traces) {
        return;
    }
    crowd_begin(1, true, work_deaf_register);
    while (atomic_load(&workers[0].before) == 0) {
        crowd_nap_ms(1);
    }
    struct world_stop_report report = crowd_stop();
    struct search general = {.word = SECRET};
    struct search vector = {.word = ~(SECRET + 1)};
    world_each_stack(search_words, &general);
    world_each_stack(search_words, &vector);
    crowd_go();
    assert_int_equal(report.traced, 1);
    assert_true(general.found > 0);
    assert_true(vector.found > 0);
    crowd_end(1);
}
#endif

// Such a thread is stopped by other means, or named within a second (W7).
static void stop_deaf(bool attached, void (*work)(struct worker *worker)) {
    named_thread = 0;
    crowd_begin(2, attached, work);
    for (size_t turn = 0; turn < 20; turn++) {
        uint64_t begin = clock_now_ns();
        struct world_stop_report report;
        world_lock(self);
        self->hot_end = __builtin_frame_address(0);
        bool stopped = world_stop(self, &report);
        if (stopped) {
            assert_true(traces || !attached);
            if (traces) {
                crowd_see_still(2);
            }
            for (size_t i = 0; work == work_deaf_inside && i < 2; i++) {
                assert_int_equal(atomic_load(&workers[i].before),
                                 atomic_load(&workers[i].after));
            }
            assert_true(traces ? report.passed == 0 : report.passed >= 2);
            world_resume();
        }
        self->hot_end = NULL;
        world_unlock();
        if (!stopped) {
            print_message("given up after %u attempts: %s\n", report.attempts,
                          report.reason);
            assert_true(!traces && attached);
            assert_true(clock_now_ns() - begin < (uint64_t)5000000000);
            assert_true(report.thread == workers[0].id ||
                        report.thread == workers[1].id);
            assert_non_null(report.reason);
            break;
        }
    }
    assert_true(traces || named_thread != 0);
    crowd_end(2);
}

static void test_deaf_mutator(void **state) {
    (void)state;
    stop_deaf(true, work_deaf);
    if (traces) { // else it stops where it comes out
        stop_deaf(true, work_deaf_inside);
    }
}

static void test_deaf_stranger(void **state) {
    (void)state;
    stop_deaf(false, work_deaf);
}

// The C library's own helper for timers blocks every signal, for life.
static atomic_uint rings;

static void ring(union sigval value) {
    (void)value;
    atomic_fetch_add(&rings, 1);
}

static void test_timer(void **state) {
    (void)state;
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_THREAD,
                             .sigev_notify_function = ring};
    assert_int_equal(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
    struct itimerspec often = {{0, 2000000}, {0, 2000000}};
    assert_int_equal(timer_settime(timer, 0, &often, NULL), 0);
    uint64_t slowest = 0;
    uint64_t begin = clock_now_ns();
    for (size_t turn = 0; turn < 100 && crowd_may_go_on(begin, turn); turn++) {
        struct world_stop_report report = crowd_stop();
        unsigned heard = atomic_load(&rings);
        sched_yield();
        assert_true(!traces || atomic_load(&rings) == heard);
        slowest = report.stop_ns > slowest ? report.stop_ns : slowest;
        crowd_go();
        crowd_nap_ms(2);
    }
    assert_int_equal(timer_delete(timer), 0);
    assert_true(atomic_load(&rings) > 0);
    print_message("a timer's threads: slowest stop %.1f ms\n",
                  (double)slowest / 1000000);
}

// --- The program uses the signal, too --------------------------------------

static atomic_uint heard;

static void hear(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)info, (void)context;
    atomic_fetch_add(&heard, 1);
}

// With SA_SIGINFO: some emulators read handler and flags one after the other,
// and would call ours, when it is put back, as one that takes a number alone.
static const struct sigaction mine = {.sa_sigaction = hear,
                                      .sa_flags = SA_SIGINFO};

static void work_counting(struct worker *worker) {
    while (!atomic_load(&over)) {
        atomic_fetch_add(&worker->before, 1);
        atomic_fetch_add(&worker->after, 1);
    }
}

// A raw rt_sigaction takes our handler away; the next stop puts it back, and
// what was put in its place still hears what was sent to it, and nothing else.
static void test_replaced(void **state) {
    (void)state;
    crowd_begin(2, true, work_counting);
    assert_int_equal(sigaction(SIGURG, &mine, NULL), 0);
    uint64_t begin = clock_now_ns();
    for (size_t turn = 0; turn < 100 && crowd_may_go_on(begin, turn); turn++) {
        struct world_stop_report report = crowd_stop();
        assert_int_equal(report.thread, 0);
        crowd_see_still(2);
        crowd_go();
        atomic_store(&heard, 0);
        assert_int_equal(raise(SIGURG), 0);
        assert_int_equal(atomic_load(&heard), 1);
        assert_int_equal(kill(getpid(), SIGURG), 0);
        for (size_t nap = 0; atomic_load(&heard) < 2 && nap < 1000; nap++) {
            crowd_nap_ms(1);
        }
        assert_int_equal(atomic_load(&heard), 2);
        if (turn % 10 == 5) {
            assert_int_equal(sigaction(SIGURG, &mine, NULL), 0);
        }
    }
    crowd_end(2);
}

// Stops one after the other, so that signals of one find threads that are in
// the handler for the one before: the program hears none.
static void test_unheard(void **state) {
    (void)state;
    suspend_set_chained(&mine, NULL);
    crowd_begin(4, true, work_counting);
    atomic_store(&heard, 0);
    uint64_t begin = clock_now_ns();
    size_t turn = 0;
    while (turn < 1000 && clock_now_ns() - begin < (uint64_t)2000000000) {
        (void)crowd_stop();
        crowd_go();
        turn++;
    }
    crowd_end(4);
    assert_int_equal(atomic_load(&heard), 0);
    print_message("%zu stops, unheard\n", turn);
}

// --- The first thread ends before the others -------------------------------

static void *outlive(void *data) {
    (void)data;
    self = world_attach(NULL, false);
    crowd_nap_ms(20); // the first thread is a zombie by now
    for (size_t turn = 0; turn < 20; turn++) {
        struct world_stop_report report;
        world_lock(self);
        self->hot_end = __builtin_frame_address(0);
        if (!world_stop(self, &report) || report.thread != 0) {
            _exit(3);
        }
        world_resume();
        self->hot_end = NULL;
        world_unlock();
        if (turn == 10 && report.attempts != 1) {
            _exit(4);
        }
    }
    _exit(0);
}

static void test_leader(void **state) {
    (void)state;
    if (crowd_is_slow() && !CROWD_SANITIZED) {
        return; // an emulator does not survive its own first thread
    }
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        pthread_t thread;
        if (!world_forked(self) ||
            pthread_create(&thread, NULL, outlive, NULL) != 0) {
            _exit(2);
        }
        (void)syscall(SYS_exit, 0); // this thread alone
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_deaf_mutator),
        cmocka_unit_test(test_deaf_stranger),
#if defined(__x86_64__)
        cmocka_unit_test(test_traced_register),
#endif
        cmocka_unit_test(test_timer),
        cmocka_unit_test(test_replaced),
        cmocka_unit_test(test_unheard),
        cmocka_unit_test(test_leader),
    };
    if (SUSPEND_COOPERATIVE) {
        return 77; // there all threads are asked, and none is interrupted
    }
    traces = may_trace();
    return crowd_init() ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
