// bazaar — shelves where threads exchange things, and what a thread does there.
//
// Each shelf has a lock of the program's own.  Own trees change hands there; to
// frozen things that lie there anybody may link.
//
// Any thread; a signal handler calls bazaar_begin and bazaar_finish alone.

#ifndef SUPPORT_BAZAAR_H
#define SUPPORT_BAZAAR_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "support/thing.h"

#define BAZAAR_SHELVES 8
#define BAZAAR_SLOTS   16
#define BAZAAR_OWN     12

struct bazaar {
    struct {
        pthread_mutex_t lock;
        struct thing_link slots[BAZAAR_SLOTS];
        struct thing_link frozen[BAZAAR_SLOTS];
    } shelves[BAZAAR_SHELVES];
    uint64_t seed;
    atomic_bool over;                     // everybody ends
    atomic_uint progress;                 // steps, roughly
    atomic_ulong makers;                  // numbers given
    atomic_ulong checked, refused, freed; // by makers that have finished
};

extern struct bazaar bazaar;

void bazaar_init(uint64_t seed);

// Sleeps for so long, whatever interrupts.
void bazaar_nap(long us);

// A maker with a number of its own; and its figures added to the sums.
void bazaar_begin(struct thing_maker *m);
void bazaar_finish(const struct thing_maker *m);

// A frozen thing from some shelf.
struct thing_link bazaar_frozen(struct thing_maker *m);

// One step of a thread that holds `own`.
void bazaar_step(struct thing_maker *m, struct thing_link own[BAZAAR_OWN]);

void bazaar_check(struct thing_maker *m,
                  const struct thing_link own[BAZAAR_OWN]);

// So many steps, with things of its own on its stack.
void bazaar_work(size_t steps);

#endif
