// Options by the environment: this program starts itself again with LOAM_* set
// and looks at what the child does and says.
//
// seconds: 240

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "loam.h"
#include "support/child.h"
#include "support/scrub.h"

// --- What the child does -----------------------------------------------

static struct loam_stats look(void) {
    struct loam_stats stats = {0};
    loam_stats(&stats, sizeof stats);
    return stats;
}

static void *volatile sink;

// Allocates 60 MB of garbage.  0 when every allocation was served.
static int child_churn(void) {
    for (size_t i = 0; i < 60000; i++) {
        sink = loam_alloc(1000);
        if (!sink) {
            return 1;
        }
    }
    return 0;
}

// Allocates and keeps up to 64 MB; how many MB there were.
static int child_fill(void) {
    static void **list;
    for (int kib = 0; kib < 64 * 1024; kib++) {
        void **link = loam_alloc(1024);
        if (!link) {
            return kib / 1024;
        }
        link[0] = list;
        list = link;
    }
    return 64;
}

// How many collections 1000 small allocations make, at most 250.
static int child_count(void) {
    (void)loam_init();
    uint64_t before = look().collections;
    for (size_t i = 0; i < 1000; i++) {
        sink = loam_alloc(48);
    }
    uint64_t made = look().collections - before;
    return made < 1000 ? (int)(made / 4) : 250;
}

static int child_garbage(void) {
    return child_churn() ? 1 : look().collections ? 2 : 3;
}

static int child_collect(void) {
    (void)child_churn();
    loam_collect();
    loam_collect();
    return 0;
}

static int child_misuse(void) {
    static long foreign[10];
    (void)loam_init();
    for (size_t i = 0; i < 10; i++) {
        loam_free(&foreign[i]);
    }
    return 0;
}

static uintptr_t hidden;

NOT_INLINED static char *make_end(void) {
    char *p = loam_alloc(64);
    hidden = LOAM_HIDE(p);
    return p + 64;
}

NOT_INLINED static int is_there(void) {
    return loam_is_heap(LOAM_REVEAL(hidden));
}

// Of 40 objects those that are kept by a stack word one past their end.
static int child_neighbour(void) {
    int kept = 0;
    for (size_t i = 0; i < 40; i++) {
        char *volatile end = make_end();
        scrub_collect();
        kept += is_there();
        end = NULL;
        loam_keep(end);
    }
    return kept;
}

static const struct {
    const char *mode;
    int (*body)(void);
} modes[] = {
    {"churn", child_churn},         {"fill", child_fill},
    {"count", child_count},         {"garbage", child_garbage},
    {"collect", child_collect},     {"misuse", child_misuse},
    {"neighbour", child_neighbour},
};

// --- What the parent asks ----------------------------------------------

static struct child child;

static int run(const char *mode, const char *first, const char *second) {
    const char *settings[] = {first, second, NULL};
    const char *none[] = {NULL};
    child_exec(&child, mode, first ? settings : none);
    if (child.status < 0) {
        child_show(&child);
    }
    return child.status;
}

static size_t count_lines(void) {
    size_t lines = 0;
    for (size_t i = 0; i < child.count; i++) {
        lines += child.text[i] == '\n';
    }
    return lines;
}

static void test_none(void **state) {
    (void)state;
    assert_int_equal(run("churn", NULL, NULL), 0);
    assert_int_equal(child.count, 0); // and nothing is said
    assert_int_equal(run("fill", NULL, NULL), 64);
    assert_int_equal(run("garbage", NULL, NULL), 2);
}

static void test_limit(void **state) {
    (void)state;
    int mib = run("fill", "LOAM_LIMIT=16M", NULL);
    assert_in_range(mib, 8, 16);
    assert_int_equal(run("churn", "LOAM_LIMIT=16M", NULL), 0);
    assert_int_equal(run("fill", "LOAM_LIMIT=1G", NULL), 64);
    mib = run("fill", "LOAM_LIMIT=20971520", NULL);
    assert_in_range(mib, 12, 20);
    assert_int_equal(child.count, 0);
    assert_int_equal(run("fill", "LOAM_LIMIT=1", NULL), 0);
    assert_int_equal(count_lines(), 1);
    assert_true(child_says(&child, "LOAM_LIMIT is less than"));
}

static void test_collect_every(void **state) {
    (void)state;
    assert_int_equal(run("count", "LOAM_COLLECT_EVERY=1", NULL), 250);
    assert_int_equal(run("count", NULL, NULL), 0);
    assert_int_equal(run("count", "LOAM_COLLECT_EVERY=1", "LOAM_CHECK=all"),
                     250);
}

static void test_disable(void **state) {
    (void)state;
    assert_int_equal(run("garbage", "LOAM_DISABLE=1", NULL), 3);
    assert_int_equal(run("garbage", "LOAM_DISABLE=0", NULL), 2);
}

