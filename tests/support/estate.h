// estate — who owns what, beside the counted objects themselves.
//
// A model of counted objects: for each one how many owners it has outside, and
// what its slots own.  The real objects are made and changed along with it.
// From the model follows what must be, and what must not:
//
//     outside counts, traced words ---> reached ---> must never be destroyed
//     not reached                        may be destroyed at any moment
//     not reached, and nobody's slot     must be, at once
//     not reached, after the collector   must be
//
// Addresses are kept hidden, so that only counts keep an object; objects know
// their number, and where they are destroyed the model is asked.
//
// Invariants
//   ES1  living    an object that is reached is neither destroyed nor finalized
//   ES2  once      destroyed once, finalized at most once and before that
//   ES3  whole     a dying object is as it was: slots, what they own, and its
//                  traced memory; what it owns dies after it, but in rings
//   ES4  weak      references to the dying give NULL, to the reached the object
//   ES5  at once   what has no owner is destroyed when the operation returns
//   ES6  rings     what is not reached is destroyed when the collector returns
//   ES7  counts    loam_count is the model's number, always
//   ES8  gone      when all owners outside have let go, everything is destroyed
//                  within a few cycles, rings of all types included

#ifndef SUPPORT_ESTATE_H
#define SUPPORT_ESTATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "support/gen.h"

enum kind {
    KIND_PLAIN,
    KIND_ACYCLIC,
    KIND_LEAF,
    KIND_FLEX, // a visit function
    KIND_FINAL,
    KIND_QUARANTINE,
    KIND_MIXED, // slots, visit, finalizer and quarantine
    KIND_SHARED,
    KIND_ATOMIC,
    KIND_TRACED,
    KIND_DEFERRED,
    KINDS
};

#define ESTATE_IDS    60000u
#define ESTATE_ALIVE  400u
#define ESTATE_SLOTS  8u
#define ESTATE_WEAKS  48u
#define ESTATE_TRACED 16u
#define ESTATE_POOLS  8u
#define ESTATE_POOLED 32u

#define MUST(cond) ((cond) ? (void)0 : estate_fail(__FILE__, __LINE__, #cond))
_Noreturn void estate_fail(const char *file, int line, const char *text);

// What may happen in this run.
struct estate_mode {
    unsigned kinds;      // 1 << enum kind
    bool has_rings;      // the ring collector works by itself
    bool has_step;       // releases are bounded
    bool has_actions;    // destructors and finalizers do things
    bool keeps_children; // destructors retain what only they owned
    bool collects_often; // and call the tracer, where they do anything
};

void estate_begin(const struct estate_mode *mode, uint64_t seed);

// Takes everything back, and checks that all of it went.
void estate_end(void);

// Some of the objects that live, whose death is the tracer's; how many there
// are, `count` at most.
size_t estate_traced(void **objects, size_t count);

// One random operation, with all checks that follow.
void estate_step(void);

// How many objects were made, destroyed, finalized, kept by a finalizer; and
// destroyed of an earlier program.
struct estate_figures {
    size_t made, destroyed, finalized, kept, in_rings, refused, late;
};
struct estate_figures estate_figures(void);

#endif
