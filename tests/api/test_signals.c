// Handlers of the program: wherever they come in they may allocate and free,
// what they interrupted finds its caches as it left them, and what only an
// interrupted register holds is found.

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include "loam.h"
#include "support/scrub.h"
#include "support/step.h"

static void handle(int number, void (*handler)(int), int flags) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    assert_int_equal(sigaction(number, &action, NULL), 0);
}

// --- At every instruction ----------------------------------------------

#define KEPT 64

// Objects of handlers, and those of the code they come upon: each is full of
// its own number.
struct keeper {
    unsigned char *objects[KEPT];
    size_t bytes[KEPT];
    size_t at;
};

static struct keeper outer, inner;
static size_t served, collected, not_collected, freed_count;

static void check_one(const struct keeper *k, size_t at) {
    const unsigned char *object = k->objects[at];
    for (size_t i = 0; object != NULL && i < k->bytes[at]; i++) {
        if (object[i] != (unsigned char)(at + 1)) {
            abort();
        }
    }
}

static void put(struct keeper *k, unsigned char *object, size_t bytes) {
    size_t at = k->at = (k->at + 1) % KEPT;
    check_one(k, at);
    k->objects[at] = object;
    k->bytes[at] = bytes;
    if (object != NULL) {
        memset(object, (int)at + 1, bytes);
    }
}

// What a handler does, now this, now that.
static void disturb(size_t turn) {
    size_t bytes = 1 + turn * 7 % 300;
    if (turn % 5 == 1 && inner.objects[inner.at] != NULL) {
        check_one(&inner, inner.at);
        loam_free(inner.objects[inner.at]);
        inner.objects[inner.at] = NULL;
        freed_count++;
    } else if (turn % 5 == 2 && inner.objects[inner.at] != NULL) {
        size_t at = inner.at;
        unsigned char *object = loam_realloc(inner.objects[at], bytes);
        if (object != NULL) {
            memset(object, (int)at + 1, bytes);
            inner.objects[at] = object;
            inner.bytes[at] = bytes;
        }
    } else {
        unsigned char *object =
            turn % 3 == 0 ? loam_alloc_leaf(bytes) : loam_alloc(bytes);
        served += object != NULL; // the reserve is small
        for (size_t i = 0; object != NULL && turn % 3 && i < bytes; i++) {
            if (object[i] != 0) {
                abort();
            }
        }
        put(&inner, object, bytes);
    }
}

static void between(size_t instructions, void *data) {
    size_t every = *(const size_t *)data;
    if (instructions % every == 0) {
        disturb(instructions / every);
    }
}

// Allocations of a few sizes, by the fast path and by climbs, and frees.
static void work_on(size_t objects) {
    for (size_t i = 0; i < objects; i++) {
        size_t bytes = 16 + i % 4 * 200 + (i == 20 ? 3000 : 0);
        unsigned char *object = loam_alloc(bytes);
        if (object == NULL) {
            abort();
        }
        put(&outer, object, bytes);
        if (i % 6 == 0) {
            loam_free(outer.objects[outer.at]);
            outer.objects[outer.at] = NULL;
        }
    }
}

static void work(void *data) {
    (void)data;
    work_on(40);
}

static void work_little(void *data) {
    (void)data;
    work_on(14);
}

static void check_keeper(const struct keeper *k) {
    for (size_t i = 0; i < KEPT; i++) {
        check_one(k, i);
    }
}

static void check_keepers(void) {
    check_keeper(&outer);
    check_keeper(&inner);
}

// In steps: every instruction of taking, climbing, freeing is interrupted once.
static void test_every_instruction(void **state) {
    (void)state;
    for (size_t every = 1; every <= 29; every += 7) {
        loam_disable(); // a cycle is long, in steps
        if (!step_run(work_little, between, &every)) {
            skip();
        }
        loam_enable();
        check_keepers();
        assert_true(loam_collect());
        check_keepers();
    }
    assert_true(served > 1000);
    assert_true(freed_count > 100);
}

// --- Collecting, and changing what is shared ---------------------------

static void ask(size_t instructions, void *data) {
    if (instructions % 50 == 0) {
        bool did = loam_collect();
        collected += did;
        not_collected += !did;
        (void)loam_roots_add(data, sizeof(void *));
        (void)loam_set_limit(0);
        struct loam_stats stats;
        loam_stats(&stats, sizeof stats);
    }
}

