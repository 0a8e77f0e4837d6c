// The options: what a value may be, what is said of one that may not, and that
// every row of the table works.  With the argument --list it prints the
// listing, which tests/docs/check_options.py compares with the manual.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "api/options.h"

extern char **environ;

struct heard {
    unsigned count;
    char last[600];
};

static void hear(const char *sentence, void *data) {
    struct heard *heard = data;
    heard->count++;
    assert_true(strlen(sentence) < sizeof heard->last);
    assert_null(strchr(sentence, '\n'));
    strcpy(heard->last, sentence);
}

// Sets one variable on top of the defaults.
static bool set(struct options *options, const char *name, const char *value,
                struct heard *heard) {
    options_init(options);
    heard->count = 0;
    return options_set(options, name, value, hear, heard);
}

static void test_defaults(void **state) {
    (void)state;
    struct options options;
    memset(&options, 0xff, sizeof options);
    options_init(&options); // O1
    assert_int_equal(options.limit_bytes, 0);
    assert_int_equal(options.floor_bytes, 256 << 10);
    assert_int_equal(options.growth_percent, 100);
    assert_int_equal(options.collect_every, 0);
    assert_int_equal(options.markers, 16);
    assert_int_equal(options.check_flags, 0);
    assert_null(options.rc_trace);
    assert_false(options.trace);
    assert_false(options.stats);
    assert_int_equal(options.huge, OPTIONS_HUGE_AUTO);
    assert_int_equal(options.range_bytes, 0);
    assert_int_equal(options.warn, OPTIONS_WARN_ONCE);
    assert_true(options.neighbours);
    assert_false(options.disable);
    assert_false(options.help);
}

static void test_sizes(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t bytes;
    } right[] = {
        {"0", 0},
        {"1", 1},
        {"007", 7},
        {"4096", 4096},
        {"1K", 1024},
        {"3k", 3072},
        {"1KiB", 1024},
        {"1kib", 1024},
        {"512M", (size_t)512 << 20},
        {"512MiB", (size_t)512 << 20},
        {"2G", (size_t)2 << 30},
        {"2GiB", (size_t)2 << 30},
        {"18446744073709551615", SIZE_MAX},
        {"17179869183G", (size_t)17179869183 << 30},
    };
    static const char *const wrong[] = {
        "lots",  "-1",   "+1",           " 1",
        "1 ",    "1 M",  "1.5G",         "0x10",
        "M",     "1MB",  "1T",           "1KK",
        "1KiBs", "1e9",  "1,000",        "18446744073709551616",
        "1Ki",   "\x01", "17179869184G", "99999999999999999999999999",
    };
    struct options options;
    struct heard heard;
    assert_false(set(&options, "LOAM_RANGE", "1M", &heard)); // O3
    assert_int_equal(options.range_bytes, 0);
    assert_non_null(strstr(heard.last, "at least 8MiB"));
    assert_true(set(&options, "LOAM_RANGE", "0", &heard)); // as if not set
    for (size_t i = 0; i < sizeof right / sizeof right[0]; i++) {
        assert_true(set(&options, "LOAM_LIMIT", right[i].text, &heard));
        assert_int_equal(options.limit_bytes, right[i].bytes); // O3
        assert_int_equal(heard.count, 0);                      // O4
    }
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_false(set(&options, "LOAM_LIMIT", wrong[i], &heard));
        assert_int_equal(options.limit_bytes, 0); // O1
        assert_int_equal(heard.count, 1);         // O4
        assert_non_null(strstr(heard.last, "expected bytes, as 512M"));
    }
}

// O2: both bounds are inside, their neighbours are not.
static void test_ranges(void **state) {
    (void)state;
    struct options options;
    struct heard heard;
    assert_true(set(&options, "LOAM_GROWTH", "10", &heard));
    assert_int_equal(options.growth_percent, 10);
    assert_true(set(&options, "LOAM_GROWTH", "1000%", &heard));
    assert_int_equal(options.growth_percent, 1000);
    assert_false(set(&options, "LOAM_GROWTH", "9", &heard));
    assert_int_equal(options.growth_percent, 100);
    assert_false(set(&options, "LOAM_GROWTH", "1001%", &heard));
    assert_int_equal(options.growth_percent, 100);
    assert_false(set(&options, "LOAM_GROWTH", "10%%", &heard));
    assert_non_null(strstr(heard.last, "a percentage from 10 to 1000"));
    assert_true(set(&options, "LOAM_COLLECT_EVERY", "4294967295", &heard));
    assert_int_equal(options.collect_every, UINT32_MAX);
    assert_false(set(&options, "LOAM_COLLECT_EVERY", "4294967296", &heard));
    assert_int_equal(options.collect_every, 0);
    assert_false(set(&options, "LOAM_COLLECT_EVERY", "5%", &heard));
    assert_true(set(&options, "LOAM_FLOOR", "64K", &heard));
    assert_int_equal(options.floor_bytes, 65536);
    assert_false(set(&options, "LOAM_FLOOR", "65535", &heard));
    assert_int_equal(options.floor_bytes, 256 << 10);
    assert_non_null(strstr(heard.last, "at least 64KiB"));
}

