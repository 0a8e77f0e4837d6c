// report: what is said, to whom, and how often.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "api/init.h"
#include "api/options.h"
#include "api/report.h"
#include "api/report_cycle.h"
#include "base/text.h"
#include "support/child.h"

static struct child child;

static size_t count_lines(void) {
    size_t lines = 0;
    for (size_t i = 0; i < child.count; i++) {
        lines += child.text[i] == '\n';
    }
    return lines;
}

static char heard[256];

static void hear(const char *sentence, void *data) {
    snprintf(heard, sizeof heard, "%s", sentence);
    ++*(unsigned *)data;
}

static int say_to_hook(void *data) {
    (void)data;
    unsigned count = 0;
    loam_set_warning_hook(hear, &count);
    report_set_warn(OPTIONS_WARN_NONE);
    report_warning(REPORT_BALANCE, "one");
    report_warning(REPORT_BALANCE, "two"); // every one, whatever LOAM_WARN
    bool right = count == 2 && strcmp(heard, "two") == 0;
    loam_set_warning_hook(NULL, NULL);
    report_set_warn(OPTIONS_WARN_ALL);
    report_warning(REPORT_BALANCE, "three");
    return right && count == 2 ? 0 : 1;
}

// R1: to the hook, and only there.
static void test_hook(void **state) {
    (void)state;
    child_fork(&child, say_to_hook, NULL);
    assert_int_equal(child.status, 0);
    assert_string_equal(child.text, "loam: three\n");
}

static int say_all_twice(void *data) {
    report_set_warn(*(enum options_warn *)data);
    for (int round = 0; round < 2; round++) {
        report_warning(REPORT_START, "start");
        report_warning(REPORT_MISUSE, "misuse");
        report_warning(REPORT_BALANCE, "balance");
    }
    return 0;
}

// R2: once by kind, all, none.
static void test_once(void **state) {
    (void)state;
    enum options_warn warn = OPTIONS_WARN_ONCE;
    child_fork(&child, say_all_twice, &warn);
    assert_int_equal(count_lines(), 3);
    warn = OPTIONS_WARN_ALL;
    child_fork(&child, say_all_twice, &warn);
    assert_int_equal(count_lines(), 6);
    warn = OPTIONS_WARN_NONE;
    child_fork(&child, say_all_twice, &warn);
    assert_int_equal(count_lines(), 0);
}

static int say_summary(void *data) {
    (void)data;
    (void)init_ready();
    for (size_t i = 0; i < 10000; i++) {
        (void)!loam_alloc(1000);
    }
    loam_free(loam_alloc(5000));
    struct loam_stats stats;
    loam_stats(&stats, sizeof stats);
    report_exit(&stats, false);
    // What it should have said.
    const uint64_t figures[] = {stats.allocated_bytes, stats.freed_bytes,
                                stats.collected_bytes, stats.used_bytes,
                                stats.heap_bytes,      stats.heap_bytes_max,
                                stats.block_bytes,     stats.metadata_bytes};
    for (size_t i = 0; i < sizeof figures / sizeof figures[0]; i++) {
        char line[64];
        struct text text;
        text_init(&text, line, sizeof line);
        text_add_size(&text, figures[i]);
        fprintf(stderr, "want %s\n", line);
    }
    return 0;
}

// R3: the summary's figures are those of loam_stats.
static void test_sums(void **state) {
    (void)state;
    child_fork(&child, say_summary, NULL);
    assert_int_equal(child.status, 0);
    char *wanted = strstr(child.text, "want ");
    assert_non_null(wanted);
    wanted[-1] = '\0'; // two texts: the summary, and what it should say
    const char *at = child.text;
    size_t count = 0;
    for (char *line = strtok(wanted, "\n"); line; line = strtok(NULL, "\n")) {
        at = strstr(at, line + strlen("want "));
        if (!at) {
            fail_msg("the summary lacks %s, in this order", line);
        }
        count++;
    }
    assert_int_equal(count, 8);
}

static int say_misuse(void *data) {
    report_misuse("some_function", data, (const void *)0x1234);
    return 0;
}

static void test_misuse(void **state) {
    (void)state;
    char *p = loam_alloc(100);
    child_fork(&child, say_misuse, p + 8);
    assert_true(child_says(&child, "some_function"));
    assert_true(child_says(&child, "inside"));
    assert_true(child_says(&child, "0x1234"));
    assert_int_equal(count_lines(), 1);
    child_fork(&child, say_misuse, &child);
    assert_true(child_says(&child, "not in"));
    loam_free(p);
    child_fork(&child, say_misuse, p);
    assert_true(child_says(&child, "not in use"));
}

static int say_cycle(void *data) {
    (void)init_ready();
    init_state.conductor.report = report_cycle;
    for (int i = 0; i < *(int *)data; i++) {
        (void)loam_collect();
    }
    return 0;
}

static void test_cycle(void **state) {
    (void)state;
    int cycles = 5;
    child_fork(&child, say_cycle, &cycles);
    // A line each; one more where an emulator's thread is named.
    size_t more = child_says(&child, "loam: thread ") ? 1 : 0;
#if defined(__x86_64__)
    assert_int_equal(more, 0);
#endif
    assert_int_equal(count_lines(), 5 + more);
    assert_true(child_says(&child, "cycle 1 (asked)"));
    assert_true(child_says(&child, "cycle 5 (asked)"));
}

static void count_row(const struct options_row *row, void *data) {
    assert_true(child_says(&child, row->name));
    assert_true(child_says(&child, row->meaning));
    ++*(size_t *)data;
}

static int say_options(void *data) {
    (void)data;
    report_options();
    return 0;
}

static void test_options(void **state) {
    (void)state;
    size_t rows = 0;
    child_fork(&child, say_options, NULL);
    options_each(count_row, &rows);
    assert_int_equal(count_lines(), 2 * rows);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hook),    cmocka_unit_test(test_once),
        cmocka_unit_test(test_sums),    cmocka_unit_test(test_cycle),
        cmocka_unit_test(test_options), cmocka_unit_test(test_misuse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
