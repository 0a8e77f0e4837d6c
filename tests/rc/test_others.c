// Heaps that nothing is marked in: what undeclared words lead to, exactly,
// among others, and to what is explained; what died.

#include "rc/others.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "rc/sites.h"
#include "support/folk.h"

#define ROOM ((size_t)64)

// Owns what is in `slots`; the others are nobody's.
struct box {
    void *slots[2];
    void *other, *more;
};

static struct ground ground;
static struct count_domain domain;
static struct explain_named items[ROOM];
static struct explain_list list;
static const struct kinds_type *part_type;

// A new type of boxes; checked, so that the dead are known.
static const struct kinds_type *add_box(void) {
    struct kinds_type type = {.name = "box",
                              .bytes = sizeof(struct box),
                              .slots = folk_slots,
                              .slot_count = 2,
                              .flags = KINDS_CHECKED,
                              .trail_bytes = sizeof(struct sites_trail)};
    return kinds_add(&type);
}

static struct box *make_box(const struct kinds_type *type) {
    size_t bytes = type->bytes + type->front + type->trail_bytes;
    char *cell = (char *)ground_make(&ground, bytes, type->kind, 0);
    assert_non_null(cell);
    void *box = cell + type->front;
    *counted_of(box) =
        (struct counted){type->word, type->id << COUNTED_TYPE_SHIFT};
    sites_begin(box, type, 1, NULL);
    return box;
}

static void *make_part(void) {
    return folk_make(&ground, &domain, part_type);
}

static void mark(uintptr_t word, void *data) {
    (void)word, (void)data;
}

static void look(void) {
    struct explain_report report;
    list = (struct explain_list){.items = items, .capacity = ROOM};
    explain_held(&ground.heap, mark, NULL, &report);
    explain_list(&ground.heap, &list);
    others_find(&ground.heap, &list);
}

static void clear(void *object) {
    struct place place = ground_place(object);
    *counted_of(object) = (struct counted){0, 0};
    block_pair(place.block, place.cell / 64)[1] &=
        ~((uint64_t)1 << (place.cell % 64));
}

static const struct explain_others *find(const struct kinds_type *type,
                                         size_t offset) {
    for (size_t i = 0; i < EXPLAIN_PLACES; i++) {
        if (list.others[i].place.type == type &&
            list.others[i].place.offset == offset) {
            return &list.others[i];
        }
    }
    return NULL;
}

#define OTHER offsetof(struct box, other)
#define MORE  offsetof(struct box, more)

// OT1, OT2: parts with as many owners as words.
static void test_exact(void **state) {
    (void)state;
    const struct kinds_type *type = add_box();
    struct box *boxes[3];
    for (size_t i = 0; i < 3; i++) {
        boxes[i] = make_box(type);
        boxes[i]->other = make_part();
    }
    boxes[2]->other = folk_retain(&domain, boxes[1]->other);
    look();
    assert_non_null(find(type, OTHER));
    assert_true(others_is_told(find(type, OTHER)));
    assert_int_equal(find(type, OTHER)->exact_count, 2);
    assert_ptr_equal(find(type, OTHER)->target, part_type);
    assert_null(find(type, MORE));
    assert_null(find(type, 0));
    // Also where the boxes died.
    clear(boxes[0]);
    clear(boxes[1]);
    clear(boxes[2]);
    look();
    assert_int_equal(find(type, OTHER)->exact_count, 2);
    // One owner more is somebody else's.
    folk_retain(&domain, boxes[0]->other);
    look();
    assert_int_equal(find(type, OTHER)->exact_count, 1);
}

// OT3
static void test_acquitted(void **state) {
    (void)state;
    for (size_t way = 0; way < 4; way++) {
        const struct kinds_type *type = add_box();
        struct box *box = make_box(type), *second = make_box(type);
        struct box *owner = make_box(add_box());
        box->other = make_part();
        second->more = make_part();
        look();
        assert_true(others_is_told(find(type, OTHER)));
        if (way == 0) { // what a slot owns
            second->other = owner->slots[0] = make_part();
        } else if (way == 1) { // what died
            second->other = make_part();
            clear(second->other);
        } else if (way == 2) { // more words than owners
            second->other = box->other;
        } else { // what is of two places
            second->other = second->more;
        }
        look();
        assert_int_equal(others_is_told(find(type, OTHER)), way == 3);
        assert_int_equal(others_is_told(find(type, MORE)), way != 3);
    }
}

// What is marked is no concern of ours, nor what leads into the midst.
static void test_apart(void **state) {
    (void)state;
    const struct kinds_type *type = add_box();
    struct box *box = make_box(type), *second = make_box(type);
    box->other = make_part();
    struct place place = ground_place(box);
    block_pair(place.block, place.cell / 64)[0] |= (uint64_t)1
                                                   << (place.cell % 64);
    second->other = (char *)make_part() + 8;
    second->more = &list;
    look();
    assert_null(find(type, OTHER));
    assert_null(find(type, MORE));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_exact),
                                       cmocka_unit_test(test_acquitted),
                                       cmocka_unit_test(test_apart)};
    count_init(&domain, 1);
    if (!ground_init(&ground, (size_t)1 << 30)) {
        return 77;
    }
    part_type = folk_type(0, NULL, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
