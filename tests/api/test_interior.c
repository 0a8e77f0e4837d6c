// Pointers into objects: every offset of every size keeps the object, from the
// stack, a global, the heap and thread-local memory; one past the end keeps it
// from the stack alone; loam_base and loam_is_heap answer for any value.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "loam.h"
#include "support/gen.h"
#include "support/scrub.h"

#define COUNT 256

static void *from_global[COUNT];
static _Thread_local void *from_thread[COUNT];
static uintptr_t hidden[COUNT];
static size_t bytes_of[COUNT];

// COUNT objects of `bytes`, each pointed to at one offset from `first` on, in
// `places`; nothing else points to them.
NOT_INLINED static void plant(void **places, size_t bytes, size_t first,
                              size_t step) {
    for (size_t i = 0; i < COUNT; i++) {
        char *p = loam_alloc_leaf(bytes);
        bytes_of[i] = loam_usable_size(p);
        memset(p, (int)i, bytes_of[i]);
        places[i] = p + (first + i * step) % bytes_of[i];
        hidden[i] = LOAM_HIDE(p);
    }
}

NOT_INLINED static void trample(size_t bytes) {
    for (size_t i = 0; i < 2 * COUNT; i++) {
        void *p = loam_alloc_leaf(bytes);
        memset(p, 0xFF, loam_usable_size(p));
    }
}

static void check_alive(size_t bytes) {
    scrub_collect();
    if (bytes <= 20000) {
        trample(bytes);
    }
    for (size_t i = 0; i < COUNT; i++) {
        char *p = LOAM_REVEAL(hidden[i]);
        assert_ptr_equal(loam_base(p), p);
        assert_int_equal(p[0], (char)i);
        assert_int_equal(p[bytes_of[i] - 1], (char)i);
    }
}

static const size_t sizes[] = {1,    17,   40,   64,    100,   128,   160,
                               250,  512,  1000, 1100,  2048,  3000,  4096,
                               6000, 8192, 9000, 20000, 50000, 70000, 200000};
#define SIZES (sizeof sizes / sizeof sizes[0])

// All offsets of the smaller sizes, a stride of odd ones in the larger.
static void check_all_offsets(void **places) {
    for (size_t k = 0; k < SIZES; k++) {
        size_t step = sizes[k] > 4 * COUNT ? (sizes[k] / COUNT) | 1 : 1;
        size_t rounds = sizes[k] <= 4 * COUNT ? sizes[k] / COUNT + 1 : 1;
        for (size_t round = 0; round < rounds; round++) {
            plant(places, sizes[k], round * COUNT, step);
            check_alive(sizes[k]);
        }
    }
    memset(places, 0, COUNT * sizeof *places);
}

static void test_from_global(void **state) {
    (void)state;
    check_all_offsets(from_global);
}

static void test_from_stack(void **state) {
    (void)state;
    void *places[COUNT];
    check_all_offsets(places);
    loam_keep(places);
}

static void test_from_thread_local(void **state) {
    (void)state;
    check_all_offsets(from_thread);
}

static void **from_heap;

static void test_from_heap(void **state) {
    (void)state;
    from_heap = loam_alloc(COUNT * sizeof(void *));
    check_all_offsets(from_heap);
    from_heap = loam_realloc(from_heap, 100000); // large, and moved
    check_all_offsets(from_heap);
    from_heap = NULL;
}

static void test_from_pinned(void **state) {
    (void)state;
    void **places = loam_alloc_pinned(COUNT * sizeof(void *));
    check_all_offsets(places);
    loam_free(places);
}

static size_t count_alive(void) {
    size_t alive = 0;
    for (size_t i = 0; i < COUNT; i++) {
        alive += loam_base(LOAM_REVEAL(hidden[i])) == LOAM_REVEAL(hidden[i]);
    }
    return alive;
}

// Every second object of a row, pointed to one past its end.  None may die and
// lend its place to another meanwhile.
NOT_INLINED static void plant_ends(void **places, size_t bytes) {
    loam_disable();
    for (size_t i = 0; i < COUNT; i++) {
        char *p = loam_alloc_leaf(bytes);
        bytes_of[i] = loam_usable_size(p);
        places[i] = p + bytes_of[i];
        hidden[i] = LOAM_HIDE(p);
        (void)!loam_alloc_leaf(bytes);
    }
    loam_enable();
}

