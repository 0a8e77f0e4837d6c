#include "api/cycles.h"

#include <string.h>

#include "api/bonds.h"
#include "api/init.h"
#include "api/report.h"
#include "api/zeroes.h"
#include "base/check.h"
#include "heap/meta.h"
#include "os/clock.h"
#include "os/error.h"
#include "rc/count.h"
#include "rc/explain.h"
#include "rc/kinds.h"
#include "rc/portion.h"
#include "rc/reclaim.h"
#include "rc/slots.h"
#include "rc/trial.h"
#include "roots/mutator.h"
#include "roots/world.h"

#define CYCLES_STEP        ((size_t)(LOAM_TINY ? 4 : 1024)) // between two looks
#define CYCLES_BATCH_MAX   ((size_t)1 << 20)                // without a budget
#define CYCLES_BATCH_TIMED ((size_t)8192) // with one: added without a look
#define CYCLES_ROOM        ((size_t)(LOAM_TINY ? 8 : 65536)) // at first
#define CYCLES_MOST        ((size_t)1 << 20)                 // of a threshold
#define CYCLES_SHARE       2  // of a budget: what trials find takes as long
#define CYCLES_VAIN        32 // see CY3

// --- Room ------------------------------------------------------------------

static void cycles_drop(struct trial_vector *vector) {
    if (vector->capacity != 0) {
        meta_free(vector->items, vector->capacity * sizeof *vector->items);
    }
    *vector = (struct trial_vector){NULL, 0, 0};
}

static bool cycles_make(struct trial_vector *vector, size_t capacity) {
    vector->items = meta_make(capacity * sizeof *vector->items);
    vector->capacity = vector->items == NULL ? 0 : capacity;
    return vector->items != NULL;
}

// Vectors of `capacity`, empty; false, and none, when memory is short.
static bool cycles_make_room(struct trial *trial, size_t capacity) {
    struct mutator *mutator = init_lock();
    if (mutator == NULL) {
        return false;
    }
    cycles_drop(&trial->visited);
    cycles_drop(&trial->live);
    bool made = cycles_make(&trial->visited, capacity) &&
                cycles_make(&trial->live, capacity);
    if (!made) {
        cycles_drop(&trial->visited);
        cycles_drop(&trial->live);
    }
    init_unlock(mutator);
    return made;
}

void cycles_free(struct cycles *cycles) {
    cycles_drop(&cycles->trial.visited);
    cycles_drop(&cycles->trial.live);
}

// --- A slice ----------------------------------------------------------------

enum cycles_end {
    CYCLES_DONE, // decided
    CYCLES_LATE, // the time is up
    CYCLES_STOP, // another thread waits
    CYCLES_FULL  // more room is needed
};

static enum cycles_end cycles_try(struct counting *counting, size_t from,
                                  uint64_t deadline_ns) {
    struct trial *trial = &counting->cycles.trial;
    struct count_buffer *suspects = &counting->domain.suspects;
    enum trial_answer answer = TRIAL_MORE;
    trial_suspect(trial, suspects->items + from, suspects->count - from);
    while (answer == TRIAL_MORE) {
        answer = trial_step(trial, CYCLES_STEP);
        if (answer == TRIAL_MORE && world_is_stopping()) {
            return CYCLES_STOP; // CY2
        }
        if (answer == TRIAL_MORE && deadline_ns != 0 &&
            clock_now_ns() >= deadline_ns) {
            return CYCLES_LATE; // CY1
        }
    }
    return answer == TRIAL_DONE ? CYCLES_DONE : CYCLES_FULL;
}

// Those of a batch that took part in its trial are suspects no more.
static void cycles_drop_tried(struct counting *counting, size_t from) {
    struct count_buffer *suspects = &counting->domain.suspects;
    size_t rest = from + counting->cycles.trial.suspects.rest;
    size_t bytes = (suspects->count - rest) * sizeof *suspects->items;
    memmove(suspects->items + from, suspects->items + rest, bytes);
    suspects->count -= rest - from;
}

// What is left of the batch is no longer suspected.  INSIDE, left for stops.
static void cycles_clear(struct counting *counting, size_t from) {
    struct count_domain *domain = &counting->domain;
    while (domain->suspects.count > from) {
        void *object = domain->suspects.items[--domain->suspects.count];
        if (object != NULL) {
            count_unname(&counting->domain, object);
        }
        if (domain->suspects.count % CYCLES_STEP == 0 && world_is_stopping()) {
            counting_leave(counting);
            mutator_enter(init_mutator);
        }
    }
}

// A slot that owns without a count is told of.
static COLD void cycles_blame(struct trial *trial) {
    struct slots_fault fault;
    slots_begin(&fault, trial->faulty);
    for (size_t i = 0; i < trial->visited.count; i++) {
        slots_blame(&fault, trial->visited.items[i]);
    }
    trial->faulty = NULL;
    report_unowned(&fault);
}