static void test_check(void **state) {
    (void)state;
    static const char *const settings[] = {
        "LOAM_CHECK=mark", "LOAM_CHECK=verify", "LOAM_CHECK=all",
        "LOAM_CHECK=mark,verify"};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(run("collect", settings[i], NULL), 0);
        assert_int_equal(child.count, 0);
    }
}

static void test_trace_and_stats(void **state) {
    (void)state;
    assert_int_equal(run("collect", "LOAM_TRACE=1", NULL), 0);
    assert_true(count_lines() >= 3); // one a collection
    size_t lines = count_lines();
    assert_int_equal(run("collect", "LOAM_TRACE=0", NULL), 0);
    assert_int_equal(count_lines(), 0);
    assert_int_equal(run("collect", "LOAM_STATS=1", NULL), 0);
    assert_true(count_lines() >= 1);
    assert_true(lines >= 3);
}

static void test_neighbours(void **state) {
    (void)state;
    assert_int_equal(run("neighbour", NULL, NULL), 40);
#if defined(__x86_64__)
    assert_true(run("neighbour", "LOAM_NEIGHBOURS=0", NULL) < 10);
#endif
}

// What is unknown or malformed is named once and otherwise ignored.
static void test_nonsense(void **state) {
    (void)state;
    static const char *const nonsense[][2] = {
        {"LOAM_LIMITS=16M", "LOAM_LIMIT"},
        {"LOAM_LIMIT=sixteen", "LOAM_LIMIT"},
        {"LOAM_LIMIT=-1", "LOAM_LIMIT"},
        {"LOAM_LIMIT=16Q", "LOAM_LIMIT"},
        {"LOAM_LIMIT=99999999999999999999999", "LOAM_LIMIT"},
        {"LOAM_FLOOR=1", "LOAM_FLOOR"},
        {"LOAM_GROWTH=5", "LOAM_GROWTH"},
        {"LOAM_TRACE=maybe", "LOAM_TRACE"},
        {"LOAM_HUGE=enormous", "LOAM_HUGE"},
        {"LOAM_CHECK=everything", "LOAM_CHECK"},
        {"LOAM_COLLECT_EVRY=1", "LOAM_COLLECT_EVERY"},
        {"LOAM_RANGE=12parsecs", "LOAM_RANGE"},
        {"LOAM_WARN=loudly", "LOAM_WARN"},
    };
    for (size_t i = 0; i < sizeof nonsense / sizeof nonsense[0]; i++) {
        assert_int_equal(run("churn", nonsense[i][0], NULL), 0);
        assert_int_equal(count_lines(), 1);
        assert_true(child_says(&child, nonsense[i][1]));
        assert_int_equal(run("fill", nonsense[i][0], NULL), 64);
    }
    assert_int_equal(run("churn", "LOAM_SEED=1", NULL), 0); // the tests' own
    assert_int_equal(child.count, 0);
    assert_int_equal(run("churn", "LOAM_LIMIT=", NULL), 0); // as if not set
    assert_int_equal(child.count, 0);
}

static void test_warn(void **state) {
    (void)state;
    assert_int_equal(run("misuse", NULL, NULL), 0);
    assert_int_equal(count_lines(), 1); // each kind once
    assert_int_equal(run("misuse", "LOAM_WARN=all", NULL), 0);
    assert_int_equal(count_lines(), 10);
    assert_int_equal(run("misuse", "LOAM_WARN=none", NULL), 0);
    assert_int_equal(count_lines(), 0);
}

// A small range is a limit too; and it is survived.
static void test_range(void **state) {
    (void)state;
    int mib = run("fill", "LOAM_RANGE=32M", NULL);
    assert_in_range(mib, 16, 32);
    assert_int_equal(run("churn", "LOAM_RANGE=32M", NULL), 0);
}

static void test_others(void **state) {
    (void)state;
    static const char *const settings[] = {
        "LOAM_FLOOR=64K",    "LOAM_FLOOR=100M", "LOAM_GROWTH=10",
        "LOAM_GROWTH=1000%", "LOAM_HUGE=on",    "LOAM_HUGE=off",
        "LOAM_HUGE=auto",    "LOAM_RANGE=1G"};
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        assert_int_equal(run("churn", settings[i], NULL), 0);
        assert_int_equal(child.count, 0);
        assert_int_equal(run("fill", settings[i], NULL), 64);
    }
}

int main(int argc, char **argv) {
    const char *mode = child_mode(argc, argv);
    for (size_t i = 0; mode && i < sizeof modes / sizeof modes[0]; i++) {
        if (strcmp(mode, modes[i].mode) == 0) {
            return modes[i].body();
        }
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_none),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_collect_every),
        cmocka_unit_test(test_disable),
        cmocka_unit_test(test_check),
        cmocka_unit_test(test_trace_and_stats),
        cmocka_unit_test(test_neighbours),
        cmocka_unit_test(test_nonsense),
        cmocka_unit_test(test_warn),
        cmocka_unit_test(test_range),
        cmocka_unit_test(test_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
