#include "api/counting.h"

#include <string.h>

#include "api/bonds.h"
#include "api/cycles.h"
#include "api/object.h"
#include "api/sharing.h"
#include "api/zeroes.h"
#include "heap/block.h"
#include "heap/meta.h"
#include "os/error.h"
#include "rc/gather.h"
#include "roots/mutator.h"
#include "roots/world.h"

#define COUNTING_BATCH     ((size_t)(LOAM_TINY ? 2 : 4096)) // to the next look
#define COUNTING_ROOM      ((size_t)(LOAM_TINY ? 4 : 512)) // a buffer, at first
#define COUNTING_NAMES_MAX ((size_t)1 << 24)

// --- Memory ----------------------------------------------------------------

// Twice the room; the old piece goes back.  Under the lock.
static bool counting_enlarge(void ***items, size_t count, size_t *capacity) {
    size_t room = *capacity == 0 ? COUNTING_ROOM : 2 * *capacity;
    void **larger = meta_make(room * sizeof **items);
    if (larger == NULL) {
        return false;
    }
    if (*capacity != 0) {
        memcpy(larger, *items, count * sizeof **items);
        meta_free(*items, *capacity * sizeof **items);
    }
    *items = larger;
    *capacity = room;
    return true;
}

bool counting_grow(struct count_buffer *buffer) {
    buffer->wants_room = false;
    return buffer->capacity < COUNTING_NAMES_MAX &&
           counting_enlarge(&buffer->items, buffer->count, &buffer->capacity);
}

void counting_free_pool(struct counting_pool *pool) {
    if (pool->capacity != 0) {
        meta_free(pool->items, pool->capacity * sizeof *pool->items);
    }
}

bool counting_grow_pool(struct counting_pool *pool) {
    struct mutator *mutator = init_lock();
    if (mutator == NULL) {
        return false;
    }
    bool grown = counting_enlarge(&pool->items, pool->count, &pool->capacity);
    init_unlock(mutator);
    return grown;
}

// What was too small is made larger, when nothing is under way.
static void counting_grow_buffer(struct count_buffer *buffer) {
    buffer->wants_room = false;
    struct mutator *mutator = init_lock();
    if (mutator != NULL) {
        (void)counting_grow(buffer);
        init_unlock(mutator);
    }
}

// --- What the wing below asks for ------------------------------------------

static struct cache *counting_find_cache(void *mutator, uint32_t block) {
    return object_cache_at_hand(mutator, block);
}

static void counting_free_slowly(void *mutator, void *object) {
    object_free_dead(mutator, object);
}

static void counting_release_empty(void *mutator, uint32_t block) {
    int error = error_save();
    object_release_empty(mutator, block);
    error_restore(error); // CU3
}

static const struct gather_doors counting_doors = {
    counting_find_cache, counting_free_slowly, counting_release_empty};

static void counting_grow_buffers(struct counting *counting) {
    if (UNLIKELY(counting->domain.suspects.wants_room)) {
        counting_grow_buffer(&counting->domain.suspects);
    }
    if (UNLIKELY(counting->domain.zeroes.wants_room)) {
        counting_grow_buffer(&counting->domain.zeroes);
    }
}

static COLD struct counting *counting_make(struct mutator *mutator) {
    if (init_lock() == NULL) {
        return NULL;
    }
    struct counting *counting = meta_make(sizeof *counting);
    if (counting != NULL) {
        count_init(&counting->domain, mutator->id);
        counting->domain.gather.mutator = mutator;
        counting->domain.gather.doors = &counting_doors;
        counting->domain.step = init_state.options.release_step;
        (void)counting_grow(&counting->domain.suspects);
        (void)counting_grow(&counting->domain.tells);
        counting->deferred.threshold = ZEROES_COUNT;
        cycles_init(&counting->cycles);
        mutator->domain = counting;
    }
    init_unlock(mutator);
    return counting;
}

struct counting *counting_here(void) {
    struct mutator *mutator = init_ready();
    if (mutator == NULL) {
        return NULL;
    }
    return LIKELY(mutator->domain != NULL) ? mutator->domain
                                           : counting_make(mutator);
}

// Whether other threads are to be told of something, or have told this one.
static inline bool counting_is_told(const struct counting *counting) {
    return init_counts() != NULL && sharing_is_due(counting);
}

// --- The drain ---------------------------------------------------------------

static NO_SANITIZE bool counting_is_nested(const struct counting *counting,
                                           const uint64_t *here) {
    return counting->domain.draining && here < counting->frame &&
           *(const volatile uint64_t *)counting->frame == counting->nonce;
}

// Under the lock, in a stop: others may have got at what was finalized.
static void counting_review(struct mutator *mutator, void *data) {
    struct counting *counting = data;
    struct cycles *cycles = &counting->cycles;
    struct world_stop_report stop = {0};
    bool is_still = world_stop(mutator, &stop);
    reclaim_review(&cycles->reclaim, &cycles->trial, &counting->domain,
                   is_still);
    if (is_still) {
        world_resume();
    }
}

