#include "api/finalizer.h"

#include "loam/weak.h"

#include "api/bonds.h"
#include "api/counting.h"
#include "api/object.h"
#include "api/report.h"
#include "collect/settle.h"
#include "heap/block.h"
#include "heap/fate.h"
#include "os/clock.h"
#include "os/error.h"
#include "os/lock.h"
#include "os/suspend.h"
#include "os/thread.h"
#include "rc/bond.h"
#include "roots/mutator.h"
#include "roots/world.h"

// What the program wished, and who runs finalizers on their own.
static struct {
    loam_notifier_fn *notifier; // lock
    void *notifier_data;        // lock
    uint32_t told;              // notices that were passed on; atomic
    uint32_t runner;            // a thread, or 0; atomic
    const uint64_t *frame;      // a word on its stack, which holds ...
    uint64_t nonce;             // ... this while it runs them; runner
    bool on_demand;             // atomic
} finalizer_state;

static struct settle *finalizer_settle(void) {
    return &init_state.conductor.settle;
}

// --- Run -------------------------------------------------------------------

// The first of the queue that still has its object; false if there is none.
static bool finalizer_take(struct fate *taken) {
    struct mutator *mutator = init_lock();
    if (mutator == NULL) {
        return false;
    }
    bool some;
    do {
        some = fate_take(&finalizer_settle()->fates, taken);
    } while (some && (taken->object == 0 ||
                      block_is_freed(taken->block, taken->cell))); // FI4
    init_unlock(mutator);
    return some;
}

// Runs one, outside of everything (FI1); false when none is due.
static bool finalizer_run_one(void) {
    struct fate taken; // on this stack it holds the object and the data
    if (!finalizer_take(&taken)) {
        return false;
    }
    taken.function((void *)taken.object, (void *)taken.data);
    return true;
}

// Whether the calling thread, which is the runner, is in a finalizer still: the
// word is below where it stands now and untouched.  A finalizer that was jumped
// out of leaves the runner behind.
static NO_SANITIZE bool finalizer_is_nested(const uint64_t *here) {
    const uint64_t *frame = finalizer_state.frame;
    return here < frame &&
           *(const volatile uint64_t *)frame == finalizer_state.nonce;
}

