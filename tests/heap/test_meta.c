// Pieces of every size taken and given at random beside a list of what is out.

#include "heap/meta.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "support/gen.h"

#define PIECES ((size_t)300)

struct piece {
    unsigned char *at;
    size_t bytes;
    unsigned char fill;
};

static struct piece pieces[PIECES];
static size_t piece_count;

static void take(size_t bytes, unsigned char fill) {
    unsigned char *at = meta_make(bytes);
    assert_non_null(at);
    assert_int_equal((uintptr_t)at % 16, 0); // M2
    for (size_t i = 0; i < bytes; i++) {
        assert_int_equal(at[i], 0); // M1
    }
    memset(at, fill, bytes);
    pieces[piece_count++] = (struct piece){at, bytes, fill};
}

// Nobody wrote into it meanwhile (M2).
static void give(size_t index) {
    struct piece piece = pieces[index];
    for (size_t i = 0; i < piece.bytes; i++) {
        assert_int_equal(piece.at[i], piece.fill);
    }
    meta_free(piece.at, piece.bytes);
    pieces[index] = pieces[--piece_count];
}

// All sizes round the powers of two, the largest piece and the smallest
// mapping: each twice, so that a waiting piece is met again.
static void test_sizes(void **state) {
    (void)state;
    for (unsigned round = 0; round < 3; round++) {
        for (size_t size = 16; size <= 4 * META_MAP_BYTES; size *= 2) {
            for (size_t bytes = size - 2; bytes <= size + 2; bytes++) {
                take(bytes, (unsigned char)(bytes % 255 + 1));
            }
        }
        take(1, 1);
        while (piece_count != 0) {
            give(piece_count / 2);
        }
    }
}

static void test_random(void **state) {
    (void)state;
    struct gen g;
    gen_init(&g, gen_seed("meta"));
    for (size_t step = 0; step < 20000; step++) {
        if (piece_count == PIECES || (piece_count != 0 && gen_chance(&g, 45))) {
            give(gen_below(&g, piece_count));
        } else {
            take(gen_bytes(&g, gen_chance(&g, 5) ? 200000 : 3000),
                 (unsigned char)(1 + gen_below(&g, 255)));
        }
    }
    while (piece_count != 0) {
        give(piece_count - 1);
    }
}

// What is mapped is at least what is out; mappings of their own go back, and
// small pieces that are given back serve the next.
static void test_account(void **state) {
    (void)state;
    size_t before = meta_bytes();
    take(10 * META_MAP_BYTES, 1);
    assert_int_equal(meta_bytes(), before + 10 * META_MAP_BYTES); // M4
    give(0);
    assert_int_equal(meta_bytes(), before);
    take(META_MAP_BYTES / 2 + 1, 1);
    assert_true(meta_bytes() > before);
    give(0);
    assert_int_equal(meta_bytes(), before);
    for (size_t i = 0; i < 100; i++) {
        take(100, 1);
    }
    while (piece_count != 0) {
        give(0);
    }
    size_t counted = meta_bytes();
    meta_count(4096);                               // mapped by somebody else
    assert_int_equal(meta_bytes(), counted + 4096); // M4
    size_t after = meta_bytes();
    for (size_t i = 0; i < 100; i++) {
        take(128, 1);
    }
    assert_int_equal(meta_bytes(), after);
    while (piece_count != 0) {
        give(0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_account),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
