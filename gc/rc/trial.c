#include "rc/trial.h"

#include <string.h>

#include "base/check.h"
#include "heap/counted.h"
#include "rc/bond.h"
#include "rc/count.h"
#include "rc/kinds.h"

#define TRIAL_AHEAD 16 // edges between asking for a head and reading it
#define TRIAL_SOON  8  // the same, of objects that are to be looked through
#define TRIAL_DEAD  ((uint32_t)COUNTED_DEAD)
#define TRIAL_ALIVE COUNTED_SCRATCH_MASK // scratch of what is owned outside

// scratch 0: not visited; else one more than the owners from outside.  One that
// is explained, scratch 1, is DEAD until the trial knows better, unless it is
// WATCHED: somebody may ask a weak reference meanwhile (TR6).
static uint32_t trial_scratch(const void *object) {
    return counted_of(object)->info & COUNTED_SCRATCH_MASK;
}

static void trial_set(void *object, uint32_t scratch) {
    struct counted *head = counted_of(object);
    // Of a shared type when all of it is condemned: others ask for the type.
    __atomic_store_n(&head->info,
                     (head->info & ~COUNTED_SCRATCH_MASK) | scratch,
                     __ATOMIC_RELAXED);
}

// The same, of one that may be explained: it is not, or no longer.
static void trial_set_alive(void *object, uint32_t scratch) {
    counted_of(object)->word &= ~(uint32_t)COUNTED_DEAD;
    trial_set(object, scratch);
}

// An object is explained.
static inline void trial_explained(struct trial *trial, void *object) {
    struct counted *head = counted_of(object);
    bool is_watched = (head->word & COUNTED_WATCHED) != 0;
    trial->has_watched |= is_watched;
    head->word |= is_watched ? 0 : COUNTED_DEAD; // TR6
}

// Whether an object takes part in trials.  What is DEAD by itself has scratch
// 0, or a link, which is never 1.  What the tracer condemned is left to that
// (rc/portion.h).
static inline bool trial_is_plain(const void *object) {
    uint32_t word = counted_of(object)->word;
    if (UNLIKELY(word & COUNTED_DEAD)) {
        return trial_scratch(object) == 1;
    }
    return !(word & COUNTED_CONDEMNED) && kinds_is_plain(object, word) &&
           counted_type(object) != 0;
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
        trial_explained(trial, object);
        trial_set(object, 1);
        return;
    }
    trial->open_count++;
    trial_set(object,
              count >= TRIAL_ALIVE - 1 ? TRIAL_ALIVE : count - owners + 1);
}