static void test_words(void **state) {
    (void)state;
    static const char *const yes[] = {"1", "on", "yes", "true", "ON", "True"};
    static const char *const no[] = {"0", "off", "no", "false", "OFF"};
    static const char *const neither[] = {"2", "o", "onn", "yes please", "01"};
    struct options options;
    struct heard heard;
    for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++) {
        assert_true(set(&options, "LOAM_TRACE", yes[i], &heard));
        assert_int_equal(options.trace, OPTIONS_TRACE_ON);
        assert_true(set(&options, "LOAM_HUGE", yes[i], &heard));
        assert_int_equal(options.huge, OPTIONS_HUGE_ON);
    }
    assert_true(set(&options, "LOAM_TRACE", "json", &heard));
    assert_int_equal(options.trace, OPTIONS_TRACE_JSON);
    assert_false(set(&options, "LOAM_WARN", "on", &heard)); // has no such word
    for (size_t i = 0; i < sizeof no / sizeof no[0]; i++) {
        assert_true(set(&options, "LOAM_NEIGHBOURS", no[i], &heard));
        assert_false(options.neighbours);
        assert_true(set(&options, "LOAM_TRACE", no[i], &heard));
        assert_int_equal(options.trace, OPTIONS_TRACE_OFF);
    }
    for (size_t i = 0; i < sizeof neither / sizeof neither[0]; i++) {
        assert_false(set(&options, "LOAM_STATS", neither[i], &heard));
        assert_false(options.stats);
        assert_non_null(strstr(heard.last, "expected on or off")); // O4
    }
    assert_true(set(&options, "LOAM_HUGE", "off", &heard));
    assert_int_equal(options.huge, OPTIONS_HUGE_OFF);
    assert_true(set(&options, "LOAM_HUGE", "On", &heard));
    assert_int_equal(options.huge, OPTIONS_HUGE_ON);
    assert_false(set(&options, "LOAM_HUGE", "on,off", &heard));
    assert_int_equal(options.huge, OPTIONS_HUGE_AUTO);
    assert_non_null(strstr(heard.last, "expected auto, on or off"));
    assert_true(set(&options, "LOAM_MODE", "quarantine", &heard));
    assert_int_equal(options.mode, OPTIONS_MODE_QUARANTINE);
    assert_true(set(&options, "LOAM_WARN", "none", &heard));
    assert_int_equal(options.warn, OPTIONS_WARN_NONE);
    assert_false(set(&options, "LOAM_WARN", "auto", &heard)); // another's word
    assert_int_equal(options.warn, OPTIONS_WARN_ONCE);
}

static void test_flags(void **state) {
    (void)state;
    static const struct {
        const char *text;
        uint32_t flags;
    } right[] = {{"mark", OPTIONS_CHECK_MARK},
                 {"verify", OPTIONS_CHECK_VERIFY},
                 {"rc", OPTIONS_CHECK_RC},
                 {"all", 7},
                 {"mark,verify", 3},
                 {"verify,mark", 3},
                 {"mark,mark", OPTIONS_CHECK_MARK},
                 {"", 0}};
    static const char *const wrong[] = {
        "mark,", ",mark", "mark, verify", "marks", "none", "mark verify", ","};
    struct options options;
    struct heard heard;
    for (size_t i = 0; i < sizeof right / sizeof right[0]; i++) {
        assert_true(set(&options, "LOAM_CHECK", right[i].text, &heard));
        assert_int_equal(options.check_flags, right[i].flags);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_false(set(&options, "LOAM_CHECK", wrong[i], &heard));
        assert_int_equal(options.check_flags, 0); // O3: not the good half
        assert_non_null(strstr(heard.last, "mark, verify, rc or all"));
    }
}

// O4: the nearest name is named.
static void test_unknown(void **state) {
    (void)state;
    static const char *const pairs[][2] = {
        {"LOAM_LIMT", "LOAM_LIMIT"},
        {"LOAM_LIMITS", "LOAM_LIMIT"},
        {"LOAM_Limit", "LOAM_LIMIT"},
        {"LOAM_FLOR", "LOAM_FLOOR"},
        {"LOAM_NEIGHBORS", "LOAM_NEIGHBOURS"},
        {"LOAM_COLECT_EVRY", "LOAM_COLLECT_EVERY"},
        {"LOAM_STAT", "LOAM_STATS"},
    };
    struct options options;
    struct heard heard;
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        char wanted[64];
        assert_false(set(&options, pairs[i][0], "1", &heard));
        assert_int_equal(heard.count, 1);
        assert_ptr_equal(strstr(heard.last, pairs[i][0]), heard.last);
        sprintf(wanted, "the nearest is %s", pairs[i][1]);
        assert_non_null(strstr(heard.last, wanted));
    }
    assert_true(set(&options, "LOAM_SEED", "not a number", &heard));
    assert_int_equal(heard.count, 0);
    assert_false(set(&options, "LOAM_SEEDS", "1", &heard));
    assert_int_equal(heard.count, 1);
}

