#include "rc/trial.h"

#include <string.h>

#include "base/check.h"
#include "heap/counted.h"
#include "rc/count.h"
#include "rc/kinds.h"

#define TRIAL_AHEAD 16 // edges between asking for a head and reading it
#define TRIAL_ALIVE COUNTED_SCRATCH_MASK // scratch of what is owned outside

// scratch 0: not visited; else one more than the owners from outside.
static uint32_t trial_scratch(const void *object) {
    return counted_of(object)->info & COUNTED_SCRATCH_MASK;
}

static void trial_set(void *object, uint32_t scratch) {
    struct counted *head = counted_of(object);
    head->info = (head->info & ~COUNTED_SCRATCH_MASK) | scratch;
}

// Whether an object takes part in trials.
static bool trial_is_plain(const void *object) {
    return kinds_is_plain(object, counted_of(object)->word) &&
           counted_type(object) != 0;
}

static bool trial_push(struct trial_vector *vector, void *object) {
    if (UNLIKELY(vector->count == vector->capacity)) {
        return false;
    }
    vector->items[vector->count++] = object;
    return true;
}

// A first visit.  What traced memory may hold without a count is alive, for all
// that counts tell: the tracer decides.
static bool trial_visit(struct trial *trial, void *object) {
    if (!trial_push(&trial->visited, object)) {
        return false;
    }
    const struct kinds_type *type = kinds_of(object);
    trial->has_code |= type->destroy != NULL || type->finalize != NULL;
    uint32_t count = count_get(object);
    if (type->flags & KINDS_TRACED) {
        count = TRIAL_ALIVE;
    }
    trial_set(object, count >= TRIAL_ALIVE - 1 ? TRIAL_ALIVE : count + 1);
    return true;
}

bool trial_add(struct trial *trial, void *object) {
    if (trial->phase == TRIAL_IDLE) {
        trial->phase = TRIAL_PROPOSE;
        trial->has_code = false;
        trial->is_closed = true;
    }
    return !trial_is_plain(object) || trial_scratch(object) != 0 ||
           trial_visit(trial, object);
}

// --- Edges, sixteen behind ---------------------------------------------------

typedef bool trial_edge(struct trial *trial, void *object);

// What slots were seen to own, and is looked at when its head has come.
struct trial_pipe {
    struct trial *trial;
    trial_edge *edge;
    size_t in, out; // numbers of edges, ever
    bool full;      // no room: the edges after that are dropped
    void *items[TRIAL_AHEAD];
};

static void trial_pipe_out(struct trial_pipe *pipe) {
    void *object = pipe->items[pipe->out++ % TRIAL_AHEAD];
    if (trial_is_plain(object)) {
        pipe->full |= !pipe->edge(pipe->trial, object);
    } else {
        pipe->trial->is_closed = false;
    }
}

static inline void trial_pipe_in(struct trial_pipe *pipe, void *object) {
    PREFETCH_WRITE(counted_of(object));
    if (pipe->in - pipe->out == TRIAL_AHEAD) {
        trial_pipe_out(pipe);
    }
    pipe->items[pipe->in++ % TRIAL_AHEAD] = object;
}

static void trial_slot(void *slot, void *data) {
    void *object;
    memcpy(&object, slot, sizeof object);
    if (object != NULL) {
        trial_pipe_in(data, object);
    }
}

static void trial_slots(struct trial_pipe *pipe, void *object) {
    const struct kinds_type *type = kinds_of(object);
    for (uint32_t i = 0; i < type->slot_count; i++) {
        trial_slot((char *)object + type->slots[i], pipe);
    }
    if (type->visit != NULL) {
        type->visit(object, trial_slot, pipe);
    }
}

static void trial_pipe_drain(struct trial_pipe *pipe) {
    while (pipe->out != pipe->in) {
        trial_pipe_out(pipe);
    }
}

// --- Propose -----------------------------------------------------------------

// An owner is explained.
static bool trial_explain(struct trial *trial, void *object) {
    uint32_t scratch = trial_scratch(object);
    if (scratch == 0) {
        if (!trial_visit(trial, object)) {
            return false;
        }
        scratch = trial_scratch(object);
    }
    if (scratch == TRIAL_ALIVE) {
        return true;
    }
    if (UNLIKELY(scratch == 1)) { // TR5
        trial->faulty = object;
        scratch = TRIAL_ALIVE + 1;
    }
    trial_set(object, scratch - 1);
    return true;
}

static enum trial_answer trial_propose(struct trial *trial, size_t *left) {
    struct trial_pipe pipe = {.trial = trial, .edge = trial_explain};
    while (*left != 0) {
        if (trial->next == trial->visited.count) {
            trial_pipe_drain(&pipe);
            if (trial->next == trial->visited.count) {
                break;
            }
        }
        trial_slots(&pipe, trial->visited.items[trial->next++]);
        --*left;
    }
    trial_pipe_drain(&pipe);
    if (pipe.full) {
        return TRIAL_ROOM;
    }
    if (trial->next != trial->visited.count) {
        return TRIAL_MORE;
    }
    trial->phase = TRIAL_SEARCH;
    trial->next = 0;
    return TRIAL_DONE;
}

