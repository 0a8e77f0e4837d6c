// thing — an object that knows itself, for storms.
//
// Many threads make graphs of things, hand them on under the program's own
// locks, free some and lose others.  No model beside the heap could follow, so
// each thing carries what it needs to be judged: a number that is never given
// twice, and a sum over its number, its address, its sort and its links.  Who
// holds a thing holds its number too: an object that was lost, and whose cell
// somebody else has now, does not have that number.
//
//     holder          thing                          leaf
//     [to, id] -----> [sum id address sort bytes]    [id ... id]
//                     [leaf ----------------------->]
//                     [links: to, id | to, id | ...]
//
// A tree of *own* things has one holder, who alone reads, changes and frees it.
// A *frozen* thing is never changed again, and anybody may link to it.
//
// Invariants
//   TH1  itself   a thing that a holder holds has the number the holder knows,
//                 and the sum that follows from its words
//   TH2  leaf     the first and the last word of its leaf are its number
//   TH3  handler  all but thing_print may be called in a signal handler: what
//                 was refused is NULL, and counts

#ifndef SUPPORT_THING_H
#define SUPPORT_THING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "support/gen.h"

#define THING_LINKS 4u

struct thing_link {
    struct thing *to;
    uint64_t id; // of `to`; 0 if there is none
};

struct thing {
    uint64_t sum, id;
    uintptr_t address;
    uint32_t is_frozen, leaf_bytes, depth;
    uint64_t *leaf;
    struct thing_link links[THING_LINKS];
};

// Who makes things: one thread, or one handler of one thread.
struct thing_maker {
    struct gen gen;
    uint64_t next_id;
    uint64_t made, refused, checked, freed;
    size_t bytes_max; // of a leaf
};

// `number` is the maker's own, below 2^24.
void thing_maker_init(struct thing_maker *m, uint64_t seed, uint64_t number);

// A tree of own things, at most `depth` deep, some with a link to `frozen`.
struct thing_link thing_tree(struct thing_maker *m, unsigned depth,
                             struct thing_link frozen);

// A frozen thing that links to another.
struct thing_link thing_freeze(struct thing_maker *m, struct thing_link to);

// Checks what the link leads to, some steps deep; aborts with a sentence.
void thing_check(struct thing_maker *m, struct thing_link link);

// Frees the own things of a tree by hand.
void thing_free(struct thing_maker *m, struct thing_link link);

// Gives the root of a tree another leaf, resized.
void thing_resize(struct thing_maker *m, struct thing_link link);

#endif
