// shuffle — pointers that are nowhere for a while but in a register.
//
// Moves objects between two boxes in the heap by way of a local variable, and
// stays in between.  A collector that reads boxes and stack while this runs on
// sees neither; one that has stopped it sees the register.  Allocates nothing,
// so that nothing but the stop itself is in play.

#ifndef SUPPORT_SHUFFLE_H
#define SUPPORT_SHUFFLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHUFFLE_WORDS 6

struct shuffle_object {
    uintptr_t words[SHUFFLE_WORDS];
};

struct shuffle {
    struct shuffle_object *volatile box[2];
    uintptr_t seed;
};

// A pair of boxes with one object, known by its seed; or NULL.
struct shuffle *shuffle_make(uintptr_t seed);

// Moves the object to and fro, `times` times; false when it was lost.
bool shuffle_run(struct shuffle *shuffle, unsigned times);

// Allocates objects of the same size, which would be handed out in its place.
void shuffle_fill(unsigned count);

#endif