// --- Decide ------------------------------------------------------------------

static bool trial_revive(struct trial *trial, void *object) {
    uint32_t scratch = trial_scratch(object);
    if (scratch == 0 || scratch == TRIAL_ALIVE) {
        return true;
    }
    trial_set(object, TRIAL_ALIVE);
    return trial_push(&trial->live, object);
}

// What is owned from outside.
static enum trial_answer trial_search(struct trial *trial, size_t *left) {
    size_t end = trial->next + *left * 4; // it is quick
    end = end > trial->visited.count ? trial->visited.count : end;
    for (size_t i = trial->next; i < end; i++) {
        void *object = trial->visited.items[i];
        if (trial_scratch(object) > 1) {
            trial_set(object, TRIAL_ALIVE);
            trial_push(&trial->live, object);
        }
    }
    trial->next = end;
    if (end != trial->visited.count) {
        return TRIAL_MORE;
    }
    trial->phase = TRIAL_SPREAD;
    trial->next = 0;
    return TRIAL_DONE;
}

// And what that owns.
static enum trial_answer trial_spread(struct trial *trial, size_t *left) {
    struct trial_pipe pipe = {.trial = trial, .edge = trial_revive};
    while (*left != 0) {
        if (trial->next == trial->live.count) {
            trial_pipe_drain(&pipe);
            if (trial->next == trial->live.count) {
                break;
            }
        }
        trial_slots(&pipe, trial->live.items[trial->next++]);
        --*left;
    }
    trial_pipe_drain(&pipe);
    ASSERT(!pipe.full); // each object once, and the vectors have equal room
    return trial->next == trial->live.count ? TRIAL_DONE : TRIAL_MORE;
}

enum trial_answer trial_step(struct trial *trial, size_t limit) {
    size_t left = limit;
    enum trial_answer answer = TRIAL_DONE;
    if (trial->phase == TRIAL_PROPOSE) {
        answer = trial_propose(trial, &left);
    }
    if (answer == TRIAL_DONE && trial->phase == TRIAL_SEARCH) {
        answer = trial_search(trial, &left);
    }
    if (answer == TRIAL_DONE && trial->phase == TRIAL_SPREAD) {
        answer = trial_spread(trial, &left);
    }
    return answer;
}

// --- The end -----------------------------------------------------------------

static void trial_end(struct trial *trial) {
    trial->visited_total += trial->visited.count;
    trial->phase = TRIAL_IDLE;
    trial->next = 0;
    trial->live.count = 0;
}

void trial_abort(struct trial *trial) {
    for (size_t i = 0; i < trial->visited.count; i++) {
        trial_set(trial->visited.items[i], 0); // TR2
    }
    trial_end(trial);
    trial->visited.count = 0;
}

size_t trial_take(struct trial *trial) {
    void **items = trial->visited.items;
    size_t kept = 0;
    uint32_t dead = trial->has_code ? 0 : COUNTED_DEAD;
    for (size_t i = 0; i < trial->visited.count; i++) {
        struct counted *head = counted_of(items[i]);
        bool is_garbage = (head->info & COUNTED_SCRATCH_MASK) == 1;
        head->info &= ~COUNTED_SCRATCH_MASK; // TR2
        head->word |= is_garbage ? dead : 0;
        items[kept] = items[i];
        kept += is_garbage;
    }
    trial->is_closed &= kept == trial->visited.count;
    trial_end(trial);
    trial->visited.count = kept;
    return kept;
}

// --- Once more ---------------------------------------------------------------

static bool trial_explain_again(struct trial *trial, void *object) {
    (void)trial;
    uint32_t scratch = trial_scratch(object);
    if (scratch > 1 && scratch != TRIAL_ALIVE) {
        trial_set(object, scratch - 1);
    }
    return true;
}

void trial_review(struct trial *trial) {
    struct trial_vector *visited = &trial->visited;
    for (size_t i = 0; i < visited->count; i++) {
        uint32_t count = count_get(visited->items[i]) - 1;
        // Of one that is stuck the count says nothing.
        bool is_stuck = count >= COUNTED_STUCK / COUNTED_ONE;
        trial_set(visited->items[i], is_stuck                   ? 1
                                     : count >= TRIAL_ALIVE - 1 ? TRIAL_ALIVE
                                                                : count + 1);
    }
    struct trial_pipe pipe = {.trial = trial, .edge = trial_explain_again};
    for (size_t i = 0; i < visited->count; i++) {
        trial_slots(&pipe, visited->items[i]);
    }
    trial_pipe_drain(&pipe);
    size_t left = SIZE_MAX / 8;
    trial->live.count = 0;
    trial->next = 0;
    (void)trial_search(trial, &left);
    (void)trial_spread(trial, &left);
    size_t kept = 0;
    for (size_t i = 0; i < visited->count; i++) {
        void *object = visited->items[i];
        bool is_garbage = trial_scratch(object) == 1;
        trial_set(object, 0); // TR2
        visited->items[kept] = object;
        kept += is_garbage;
    }
    visited->count = kept;
    trial->phase = TRIAL_IDLE;
    trial->next = 0;
}
