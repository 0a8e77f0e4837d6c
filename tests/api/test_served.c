// api/served: malloc's family on the heap (SV1 to SV5; SV6 in test_hold.c and
// test_quarantine.c).

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "loam.h"

#include "api/init.h"
#include "api/object.h"
#include "api/served.h"
#include "heap/block.h"

static const size_t sizes[] = {0, 1, 16, 24, 500, 8192, 9000, 100000, 5000000};
#define SIZES (sizeof sizes / sizeof *sizes)

static struct place place_of(const void *p) {
    struct place place;
    assert_true(object_is_start(p, &place));
    return place;
}

static uint64_t collections(void) {
    struct loam_stats stats;
    loam_stats(&stats, sizeof stats);
    return stats.collections;
}

// SV1: of whatever size, cleared or aligned; and a hundred times the floor of
// it begins no collection.
static void test_leaf(void **state) {
    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        unsigned char *some[] = {served_make(sizes[i], NULL),
                                 served_make_zero(sizes[i], NULL),
                                 served_make_aligned(8, sizes[i], NULL),
                                 served_make_aligned(4096, sizes[i], NULL)};
        for (size_t k = 0; k < sizeof some / sizeof *some; k++) {
            assert_int_equal(place_of(some[k]).kind, KIND_PINNED_LEAF);
            assert_true(served_bytes(some[k]) >= sizes[i]);
            memset(some[k], 0xEE, served_bytes(some[k]));
        }
        assert_int_equal((uintptr_t)some[3] % 4096, 0);
        for (size_t k = 0; k < sizeof some / sizeof *some; k++) {
            assert_true(served_free(some[k]));
        }
        unsigned char *p = served_make_zero(sizes[i], NULL);
        for (size_t byte = 0; byte < sizes[i]; byte++) {
            assert_int_equal(p[byte], 0);
        }
        assert_true(served_free(p));
    }
    uint64_t before = collections();
    for (size_t i = 0; i < 400; i++) {
        assert_non_null(served_make(64 * KiB, NULL));
    }
    assert_int_equal(collections(), before);
    for (size_t i = 0; i < 2000; i++) {
        assert_non_null(loam_alloc(64 * KiB)); // others do, as ever
    }
    assert_true(collections() > before);
}

// SV2
static void test_exact(void **state) {
    (void)state;
    static char foreign[100];
    char *p = served_make(100, NULL);
    bool known = true;
    assert_false(served_free(foreign));
    assert_false(served_free(p + 16));
    assert_null(served_resize(p + 16, 10, NULL, &known));
    assert_false(known);
    assert_int_equal(served_bytes(p + 16), 0);
    memset(p, 0x5A, 100);
    p = served_resize(p, 100000, NULL, &known);
    assert_true(known);
    assert_int_equal(p[99], 0x5A);
    assert_true(served_free(p));
    assert_false(served_free(p));
    assert_null(served_resize(p, 10, NULL, &known));
    assert_false(known);
    p = object_make_counted(24, KIND_COUNTED);
    assert_false(served_free(p)); // it may have owners
    assert_int_equal(served_bytes(p), 0);
    struct place place = place_of(p);
    assert_true(object_free_counted(&place));
}

// SV3
static void test_errno(void **state) {
    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        void *p = served_make(sizes[i], NULL);
        errno = 1234;
        assert_true(served_free(p));
        assert_int_equal(errno, 1234);
        assert_false(served_free(&p));
        assert_int_equal(errno, 1234);
    }
}

// Of a thread whose end was seen.
static void *end_late(void *given) {
    void *own = served_make(100, NULL);
    init_gone = true;
    init_detach();
    assert_true(served_free(own));
    assert_false(served_free(own)); // twice is seen, too
    assert_true(served_free(given));
    assert_null(init_mutator); // SV4
    return NULL;
}

static void test_late(void **state) {
    (void)state;
    void *p = served_make(100, NULL);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, end_late, p), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_false(served_free(p));
    assert_true(loam_collect());
    assert_false(served_free(p));
}

// SV5: a hundred megabytes that came and went, while others come and go.
static void test_returned(void **state) {
    (void)state;
    struct loam_stats stats;
    char *p = served_make(100 * MiB, NULL);
    assert_non_null(p);
    assert_true(served_free(p));
    loam_stats(&stats, sizeof stats);
    assert_true(stats.heap_bytes >= 100 * MiB);
    const struct timespec pause = {.tv_nsec = 60000000};
    for (size_t i = 0; i < 4; i++) {
        nanosleep(&pause, NULL);
        assert_true(served_free(served_make(100000, NULL)));
    }
    loam_stats(&stats, sizeof stats);
    assert_true(stats.heap_bytes < 80 * MiB);
}

static void test_trim(void **state) {
    (void)state;
    void *p = served_make(32 * MiB, NULL);
    assert_true(served_free(p));
    assert_true(served_trim());
    assert_false(served_trim());
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_leaf),     cmocka_unit_test(test_exact),
        cmocka_unit_test(test_errno),    cmocka_unit_test(test_late),
        cmocka_unit_test(test_returned), cmocka_unit_test(test_trim),
    };
    setenv("LOAM_MODE", "plain", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
