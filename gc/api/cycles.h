// cycles — when to look for dead rings, and for how long.
//
// A slice is one trial (rc/trial.h) of some of a thread's suspects, within a
// budget of time. It cannot be interrupted and resumed, so it is abandoned when
// the time is up or another thread wants to stop the world; then fewer suspects
// are tried at once, and one that is too much for a slice by itself waits
// behind all others, for a call without a limit or for the tracer. What a slice
// found is taken apart (rc/reclaim.h) by the loop around the dead.
//
//     suspects [ . . . . . . . . . | batch ]  -> trial -> ring -> reclaim
//                                                done ->  batch grows
//                                                time up -> batch shrinks
//
// By themselves slices happen when enough suspects have come together. Where
// they find little, more are waited for, and a thirty-second part of the time
// is the most that is spent in vain.
//
// Invariants
//   CY1  budget  a slice ends within its budget and what a step of a thousand
//                objects takes
//   CY2  stop    a thread that wants to stop the world waits for a step at most
//   CY3  vain    slices that find next to nothing take at most 1/32 of the time
//                for which their thread runs, but for those that are asked for
//   CY4  nested  no slice begins in a destructor or within another
//
// Each thread for itself.
// Design, alternatives and measurements: docs/design/api/cycles.md

#ifndef API_CYCLES_H
#define API_CYCLES_H

#include "api/counting.h"
#include "base/defs.h"

#define CYCLES_BATCH     ((size_t)(LOAM_TINY ? 2 : 4096)) // suspects, at first
#define CYCLES_THRESHOLD ((size_t)(LOAM_TINY ? 4 : 1024))
#define CYCLES_SLICE_NS  UINT64_C(1000000)

static inline void cycles_init(struct cycles *cycles) {
    cycles->batch = CYCLES_BATCH;
    cycles->threshold = CYCLES_THRESHOLD;
    cycles->slice_ns = CYCLES_SLICE_NS;
}

// Enough suspects have come together: a slice, if it is time.
COLD void cycles_attend(struct counting *counting);

// Takes apart what the tracer condemned of this thread's; returns the number of
// objects.
size_t cycles_settle(struct counting *counting);

// The same, where program code may run; the thread has counted.
COLD void cycles_poll(void);

// Gives its memory back.  Under the lock.
void cycles_free(struct cycles *cycles);

// Slices until nothing is suspected or the time is up (0: no limit); returns
// the number of objects destroyed.
size_t cycles_collect(struct counting *counting, uint64_t budget_ns);

#endif
