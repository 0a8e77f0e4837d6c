// The life of a process: allocation before main and after exit began, fork,
// signals' stacks left alone, a second thread, and a stack that nobody knows.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "loam.h"
#include "support/child.h"
#include "support/scrub.h"

struct link {
    struct link *next;
    size_t number;
};

static struct link *list;

NOT_INLINED static void grow(size_t count) {
    for (size_t i = 0; i < count; i++) {
        struct link *link = loam_alloc(sizeof *link);
        if (!link) {
            abort();
        }
        link->next = list;
        link->number = i;
        list = link;
    }
}

static int check(size_t count) {
    for (const struct link *link = list; link; link = link->next) {
        if (link->number != --count) {
            return 1;
        }
    }
    return count != 0;
}

static void churn(size_t count) {
    for (size_t i = 0; i < count; i++) {
        void *p = loam_alloc(700);
        if (!p) {
            abort();
        }
        memset(p, 0xFF, 700);
    }
}

// --- Before main -------------------------------------------------------

static char *early;

__attribute__((__constructor__)) static void allocate_early(void) {
    early = loam_alloc_leaf(100);
    strcpy(early, "born before main");
}

static void test_before_main(void **state) {
    (void)state;
    churn(30000);
    loam_collect();
    assert_ptr_equal(loam_base(early), early);
    assert_string_equal(early, "born before main");
}

// --- At exit -----------------------------------------------------------

static void allocate_late(void) {
    churn(30000);
    loam_collect();
    if (check(1000) == 0) {
        (void)!write(STDERR_FILENO, "late", 4);
    }
}

static int exit_with_handler(void *data) {
    (void)data;
    list = NULL;
    grow(1000);
    atexit(allocate_late);
    exit(7);
}

static void test_at_exit(void **state) {
    (void)state;
    struct child child;
    child_fork(&child, exit_with_handler, NULL);
    assert_int_equal(child.status, 7);
    assert_string_equal(child.text, "late");
}

// --- fork --------------------------------------------------------------

static int child_works(void *data) {
    size_t count = *(size_t *)data;
    if (check(count)) {
        return 2;
    }
    churn(50000);
    if (!loam_collect() || check(count)) {
        return 3;
    }
    for (struct link *link = list; link;) { // and frees what it inherited
        struct link *next = link->next;
        loam_free(link);
        link = next;
    }
    list = NULL;
    grow(count);
    churn(50000);
    return check(count) ? 4 : 0;
}

static void test_fork(void **state) {
    (void)state;
    struct child child;
    size_t count = 20000;
    list = NULL;
    grow(count);
    for (size_t round = 0; round < 5; round++) {
        churn(round * 7919);
        child_fork(&child, child_works, &count);
        if (child.status) {
            child_show(&child);
        }
        assert_int_equal(child.status, 0);
        assert_int_equal(child.count, 0);
        assert_int_equal(check(count), 0); // the parent's is untouched
        churn(20000);
        assert_true(loam_collect());
        assert_int_equal(check(count), 0);
    }
    list = NULL;
}

static int grandchild(void *data) {
    struct child child;
    if (child_works(data)) {
        return 1;
    }
    child_fork(&child, child_works, data);
    return child.status;
}

static void test_fork_of_fork(void **state) {
    (void)state;
    struct child child;
    size_t count = 5000;
    list = NULL;
    grow(count);
    child_fork(&child, grandchild, &count);
    assert_int_equal(child.status, 0);
    assert_int_equal(check(count), 0);
    list = NULL;
}

// --- More threads ------------------------------------------------------

static void *allocate_there(void *data) {
    (void)data;
    return loam_alloc(100);
}

static int second_allocates(void *data) {
    (void)data;
    pthread_t thread;
    (void)!loam_alloc(100);
    void *made = NULL;
    pthread_create(&thread, NULL, allocate_there, NULL);
    pthread_join(thread, &made);
    return loam_is_heap(made) ? 0 : 1;
}

static void *wait_there(void *data) {
    (void)data;
    for (;;) {
        pause();
    }
    return NULL;
}

static int collects_beside_one(void *data) {
    (void)data;
    pthread_t thread;
    (void)!loam_alloc(100);
    pthread_create(&thread, NULL, wait_there, NULL);
    return loam_collect() ? 0 : 1;
}

static int churns_beside_one(void *data) {
    (void)data;
    pthread_t thread;
    pthread_create(&thread, NULL, wait_there, NULL);
    churn(100000);
    return 0;
}

// It works, and nothing is said.
static void expect_work(int (*body)(void *data)) {
    struct child child;
    child_fork(&child, body, NULL);
    if (child.status != 0 || child.count != 0) {
        child_show(&child);
    }
    assert_int_equal(child.status, 0);
#if !defined(__SANITIZE_ADDRESS__) // which has words of its own on contexts
    assert_int_equal(child.count, 0);
#endif
}

