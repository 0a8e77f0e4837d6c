#include "api/ordered.h"

#include <string.h>

#include "api/object.h"
#include "base/bits.h"
#include "os/error.h"

#define ORDERED_HOMES_LOG2_MIN 3u
#define ORDERED_HOMES_LOG2_MAX 48u // more than there is memory for

// What is looked at where there is no table yet: two homes, both empty, and the
// guard.
static const uint64_t ordered_empty[1 + ORDERED_AHEAD] = {
    ORDERED_NONE, ORDERED_NONE, ORDERED_NONE, ORDERED_NONE, ORDERED_NONE};

void ordered_init(struct ordered *o, enum ordered_values sort) {
    *o = (struct ordered){.words = (uint64_t *)(uintptr_t)ordered_empty,
                          .shift = 63,
                          .sort = (uint8_t)sort};
}

static size_t ordered_homes(const struct ordered *o) {
    return (size_t)1 << (64 - o->shift);
}

static size_t ordered_room(size_t homes) {
    return homes - homes / 8; // OR4
}

// The slots behind the last home, for words that are pushed there.  They are
// used up by chance once in some millions of tables; then there are more.
static size_t ordered_tail(size_t homes) {
    size_t tail = homes / 2;
    return LOAM_TINY ? 1 : tail < 64 ? tail : 64;
}

// Moves the words and values of `from` to `to`, which is empty; false when they
// do not fit into its tail.
static bool ordered_fill(struct ordered *to, const struct ordered *from) {
    size_t next = 0;
    for (size_t i = 0; i < from->slots; i++) {
        uint64_t word = from->words[i];
        if (word == ORDERED_NONE) {
            continue;
        }
        size_t home = (size_t)(word >> to->shift);
        size_t at = home < next ? next : home;
        if (at >= to->slots - 1) {
            return false; // OR3
        }
        to->words[at] = word;
        if (to->values != NULL) {
            to->values[at] = from->values[i];
        }
        next = at + 1;
    }
    return true;
}

// Memory for an empty table of so many slots.
static bool ordered_make(struct ordered *o, size_t slots) {
    size_t bytes = (slots + ORDERED_AHEAD - 1) * sizeof *o->words;
    o->words = object_make(bytes, (struct order){.kind = KIND_LEAF});
    if (o->words == NULL) {
        return false;
    }
    memset(o->words, 0xff, bytes);
    o->slots = slots;
    if (o->sort != ORDERED_SET) {
        unsigned kind = o->sort == ORDERED_LEAF ? KIND_LEAF : KIND_SCANNED;
        o->values = object_make(slots * sizeof *o->values,
                                (struct order){.kind = kind});
        if (o->values == NULL) {
            loam_free(o->words);
            return false;
        }
        if (kind == KIND_LEAF) {
            memset(o->values, 0, slots * sizeof *o->values);
        }
    }
    return true;
}

static void ordered_free(const struct ordered *o) {
    if (o->slots != 0) {
        loam_free(o->words);
        loam_free(o->values);
    }
}

// Makes the table anew, with 2^homes_log2 homes and a tail of at least `tail`.
static bool ordered_resize(struct ordered *o, unsigned homes_log2,
                           size_t tail) {
    if (homes_log2 > ORDERED_HOMES_LOG2_MAX) {
        error_set_no_memory();
        return false;
    }
    size_t homes = (size_t)1 << homes_log2;
    struct ordered made;
    bool filled = false;
    for (; !filled; tail *= 2) {
        ordered_init(&made, o->sort);
        made.shift = (uint8_t)(64 - homes_log2);
        made.count = o->count;
        made.room = ordered_room(homes) - o->count;
        if (!ordered_make(&made, homes + tail + 1)) {
            return false; // OR5
        }
        filled = ordered_fill(&made, o);
        if (!filled) {
            ordered_free(&made);
        }
    }
    ordered_free(o); // OR7: all is in the other
    *o = made;
    return true;
}

// The least number of homes for so many words.
static unsigned ordered_homes_log2(size_t count) {
    unsigned homes_log2 = ORDERED_HOMES_LOG2_MIN;
    while (homes_log2 <= ORDERED_HOMES_LOG2_MAX &&
           ordered_room((size_t)1 << homes_log2) < count) {
        homes_log2++;
    }
    return homes_log2;
}

