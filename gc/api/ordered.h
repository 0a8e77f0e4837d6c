// ordered — words in the order they would be looked for.
//
// Under the sets and maps of loam/data.h lies one table: words in ascending
// order, with gaps.  A word's home is the slot that its upper bits name; it
// stands there or behind, and no gap is between:
//
//     homes        0     1     2     3     4     5     6     7    tail    guard
//     words     | 05  | 17  | 19  | 2c  |  -  |  -  | 61  | 7e  |  -  |  -  |
//     homes of them 0     1     1     2                 6     7
//
// An empty slot holds the greatest word there is, ORDERED_NONE.  So a search
// begins at home and stops at the first word that is not less than the one it
// wants, whether it finds that word, another, or a gap: one comparison a step,
// and as short for a word that is not there as for one that is.  Words are
// hashes, which makes their upper bits even.
//
// To put a word in, those behind it up to the next gap move one slot on; to
// take one out, those behind it that are not at home move one slot back.  There
// are no marks for what was removed, and the table does not remember in which
// order it came to be.  A larger table is filled in one pass over this one.
//
// Values, where there are any, stand in an array of their own beside the words:
// words are leaves, of which the collector sees one object, values may be
// scanned.
//
// Invariants
//   OR1  ascending the words are in ascending order, gaps aside (those whose
//                  upper halves are equal, in the order of those who put them)
//   OR2  home      every word stands at its home or behind it, and all slots
//                  from its home to it are taken
//   OR3  guard     the last slots are empty: every search ends in the table
//   OR4  load      at most 7/8 as many words as homes
//   OR5  refused   when memory is short the table is as it was
//   OR6  beside    slot i of values is the value of word i; of a gap, NULL
//   OR7  instant   a stop at any instruction finds every value in the array, in
//                  the one that is to replace it, or in a register
//
// One thread at a time.
// Design, alternatives and measurements: docs/design/api/ordered.md

#ifndef API_ORDERED_H
#define API_ORDERED_H

#include "base/defs.h"

#define ORDERED_NONE  UINT64_MAX
#define ORDERED_AHEAD 4 // words that a search looks at together

enum ordered_values {
    ORDERED_SET,    // there are none
    ORDERED_LEAF,   // words that lead nowhere
    ORDERED_SCANNED // pointers
};

struct ordered {
    uint64_t *words; // a leaf
    void **values;   // NULL: there are none, or there is no table yet
    size_t count;    // words
    size_t slots;    // the guard included; 0: there is no table yet
    size_t room;     // words that may come before it is made larger
    uint8_t shift;   // home of a word: word >> shift
    uint8_t sort;    // enum ordered_values; constant
};

void ordered_init(struct ordered *o, enum ordered_values sort);

// The first slot at or behind the home of `word` whose word is not less; of an
// empty one if there is none.  For a word below ORDERED_NONE.  Steps are taken
// by four, without a branch that would be guessed wrong as often as not: the
// words are in order, so that those that are less are the first ones.
static inline size_t ordered_seek(const struct ordered *o, uint64_t word) {
    size_t at = (size_t)(word >> o->shift);
    size_t less = ORDERED_AHEAD;
    for (; UNLIKELY(less == ORDERED_AHEAD); at += less) {
        const uint64_t *words = &o->words[at];
        less = (size_t)(words[0] < word) + (size_t)(words[1] < word) +
               (size_t)(words[2] < word) + (size_t)(words[3] < word);
    }
    return at;
}

static inline bool ordered_is(const struct ordered *o, size_t at,
                              uint64_t word) {
    return o->words[at] == word;
}

// Puts a word, which is not in there, before slot `at`, which a search for
// `from` led to: from itself, or the first word that is no less; from <= word.
// False when memory is short.
MUST_USE bool ordered_put(struct ordered *o, uint64_t from, size_t at,
                          uint64_t word, void *value);

// Takes out the word in slot `at`.
void ordered_remove(struct ordered *o, size_t at);

// The first slot from `at` on that is taken; o->slots if there is none.
size_t ordered_next(const struct ordered *o, size_t at);

// Room for `more` words than there are; as little room as may be.
MUST_USE bool ordered_reserve(struct ordered *o, size_t more);
MUST_USE bool ordered_shrink(struct ordered *o);

// Without words, values and memory.
void ordered_clear(struct ordered *o);

// OR1 to OR4 and OR6; a walk.
bool ordered_check(const struct ordered *o);

#endif
