// threads_fiber — the door for stacks that the program made.
//
// The half of loam/threads.h that is about stacks.  A struct loam_stack is a
// struct fiber: the program sees only its address.
//
// Design, alternatives and measurements: docs/design/api/index.md

#include "loam/threads.h"

#include "api/init.h"
#include "api/report.h"
#include "os/error.h"
#include "os/stack.h"
#include "roots/fiber.h"
#include "roots/mutator.h"
#include "roots/world.h"

_Static_assert(FIBER_SLACK_BYTES == LOAM_STACK_SLACK, "as promised");

// The calling thread's mutator, if it may take the lock now: not while it is in
// the middle of something that a signal handler interrupted.
static struct mutator *threads_fiber_begin(void) {
    struct mutator *mutator = init_ready();
    if (mutator == NULL || mutator->busy != MUTATOR_OUT) {
        return NULL;
    }
    mutator_enter(mutator);
    world_lock(mutator);
    return mutator;
}

static void threads_fiber_end(struct mutator *mutator) {
    world_unlock();
    world_leave(mutator);
}

struct loam_stack *loam_stack_register(void *lowest, size_t bytes) {
    struct fiber *fiber = NULL;
    enum fiber_answer answer = FIBER_SHORT;
    struct mutator *mutator = threads_fiber_begin();
    if (mutator != NULL) {
        answer = fiber_register((uintptr_t)lowest, bytes, &fiber);
        threads_fiber_end(mutator);
    }
    if (answer == FIBER_BAD) {
        error_set_invalid();
    } else if (answer == FIBER_SHORT) {
        error_set_no_memory();
    }
    return (struct loam_stack *)(void *)fiber;
}

static struct fiber *threads_fiber_of(struct loam_stack *stack) {
    return (struct fiber *)(void *)stack;
}

void loam_stack_unregister(struct loam_stack *stack) {
    struct fiber *fiber = threads_fiber_of(stack);
    if (fiber == NULL) {
        return;
    }
    bool known = true;
    struct mutator *mutator = threads_fiber_begin();
    if (mutator != NULL) {
        known = fiber_is_registered(fiber);
        if (known) {
            fiber_unregister(fiber, &mutator->seat);
        }
        threads_fiber_end(mutator);
    }
    if (!known) {
        report_warning(REPORT_MISUSE, "loam_stack_unregister of a stack that "
                                      "is not registered; ignored");
    }
}

// The seat says one thing and the stack pointer another: asks the registry.
static COLD void threads_fiber_reseat(struct mutator *mutator,
                                      const struct fiber_leaving *leaving) {
    if (mutator->busy == MUTATOR_OUT) {
        mutator_enter(mutator);
        world_lock(mutator);
        fiber_reseat(&mutator->seat, leaving);
        threads_fiber_end(mutator);
    }
}

// The rest of loam_fiber_switch, with the registers of its caller.
__attribute__((used)) static void
threads_fiber_leave(void *to, const uintptr_t *registers, const void *hot_end) {
    struct mutator *mutator = init_ready();
    if (mutator == NULL) {
        return; // its stacks are read whole
    }
    struct fiber_leaving leaving = {registers, hot_end, mutator->lowest,
                                    mutator->cold_end};
    if (UNLIKELY(!fiber_is_seated(&mutator->seat, &leaving))) {
        threads_fiber_reseat(mutator, &leaving);
    }
    fiber_switch(&mutator->seat, &leaving, to);
}

STACK_DOOR(loam_fiber_switch, threads_fiber_leave, ".globl");
