// Bits of keys flipped, and what that does to each bit of their hashes; words
// in arithmetic order, as they mostly come; keys of every length at every
// alignment, at the end of what may be read.

#include "base/hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "support/gen.h"
#include "support/scrub.h"

#define KEYS 2000

static void test_turned(void **state) {
    (void)state;
    struct gen gen;
    gen_init(&gen, gen_seed("hash"));
    for (size_t i = 0; i < 200000; i++) {
        uint64_t word = i < 1000 ? i : i < 2000 ? ~i : gen_next(&gen);
        assert_int_equal(hash_unword(hash_word(word)), word); // HA1
        assert_int_equal(hash_word(hash_unword(word)), word);
    }
}

// How often each bit of the hash changed, of `turns` times.
static void check_bits(const unsigned *changed, size_t turns) {
    for (size_t bit = 0; bit < 64; bit++) {
        assert_true(changed[bit] > turns * 4 / 10); // HA2
        assert_true(changed[bit] < turns * 6 / 10);
    }
}

static void note_bits(unsigned *changed, uint64_t difference) {
    for (size_t bit = 0; bit < 64; bit++) {
        changed[bit] += (unsigned)(difference >> bit & 1);
    }
}

// Slots of 2^16 that 2^16 words fall into; by chance it would be 41,427.
static size_t slots_of(uint64_t step, unsigned shift) {
    static unsigned char taken[1 << 16];
    size_t slots = 0;
    memset(taken, 0, sizeof taken);
    for (uint64_t i = 0; i < sizeof taken; i++) {
        unsigned char *slot = &taken[hash_word(i * step << shift) >> 48];
        slots += *slot == 0;
        *slot = 1;
    }
    return slots;
}

static void test_words(void **state) {
    (void)state;
    for (unsigned shift = 0; shift <= 48; shift++) {
        assert_true(slots_of(1, shift) > 40000); // HA4
    }
    for (uint64_t step = 1; step < 2000; step += SCALED(1, 37)) {
        assert_true(slots_of(step, 0) > 40000); // HA4
    }
}

static void test_texts(void **state) {
    (void)state;
    struct gen gen;
    gen_init(&gen, gen_seed("hash texts"));
    unsigned char key[40];
    for (size_t count = 2; count <= sizeof key; count++) {
        size_t flip = gen_below(&gen, count * 8);
        unsigned changed[64] = {0};
        for (size_t i = 0; i < KEYS; i++) {
            for (size_t at = 0; at < count; at++) {
                key[at] = (unsigned char)gen_next(&gen);
            }
            uint64_t hash = hash_bytes(key, count);
            key[flip / 8] ^= (unsigned char)(1u << flip % 8);
            note_bits(changed, hash ^ hash_bytes(key, count));
        }
        check_bits(changed, KEYS);
    }
}

// HA3: in exact pieces of malloc: AddressSanitizer sees a byte too many.
static void test_places(void **state) {
    (void)state;
    unsigned char pattern[64];
    uint64_t seen[64];
    for (size_t i = 0; i < sizeof pattern; i++) {
        pattern[i] = (unsigned char)(i * 37 + 11);
    }
    for (size_t count = 0; count < sizeof pattern; count++) {
        seen[count] = hash_bytes(pattern, count);
        for (size_t shift = 0; shift < 9; shift++) {
            unsigned char *copy = malloc(count + shift + 1);
            assert_non_null(copy);
            memcpy(copy + shift, pattern, count);
            copy[count + shift] = (unsigned char)shift;
            assert_int_equal(hash_bytes(copy + shift, count), seen[count]);
            free(copy);
        }
        for (size_t other = 0; other < count; other++) {
            assert_int_not_equal(seen[other], seen[count]);
        }
    }
    unsigned char zeros[64] = {0}; // the number of bytes counts by itself
    for (size_t count = 1; count < sizeof zeros; count++) {
        assert_int_not_equal(hash_bytes(zeros, count),
                             hash_bytes(zeros, count - 1));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_turned),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_places),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
