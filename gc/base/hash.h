// hash — numbers that look like chance.
//
// A table wants of each key a number whose bits all depend on all bits of the
// key, since it uses a few of them: which ones, the table decides.
//
//     a word   folded and multiplied, twice; nothing is lost on the way, so
//              that a table may keep the hash alone and has the key by turning
//              it back
//     bytes    sixteen at a time, two words multiplied to 128 bits and folded
//
// The same key has the same hash in every process and on every machine of our
// byte order: what is walked in order of hashes is walked alike every time.
// Whoever knows these functions can choose keys that collide.
//
// Invariants:
//   HA1  turned   hash_unword(hash_word(w)) is w, for every word, and the other
//                 way round
//   HA2  spread   a bit of a key of two bytes or more that is changed changes
//                 each bit of its hash in about half of all cases
//   HA3  bytes    hash_bytes depends on the bytes and their number, not on
//                 where they lie, and reads no others
//   HA4  even     words a constant apart, or shifted, fall into as many slots,
//                 by the upper bits of their hashes, as words by chance would,
//                 but for a tenth
//
// Pure arithmetic: no state, no locks, callable from anywhere.
// Design, alternatives and measurements: docs/design/base/hash.md

#ifndef BASE_HASH_H
#define BASE_HASH_H

#include "base/defs.h"

// Odd, so that a multiplication can be undone; half of the bits are set.
#define HASH_FIRST       0x9E3779B97F4A7C15u
#define HASH_SECOND      0xD6E8FEB86659FD93u
#define HASH_FIRST_BACK  0xF1DE83E19937733Du // HASH_FIRST times this is 1
#define HASH_SECOND_BACK 0xCFEE444D8B59A89Bu // and HASH_SECOND times this

// One to one.  Best in the high bits.
static inline uint64_t hash_word(uint64_t word) {
    word ^= word >> 32; // what differs above alone must come down first
    word *= HASH_FIRST;
    word ^= word >> 32;
    return word * HASH_SECOND;
}

// The word that has this hash.
static inline uint64_t hash_unword(uint64_t hash) {
    hash *= HASH_SECOND_BACK;
    hash ^= hash >> 32;
    hash *= HASH_FIRST_BACK;
    return hash ^ hash >> 32;
}

// Of `count` bytes.  Good in all bits.
uint64_t hash_bytes(const void *bytes, size_t count);

#endif
