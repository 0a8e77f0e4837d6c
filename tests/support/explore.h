// explore — every order in which a few threads may take their steps.
//
// A protocol is written down as a machine: the words that are shared, and for
// each thread where it is and what it knows.  One step is what the hardware
// does at once (a load, a store, an exchange, a futex's look and sleep).  From
// the first state all states are found that any schedule leads to; in each the
// model's invariants must hold, and from each somebody must be able to move,
// unless all is done.
//
//     state --thread 0--> state --thread 1--> ...
//           \-thread 1--> state               seen before: not again
//
// The steps are sequentially consistent, as the code's atomic operations are.
//
// Invariants
//   Q1  all    every state that is reachable is checked, once
//   Q2  stuck  a state in which nobody can move and not all is done is an error
//   Q3  path   an error is printed with the steps that lead to it

#ifndef SUPPORT_EXPLORE_H
#define SUPPORT_EXPLORE_H

#include <stdbool.h>
#include <stddef.h>

struct explore_model {
    size_t state_bytes; // of a state; compared as bytes
    size_t threads;     // who can take a step
    size_t choices;     // ways in which a step may go (chance, the system)
    // Takes a step in place; false: it cannot move, or not in this way.
    bool (*step)(void *state, size_t thread, size_t choice);
    // Whether the state is as it should be.
    bool (*is_right)(const void *state);
    // Whether nobody need move any more.
    bool (*is_done)(const void *state);
};

// How many states there are; 0: one of them is wrong, or stuck.  Says why if
// `aloud`.
size_t explore(const struct explore_model *model, const void *first,
               bool aloud);

#endif