// Whether the thread ran for less than half of the time that is up.
static bool cycles_was_delayed(const struct cycles *cycles) {
    return cycles->share_ns != 0 &&
           clock_thread_ns() - cycles->began_ns < cycles->share_ns / 2;
}

// INSIDE: one trial, whose garbage is left in it; suspects from *clear_from on
// are none any more.
static enum cycles_end cycles_slice(struct counting *counting,
                                    uint64_t deadline_ns, size_t *clear_from) {
    struct cycles *cycles = &counting->cycles;
    size_t count = counting->domain.suspects.count;
    size_t from = count > cycles->batch ? count - cycles->batch : 0;
    enum cycles_end end = cycles_try(counting, from, deadline_ns);
    if (UNLIKELY(cycles->trial.faulty != NULL)) {
        cycles_blame(&cycles->trial);
    }
    if (end != CYCLES_DONE) {
        trial_abort(&cycles->trial);
        cycles->aborted++;
        if (end == CYCLES_LATE && cycles_was_delayed(cycles)) {
            return end; // others ran: it says nothing of the suspects
        }
        if (end == CYCLES_LATE && count - from > 1) {
            cycles->batch = (count - from + 7) / 8;
        } else if (end == CYCLES_LATE) {
            // Too much for a slice: others first, until somebody has time.
            void **items = counting->domain.suspects.items;
            void *late = items[from];
            items[from] = items[0];
            items[0] = late;
        }
        return end;
    }
    size_t garbage = trial_take(&cycles->trial);
    cycles_drop_tried(counting, from);
    if (garbage != 0) {
        // No stop may find them neither held nor dead.
        reclaim_begin(&cycles->reclaim, &cycles->trial, false);
        bool wish = reclaim_advance(&cycles->reclaim, &cycles->trial,
                                    &counting->domain, &counting->call, 0);
        ASSERT(!wish);
        (void)wish;
    }
    *clear_from = from;
    if (cycles->batch < CYCLES_BATCH_TIMED) {
        cycles->batch *= 2;
    }
    return end;
}

// One slice from beginning to end; false when there is no use in another.
static bool cycles_once(struct counting *counting, uint64_t deadline_ns) {
    struct cycles *cycles = &counting->cycles;
    struct mutator *mutator = init_mutator;
    if (cycles->trial.visited.capacity == 0 &&
        !cycles_make_room(&cycles->trial, CYCLES_ROOM)) {
        return false;
    }
    // What variables hold of deferred types is owned from outside.
    if (kinds_defers() && !zeroes_begin(counting)) {
        return false;
    }
    mutator_enter(mutator);
    size_t clear_from = SIZE_MAX;
    enum cycles_end end = cycles_slice(counting, deadline_ns, &clear_from);
    zeroes_end(counting);
    cycles_clear(counting, clear_from);
    counting_leave(counting);
    if (end == CYCLES_FULL) {
        return cycles_make_room(&cycles->trial,
                                cycles->trial.visited.capacity * 4);
    }
    counting_drain(counting, 0);
    return end != CYCLES_LATE;
}

static bool cycles_may_begin(const struct counting *counting) {
    return !counting_is_draining(counting) &&
           !reclaim_is_on(&counting->cycles.reclaim) &&
           init_is_free(init_mutator); // CY4
}

static void cycles_note(struct cycles *cycles, uint64_t began_ns) {
    cycles->slices++;
    uint64_t took_ns = clock_now_ns() - began_ns;
    if (took_ns > cycles->slice_ns_max) {
        cycles->slice_ns_max = took_ns;
    }
}

size_t cycles_collect(struct counting *counting, uint64_t budget_ns) {
    if (counting_is_draining(counting)) {
        return 0; // CY4
    }
    int error = error_save();
    struct cycles *cycles = &counting->cycles;
    uint64_t before = counting->domain.figures.destroyed;
    if (counting_is_called()) {
        (void)cycles_settle(counting); // no trial looks at the condemned
    }
    uint64_t began_ns = clock_now_ns();
    uint64_t deadline_ns =
        budget_ns == 0 ? 0 : began_ns + budget_ns / CYCLES_SHARE;
    size_t batch = cycles->batch;
    if (budget_ns == 0) {
        cycles->batch = CYCLES_BATCH_MAX;
    }
    cycles->share_ns = budget_ns / CYCLES_SHARE;
    cycles->began_ns = clock_thread_ns();
    // Also a ring whose destructor was left by a jump.
    counting_drain(counting, 0);
    while (counting->domain.suspects.count != 0 && cycles_may_begin(counting) &&
           cycles_once(counting, deadline_ns)) {
        if (budget_ns == 0 && counting_is_called()) {
            (void)cycles_settle(counting);
        }
    }
    if (budget_ns == 0) {
        cycles->batch = batch;
    } else {
        cycles_note(cycles, began_ns);
    }
    error_restore(error);
    return (size_t)(counting->domain.figures.destroyed - before);
}

