// The short way of a cell that is freed by hand and taken again: what goes by
// it, and what must not.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "api/init.h"
#include "api/object.h"
#include "api/served.h"
#include "loam.h"
#include "loam/rc.h"
#include "loam/weak.h"

#define TRIES 100000

static const unsigned kinds[] = {KIND_SCANNED, KIND_LEAF, KIND_PINNED,
                                 KIND_PINNED_LEAF};
#define KINDS (sizeof kinds / sizeof kinds[0])

static char *make(size_t bytes, unsigned kind) {
    char *p = object_make(bytes, (struct order){.kind = kind});
    assert_non_null(p);
    return p;
}

// Takes cells until p comes again; false if it does not.
static bool comes_again(const char *p, size_t bytes, unsigned kind) {
    for (size_t i = 0; i < TRIES; i++) {
        if (make(bytes, kind) == p) {
            return true;
        }
    }
    return false;
}

// O1: freed once, and no object from then on until it is handed out again,
// which leaves nothing of what it held but in leaves.
static void test_again(void **state) {
    (void)state;
    loam_disable(); // a cycle would forget the stack
    for (size_t k = 0; k < KINDS; k++) {
        for (size_t bytes = 1; bytes <= SMALL_BYTES_MAX; bytes += bytes) {
            struct place place;
            char *p = make(bytes, kinds[k]);
            assert_true(object_is_start(p, &place));
            memset(p, 0xA5, place.bytes);
            assert_false(object_free_quick(p + 1));
            assert_false(object_free_quick(p + place.bytes / 2));
            assert_true(object_free_quick(p));
            assert_false(object_free_quick(p)); // O1
            assert_false(loam_is_heap(p));      // O1
            assert_true(comes_again(p, bytes, kinds[k]));
            for (size_t i = 0; i < place.bytes && k % 2 == 0; i++) {
                assert_int_equal(p[i], 0); // C3 of heap/cache.h
            }
        }
    }
    loam_enable();
}

LOAM_TYPE(place_type, struct place);

// What has to be looked at more closely is not touched.
static void test_refused(void **state) {
    (void)state;
    int variable = 0;
    assert_false(object_free_quick(NULL));
    assert_false(object_free_quick(&variable));
    assert_false(object_free_quick((void *)range.base));
    assert_false(object_free_quick((void *)(range.base + range.bytes)));
    char *others[] = {make(SMALL_BYTES_MAX + 1, KIND_SCANNED),
                      make(CELL_BYTES_MAX + 1, KIND_SCANNED),
                      make(64, KIND_BASE_ONLY), loam_new(&place_type)};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        struct place place;
        assert_false(object_free_quick(others[i]));
        assert_true(object_is_start(others[i], &place));
    }
    loam_release(others[3]);
}

// O1: a cell that the cache has not handed out has its bit, and is none.
static void test_tail(void **state) {
    (void)state;
    struct cache *cache =
        &init_mutator->home.caches[KIND_LEAF][sizeclass_of(32)];
    do {
        (void)make(32, KIND_LEAF);
    } while (cache->bump == cache->limit);
    uintptr_t bump = cache->bump;
    assert_false(object_free_quick((void *)bump)); // O1
    assert_ptr_equal(make(32, KIND_LEAF), (void *)bump);
    assert_true(object_free_quick((void *)bump));
}

// In a handler over us nothing of ours is touched.
static void test_busy(void **state) {
    (void)state;
    struct mutator *mutator = init_mutator;
    char *p = make(64, KIND_SCANNED);
    for (uint8_t busy = MUTATOR_TAKING; busy <= MUTATOR_AWAY; busy++) {
        mutator->busy = busy;
        bool freed = object_free_quick(p);
        uint8_t after = mutator->busy;
        mutator->busy = MUTATOR_OUT;
        assert_false(freed);
        assert_int_equal(after, busy);
    }
    assert_true(object_free_quick(p));
}

