// Many threads, and an unquiet house: stopped as a whole, with ten thousand
// that wait, beside another collector.
//
// seconds: 240

#include "roots/world.h"

#include <dlfcn.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "os/clock.h"
#include "os/lock.h"
#include "support/crowd.h"

// --- The process is stopped and continued as a whole -----------------------

// A child that sends SIGSTOP and SIGCONT to this process, a hundred times a
// second, for two seconds.
static pid_t begin_pestering(void) {
    pid_t parent = getpid();
    pid_t child = fork();
    if (child != 0) {
        return child;
    }
    for (size_t turn = 0; turn < 200; turn++) {
        crowd_nap_ms(5);
        (void)kill(parent, SIGSTOP);
        crowd_nap_ms(5);
        (void)kill(parent, SIGCONT);
    }
    _exit(0);
}

static void test_job_control(void **state) {
    (void)state;
    crowd_begin(8, true, crowd_work_inside);
    pid_t child = begin_pestering();
    assert_true(child > 0);
    size_t stops = 0, attempts = 0;
    int status;
    while (waitpid(child, &status, WNOHANG) == 0) {
        struct world_stop_report report = crowd_stop();
        attempts += report.attempts;
        assert_int_equal(report.thread, 0);
        for (size_t i = 0; i < 8; i++) {
            assert_int_equal(atomic_load(&workers[i].before),
                             atomic_load(&workers[i].after));
        }
        crowd_go();
        stops++;
    }
    crowd_end(8);
    print_message("%zu stops in %zu attempts under STOP and CONT\n", stops,
                  attempts);
    assert_true(stops > 20);
}

// --- Ten thousand that wait ------------------------------------------------

#define PARKED 10000u
#define ROOM   ((size_t)128 * 1024) // bytes of stack for each

static uint32_t may_end; // futex
static atomic_uint parked;

static void *wait_safely(void *data) {
    struct mutator *mutator = world_attach(NULL, true);
    if (mutator == NULL) {
        return data;
    }
    world_safe_enter(mutator);
    atomic_fetch_add(&parked, 1);
    while (__atomic_load_n(&may_end, __ATOMIC_SEQ_CST) == 0) {
        (void)lock_wait(&may_end, 0, 0);
    }
    world_safe_leave(mutator);
    crowd_part(mutator);
    return NULL;
}

static size_t begin_parked(pthread_t *threads, size_t count) {
    pthread_attr_t attributes;
    assert_int_equal(pthread_attr_init(&attributes), 0);
    assert_int_equal(pthread_attr_setstacksize(&attributes, ROOM), 0);
    size_t made = 0;
    while (made < count && pthread_create(&threads[made], &attributes,
                                          wait_safely, NULL) == 0) {
        made++;
    }
    while (atomic_load(&parked) < made) {
        crowd_nap_ms(1);
    }
    return made;
}

static void test_many_parked(void **state) {
    (void)state;
    static pthread_t threads[PARKED];
    size_t made = begin_parked(threads, crowd_is_slow() ? 200 : PARKED);
    uint64_t stop_ns = UINT64_MAX, go_ns = UINT64_MAX;
    for (size_t turn = 0; turn < 20; turn++) {
        struct world_stop_report report = crowd_stop();
        assert_int_equal(report.safe, made);
        stop_ns = report.stop_ns < stop_ns ? report.stop_ns : stop_ns;
        uint64_t begin = clock_now_ns();
        world_resume();
        uint64_t took = clock_now_ns() - begin;
        go_ns = took < go_ns ? took : go_ns;
        self->hot_end = NULL;
        world_unlock();
    }
    print_message("%zu parked: stop %.2f ms, resume %.2f ms\n", made,
                  (double)stop_ns / 1000000, (double)go_ns / 1000000);
    __atomic_store_n(&may_end, 1, __ATOMIC_SEQ_CST);
    (void)lock_wake(&may_end, SIZE_MAX);
    for (size_t i = 0; i < made; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    assert_true(made < 200 || crowd_is_slow() ||
                stop_ns + go_ns < 10000000); // 10 ms
}

// --- Two collectors that stop each other -----------------------------------

// Debian's libgc, if it is here; spoken to through pointers, so that the test
// needs it neither to be built nor to be linked.
static struct {
    void (*begin)(void);
    void (*allow)(void);
    int (*join)(void *base);
    int (*part)(void);
    int (*find_base)(void *base);
    void *(*make)(size_t bytes);
    void (*gather)(void);
} other;

static bool find_other(void) {
    void *library = dlopen("libgc.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        return false;
    }
    static const char *const names[] = {
        "GC_init",
        "GC_allow_register_threads",
        "GC_register_my_thread",
        "GC_unregister_my_thread",
        "GC_get_stack_base",
        "GC_malloc",
        "GC_gcollect",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        void *found = dlsym(library, names[i]);
        if (found == NULL) {
            return false;
        }
        memcpy((char *)&other + i * sizeof found, &found, sizeof found);
    }
    return true;
}

static atomic_uint their_cycles;

// Allocates from the other collector, which stops the world every now and then,
// and is a mutator of ours as well.
static void work_for_both(struct worker *worker) {
    void *base[4] = {NULL}; // struct GC_stack_base
    assert_int_equal(other.find_base(base), 0);
    (void)other.join(base);
    for (size_t turn = 0; !atomic_load(&over); turn++) {
        void **object = other.make(64);
        assert_non_null(object);
        object[0] = object;
        mutator_enter(worker->mutator);
        atomic_fetch_add(&worker->before, 1);
        atomic_fetch_add(&worker->after, 1);
        world_leave(worker->mutator);
        if (turn % 500 == 0) {
            other.gather();
            atomic_fetch_add(&their_cycles, 1);
        }
    }
    (void)other.part();
}

static void test_two_collectors(void **state) {
    (void)state;
    if (CROWD_SANITIZED || !find_other()) {
        print_message("no libgc here\n");
        return;
    }
    other.begin();
    other.allow();
    crowd_begin(3, true, work_for_both);
    uint64_t end = clock_now_ns() + (uint64_t)3000000000;
    size_t stops = 0, attempts = 0, failed = 0;
    while (clock_now_ns() < end) {
        struct world_stop_report report;
        world_lock(self);
        self->hot_end = __builtin_frame_address(0);
        if (world_stop(self, &report)) {
            for (size_t i = 0; i < 3; i++) {
                assert_int_equal(atomic_load(&workers[i].before),
                                 atomic_load(&workers[i].after));
            }
            world_resume();
        } else {
            failed++;
        }
        self->hot_end = NULL;
        world_unlock();
        stops++;
        attempts += report.attempts;
        crowd_nap_ms(1);
    }
    crowd_end(3);
    print_message("%zu stops in %zu attempts, %zu given up, beside %u of "
                  "libgc's\n",
                  stops, attempts, failed, atomic_load(&their_cycles));
    assert_true(stops > 5);
    assert_int_equal(failed, 0);
    assert_true(atomic_load(&their_cycles) > 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_job_control),
        cmocka_unit_test(test_many_parked),
        cmocka_unit_test(test_two_collectors),
    };
    return crowd_init() ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