static void test_end_from_stack(void **state) {
    (void)state;
    void *places[COUNT];
    for (size_t k = 0; k < SIZES; k++) {
        plant_ends(places, sizes[k]);
        scrub_collect();
        assert_int_equal(count_alive(), COUNT);
    }
    loam_keep(places);
}

// One past the last byte that was asked for, however it was asked for: where
// that is the end of the cell too, nothing else tells the collector so.
static char *make_exact(size_t how, size_t bytes) {
    switch (how) {
    case 0:
        return loam_alloc(bytes);
    case 1:
        return loam_alloc_leaf(bytes);
    case 2:
        return loam_calloc(bytes, 1);
    case 3:
        return loam_realloc(loam_alloc_leaf(1 + bytes / 8 * 7), bytes);
    case 4:
        return loam_realloc(loam_alloc(bytes + bytes / 8), bytes);
    case 5:
        return loam_alloc_aligned(64, bytes);
    case 6:
        return loam_alloc_base_only(bytes);
    default: {
        char *p = loam_alloc_leaf(bytes < 32 ? 32 : bytes);
        memset(p, 'x', bytes - 1);
        p[bytes - 1] = '\0';
        return loam_strdup(p);
    }
    }
}

NOT_INLINED static void plant_exact(void **places, size_t how, size_t bytes) {
    for (size_t i = 0; i < COUNT; i++) {
        char *p = make_exact(how, bytes);
        places[i] = p + bytes;
        hidden[i] = LOAM_HIDE(p);
        loam_keep(make_exact(how, bytes)); // a neighbour that goes
    }
}

static void test_exact_ends(void **state) {
    (void)state;
    void *places[COUNT];
    for (size_t how = 0; how < 8; how++) {
        for (size_t bytes = 8; bytes < 20000; bytes += 8 + bytes / 64 * 8) {
            // A pointer into a base-only object counts in its first 4 KiB.
            if (how == 6 && bytes > 4096) {
                break;
            }
            plant_exact(places, how, bytes);
            scrub_collect();
            assert_int_equal(count_alive(), COUNT);
        }
    }
    loam_keep(places);
}

// The same in cells that were freed by hand, amid objects none of which fills
// its cell: what is known of a whole block is known too late here.
NOT_INLINED static void plant_exact_again(void **places, size_t bytes) {
    enum { BLOCKS = 3 };
    size_t count = (size_t)BLOCKS * 65536 / bytes + COUNT;
    char **slack = loam_alloc(count * sizeof *slack);
    for (size_t i = 0; i < count; i++) {
        slack[i] = loam_alloc_leaf(bytes - 1);
    }
    for (size_t i = 0; i < COUNT; i++) {
        size_t middle = count / 3 + i / 2;
        loam_free(slack[middle]);
        slack[middle] = loam_alloc_leaf(bytes);
        places[i] = slack[middle] + bytes;
        hidden[i] = LOAM_HIDE(slack[middle]);
        slack[middle] = loam_alloc_leaf(bytes - 1); // for the next to free
    }
}

// And where only one in a few cells is asked for to its end.
NOT_INLINED static void plant_exact_rarely(void **places, size_t bytes) {
    for (size_t i = 0; i < COUNT; i++) {
        for (size_t k = 0; k < 1 + i % 7; k++) {
            loam_keep(loam_alloc_leaf(bytes - 1));
        }
        char *p = loam_alloc_leaf(bytes);
        places[i] = p + bytes;
        hidden[i] = LOAM_HIDE(p);
    }
}

static void test_exact_rarely(void **state) {
    (void)state;
    void *places[COUNT];
    for (size_t bytes = 16; bytes <= 1024;
         bytes += bytes < 128 ? 16 : bytes / 8) {
        plant_exact_rarely(places, bytes);
        scrub_collect();
        assert_int_equal(count_alive(), COUNT);
    }
    loam_keep(places);
}

static void test_exact_in_freed_cells(void **state) {
    (void)state;
    void *places[COUNT];
    for (size_t bytes = 16; bytes <= 1024;
         bytes += bytes < 128 ? 16 : bytes / 8) {
        loam_disable();
        plant_exact_again(places, bytes);
        loam_enable();
        scrub_collect();
        assert_int_equal(count_alive(), COUNT);
    }
    loam_keep(places);
}

