// api/report_cycle: a line a collection, in JSON.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/report_cycle.h"
#include "support/child.h"

static struct child child;

// Every figure as large as it can be: RC1, RC2.
static int say_json(void *data) {
    struct collect_report report;
    memset(&report, 0xff, sizeof report);
    report.reason = COLLECT_SHORTAGE;
    report_cycle_set(OPTIONS_TRACE_JSON, data);
    report_cycle(&report);
    report_cycle(&report);
    return 0;
}

static void check_json(char *text) {
    size_t lines = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        size_t length = strlen(line);
        assert_int_equal(line[0], '{');
        assert_int_equal(line[length - 1], '}');
        assert_non_null(strstr(line, "\"reason\":\"shortage\""));
        assert_non_null(strstr(line, "\"cycle\":18446744073709551615,"));
        assert_non_null(strstr(line, "\"mark_ns\":18446744073709551615}"));
        lines++;
    }
    assert_int_equal(lines, 2);
}

static void test_json(void **state) {
    (void)state;
    child_fork(&child, say_json, NULL);
    assert_int_equal(child.status, 0);
    check_json(child.text);
    char path[] = "/tmp/test_report_XXXXXX";
    int file = mkstemp(path);
    assert_true(file >= 0);
    child_fork(&child, say_json, path);
    assert_int_equal(child.count, 0); // all of it went to the file
    assert_true(read(file, child.text, sizeof child.text) > 0);
    check_json(child.text);
    assert_int_equal(unlink(path), 0);
    close(file);
    // RC3
    child_fork(&child, say_json, (char[]){"/nowhere/at/all"});
    check_json(child.text);
}

static int say_line(void *data) {
    struct collect_report report;
    memset(&report, 0xff, sizeof report);
    report.reason = *(enum collect_reason *)data;
    report_cycle_set(OPTIONS_TRACE_ON, NULL);
    report_cycle(&report);
    return 0;
}

// RC1: the other form, of each reason.
static void test_line(void **state) {
    (void)state;
    for (int i = 0; i < COLLECT_REASONS; i++) {
        enum collect_reason reason = (enum collect_reason)i;
        child_fork(&child, say_line, &reason);
        assert_int_equal(child.status, 0);
        assert_ptr_equal(strchr(child.text, '\n'),
                         child.text + child.count - 1);
        assert_false(child_says(&child, "..."));
        assert_true(child_says(&child, "; held "));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
