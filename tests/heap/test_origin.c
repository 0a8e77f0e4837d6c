// heap/origin: stacks have numbers, and objects carry them (OR1 to OR5).

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "heap/origin.h"

// OR1, OR2
static void test_numbers(void **state) {
    (void)state;
    uintptr_t frames[ORIGIN_FRAMES] = {1, 2, 3};
    assert_true(origin_use());
    assert_int_equal(origin_ask(frames, 3), 0);
    uint32_t first = origin_intern(frames, 3);
    assert_int_not_equal(first, 0);
    assert_int_equal(origin_intern(frames, 3), first);
    uint32_t shorter = origin_intern(frames, 2);
    assert_int_not_equal(shorter, first);
    for (uintptr_t i = 0; i < 500; i++) {
        frames[2] = 100 + i;
        uint32_t id = origin_intern(frames, 3);
        assert_int_equal(origin_ask(frames, 3), id);
        assert_int_equal(origin_get(id)->frames[2], 100 + i);
    }
    assert_int_equal(origin_get(first)->frames[2], 3);
    assert_int_equal(origin_get(first)->frame_count, 3);
    assert_null(origin_get(0));
    assert_null(origin_get(origin_count() + 1));
}

// OR4: callers beyond what there is room for have none.
static void test_callers(void **state) {
    (void)state;
    struct origin_caller *one = origin_find((void *)0x1000);
    assert_non_null(one);
    assert_ptr_equal(origin_find((void *)0x1000), one);
    size_t refused = 0;
    for (uintptr_t i = 0; i < 100000; i++) {
        refused += origin_find((void *)(0x100000 + 16 * i)) == NULL;
    }
    assert_true(refused > 0);
    assert_ptr_equal(origin_find((void *)0x1000), one);
}

// OR5: a caller is named before it has a stack, and by that once it has.
static void test_settled(void **state) {
    (void)state;
    uint32_t before = origin_count();
    struct origin_caller *one = origin_find((void *)0x1000);
    uint32_t id = origin_of(one);
    assert_true(id >= ORIGIN_CALLER);
    assert_int_equal(origin_code(id), 0x1000);
    assert_null(origin_get(id));
    assert_int_equal(origin_count(), before);
    const struct origin *stack = origin_settle(id);
    assert_non_null(stack);
    assert_int_equal(stack->frame_count, 1);
    assert_int_equal(stack->frames[0], 0x1000);
    assert_ptr_equal(origin_settle(id), stack);
    assert_ptr_equal(origin_settle(stack->id), stack);
    assert_int_equal(origin_code(stack->id), 0x1000);
    assert_int_equal(origin_count(), before + 1);
    assert_int_equal(origin_code(0), 0);
    assert_int_equal(origin_code(UINT32_MAX), 0);
    assert_null(origin_settle(UINT32_MAX));
}

// OR3: whatever was not asked for; a trail that was written over has no number.
static void test_trail(void **state) {
    (void)state;
    uint64_t cell[8] = {0};
    struct place place = {.start = (uintptr_t)cell, .bytes = sizeof cell};
    size_t bytes;
    uint32_t id;
    assert_false(origin_read(&place, &bytes, &id));
    for (size_t asked = 0; asked <= origin_room(&place); asked++) {
        origin_set(&place, asked, 1);
        assert_true(cell[7] >> 63);
        assert_true(origin_read(&place, &bytes, &id));
        assert_int_equal(bytes, asked);
        assert_int_equal(id, 1);
    }
    uint32_t caller = origin_of(origin_find((void *)0x1000));
    origin_set(&place, 3, caller);
    assert_true(origin_read(&place, &bytes, &id));
    assert_int_equal(bytes, 3);
    assert_int_equal(id, caller);
    origin_clear(&place);
    assert_false(origin_read(&place, &bytes, &id));
    cell[7] = 0x4141414141414141;
    assert_true(origin_read(&place, &bytes, &id));
    assert_int_equal(id, 0);
    assert_int_equal(bytes, origin_room(&place));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_callers),
        cmocka_unit_test(test_settled),
        cmocka_unit_test(test_trail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