static void test_second_thread(void **state) {
    (void)state;
    expect_work(second_allocates);
    expect_work(collects_beside_one);
    expect_work(churns_beside_one);
}

// A collection on a stack that nobody knows of finds what lies there, and what
// lies on the thread's own.
static volatile size_t found;

NOT_INLINED static char *make_sevens(void) {
    char *p = loam_alloc(64);
    memset(p, 7, 64);
    return p;
}

static void collect_there(void) {
    char *volatile held = make_sevens();
    for (size_t i = 0; i < 3; i++) {
        found += scrub_collect() && held[63] == 7 && loam_is_heap(held);
        for (size_t n = 0; n < 1000; n++) {
            (void)!loam_alloc(64);
        }
    }
}

static int collects_on_a_fiber(void *data) {
    (void)data;
    static ucontext_t back, fiber;
    static char stack[512 * 1024];
    char *volatile own = make_sevens();
    if (getcontext(&fiber) != 0) {
        return 1;
    }
    fiber.uc_stack.ss_sp = stack;
    fiber.uc_stack.ss_size = sizeof stack;
    fiber.uc_link = &back;
    makecontext(&fiber, collect_there, 0);
    if (swapcontext(&back, &fiber) != 0) {
        return 1;
    }
    return found == 3 && own[63] == 7 && loam_is_heap(own) ? 0 : 2;
}

static void test_foreign_stack(void **state) {
    (void)state;
    expect_work(collects_on_a_fiber);
}

static void *nothing_there(void *data) {
    *(long *)data = syscall(SYS_gettid);
    return NULL;
}

// A thread that came and went, without touching the collector, is no matter.
static int had_a_thread(void *data) {
    (void)data;
    long number = 0;
    pthread_t thread;
    if (pthread_create(&thread, NULL, nothing_there, &number) != 0) {
        return 2;
    }
    pthread_join(thread, NULL);
    // The kernel may list the task for a moment after the join.
    while (syscall(SYS_tgkill, getpid(), number, 0) == 0) {
        usleep(1000);
    }
    churn(100000);
    return loam_collect() ? 0 : 1;
}

static void test_thread_that_left(void **state) {
    (void)state;
    struct child child;
    child_fork(&child, had_a_thread, NULL);
    assert_int_equal(child.status, 0);
    assert_int_equal(child.count, 0);
}

// --- Pointers that stand in unusual but scanned places -----------------

static uintptr_t hidden;
static jmp_buf back;

NOT_INLINED static void *make_hidden(void) {
    char *p = loam_alloc(64);
    p[0] = 77;
    hidden = LOAM_HIDE(p);
    return p;
}

static bool is_there(void) {
    char *p = LOAM_REVEAL(hidden);
    return loam_base(p) == p && p[0] == 77;
}

// The first 32 keys of a thread are held in its control block.
static void test_key(void **state) {
    (void)state;
    pthread_key_t key;
    assert_int_equal(pthread_key_create(&key, NULL), 0);
    for (size_t i = 0; i < 20; i++) {
        pthread_setspecific(key, make_hidden());
        scrub_collect();
        churn(100);
        assert_true(is_there());
    }
    pthread_key_delete(key);
}

static volatile bool may_jump = true; // or the compiler sees no end of it

// longjmp over frames that allocated.
NOT_INLINED static void jump_back(size_t depth) {
    void *volatile p = loam_alloc(100);
    if (depth) {
        jump_back(depth - 1);
    } else if (may_jump) {
        longjmp(back, 1);
    }
    loam_keep(p);
}

static void test_longjmp(void **state) {
    (void)state;
    for (volatile size_t i = 0; i < 200; i++) {
        void *volatile held = make_hidden();
        if (setjmp(back) == 0) {
            jump_back(50);
        }
        (void)loam_collect();
        assert_true(is_there());
        loam_keep(held);
    }
}

// An argument that only the parameter area of deep recursion holds.
NOT_INLINED static size_t dig(char *held, size_t depth) {
    if (depth == 0) {
        (void)loam_collect();
        return 0;
    }
    char *own = loam_alloc(32);
    own[0] = (char)(depth | 1);
    size_t sum = dig(own, depth - 1);
    return sum + (held[0] != 0) + (loam_base(own) == own);
}

static void test_deep_stack(void **state) {
    (void)state;
    char *first = loam_alloc(32);
    first[0] = 1;
    assert_int_equal(dig(first, 20000), 40000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_before_main),
        cmocka_unit_test(test_at_exit),
        cmocka_unit_test(test_fork),
        cmocka_unit_test(test_fork_of_fork),
        cmocka_unit_test(test_second_thread),
        cmocka_unit_test(test_foreign_stack),
        cmocka_unit_test(test_thread_that_left),
        cmocka_unit_test(test_key),
        cmocka_unit_test(test_longjmp),
        cmocka_unit_test(test_deep_stack),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
