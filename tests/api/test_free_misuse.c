// loam_free: frees at once; and every way to call it wrongly is reported on
// the warning hook with the caller's name or address, and changes nothing.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "loam.h"
#include "support/gen.h"
#include "support/scrub.h"

static unsigned warnings;
static char said[1024];

static void hear(const char *sentence, void *data) {
    assert_ptr_equal(data, said);
    snprintf(said, sizeof said, "%s", sentence);
    warnings++;
}

static int listen(void **state) {
    (void)state;
    loam_set_warning_hook(hear, said);
    warnings = 0;
    return 0;
}

static int unlisten(void **state) {
    (void)state;
    loam_set_warning_hook(NULL, NULL);
    return 0;
}

// A caller with a name that the linker knows and the sentence may give.
NOT_INLINED void test_free_caller(void *p);
NOT_INLINED void test_free_caller(void *p) {
    loam_free(p);
    __asm__ volatile(""); // a call, not a jump: the return address is here
}

// Whether the sentence names a place in this very function: by name, by
// address, or by its distance from the start of the program.
static bool names_caller(void) {
    Dl_info program = {0};
    uintptr_t function = (uintptr_t)test_free_caller;
    (void)dladdr((void *)function, &program);
    if (strstr(said, "test_free_caller")) {
        return true;
    }
    for (const char *at = strstr(said, "0x"); at; at = strstr(at + 2, "0x")) {
        uintptr_t code = (uintptr_t)strtoull(at, NULL, 16);
        if (code - function < 256 ||
            code + (uintptr_t)program.dli_fbase - function < 256) {
            return true;
        }
    }
    return false;
}

static void expect_refusal(void *p) {
    unsigned before = warnings;
    struct loam_stats was;
    struct loam_stats is;
    loam_stats(&was, sizeof was);
    said[0] = '\0';
    errno = 99;
    test_free_caller(p);
    assert_int_equal(errno, 99);
    loam_stats(&is, sizeof is);
    assert_int_equal(warnings, before + 1);
    if (!names_caller()) {
        fail_msg("the caller is not named: %s", said);
    }
    assert_null(strchr(said, '\n'));
    assert_true(was.freed_bytes == is.freed_bytes);
    assert_true(was.used_bytes == is.used_bytes);
}

static const size_t sizes[] = {0,      16,     24,      100,    128,   500,
                               2000,   4096,   8192,    10000,  40000, 100000,
                               262144, 300000, 1 << 20, 9 << 20};
#define SIZES (sizeof sizes / sizeof sizes[0])

static void test_frees_at_once(void **state) {
    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        struct loam_stats was;
        struct loam_stats is;
        char *p = loam_alloc(sizes[i]);
        size_t usable = loam_usable_size(p);
        loam_stats(&was, sizeof was);
        loam_free(p);
        loam_stats(&is, sizeof is);
        assert_true(is.freed_bytes - was.freed_bytes >= usable);
        assert_true(was.used_bytes - is.used_bytes >= usable);
        assert_false(loam_is_heap(p));
        assert_false(loam_is_heap(p + usable / 2));
        assert_null(loam_base(p));
        assert_int_equal(loam_usable_size(p), 0);
    }
    loam_free(NULL);
    assert_int_equal(warnings, 0);
}

// Freed memory is used again: a program that frees stays small.
static void test_is_used_again(void **state) {
    (void)state;
    struct loam_stats is;
    loam_stats(&is, sizeof is);
    uint64_t collections = is.collections;
    loam_disable();
    uint64_t heap_bytes = 0;
    for (size_t round = 0; round < 200; round++) {
        void *objects[100];
        for (size_t i = 0; i < 100; i++) {
            objects[i] = loam_alloc(sizes[(i + round) % 11]);
        }
        for (size_t i = 0; i < 100; i++) {
            loam_free(objects[i]);
        }
        loam_stats(&is, sizeof is);
        heap_bytes = round == 100 ? is.heap_bytes : heap_bytes;
    }
    loam_enable();
    assert_true(is.collections == collections);
    assert_true(is.heap_bytes <= heap_bytes + (1 << 20));
    assert_int_equal(warnings, 0);
}

static void test_double(void **state) {
    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        char *p = loam_alloc(sizes[i]);
        char *neighbour = loam_alloc(sizes[i]);
        memset(neighbour, 1, sizes[i]);
        loam_free(p);
        expect_refusal(p);
        expect_refusal(p);
        loam_collect();
        expect_refusal(p);
        assert_ptr_equal(loam_base(neighbour), neighbour);
        for (size_t k = 0; k < sizes[i]; k++) {
            assert_int_equal(neighbour[k], 1);
        }
    }
}

