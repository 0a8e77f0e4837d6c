// Every range of a short map against a model that knows one bit at a time.

#include "base/bitmap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "support/gen.h"

#define BITS  ((size_t)200) // not a multiple of a word
#define WORDS ((size_t)4)

// The map under test ends where its page does, and the next cannot be read:
// whoever looks at a word outside the map is stopped (B1).
static uint64_t *map;
static bool model[BITS];

// The bits of the last word that no range reaches: they must not change.
#define REST (~(uint64_t)0 << (BITS % 64))

static int make_map(void **state) {
    (void)state;
    char *pages =
        mmap(NULL, 3 * 65536, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED ||
        mprotect(pages + 65536, 65536, PROT_READ | PROT_WRITE) != 0) {
        return -1;
    }
    map = (uint64_t *)(void *)(pages + 2 * 65536) - WORDS;
    return 0;
}

// The patterns: empty, full, and random ones from sparse to dense, of which
// the last two have long runs.
#define PATTERNS 9u

static void fill(struct gen *g, size_t pattern) {
    static const unsigned percent[PATTERNS] = {0, 100, 1, 10, 50, 90, 99, 0, 0};
    memset(map, 0, WORDS * sizeof *map);
    bool bit = false;
    for (size_t index = 0; index < BITS; index++) {
        if (pattern >= 7) {
            bit ^= gen_chance(g, pattern == 7 ? 2 : 10);
        } else {
            bit = gen_chance(g, percent[pattern]);
        }
        model[index] = bit;
        map[index / 64] |= (uint64_t)bit << (index % 64);
    }
    map[WORDS - 1] |= gen_next(g) & REST;
}

static void same_as_model(uint64_t rest) {
    for (size_t index = 0; index < BITS; index++) {
        assert_int_equal((map[index / 64] >> (index % 64)) & 1, model[index]);
    }
    assert_true((map[WORDS - 1] & REST) == rest);
}

static void test_one_bit(void **state) {
    (void)state;
    struct gen g;
    gen_init(&g, gen_seed("bitmap: one bit"));
    fill(&g, 4);
    uint64_t rest = map[WORDS - 1] & REST;
    for (size_t turn = 0; turn < 4 * BITS; turn++) {
        size_t index = turn % BITS;
        assert_int_equal(bitmap_get(map, index), model[index]);
        model[index] = turn < BITS || (turn >= 2 * BITS && turn % 3 == 0);
        if (model[index]) {
            bitmap_set(map, index);
        } else {
            bitmap_clear(map, index);
        }
        same_as_model(rest); // B1
    }
    for (size_t bits = 0; bits < 300; bits++) {
        size_t words = bitmap_words(bits);
        assert_true(words * 64 >= bits &&
                    (words == 0 || words * 64 < bits + 64));
    }
}

// B1, B3
static void test_set_and_clear_range(void **state) {
    (void)state;
    struct gen g;
    gen_init(&g, gen_seed("bitmap: ranges"));
    for (size_t from = 0; from <= BITS; from++) {
        for (size_t count = 0; from + count <= BITS; count++) {
            fill(&g, (from + count) % PATTERNS);
            uint64_t rest = map[WORDS - 1] & REST;
            bool value = gen_chance(&g, 50);
            memset(model + from, value, count);
            if (value) {
                bitmap_set_range(map, from, count);
            } else {
                bitmap_clear_range(map, from, count);
            }
            same_as_model(rest);
        }
    }
}

static size_t model_find(bool value, size_t from, size_t end) {
    while (from < end && model[from] != value) {
        from++;
    }
    return from;
}

// B2, B3
static void test_find(void **state) {
    (void)state;
    struct gen g;
    gen_init(&g, gen_seed("bitmap: find"));
    for (size_t pattern = 0; pattern < PATTERNS; pattern++) {
        fill(&g, pattern);
        for (size_t from = 0; from <= BITS; from++) {
            for (size_t end = from; end <= BITS; end++) {
                assert_int_equal(bitmap_find_set(map, from, end),
                                 model_find(true, from, end));
                assert_int_equal(bitmap_find_clear(map, from, end),
                                 model_find(false, from, end));
            }
        }
    }
}

static size_t model_find_run(size_t from, size_t end, size_t count) {
    size_t run = 0;
    for (size_t index = from; index < end; index++) {
        run = model[index] ? 0 : run + 1;
        if (run == count) {
            return index + 1 - count;
        }
    }
    return end;
}

// B2, B3
static void test_find_clear_run(void **state) {
    (void)state;
    static const size_t counts[] = {1,  2,  3,  5,  8,   16,  31,  32,
                                    33, 63, 64, 65, 127, 128, 129, 200};
    struct gen g;
    gen_init(&g, gen_seed("bitmap: runs"));
    for (size_t pattern = 0; pattern < PATTERNS; pattern++) {
        fill(&g, pattern);
        for (size_t from = 0; from <= BITS; from++) {
            for (size_t end = from; end <= BITS; end++) {
                size_t count = counts[(from + end) % 16];
                assert_int_equal(bitmap_find_clear_run(map, from, end, count),
                                 model_find_run(from, end, count));
                count = 1 + gen_below(&g, 20);
                assert_int_equal(bitmap_find_clear_run(map, from, end, count),
                                 model_find_run(from, end, count));
            }
        }
    }
}

// B3
static void test_count(void **state) {
    (void)state;
    struct gen g;
    gen_init(&g, gen_seed("bitmap: count"));
    for (size_t pattern = 0; pattern < PATTERNS; pattern++) {
        fill(&g, pattern);
        for (size_t from = 0; from <= BITS; from++) {
            size_t sum = 0;
            for (size_t count = 0; from + count <= BITS; count++) {
                assert_int_equal(bitmap_count(map, from, count), sum);
                sum += from + count < BITS && model[from + count];
            }
        }
    }
}

// B1, B3: a map of whole words, up to the page that cannot be read; and empty
// ranges beyond it.
static void test_to_the_edge(void **state) {
    (void)state;
    size_t end = WORDS * 64;
    bitmap_set_range(map, 0, end);
    assert_int_equal(bitmap_find_clear(map, 0, end), end);
    assert_int_equal(bitmap_find_clear_run(map, 0, end, 1), end);
    assert_int_equal(bitmap_count(map, 0, end), end);
    bitmap_clear_range(map, 0, end);
    assert_int_equal(bitmap_find_set(map, 0, end), end);
    assert_int_equal(bitmap_find_clear_run(map, 0, end, end), 0);
    assert_int_equal(bitmap_find_clear_run(map, 1, end, end), end);
    bitmap_set_range(map, end, 0);
    bitmap_clear_range(map, end, 0);
    assert_int_equal(bitmap_find_set(map, end, end), end);
    assert_int_equal(bitmap_find_clear_run(map, end, end, 1), end);
    assert_int_equal(bitmap_count(map, end, 0), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_bit),
        cmocka_unit_test(test_set_and_clear_range),
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_find_clear_run),
        cmocka_unit_test(test_count),
        cmocka_unit_test(test_to_the_edge),
    };
    return cmocka_run_group_tests(tests, make_map, NULL);
}