// What a user wrote cannot make the sentence long or command a terminal.
static void test_hostile(void **state) {
    (void)state;
    char text[5000];
    struct options options;
    struct heard heard;
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    assert_false(set(&options, "LOAM_LIMIT", text, &heard));
    assert_int_equal(heard.count, 1);
    assert_non_null(strstr(heard.last, "xxx... is ignored"));
    memcpy(text, "LOAM_", 5);
    assert_false(set(&options, text, "1", &heard));
    assert_int_equal(heard.count, 1);
    assert_non_null(strstr(heard.last, "the nearest is LOAM_"));
    assert_false(set(&options, "LOAM_HUGE", "\x1b[2J\n\xff", &heard));
    assert_non_null(strstr(heard.last, "LOAM_HUGE=?[2J?? is ignored"));
}

static void test_environment(void **state) {
    (void)state;
    static char *entries[] = {
        (char *)"HOME=/",
        (char *)"LOAM_LIMIT=1G",
        (char *)"LOAMY=1",
        (char *)"loam_trace=1",
        (char *)"LOAM_TRACE=on",
        (char *)"LOAM_HUGE=maybe",
        (char *)"LOAM_=1",
        (char *)"LOAM_SEED=x",
        (char *)"LOAM_LIMIT=2G",
        (char *)"LOAM_STATS",
        (char *)"LOAM_GROWTH=",
        (char *)"LOAM_FLOOR=8MiB",
        NULL,
    };
    static char *nothing[] = {NULL};
    char **before = environ;
    struct options options;
    struct heard heard = {0, ""};
    options_init(&options);
    environ = entries;
    options_read(&options, hear, &heard);
    environ = before;
    assert_int_equal(heard.count, 2); // O4: LOAM_HUGE and LOAM_
    assert_int_equal(options.limit_bytes, (size_t)1 << 30); // the first of two
    assert_int_equal(options.floor_bytes, 8 << 20);
    assert_true(options.trace);
    assert_int_equal(options.huge, OPTIONS_HUGE_AUTO);
    assert_int_equal(options.growth_percent, 100);
    heard.count = 0;
    options_init(&options);
    environ = nothing;
    options_read(&options, hear, &heard);
    environ = NULL;
    options_read(&options, hear, &heard);
    environ = before;
    assert_int_equal(heard.count, 0);
    assert_int_equal(options.limit_bytes, 0);
}

// O5, O1: each row's default, as the listing spells it, is accepted and
// changes nothing.
static void visit_default(const struct options_row *row, void *data) {
    struct options fresh;
    struct options options;
    struct heard heard = {0, ""};
    unsigned *rows = data;
    (*rows)++;
    memset(&fresh, 0, sizeof fresh);
    memset(&options, 0, sizeof options);
    options_init(&fresh);
    options_init(&options);
    assert_true(options_set(&options, row->name, row->initial, hear, &heard));
    assert_int_equal(heard.count, 0);
    assert_memory_equal(&fresh, &options, sizeof options);
    assert_true(strncmp(row->name, "LOAM_", 5) == 0);
    assert_true(strlen(row->meaning) > 10);
    assert_true(row->meaning[strlen(row->meaning) - 1] != '.');
    assert_null(strstr(row->form, "...")); // the form fits its buffer
    assert_false(options_set(&options, row->name, "?", hear, &heard));
    assert_non_null(strstr(heard.last, row->form));
}

static void test_listing(void **state) {
    (void)state;
    unsigned rows = 0;
    options_each(visit_default, &rows);
    assert_int_equal(rows, 27);
}

static void print_row(const struct options_row *row, void *data) {
    (void)data;
    printf("%s|%s|%s|%s\n", row->name, row->form, row->initial, row->meaning);
}

int main(int argc, char **argv) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults), cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_ranges),   cmocka_unit_test(test_words),
        cmocka_unit_test(test_flags),    cmocka_unit_test(test_unknown),
        cmocka_unit_test(test_hostile),  cmocka_unit_test(test_environment),
        cmocka_unit_test(test_listing),
    };
    if (argc > 1 && strcmp(argv[1], "--list") == 0) {
        options_each(print_row, NULL);
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
