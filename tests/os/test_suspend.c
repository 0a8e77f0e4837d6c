// The signal arrives where it was sent, shows every register, and leaves the
// program's own use of it alone.

#include "os/suspend.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "os/thread.h"

static atomic_uint rung, heard, heard_info;
static atomic_bool is_ours, claims; // what the bell saw, and what it answers
static atomic_uint rung_in;         // thread
static atomic_bool was_alternate, masks_all;
static _Atomic uintptr_t hot_end;

static uintptr_t wanted;       // a word to be found on the stack (complemented)
static const void *search_end; // how far
static atomic_uint found;

NO_SANITIZE static void search(const void *start) {
    for (const volatile uintptr_t *at = start;
         at < (const uintptr_t *)search_end; at++) {
        if (*at == ~wanted) {
            atomic_fetch_add(&found, 1);
        }
    }
}

static bool bell(const struct suspend_here *here) {
    atomic_store(&is_ours, here->ours);
    atomic_store(&rung_in, here->thread);
    atomic_store(&hot_end, (uintptr_t)here->hot_end);
    const void *lowest, *end;
    atomic_store(&was_alternate, suspend_find_alternate(&lowest, &end));
    sigset_t mask;
    (void)sigprocmask(SIG_BLOCK, NULL, &mask);
    atomic_store(&masks_all, sigismember(&mask, SIGUSR1) == 1 &&
                                 sigismember(&mask, SIGALRM) == 1 &&
                                 sigismember(&mask, SIGSEGV) == 0);
    if (search_end != NULL) {
        search(here->hot_end);
    }
    bool claim = atomic_load(&claims);
    atomic_fetch_add(&rung, 1); // last: who waits for it reads the others
    return claim;
}

static void hear(int signal) {
    (void)signal;
    atomic_fetch_add(&heard, 1);
}

static sigset_t heard_mask;

static void hear_info(int signal, siginfo_t *info, void *context) {
    (void)context;
    (void)pthread_sigmask(SIG_BLOCK, NULL, &heard_mask);
    atomic_fetch_add(&heard_info, info->si_signo == signal);
}

static void nap(void) {
    struct timespec time = {.tv_nsec = 1000000};
    (void)nanosleep(&time, NULL);
}

static void await(atomic_uint *count, unsigned least) {
    for (size_t turn = 0; atomic_load(count) < least && turn < 5000; turn++) {
        nap();
    }
    assert_true(atomic_load(count) >= least);
}

// --- Sending ---------------------------------------------------------------

static atomic_bool over;
static atomic_uint started; // thread

static void *spin(void *data) {
    atomic_store(&started, thread_id());
    while (!atomic_load(&over)) {
    }
    return data;
}

static pthread_t begin(void *(*run)(void *)) {
    pthread_t thread;
    atomic_store(&over, false);
    atomic_store(&started, 0);
    assert_int_equal(pthread_create(&thread, NULL, run, NULL), 0);
    while (atomic_load(&started) == 0) {
        nap();
    }
    return thread;
}