// B13 of heap/block.h: while weak references may lead there the cell stays.
static void test_watched(void **state) {
    (void)state;
    loam_disable();
    char *p = make(96, KIND_SCANNED);
    struct loam_weak *weak = loam_weak_make(p);
    assert_non_null(weak);
    assert_false(object_free_quick(p));
    loam_free(p);
    assert_null(loam_weak_get(weak));
    assert_false(object_free_quick(p)); // twice
    assert_false(comes_again(p, 96, KIND_SCANNED));
    loam_enable();
}

static void *free_foreign(void *p) {
    loam_free(make(16, KIND_LEAF)); // it is a mutator now
    assert_false(object_free_quick(p));
    loam_free(p);
    return NULL;
}

// Another's cell waits in the freed table, and is nobody's to free again.
static void test_foreign(void **state) {
    (void)state;
    pthread_t thread;
    char *p = make(128, KIND_SCANNED);
    assert_int_equal(pthread_create(&thread, NULL, free_foreign, p), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_false(object_free_quick(p));
    assert_false(loam_is_heap(p));
}

// Blocks that fall empty go back, and errno stays.
static void test_empty(void **state) {
    (void)state;
    static char *cells[64];
    loam_disable();
    for (size_t i = 0; i < 64; i++) {
        cells[i] = make(SMALL_BYTES_MAX, KIND_LEAF);
    }
    size_t before = init_state.home.heap.used_blocks;
    errno = EINTR;
    for (size_t i = 0; i < 64; i++) {
        assert_true(object_free_quick(cells[i]));
        assert_int_equal(errno, EINTR);
    }
    assert_true(init_state.home.heap.used_blocks < before);
    loam_enable();
}

// --- Malloc's own ----------------------------------------------------------

static char *make_leaf(size_t bytes) {
    char *p = object_take_leaf(bytes);
    return p != NULL ? p : make(bytes, KIND_PINNED_LEAF);
}

// O1: as above, by the way that malloc's leaves take.
static void test_leaf(void **state) {
    (void)state;
    loam_disable(); // a cycle takes blocks from their owner
    for (size_t bytes = 1; bytes <= SMALL_BYTES_MAX; bytes += bytes) {
        struct place place;
        char *kept = make_leaf(bytes); // its block does not fall empty
        char *p = make_leaf(bytes);
        assert_true(object_is_start(p, &place));
        assert_false(object_free_leaf(p + 1));
        assert_false(object_free_leaf(p + place.bytes / 2));
        assert_true(object_free_leaf(p) || served_free_near(p));
        assert_false(object_free_leaf(p));
        assert_false(served_free_near(p)); // O1
        assert_false(loam_is_heap(p));
        assert_ptr_equal(make_leaf(bytes), p); // last freed, first taken
        assert_true(object_is_start(p, &place));
        assert_true(object_is_start(kept, &place));
    }
    assert_null(object_take_leaf(0));
    assert_null(object_take_leaf(SMALL_BYTES_MAX + 1));
    assert_null(object_take_leaf(SIZE_MAX));
    loam_enable();
}

static void test_leaf_refused(void **state) {
    (void)state;
    int variable = 0;
    assert_false(object_free_leaf(NULL));
    assert_false(object_free_leaf(&variable));
    assert_false(object_free_leaf((void *)range.base));
    assert_false(object_free_leaf((void *)(range.base + range.bytes)));
    char *others[] = {make(SMALL_BYTES_MAX + 1, KIND_PINNED_LEAF),
                      make(CELL_BYTES_MAX + 1, KIND_PINNED_LEAF),
                      make(64, KIND_SCANNED),
                      make(64, KIND_LEAF),
                      make(64, KIND_PINNED),
                      loam_new(&place_type)};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        struct place place;
        assert_false(object_free_leaf(others[i]));
        assert_true(object_is_start(others[i], &place));
    }
    loam_release(others[5]);
    struct mutator *mutator = init_mutator;
    char *p = make_leaf(64);
    for (uint8_t busy = MUTATOR_TAKING; busy <= MUTATOR_AWAY; busy++) {
        mutator->busy = busy;
        bool freed = object_free_leaf(p) || served_free_near(p);
        bool taken = object_take_leaf(64) != NULL;
        mutator->busy = MUTATOR_OUT;
        assert_false(freed || taken);
    }
    struct loam_weak *weak = loam_weak_make(p);
    assert_false(object_free_leaf(p) || served_free_near(p)); // B13
    loam_free(p);
    assert_null(loam_weak_get(weak));
}