static void trial_begin(struct trial *trial) {
    if (trial->phase == TRIAL_IDLE) {
        trial->phase = TRIAL_PROPOSE;
        trial->has_code = trial->has_watched = false;
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

// What an object owns goes to `edge`, which is pipe->edge, and is no call.
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
            trial_explained(trial, object);
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
    for (size_t i = 0; i < trial->live.count && done; i++) {
        void *object = trial->live.items[i];
        if (counted_of(object)->word & COUNTED_KEPT) {
            done = trial_push(&trial->visited, object);
        }
    }
    if (done) {
        trial->suspects.owed = trial->live.count = 0;
    }
    return done;
}

// Something is to be looked through next, or, if `sweeps`, there are suspects;
// false when nothing is, or there is no room.
static bool trial_find_next(struct trial *trial, struct trial_pipe *pipe,
                            bool sweeps) {
    while (trial->next == trial->visited.count) {
        if (trial->suspects.left != 0 && sweeps) {
            return true;
        }
        if (trial->suspects.left != 0) {
            pipe->full |= !trial_suspect_next(trial);
        } else if (!trial_pipe_wait(pipe, &trial->visited)) {
            pipe->full |=
                trial->suspects.owed != 0 && !trial_reach_named(trial);
            return trial->next != trial->visited.count && !pipe->full;
        }
        if (UNLIKELY(pipe->full)) {
            return false;
        }
    }
    return true;
}

// --- Propose, in the common case ---------------------------------------------

// What is not for the loop: others count it, the tracer has it, or something
// may hang on it (rc/bond.h).
#define TRIAL_UNFIT (COUNTED_OTHER | COUNTED_CONDEMNED | COUNTED_WATCHED)

// What the loop below keeps in registers.
struct trial_sweep {
    size_t left;       // suspects
    size_t open_count; // as of the trial, from here on; may wrap
    size_t owed;       // as well
    size_t turn;       // edges, ever
};

// Of a simple type, with a count that is not 0 and fits into a scratch count.
static ALWAYS_INLINE bool trial_is_simple(struct counted head) {
    const struct kinds_type *type =
        kinds_table[head.info >> COUNTED_TYPE_SHIFT];
    uint32_t count = (head.word & COUNTED_COUNT_MASK) / COUNTED_ONE;
    return type != NULL && type->is_simple && count - 1 < TRIAL_ALIVE - 2;
}

// An edge to a simple object that was visited, or waits for its turn; false,
// and nothing is done, if it leads to another.
static ALWAYS_INLINE bool
trial_sweep_edge(struct trial *trial, struct trial_sweep *sweep, void *object) {
    struct counted *at = counted_of(object), head = *at;
    uint32_t scratch = head.info & COUNTED_SCRATCH_MASK;
    const uint32_t slow = COUNTED_DEAD | COUNTED_WATCHED; // TR6
    if (scratch - 2 < TRIAL_ALIVE - 2 && !(head.word & slow)) {
        bool last = scratch == 2;
        sweep->open_count -= last;
        *at = (struct counted){head.word | last * TRIAL_DEAD, head.info - 1};
        return true;
    }
    const uint32_t asked = TRIAL_UNFIT | COUNTED_DEAD | COUNTED_KEPT;
    if (scratch != 0 || (head.word & asked) != COUNTED_KEPT ||
        !trial_is_simple(head) || !trial_push(&trial->live, object)) {
        return false;
    }
    uint32_t count = (head.word & COUNTED_COUNT_MASK) / COUNTED_ONE;
    sweep->owed++;
    sweep->open_count += count != 1;
    *at = (struct counted){head.word | (count == 1) * TRIAL_DEAD,
                           head.info + count};
    return true;
}

// Whether the next suspect, whose turn it is then, is a simple one.
static ALWAYS_INLINE bool trial_sweep_next(struct trial_sweep *sweep,
                                           void *object) {
    struct counted *at = counted_of(object), head = *at;
    uint32_t scratch = head.info & COUNTED_SCRATCH_MASK;
    if (UNLIKELY((head.word & TRIAL_UNFIT) ||
                 ((head.word & COUNTED_DEAD) && scratch != 1) ||
                 !trial_is_simple(head))) {
        return false;
    }
    uint32_t count = (head.word & COUNTED_COUNT_MASK) / COUNTED_ONE;
    sweep->owed -= scratch != 0;
    sweep->open_count += scratch == 0;
    *at =
        (struct counted){head.word & ~(uint32_t)(COUNTED_KEPT | COUNTED_QUIET),
                         head.info + (scratch == 0 ? count + 1 : 0)};
    return true;
}

// What the loop did is the trial's.
static void trial_sweep_note(struct trial *trial, struct trial_sweep *sweep) {
    size_t done = trial->suspects.left - sweep->left;
    trial->suspects.left = sweep->left;
    trial->suspects.owed += sweep->owed;
    trial->open_count += sweep->open_count;
    trial->visited.count += done;
    trial->next += done;
    sweep->owed = sweep->open_count = 0;
}

// An edge that is not for the loop, which ends after this object.
static NOINLINE void trial_sweep_other(struct trial *trial,
                                       struct trial_pipe *pipe,
                                       struct trial_sweep *sweep,
                                       void *object) {
    trial_sweep_note(trial, sweep);
    trial_pipe_in(pipe, trial_explain, object);
}

// Suspects of simple types, at most `limit`, while nothing else is to be looked
// through; edges that lead elsewhere go to `pipe`.  Returns how many.
static size_t trial_sweep(struct trial *trial, struct trial_pipe *pipe,
                          size_t limit) {
    const struct trial_vector *visited = &trial->visited;
    size_t room = visited->capacity - visited->count;
    size_t left = trial->suspects.left;
    room = room < limit ? room : limit;
    size_t end = left > room ? left - room : 0;
    struct trial_sweep sweep = {.left = left};
    void **items = trial->suspects.items,
         **to = visited->items + visited->count;
    void *ahead[TRIAL_AHEAD] = {NULL};
    for (bool simple = true; sweep.left != end && simple;) {
        void *object = items[sweep.left - 1];
        if (object == NULL || !trial_sweep_next(&sweep, object)) {
            break;
        }
        const struct kinds_type *type = kinds_of(object);
        sweep.left--;
        PREFETCH_WRITE(items[sweep.left > TRIAL_SOON ? sweep.left - TRIAL_SOON
                                                     : 0]); // may be NULL
        *to++ = object;
        const uint32_t *slots = type->slots, *last = slots + type->slot_count;
        for (; slots != last; slots++) {
            void *owned, **place = &ahead[sweep.turn % TRIAL_AHEAD];
            memcpy(&owned, (char *)object + *slots, sizeof owned);
            if (owned == NULL) {
                continue;
            }
            PREFETCH_WRITE(counted_of(owned));
            void *before = *place;
            *place = owned;
            sweep.turn++;
            if (before != NULL && !trial_sweep_edge(trial, &sweep, before)) {
                struct trial_sweep now = sweep;
                trial_sweep_other(trial, pipe, &now, before);
                sweep = now;
                simple = false;
            }
        }
    }
    trial_sweep_note(trial, &sweep);
    for (size_t i = 0; i < TRIAL_AHEAD; i++) {
        void *object = ahead[(sweep.turn + i) % TRIAL_AHEAD];
        if (object != NULL) {
            trial_pipe_in(pipe, trial_explain, object);
        }
    }
    return left - sweep.left;
}

static enum trial_answer trial_propose(struct trial *trial, size_t *left) {
    struct trial_pipe pipe = {.trial = trial, .edge = trial_explain};
    bool more = true, sweeps = true;
    while (*left != 0 && (more = trial_find_next(trial, &pipe, sweeps))) {
        if (trial->next == trial->visited.count) {
            size_t done = trial_sweep(trial, &pipe, *left);
            sweeps = done >= TRIAL_AHEAD; // else it is not worth its while
            *left -= done;
            continue;
        }
        trial_slots(&pipe, trial_explain, trial_next(trial, &trial->visited));
        --*left;
    }
    trial_pipe_drain(&pipe);
    if (pipe.full || more) {
        return pipe.full ? TRIAL_ROOM : TRIAL_MORE;
    }
    // Where nothing is owned from outside, all is decided.
    trial->phase = trial->open_count == 0 ? TRIAL_SPREAD : TRIAL_SEARCH;
    trial->next = trial->live.count = 0;
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
    if (trial->open_count == 0 && !trial->has_code && !trial->has_watched) {
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
