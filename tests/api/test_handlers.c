// Handlers that allocate while the program does nothing else: the reserve they
// are served from over Loam's own code does not run dry.

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
#include <sys/wait.h>
#include <unistd.h>

#include "loam.h"
#include "support/gen.h"
#include "support/scrub.h"

#define KEPT 256

// What the handlers of one run ask for, and what they got.
static struct {
    size_t objects; // at a time
    size_t bytes_max;
    bool nests;           // each raises two more, one over the other
    _Atomic size_t rings; // so far
    size_t last;          // of the rings; then the clock is stopped
    size_t asked, refused;
    size_t met_null;           // handlers that were refused something, while
    _Atomic size_t steps;      // the program got on: its steps so far,
    size_t seen;               // as the last handler saw them
    size_t stuck;              // handlers since it did
    unsigned char *kept[KEPT]; // each begins with its number in `kept`
    size_t bytes[KEPT];
    struct gen gen;
} handlers;

static unsigned char *make(size_t bytes, size_t which) {
    switch (which) {
    case 0:
        return loam_alloc_leaf(bytes);
    case 1:
        return loam_alloc_base_only(bytes);
    case 2:
        return loam_alloc_aligned(64, bytes);
    default:
        return loam_alloc(bytes);
    }
}

static void check(size_t at) {
    const unsigned char *object = handlers.kept[at];
    if (object != NULL && (object[0] != (unsigned char)at ||
                           object[handlers.bytes[at] - 1] != object[0])) {
        abort();
    }
}

static void keep(unsigned char *object, size_t bytes) {
    size_t at = handlers.asked % KEPT;
    check(at);
    handlers.kept[at] = object;
    handlers.bytes[at] = bytes;
    object[0] = object[bytes - 1] = (unsigned char)at;
}

// Where handlers come faster than they end, the code below them, which may have
// the lock, does not get on, and nobody can fill what they empty.
#define STUCK 6

static void count(size_t refused) {
    handlers.stuck = handlers.steps == handlers.seen ? handlers.stuck + 1 : 0;
    handlers.seen = handlers.steps;
    handlers.met_null += refused != 0 && handlers.stuck < STUCK;
    handlers.refused += refused;
}

static void ring_every(suseconds_t us) {
    struct itimerval timer = {{0, us}, {0, us}};
    if (setitimer(ITIMER_REAL, &timer, NULL) != 0) {
        abort();
    }
}

static void ring(suseconds_t us, size_t times) {
    handlers.last = handlers.rings + times;
    ring_every(us);
}

static void on_ring(int number) {
    int error = errno;
    size_t refused = 0;
    for (size_t i = 0; i < handlers.objects; i++) {
        size_t bytes = 1 + gen_below(&handlers.gen, handlers.bytes_max);
        size_t which = gen_below(&handlers.gen, 8);
        unsigned char *object = make(bytes, which);
        if (object == NULL) {
            refused++;
        } else {
            for (size_t at = 0; which != 0 && at < bytes; at++) {
                if (object[at] != 0) {
                    abort();
                }
            }
            keep(object, bytes);
        }
        handlers.asked++;
    }
    count(refused);
    if (handlers.nests && number == SIGALRM) {
        (void)raise(SIGUSR1);
    } else if (handlers.nests && number == SIGUSR1) {
        (void)raise(SIGUSR2);
    }
    // Stopped here: where handlers take longer than the clock allows, the code
    // below never gets to it, and what they ask for is never collected.
    if (++handlers.rings >= handlers.last) {
        ring_every(0);
    }
    errno = error;
}

static void handle(int number) {
    struct sigaction action = {.sa_handler = on_ring, .sa_flags = SA_RESTART};
    assert_int_equal(sigaction(number, &action, NULL), 0);
}

static int begin(void **state) {
    (void)state;
    memset(&handlers, 0, sizeof handlers);
    gen_init(&handlers.gen, gen_seed("test_handlers"));
    handle(SIGALRM);
    handle(SIGUSR1);
    handle(SIGUSR2);
    return 0;
}

