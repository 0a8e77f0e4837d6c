#include "rc/trial.h"

#include <string.h>

#include "base/check.h"
#include "heap/counted.h"
#include "rc/bond.h"
#include "rc/count.h"
#include "rc/kinds.h"

#define TRIAL_AHEAD 16 // edges between asking for a head and reading it
#define TRIAL_SOON  8  // the same, of objects that are to be looked through
#define TRIAL_ALIVE COUNTED_SCRATCH_MASK // scratch of what is owned outside

// scratch 0: not visited; else one more than the owners from outside.  One that
// is explained, scratch 1, is DEAD until the trial knows better.
static uint32_t trial_scratch(const void *object) {
    return counted_of(object)->info & COUNTED_SCRATCH_MASK;
}

static void trial_set(void *object, uint32_t scratch) {
    struct counted *head = counted_of(object);
    head->info = (head->info & ~COUNTED_SCRATCH_MASK) | scratch;
}

// The same, of one that may be explained: it is not, or no longer.
static void trial_set_alive(void *object, uint32_t scratch) {
    counted_of(object)->word &= ~(uint32_t)COUNTED_DEAD;
    trial_set(object, scratch);
}

static void trial_set_explained(void *object) {
    counted_of(object)->word |= COUNTED_DEAD;
    trial_set(object, 1);
}

// Whether an object takes part in trials.  What is DEAD by itself has scratch
// 0, or a link, which is never 1.
static inline bool trial_is_plain(const void *object) {
    uint32_t word = counted_of(object)->word;
    if (UNLIKELY(word & COUNTED_DEAD)) {
        return trial_scratch(object) == 1;
    }
    return kinds_is_plain(object, word) && counted_type(object) != 0;
}

static bool trial_push(struct trial_vector *vector, void *object) {
    if (UNLIKELY(vector->count == vector->capacity)) {
        return false;
    }
    vector->items[vector->count++] = object;
    return true;
}

// A first visit, by one who explains `owners` of its owners.  What traced
// memory may hold without a count is alive, for all that counts tell: the
// tracer decides.
static inline void trial_visit(struct trial *trial, void *object,
                               uint32_t owners) {
    const struct kinds_type *type = kinds_of(object);
    uint32_t count = count_get(object);
    if (UNLIKELY(!type->is_simple)) {
        trial->has_code |= type->destroy != NULL || type->finalize != NULL;
        count = type->flags & KINDS_TRACED ? TRIAL_ALIVE : count;
    }
    trial->has_code |= bond_may_hang(object, type);
    if (UNLIKELY(count < owners)) { // TR5
        trial->faulty = object;
        count = TRIAL_ALIVE;
    }
    if (count == owners) {
        trial_set_explained(object);
        return;
    }
    trial->open_count++;
    trial_set(object,
              count >= TRIAL_ALIVE - 1 ? TRIAL_ALIVE : count - owners + 1);
}

static void trial_begin(struct trial *trial) {
    if (trial->phase == TRIAL_IDLE) {
        trial->phase = TRIAL_PROPOSE;
        trial->has_code = false;
        trial->is_closed = true;
        trial->open_count = 0;
        trial->live.count = 0;
        trial->suspects = (struct trial_suspects){NULL, 0, 0, 0, 0};
    }
}

bool trial_add(struct trial *trial, void *object) {
    trial_begin(trial);
    if (!trial_is_plain(object) || trial_scratch(object) != 0) {
        return true;
    }
    if (!trial_push(&trial->visited, object)) {
        return false;
    }
    trial_visit(trial, object, 0);
    return true;
}