static void test_interior(void **state) {
    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        char *p = loam_alloc(sizes[i]);
        size_t usable = loam_usable_size(p);
        size_t offsets[] = {1, 7, 8, 15, usable / 2, usable - 1};
        for (size_t k = 0; k < sizeof offsets / sizeof offsets[0]; k++) {
            expect_refusal(p + offsets[k]);
            assert_ptr_equal(loam_base(p), p);
            assert_int_equal(loam_usable_size(p), usable);
        }
        loam_free(p);
    }
}

// One past the end is another object's start, or no object's.
static void test_past_the_end(void **state) {
    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        char *p = loam_alloc(sizes[i]);
        char *end = p + loam_usable_size(p);
        if (!loam_is_heap(end)) {
            expect_refusal(end);
        }
        assert_ptr_equal(loam_base(p), p);
    }
}

static long foreign_global[4];

static void test_foreign(void **state) {
    (void)state;
    long local[4] = {0};
    static const char text[] = "constant";
    char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *other = malloc(100);
    volatile uintptr_t numbers[] = {1,
                                    8,
                                    16,
                                    4096,
                                    65536,
                                    (uintptr_t)1 << 40,
                                    (uintptr_t)1 << 46,
                                    (uintptr_t)1 << 47,
                                    (uintptr_t)1 << 63,
                                    UINTPTR_MAX,
                                    UINTPTR_MAX - 15};
    expect_refusal(local);
    expect_refusal(foreign_global);
    expect_refusal((void *)(uintptr_t)text);
    expect_refusal((void *)(uintptr_t)test_free_caller);
    expect_refusal(page);
    expect_refusal(other);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        expect_refusal((void *)numbers[i]);
        assert_false(loam_is_heap((void *)numbers[i]));
        assert_null(loam_base((void *)numbers[i]));
        assert_int_equal(loam_usable_size((void *)numbers[i]), 0);
    }
    free(other);
    munmap(page, 4096);
}

// An object that a collection reclaimed is not in use any more.
NOT_INLINED static void make_garbage(uintptr_t *hidden, size_t count) {
    loam_disable(); // no address twice
    for (size_t i = 0; i < count; i++) {
        hidden[i] = LOAM_HIDE(loam_alloc(sizes[i % SIZES]));
    }
    loam_enable();
}

static void test_collected(void **state) {
    (void)state;
    uintptr_t hidden[200];
    make_garbage(hidden, 200);
    scrub_collect();
    size_t refused = 0;
    for (size_t i = 0; i < 200; i++) {
        if (!loam_is_heap(LOAM_REVEAL(hidden[i]))) {
            expect_refusal(LOAM_REVEAL(hidden[i]));
            refused++;
        }
    }
    assert_true(refused >= 160);
}

// Every kind can be freed, pinned ones only so.
static void test_kinds(void **state) {
    (void)state;
    void *(*const allocs[])(size_t) = {
        loam_alloc, loam_alloc_leaf, loam_alloc_pinned, loam_alloc_leaf_pinned,
        loam_alloc_base_only};
    for (size_t k = 0; k < sizeof allocs / sizeof allocs[0]; k++) {
        for (size_t i = 0; i < SIZES; i++) {
            void *p = allocs[k](sizes[i]);
            loam_free(p);
            assert_false(loam_is_heap(p));
            expect_refusal(p);
        }
    }
}

// Thousands of misuses between thousands of good frees: nothing is confused.
static void test_storm(void **state) {
    (void)state;
    enum { COUNT = 300 };
    static unsigned char *objects[COUNT];
    struct gen g;
    gen_init(&g, gen_seed("free storm"));
    for (size_t step = 0; step < SCALED(30000, 8000); step++) {
        size_t i = gen_below(&g, COUNT);
        if (!objects[i]) {
            objects[i] = loam_alloc(gen_bytes(&g, 5000));
            memset(objects[i], (int)i, loam_usable_size(objects[i]));
            continue;
        }
        size_t usable = loam_usable_size(objects[i]);
        assert_int_equal(objects[i][gen_below(&g, usable)], i % 256);
        if (gen_chance(&g, 50)) {
            loam_free(objects[i] + 1 + gen_below(&g, usable - 1));
        } else {
            uintptr_t hidden = LOAM_HIDE(objects[i]);
            loam_free(objects[i]);
            loam_free(LOAM_REVEAL(hidden));
            objects[i] = NULL;
        }
    }
    memset(objects, 0, sizeof objects);
}

#define LISTENING(test) cmocka_unit_test_setup_teardown(test, listen, unlisten)

int main(void) {
    const struct CMUnitTest tests[] = {
        LISTENING(test_frees_at_once), LISTENING(test_is_used_again),
        LISTENING(test_double),        LISTENING(test_interior),
        LISTENING(test_past_the_end),  LISTENING(test_foreign),
        LISTENING(test_collected),     LISTENING(test_kinds),
        LISTENING(test_storm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
