// Layouts made, made again, and told apart.

#include "heap/layout.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bitmap.h"
#include "support/gen.h"

#define WORDS_MAX ((size_t)200)
#define LAYOUTS   ((size_t)3000)

// What was asked for, and what came back.
struct made {
    struct layout *layout;
    size_t bytes;
    bool pointer[WORDS_MAX];
};

static struct made made[LAYOUTS];

static struct layout *make(const struct made *shape, bool twice) {
    size_t offsets[2 * WORDS_MAX];
    size_t count = 0;
    for (size_t word = shape->bytes / 8; word-- > 0;) {
        if (shape->pointer[word]) {
            offsets[count++] = word * 8;
            if (twice) {
                offsets[count++] = word * 8; // said twice means once
            }
        }
    }
    return layout_make(shape->bytes, offsets, count);
}

static void check(const struct made *shape) {
    const struct layout *layout = layout_get(shape->layout->id);
    assert_ptr_equal(layout, shape->layout); // D2
    assert_int_equal(layout->element_bytes, shape->bytes);
    assert_int_equal(layout->element_words, shape->bytes / 8);
    size_t count = 0;
    for (size_t word = 0; word < layout->element_words; word++) {
        assert_int_equal(bitmap_get(layout->pointer_bits, word),
                         shape->pointer[word]);
        count += shape->pointer[word];
    }
    assert_int_equal(layout->pointer_count, count); // D3
    size_t words = bitmap_words(layout->element_words);
    assert_int_equal(bitmap_count(layout->pointer_bits, 0, words * 64), count);
}

static bool is_same(const struct made *a, const struct made *b) {
    if (a->bytes != b->bytes) {
        return false;
    }
    for (size_t word = 0; word < a->bytes / 8; word++) {
        if (a->pointer[word] != b->pointer[word]) {
            return false;
        }
    }
    return true;
}

static void test_random(void **state) {
    (void)state;
    struct gen g;
    gen_init(&g, gen_seed("layout"));
    for (size_t i = 0; i < LAYOUTS; i++) {
        // Mostly small, so that many are made again.
        made[i].bytes = gen_bytes(&g, gen_chance(&g, 80) ? 40 : 1600);
        for (size_t word = 0; word < made[i].bytes / 8; word++) {
            made[i].pointer[word] = gen_chance(&g, 40);
        }
        made[i].layout = make(&made[i], gen_chance(&g, 20));
        assert_non_null(made[i].layout);
        assert_in_range(made[i].layout->id, 1, i + 1);
        for (size_t other = 0; other < i; other++) {
            assert_int_equal(made[i].layout->id == made[other].layout->id,
                             is_same(&made[i], &made[other])); // D1
        }
        check(&made[i]);
    }
    for (size_t i = 0; i < LAYOUTS; i++) {
        check(&made[i]); // D2
    }
}

// An element that is no whole number of words, and one that holds no word.
static void test_odd(void **state) {
    (void)state;
    size_t offset = 8;
    struct layout *odd = layout_make(20, &offset, 1);
    struct layout *even = layout_make(16, &offset, 1);
    struct layout *small = layout_make(7, NULL, 0);
    assert_int_not_equal(odd->id, even->id); // D1
    assert_int_equal(odd->element_words, 2); // D3
    assert_int_equal(small->element_words, 0);
    assert_int_equal(small->pointer_count, 0);
}

// Shapes of 64 words with equal hashes: where the bitmap is one word, the hash
// depends on bytes * K ^ bits alone, so the bits can make up for the bytes.
static void test_collisions(void **state) {
    (void)state;
    const uint64_t k = UINT64_C(0x9E3779B97F4A7C15);
    struct made shapes[8];
    for (size_t i = 0; i < 8; i++) {
        shapes[i].bytes = 512 + i;
        uint64_t bits = UINT64_C(0x123456789abcdef) ^ 512 * k ^ (512 + i) * k;
        for (size_t word = 0; word < 64; word++) {
            shapes[i].pointer[word] = bits >> word & 1;
        }
        shapes[i].layout = make(&shapes[i], false);
        assert_non_null(shapes[i].layout);
        for (size_t other = 0; other <= i; other++) {
            assert_int_equal(shapes[other].layout->id == shapes[i].layout->id,
                             other == i);
            assert_ptr_equal(make(&shapes[other], false),
                             shapes[other].layout); // D1
            check(&shapes[other]);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_odd),
        cmocka_unit_test(test_collisions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
