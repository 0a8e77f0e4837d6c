// cmocka — the few words of cmocka that our tests use, for foreign machines.
//
// Debian's cmocka is built for the machine it is installed on.  When the tests
// are compiled for another one (preset aarch64) they include this file in its
// place, and an emulator runs them.  The first failure ends the program; what
// skips leaves its test, from however deep a call.
//
// Only what tests/ says is here; a test that says more will not compile for
// the other machine, and the word is added.

#ifndef CROSS_CMOCKA_H
#define CROSS_CMOCKA_H

#include <inttypes.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef void (*CMUnitTestFunction)(void **state);
typedef int (*CMFixtureFunction)(void **state);

struct CMUnitTest {
    const char *name;
    CMUnitTestFunction test_func;
    CMFixtureFunction setup_func;
    CMFixtureFunction teardown_func;
    void *initial_state;
};

static jmp_buf cmocka_skipped __attribute__((__unused__));

#define cmocka_unit_test(f)                                                    \
    { #f, (f), NULL, NULL, NULL }
#define cmocka_unit_test_setup(f, before)                                      \
    { #f, (f), (before), NULL, NULL }
#define cmocka_unit_test_teardown(f, after)                                    \
    { #f, (f), NULL, (after), NULL }
#define cmocka_unit_test_setup_teardown(f, before, after)                      \
    { #f, (f), (before), (after), NULL }
#define cmocka_unit_test_prestate(f, state)                                    \
    { #f, (f), NULL, NULL, (state) }

#define cmocka_fail(...)                                                       \
    do {                                                                       \
        fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);                        \
        fprintf(stderr, __VA_ARGS__);                                          \
        fprintf(stderr, "\n");                                                 \
        exit(1);                                                               \
    } while (0)

#define fail()        cmocka_fail("failed")
#define fail_msg(...) cmocka_fail(__VA_ARGS__)
#define skip()        longjmp(cmocka_skipped, 1)

#define assert_true(cond)                                                      \
    do {                                                                       \
        if (!(cond)) {                                                         \
            cmocka_fail("not so: %s", #cond);                                  \
        }                                                                      \
    } while (0)
#define assert_false(cond)   assert_true(!(cond))
#define assert_non_null(p)   assert_true((p) != NULL)
#define assert_null(p)       assert_true((p) == NULL)
#define print_message(...)   printf(__VA_ARGS__)
#define print_error(...)     fprintf(stderr, __VA_ARGS__)
#define cmocka_word(value)   ((uintmax_t)(uintptr_t)(value))
#define assert_int_equal     cmocka_equal
#define assert_ptr_equal     cmocka_equal
#define assert_int_not_equal cmocka_unequal
#define assert_ptr_not_equal cmocka_unequal

#define cmocka_equal(a, b)                                                     \
    do {                                                                       \
        uintmax_t cmocka_a = cmocka_word(a), cmocka_b = cmocka_word(b);        \
        if (cmocka_a != cmocka_b) {                                            \
            cmocka_fail("0x%" PRIxMAX " is not 0x%" PRIxMAX ": %s, %s",        \
                        cmocka_a, cmocka_b, #a, #b);                           \
        }                                                                      \
    } while (0)
#define cmocka_unequal(a, b)                                                   \
    do {                                                                       \
        if (cmocka_word(a) == cmocka_word(b)) {                                \
            cmocka_fail("equal: %s, %s", #a, #b);                              \
        }                                                                      \
    } while (0)
#define assert_in_range(value, least, most)                                    \
    assert_true(cmocka_within(cmocka_word(value), cmocka_word(least),          \
                              cmocka_word(most)))
#define assert_string_equal(a, b)           assert_true(strcmp((a), (b)) == 0)
#define assert_string_not_equal(a, b)       assert_true(strcmp((a), (b)) != 0)
#define assert_memory_equal(a, b, size)     assert_true(memcmp(a, b, size) == 0)
#define assert_memory_not_equal(a, b, size) assert_true(memcmp(a, b, size) != 0)

#define cmocka_run_group_tests(tests, before, after)                           \
    cmocka_run((tests), sizeof(tests) / sizeof((tests)[0]), (before), (after))

#define cmocka_run_group_tests_name(name, tests, before, after)                \
    cmocka_run_group_tests(tests, before, after)

static inline int cmocka_within(uintmax_t value, uintmax_t least,
                                uintmax_t most) {
    return value >= least && value <= most;
}

static inline void cmocka_run_one(const struct CMUnitTest *test, void **state) {
    if (setjmp(cmocka_skipped) == 0) {
        test->test_func(state);
    } else {
        fprintf(stderr, "%s: skipped\n", test->name);
    }
}

static inline int cmocka_run(const struct CMUnitTest *tests, size_t count,
                             CMFixtureFunction before,
                             CMFixtureFunction after) {
    void *group = NULL;
    if (before != NULL && before(&group) != 0) {
        return 1;
    }
    for (size_t i = 0; i < count; i++) {
        const struct CMUnitTest *test = &tests[i];
        void *state = test->initial_state != NULL ? test->initial_state : group;
        fprintf(stderr, "%s\n", test->name);
        if (test->setup_func != NULL && test->setup_func(&state) != 0) {
            return 1;
        }
        cmocka_run_one(test, &state);
        if (test->teardown_func != NULL && test->teardown_func(&state) != 0) {
            return 1;
        }
    }
    return after != NULL && after(&group) != 0;
}

#endif