// Over program code a handler may do everything; over us it is told no.
static void test_asking(void **state) {
    (void)state;
    static void *word;
    loam_disable();
    if (!step_run(work_little, ask, &word)) {
        skip();
    }
    loam_enable();
    assert_true(collected > 0);
    assert_true(not_collected > 0);
    check_keepers();
    assert_true(loam_collect());
    (void)loam_roots_remove(&word, sizeof word);
}

// --- At any time -------------------------------------------------------

static volatile sig_atomic_t rings;

static void on_alarm(int number) {
    int error = errno;
    disturb((size_t)rings);
    if (number == SIGALRM && rings % 4 == 0) {
        (void)raise(SIGUSR2); // a handler over a handler
    }
    if (rings % 16 == 0) {
        (void)loam_collect();
    }
    rings++;
    errno = error;
}

static void ring_every(long us) {
    struct itimerval timer = {{0, us}, {0, us}};
    assert_int_equal(setitimer(ITIMER_REAL, &timer, NULL), 0);
}

static void run_rings(int flags) {
    handle(SIGALRM, on_alarm, flags | SA_RESTART);
    handle(SIGUSR2, on_alarm, flags | SA_RESTART);
    rings = 0;
    ring_every(300);
    while (rings < SCALED(2000, 500)) {
        work(NULL);
        check_keeper(&outer);
    }
    ring_every(0);
    assert_true(loam_collect());
    check_keepers();
}

static void test_any_time(void **state) {
    (void)state;
    run_rings(0);
}

// The same on an alternate signal stack, in malloc's memory.
static void test_alternate_stack(void **state) {
    (void)state;
    stack_t stack = {.ss_size = 128 * 1024};
    stack.ss_sp = malloc(stack.ss_size);
    assert_non_null(stack.ss_sp);
    assert_int_equal(sigaltstack(&stack, NULL), 0);
    run_rings(SA_ONSTACK);
    stack.ss_flags = SS_DISABLE;
    assert_int_equal(sigaltstack(&stack, NULL), 0);
    free(stack.ss_sp);
}

static volatile sig_atomic_t woken;

static void on_collect(int number) {
    (void)number;
    scrub_stack();
    woken = loam_collect() ? 1 : 2;
}

// A signal stack that is an array in a frame: what was interrupted lies below
// it, in the same stack.
#ifndef __SANITIZE_THREAD__
static atomic_int asked; // 1: the other thread is to collect, 2: it has

static void on_wait(int number) {
    (void)number;
    scrub_stack();
    atomic_store(&asked, 1);
    while (atomic_load(&asked) != 2) {
    }
}

static void *collect_when_asked(void *data) {
    while (atomic_load(&asked) != 1) {
    }
    assert_true(loam_collect());
    atomic_store(&asked, 2);
    return data;
}
#endif

NOT_INLINED static void interrupted(int number) {
    size_t *volatile kept[64];
    for (size_t i = 0; i < 64; i++) {
        kept[i] = loam_alloc(96);
        *kept[i] = i;
    }
    assert_int_equal(raise(number), 0);
    for (size_t i = 0; i < 64; i++) {
        assert_ptr_equal(loam_base(kept[i]), kept[i]);
        assert_int_equal(*kept[i], i);
    }
}

static void test_stack_within(void **state) {
    (void)state;
    char within[256 * 1024];
    stack_t stack = {.ss_sp = within, .ss_size = sizeof within};
    assert_int_equal(sigaltstack(&stack, NULL), 0);
    handle(SIGUSR1, on_collect, SA_ONSTACK);
    interrupted(SIGUSR1);
    assert_int_equal(woken, 1);
#ifndef __SANITIZE_THREAD__ // its own handler blocks every signal in ours
    handle(SIGUSR2, on_wait, SA_ONSTACK);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, collect_when_asked, NULL),
                     0);
    interrupted(SIGUSR2);
    assert_int_equal(pthread_join(thread, NULL), 0);
#endif
    stack.ss_flags = SS_DISABLE;
    assert_int_equal(sigaltstack(&stack, NULL), 0);
}

// --- Registers of the interrupted code ---------------------------------

static uintptr_t hidden;

NOT_INLINED static void make(void) {
    size_t *p = loam_alloc(96);
    *p = 4711;
    hidden = LOAM_HIDE(p);
}

NOT_INLINED static bool is_alive(void) {
    const size_t *p = LOAM_REVEAL(hidden);
    return loam_base(p) == p && *p == 4711;
}

// ThreadSanitizer puts a signal off until the next call of a library.
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
static volatile sig_atomic_t spinning;

static void set_timer(void) {
    struct itimerval once = {{0, 0}, {0, 500}};
    if (setitimer(ITIMER_REAL, &once, NULL) != 0) {
        abort();
    }
}

