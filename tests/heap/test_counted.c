// What heads look like to the tracer, whatever is in them; and where they are.

#include "heap/counted.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "heap/blockmap.h"
#include "support/folk.h"
#include "support/gen.h"

static struct ground ground;
static struct count_domain domain;

static uint64_t head_of(const void *object) {
    uint64_t head;
    memcpy(&head, (const uint64_t *)object - 1, sizeof head);
    return head;
}

static void is_no_pointer(const void *object) {
    struct place place;
    assert_false(range_has((uintptr_t)head_of(object))); // CT1
    assert_false(blockmap_find((uintptr_t)head_of(object), &place));
}

static void test_apart(void **state) {
    (void)state;
    struct gen gen;
    gen_init(&gen, gen_seed("counted"));
    const struct kinds_type *plain = folk_type(0, NULL, NULL);
    const struct kinds_type *biased = folk_type(KINDS_SHARED, NULL, NULL);
    for (size_t i = 0; i < 10000; i++) {
        void *object = folk_make(&ground, &domain, i % 2 ? plain : biased);
        is_no_pointer(object);
        counted_of(object)->word = (uint32_t)gen_next(&gen);
        counted_of(object)->info |=
            (uint32_t)gen_next(&gen) & COUNTED_SCRATCH_MASK;
        is_no_pointer(object);
        if (i % 2 == 0) {
            counted_bias_of(object)->shared = (uint32_t)gen_next(&gen);
            uint64_t bias;
            memcpy(&bias, counted_bias_of(object), sizeof bias);
            assert_false(range_has((uintptr_t)bias)); // CT1
        }
        counted_of(object)->info &= ~COUNTED_SCRATCH_MASK;
        counted_of(object)->word = 0;
    }
}

static void test_listed(void **state) {
    (void)state;
    const struct kinds_type *type = folk_type(0, NULL, NULL);
    void *first = folk_make(&ground, &domain, type);
    void *second = folk_make(&ground, &domain, type);
    count_bury(&domain, first);
    count_bury(&domain, second);
    is_no_pointer(first);
    is_no_pointer(second);
    for (int i = 0; i < 2; i++) {
        const void *object = i ? first : second;
        assert_int_equal(counted_type(object), type->id);
        assert_true(counted_flags(object) & COUNTED_DEAD); // CT4
    }
}

// CT6: a head that is read or written whole is its two halves.
static void test_whole(void **state) {
    (void)state;
    const struct kinds_type *type = folk_type(0, NULL, NULL);
    void *object = folk_make(&ground, &domain, type);
    assert_int_equal(counted_head(object),
                     (uint64_t)counted_of(object)->info << 32 |
                         counted_of(object)->word);
    void *next = folk_make(&ground, &domain, type);
    count_bury(&domain, next);
    counted_of(object)->word |= COUNTED_WATCHED;
    count_bury(&domain, object);
    count_give_up(&domain); // their links are heads again
    assert_int_equal(counted_head(object),
                     (uint64_t)type->id << (32 + COUNTED_TYPE_SHIFT) |
                         COUNTED_WATCHED |
                         (type->word & (COUNTED_OTHER | COUNTED_QUIET)));
    counted_set_head(object, 0);
    assert_int_equal(counted_of(object)->word, 0);
    assert_int_equal(counted_of(object)->info, 0);
}

static void test_aligned(void **state) {
    (void)state;
    const uint32_t flags[] = {0, KINDS_LEAF, KINDS_SHARED,
                              KINDS_SHARED | KINDS_LEAF};
    for (size_t i = 0; i < 4; i++) {
        const struct kinds_type *type = folk_type(flags[i], NULL, NULL);
        void *object = folk_make(&ground, &domain, type);
        assert_int_equal((uintptr_t)object % GRANULE_BYTES, 0);
        // CT3: a new object has no scratch count.
        assert_int_equal(counted_of(object)->info & COUNTED_SCRATCH_MASK, 0);
        // Words into what stands in front lead to the object's cell.
        struct place place, front;
        assert_true(blockmap_find((uintptr_t)object, &place));
        assert_true(blockmap_find((uintptr_t)object - type->front, &front));
        assert_int_equal(place.start, front.start);
    }
}

static int set_up(void **state) {
    (void)state;
    if (!ground_init(&ground, 64 * MiB)) {
        return -1;
    }
    folk_domain(&domain, &ground);
    return 0;
}

// CT2 and CT5 are tested with what frees cells: tests/rc/test_count.c.
int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_apart), cmocka_unit_test(test_listed),
        cmocka_unit_test(test_whole), cmocka_unit_test(test_aligned)};
    return cmocka_run_group_tests(tests, set_up, NULL);
}