void trial_suspect(struct trial *trial, void **items, size_t count) {
    trial_begin(trial);
    ASSERT(trial->suspects.items == NULL);
    trial->suspects = (struct trial_suspects){items, count, count, count, 0};
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

static ALWAYS_INLINE void trial_pipe_out(struct trial_pipe *pipe,
                                         trial_edge *edge) {
    void *object = pipe->items[pipe->out++ % TRIAL_AHEAD];
    if (LIKELY(trial_is_plain(object))) {
        pipe->full |= !edge(pipe->trial, object);
    } else {
        pipe->trial->is_closed = false;
    }
}

static ALWAYS_INLINE void trial_pipe_in(struct trial_pipe *pipe,
                                        trial_edge *edge, void *object) {
    PREFETCH_WRITE(counted_of(object));
    if (LIKELY(pipe->in - pipe->out == TRIAL_AHEAD)) {
        trial_pipe_out(pipe, edge);
    }
    pipe->items[pipe->in++ % TRIAL_AHEAD] = object;
}

// For a type's visitor.
static void trial_slot(void *slot, void *data) {
    struct trial_pipe *pipe = data;
    void *object;
    memcpy(&object, slot, sizeof object);
    if (object != NULL) {
        trial_pipe_in(pipe, pipe->edge, object);
    }
}

static void trial_value(void *value, void *data) {
    struct trial_pipe *pipe = data;
    trial_pipe_in(pipe, pipe->edge, value);
}

// What an object owns goes to `edge`, which is pipe->edge: known where this is
// compiled, it is no call.
static ALWAYS_INLINE void trial_slots(struct trial_pipe *pipe, trial_edge *edge,
                                      void *object) {
    const struct kinds_type *type = kinds_of(object);
    const uint32_t *slots = type->slots, *end = slots + type->slot_count;
    for (; slots != end; slots++) {
        void *owned;
        memcpy(&owned, (char *)object + *slots, sizeof owned);
        if (owned != NULL) {
            trial_pipe_in(pipe, edge, owned);
        }
    }
    if (UNLIKELY(type->visit != NULL)) {
        type->visit(object, trial_slot, pipe);
    }
    if (bond_may_hang(object, type)) { // what maps have under it
        bond_each_value(object, trial_value, pipe);
    }
}

static void trial_pipe_drain(struct trial_pipe *pipe) {
    while (pipe->out != pipe->in) {
        trial_pipe_out(pipe, pipe->edge);
    }
}

// Edges until one has led to something that is to be looked through; false, and
// none is left, if none has.
static bool trial_pipe_wait(struct trial_pipe *pipe,
                            const struct trial_vector *vector) {
    while (pipe->trial->next == vector->count) {
        if (pipe->out == pipe->in) {
            return false;
        }
        trial_pipe_out(pipe, pipe->edge);
    }
    return true;
}

// The next object that is to be looked through, later ones asked for.
static inline void *trial_next(struct trial *trial,
                               const struct trial_vector *vector) {
    if (trial->next + TRIAL_SOON < vector->count) {
        PREFETCH(vector->items[trial->next + TRIAL_SOON]);
    }
    return vector->items[trial->next++];
}

// --- Propose -----------------------------------------------------------------

// The first edge to an object.  One that is named somewhere, and is likely to
// be a suspect whose turn comes, is looked through then, in the order of the
// buffer; `live` remembers it until all suspects have had theirs.
static bool trial_reach(struct trial *trial, void *object) {
    bool waits = (counted_of(object)->word & COUNTED_KEPT) != 0 &&
                 trial->suspects.left != 0;
    if (!trial_push(waits ? &trial->live : &trial->visited, object)) {
        return false;
    }
    trial->suspects.owed += waits;
    trial_visit(trial, object, 1);
    return true;
}

// An owner is explained.
static inline bool trial_explain(struct trial *trial, void *object) {
    uint32_t scratch = trial_scratch(object);
    if (scratch == 0) {
        return trial_reach(trial, object);
    }
    if (LIKELY(scratch - 2 < TRIAL_ALIVE - 2)) {
        counted_of(object)->info--;
        if (scratch == 2) {
            trial->open_count--;
            counted_of(object)->word |= COUNTED_DEAD;
        }
    } else if (scratch == 1) { // TR5
        trial->faulty = object;
        trial->open_count++;
        trial_set_alive(object, TRIAL_ALIVE);
    }
    return true;
}

// The next suspect goes to the objects visited, unless it takes no part.  False
// when there is no room.
static inline bool trial_suspect_next(struct trial *trial) {
    struct trial_suspects *suspects = &trial->suspects;
    size_t at = suspects->left - 1;
    void *object = suspects->items[at];
    if (LIKELY(at >= TRIAL_SOON)) {
        PREFETCH_WRITE(suspects->items[at - TRIAL_SOON]); // may be NULL
    }
    if (UNLIKELY(object == NULL || !trial_is_plain(object))) {
        suspects->items[at] = suspects->items[--suspects->rest];
        suspects->items[suspects->rest] = object;
        suspects->left = at;
        return true;
    }
    if (!trial_push(&trial->visited, object)) {
        return false;
    }
    suspects->left = at;
    counted_of(object)->word &= ~(uint32_t)(COUNTED_KEPT | COUNTED_QUIET);
    if (trial_scratch(object) == 0) {
        trial_visit(trial, object, 0);
    } else {
        suspects->owed--;
    }
    return true;
}

// What was reached, and turned out to be no suspect of this trial, though it is
// named somewhere.
static bool trial_reach_named(struct trial *trial) {
    bool done = true;
    size_t count = trial->suspects.owed != 0 ? trial->live.count : 0;
    for (size_t i = 0; i < count && done; i++) {
        void *object = trial->live.items[i];
        if (counted_of(object)->word & COUNTED_KEPT) {
            done = trial_push(&trial->visited, object);
        }
    }
    return done;
}

// Something is to be looked through next; false when nothing is, or there is no
// room.
static bool trial_find_next(struct trial *trial, struct trial_pipe *pipe) {
    while (trial->next == trial->visited.count) {
        if (trial->suspects.left != 0) {
            pipe->full |= !trial_suspect_next(trial);
        } else if (!trial_pipe_wait(pipe, &trial->visited)) {
            pipe->full |= !trial_reach_named(trial);
            if (!pipe->full) {
                trial->live.count = 0;
                trial->suspects.owed = 0;
            }
            return trial->next != trial->visited.count && !pipe->full;
        }
        if (UNLIKELY(pipe->full)) {
            return false;
        }
    }
    return true;
}

static enum trial_answer trial_propose(struct trial *trial, size_t *left) {
    struct trial_pipe pipe = {.trial = trial, .edge = trial_explain};
    bool more = true;
    while (*left != 0 && (more = trial_find_next(trial, &pipe))) {
        trial_slots(&pipe, trial_explain, trial_next(trial, &trial->visited));
        --*left;
    }
    trial_pipe_drain(&pipe);
    if (pipe.full) {
        return TRIAL_ROOM;
    }
    if (more) {
        return TRIAL_MORE;
    }
    // Where nothing is owned from outside, all is decided.
    trial->phase = trial->open_count == 0 ? TRIAL_SPREAD : TRIAL_SEARCH;
    trial->next = 0;
    return TRIAL_DONE;
}

// --- Decide ------------------------------------------------------------------

static inline bool trial_revive(struct trial *trial, void *object) {
    uint32_t scratch = trial_scratch(object);
    if (scratch == 0 || scratch == TRIAL_ALIVE) {
        return true;
    }
    trial_set_alive(object, TRIAL_ALIVE);
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
    while (*left != 0 && trial_pipe_wait(&pipe, &trial->live)) {
        trial_slots(&pipe, trial_revive, trial_next(trial, &trial->live));
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
    trial->suspects.items = NULL;
    trial->next = 0;
    trial->live.count = 0;
}

// Nothing that takes part in a trial was DEAD before.
static void trial_forget(const struct trial_vector *vector) {
    for (size_t i = 0; i < vector->count; i++) {
        trial_set_alive(vector->items[i], 0); // TR2
    }
}

void trial_abort(struct trial *trial) {
    trial_forget(&trial->visited);
    if (trial->phase == TRIAL_PROPOSE) {
        trial_forget(&trial->live);
    }
    struct trial_suspects *suspects = &trial->suspects;
    for (size_t i = suspects->left; i < suspects->rest; i++) {
        counted_of(suspects->items[i])->word |= COUNTED_KEPT | COUNTED_QUIET;
    }
    trial_end(trial);
    trial->visited.count = 0;
}

size_t trial_take(struct trial *trial) {
    void **items = trial->visited.items;
    size_t count = trial->visited.count, kept = 0;
    if (trial->open_count == 0 && !trial->has_code) {
        trial_end(trial);
        return count;
    }
    uint32_t dead = trial->has_code ? 0 : COUNTED_DEAD;
    for (size_t i = 0; i < count; i++) {
        struct counted *head = counted_of(items[i]);
        bool is_garbage = (head->info & COUNTED_SCRATCH_MASK) == 1;
        head->info &= ~COUNTED_SCRATCH_MASK; // TR2
        head->word &= ~(uint32_t)COUNTED_DEAD;
        head->word |= is_garbage ? dead : 0;
        items[kept] = items[i];
        kept += is_garbage;
    }
    trial->is_closed &= kept == count;
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
        trial_slots(&pipe, trial_explain_again, visited->items[i]);
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