// O1: what is still in the tail.
static void test_leaf_tail(void **state) {
    (void)state;
    loam_disable(); // a cycle takes blocks from their owner
    struct cache *cache =
        &init_mutator->home.caches[KIND_PINNED_LEAF][sizeclass_of(48)];
    do {
        (void)make(48, KIND_PINNED_LEAF);
    } while (cache->bump == cache->limit);
    char *bump = (char *)cache->bump;
    assert_false(object_free_leaf(bump) || served_free_near(bump));
    assert_ptr_equal(make(48, KIND_PINNED_LEAF), bump);
    assert_true(object_free_leaf(bump) || served_free_near(bump));
    loam_enable();
}

// More than the stack has room for: none is lost, and none comes twice.
static void test_leaf_many(void **state) {
    (void)state;
    loam_disable(); // a cycle takes blocks from their owner
    enum { MANY = 1000 };
    static char *cells[MANY];
    for (size_t round = 0; round < 3; round++) {
        for (size_t i = 0; i < MANY; i++) {
            cells[i] = make_leaf(80);
            memset(cells[i], (int)(i % 251), 80);
        }
        for (size_t i = 0; i < MANY; i++) {
            assert_int_equal((unsigned char)cells[i][79], i % 251);
        }
        for (size_t i = 0; i < MANY; i++) {
            assert_true(object_free_leaf(cells[i]) ||
                        served_free_near(cells[i]));
        }
        struct cache *cache =
            &init_mutator->home.caches[KIND_PINNED_LEAF][sizeclass_of(80)];
        assert_true(cache->free_count <= cache->room); // C4 of heap/cache.h
        assert_true(cache_check(cache));
    }
    loam_enable();
}

static void *free_far(void *p) {
    loam_free(make(16, KIND_LEAF)); // it is a mutator now
    loam_free(make_leaf(16));
    errno = EINTR;
    assert_false(object_free_leaf(p));
    if (served_free_near(p)) {
        assert_int_equal(errno, EINTR);
    } else {
        loam_free(p); // nobody had needed the table
    }
    assert_false(served_free_near(p)); // twice
    return NULL;
}

// B8 of heap/block.h: another's cell is its owner's again when that looks.
static void test_leaf_far(void **state) {
    (void)state;
    loam_disable(); // a cycle takes blocks from their owner
    for (size_t round = 0; round < 2; round++) {
        pthread_t thread;
        char *p = make_leaf(128);
        assert_int_equal(pthread_create(&thread, NULL, free_far, p), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_false(object_free_leaf(p) || served_free_near(p));
        assert_false(loam_is_heap(p));
        bool again = false;
        for (size_t i = 0; i < TRIES && !again; i++) {
            again = make_leaf(128) == p;
        }
        assert_true(again);
    }
    loam_enable();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_again),        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_tail),         cmocka_unit_test(test_busy),
        cmocka_unit_test(test_watched),      cmocka_unit_test(test_foreign),
        cmocka_unit_test(test_empty),        cmocka_unit_test(test_leaf),
        cmocka_unit_test(test_leaf_refused), cmocka_unit_test(test_leaf_tail),
        cmocka_unit_test(test_leaf_many),    cmocka_unit_test(test_leaf_far),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