// On a busy machine the alarm may come before the register has been loaded, and
// then nothing refers to the object: another one is set.
static void on_timer(int number) {
    if (spinning) {
        on_collect(number);
    } else {
        set_timer();
    }
}

// Spins with the only reference in one register until the handler has been;
// registers that a call may destroy, which only the signal's frame has.
#define SPIN(name, load, wipe)                                                 \
    NOT_INLINED static void name(uintptr_t complement) {                       \
        __asm__ volatile(load "movl $1, %0\n xorl %%eax, %%eax\n"              \
                              "1: pause\n cmpl $0, %2\n je 1b\n" wipe          \
                         : "=m"(spinning)                                      \
                         : "D"(complement), "m"(woken)                         \
                         : "rax", "rcx", "rdx", "rsi", "r8", "r9", "r10",      \
                           "r11", "xmm5", "memory", "cc");                     \
    }
SPIN(spin_none, "", "")
SPIN(spin_rcx, "movq %%rdi, %%rcx\n notq %%rcx\n", "xorl %%ecx, %%ecx\n")
SPIN(spin_rsi, "movq %%rdi, %%rsi\n notq %%rsi\n", "xorl %%esi, %%esi\n")
SPIN(spin_r9, "movq %%rdi, %%r9\n notq %%r9\n", "xorl %%r9d, %%r9d\n")
SPIN(spin_r11, "movq %%rdi, %%r11\n notq %%r11\n", "xorl %%r11d, %%r11d\n")
SPIN(spin_xmm5,
     "movq %%rdi, %%rdx\n notq %%rdx\n movq %%rdx, %%xmm5\n"
     "xorl %%edx, %%edx\n",
     "pxor %%xmm5, %%xmm5\n")

static size_t count_alive(void (*spin)(uintptr_t), size_t tries) {
    size_t alive = 0;
    for (size_t i = 0; i < tries; i++) {
        make();
        scrub_stack();
        spinning = woken = 0;
        set_timer();
        spin(hidden);
        assert_int_equal(woken, 1);
        alive += is_alive();
    }
    return alive;
}

static void try_registers(int flags) {
    void (*const spins[])(uintptr_t) = {spin_rcx, spin_rsi, spin_r9, spin_r11,
                                        spin_xmm5};
    handle(SIGALRM, on_timer, flags);
    assert_true(count_alive(spin_none, 20) <= 10); // control
    for (size_t i = 0; i < sizeof spins / sizeof *spins; i++) {
        assert_int_equal(count_alive(spins[i], 10), 10);
    }
}

static void test_registers(void **state) {
    (void)state;
    static char memory[128 * 1024];
    stack_t stack = {.ss_sp = memory, .ss_size = sizeof memory};
    try_registers(0);
    assert_int_equal(sigaltstack(&stack, NULL), 0);
    try_registers(SA_ONSTACK);
    stack.ss_flags = SS_DISABLE;
    assert_int_equal(sigaltstack(&stack, NULL), 0);
}
#else
static void test_registers(void **state) {
    (void)state;
    handle(SIGALRM, on_collect, 0);
    make();
    void *kept = LOAM_REVEAL(hidden);
    assert_int_equal(raise(SIGALRM), 0);
    assert_true(is_alive());
    loam_keep(kept);
}
#endif

// --- Jumping out -------------------------------------------------------

static sigjmp_buf way_out;

static void on_jump(int number) {
    (void)number;
    (void)!loam_alloc(100);
    siglongjmp(way_out, 1);
}

// Out of a handler over program code, and out of one over a region in which the
// thread waits: what follows is as if the handler had not been.
static void test_jump(void **state) {
    (void)state;
    handle(SIGUSR1, on_jump, 0);
    for (volatile size_t i = 0; i < 3000; i++) {
        volatile bool jumped = false;
        if (sigsetjmp(way_out, 1) == 0) {
            if (i % 2 != 0) {
                loam_blocking_enter();
            }
            (void)raise(SIGUSR1);
            abort();
        } else {
            jumped = true;
        }
        assert_true(jumped);
        put(&outer, loam_alloc(50), 50);
        if (i % 100 == 0) {
            assert_true(loam_collect());
            check_keepers();
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_instruction),
        cmocka_unit_test(test_asking),
        cmocka_unit_test(test_any_time),
        cmocka_unit_test(test_alternate_stack),
        cmocka_unit_test(test_stack_within),
        cmocka_unit_test(test_registers),
        cmocka_unit_test(test_jump),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