// CY3.  The thread's clock is asked when that much time may have passed on it.
static bool cycles_is_time(struct cycles *cycles) {
    uint64_t now_ns = clock_now_ns();
    if (now_ns < cycles->due_ns) {
        return false;
    }
    uint64_t ran_ns = clock_thread_ns() - cycles->ended_ns;
    uint64_t owed_ns = cycles->vain_ns * CYCLES_VAIN;
    if (ran_ns < owed_ns) {
        cycles->due_ns = now_ns + (owed_ns - ran_ns);
        return false;
    }
    return true;
}

void cycles_attend(struct counting *counting) {
    struct cycles *cycles = &counting->cycles;
    if (cycles->on_demand || counting_is_draining(counting)) {
        return;
    }
    if (!cycles_is_time(cycles)) {
        return;
    }
    if (counting_is_called()) {
        (void)cycles_settle(counting);
    }
    uint64_t began_ns = clock_thread_ns();
    uint64_t visited = cycles->trial.visited_total;
    uint64_t freed = counting->domain.figures.in_rings;
    (void)cycles_collect(counting, cycles->slice_ns);
    visited = cycles->trial.visited_total - visited;
    freed = counting->domain.figures.in_rings - freed;
    bool in_vain = freed < visited / 16;
    cycles->ended_ns = clock_thread_ns();
    cycles->vain_ns = in_vain ? cycles->ended_ns - began_ns : 0;
    cycles->due_ns = clock_now_ns() + cycles->vain_ns * CYCLES_VAIN;
    if (in_vain && cycles->threshold < CYCLES_MOST) {
        cycles->threshold *= 2;
    } else if (!in_vain && cycles->threshold > CYCLES_THRESHOLD) {
        cycles->threshold /= 2;
    }
}

// --- What the tracer condemned -----------------------------------------------

static void cycles_count_thread(struct mutator *mutator, void *data) {
    *(size_t *)data += !mutator->leaving;
}

// Whether no other thread may count what nobody owns.  Under the lock.
static bool cycles_is_alone(void) {
    size_t threads = 0;
    world_each(cycles_count_thread, &threads);
    return threads == 1;
}

static bool cycles_ask_alone(void) {
    struct mutator *mutator = init_lock();
    if (mutator == NULL) {
        return false;
    }
    bool alone = cycles_is_alone();
    init_unlock(mutator);
    return alone;
}

// Takes what is the thread's of the condemned (rc/portion.h), in one set with
// what threads left that have ended, if it is alone (SH5 of api/sharing.h).
// Under the lock, so that none of them is seen alive by a stop; false when
// there is no room for all.
static bool cycles_take(struct counting *counting, size_t *count) {
    struct trial *trial = &counting->cycles.trial;
    struct trial_vector *visited = &trial->visited;
    struct portion portion = {
        .set = visited,
        .notes = trial->live.items,
        .owner = counting->domain.owner & ~COUNTED_OWNER_BIT,
        .alone = cycles_is_alone(),
    };
    *count = explain_take(portion.owner, portion.alone, NULL, 0);
    if (*count > visited->capacity) {
        return false;
    }
    if (*count == 0) {
        return true;
    }
    visited->count = explain_take(portion.owner, portion.alone, visited->items,
                                  visited->capacity);
    portion_take(&portion);
    if (visited->count != 0) {
        trial->has_code = true;
        reclaim_begin(&counting->cycles.reclaim, trial, true);
        (void)reclaim_advance(&counting->cycles.reclaim, trial,
                              &counting->domain, &counting->call, 0);
    }
    return true;
}

static bool cycles_take_all(struct counting *counting, size_t *count) {
    struct mutator *mutator = init_lock();
    *count = 0;
    if (mutator == NULL) {
        return true;
    }
    bool fits = cycles_take(counting, count);
    init_unlock(mutator);
    return fits;
}

static void cycles_settle_once(struct counting *counting) {
    // Before, since another cycle may come in between.
    counting->condemned =
        __atomic_load_n(&init_state.conductor.condemned, __ATOMIC_ACQUIRE);
    bonds_settle(&counting->domain, cycles_ask_alone());
    counting_drain(counting, 0);
    size_t count;
    while (!cycles_take_all(counting, &count)) {
        if (!cycles_make_room(&counting->cycles.trial, count + count / 8)) {
            break;
        }
    }
    counting_drain(counting, 0);
}

// Once more where a destructor collected.
size_t cycles_settle(struct counting *counting) {
    const struct count_figures *figures = &counting->domain.figures;
    uint64_t first = figures->destroyed, before;
    int error = error_save();
    do {
        before = figures->destroyed;
        if (cycles_may_begin(counting)) {
            cycles_settle_once(counting);
        }
    } while (figures->destroyed != before && counting_is_called());
    error_restore(error);
    return (size_t)(figures->destroyed - first);
}

void cycles_poll(void) {
    struct mutator *mutator = init_mutator;
    if (mutator->busy == MUTATOR_OUT && mutator->hot_end == NULL &&
        !mutator->in_hook) {
        (void)counting_drain(mutator->domain, 0);
        (void)cycles_settle(mutator->domain);
    }
}
