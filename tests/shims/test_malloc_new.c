// operator new and delete of libloam_malloc, under the names that a C++
// compiler gives them.  This program stands in for the C++ library, of which
// they want two functions.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "loam.h"

typedef void handler(void);

// The C++ library's.
handler *get_new_handler(void) __asm__("_ZSt15get_new_handlerv");
_Noreturn void throw_bad_alloc(void) __asm__("_ZSt17__throw_bad_allocv");

void *_Znwm(size_t bytes);
void *_Znam(size_t bytes);
void *_ZnwmRKSt9nothrow_t(size_t bytes, const void *tag);
void *_ZnamRKSt9nothrow_t(size_t bytes, const void *tag);
void *_ZnwmSt11align_val_t(size_t bytes, size_t alignment);
void *_ZnamSt11align_val_t(size_t bytes, size_t alignment);
void *_ZnwmSt11align_val_tRKSt9nothrow_t(size_t bytes, size_t alignment,
                                         const void *tag);
void *_ZnamSt11align_val_tRKSt9nothrow_t(size_t bytes, size_t alignment,
                                         const void *tag);
void _ZdlPv(void *p);
void _ZdaPv(void *p);
void _ZdlPvm(void *p, size_t bytes);
void _ZdaPvm(void *p, size_t bytes);
void _ZdlPvRKSt9nothrow_t(void *p, const void *tag);
void _ZdaPvRKSt9nothrow_t(void *p, const void *tag);
void _ZdlPvSt11align_val_t(void *p, size_t alignment);
void _ZdaPvSt11align_val_t(void *p, size_t alignment);
void _ZdlPvmSt11align_val_t(void *p, size_t bytes, size_t alignment);
void _ZdaPvmSt11align_val_t(void *p, size_t bytes, size_t alignment);

unsigned linked_asked(void); // malloc_new_linked.c

static handler *current;
static jmp_buf caught;
static unsigned calls;

handler *get_new_handler(void) {
    return current;
}

void throw_bad_alloc(void) {
    longjmp(caught, 1);
}

static void *ours(void *p) {
    assert_true(loam_is_heap(p));
    memset(p, 1, 100);
    return p;
}

static void test_pairs(void **state) {
    (void)state;
    _ZdlPv(ours(_Znwm(100)));
    _ZdaPv(ours(_Znam(100)));
    _ZdlPvm(ours(_Znwm(100)), 100);
    _ZdaPvm(ours(_Znam(100)), 100);
    _ZdlPvRKSt9nothrow_t(ours(_ZnwmRKSt9nothrow_t(100, "")), "");
    _ZdaPvRKSt9nothrow_t(ours(_ZnamRKSt9nothrow_t(100, "")), "");
    void *p = ours(_ZnwmSt11align_val_t(100, 256));
    assert_int_equal((uintptr_t)p % 256, 0);
    _ZdlPvSt11align_val_t(p, 256);
    _ZdaPvSt11align_val_t(ours(_ZnamSt11align_val_t(100, 64)), 64);
    p = ours(_ZnwmSt11align_val_tRKSt9nothrow_t(100, 4096, ""));
    assert_int_equal((uintptr_t)p % 4096, 0);
    _ZdlPvmSt11align_val_t(p, 100, 4096);
    p = ours(_ZnamSt11align_val_tRKSt9nothrow_t(100, 64, ""));
    _ZdaPvmSt11align_val_t(p, 100, 64);
    _ZdlPv(NULL);
    free(_Znwm(0)); // a program may mix them; the heap does not mind
}

#define ABSURD ((size_t)1 << 62)

static void give_up(void) {
    calls++;
    if (calls == 3) {
        current = NULL;
    }
}

static void make_room(void) {
    calls++;
    assert_true(loam_set_limit(0));
}

// ML6: the handler is asked again and again until it gives up, or makes room.
static void test_handler(void **state) {
    (void)state;
    volatile bool thrown = false;
    current = give_up;
    calls = 0;
    if (setjmp(caught) == 0) {
        (void)_Znwm(ABSURD);
    } else {
        thrown = true;
    }
    assert_true(thrown);
    assert_int_equal(calls, 3);
    current = give_up;
    calls = 0;
    assert_null(_ZnamRKSt9nothrow_t(ABSURD, ""));
    assert_int_equal(calls, 3);
    current = make_room;
    calls = 0;
    assert_true(loam_set_limit((size_t)64 << 20));
    void *p = _ZnwmSt11align_val_t((size_t)100 << 20, 64);
    assert_non_null(p);
    assert_int_equal(calls, 1);
    _ZdlPv(p);
}

// ML6: where the C++ library has a new that catches, it is asked, but only if
// there is a handler.
static void test_quiet(void **state) {
    (void)state;
    current = NULL;
    assert_null(_ZnwmRKSt9nothrow_t(ABSURD, ""));
    assert_int_equal(linked_asked(), 0);
    current = give_up;
    calls = 0;
    assert_null(_ZnwmRKSt9nothrow_t(ABSURD, ""));
    assert_int_equal(linked_asked(), 1);
    assert_null(_ZnwmSt11align_val_tRKSt9nothrow_t(ABSURD, 64, ""));
    assert_int_equal(linked_asked(), 1);
    assert_int_equal(calls, 0);
    current = NULL;
}

// ML6: an alignment that is none.
static void test_crooked(void **state) {
    (void)state;
    volatile size_t crooked = 24;
    volatile bool thrown = false;
    if (setjmp(caught) == 0) {
        (void)_ZnwmSt11align_val_t(100, crooked);
    } else {
        thrown = true;
    }
    assert_true(thrown);
    assert_null(_ZnwmSt11align_val_tRKSt9nothrow_t(100, crooked, ""));
    assert_null(_ZnamSt11align_val_tRKSt9nothrow_t(100, 0, ""));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_handler),
        cmocka_unit_test(test_quiet),
        cmocka_unit_test(test_crooked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
