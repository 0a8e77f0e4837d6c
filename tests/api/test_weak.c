// Weak references: they lead where they should as long as they should.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "loam/weak.h"
#include "support/scrub.h"

#define MANY ((size_t)SCALED(100000, 10000))

static size_t warnings;

static void count_warning(const char *sentence, void *data) {
    (void)sentence;
    (void)data;
    warnings++;
}

static void *must(void *p) {
    assert_non_null(p);
    return p;
}

static void *checked(size_t bytes) {
    return must(loam_alloc(bytes));
}

static NOT_INLINED struct loam_weak *make_dead(size_t offset, bool is_long) {
    char *p = checked(100);
    return must(is_long ? loam_weak_make_long(p + offset)
                        : loam_weak_make(p + offset));
}

static void test_alive(void **state) {
    (void)state;
    char *p = checked(5000);
    struct loam_weak *first = must(loam_weak_make(p));
    struct loam_weak *middle = must(loam_weak_make_long(p + 4321));
    for (size_t i = 0; i < 3; i++) {
        assert_ptr_equal(loam_weak_get(first), p);
        assert_ptr_equal(loam_weak_get(middle), p + 4321);
        assert_true(scrub_collect());
    }
    loam_keep(p);
}

static void test_dead(void **state) {
    (void)state;
    struct loam_weak *weak[4];
    for (size_t i = 0; i < 4; i++) {
        weak[i] = make_dead(i * 33, i % 2 != 0);
    }
    assert_true(scrub_collect());
    for (size_t i = 0; i < 4; i++) {
        assert_null(loam_weak_get(weak[i]));
    }
    char *p = checked(16);
    assert_true(loam_weak_set(weak[0], p));
    assert_ptr_equal(loam_weak_get(weak[0]), p);
    assert_true(loam_weak_set(weak[0], NULL));
    assert_null(loam_weak_get(weak[0]));
    loam_keep(p);
}

// A large object, a leaf, a pinned one, and one of every kind freed by hand.
static void test_kinds(void **state) {
    (void)state;
    void *objects[] = {checked(3 << 20), loam_alloc_leaf(40),
                       loam_alloc_pinned(40), loam_alloc_leaf_pinned(900000),
                       loam_alloc_base_only(20000)};
    size_t count = sizeof objects / sizeof *objects;
    struct loam_weak *weak[5];
    for (size_t i = 0; i < count; i++) {
        weak[i] = must(loam_weak_make(objects[i]));
    }
    assert_true(scrub_collect());
    for (size_t i = 0; i < count; i++) {
        assert_ptr_equal(loam_weak_get(weak[i]), objects[i]);
        loam_free(objects[i]);
        assert_null(loam_weak_get(weak[i])); // at once
    }
    assert_true(scrub_collect());
    for (size_t i = 0; i < count; i++) {
        assert_null(loam_weak_get(weak[i]));
    }
}

// What is freed stays in its place until the next cycle: nobody else is met.
static void test_freed(void **state) {
    (void)state;
    struct loam_weak **weak = must(loam_calloc(MANY, sizeof *weak));
    void **objects = must(loam_calloc(MANY, sizeof *objects));
    for (size_t i = 0; i < MANY; i++) {
        objects[i] = checked(48);
        weak[i] = must(loam_weak_make(objects[i]));
    }
    loam_disable();
    for (size_t i = 0; i < MANY; i += 3) {
        loam_free(objects[i]);
    }
    for (size_t i = 0; i < MANY; i++) {
        void *p = checked(48);
        loam_keep(p);
        void *got = loam_weak_get(weak[i]);
        assert_ptr_equal(got, i % 3 == 0 ? NULL : objects[i]);
    }
    loam_enable();
    warnings = 0;
    loam_free(objects[0]);
    assert_int_equal(warnings, 1); // twice
    assert_true(scrub_collect());
    for (size_t i = 0; i < MANY; i++) {
        assert_ptr_equal(loam_weak_get(weak[i]),
                         i % 3 == 0 ? NULL : objects[i]);
    }
}