#if defined(__aarch64__)

// Compilers for this machine keep a pointer less a few elements: a stack word
// within 64 bytes of an object counts.
NOT_INLINED static void plant_biased(void **places, size_t bytes,
                                     ptrdiff_t by) {
    for (size_t i = 0; i < COUNT; i++) {
        char *p = loam_alloc_leaf(bytes);
        places[i] = by < 0 ? p + by : p + loam_usable_size(p) + by;
        hidden[i] = LOAM_HIDE(p);
        (void)!loam_alloc_leaf(bytes);
    }
}

static void test_biased(void **state) {
    (void)state;
    static const ptrdiff_t biases[] = {-64, -56, -40, -16, -8, 0, 8, 24, 63};
    void *places[COUNT];
    for (size_t k = 0; k < SIZES; k++) {
        for (size_t i = 0; i < sizeof biases / sizeof biases[0]; i++) {
            plant_biased(places, sizes[k], biases[i]);
            scrub_collect();
            assert_int_equal(count_alive(), COUNT);
        }
    }
    loam_keep(places);
}

#endif

// The heap's words are exact: the end of one object is not in it.
static void test_end_from_heap(void **state) {
    (void)state;
    for (size_t k = 0; k < SIZES; k++) {
        from_heap = loam_alloc(COUNT * sizeof(void *));
        plant_ends(from_heap, sizes[k]);
        scrub_collect();
        // Rows are allocated upwards: an end is often the start of another of
        // them, and keeps that; never the one that it ends, by itself.
        size_t alive = 0;
        for (size_t i = 0; i < COUNT; i++) {
            char *p = LOAM_REVEAL(hidden[i]);
            bool met = false;
            for (size_t n = 0; n < COUNT && !met; n++) {
                met = p == (char *)from_heap[n];
            }
            alive += !met && loam_base(p) == p;
        }
        assert_true(alive <= 20);
    }
    from_heap = NULL;
}

static void test_base_everywhere(void **state) {
    (void)state;
    for (size_t k = 0; k < SIZES; k++) {
        char *p = loam_alloc(sizes[k]);
        size_t usable = loam_usable_size(p);
        for (size_t i = 0; i < usable; i++) {
            assert_ptr_equal(loam_base(p + i), p);
        }
        assert_ptr_not_equal(loam_base(p + usable), p);
        assert_ptr_not_equal(loam_base(p - 1), p);
        loam_free(p);
        for (size_t i = 0; i < usable; i++) {
            assert_false(loam_is_heap(p + i));
        }
    }
}

// Any value may be asked about: numbers, and addresses near the heap.
static void test_any_value(void **state) {
    (void)state;
    struct gen g;
    gen_init(&g, gen_seed("any value"));
    char *object = loam_alloc(100);
    uintptr_t near = (uintptr_t)object;
    assert_null(loam_base(NULL));
    assert_false(loam_is_heap(NULL));
    for (size_t i = 0; i < 2000000; i++) {
        uintptr_t value = (uintptr_t)gen_next(&g);
        switch (i % 4) {
        case 0:
            value >>= value % 64;
            break;
        case 1:
            value = near ^ (value & 0xFFFFFFF);
            break;
        case 2:
            value = near + (value & 0xFFFFF) - 0x80000;
            break;
        default:
            break;
        }
        char *base = loam_base((void *)value);
        assert_true((base != NULL) == loam_is_heap((void *)value));
        if (base) {
            assert_true((uintptr_t)base <= value);
            assert_true(value - (uintptr_t)base < loam_usable_size(base));
        }
    }
    loam_keep(object);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exact_rarely), // before blocks are known
        cmocka_unit_test(test_from_global),
        cmocka_unit_test(test_from_stack),
        cmocka_unit_test(test_from_thread_local),
        cmocka_unit_test(test_from_heap),
        cmocka_unit_test(test_from_pinned),
        cmocka_unit_test(test_end_from_stack),
        cmocka_unit_test(test_exact_ends),
        cmocka_unit_test(test_exact_in_freed_cells),
#if defined(__aarch64__)
        cmocka_unit_test(test_biased),
#endif
        cmocka_unit_test(test_end_from_heap),
        cmocka_unit_test(test_base_everywhere),
        cmocka_unit_test(test_any_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
