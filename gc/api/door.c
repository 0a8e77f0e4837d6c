#include "api/door.h"

#include "api/hold.h"
#include "api/init.h"
#include "api/leak.h"
#include "api/report.h"
#include "api/served.h"
#include "collect/help.h"
#include "heap/meta.h"
#include "heap/origin.h"
#include "heap/range.h"
#include "os/copy.h"
#include "os/error.h"
#include "os/lock.h"
#include "os/stack.h"
#include "os/suspend.h"
#include "os/thread.h"
#include "os/unwind.h"
#include "roots/mutator.h"
#include "roots/roll.h"

#define DOOR_LOOK_NS 50000000 // between looks at the process itself

// --- Waiting -----------------------------------------------------------

// The thread's mutator, unless it is at work on what a stop reads.
static struct mutator *door_find_mutator(void) {
    struct mutator *mutator = init_mutator; // D1
    bool is_outside = mutator != NULL && mutator->busy != MUTATOR_INSIDE &&
                      mutator->busy != MUTATOR_TAKING &&
                      mutator->busy != MUTATOR_LENT;
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

static bool door_is_built(void) {
    return __atomic_load_n(&init_state.built, __ATOMIC_ACQUIRE);
}

// A thread that is older than the collector, or was made behind its back, and
// that a stop has found all the same: the next would end its waits again.
static COLD struct mutator *door_meet(void) {
    if (SUSPEND_COOPERATIVE || init_gone || !door_is_built()) {
        return NULL; // D1
    }
    const struct record *record = roll_find(&world.roll, thread_id());
    if (record == NULL ||
        __atomic_load_n(&record->mutator, __ATOMIC_RELAXED) != NULL) {
        return NULL; // not met, or a mutator that is about to end
    }
    int saved = error_save();
    struct mutator *mutator = init_ready_to_wait(false); // D8
    error_restore(saved);                                // D2
    return mutator;
}

__attribute__((used)) static void
door_enter(void *entered, const uintptr_t *saved, const void *hot_end) {
    struct mutator *mutator =
        init_mutator != NULL ? door_find_mutator() : door_meet();
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

bool loam_door_stops(void) {
    const struct conductor *conductor = &init_state.conductor;
    return !__atomic_load_n(&conductor->serves, __ATOMIC_RELAXED) ||
           __atomic_load_n(&conductor->stops, __ATOMIC_RELAXED);
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
    __atomic_store_n(&mutator->busy, MUTATOR_LENT, __ATOMIC_RELAXED);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    return true;
}

void loam_door_unhold(void) {
    world_leave(init_mutator);
}

// A thread without a mutator gets one: else its handlers, which may allocate or
// wait, would come for the lock that it has.
void loam_door_lock(void) {
    struct mutator *mutator =
        door_is_built() && !init_gone ? init_ready_to_wait(true) : init_mutator;
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

bool loam_door_is_open(void) {
    return door_is_built() &&
           (init_mutator == NULL || door_find_mutator() != NULL);
}

void loam_door_thread_begin(void) {
    struct mutator *mutator = door_is_built() ? init_ready() : NULL;
    if (mutator != NULL) {
        init_ask(mutator);
    }
}

// --- Limits ------------------------------------------------------------

void loam_door_limited(void) {
    int saved = error_save();
    struct mutator *mutator =
        door_is_built() && !init_gone ? init_lock() : NULL; // D1
    if (mutator != NULL) {
        range_fit();
        help_fit(&init_state.conductor.help);
        init_unlock(mutator);
    }
    error_restore(saved); // D2
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

void *loam_door_malloc(size_t bytes, const void *caller) {
    return served_make(bytes, caller);
}

void *loam_door_calloc(size_t bytes, const void *caller) {
    return served_make_zero(bytes, caller);
}

void *loam_door_memalign(size_t alignment, size_t bytes, const void *caller) {
    return served_make_aligned(alignment, bytes, caller);
}

void *loam_door_realloc(void *p, size_t bytes, const void *caller,
                        bool *known) {
    return served_resize(p, bytes, caller, known);
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

static const char *const door_modes[] = {
    [OPTIONS_MODE_PLAIN] = "plain",
    [OPTIONS_MODE_QUARANTINE] = "quarantine",
    [OPTIONS_MODE_LEAKCHECK] = "leakcheck",
    [OPTIONS_MODE_RECLAIM] = "reclaim",
};

size_t loam_door_held(void) {
    return hold_bytes();
}

struct loam_door_wishes loam_door_wishes(void) {
    (void)init_ready();
    const struct options *options = &init_state.options;
    return (struct loam_door_wishes){
        .verify = options->verify,
        .follow = options->follow,
        .mode = door_modes[options->mode],
        .leaks = options->mode == OPTIONS_MODE_LEAKCHECK,
        .leak_status = (int)options->leak_status,
        .leak_signal = (int)options->leak_signal,
        .suppressions = options->suppressions,
        .tool = options->tool,
    };
}

bool loam_door_leaks(struct loam_door_leak *all) {
    struct origin_sum lost[2] = {{0, 0}, {0, 0}};
    if (!leak_look(lost)) {
        return false;
    }
    *all = (struct loam_door_leak){lost[0].bytes, lost[0].objects,
                                   lost[1].bytes, lost[1].objects,
                                   NULL,          0};
    return true;
}

bool loam_door_leak(size_t index, struct loam_door_leak *leak) {
    const struct origin *origin = leak_get(index);
    if (origin == NULL) {
        return false;
    }
    *leak = (struct loam_door_leak){
        origin->direct.bytes,   origin->direct.objects,
        origin->indirect.bytes, origin->indirect.objects,
        origin->frames,         origin->frame_count};
    return true;
}

void loam_door_leak_spare(bool spares) {
    leak_spare(spares);
}

void loam_door_leak_ignore(const void *p) {
    leak_ignore(p);
}

void loam_door_leak_region(const void *start, size_t bytes, bool is) {
    if (!is) {
        leak_remove_region(start, bytes);
    } else if (leak_is_on()) {
        (void)leak_add_region(start, bytes); // else there is less to be read
    }
}

void loam_door_unwind(void) {
    unwind_ready();
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