static void end(pthread_t thread) {
    atomic_store(&over, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static void test_sent(void **state) {
    (void)state;
    pthread_t thread = begin(spin);
    atomic_store(&claims, true);
    for (size_t turn = 0; turn < 100; turn++) {
        unsigned before = atomic_load(&rung);
        assert_int_equal(suspend_send(atomic_load(&started)), SUSPEND_SENT);
        await(&rung, before + 1);
        assert_true(atomic_load(&is_ours));
        assert_int_equal(atomic_load(&rung_in), atomic_load(&started));
        assert_true(atomic_load(&masks_all)); // Z2
        assert_false(atomic_load(&was_alternate));
    }
    assert_true(suspend_is_thread(atomic_load(&started)));
    uint32_t was = atomic_load(&started);
    end(thread);
    for (size_t turn = 0; suspend_is_thread(was) && turn < 1000; turn++) {
        nap();
    }
    assert_false(suspend_is_thread(was));
    assert_int_equal(suspend_send(was), SUSPEND_GONE);
}

static void test_errno(void **state) {
    (void)state;
    atomic_store(&claims, true);
    uint32_t here = thread_id();
    errno = 77;
    assert_int_equal(suspend_send(here), SUSPEND_SENT);
    assert_int_equal(errno, 77); // Z5
    errno = 78;
    uint64_t mask = suspend_block();
    suspend_unblock(mask);
    suspend_set_chained(NULL, NULL);
    assert_true(suspend_refresh());
    assert_int_equal(errno, 78); // Z5
}

// --- Registers -------------------------------------------------------------

#if defined(__x86_64__)
#define HOLD(register_name)                                                    \
    __asm__ volatile("notq %0\n"                                               \
                     "movq %0, " register_name "\n"                            \
                     "xorq %0, %0\n"                                           \
                     "1: pause\n"                                              \
                     "cmpl $0, %1\n"                                           \
                     "je 1b\n"                                                 \
                     "movq $0, %0\n"                                           \
                     : "+c"(word)                                              \
                     : "m"(found)                                              \
                     : "rax", "rbx", "r8", "r12", "r15", "xmm0", "xmm15",      \
                       "memory", "cc")
#elif defined(__aarch64__)
#define HOLD(register_name)                                                    \
    __asm__ volatile("mvn %0, %0\n"                                            \
                     "fmov " register_name ", %0\n"                            \
                     "mov %0, xzr\n"                                           \
                     "1: yield\n"                                              \
                     "ldr w9, %1\n"                                            \
                     "cbz w9, 1b\n"                                            \
                     : "+r"(word)                                              \
                     : "m"(found)                                              \
                     : "x9", "d0", "d8", "d20", "memory", "cc")
#endif

static size_t held_case;

// A word in one register, until the handler has found it.
static void *hold(void *data) {
    uintptr_t limit = 0;
    __asm__ volatile("" : : "r"(&limit) : "memory");
    search_end = &limit + 1;
    uintptr_t word = wanted;
    atomic_store(&started, thread_id());
#if defined(__x86_64__)
    switch (held_case) {
    case 0:
        HOLD("%%rbx");
        break;
    case 1:
        HOLD("%%r8");
        break;
    case 2:
        HOLD("%%r12");
        break;
    case 3:
        HOLD("%%r15");
        break;
    case 4:
        HOLD("%%xmm0");
        break;
    default:
        HOLD("%%xmm15");
    }
#elif defined(__aarch64__)
    switch (held_case) {
    case 0:
        HOLD("d0");
        break;
    case 1:
        HOLD("d8");
        break;
    default:
        HOLD("d20");
    }
#endif
    search_end = NULL;
    return data;
}

// Z1
static void test_registers(void **state) {
    (void)state;
    atomic_store(&claims, true);
    for (held_case = 0; held_case < 6; held_case++) {
        wanted = (uintptr_t)0x5ec4e7 + held_case;
        atomic_store(&found, 0);
        pthread_t thread = begin(hold);
        for (size_t turn = 0; atomic_load(&found) == 0 && turn < 1000; turn++) {
            nap();
            (void)suspend_send(atomic_load(&started));
        }
        assert_true(atomic_load(&found) > 0);
        end(thread);
    }
}

// --- The program's own -----------------------------------------------------

static void test_chained(void **state) {
    (void)state;
    struct sigaction mine = {.sa_handler = hear}, old;
    suspend_set_chained(&mine, &old);
    assert_true(old.sa_handler == SIG_DFL);
    suspend_set_chained(NULL, &old);
    assert_true(old.sa_handler == hear);
    atomic_store(&claims, false);
    unsigned before = atomic_load(&heard);
    assert_int_equal(raise(SIGURG), 0);
    assert_int_equal(atomic_load(&heard), before + 1); // Z3
    atomic_store(&claims, true);
    assert_int_equal(raise(SIGURG), 0);
    assert_int_equal(atomic_load(&heard), before + 1); // it was not for them
    // What the library puts in by itself, over our handler: found and kept.
    struct sigaction info = {.sa_sigaction = hear_info,
                             .sa_flags = SA_SIGINFO | (int)SA_RESETHAND};
    (void)sigaddset(&info.sa_mask, SIGUSR2);
    assert_int_equal(sigaction(SIGURG, &info, NULL), 0);
    assert_false(suspend_refresh()); // Z4
    assert_true(suspend_refresh());
    atomic_store(&claims, false);
    assert_int_equal(raise(SIGURG), 0);
    assert_int_equal(atomic_load(&heard_info), 1);
    assert_int_equal(sigismember(&heard_mask, SIGUSR2), 1);
    assert_int_equal(sigismember(&heard_mask, SIGURG), 1);
    assert_int_equal(sigismember(&heard_mask, SIGUSR1), 0);
    assert_int_equal(raise(SIGURG), 0); // SA_RESETHAND: only once
    assert_int_equal(atomic_load(&heard_info), 1);
    assert_int_equal(atomic_load(&heard), before + 1);
}

// Many set it while it arrives: each time whole, one or the other.
static void *set_often(void *data) {
    struct sigaction one = {.sa_handler = hear};
    struct sigaction other = {.sa_sigaction = hear_info,
                              .sa_flags = SA_SIGINFO};
    atomic_store(&started, thread_id());
    while (!atomic_load(&over)) {
        suspend_set_chained(&one, NULL);
        suspend_set_chained(&other, NULL);
    }
    return data;
}

static void test_set_often(void **state) {
    (void)state;
    atomic_store(&claims, false);
    pthread_t thread = begin(set_often);
    unsigned before = atomic_load(&heard) + atomic_load(&heard_info);
    for (unsigned turn = 0; turn < 2000; turn++) {
        assert_int_equal(raise(SIGURG), 0);
    }
    assert_int_equal(atomic_load(&heard) + atomic_load(&heard_info),
                     before + 2000);
    end(thread);
}

// --- Masks and stacks ------------------------------------------------------

static void test_masks(void **state) {
    (void)state;
    sigset_t before, during, after;
    (void)pthread_sigmask(SIG_BLOCK, NULL, &before);
    uint64_t mask = suspend_block();
    (void)pthread_sigmask(SIG_BLOCK, NULL, &during);
    suspend_unblock(mask);
    (void)pthread_sigmask(SIG_BLOCK, NULL, &after);
    for (int signal = 1; signal < 32; signal++) { // Z2
        bool fault =
            signal == SIGSEGV || signal == SIGBUS || signal == SIGFPE ||
            signal == SIGILL || signal == SIGTRAP || signal == SIGSYS ||
            signal == SIGABRT || signal == SIGKILL || signal == SIGSTOP;
        assert_int_equal(sigismember(&during, signal), !fault);
        assert_int_equal(sigismember(&after, signal),
                         sigismember(&before, signal));
    }
    assert_true(suspend_is_in((uint64_t)1 << (SIGURG - 1)));
    assert_false(suspend_is_in((uint64_t)1 << SIGURG));
}

static const void *alternate_lowest, *alternate_end;
static bool on_alternate;

static void look_around(int signal) {
    (void)signal;
    on_alternate = suspend_find_alternate(&alternate_lowest, &alternate_end);
}

static void test_alternate(void **state) {
    (void)state;
    static char room[65536];
    stack_t stack = {.ss_sp = room, .ss_size = sizeof room};
    assert_int_equal(sigaltstack(&stack, NULL), 0);
    const void *lowest, *end_of;
    assert_false(suspend_find_alternate(&lowest, &end_of));
    struct sigaction action = {.sa_handler = look_around,
                               .sa_flags = SA_ONSTACK};
    assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
    assert_int_equal(raise(SIGUSR1), 0);
    assert_true(on_alternate);
    assert_ptr_equal(alternate_lowest, room);
    assert_ptr_equal(alternate_end, room + sizeof room);
    stack.ss_flags = SS_DISABLE;
    assert_int_equal(sigaltstack(&stack, NULL), 0);
}

static void test_refused(void **state) {
    (void)state;
    static const int none[] = {0, -1, 64, SIGKILL, SIGSTOP, SIGSEGV, 32, 33};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        assert_false(suspend_install(none[i], bell));
    }
    assert_int_equal(suspend_default(), SIGURG);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sent),      cmocka_unit_test(test_errno),
        cmocka_unit_test(test_registers), cmocka_unit_test(test_chained),
        cmocka_unit_test(test_set_often), cmocka_unit_test(test_masks),
        cmocka_unit_test(test_alternate), cmocka_unit_test(test_refused),
    };
    if (SUSPEND_COOPERATIVE) {
        return 77; // no signals are used there
    }
    return suspend_install(SIGURG, bell)
               ? cmocka_run_group_tests(tests, NULL, NULL)
               : 1;
}
