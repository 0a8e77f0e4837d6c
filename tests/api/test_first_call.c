// The first call of a thread comes in a handler, which may have interrupted
// malloc: what Loam asks the C library then does not allocate.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "loam.h"
#include "support/scrub.h"

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) &&                    \
    !defined(__SANITIZE_THREAD__)

// malloc, in front of the library's own.
static __thread volatile bool in_handler;
static volatile size_t forbidden;

void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *p, size_t bytes);

void *malloc(size_t bytes) {
    forbidden += in_handler;
    return __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes) {
    forbidden += in_handler;
    return __libc_calloc(count, bytes);
}

void *realloc(void *p, size_t bytes) {
    forbidden += in_handler;
    return __libc_realloc(p, bytes);
}

static volatile size_t ready, heard, may_end;
static __thread uintptr_t *volatile *made; // in the frame of the thread

static void on_signal(int number) {
    (void)number;
    in_handler = true;
    uintptr_t *object = loam_alloc(64);
    if (object == NULL) {
        abort();
    }
    *object = 4711;
    *made = object;
    in_handler = false;
    heard++;
}

// A thread that is older than Loam, and holds an object in its frame alone.
static void *wait_for_signal(void *data) {
    (void)data;
    uintptr_t *volatile object = NULL;
    made = &object;
    __atomic_fetch_add(&ready, 1, __ATOMIC_SEQ_CST);
    while (may_end == 0) {
        (void)sched_yield();
    }
    bool kept = object != NULL && *object == 4711 &&
                loam_base(object) == (void *)object;
    void *other = loam_alloc(100);
    return kept && other != NULL ? (void *)1 : NULL;
}

#define SIGNAL_STACK_BYTES ((size_t)128 * 1024)

static void *wait_on_stack(void *data) {
    stack_t stack = {.ss_sp = data, .ss_size = SIGNAL_STACK_BYTES};
    if (sigaltstack(&stack, NULL) != 0) {
        abort();
    }
    return wait_for_signal(NULL);
}

static void hear(pthread_t thread, int flags) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = flags};
    assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
    size_t before = heard;
    assert_int_equal(pthread_kill(thread, SIGUSR1), 0);
    while (heard == before) {
        (void)sched_yield();
    }
}

// Garbage, so that what was lost is overwritten.
static void churn(void) {
    for (size_t i = 0; i < 20000; i++) {
        memset(loam_alloc(64), 0xAA, 64);
    }
    scrub_stack();
    assert_true(loam_collect());
}

static void test_first_call(void **state) {
    (void)state;
    static char stack[SIGNAL_STACK_BYTES];
    pthread_t plain, alternate;
    assert_int_equal(pthread_create(&plain, NULL, wait_for_signal, NULL), 0);
    assert_int_equal(pthread_create(&alternate, NULL, wait_on_stack, stack), 0);
    while (ready < 2) {
        (void)sched_yield();
    }
    assert_true(loam_init());
    hear(plain, 0);
    hear(alternate, SA_ONSTACK);
    assert_int_equal(forbidden, 0);
    for (size_t i = 0; i < 5; i++) {
        churn();
    }
    may_end = 1;
    void *result;
    assert_int_equal(pthread_join(plain, &result), 0);
    assert_non_null(result);
    assert_int_equal(pthread_join(alternate, &result), 0);
    assert_non_null(result);
    churn();
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_first_call)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else
int main(void) {
    return 77;
}
#endif
