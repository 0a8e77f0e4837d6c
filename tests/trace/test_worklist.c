// The two stacks: their bounds, and the order in which they give back.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "heap/meta.h"
#include "heap/range.h"
#include "support/child.h"
#include "support/room.h"
#include "trace/worklist.h"

static struct worklist list;

static int make_list(void **state) {
    (void)state;
    return worklist_init(&list) ? 0 : -1;
}

// A piece that can be told from every other.
static struct piece make_piece(size_t i) {
    const uintptr_t *from = (const uintptr_t *)(uintptr_t)(i * 16);
    return (struct piece){from, from + i, (uint32_t)i, (uint32_t)(i * 7)};
}

static void check_piece(struct piece piece, size_t i) {
    struct piece wanted = make_piece(i);
    assert_ptr_equal(piece.from, wanted.from);
    assert_ptr_equal(piece.end, wanted.end);
    assert_int_equal(piece.layout, wanted.layout);
    assert_int_equal(piece.phase, wanted.phase);
}

// W1: as many pieces as there is room for, then no more; the last comes first.
static void test_pieces(void **state) {
    (void)state;
    assert_true(worklist_is_empty(&list));
    size_t capacity = list.piece_capacity;
    assert_in_range(capacity, LOAM_TINY ? 1 : 1000, 1 << 20);
    for (size_t i = 0; i < capacity; i++) {
        assert_true(worklist_push_piece(&list, make_piece(i)));
        assert_int_equal(list.piece_count, i + 1);
        assert_false(worklist_is_empty(&list));
    }
    assert_false(worklist_push_piece(&list, make_piece(capacity)));
    assert_int_equal(list.piece_count, capacity);
    for (size_t i = capacity; i-- > 0;) {
        check_piece(worklist_pop_piece(&list), i);
    }
    assert_true(worklist_is_empty(&list));
}

// W1: the room said is the room there is, down to the last word; both stacks
// lie apart and are writable to their ends.
static void test_words(void **state) {
    (void)state;
    size_t capacity = list.word_capacity;
    assert_in_range(capacity, LOAM_TINY ? 4 : 1000, 1 << 24);
    assert_true(worklist_has_room(&list, 0));
    assert_true(worklist_has_room(&list, capacity));
    assert_false(worklist_has_room(&list, capacity + 1));
    assert_false(worklist_has_room(&list, SIZE_MAX));
    assert_true(worklist_push_piece(&list, make_piece(1)));
    for (size_t i = 0; i < capacity; i++) {
        assert_true(worklist_has_room(&list, capacity - i));
        assert_false(worklist_has_room(&list, capacity - i + 1));
        list.words[list.word_count++] = ~i;
    }
    assert_false(worklist_has_room(&list, 1));
    assert_true(worklist_has_room(&list, 0));
    for (size_t i = 0; i < capacity; i++) {
        assert_int_equal(list.words[i], ~i);
    }
    check_piece(worklist_pop_piece(&list), 1);
    assert_false(worklist_is_empty(&list));
    list.word_count = 0;
    assert_true(worklist_is_empty(&list));
}

// W2 is the pusher's to keep; the stacks themselves lie outside of the heap, so
// that reading them as roots would keep nothing alive.
static void test_apart(void **state) {
    (void)state;
    assert_false(range_has((uintptr_t)list.words)); // W2
    assert_false(range_has((uintptr_t)list.pieces));
    uintptr_t words = (uintptr_t)list.words;
    uintptr_t pieces = (uintptr_t)list.pieces;
    size_t words_bytes = list.word_capacity * sizeof *list.words;
    size_t pieces_bytes = list.piece_capacity * sizeof *list.pieces;
    assert_true(words + words_bytes <= pieces ||
                pieces + pieces_bytes <= words);
}

// W1: grown with the heap, as far as is left and never beyond its reservation;
// what was on it stays, and the new room is there to its last word.
static void test_growth(void **state) {
    (void)state;
    size_t first = list.word_capacity;
    for (size_t i = 0; i < first; i++) {
        list.words[i] = ~i;
    }
    list.word_count = first;
    static const size_t heaps[][2] = {
        // of so many bytes, with so many left
        {0, SIZE_MAX},   {MiB, SIZE_MAX},          {GiB, 0},
        {GiB, 4 * KiB},  {GiB, SIZE_MAX},          {64 * MiB, SIZE_MAX},
        {GiB, SIZE_MAX}, {SIZE_MAX / 2, SIZE_MAX}, {SIZE_MAX, SIZE_MAX}};
    size_t words = list.word_capacity;
    for (size_t i = 0; i < sizeof heaps / sizeof *heaps; i++) {
        size_t before = meta_bytes();
        worklist_grow(&list, heaps[i][0], heaps[i][1]);
        assert_true(list.word_capacity >= words); // W1: never less
        size_t more = (list.word_capacity - words) * sizeof *list.words;
        assert_true(more <= heaps[i][1]);
        assert_int_equal(meta_bytes(), before + more);
        words = list.word_capacity;
        assert_true(words == first ||
                    words * sizeof *list.words <= list.word_reserved);
        list.words[words - 1] = i;
        assert_true(worklist_has_room(&list, words - first));
        assert_false(worklist_has_room(&list, words - first + 1)); // W1
    }
    assert_true(LOAM_TINY ? words == first : words > first);
    for (size_t i = 0; i + 1 < first; i++) {
        assert_int_equal(list.words[i], ~i);
    }
    list.word_count = 0;
}

static int child_short(void *data) {
    (void)data;
    struct worklist other;
    // Pieces that wait in meta memory could serve a tiny list: use them up.
    if (!room_end()) {
        return 0; // not a system to ask
    }
    while (meta_make(32) != NULL || meta_make(64) != NULL) {
    }
    if (worklist_init(&other)) {
        return 1;
    }
    return worklist_init(&other) ? 2 : 0; // nor a second time
}

// Where memory is short it says so, and takes nothing.
static void test_shortage(void **state) {
    (void)state;
    struct child child;
    child_fork(&child, child_short, NULL);
    child_show(&child);
    assert_int_equal(child.status, 0);
}

// W1: what is given back is what nobody had, and it does not grow into that.
static void test_fit(void **state) {
    (void)state;
    struct worklist small;
    if (!worklist_init(&small)) {
        skip();
    }
    size_t words = small.word_capacity, reserved = small.word_reserved;
    worklist_fit(&small, SIZE_MAX);
    assert_int_equal(small.word_reserved, reserved);
    worklist_fit(&small, reserved / 2);
    assert_int_equal(small.word_reserved, reserved / 2);
    worklist_fit(&small, 0);
    assert_int_equal(small.word_capacity, words);
    assert_in_range(small.word_reserved, 0, words * sizeof *small.words);
    worklist_grow(&small, GiB, SIZE_MAX);
    assert_int_equal(small.word_capacity, words);
    for (size_t i = 0; i < words; i++) {
        small.words[i] = i;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces), cmocka_unit_test(test_words),
        cmocka_unit_test(test_apart),  cmocka_unit_test(test_shortage),
        cmocka_unit_test(test_growth), cmocka_unit_test(test_fit),
    };
    return cmocka_run_group_tests(tests, make_list, NULL);
}
