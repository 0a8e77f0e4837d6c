// api/summary: the parts of what is in memory, and their sum.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/init.h"
#include "api/served.h"
#include "api/summary.h"
#include "base/defs.h"
#include "support/child.h"

static struct child child;

// The system's own sum, KiB.
static size_t resident_now(void) {
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    char line[256];
    size_t kib = 0;
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "Rss:", 4) == 0) {
            kib = (size_t)strtoull(line + 4, NULL, 10);
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return kib;
}

static struct summary take(void) {
    struct summary s;
    if (!summary_take(&s)) {
        skip(); // the system does not tell
    }
    assert_int_equal(s.used + s.held + s.free + s.tables + s.files + s.other,
                     s.resident); // SU1
    return s;
}

// SU1
static void test_sum(void **state) {
    (void)state;
    (void)init_ready();
    struct summary s = take();
    size_t now = resident_now();
    if (now == 0) {
        skip();
    }
    // Reading the list may bring in a few pages.
    assert_true(s.resident <= now + 512 && now <= s.resident + 512);
    assert_true(s.files > 0);
    assert_true(s.tables > 0);
    assert_true(s.other > 0);
}

// What is written is in memory, and what is not is not.
static void test_moves(void **state) {
    (void)state;
    struct summary before = take();
    struct quarantine *quarantine = &init_state.conductor.quarantine;
    char *p = served_make(8 * MiB, NULL);
    char *many[64];
    assert_non_null(p); // with the first of all the quarantine begins
    quarantine->room_bytes = SIZE_MAX / 8; // no cycle, which lets go
    for (size_t i = 0; i < 64; i++) {
        many[i] = served_make(16 * KiB, NULL);
        assert_non_null(many[i]);
        memset(many[i], 1, 16 * KiB);
    }
    memset(p, 1, 2 * MiB);
    struct summary made = take();
    assert_true(made.used >= before.used + 3 * KiB); // 2 MiB and 64 * 16 KiB
    assert_true(made.used < before.used + 8 * KiB);
    for (size_t i = 0; i < 64; i++) {
        assert_true(served_free(many[i]));
    }
    struct summary freed = take();
    assert_true(freed.held >= made.held + 1024);
    assert_true(freed.used <= made.used - 1024);
    assert_true(served_free(p)); // its pages went at once
    struct summary dropped = take();
    assert_true(dropped.used + 2 * KiB <= freed.used);
    quarantine_begin(quarantine);
}

static int say(void *data) {
    (void)data;
    summary_say();
    return 0;
}

// SU1, SU2: as it is said.
static void test_said(void **state) {
    (void)state;
    (void)take();
    child_fork(&child, say, NULL);
    size_t lines = 0;
    size_t sum = 0;
    size_t all = 0;
    for (char *line = strtok(child.text, "\n"); line;
         line = strtok(NULL, "\n")) {
        const char *digits = strpbrk(line, "0123456789");
        assert_non_null(digits);
        size_t kib = (size_t)strtoull(digits, NULL, 10);
        *(lines == 0 ? &all : &sum) += kib;
        lines++;
    }
    assert_int_equal(lines, 7);
    assert_int_equal(sum, all);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sum),
        cmocka_unit_test(test_moves),
        cmocka_unit_test(test_said),
    };
    setenv("LOAM_MODE", "quarantine", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
