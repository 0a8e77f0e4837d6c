// api/hold: what is freed in quarantine is zero and no object, and freed once
// (HO1 to HO4); SV6 of api/served.h.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "loam.h"

#include "api/hold.h"
#include "api/init.h"
#include "api/object.h"
#include "api/served.h"
#include "heap/block.h"
#include "heap/blockmap.h"

static const size_t sizes[] = {1,    16,    24,     100,    500,    5000,
                               9000, 40000, 200000, 300000, 5000000};
#define SIZES (sizeof sizes / sizeof *sizes)

static bool is_zero(const char *p, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        if (p[i] != 0) {
            return false;
        }
    }
    return true;
}

// HO1, HO2: of whatever size, by loam_free too; SV6: and what realloc leaves.
static void test_once(void **state) {
    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        char *p = served_make(sizes[i], NULL);
        char *q = served_make(sizes[i], NULL);
        assert_non_null(p);
        assert_non_null(q);
        assert_true(hold_is_on());
        size_t bytes = served_bytes(p);
        memset(p, 1, bytes);
        memset(q, 1, bytes);
        errno = 7;
        assert_false(served_free(p + 8));
        assert_true(served_free(p));
        assert_false(served_free(p));
        assert_int_equal(errno, 7);
        assert_true(is_zero(p, bytes));
        assert_int_equal(served_bytes(p), 0); // no object any more
        bool known = true;
        assert_null(served_resize(p, 10, NULL, &known));
        assert_false(known);
        char *moved = served_resize(q, 3 * bytes + 1, NULL, &known);
        assert_true(known);
        assert_non_null(moved);
        assert_int_equal(moved[0], 1);
        if (moved != q) {
            assert_true(is_zero(q, bytes)); // SV6
            assert_false(served_free(q));
        }
        loam_free(moved);
        assert_false(served_free(moved));
    }
}

// RZ4 of api/resize.h: what realloc cuts off a run is held with the rest of it.
static void test_cut(void **state) {
    (void)state;
    const size_t bytes = 4 * MiB;
    char *p = served_make(bytes, NULL);
    assert_non_null(p);
    memset(p, 1, bytes);
    char *volatile inner = p + 3 * MiB; // leads into what is cut off
    bool known;
    char *q = served_resize(p, bytes / 4, NULL, &known);
    assert_true(known);
    assert_ptr_not_equal(p, q);
    assert_int_equal(q[bytes / 4 - 1], 1);
    assert_true(is_zero(p, bytes));
    assert_true(hold_bytes() >= bytes);
    assert_true(loam_collect());
    struct place place;
    assert_true(blockmap_find((uintptr_t)inner, &place));
    assert_true(block_is_freed(place.block, place.cell));
    assert_ptr_equal((void *)place.start, p);
    assert_false(served_free(p));
    assert_true(served_free(q));
    inner = NULL;
}

// HO4
static void test_told(void **state) {
    (void)state;
    struct quarantine *quarantine = &init_state.conductor.quarantine;
    assert_true(loam_collect());
    size_t before = quarantine->freed_bytes + init_mutator->held_bytes;
    size_t bytes = 0;
    quarantine->room_bytes = SIZE_MAX / 8; // no cycle, which counts anew
    for (size_t i = 0; i < 1000; i++) {
        char *p = served_make(100, NULL);
        bytes += served_bytes(p);
        assert_true(served_free(p));
        assert_true(init_mutator->held_bytes < HOLD_TELL_BYTES);
    }
    assert_int_equal(quarantine->freed_bytes + init_mutator->held_bytes,
                     before + bytes);
    quarantine_begin(quarantine);
}

// --- Other threads ---------------------------------------------------------

static char *shared[256];
static size_t first; // frees that were the first; atomic

static void *free_shared(void *data) {
    (void)data;
    for (size_t i = 0; i < 256; i++) {
        if (served_free(shared[i])) {
            __atomic_fetch_add(&first, 1, __ATOMIC_RELAXED);
        }
    }
    return NULL;
}

// HO1: four threads free the same objects; SV4: and one whose end was seen.
static void test_racing(void **state) {
    (void)state;
    for (size_t round = 0; round < 20; round++) {
        for (size_t i = 0; i < 256; i++) {
            shared[i] = served_make(48, NULL);
            memset(shared[i], 1, 48);
        }
        first = 0;
        pthread_t threads[4];
        for (size_t i = 0; i < 4; i++) {
            assert_int_equal(
                pthread_create(&threads[i], NULL, free_shared, NULL), 0);
        }
        for (size_t i = 0; i < 4; i++) {
            assert_int_equal(pthread_join(threads[i], NULL), 0);
        }
        assert_int_equal(first, 256);
        for (size_t i = 0; i < 256; i++) {
            assert_true(is_zero(shared[i], 48)); // HO2
        }
    }
}

static pthread_key_t key;

static void free_late(void *value) {
    assert_true(served_free(value));
    assert_false(served_free(value));
}

static void *end_with_it(void *data) {
    (void)data;
    char *p = served_make(200, NULL);
    memset(p, 1, 200);
    shared[0] = p;
    (void)pthread_setspecific(key, p);
    return NULL;
}

static void test_late(void **state) {
    (void)state;
    assert_int_equal(pthread_key_create(&key, free_late), 0);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, end_with_it, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(is_zero(shared[0], 200));
    assert_false(served_free(shared[0]));
}

static void *free_ahead(void *data) {
    return served_free(data) ? data : NULL;
}

// HO3: the next cell of this thread's, freed by another.
static void test_ahead(void **state) {
    (void)state;
    char *here = NULL;
    const struct cache *cache = NULL;
    do { // until a tail lies behind the cell
        here = served_make(64, NULL);
        cache = &init_mutator->home.caches[KIND_PINNED_LEAF][sizeclass_of(64)];
    } while (cache->bump == cache->limit || cache->bump == 0);
    char *ahead = (char *)cache->bump;
    pthread_t thread;
    void *freed;
    assert_int_equal(pthread_create(&thread, NULL, free_ahead, ahead), 0);
    assert_int_equal(pthread_join(thread, &freed), 0);
    assert_null(freed);
    assert_false(served_free(ahead)); // nor by this one
    struct place place;
    assert_true(blockmap_find((uintptr_t)ahead, &place));
    assert_false(block_is_freed(place.block, place.cell));
    assert_int_equal(pthread_create(&thread, NULL, free_ahead, here), 0);
    assert_int_equal(pthread_join(thread, &freed), 0);
    assert_ptr_equal(freed, here);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_once),  cmocka_unit_test(test_told),
        cmocka_unit_test(test_ahead), cmocka_unit_test(test_racing),
        cmocka_unit_test(test_late),  cmocka_unit_test(test_cut),
    };
    setenv("LOAM_MODE", "quarantine", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
