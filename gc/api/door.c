#include "api/door.h"

#include "api/init.h"
#include "api/report.h"
#include "api/served.h"
#include "heap/meta.h"
#include "heap/range.h"
#include "os/copy.h"
#include "os/error.h"
#include "os/lock.h"
#include "os/stack.h"
#include "os/suspend.h"
#include "os/thread.h"
#include "roots/mutator.h"

#define DOOR_LOOK_NS 50000000 // between looks at the process itself

// --- Waiting -----------------------------------------------------------

// The thread's mutator, unless it is at work on what a stop reads.
static struct mutator *door_find_mutator(void) {
    struct mutator *mutator = init_mutator; // D1
    bool is_outside = mutator != NULL && mutator->busy != MUTATOR_INSIDE &&
                      mutator->busy != MUTATOR_TAKING;
    return is_outside ? mutator : NULL;
}

// A stop that is on when a thread becomes SAFE may have found it running
// before, and sent its signal, which would find it in the system and end the
// call.  A later stop sends none.  So that one is waited for; every way out of
// the system takes what was sent.
static COLD void door_let_pass(uint32_t epoch) {
    do { // in a child that a handler makes meanwhile it is the stop of nobody
        (void)lock_wait(&world.halt.stopping, epoch, DOOR_LOOK_NS);
    } while (!copy_is_new() &&
             __atomic_load_n(&world.halt.stopping, __ATOMIC_SEQ_CST) == epoch);
    (void)thread_id(); // D6
}

__attribute__((used)) static void
door_enter(void *entered, const uintptr_t *saved, const void *hot_end) {
    struct mutator *mutator = door_find_mutator();
    *(bool *)entered = mutator != NULL;
    if (mutator == NULL) {
        return;
    }
    world_safe_enter_at(mutator, saved, hot_end); // D3
    uint32_t epoch = __atomic_load_n(&world.halt.stopping, __ATOMIC_SEQ_CST);
    if (UNLIKELY(epoch != 0) && mutator->safe_depth == 1) {
        door_let_pass(epoch);
    }
}

// The registers must be those of the caller, who stays, and not of a function
// here, which returns.
STACK_DOOR(loam_door_safe_enter, door_enter, ".globl");

void loam_door_safe_leave(void) {
    struct mutator *mutator = init_mutator;
    if (mutator != NULL && mutator->safe_depth != 0) { // D5
        world_safe_leave(mutator);
    }
}

void loam_door_unwound(void) {
    loam_door_safe_leave();
}

void loam_door_handler_enter(struct loam_door_handler *was) {
    struct mutator *mutator = init_mutator;
    was->outer = init_handler;
    init_handler = was;
    was->safe.depth = 0;
    if (mutator != NULL &&
        (mutator->safe_depth != 0 ||
         __atomic_load_n(&mutator->state, __ATOMIC_RELAXED) != MUTATOR_RUNS)) {
        was->safe = world_safe_break(mutator); // D4
    }
}

void loam_door_handler_leave(const struct loam_door_handler *was) {
    struct mutator *mutator = init_mutator;
    init_handler = was->outer;
    if (mutator != NULL && was->safe.depth != 0) {
        world_safe_mend(mutator, &was->safe);
    }
}

// --- Threads -----------------------------------------------------------

bool loam_door_hold(void) {
    struct mutator *mutator = init_mutator;
    if (mutator == NULL || mutator->busy != MUTATOR_OUT) {
        return false;
    }
    mutator_enter(mutator);
    return true;
}

void loam_door_unhold(void) {
    world_leave(init_mutator);
}

void loam_door_lock(void) {
    struct mutator *mutator = init_mutator;
    if (mutator != NULL) {
        mutator_enter(mutator);
    }
    world_lock(mutator);
}

void loam_door_unlock(void) {
    world_unlock();
    if (init_mutator != NULL) {
        world_leave(init_mutator);
    }
}

static bool door_is_built(void) {
    return __atomic_load_n(&init_state.built, __ATOMIC_ACQUIRE);
}

bool loam_door_is_open(void) {
    return door_is_built() &&
           (init_mutator == NULL || door_find_mutator() != NULL);
}

void loam_door_thread_begin(void) {
    if (door_is_built()) {
        (void)init_ready();
    }
}

// --- Words that the system keeps ---------------------------------------

// Only what may point to an object needs a place, or one that held such.
static bool door_keep(size_t index, uintptr_t value) {
    bool points = range_has(value);
    struct mutator *mutator = points ? init_ready() : init_mutator;
    if (mutator == NULL) {
        return true;
    }
    if (mutator->kept == NULL && points) {
        loam_door_lock();
        mutator->kept = meta_make(MUTATOR_KEPT * WORD_BYTES);
        loam_door_unlock();
    }
    if (mutator->kept != NULL) {
        __atomic_store_n(&mutator->kept[index], value,
                         __ATOMIC_RELAXED); // D7
    }
    return mutator->kept != NULL || !points;
}

bool loam_door_key_set(unsigned key, uintptr_t value) {
    if (key >= MUTATOR_KEPT || !door_is_built()) {
        return true;
    }
    int saved = error_save();
    bool done = door_keep(key, value);
    error_restore(saved);
    return done;
}

bool loam_door_alternate(const void *lowest) {
    if (!door_is_built()) {
        return true;
    }
    int saved = error_save();
    bool done = door_keep(MUTATOR_KEPT_STACK, (uintptr_t)lowest);
    error_restore(saved);
    return done;
}

static void door_forget(struct mutator *mutator, void *data) {
    const unsigned *key = data;
    if (mutator->kept != NULL) {
        __atomic_store_n(&mutator->kept[*key], 0, __ATOMIC_RELAXED);
    }
}

void loam_door_key_forget(unsigned key) {
    if (key >= MUTATOR_KEPT || !door_is_built()) {
        return;
    }
    int saved = error_save();
    loam_door_lock();
    world_each(door_forget, &key);
    loam_door_unlock();
    error_restore(saved);
}

// --- malloc ------------------------------------------------------------

void *loam_door_malloc(size_t bytes) {
    return served_make(bytes);
}

void *loam_door_calloc(size_t bytes) {
    return served_make_zero(bytes);
}

void *loam_door_memalign(size_t alignment, size_t bytes) {
    return served_make_aligned(alignment, bytes);
}

void *loam_door_realloc(void *p, size_t bytes, bool *known) {
    return served_resize(p, bytes, known);
}

bool loam_door_free(void *p) {
    return served_free(p);
}

size_t loam_door_usable(const void *p) {
    return served_bytes(p);
}

// Whether and how often warnings are printed is known when the options have
// been read.
bool loam_door_misuse(const char *function, const void *p, const void *caller) {
    int saved = error_save();
    if (!init_state.read) {
        (void)init_ready();
    }
    report_misuse(function, p, caller);
    error_restore(saved);
    return init_state.options.abort;
}

struct loam_door_wishes loam_door_wishes(void) {
    (void)init_ready();
    const struct options *options = &init_state.options;
    return (struct loam_door_wishes){options->verify, options->follow};
}

bool loam_door_trim(void) {
    return served_trim();
}

// --- The signal --------------------------------------------------------

int loam_door_signal(void) {
    return suspend_number();
}

bool loam_door_chain(const void *action, void *old) {
    if (!world.ready) {
        return false;
    }
    suspend_set_chained(action, old);
    return true;
}
