// Words that are read: those are pushed that lie below the frontier and count,
// in their order, wherever a piece begins and is cut.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "support/gen.h"
#include "support/ground.h"
#include "trace/piece.h"

#define WORDS 700

static struct ground ground;
static struct gen g;

static uintptr_t draw(void) {
    switch (gen_below(&g, 6)) {
    case 0:
        return range.base + gen_below(&g, range.frontier_bytes);
    case 1:
        return range.base - 1 - gen_below(&g, 100);
    case 2:
        return range.base + range.frontier_bytes + gen_below(&g, 100);
    case 3:
        return gen_below(&g, 1000);
    case 4:
        return range.base + gen_below(&g, 2) * (range.frontier_bytes - 1);
    default:
        return (uintptr_t)gen_next(&g);
    }
}

// PI1, PI3: both loops against a plain one, of any length.
static void test_words(void **state) {
    (void)state;
    assert_non_null(ground_make(&ground, 64, KIND_SCANNED, 0));
    uintptr_t words[WORDS], pushed[WORDS + 2], wanted[WORDS];
    for (size_t count = 0; count < WORDS; count += 1 + gen_below(&g, 3)) {
        size_t want = 0;
        for (size_t i = 0; i < count; i++) {
            words[i] = draw();
            if (range_has(words[i])) {
                wanted[want++] = words[i];
            }
        }
        for (int sparse = 0; sparse < 2; sparse++) {
            pushed[want + 1] = ~(uintptr_t)0;
            uintptr_t *top = sparse ? piece_push_sparse(pushed, words, count)
                                    : piece_push_words(pushed, words, count);
            assert_int_equal(top - pushed, want); // PI1
            assert_memory_equal(pushed, wanted, want * sizeof *wanted);
            assert_true(pushed[want + 1] == ~(uintptr_t)0); // PI3
        }
    }
}

static unsigned described(size_t element_words, uint64_t bits) {
    size_t offsets[64], count = 0;
    for (size_t i = 0; i < element_words; i++) {
        if (bits >> i & 1) {
            offsets[count++] = i * WORD_BYTES;
        }
    }
    const struct layout *layout =
        layout_make(element_words * WORD_BYTES, offsets, count);
    assert_non_null(layout);
    return layout->id;
}

// PI2: a described object, cut at random, as it is read whole.
static void test_cut(void **state) {
    (void)state;
    for (size_t words = 1; words <= 9; words++) {
        uint64_t bits = gen_next(&g) & (((uint64_t)1 << words) - 1);
        unsigned layout = described(words, bits);
        size_t count = words * (1 + gen_below(&g, 40));
        uintptr_t *object = (uintptr_t *)ground_make(
            &ground, count * WORD_BYTES, KIND_DESCRIBED, layout);
        assert_non_null(object);
        struct place place;
        assert_true(blockmap_find((uintptr_t)object, &place));
        struct piece piece = piece_of(place.block, place.cell);
        assert_ptr_equal(piece.from, object);
        size_t all = (size_t)(piece.end - piece.from);
        assert_true(bits == 0 ? all == 0 : all >= count);
        uintptr_t pushed[WORDS], *top = pushed;
        for (size_t i = 0; i < count; i++) {
            object[i] = range.base + i;
        }
        while (piece.from < piece.end) {
            size_t left = (size_t)(piece.end - piece.from);
            struct piece rest = piece_cut(&piece, 1 + gen_below(&g, left));
            top = piece_push_described(top, layout_get(layout), piece.from,
                                       (size_t)(piece.end - piece.from),
                                       &piece.phase);
            assert_int_equal(piece.phase, rest.phase);
            piece = rest;
        }
        uintptr_t *at = pushed;
        for (size_t i = 0; i < count; i++) {
            if (bits >> i % words & 1) {
                assert_true(at < top && *at == range.base + i); // PI2
                at++;
            }
        }
    }
}

// What is not read has no words.
static void test_leaf(void **state) {
    (void)state;
    struct object *leaf = ground_make(&ground, 64, KIND_LEAF, 0);
    struct object *plain = ground_make(&ground, 64, KIND_SCANNED, 0);
    struct place place;
    assert_true(blockmap_find((uintptr_t)leaf, &place));
    struct piece piece = piece_of(place.block, place.cell);
    assert_ptr_equal(piece.from, piece.end);
    assert_true(blockmap_find((uintptr_t)plain, &place));
    piece = piece_of(place.block, place.cell);
    assert_int_equal(piece.end - piece.from, place.bytes / WORD_BYTES);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_leaf),
    };
    gen_init(&g, gen_seed("piece"));
    if (!ground_init(&ground, 512 * MiB)) {
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
