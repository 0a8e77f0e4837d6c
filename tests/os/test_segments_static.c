// A program with no loader: its variables, and those of its threads.
// link: -static

#include "os/segments.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/defs.h"
#include "os/loader.h"

static uintptr_t data_variable = 1;
static uintptr_t bss_variable;
static _Thread_local uintptr_t tls_variable = 2;
static _Thread_local uintptr_t tls_zero[1000];

struct question {
    const void *address;
    size_t answers;
};

static void ask(const void *start, const void *end, void *data) {
    struct question *question = data;
    uintptr_t at = (uintptr_t)question->address;
    question->answers +=
        at >= (uintptr_t)start && at + WORD_BYTES <= (uintptr_t)end;
}

NO_SANITIZE static void sum(const void *start, const void *end, void *data) {
    uintptr_t *total = data;
    for (const volatile uintptr_t *word = start; word < (const uintptr_t *)end;
         word++) {
        *total += *word;
    }
}

// G1, G3, G6
static void test_static_variables(void **state) {
    (void)state;
    const void *variables[] = {&data_variable, &bss_variable, &environ};
    for (size_t index = 0; index < 3; index++) {
        struct question question = {variables[index], 0};
        segments_each(ask, &question);
        assert_int_equal(question.answers, 1);
        assert_true(segments_each_mapped(ask, &question));
        assert_int_equal(question.answers, 2);
    }
    uintptr_t local = 0;
    struct question question = {&local, 0};
    segments_each(ask, &question);
    assert_int_equal(question.answers, 0);
    uintptr_t total = 0;
    segments_each(sum, &total);
    (void)segments_each_mapped(sum, &total);
}

// G2
static void *check_thread(void *data) {
    const void *variables[] = {&tls_variable, &tls_zero[0], &tls_zero[999],
                               &errno};
    for (size_t index = 0; index < 4; index++) {
        assert_true(segments_check_tls(variables[index]));
    }
    uintptr_t total = 0;
    segments_each_tls(segments_thread_pointer(), sum, &total);
    return data;
}

static void test_threads(void **state) {
    (void)state;
    segments_each(ask, &(struct question){NULL, 0});
    (void)check_thread(NULL);
    for (size_t turn = 0; turn < 8; turn++) {
        pthread_t thread;
        pthread_attr_t attributes;
        assert_int_equal(pthread_attr_init(&attributes), 0);
        assert_int_equal(
            pthread_attr_setstacksize(&attributes, (256 + 16 * turn) * KiB), 0);
        assert_int_equal(
            pthread_create(&thread, &attributes, check_thread, NULL), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
    }
}

static void count(const struct loader_module *module, void *data) {
    (void)module;
    (*(size_t *)data)++;
}

static void test_program_alone(void **state) {
    (void)state;
    size_t modules = 0;
    assert_int_equal(loader_each(count, &modules), LOADER_DONE);
    assert_true(modules == 1 || modules == 2); // and the kernel's own, maybe
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_static_variables),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_program_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