// Becomes the runner (FI2); *here is a word on the caller's stack.
static bool finalizer_begin(uint32_t thread, uint64_t *here) {
    uint32_t runner =
        __atomic_load_n(&finalizer_state.runner, __ATOMIC_RELAXED);
    // A thread that ended in a finalizer is nobody's runner any more.
    bool is_free =
        runner == 0 || (runner == thread ? !finalizer_is_nested(here)
                                         : !suspend_is_thread(runner));
    if (!is_free || !__atomic_compare_exchange_n(
                        &finalizer_state.runner, &runner, thread, false,
                        __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
        return false;
    }
    finalizer_state.frame = here;
    finalizer_state.nonce = (finalizer_state.nonce + 1) * 0x9E3779B97F4A7C15u;
    __atomic_store_n(here, finalizer_state.nonce, __ATOMIC_RELAXED);
    return true;
}

static void finalizer_run_own(void) {
    uint64_t here;
    if (__atomic_load_n(&finalizer_state.on_demand, __ATOMIC_RELAXED) ||
        !finalizer_begin(thread_id(), &here)) {
        return;
    }
    while (!__atomic_load_n(&finalizer_state.on_demand, __ATOMIC_RELAXED) &&
           finalizer_run_one()) {
    }
    __atomic_store_n(&here, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&finalizer_state.runner, 0, __ATOMIC_RELEASE);
}

// Passes a new notice on (FI5).
static void finalizer_tell(void) {
    uint32_t *notices = &finalizer_settle()->notices;
    uint32_t now = __atomic_load_n(notices, __ATOMIC_ACQUIRE);
    if (__atomic_exchange_n(&finalizer_state.told, now, __ATOMIC_ACQ_REL) ==
        now) {
        return;
    }
    (void)lock_wake(notices, SIZE_MAX);
    struct mutator *mutator = init_lock();
    if (mutator != NULL) {
        loam_notifier_fn *notifier = finalizer_state.notifier;
        void *data = finalizer_state.notifier_data;
        init_unlock(mutator);
        if (notifier != NULL) {
            notifier(data);
        }
    }
}

void finalizer_attend(void) {
    struct mutator *mutator = init_mutator;
    if (mutator == NULL || mutator->busy != MUTATOR_OUT ||
        mutator->hot_end != NULL || mutator->in_hook) { // FI1
        return;
    }
    int error = error_save();
    finalizer_tell();
    finalizer_run_own();
    error_restore(error);
}

void loam_finalizers_when(enum loam_finalizers when) {
    __atomic_store_n(&finalizer_state.on_demand,
                     when == LOAM_FINALIZERS_ON_DEMAND, __ATOMIC_RELAXED);
}

size_t loam_finalizers_run(size_t count_max) {
    size_t count = 0;
    while (count < count_max && finalizer_run_one()) {
        count++;
    }
    return count;
}

size_t loam_finalizers_due(void) {
    return __atomic_load_n(&finalizer_settle()->fates.ready_count,
                           __ATOMIC_RELAXED);
}

size_t loam_finalizers_waiting(void) {
    return __atomic_load_n(&finalizer_settle()->fates.waiting_count,
                           __ATOMIC_RELAXED) +
           __atomic_load_n(&bond_fate_count, __ATOMIC_RELAXED);
}

bool loam_finalizers_wait(int wait_ms) {
    struct mutator *mutator = init_ready();
    if (mutator == NULL || !init_is_free(mutator)) {
        return false;
    }
    uint64_t now = clock_now_ns();
    uint64_t end = wait_ms < 0 ? UINT64_MAX : now + (uint64_t)wait_ms * 1000000;
    uint32_t *notices = &finalizer_settle()->notices;
    uint32_t seen = __atomic_load_n(notices, __ATOMIC_ACQUIRE);
    while (loam_finalizers_due() == 0 && (now = clock_now_ns()) < end) {
        world_safe_enter(mutator);
        (void)lock_wait(notices, seen, wait_ms < 0 ? 0 : end - now);
        world_safe_leave(mutator);
        seen = __atomic_load_n(notices, __ATOMIC_ACQUIRE);
    }
    return loam_finalizers_due() != 0;
}

void loam_finalizers_notify(loam_notifier_fn *notifier, void *data) {
    struct mutator *mutator = init_lock();
    if (mutator != NULL) {
        finalizer_state.notifier = notifier;
        finalizer_state.notifier_data = data;
        init_unlock(mutator);
    }
}

// --- Set -------------------------------------------------------------------

_Static_assert((int)LOAM_FINALIZE_ORDERED == (int)FATE_ORDERED &&
                   (int)LOAM_FINALIZE_IGNORING_SELF == (int)FATE_IGNORES_SELF &&
                   (int)LOAM_FINALIZE_UNORDERED == (int)FATE_UNORDERED &&
                   (int)LOAM_FINALIZE_UNREACHABLE == (int)FATE_UNREACHABLE,
               "the program's modes are those of fates");

static void finalizer_describe(const struct fate *fate,
                               struct loam_finalizer *finalizer) {
    *finalizer = (struct loam_finalizer){NULL, NULL, LOAM_FINALIZE_ORDERED};
    if (fate != NULL) {
        finalizer->function = fate->function;
        finalizer->data = (void *)fate->data;
        finalizer->mode = (enum loam_finalize)fate->mode;
    }
}

static struct fate finalizer_fate(const struct place *place,
                                  const struct loam_finalizer *finalizer) {
    return (struct fate){.object = object_start(place),
                         .function = finalizer->function,
                         .data = (uintptr_t)finalizer->data,
                         .block = place->block,
                         .cell = (uint16_t)place->cell,
                         .mode = (uint8_t)finalizer->mode};
}

// Under the lock; false when memory is short.
static bool finalizer_put(const struct place *place,
                          const struct loam_finalizer *finalizer,
                          struct loam_finalizer *previous) {
    struct settle *settle = finalizer_settle();
    struct fate *old = fate_find(&settle->fates, object_start(place));
    struct loam_finalizer was;
    finalizer_describe(old, &was);
    if (finalizer == NULL || finalizer->function == NULL) {
        if (old != NULL) {
            fate_remove(&settle->fates, old);
        }
    } else if (old != NULL) {
        old->function = finalizer->function;
        old->data = (uintptr_t)finalizer->data;
        old->mode = (uint8_t)finalizer->mode;
    } else {
        struct fate fate = finalizer_fate(place, finalizer);
        if (settle_add_fate(settle, &fate) == NULL) {
            return false;
        }
    }
    if (previous != NULL) {
        *previous = was;
    }
    return true;
}

// The object that starts at p; false, and reported, if none does.
static bool finalizer_find(const char *function, const void *p,
                           struct place *place, const void *caller) {
    if (init_ready() != NULL && object_is_start(p, place)) {
        return true;
    }
    report_misuse(function, p, caller);
    error_set_invalid();
    return false;
}

bool loam_finalizer_set(void *object, const struct loam_finalizer *finalizer,
                        struct loam_finalizer *previous) {
    struct place place;
    if (!finalizer_find("loam_finalizer_set", object, &place,
                        __builtin_return_address(0))) {
        return false;
    }
    if (finalizer != NULL &&
        (unsigned)finalizer->mode > LOAM_FINALIZE_UNREACHABLE) {
        error_set_invalid();
        return false;
    }
    bool is_counted = block_kind_is_counted(place.kind);
    struct mutator *mutator = is_counted ? NULL : init_lock();
    bool set = is_counted && bonds_set(&place, finalizer, previous);
    if (mutator != NULL) {
        set = finalizer_put(&place, finalizer, previous);
        init_unlock(mutator);
    }
    if (!set) {
        error_set_no_memory();
    }
    loam_keep(object);
    return set;
}

bool loam_finalizer_get(const void *object, struct loam_finalizer *finalizer) {
    struct place place;
    if (!finalizer_find("loam_finalizer_get", object, &place,
                        __builtin_return_address(0))) {
        return false;
    }
    if (block_kind_is_counted(place.kind)) {
        return bonds_get(&place, finalizer);
    }
    const struct fate *fate = NULL;
    struct mutator *mutator = init_lock();
    if (mutator != NULL) {
        fate = fate_find(&finalizer_settle()->fates, object_start(&place));
        finalizer_describe(fate, finalizer);
        init_unlock(mutator);
    }
    return fate != NULL;
}

// --- Guardians -------------------------------------------------------------

struct loam_guardian *loam_guardian_make(void) {
    return object_make(sizeof(struct fate_guard),
                       (struct order){.kind = KIND_SCANNED});
}

// Under the lock.
static bool finalizer_guard(const struct place *place, struct fate_guard *guard,
                            struct fate_token *token) {
    struct fate fate = {.object = object_start(place),
                        .data = (uintptr_t)token,
                        .block = place->block,
                        .cell = (uint16_t)place->cell,
                        .mode = FATE_GUARDED};
    if (settle_add_fate(finalizer_settle(), &fate) == NULL) {
        return false;
    }
    fate_token_wait(token, guard);
    return true;
}

bool loam_guardian_watch(struct loam_guardian *guardian, void *object) {
    static const char function[] = "loam_guardian_watch";
    const void *caller = __builtin_return_address(0);
    struct place place, own;
    if (!finalizer_find(function, guardian, &own, caller) ||
        !finalizer_find(function, object, &place, caller)) {
        return false;
    }
    struct fate_token *token =
        object_make_in(&init_state.home.collector, sizeof *token,
                       (struct order){.kind = KIND_SCANNED});
    bool is_counted = block_kind_is_counted(place.kind);
    struct mutator *mutator = token == NULL || is_counted ? NULL : init_lock();
    bool watched = token != NULL && is_counted &&
                   bonds_watch(&place, (struct fate_guard *)guardian, token);
    if (mutator != NULL) {
        watched = finalizer_guard(&place, (struct fate_guard *)guardian, token);
        init_unlock(mutator);
    }
    if (!watched) {
        error_set_no_memory();
    }
    loam_keep(object);
    loam_keep(guardian);
    return watched;
}

void *loam_guardian_next(struct loam_guardian *guardian) {
    struct place place;
    if (!finalizer_find("loam_guardian_next", guardian, &place,
                        __builtin_return_address(0))) {
        return NULL;
    }
    const struct fate_guard *guard = (struct fate_guard *)guardian;
    uintptr_t object = 0;
    bool was_held = false;
    struct mutator *mutator = init_lock();
    if (mutator != NULL) {
        const struct fate_token *token = guard->ready;
        object = fate_guard_take((struct fate_guard *)guardian);
        was_held = object != 0 && bonds_take_held(object, token);
        init_unlock(mutator);
    }
    struct counting *counting = was_held ? counting_here() : NULL;
    if (counting != NULL) {
        bonds_hand_over(&counting->domain, (void *)object);
    }
    return (void *)object;
}

// --- By hand ---------------------------------------------------------------

// Whether no cycle can begin any more, on account of this call.
static bool finalizer_hold(void) {
    struct mutator *mutator = init_lock();
    if (mutator == NULL) {
        return false;
    }
    init_state.conductor.held++;
    init_unlock(mutator);
    return true;
}

static void finalizer_let_go(void) {
    struct mutator *mutator = init_lock();
    if (mutator != NULL) {
        // In a child that was forked meanwhile nobody holds it.
        init_state.conductor.held -= init_state.conductor.held != 0;
        init_unlock(mutator);
    }
}

void *loam_with_collection_lock(loam_locked_fn *function, void *data) {
    bool held = finalizer_hold();
    void *result = function(data);
    if (held) {
        finalizer_let_go();
    }
    return result;
}