// Calls what the wing wished for; the program's code, outside.
static void counting_call(struct counting *counting) {
    const struct count_call *call = &counting->call;
    if (call->wish == COUNT_FINALIZE) {
        bonds_finalize(&counting->domain, call);
    } else if (call->wish == COUNT_DESTROY) {
        bonds_destroy(&counting->domain, call->object, call->type);
    } else if (call->wish == COUNT_REVIEW) {
        struct cycles *cycles = &counting->cycles;
        if (!init_locked(counting_review, counting)) {
            reclaim_review(&cycles->reclaim, &cycles->trial, &counting->domain,
                           false);
        }
    }
}

// One step: the list of the dead first, then a ring.  INSIDE.
static bool counting_step(struct counting *counting, size_t limit) {
    struct cycles *cycles = &counting->cycles;
    struct count_call *call = &counting->call;
    bool more = false;
    if (!counting->is_reclaiming) {
        more = count_advance(&counting->domain, call, limit);
    }
    if (!more && reclaim_is_on(&cycles->reclaim)) {
        more = reclaim_advance(&cycles->reclaim, &cycles->trial,
                               &counting->domain, call, limit);
        counting->is_reclaiming = more;
    }
    return more;
}

// Steps until something is to be done outside.
static bool counting_advance(struct mutator *mutator, struct counting *counting,
                             size_t limit) {
    mutator_enter(mutator);
    bool more = counting_step(counting, limit);
    gather_settle(&counting->domain.gather);
    init_leave(mutator);
    return more;
}

bool counting_owes(const struct counting *counting) {
    const struct count_domain *domain = &counting->domain;
    return domain->dead != 0 || counting->call.wish != COUNT_NOTHING ||
           reclaim_is_on(&counting->cycles.reclaim);
}

// As many at once that there is likely room for what they make suspect.
static size_t counting_batch(const struct count_domain *domain) {
    size_t room = domain->suspects.capacity - domain->suspects.count;
    return room / 4 + 1 < COUNTING_BATCH ? room / 4 + 1 : COUNTING_BATCH;
}

static NOINLINE void counting_run(struct counting *counting, size_t limit,
                                  uint64_t *here) {
    struct mutator *mutator = init_mutator;
    struct count_domain *domain = &counting->domain;
    uint64_t until = domain->figures.destroyed + limit;
    counting->frame = here;
    counting->nonce = (counting->nonce + 1) * 0x9E3779B97F4A7C15u;
    __atomic_store_n(here, counting->nonce, __ATOMIC_RELAXED);
    domain->draining = true;
    for (;;) {
        uint64_t left = until - domain->figures.destroyed;
        bool is_done = domain->figures.destroyed >= until;
        counting_grow_buffers(counting);
        size_t most = counting_batch(domain);
        size_t batch = is_done ? 0 : left < most ? left : most;
        if (!counting_advance(mutator, counting, batch)) {
            if (is_done || !counting_owes(counting)) {
                break;
            }
            continue;
        }
        counting_call(counting); // CU1
        if (counting_is_told(counting)) {
            init_counts()->exchange(counting);
        }
    }
    domain->draining = false;
    __atomic_store_n(here, 0, __ATOMIC_RELAXED);
}

bool counting_is_draining(const struct counting *counting) {
    uint64_t here = 0;
    return counting_is_nested(counting, &here);
}

void counting_leave(struct counting *counting) {
    gather_settle(&counting->domain.gather);
    init_leave(init_mutator);
}

// No code of the program runs: no frame is noted, and what is nested is for the
// slow way.
void counting_drop(struct counting *counting, void *object,
                   const struct kinds_type *type) {
    struct mutator *mutator = init_mutator;
    mutator_enter(mutator);
    if (!count_drop_alone(&counting->domain, object, type)) {
        count_drop(&counting->domain, object, type, COUNTING_BATCH);
    }
    gather_settle(&counting->domain.gather);
    init_leave(mutator);
}

size_t counting_drain(struct counting *counting, size_t limit) {
    uint64_t here = 0;
    struct mutator *mutator = init_mutator;
    if (!init_is_free(mutator)) {
        return 0;
    }
    if (counting_is_nested(counting, &here)) {
        counting_grow_buffers(counting);
        return 0; // CU2
    }
    uint64_t before = counting->domain.figures.destroyed;
    if (counting_owes(counting) || counting_is_told(counting)) {
        int error = error_save();
        do {
            if (counting_is_told(counting)) {
                init_counts()->exchange(counting);
            }
            counting_run(counting, limit == 0 ? SIZE_MAX / 2 : limit, &here);
        } while (counting_is_told(counting));
        error_restore(error); // CU3
    }
    counting_grow_buffers(counting);
    return (size_t)(counting->domain.figures.destroyed - before);
}
