// threads — attach, detach and blocking regions of loam/threads.h.
//
// Stacks that the program made are in threads_fiber.c.
//
// Design, alternatives and measurements: docs/design/api/index.md

#include "loam/threads.h"

#include "api/init.h"
#include "os/stack.h"
#include "roots/mutator.h"
#include "roots/world.h"

bool loam_thread_attach(void) {
    return init_ready() != NULL;
}

void loam_thread_detach(void) {
    init_detach();
}

static bool threads_may_wait(const struct mutator *mutator) {
    return mutator->busy == MUTATOR_OUT || mutator->busy == MUTATOR_AWAY;
}

// The body of loam_blocking_enter, with its caller's registers and the end of
// the caller's frame: what lies beyond is still there when the body has
// returned.  In a thread that is not attached nobody waits for it.
__attribute__((used)) static void threads_blocking_enter(void *unused,
                                                         const uintptr_t *saved,
                                                         const void *hot_end) {
    (void)unused;
    struct mutator *mutator = init_mutator;
    if (mutator != NULL && threads_may_wait(mutator)) {
        world_safe_enter_at(mutator, saved, hot_end);
    }
}

STACK_DOOR(loam_blocking_enter, threads_blocking_enter, ".globl");

void loam_blocking_leave(void) {
    struct mutator *mutator = init_mutator;
    if (mutator != NULL && mutator->busy == MUTATOR_AWAY) {
        world_safe_leave(mutator);
    }
}
