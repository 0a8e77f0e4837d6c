// Descriptions that make no sense, each by its fault; types until the numbers
// are used up.

#include "rc/kinds.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "heap/block.h"

static const uint32_t two[] = {0, 8}, same[] = {8, 8}, odd[] = {4},
                      outside[] = {24}, wrapped[] = {UINT32_MAX - 7};

static void visit(void *object, kinds_slot *slot, void *data) {
    (void)object, (void)slot, (void)data;
}

static struct kinds_type plain(void) {
    return (struct kinds_type){
        .name = "plain", .bytes = 24, .slots = two, .slot_count = 2};
}

#define refused(field, value, word)                                            \
    do {                                                                       \
        struct kinds_type bad = plain();                                       \
        bad.field = (value);                                                   \
        const char *fault = kinds_fault(&bad);                                 \
        assert_non_null(fault);                                                \
        assert_non_null(strstr(fault, word));                                  \
    } while (0)

static void test_faults(void **state) {
    (void)state;
    struct kinds_type good = plain();
    assert_null(kinds_fault(&good));
    refused(flags, 128u, "flags");
    refused(flags, (uint32_t)(KINDS_SHARED | KINDS_ATOMIC), "both");
    refused(flags, (uint32_t)(KINDS_SHARED | KINDS_DEFERRED), "deferred");
    refused(flags, (uint32_t)KINDS_LEAF, "leaf");
    refused(bytes, 0, "size");
    refused(bytes, SIZE_MAX, "size");
    refused(slots, NULL, "list");
    refused(slots, same, "twice");
    good.slot_count = 1;
    const uint32_t *bad[] = {odd, outside, wrapped}; // TY3
    for (size_t i = 0; i < 3; i++) {
        good.slots = bad[i];
        assert_non_null(kinds_fault(&good));
    }
    struct kinds_type leaf = {.bytes = 8, .flags = KINDS_LEAF, .visit = visit};
    assert_non_null(kinds_fault(&leaf));
    leaf.visit = NULL;
    assert_null(kinds_fault(&leaf));
}

static void test_derived(void **state) {
    (void)state;
    struct kinds_type type = plain();
    const struct kinds_type *added = kinds_add(&type);
    assert_non_null(added);
    assert_int_equal(added->kind, KIND_COUNTED);
    assert_int_equal(added->front, 8);
    assert_int_equal(added->word, COUNTED_ONE);
    type.flags = KINDS_SHARED;
    added = kinds_add(&type);
    assert_int_equal(added->kind, KIND_BIASED);
    assert_int_equal(added->front, 16);
    assert_int_equal(added->word, COUNTED_ONE | COUNTED_OTHER);
    type.flags = KINDS_DEFERRED;
    assert_int_equal(kinds_add(&type)->word & COUNTED_COUNT_MASK, 0);
    type = (struct kinds_type){.bytes = 8, .flags = KINDS_LEAF};
    added = kinds_add(&type);
    assert_int_equal(added->kind, KIND_COUNTED_LEAF);
    // Without slots it can be no part of a ring.
    assert_true(added->flags & KINDS_ACYCLIC);
    assert_true(added->word & COUNTED_QUIET);
}

// TY4
static void test_checked(void **state) {
    (void)state;
    struct kinds_type type = plain();
    assert_false(kinds_checks());
    type.flags = KINDS_CHECKED;
    const struct kinds_type *added = kinds_add(&type);
    assert_true(kinds_checks());
    assert_int_equal(added->word, COUNTED_ONE | COUNTED_OTHER);
    type.slot_count = 0;
    assert_int_equal(kinds_add(&type)->word,
                     COUNTED_ONE | COUNTED_OTHER | COUNTED_QUIET);
    type.flags |= KINDS_SHARED;
    const struct kinds_type *shared = kinds_add(&type);
    struct counted heads[2] = {{0, added->id << COUNTED_TYPE_SHIFT}, {0, 0}};
    const void *object = &heads[1];
    assert_true(kinds_is_plain(object, added->word));
    assert_true(kinds_is_plain(object, COUNTED_ONE));
    assert_false(kinds_is_plain(object, added->word | COUNTED_DEAD));
    assert_false(kinds_is_plain(object, added->word | COUNTED_COUNT_MASK));
    heads[0].info = shared->id << COUNTED_TYPE_SHIFT;
    assert_false(kinds_is_plain(object, shared->word));
    heads[0].info = 0; // freed
    assert_false(kinds_is_plain(object, added->word));
}

static void test_numbers(void **state) {
    (void)state;
    struct kinds_type type = plain();
    const struct kinds_type *first = kinds_add(&type), *last = NULL;
    const struct kinds_type *more;
    while ((more = kinds_add(&type)) != NULL) {
        last = more;
        assert_ptr_equal(kinds_get(more->id), more); // TY1
        assert_int_not_equal(more->id, 0);           // TY2
        assert_int_not_equal(more->id, COUNTED_ZOMBIE);
    }
    assert_int_equal(last->id, COUNTED_TYPE_MAX);
    assert_ptr_equal(kinds_get(first->id), first);
    assert_null(kinds_get(0));
    assert_null(kinds_get(COUNTED_ZOMBIE));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_faults), cmocka_unit_test(test_derived),
        cmocka_unit_test(test_checked), cmocka_unit_test(test_numbers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
