// init — the house, built from the ground up, and its one state.
//
// Everything that the process has once stands here: the default heap, its
// collector, the options, the shortage hook, and for each thread the pointer to
// its mutator.  The first allocation builds it (init_mutator is NULL until
// then); nothing is built before, no constructor runs.
//
// Invariants
//   I1  once     init_ready builds once; a try that the system refused is said
//                once, leaves what it built, and the next call tries again
//   I2  attached init_mutator is NULL or this thread's mutator, and NULL while
//                the program's own code runs inside a cycle
//   I3  one      a second thread that needs a mutator stops the process with a
//                message: this version serves one
//
// Called by api/ only.
// Design, alternatives and measurements: docs/design/api/init.md

#ifndef API_INIT_H
#define API_INIT_H

#include "loam.h"

#include "api/options.h"
#include "base/defs.h"
#include "collect/collect.h"

// The state of the process.
struct init_state {
    struct heap heap;           // the default heap, heap 0
    struct collector collector; // its conductor
    struct options options;     // as the environment set them
    loam_shortage_fn *shortage; // the program's hook, or NULL
    void *shortage_data;
    struct mutator *first; // of the one thread, from the try that could make it
    bool read;             // the environment was read
    bool building, built;  // building: within a try
    bool said;             // that a try failed
};

extern struct init_state init_state;

// The calling thread's mutator; initial-exec, since every allocation reads it.
extern __thread struct mutator *init_mutator
    __attribute__((tls_model("initial-exec")));

// Builds the house if it is not built and attaches the calling thread: its
// mutator, or NULL when the system refused something (said once).
struct mutator *init_ready(void);

#endif