// Program code that only allocates, so that nearly every handler comes over
// Loam's own.
static void work(size_t rings) {
    static void *kept[64];
    for (size_t i = 0; handlers.rings < rings; i++) {
        kept[i % 64] = loam_alloc(16 + i % 7 * 100);
        if (kept[i % 64] == NULL) {
            abort();
        }
        handlers.steps++;
    }
}

// The first refusals teach the reserve how much to keep; another is possible
// where the holder of the lock is without a processor for long.
static bool are_served(void) {
    return handlers.met_null <= 2 + handlers.rings / 200;
}

static void see_served(void) {
    print_message("%zu handlers, %zu objects, %zu refused in %zu handlers\n",
                  handlers.rings, handlers.asked, handlers.refused,
                  handlers.met_null);
    assert_true(handlers.asked >= 1000);
    assert_true(are_served());
    for (size_t at = 0; at < KEPT; at++) {
        check(at);
    }
}

static void run(suseconds_t us, size_t objects, size_t bytes_max) {
    handlers.objects = objects;
    handlers.bytes_max = bytes_max;
    ring(us, SCALED(1000, 200));
    work(handlers.last);
    see_served();
}

static void test_1_khz(void **state) {
    (void)state;
    run(1000, 64, 1024);
}

static void test_10_khz(void **state) {
    (void)state;
    run(100, 64, 1024);
}

// Every size of a cell, and runs.
static void test_all_sizes(void **state) {
    (void)state;
    run(1000, 8, 64);
    run(1000, 8, 8 * 1024);
    run(1000, 4, 200 * 1024);
}

// Handlers over handlers, each of which may come over Loam's own code.
static void test_nested(void **state) {
    (void)state;
    handlers.nests = true;
    run(500, 16, 1024);
}

// With another thread that takes the lock all the time.
static atomic_bool ended;

static void *beside(void *data) {
    for (size_t i = 0; !ended; i++) {
        *(void **)data = loam_alloc(16 + i % 9 * 500);
    }
    return NULL;
}

static void test_beside(void **state) {
    (void)state;
    static void *word;
    pthread_t thread;
    ended = false;
    sigset_t all, before; // not even its first instruction is interrupted
    (void)sigfillset(&all);
    assert_int_equal(pthread_sigmask(SIG_BLOCK, &all, &before), 0);
    assert_int_equal(pthread_create(&thread, NULL, beside, &word), 0);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, &before, NULL), 0);
    run(300, 64, 1024);
    ended = true;
    assert_int_equal(pthread_join(thread, NULL), 0);
}

// A thread that never allocates, but in handlers.
static void *wait_for_rings(void *data) {
    const size_t *rings = data;
    while (handlers.rings < *rings) {
        struct timespec nap = {0, 100000};
        (void)nanosleep(&nap, NULL);
    }
    return NULL;
}

static void test_idle_thread(void **state) {
    (void)state;
    handlers.objects = 64;
    handlers.bytes_max = 1024;
    size_t rings = SCALED(500, 100);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, wait_for_rings, &rings), 0);
    sigset_t alarms, before;
    (void)sigemptyset(&alarms);
    (void)sigaddset(&alarms, SIGALRM);
    assert_int_equal(pthread_sigmask(SIG_BLOCK, &alarms, &before), 0);
    ring(1000, rings); // heard by the other thread alone
    work(rings);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, &before, NULL), 0);
    see_served();
}

// Children made while handlers come in go on being served.
static void test_children(void **state) {
    (void)state;
    run(1000, 64, 1024);
    for (size_t i = 0; i < 5; i++) {
        ring(500, 20);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            handlers.rings = handlers.asked = handlers.met_null = 0;
            ring(500, 100);
            work(100);
            _exit(are_served() && loam_collect() ? 0 : 1);
        }
        work(handlers.last);
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
    }
    see_served();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_1_khz, begin),
        cmocka_unit_test_setup(test_10_khz, begin),
        cmocka_unit_test_setup(test_all_sizes, begin),
        cmocka_unit_test_setup(test_nested, begin),
        cmocka_unit_test_setup(test_beside, begin),
        cmocka_unit_test_setup(test_idle_thread, begin),
        cmocka_unit_test_setup(test_children, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
