// Slots that are listed and visited, and the words between them; who leads to
// an object with too few owners.

#include "rc/slots.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "support/folk.h"

struct wide {
    void *words[8];
};

static struct ground ground;
static struct count_domain domain;

// Words 5 and 6.
static void visit(void *object, kinds_slot *slot, void *data) {
    struct wide *wide = object;
    slot(&wide->words[5], data);
    slot(&wide->words[6], data);
}

static const struct kinds_type *add_wide(uint32_t flags, uint32_t trail_bytes) {
    static const uint32_t slots[] = {0, 3 * sizeof(void *)};
    struct kinds_type type = {.name = "wide",
                              .bytes = sizeof(struct wide),
                              .slots = slots,
                              .slot_count = flags & KINDS_LEAF ? 0 : 2,
                              .visit = flags & KINDS_LEAF ? NULL : visit,
                              .flags = flags,
                              .trail_bytes = trail_bytes};
    return kinds_add(&type);
}

// SL1
static void test_declared(void **state) {
    (void)state;
    const struct kinds_type *type = add_wide(0, 0);
    struct wide *wide = folk_make(&ground, &domain, type);
    void *owned = folk_make(&ground, &domain, type);
    size_t offset;
    assert_int_equal(slots_to(wide, type, owned, &offset), 0);
    for (size_t i = 0; i < 8; i++) {
        wide->words[i] = owned;
        bool declared = i == 0 || i == 3 || i == 5 || i == 6;
        assert_int_equal(slots_to(wide, type, owned, &offset), declared);
        if (declared) {
            assert_int_equal(offset, i * sizeof(void *));
        }
        wide->words[i] = NULL;
    }
}

static void see(uintptr_t word, size_t offset, void *data) {
    assert_int_equal(word, offset + 1);
    *(uint32_t *)data |= (uint32_t)1 << offset / sizeof(void *);
}

// SL2
static void test_others(void **state) {
    (void)state;
    const struct kinds_type *types[] = {add_wide(0, 0),
                                        add_wide(0, 2 * sizeof(void *)),
                                        add_wide(KINDS_LEAF, 0)};
    const uint32_t wanted[] = {0x96, 0x16, 0};
    for (size_t i = 0; i < 3; i++) {
        struct wide *wide = folk_make(&ground, &domain, types[i]);
        uint32_t seen = 0;
        slots_visit_others(wide, types[i], sizeof *wide, see, &seen);
        assert_int_equal(seen, 0); // all is NULL
        for (size_t j = 0; j < 8; j++) {
            wide->words[j] = (void *)(j * sizeof(void *) + 1);
        }
        slots_visit_others(wide, types[i], sizeof *wide, see, &seen);
        assert_int_equal(seen, wanted[i]);
    }
}

static void test_blame(void **state) {
    (void)state;
    const struct kinds_type *node_type = folk_type(0, NULL, NULL);
    const struct kinds_type *wide_type = add_wide(0, 0);
    struct folk_node *owned = folk_make(&ground, &domain, node_type);
    struct folk_node *node = folk_make(&ground, &domain, node_type);
    struct wide *wide = folk_make(&ground, &domain, wide_type);
    folk_retain(&domain, owned);
    node->slots[1] = owned;
    struct slots_fault fault;
    slots_begin(&fault, owned);
    slots_blame(&fault, node);
    slots_blame(&fault, node);
    assert_int_equal(fault.owner_count, 2);
    assert_int_equal(fault.slot_count, 2);
    assert_int_equal(fault.place_count, 1);
    assert_ptr_equal(fault.type, node_type);
    assert_ptr_equal(fault.places[0].type, node_type);
    assert_int_equal(fault.places[0].offset, sizeof(void *));
    for (size_t i = 0; i < 8; i++) {
        wide->words[i] = owned;
    }
    slots_blame(&fault, wide);
    assert_int_equal(fault.slot_count, 6);
    assert_int_equal(fault.place_count, SLOTS_PLACES);
    assert_ptr_equal(fault.places[1].type, wide_type);
    assert_int_equal(fault.places[1].offset, 0);
    // Of what threads share.
    const struct kinds_type *shared = folk_type(KINDS_SHARED, NULL, NULL);
    slots_begin(&fault, folk_make(&ground, &domain, shared));
    assert_int_equal(fault.owner_count, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_declared),
                                       cmocka_unit_test(test_others),
                                       cmocka_unit_test(test_blame)};
    count_init(&domain, 1);
    return ground_init(&ground, (size_t)1 << 30)
               ? cmocka_run_group_tests(tests, NULL, NULL)
               : 77;
}
