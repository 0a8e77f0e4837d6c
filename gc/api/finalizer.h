// finalizer — running what became due, where the program can bear it.
//
// A cycle only queues finalizers (collect/settle.h).  They run when it is over
// and its thread is out of every lock and every operation of ours: at the end
// of an allocation that had to climb, and of loam_collect.  There stands a
// finalizer_poll, which is one load as long as nothing is due.
//
//     cycle: queue, notices + 1      poll: notices changed? tell, wake
//                                          due, and on their own? run
//
// One thread at a time runs them on its own account, the runner.  A finalizer
// allocates and polls in its turn: it is the runner's, and deeper on the same
// stack, so it returns at once.  A runner that was jumped out of is recognised
// by what has become of its place on the stack.
//
// Invariants
//   FI1  outside  a finalizer runs in no lock, cycle or operation of ours
//   FI2  single   on their own no two run at a time, and none within another
//   FI3  once     a finalizer that was set once runs at most once
//   FI4  freed    it does not run for an object that was freed by hand
//   FI5  told     the notifier is called, and waiters are woken, after each
//                 cycle that made some due
//
// Called by any thread of the program.
// Design, alternatives and measurements: docs/design/api/finalizer.md

#ifndef API_FINALIZER_H
#define API_FINALIZER_H

#include "api/counting.h"
#include "api/cycles.h"
#include "api/init.h"
#include "base/defs.h"

// Something is due, or was not told yet.
COLD void finalizer_attend(void);

// Where program code may run: after an operation, outside of everything.
static inline void finalizer_poll(void) {
    const struct settle *settle = &init_state.conductor.settle;
    if (UNLIKELY(__atomic_load_n(&settle->fates.ready_count,
                                 __ATOMIC_RELAXED) != 0)) {
        finalizer_attend();
    }
    if (counting_is_called()) {
        cycles_poll();
    }
}

#endif
