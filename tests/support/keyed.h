// keyed — a ground with ephemerons, and a marker that knows them.
//
// For tests that link modules of gc/; header only, since the archive of what
// tests share knows nothing of gc/.

#ifndef SUPPORT_KEYED_H
#define SUPPORT_KEYED_H

#include "support/gen.h"
#include "support/ground.h"
#include "trace/ephemeron.h"
#include "trace/mark.h"

struct keyed {
    struct ground ground;
    struct marker marker;
    struct ephemerons table;
};

// False when the system refuses.
static inline bool keyed_init(struct keyed *keyed, size_t range_bytes) {
    return ground_init(&keyed->ground, range_bytes) &&
           mark_init(&keyed->marker);
}

// An object of that kind; it must be had.
static inline uintptr_t keyed_object(struct keyed *keyed, size_t bytes,
                                     unsigned kind) {
    struct object *object = ground_make(&keyed->ground, bytes, kind, 0);
    CHECK(object != NULL);
    return (uintptr_t)object;
}

// An empty ephemeron.
static inline struct ephemeron *keyed_make(struct keyed *keyed) {
    CHECK(ephemeron_reserve(&keyed->table));
    return (struct ephemeron *)keyed_object(keyed, sizeof(struct ephemeron),
                                            KIND_EPHEMERON);
}

// Fills it; the key is an object of a heap.
static inline void keyed_set(struct ephemeron *ephemeron, uintptr_t key,
                             uintptr_t value) {
    struct place place = ground_place((void *)key);
    ephemeron_set(ephemeron, key, &place, value);
}

// Begins a cycle and marks what the roots lead to without ephemerons.
static inline void keyed_mark(struct keyed *keyed, const uintptr_t *roots,
                              size_t count) {
    ground_prepare(&keyed->ground);
    mark_begin(&keyed->marker);
    mark_range(&keyed->marker, roots, roots + count);
    mark_drain(&keyed->marker);
}

// Goes on, and marks what ephemerons add to that.
static inline void keyed_close(struct keyed *keyed) {
    mark_ephemerons(&keyed->marker, &keyed->table);
    mark_drain(&keyed->marker);
}

// Ephemerons of which each has the key of the next for its value.
struct keyed_chain {
    uintptr_t *keys;    // one more than there are ephemerons; a leaf
    uintptr_t *holders; // the ephemerons, as they lie in memory
};

// Such a chain: its ephemerons lie in its order, or against it if `backwards`;
// its keys in no order if there is a `gen`.
static inline struct keyed_chain keyed_chain(struct keyed *keyed, size_t count,
                                             bool backwards, struct gen *gen) {
    struct keyed_chain chain;
    chain.keys =
        (uintptr_t *)keyed_object(keyed, (count + 1) * WORD_BYTES, KIND_LEAF);
    chain.holders =
        (uintptr_t *)keyed_object(keyed, count * WORD_BYTES, KIND_SCANNED);
    for (size_t i = 0; i <= count; i++) {
        chain.keys[i] = keyed_object(keyed, 16, KIND_LEAF);
    }
    for (size_t i = 0; gen != NULL && i < count; i++) {
        size_t other = i + gen_below(gen, count + 1 - i);
        uintptr_t key = chain.keys[i];
        chain.keys[i] = chain.keys[other];
        chain.keys[other] = key;
    }
    for (size_t i = 0; i < count; i++) {
        size_t link = backwards ? count - 1 - i : i;
        struct ephemeron *ephemeron = keyed_make(keyed);
        keyed_set(ephemeron, chain.keys[link], chain.keys[link + 1]);
        chain.holders[i] = (uintptr_t)ephemeron;
    }
    return chain;
}

#endif
