#include "support/shuffle.h"

#include "loam.h"

#define SHUFFLE_STAY 2000 // turns of an empty loop in between

static void shuffle_write(struct shuffle_object *object, uintptr_t seed) {
    for (size_t i = 0; i < SHUFFLE_WORDS; i++) {
        object->words[i] = seed + i;
    }
}

struct shuffle *shuffle_make(uintptr_t seed) {
    struct shuffle *shuffle = loam_alloc(sizeof *shuffle);
    if (shuffle == NULL) {
        return NULL;
    }
    shuffle->seed = seed;
    shuffle->box[0] = loam_alloc_leaf(sizeof(struct shuffle_object));
    if (shuffle->box[0] == NULL) {
        return NULL;
    }
    shuffle_write(shuffle->box[0], seed);
    return shuffle;
}

bool shuffle_run(struct shuffle *shuffle, unsigned times) {
    for (unsigned n = 0; n < times; n++) {
        struct shuffle_object *object = shuffle->box[n % 2];
        shuffle->box[n % 2] = NULL;
        for (unsigned i = 0; i < SHUFFLE_STAY; i++) {
            __asm__ volatile("" : "+r"(object)); // in a register
        }
        shuffle->box[1 - n % 2] = object;
        for (size_t i = 0; i < SHUFFLE_WORDS; i++) {
            if (object->words[i] != shuffle->seed + i) {
                return false;
            }
        }
    }
    if (times % 2 != 0) {
        shuffle->box[0] = shuffle->box[1];
        shuffle->box[1] = NULL;
    }
    return true;
}

void shuffle_fill(unsigned count) {
    for (unsigned n = 0; n < count; n++) {
        struct shuffle_object *object = loam_alloc_leaf(sizeof *object);
        if (object != NULL) {
            shuffle_write(object, (uintptr_t)n + 1);
        }
    }
}
