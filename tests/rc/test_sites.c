// Objects with trails of every kind of cell and many sizes; more sites than
// there is room for, in a type and in an object; what is no trail.

#include "rc/sites.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "support/ground.h"

#define OWNER (COUNTED_OWNER_BIT | 7)

static struct ground ground;

static const struct kinds_type *add_type(uint32_t flags, bool noted) {
    struct kinds_type type = {.name = "thing", .bytes = 24, .flags = flags};
    type.flags |= KINDS_CHECKED;
    type.trail_bytes = sizeof(struct sites_trail);
    type.sites = noted ? sites_make() : NULL;
    const struct kinds_type *added = kinds_add(&type);
    assert_non_null(added);
    return added;
}

static void *make(const struct kinds_type *type, size_t bytes, uintptr_t code) {
    size_t all = bytes + type->front + type->trail_bytes;
    char *cell = (char *)ground_make(&ground, all, type->kind, 0);
    assert_non_null(cell);
    void *object = cell + type->front;
    *counted_of(object) =
        (struct counted){type->word, type->id << COUNTED_TYPE_SHIFT};
    sites_begin(object, type, OWNER, (const void *)code);
    return object;
}

static void note(const struct kinds_type *type, void *object,
                 enum sites_change change, uintptr_t code) {
    struct sites_trail *trail = sites_trail(object);
    assert_non_null(trail);
    sites_note(type, trail, change, (const void *)code);
}

// SI2
static void test_places(void **state) {
    (void)state;
    const uint32_t flags[] = {0, KINDS_LEAF, KINDS_SHARED,
                              KINDS_SHARED | KINDS_LEAF};
    for (size_t kind = 0; kind < 4; kind++) {
        const struct kinds_type *type = add_type(flags[kind], kind % 2 == 0);
        for (size_t bytes = 1; bytes < 40000; bytes += 1 + bytes / 3) {
            char *object = make(type, bytes, 0x1000);
            struct sites_trail *trail = sites_trail(object);
            assert_non_null(trail);
            assert_true((char *)trail >= object + bytes);
            memset(object, 0xff, bytes);
            struct place place = ground_place(object);
            assert_true((char *)(trail + 1) <=
                        (char *)place.start + place.bytes);
            assert_int_equal(trail->owner, OWNER);
            assert_int_equal(trail->made, 0x1000);
            assert_int_equal(trail->last, 0);
            assert_ptr_equal(sites_type(trail), type);
            note(type, object, SITES_RELEASED, 0x2000);
            assert_int_equal(trail->last, 0x2000);
            // Also when it is gone.
            counted_of(object)->info = 0;
            assert_ptr_equal(sites_trail(object), trail);
        }
    }
}

// SI3
static void test_doubt(void **state) {
    (void)state;
    const struct kinds_type *type = add_type(0, false);
    char *object = make(type, 200, 0x1000);
    assert_null(sites_trail(object + 8));
    assert_null(sites_trail(object - 8));
    assert_null(sites_trail(NULL));
    assert_null(sites_trail(&type));
    struct sites_trail *trail = sites_trail(object);
    trail->magic++;
    assert_null(sites_trail(object));
    // Cells that are too small for one, and of other kinds.
    char *small = (char *)ground_make(&ground, 16, KIND_COUNTED, 0);
    assert_null(sites_trail(small + 8));
    assert_null(sites_trail(ground_make(&ground, 400, KIND_SCANNED, 0)));
}

static struct site sum_of(const struct sites *sites) {
    struct site sum = {0, 0, 0, 0};
    for (size_t i = 0; i <= SITES_MAX; i++) {
        sum.made += sites->items[i].made;
        sum.retained += sites->items[i].retained;
        sum.released += sites->items[i].released;
    }
    return sum;
}

static const struct site *find(const struct sites *sites, uintptr_t code) {
    for (size_t i = 0; i < SITES_MAX; i++) {
        if (sites->items[i].code == code) {
            return &sites->items[i];
        }
    }
    return NULL;
}

// SI1: each site apart as long as there is room.
static void test_sums(void **state) {
    (void)state;
    const struct kinds_type *type = add_type(0, true);
    void *objects[3];
    for (size_t i = 0; i < 3; i++) {
        objects[i] = make(type, 24, 0x1000);
        note(type, objects[i], SITES_RETAINED, 0x2000);
        note(type, objects[i], SITES_RETAINED, 0x2000);
        note(type, objects[i], SITES_RELEASED, 0x3000);
    }
    assert_int_equal(find(type->sites, 0x1000)->made, 3);
    assert_int_equal(find(type->sites, 0x2000)->retained, 6);
    assert_int_equal(find(type->sites, 0x3000)->released, 3);
    struct sites one;
    memset(&one, 0, sizeof one);
    sites_add(&one, sites_trail(objects[1]));
    struct site sum = sum_of(&one);
    assert_int_equal(sum.made, 1);
    assert_int_equal(sum.retained, 2);
    assert_int_equal(sum.released, 1);
    size_t at = (size_t)(find(type->sites, 0x2000) - type->sites->items);
    assert_int_equal(one.items[at].retained, 2);
}

static void test_too_many(void **state) {
    (void)state;
    const struct kinds_type *type = add_type(0, true);
    void *object = make(type, 24, 0x1000);
    const size_t count = 3 * SITES_MAX;
    for (uintptr_t i = 0; i < count; i++) {
        note(type, object, SITES_RETAINED, 0x2000 + 4 * i);
        note(type, object, SITES_RELEASED, 0x2000 + 4 * i);
    }
    struct site sum = sum_of(type->sites); // SI1
    assert_int_equal(sum.made, 1);
    assert_int_equal(sum.retained, count);
    assert_int_equal(sum.released, count);
    assert_true(type->sites->items[SITES_MAX].retained != 0);
    assert_int_equal(type->sites->items[SITES_MAX].code, 0);
    struct sites one;
    memset(&one, 0, sizeof one);
    sites_add(&one, sites_trail(object));
    sum = sum_of(&one);
    assert_int_equal(sum.made, 1);
    assert_int_equal(sum.retained, count);
    assert_int_equal(sum.released, count);
    // As far as it can count.
    for (size_t i = 0; i < UINT16_MAX + (size_t)10; i++) {
        note(type, object, SITES_RETAINED, 0x1000);
    }
    memset(&one, 0, sizeof one);
    sites_add(&one, sites_trail(object));
    assert_int_equal(sum_of(&one).retained, count + UINT16_MAX);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_places), cmocka_unit_test(test_doubt),
        cmocka_unit_test(test_sums), cmocka_unit_test(test_too_many)};
    return ground_init(&ground, (size_t)1 << 30)
               ? cmocka_run_group_tests(tests, NULL, NULL)
               : 77;
}
