// The marker's second loop: closed under ephemerons, whatever overflows, and
// what an object leads to marked without itself.

#include "trace/mark.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/keyed.h"

#define WIDTH ((size_t)(LOAM_TINY ? 200 : 40000))

static struct keyed keyed;

static uintptr_t *make(size_t bytes, unsigned kind, unsigned layout) {
    uintptr_t *object =
        (uintptr_t *)ground_make(&keyed.ground, bytes, kind, layout);
    assert_non_null(object);
    return object;
}

static void flip(void) {
    struct census census;
    ephemeron_finish(&keyed.table);
    ground_flip(&keyed.ground, &census);
}

// K7: values that are wide arrays of further ephemerons and keys: in the small
// stacks of the tiny build every array overflows.
static void test_wide(void **state) {
    (void)state;
    uintptr_t *key = make(16, KIND_LEAF, 0);
    struct ephemeron *first = keyed_make(&keyed);
    uintptr_t *array = make(2 * WIDTH * WORD_BYTES, KIND_SCANNED, 0);
    uintptr_t *ends = make(WIDTH * WORD_BYTES, KIND_LEAF, 0);
    keyed_set(first, (uintptr_t)key, (uintptr_t)array);
    for (size_t i = 0; i < WIDTH; i++) {
        struct ephemeron *inner = keyed_make(&keyed);
        uintptr_t *inner_key = make(32, KIND_SCANNED, 0);
        ends[i] = (uintptr_t)make(48, KIND_SCANNED, 0);
        keyed_set(inner, (uintptr_t)inner_key, ends[i]);
        // The key before the ephemeron, or behind it.
        array[2 * i + i % 2] = (uintptr_t)inner;
        array[2 * i + 1 - i % 2] = (uintptr_t)inner_key;
    }
    uintptr_t roots[3] = {(uintptr_t)first, (uintptr_t)ends, 0};
    for (size_t round = 0; round < 2; round++) {
        roots[2] = round == 0 ? (uintptr_t)key : 0;
        keyed_mark(&keyed, roots, 3);
        assert_false(ground_is_marked(array));
        keyed_close(&keyed);
        for (size_t i = 0; i < WIDTH; i++) {
            assert_int_equal(ground_is_marked((void *)ends[i]),
                             round == 0); // K7
        }
        ephemeron_finish(&keyed.table);
        ground_resume(&keyed.ground);
    }
    ground_prepare(&keyed.ground);
    flip();
}

// What an object leads to, with and without what leads back into it.
static void test_inside(void **state) {
    (void)state;
    static const size_t offsets[] = {0, 16};
    const struct layout *layout = layout_make(24, offsets, 2);
    assert_non_null(layout);
    unsigned kinds[] = {KIND_SCANNED, KIND_DESCRIBED, KIND_LEAF};
    for (size_t k = 0; k < 3; k++) {
        for (unsigned self = 0; self < 2; self++) {
            uintptr_t *object = make(
                2400, kinds[k], kinds[k] == KIND_DESCRIBED ? layout->id : 0);
            uintptr_t *other = make(16, KIND_LEAF, 0);
            uintptr_t *unnamed = make(16, KIND_LEAF, 0);
            object[150] = (uintptr_t)object + 5; // word 0 of an element
            object[200] = (uintptr_t)other;      // word 2
            object[202] = (uintptr_t)unnamed;    // word 1
            object[203] = (uintptr_t)object;
            ground_prepare(&keyed.ground);
            mark_begin(&keyed.marker);
            struct place place = ground_place(object);
            mark_inside(&keyed.marker, &place, self != 0);
            mark_drain(&keyed.marker);
            bool read = kinds[k] != KIND_LEAF;
            assert_int_equal(ground_is_marked(object), read && self != 0); // K1
            assert_int_equal(ground_is_marked(other), read);
            assert_int_equal(ground_is_marked(unnamed),
                             kinds[k] == KIND_SCANNED);
            flip();
        }
    }
}

static int setup(void **state) {
    (void)state;
    return keyed_init(&keyed, 1 * GiB) ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wide),
        cmocka_unit_test(test_inside),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
