// Threads of every sort are stopped, stand still, are read and go on.

#include "roots/world.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "os/clock.h"
#include "support/crowd.h"

// --- Threads that run ------------------------------------------------------

static int order_times(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

#define STOPS 1000u

// Stops a crowd many times, or for some seconds; returns the median time, ns.
static uint64_t stop_often(size_t count) {
    static uint64_t times[STOPS];
    uint64_t end = clock_now_ns() + (uint64_t)4000000000;
    size_t stops = 0;
    while (stops < STOPS && (stops < 10 || clock_now_ns() < end)) {
        struct world_stop_report report = crowd_stop();
        times[stops++] = report.stop_ns;
        assert_int_equal(report.thread, 0);
        for (size_t i = 0; i < count; i++) { // W3
            assert_int_equal(atomic_load(&workers[i].before),
                             atomic_load(&workers[i].after));
        }
        if (stops % 16 == 0) { // W2
            crowd_see_still(count);
        }
        crowd_go();
    }
    qsort(times, stops, sizeof *times, order_times);
    return times[stops / 2];
}

static void test_crowds(void **state) {
    (void)state;
    static const size_t counts[] = {1, 2, 8, CROWD};
    // Many readers of an atomic word keep ThreadSanitizer from writing it.
    size_t kinds = SUSPEND_COOPERATIVE ? 3 : sizeof counts / sizeof *counts;
    for (size_t i = 0; i < kinds; i++) {
        crowd_begin(counts[i], true, crowd_work_inside);
        uint64_t median = stop_often(counts[i]);
        print_message("%zu threads run: median stop %.1f us\n", counts[i],
                      (double)median / 1000);
        crowd_end(counts[i]);
    }
}

// Threads that never heard of us.
static void test_strangers(void **state) {
    (void)state;
    if (SUSPEND_COOPERATIVE) {
        return;
    }
    uint32_t others = crowd_stop().strangers; // of an emulator
    crowd_go();
    crowd_begin(8, false, crowd_work_alone);
    uint64_t begin = clock_now_ns();
    for (size_t turn = 0; turn < 100 && crowd_may_go_on(begin, turn); turn++) {
        struct world_stop_report report = crowd_stop();
        assert_true(report.strangers >= 8);
        crowd_see_still(8);
        crowd_go();
    }
    crowd_end(8);
    for (size_t turn = 0;; turn++) { // the roll follows
        struct world_stop_report report = crowd_stop();
        crowd_go();
        if (report.strangers <= others) {
            break;
        }
        assert_true(turn < 1000);
        crowd_nap_ms(1);
    }
}

// --- Threads in safe regions -----------------------------------------------

static void work_safely(struct worker *worker) {
    while (!atomic_load(&over)) {
        world_safe_enter(worker->mutator);
        sched_yield();
        world_safe_enter(worker->mutator); // they nest
        world_safe_leave(worker->mutator);
        world_safe_leave(worker->mutator);
        atomic_fetch_add(&worker->before, 1); // W6: not while it is HELD
        atomic_fetch_add(&worker->after, 1);
        world_leave(worker->mutator);
    }
}

static void test_safe(void **state) {
    (void)state;
    crowd_begin(4, true, work_safely);
    uint32_t safe = 0;
    uint64_t begin = clock_now_ns();
    for (size_t turn = 0; turn < 1000 && crowd_may_go_on(begin, turn); turn++) {
        struct world_stop_report report = crowd_stop();
        safe += report.safe;
        crowd_see_still(4);
        crowd_go();
    }
    crowd_end(4);
    assert_true(safe > 0);
    for (size_t i = 0; i < 4; i++) {
        assert_true(atomic_load(&workers[i].before) > 0);
    }
}

// --- Threads lent to the library -------------------------------------------

static pthread_mutex_t library = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool has_library, wants_library;

// Has the library's lock, and is stopped in the middle; or waits for that.
static void work_in_library(struct worker *worker) {
    if (worker == &workers[0]) {
        assert_int_equal(pthread_mutex_lock(&library), 0);
        atomic_store(&has_library, true);
        while (!atomic_load(&over)) {
            world_leave(worker->mutator);
        }
    } else {
        while (!atomic_load(&has_library)) {
            sched_yield();
        }
        worker->mutator->busy = MUTATOR_LENT;
        atomic_store(&wants_library, true);
        assert_int_equal(pthread_mutex_lock(&library), 0);
        world_leave(worker->mutator);
    }
    assert_int_equal(pthread_mutex_unlock(&library), 0);
}

// W7, and in the first attempt: nobody waits for who has stopped.
static void test_lent(void **state) {
    (void)state;
    if (SUSPEND_COOPERATIVE) {
        return;
    }
    crowd_begin(2, true, work_in_library);
    while (!atomic_load(&wants_library)) {
        sched_yield();
    }
    // On a busy machine an attempt may be given up for want of a processor.
    uint32_t attempts = UINT32_MAX;
    for (size_t turn = 0; turn < 3 || (attempts > 1 && turn < 30); turn++) {
        struct world_stop_report report = crowd_stop();
        attempts = report.attempts < attempts ? report.attempts : attempts;
        crowd_go();
    }
    crowd_end(2);
    assert_int_equal(attempts, 1);
}

// A region is broken off for program code in the middle, and mended.
static void test_break(void **state) {
    (void)state;
    world_safe_enter(self);
    assert_int_equal(self->state, MUTATOR_SAFE);
    struct world_safe was = world_safe_break(self);
    assert_int_equal(self->state, MUTATOR_RUNS);
    world_safe_enter(self);
    world_safe_leave(self);
    assert_int_equal(self->state, MUTATOR_RUNS);
    world_safe_mend(self, &was);
    assert_int_equal(self->state, MUTATOR_SAFE);
    world_safe_leave(self);
    assert_int_equal(self->state, MUTATOR_RUNS);
    world_safe_leave(self); // one too many: nothing
    assert_int_equal(self->state, MUTATOR_RUNS);
}

#define OWN_STACK ((size_t)256 * 1024)
#define SIGNALS   ((size_t)64 * 1024)

static struct mutator *waiter;
static atomic_uint handled;
static atomic_bool may_wait;

static void on_signal(int number) {
    (void)number;
    struct world_safe was = world_safe_break(waiter);
    atomic_fetch_add(&handled, 1);
    world_safe_mend(waiter, &was);
}

static void *wait_for_lock(void *signals) {
    stack_t ours = {.ss_sp = signals, .ss_size = SIGNALS}, before;
    assert_int_equal(sigaltstack(&ours, &before), 0);
    waiter = world_attach(NULL, false);
    atomic_store(&ready, 1);
    while (!atomic_load(&may_wait)) {
        crowd_nap_ms(1);
    }
    mutator_enter(waiter);
    world_lock(waiter);
    world_unlock();
    world_leave(waiter);
    crowd_part(waiter);
    assert_int_equal(sigaltstack(&before, NULL), 0);
    return NULL;
}

// A thread that waits for the lock is found SAFE (W1), though a handler on a
// signal stack has been over it: above its own stack or below.
static void see_it_waits(char *stack, char *signals) {
    pthread_t thread;
    pthread_attr_t attributes;
    assert_int_equal(pthread_attr_init(&attributes), 0);
    assert_int_equal(pthread_attr_setstack(&attributes, stack, OWN_STACK), 0);
    atomic_store(&ready, 0);
    atomic_store(&handled, 0);
    atomic_store(&may_wait, false);
    assert_int_equal(
        pthread_create(&thread, &attributes, wait_for_lock, signals), 0);
    while (atomic_load(&ready) == 0) {
        crowd_nap_ms(1);
    }
    world_lock(self);
    atomic_store(&may_wait, true);
    while (__atomic_load_n(&waiter->state, __ATOMIC_SEQ_CST) != MUTATOR_SAFE) {
        crowd_nap_ms(1);
    }
    assert_int_equal(pthread_kill(thread, SIGUSR1), 0);
    while (atomic_load(&handled) == 0) {
        crowd_nap_ms(1);
    }
    struct world_stop_report report;
    self->hot_end = __builtin_frame_address(0);
    assert_true(world_stop(self, &report));
    assert_int_equal(report.safe, 1);
    crowd_go();
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(pthread_attr_destroy(&attributes), 0);
}

static void test_signal_stacks(void **state) {
    (void)state;
    if (SUSPEND_COOPERATIVE) {
        skip(); // the signal would be put off until the wait is over
    }
    struct sigaction action = {.sa_handler = on_signal,
                               .sa_flags = SA_ONSTACK | SA_RESTART};
    struct sigaction before;
    assert_int_equal(sigaction(SIGUSR1, &action, &before), 0);
    char *memory = mmap(NULL, OWN_STACK + 2 * SIGNALS, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(memory, MAP_FAILED);
    char *stack = memory + SIGNALS;
    see_it_waits(stack, memory);
    see_it_waits(stack, stack + OWN_STACK);
    assert_int_equal(munmap(memory, OWN_STACK + 2 * SIGNALS), 0);
    assert_int_equal(sigaction(SIGUSR1, &before, NULL), 0);
}

NOINLINE static void jump_out(jmp_buf *to) {
    char room[512];
    __asm__ volatile("" : : "r"(room) : "memory");
    world_safe_enter(self);
    longjmp(*to, 1);
}

static void test_jumped_out(void **state) {
    (void)state;
    jmp_buf here;
    if (setjmp(here) == 0) {
        jump_out(&here);
    }
    assert_int_equal(self->state, MUTATOR_SAFE);
    world_safe_enter(self); // finds that the old one is no more
    assert_int_equal(self->safe_depth, 1);
    world_safe_leave(self);
    assert_int_equal(self->state, MUTATOR_RUNS);
}

// W1: who waits for the lock is SAFE, and a stop does not wait for it.
static atomic_uint waited;

static void work_locking(struct worker *worker) {
    while (!atomic_load(&over)) {
        world_lock(worker->mutator);
        atomic_fetch_add(&worker->before, 1);
        atomic_fetch_add(&worker->after, 1);
        world_unlock();
        atomic_fetch_add(&waited, 1);
        world_leave(worker->mutator);
    }
}

static void test_lock(void **state) {
    (void)state;
    crowd_begin(4, true, work_locking);
    uint64_t begin = clock_now_ns();
    for (size_t turn = 0; turn < 200 && crowd_may_go_on(begin, turn); turn++) {
        struct world_stop_report report = crowd_stop();
        (void)report;
        crowd_see_still(4);
        crowd_go();
    }
    crowd_end(4);
    assert_true(atomic_load(&waited) > 0);
    assert_true(world_try_lock());
    uint64_t mask = suspend_block();
    assert_false(world_lock_deaf(mask, false)); // W9
    world_unlock();
    assert_true(world_lock_deaf(mask, false));
    suspend_unblock(mask);
    world_unlock();
}

// --- Attempts that are withdrawn -------------------------------------------

static atomic_bool stays; // a worker is to stay inside

// Sleeps until an attempt is on that is not `known`; its number.
static uint32_t await_attempt(uint32_t known) {
    for (;;) {
        uint32_t now = __atomic_load_n(&world.halt.stopping, __ATOMIC_RELAXED);
        if (now != 0 && now != known) {
            return now;
        }
        crowd_nap_ms(1);
    }
}

// Stays inside until an attempt has been withdrawn and the next one begun.
static void work_long_inside(struct worker *worker) {
    while (!atomic_load(&over)) {
        mutator_enter(worker->mutator);
        atomic_fetch_add(&worker->before, 1);
        if (atomic_exchange(&stays, false)) {
            (void)await_attempt(await_attempt(0));
        }
        atomic_fetch_add(&worker->after, 1);
        world_leave(worker->mutator);
    }
}

// W3, W5: the first attempt finds it inside and is withdrawn; who answered that
// one goes on, and answers the next.
static void test_withdrawn(void **state) {
    (void)state;
    crowd_begin(3, true, work_long_inside);
    for (size_t turn = 0; turn < 2; turn++) {
        atomic_store(&stays, true);
        while (atomic_load(&stays)) {
            crowd_nap_ms(1);
        }
        errno = 33;
        struct world_stop_report report = crowd_stop();
        for (size_t i = 0; i < 3; i++) {
            assert_int_equal(atomic_load(&workers[i].before),
                             atomic_load(&workers[i].after));
        }
        crowd_see_still(3);
        crowd_go();
        assert_int_equal(errno, 33); // W8
        assert_true(report.attempts >= 2);
        assert_int_equal(report.thread, 0);
    }
    crowd_end(3);
}

// --- What is read ----------------------------------------------------------

struct search {
    uintptr_t word;
    size_t found, words;
};

NO_SANITIZE static void search_words(const uintptr_t *start,
                                     const uintptr_t *end, void *data) {
    struct search *search = data;
    for (const volatile uintptr_t *at = start; at < end; at++) {
        search->found += *at == ~search->word;
        search->words++;
    }
}

// Words that lie in no variable of the test but the worker's (complemented).
#define SECRET(n) (~((uintptr_t)0x5ec4e700c0de0000 + (n)))

static void work_keeping(struct worker *worker) {
    size_t index = (size_t)(worker - workers);
    volatile uintptr_t kept[1] = {~SECRET(index)};
    if (index % 3 == 0) {
        world_safe_enter(worker->mutator);
        while (!atomic_load(&over)) {
            crowd_nap_ms(1);
        }
        world_safe_leave(worker->mutator);
    } else if (index % 3 == 1) {
        crowd_work_inside(worker);
    } else {
        while (!atomic_load(&over)) {
            atomic_fetch_add(&worker->before, 1);
            world_leave(worker->mutator);
        }
    }
    assert_int_equal(kept[0], ~SECRET(index));
}

static void count_pointer(uintptr_t pointer, void *data) {
    (void)pointer;
    (*(size_t *)data)++;
}

static void count_mutator(struct mutator *mutator, void *data) {
    assert_ptr_equal(world_find(mutator->id), mutator);
    (*(size_t *)data)++;
}

// W4
static void test_read(void **state) {
    (void)state;
    crowd_begin(6, true, work_keeping);
    uint64_t begin = clock_now_ns();
    for (size_t turn = 0; turn < 50 && crowd_may_go_on(begin, turn); turn++) {
        (void)crowd_stop();
        for (size_t i = 0; i < 6; i++) {
            struct search search = {.word = SECRET(i)};
            world_each_stack(search_words, &search);
            assert_true(search.found > 0);
        }
        size_t pointers = 0, mutators = 0;
        world_each_thread_pointer(count_pointer, &pointers);
        world_each(count_mutator, &mutators);
        assert_true(mutators >= 7 && pointers >= mutators);
        crowd_go();
    }
    crowd_end(6);
    assert_null(world_find(0));
    assert_null(world_find(100000));
}

// --- Threads that come and go ----------------------------------------------

static void *live_shortly(void *data) {
    uintptr_t kind = (uintptr_t)data;
    struct mutator *mutator = kind % 3 == 0 ? NULL : world_attach(NULL, false);
    for (volatile size_t i = 0; i < 1000; i++) {
    }
    if (kind % 3 == 1) {
        crowd_part(mutator);
        if (kind % 2 == 0) { // and once more
            crowd_part(world_attach(NULL, false));
        }
    } else if (kind % 3 == 2 && !CROWD_SANITIZED) {
        (void)syscall(SYS_exit, 0); // nobody is told (joined all the same)
    } else if (mutator != NULL) {
        crowd_part(mutator);
    }
    return NULL;
}

static void work_making(struct worker *worker) {
    for (uintptr_t kind = 0; !atomic_load(&over); kind++) {
        pthread_t thread;
        world_safe_enter(worker->mutator);
        if (pthread_create(&thread, NULL, live_shortly, (void *)kind) == 0) {
            (void)pthread_join(thread, NULL);
        }
        world_safe_leave(worker->mutator);
        atomic_fetch_add(&worker->before, 1);
        world_leave(worker->mutator);
    }
}

static uint64_t count_made(void) {
    uint64_t made = 0;
    for (size_t i = 0; i < 4; i++) {
        made += atomic_load(&workers[i].before);
    }
    return made;
}

// Enough of them have come and gone, however long that takes.
static bool many_came(void) {
    return count_made() > 20 && (CROWD_SANITIZED || atomic_load(&buried) > 0);
}

static void test_come_and_go(void **state) {
    (void)state;
    atomic_store(&buried, 0);
    crowd_begin(4, true, work_making);
    uint64_t end = clock_now_ns() + 2000000000;
    size_t stops = 0;
    while (clock_now_ns() < end || !many_came()) {
        (void)crowd_stop();
        crowd_see_still(4);
        crowd_go();
        stops++;
        if (stops % 4 == 0) {
            crowd_nap_ms(1); // or nobody would get anywhere
        }
    }
    crowd_end(4);
    print_message("%zu stops while %llu threads came and went, %u vanished\n",
                  stops, (unsigned long long)count_made(),
                  atomic_load(&buried));
    (void)crowd_stop();
    size_t mutators = 0;
    world_each(count_mutator, &mutators);
    crowd_go();
    assert_true(mutators < 100); // the dead were given back
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crowds),
        cmocka_unit_test(test_strangers),
        cmocka_unit_test(test_safe),
        cmocka_unit_test(test_break),
        cmocka_unit_test(test_lent),
        cmocka_unit_test(test_jumped_out),
        cmocka_unit_test(test_lock),
        cmocka_unit_test(test_withdrawn),
        cmocka_unit_test(test_read),
        cmocka_unit_test(test_come_and_go),
        cmocka_unit_test(test_signal_stacks),
    };
    return crowd_init() ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