static COLD bool ordered_grow(struct ordered *o) {
    if (o->room == 0) {
        unsigned homes_log2 = ordered_homes_log2(o->count + 1);
        return ordered_resize(o, homes_log2,
                              ordered_tail((size_t)1 << homes_log2));
    }
    // Room, but not where it is wanted: the tail is full.
    return ordered_resize(o, 64u - o->shift,
                          2 * (o->slots - 1 - ordered_homes(o)));
}

// Puts a word into slot `at`, and what was there into the next, up to a gap.
// One loop that carries is guessed wrong once; a search for the gap and a call
// of memmove are three times.
static void ordered_carry(struct ordered *o, size_t at, uint64_t word) {
    while (word != ORDERED_NONE) {
        uint64_t other = o->words[at];
        o->words[at++] = word;
        word = other;
    }
}

static void ordered_carry_both(struct ordered *o, size_t at, uint64_t word,
                               void *value) {
    while (word != ORDERED_NONE) {
        uint64_t other = o->words[at];
        void *other_value = o->values[at]; // OR7: held, until it is stored
        o->words[at] = word;
        o->values[at++] = value;
        word = other;
        value = other_value;
    }
}

bool ordered_put(struct ordered *o, uint64_t from, size_t at, uint64_t word,
                 void *value) {
    // With the last slot before the guard empty, nothing is carried there.
    while (UNLIKELY(o->room == 0 || o->words[o->slots - 2] != ORDERED_NONE)) {
        size_t skipped = at - ordered_seek(o, from);
        if (!ordered_grow(o)) {
            return false; // OR5
        }
        at = ordered_seek(o, from) + skipped;
    }
    if (o->sort == ORDERED_SET) {
        ordered_carry(o, at, word);
    } else {
        ordered_carry_both(o, at, word, value);
    }
    o->count++;
    o->room--;
    return true;
}

// Whether slot `at` holds a word that is not at home.
static inline bool ordered_is_away(const struct ordered *o, size_t at) {
    return o->words[at] >> o->shift < at && o->words[at] != ORDERED_NONE;
}

void ordered_remove(struct ordered *o, size_t at) {
    size_t next = at + 1;
    if (o->sort == ORDERED_SET) {
        for (; ordered_is_away(o, next); next++) {
            o->words[next - 1] = o->words[next];
        }
    } else {
        for (; ordered_is_away(o, next); next++) {
            o->words[next - 1] = o->words[next];
            o->values[next - 1] = o->values[next];
        }
        o->values[next - 1] = NULL; // OR6
    }
    o->words[next - 1] = ORDERED_NONE;
    o->count--;
    o->room++;
}

size_t ordered_next(const struct ordered *o, size_t at) {
    while (at < o->slots && o->words[at] == ORDERED_NONE) {
        at++;
    }
    return at;
}

bool ordered_reserve(struct ordered *o, size_t more) {
    size_t count;
    if (more <= o->room) {
        return true;
    }
    if (bits_add_overflows(o->count, more, &count)) {
        error_set_no_memory();
        return false;
    }
    unsigned homes_log2 = ordered_homes_log2(count);
    return ordered_resize(o, homes_log2, ordered_tail((size_t)1 << homes_log2));
}

bool ordered_shrink(struct ordered *o) {
    if (o->count == 0) {
        ordered_clear(o);
        return true;
    }
    unsigned homes_log2 = ordered_homes_log2(o->count);
    return homes_log2 >= 64u - o->shift ||
           ordered_resize(o, homes_log2, ordered_tail((size_t)1 << homes_log2));
}

void ordered_clear(struct ordered *o) {
    struct ordered old = *o;
    ordered_init(o, o->sort);
    ordered_free(&old);
}

bool ordered_check(const struct ordered *o) {
    uint64_t last = 0;
    size_t count = 0;
    size_t run = 0; // where the words without gap that end here begin
    for (size_t i = 0; i < o->slots; i++) {
        uint64_t word = o->words[i];
        if (word == ORDERED_NONE) {
            run = i + 1;
            if (o->values != NULL && o->values[i] != NULL) {
                return false; // OR6
            }
            continue;
        }
        size_t home = (size_t)(word >> o->shift);
        if (word >> 32 < last >> 32 || home > i || home < run) {
            return false; // OR1, OR2
        }
        last = word;
        count++;
    }
    return o->slots == 0
               ? o->count == 0
               : count == o->count && o->words[o->slots - 1] == ORDERED_NONE &&
                     count + o->room == ordered_room(ordered_homes(o));
}