static void test_moved(void **state) {
    (void)state;
    char *p = checked(64);
    struct loam_weak *weak = must(loam_weak_make(p));
    char *moved = must(loam_realloc(p, 5000));
    assert_ptr_not_equal(moved, LOAM_REVEAL(LOAM_HIDE(p)));
    assert_null(loam_weak_get(weak));
    loam_keep(moved);
}

// References are collected themselves, and their cells serve again.
static NOT_INLINED uint64_t live_after(size_t count) {
    for (size_t i = 0; i < count; i++) {
        (void)make_dead(0, i % 2 != 0);
    }
    assert_true(scrub_collect());
    struct loam_stats stats;
    loam_stats(&stats, sizeof stats);
    return stats.live_objects;
}

static void test_collected(void **state) {
    (void)state;
    uint64_t before = live_after(10);
    assert_true(live_after(MANY) < before + 100);
}

static void test_misuse(void **state) {
    (void)state;
    int local = 0;
    char *p = checked(64);
    struct loam_weak *weak = must(loam_weak_make(p));
    warnings = 0;
    errno = 0;
    assert_null(loam_weak_make(&local));
    assert_int_equal(errno, EINVAL);
    assert_null(loam_weak_make_long(NULL));
    assert_false(loam_weak_set(weak, &local));
    assert_ptr_equal(loam_weak_get(weak), p);
    loam_free(p);
    assert_null(loam_weak_make(LOAM_REVEAL(LOAM_HIDE(p))));
    assert_int_equal(warnings, 4);
    assert_null(loam_weak_get(NULL));
    assert_false(loam_weak_set(NULL, weak));
    assert_int_equal(warnings, 5);
}

// One thread collects, others read: what they hold stays whole.
static struct loam_weak *shared[1000];
static bool stop;

static void *read_all(void *data) {
    size_t seen = 0;
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        for (size_t i = 0; i < 1000; i++) {
            size_t *p = loam_weak_get(shared[i]);
            if (p != NULL) {
                assert_int_equal(p[0], i);
                assert_int_equal(p[5], ~i);
                seen++;
            }
        }
#if defined(__SANITIZE_THREAD__) // nobody is interrupted there
        loam_blocking_enter();
        loam_blocking_leave();
#endif
    }
    *(size_t *)data = seen;
    return NULL;
}

static NOT_INLINED void make_shared(size_t **held) {
    for (size_t i = 0; i < 1000; i++) {
        size_t *p = checked(48);
        p[0] = i;
        p[5] = ~i;
        shared[i] = must(loam_weak_make(p));
        held[i] = i % 2 == 0 ? p : NULL;
    }
}

static void test_threads(void **state) {
    (void)state;
    size_t **held = must(loam_calloc(1000, sizeof *held));
    make_shared(held);
    pthread_t threads[2];
    size_t seen[2];
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, read_all, &seen[i]),
                         0);
    }
    for (size_t i = 0; i < SCALED(200, 40); i++) {
        (void)loam_collect();
        for (size_t k = 0; k < 2000; k++) {
            memset(checked(48), 0xff, 48);
        }
    }
    __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_true(seen[i] > 0);
    }
    assert_true(scrub_collect());
    size_t gone = 0;
    for (size_t i = 0; i < 1000; i++) {
        gone += loam_weak_get(shared[i]) == NULL;
        assert_true(i % 2 != 0 || loam_weak_get(shared[i]) == held[i]);
    }
    assert_true(gone > 450);
}

int main(void) {
    // What must go should not be kept by pointers beside it.
    setenv("LOAM_NEIGHBOURS", "off", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alive),  cmocka_unit_test(test_dead),
        cmocka_unit_test(test_kinds),  cmocka_unit_test(test_freed),
        cmocka_unit_test(test_moved),  cmocka_unit_test(test_collected),
        cmocka_unit_test(test_misuse), cmocka_unit_test(test_threads),
    };
    loam_set_warning_hook(count_warning, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
