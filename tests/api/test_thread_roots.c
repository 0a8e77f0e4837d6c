// What a thread holds is kept, wherever it holds it: on its stack, in a
// register, in a variable of its own, behind a key, while it waits, while it is
// detached, and before it ever called Loam.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "loam.h"
#include "support/scrub.h"
#include "support/team.h"

// --- What a thread holds ---------------------------------------------------

// One object that only the thread holds: hidden from everybody else.
static uintptr_t hidden;
static void *volatile slot; // by which it comes and goes
static atomic_uint holding, give_back;
static _Thread_local void *volatile in_thread;
static pthread_key_t key;

static NOT_INLINED void make_held(void) {
    unsigned char *p = loam_alloc(200);
    MUST(p != NULL);
    memset(p, 0x77, 200);
    hidden = LOAM_HIDE(p);
    slot = p;
}

static NOT_INLINED void hold_on_stack(void) {
    void *volatile here = slot;
    slot = NULL;
    scrub_stack();
    atomic_store(&holding, 1);
    wait_for(&give_back, 1);
    slot = here;
}

// In a register that the thread does not save: it runs all the time.
__attribute__((unused)) static NOT_INLINED void hold_in_register(void) {
    scrub_stack();
#if defined(__x86_64__)
    __asm__ volatile("movq (%0), %%r10\n\t"
                     "movq $0, (%0)\n\t"
                     "movl $1, (%1)\n"
                     "1:\tpause\n\t"
                     "cmpl $0, (%2)\n\t"
                     "je 1b\n\t"
                     "movq %%r10, (%0)\n\t"
                     "xorl %%r10d, %%r10d"
                     :
                     : "r"(&slot), "r"(&holding), "r"(&give_back)
                     : "r10", "memory", "cc");
#elif defined(__aarch64__)
    __asm__ volatile("ldr x10, [%0]\n\t"
                     "str xzr, [%0]\n\t"
                     "mov w11, #1\n\t"
                     "str w11, [%1]\n"
                     "1:\tyield\n\t"
                     "ldr w11, [%2]\n\t"
                     "cbz w11, 1b\n\t"
                     "str x10, [%0]\n\t"
                     "mov x10, #0"
                     :
                     : "r"(&slot), "r"(&holding), "r"(&give_back)
                     : "x10", "x11", "memory", "cc");
#endif
}

static NOT_INLINED void hold_in_thread(void) {
    in_thread = slot;
    slot = NULL;
    scrub_stack();
    atomic_store(&holding, 1);
    wait_for(&give_back, 1);
    slot = in_thread;
    in_thread = NULL;
}

static NOT_INLINED void hold_by_key(void) {
    MUST(pthread_setspecific(key, slot) == 0);
    slot = NULL;
    scrub_stack();
    atomic_store(&holding, 1);
    wait_for(&give_back, 1);
    slot = pthread_getspecific(key);
    MUST(pthread_setspecific(key, NULL) == 0);
}

// In a region that is neither waited for nor interrupted.
static NOT_INLINED void hold_in_region(void) {
    void *volatile here = slot;
    slot = NULL;
    scrub_stack();
    loam_blocking_enter();
    loam_blocking_enter(); // they nest
    loam_blocking_leave();
    atomic_store(&holding, 1);
    while (atomic_load(&give_back) == 0) {
        (void)usleep(200);
    }
    loam_blocking_leave();
    slot = here;
}

static NOT_INLINED void hold_detached(void) {
    void *volatile here = slot;
    slot = NULL;
    scrub_stack();
    loam_thread_detach();
    loam_thread_detach(); // again: nothing
    atomic_store(&holding, 1);
#ifndef COOPERATIVE
    wait_for(&give_back, 1);
#endif
    MUST(loam_thread_attach());
    wait_for(&give_back, 1);
    slot = here;
}

static void *hold(void *data) {
    void (*const *how)(void) = data;
    make_held();
    scrub_stack();
    (*how)();
    return NULL;
}

// A thread that never called Loam, and is handed an object.
__attribute__((unused)) static void *hold_as_stranger(void *data) {
    (void)data;
    hold_on_stack();
    return NULL;
}

static NOT_INLINED void check_held(void) {
    const unsigned char *p = LOAM_REVEAL(hidden);
    assert_true(loam_is_heap(p));
    for (size_t i = 0; i < 200; i++) {
        assert_int_equal(p[i], 0x77);
    }
}

static NOT_INLINED void check_holder(void *(*body)(void *), void *data) {
    atomic_store(&holding, 0);
    atomic_store(&give_back, 0);
    pthread_t thread = begin(body, data);
    wait_for(&holding, 1);
    for (size_t i = 0; i < 5; i++) {
        assert_true(scrub_collect());
        check_held();
        scrub_stack();
        for (size_t n = 0; n < 3000; n++) { // what was lost would be reused
            (void)!loam_alloc(200);
        }
    }
    atomic_store(&give_back, 1);
    join(thread);
    assert_ptr_equal(slot, LOAM_REVEAL(hidden));
    slot = NULL;
}

static void test_held(void **state) {
    (void)state;
    assert_int_equal(pthread_key_create(&key, NULL), 0);
    static void (*const ways[])(void) = {
        hold_on_stack,    hold_in_thread, hold_by_key,
        hold_in_region,   hold_detached,
#ifndef COOPERATIVE
        hold_in_register,
#endif
    };
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        void (*way)(void) = ways[i];
        check_holder(hold, &way);
    }
#ifndef COOPERATIVE
    make_held();
    check_holder(hold_as_stranger, NULL);
#endif
}

// The argument and the answer of a thread are kept while nobody else has them.
static void *pass_on(void *data) {
    unsigned char *p = data;
    for (size_t i = 0; i < 100; i++) {
        MUST(p[i] == 0x33);
    }
    unsigned char *answer = loam_alloc(100);
    MUST(answer != NULL);
    memset(answer, 0x44, 100);
    return answer;
}

static NOT_INLINED pthread_t begin_with_object(void) {
    unsigned char *p = loam_alloc(100);
    assert_non_null(p);
    memset(p, 0x33, 100);
    return begin(pass_on, p);
}

static void test_argument(void **state) {
    (void)state;
    for (size_t i = 0; i < 100; i++) {
        pthread_t thread = begin_with_object();
        assert_true(scrub_collect());
        for (size_t n = 0; n < 100; n++) {
            (void)!loam_alloc(100);
        }
        void *answer;
        assert_int_equal(pthread_join(thread, &answer), 0);
        for (size_t n = 0; n < 100; n++) {
            assert_int_equal(((unsigned char *)answer)[n], 0x44);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_held),
                                       cmocka_unit_test(test_argument)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
