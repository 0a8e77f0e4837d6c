#include "base/hash.h"

#include <string.h>

// The bytes of p as a word, wherever it lies.
static inline uint64_t hash_read(const unsigned char *p) {
    uint64_t word;
    memcpy(&word, p, sizeof word);
    return word;
}

static inline uint64_t hash_read_half(const unsigned char *p) {
    uint32_t half;
    memcpy(&half, p, sizeof half);
    return half;
}

// The product of two words, 128 bits of it, folded to 64.
static inline uint64_t hash_fold(uint64_t a, uint64_t b) {
    __extension__ unsigned __int128 product = a;
    product *= b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

// Up to 16 bytes, as two words that together hold each of them; *second is left
// alone if there are none.
static inline uint64_t hash_end(const unsigned char *p, size_t count,
                                uint64_t *second) {
    if (count >= 8) {
        *second = hash_read(p + count - 8);
        return hash_read(p);
    }
    if (count >= 4) {
        *second = hash_read_half(p + count - 4);
        return hash_read_half(p);
    }
    if (count != 0) { // first, middle, last: all of one to three
        return (uint64_t)p[0] << 16 | (uint64_t)p[count / 2] << 8 |
               p[count - 1];
    }
    return 0;
}

uint64_t hash_bytes(const void *bytes, size_t count) {
    const unsigned char *p = bytes;
    size_t left = count;
    uint64_t state = HASH_SECOND ^ count;
    while (left > 16) {
        // Neither factor is 0 for more than one value of what is read.
        state = hash_fold(hash_read(p) ^ HASH_FIRST ^ state,
                          hash_read(p + 8) ^ HASH_FIRST_BACK);
        p += 16;
        left -= 16;
    }
    uint64_t second = 0;
    uint64_t first = hash_end(p, left, &second);
    state = hash_fold(first ^ HASH_SECOND_BACK ^ state, second ^ HASH_FIRST);
    return hash_fold(state ^ HASH_SECOND, HASH_FIRST_BACK);
}
