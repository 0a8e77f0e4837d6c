// rc — the functions of loam/rc.h that are not inline.
//
// Design, alternatives and measurements: docs/design/api/counting.md

#include "loam/rc.h"

#include <string.h>

#include "api/counting.h"
#include "api/cycles.h"
#include "api/init.h"
#include "api/inquest.h"
#include "api/object.h"
#include "api/report.h"
#include "api/sharing.h"
#include "api/zeroes.h"
#include "heap/block.h"
#include "heap/blockmap.h"
#include "heap/counted.h"
#include "heap/handle.h"
#include "os/error.h"
#include "rc/bias.h"
#include "rc/count.h"
#include "rc/kinds.h"
#include "roots/mutator.h"

_Static_assert(LOAM_HEAD_ONE == COUNTED_ONE, "one head");
_Static_assert(LOAM_HEAD_QUIET == COUNTED_QUIET, "one head");
_Static_assert(LOAM_HEAD_OTHER == COUNTED_OTHER, "one head");
_Static_assert((int)LOAM_TYPE_ACYCLIC == (int)KINDS_ACYCLIC,
               "one set of flags");
_Static_assert((int)LOAM_TYPE_LEAF == (int)KINDS_LEAF, "one set of flags");
_Static_assert((int)LOAM_TYPE_DEFERRED == (int)KINDS_DEFERRED,
               "one set of flags");
_Static_assert((int)LOAM_TYPE_SHARED == (int)KINDS_SHARED, "one set of flags");
_Static_assert((int)LOAM_TYPE_ATOMIC == (int)KINDS_ATOMIC, "one set of flags");
_Static_assert((int)LOAM_TYPE_TRACED == (int)KINDS_TRACED, "one set of flags");
_Static_assert((int)LOAM_TYPE_QUARANTINE == (int)KINDS_QUARANTINE,
               "one set of flags");

// --- Types and objects -----------------------------------------------------

static const struct init_counts rc_counts = {sharing_exchange, sharing_end,
                                             sharing_bury, sharing_forked};

static const struct kinds_type *rc_add_type(struct loam_type *type) {
    struct kinds_type own = {.name = type->name,
                             .bytes = type->bytes,
                             .slots = type->slots,
                             .slot_count = type->slot_count,
                             .flags = type->flags,
                             .visit = type->visit,
                             .destroy = type->destroy,
                             .finalize = type->finalize,
                             .origin = type};
    const char *fault = kinds_fault(&own);
    if (fault != NULL) {
        report_type(type->name, fault);
        error_set_invalid();
        return NULL;
    }
    struct mutator *mutator = init_lock();
    if (mutator == NULL) {
        error_set_no_memory();
        return NULL;
    }
    // Another thread may have been faster.
    uint32_t id = type->id;
    const struct kinds_type *added =
        id <= COUNTED_TYPE_MAX ? kinds_get(id) : NULL;
    if (added == NULL || added->origin != type) {
        inquest_type(&own);
        added = kinds_add(&own);
        __atomic_store_n(&init_state.counts, &rc_counts, __ATOMIC_RELEASE);
        if (added != NULL) {
            __atomic_store_n(&type->id, added->id, __ATOMIC_RELEASE);
        }
    }
    init_unlock(mutator);
    if (added == NULL) {
        error_set_no_memory();
    }
    return added;
}

// A copy of a description that was used bears its id: it is another type.
static inline const struct kinds_type *rc_type(struct loam_type *type) {
    if (UNLIKELY(type == NULL)) {
        report_type(NULL, "NULL is no type");
        error_set_invalid();
        return NULL;
    }
    uint32_t id = __atomic_load_n(&type->id, __ATOMIC_ACQUIRE);
    const struct kinds_type *known =
        LIKELY(id <= COUNTED_TYPE_MAX) ? kinds_get(id) : NULL;
    if (UNLIKELY(known == NULL || known->origin != type)) {
        return rc_add_type(type);
    }
    return known;
}

static void *rc_make(struct loam_type *description, size_t extra_bytes,
                     const void *caller) {
    const struct kinds_type *type = rc_type(description);
    struct counting *counting = counting_now();
    if (UNLIKELY(type == NULL || counting == NULL)) {
        if (type != NULL) {
            error_set_no_memory();
        }
        return NULL;
    }
    if (UNLIKELY(extra_bytes > PTRDIFF_MAX / 2)) {
        error_set_no_memory();
        return NULL;
    }
    if (UNLIKELY(counting->domain.dead != 0) || sharing_is_due(counting)) {
        counting_drain(counting, counting->domain.step);
    }
    if (UNLIKELY((type->flags & KINDS_DEFERRED) != 0) &&
        zeroes_is_due(counting)) {
        (void)zeroes_settle(counting);
    }
    void *object = object_make_counted(
        type->bytes + extra_bytes + type->trail_bytes, type->kind);
    if (UNLIKELY(object == NULL)) {
        return NULL;
    }
    if (type->front == sizeof(struct counted) + sizeof(struct counted_bias)) {
        *counted_bias_of(object) =
            (struct counted_bias){0, counting->domain.owner};
    }
    counted_set_head(object, (uint64_t)type->id << 52 | type->word);
    counting->domain.figures.made++;
    if (UNLIKELY((type->flags & KINDS_CHECKED) != 0)) {
        inquest_made(counting, object, type, caller);
    }
    if (UNLIKELY((type->flags & KINDS_DEFERRED) != 0)) {
        zeroes_add(counting, object, type->bytes + extra_bytes);
    }
    return object;
}

void *loam_new(struct loam_type *type) {
    return rc_make(type, 0, __builtin_return_address(0));
}

void *loam_new_flex(struct loam_type *type, size_t extra_bytes) {
    return rc_make(type, extra_bytes, __builtin_return_address(0));
}

struct loam_type *loam_type_of(const void *p) {
    struct place place;
    if (p == NULL || !object_is_start(p, &place) ||
        !block_kind_is_counted(place.kind)) {
        return NULL;
    }
    const struct kinds_type *type = kinds_get(counted_type(p));
    return type == NULL ? NULL : type->origin;
}

// --- Counts ----------------------------------------------------------------

// The owner of a biased object counts in the head, as the inline functions do:
// `change` is added, unless that would leave nobody, or too many.
static ALWAYS_INLINE bool rc_count_own(const struct counting *counting,
                                       void *object, uint32_t change) {
    uint32_t word = counted_flags(object);
    const struct kinds_type *type = kinds_get(counted_type(object));
    uint32_t next = (word + change) & COUNTED_COUNT_MASK;
    if (type == NULL || !(type->flags & KINDS_SHARED) ||
        (word & COUNTED_DEAD) || next == 0 || next == COUNTED_COUNT_MASK ||
        !bias_is_own(object, counting->domain.owner)) {
        return false;
    }
    __atomic_store_n(&counted_of(object)->word, word + change,
                     __ATOMIC_RELAXED);
    return true;
}

// What a release has left to do.
static inline void rc_attend(struct counting *counting) {
    struct count_domain *domain = &counting->domain;
    if (domain->dead != 0 || domain->suspects.wants_room ||
        sharing_is_due(counting)) {
        counting_drain(counting, domain->step);
    }
    if (UNLIKELY(domain->suspects.count >= counting->cycles.threshold)) {
        cycles_attend(counting);
    }
}

void loam_release_slow(void *object) {
    struct counting *counting = counting_now();
    if (UNLIKELY(counting == NULL) || UNLIKELY(!init_is_free(init_mutator))) {
        return;
    }
    uint32_t word = counted_flags(object);
    if (UNLIKELY(kinds_checks())) {
        inquest_changed(counting, object, SITES_RELEASED,
                        __builtin_return_address(0));
    }
    if ((word & COUNTED_OTHER) &&
        rc_count_own(counting, object, 0 - COUNTED_ONE)) {
        return;
    }
    struct count_domain *domain = &counting->domain;
    const struct kinds_type *type = kinds_get(counted_type(object));
    if (LIKELY(type != NULL && count_may_drop(domain, type, word))) {
        counting_drop(counting, object, type);
    } else {
        enum count_fault fault = count_release(domain, object);
        if (UNLIKELY(fault != COUNT_FINE)) {
            inquest_refuse("loam_release", fault, object,
                           __builtin_return_address(0));
        }
    }
    rc_attend(counting);
}

void loam_retain_slow(void *object) {
    struct counting *counting = counting_now();
    if (UNLIKELY(counting == NULL)) {
        return;
    }
    if (UNLIKELY(kinds_checks())) {
        inquest_changed(counting, object, SITES_RETAINED,
                        __builtin_return_address(0));
    }
    if (LIKELY(rc_count_own(counting, object, COUNTED_ONE))) {
        return;
    }
    enum count_fault fault = count_retain(&counting->domain, object);
    if (UNLIKELY(fault != COUNT_FINE)) {
        inquest_refuse("loam_retain", fault, object,
                       __builtin_return_address(0));
    }
}

// The type as it would be without code, a second one of the same description;
// NULL when memory or numbers are used up.
static const struct kinds_type *rc_bare(const struct kinds_type *type) {
    struct mutator *mutator = init_lock();
    if (mutator == NULL) {
        return NULL;
    }
    const struct kinds_type *bare = kinds_get(1);
    for (unsigned id = 1;
         bare != NULL && (bare->origin != type->origin ||
                          bare->destroy != NULL || bare->finalize != NULL);) {
        bare = kinds_get(++id);
    }
    if (bare == NULL) {
        struct kinds_type own = *type;
        own.destroy = own.finalize = NULL;
        bare = kinds_add(&own);
    }
    init_unlock(mutator);
    return bare;
}

void loam_abandon(void *unfinished) {
    struct counting *counting = counting_now();
    if (unfinished == NULL || counting == NULL) {
        return;
    }
    struct counted *head = counted_of(unfinished);
    const struct kinds_type *type = kinds_get(counted_type(unfinished));
    bool is_alive = type != NULL && !(head->word & COUNTED_DEAD);
    if (is_alive && (type->destroy != NULL || type->finalize != NULL)) {
        type = rc_bare(type);
        if (type == NULL) {
            return; // for ever, rather than destroyed
        }
        uint32_t info = head->info & COUNTED_SCRATCH_MASK;
        info |= type->id << COUNTED_TYPE_SHIFT;
        __atomic_store_n(&head->info, info, __ATOMIC_RELAXED);
    }
    loam_release(unfinished); // which tells of what is none
}

// Who merges while owners remain has the lock.
static COLD size_t rc_count_queued(const void *object) {
    struct mutator *mutator = init_lock();
    size_t count = bias_count(object);
    if (mutator != NULL) {
        init_unlock(mutator);
    }
    return count;
}

size_t loam_count(const void *object) {
    if (object == NULL) {
        return 0;
    }
    const struct kinds_type *type = kinds_get(counted_type(object));
    if (type == NULL || !(type->flags & KINDS_SHARED)) {
        return count_get(object);
    }
    size_t count;
    return bias_try_count(object, &count) ? count : rc_count_queued(object);
}

// Whether something weak may lead there.  The head of a biased object is its
// owner's to change, so for it its block speaks, and for its neighbours.
static bool rc_is_watched(const void *object) {
    struct place place;
    const struct kinds_type *type = kinds_get(counted_type(object));
    if (type == NULL || !(type->flags & KINDS_SHARED)) {
        return (counted_flags(object) & COUNTED_WATCHED) != 0;
    }
    return !blockmap_find((uintptr_t)object, &place) ||
           (block_flags(place.block) & BLOCK_WATCHED) != 0;
}

bool loam_unique(const void *object) {
    return object != NULL && loam_count(object) == 1 && !rc_is_watched(object);
}

// --- Pools -------------------------------------------------------------------

void *loam_autorelease(void *owned) {
    struct counting *counting = counting_here();
    if (owned == NULL || counting == NULL) {
        return NULL;
    }
    struct counting_pool *pool = &counting->pool;
    if (pool->count == pool->capacity && !counting_grow_pool(pool)) {
        error_set_no_memory();
        return NULL;
    }
    pool->items[pool->count++] = owned;
    return owned;
}

struct loam_pool loam_pool_open(void) {
    struct counting *counting = counting_here();
    return (struct loam_pool){counting == NULL ? 0 : counting->pool.count};
}

void loam_pool_close(struct loam_pool *pool) {
    struct counting *counting = counting_find();
    while (counting != NULL && counting->pool.count > pool->depth) {
        loam_release(counting->pool.items[--counting->pool.count]);
    }
}

void loam_release_step(size_t count) {
    struct counting *counting = counting_here();
    if (counting != NULL) {
        counting->domain.step = count;
    }
}

// --- Rings and figures -------------------------------------------------------

size_t loam_collect_cycles(uint64_t budget_ns) {
    struct counting *counting = counting_here();
    return counting == NULL ? 0 : cycles_collect(counting, budget_ns);
}

void loam_cycles_when(bool by_itself, uint64_t slice_ns) {
    struct counting *counting = counting_here();
    if (counting != NULL) {
        counting->cycles.on_demand = !by_itself;
        if (slice_ns != 0) {
            counting->cycles.slice_ns = slice_ns;
        }
    }
}

size_t loam_settle(void) {
    struct counting *counting = counting_here();
    if (counting == NULL) {
        return 0;
    }
    size_t count = counting_drain(counting, 0);
    count += zeroes_settle(counting);
    return count + cycles_settle(counting);
}

void loam_rc_stats(struct loam_rc_stats *stats, size_t bytes) {
    struct loam_rc_stats now = {0};
    const struct counting *counting = counting_find();
    if (counting != NULL) {
        const struct count_domain *domain = &counting->domain;
        const struct cycles *cycles = &counting->cycles;
        now = (struct loam_rc_stats){.made = domain->figures.made,
                                     .destroyed = domain->figures.destroyed,
                                     .in_rings = domain->figures.in_rings,
                                     .by_tracer = domain->figures.by_tracer,
                                     .resurrected = domain->figures.resurrected,
                                     .slices = cycles->slices,
                                     .aborted = cycles->aborted,
                                     .slice_ns_max = cycles->slice_ns_max,
                                     .visited = cycles->trial.visited_total,
                                     .suspects = domain->suspects.count,
                                     .owed = domain->owed_count};
    }
    memcpy(stats, &now, bytes < sizeof now ? bytes : sizeof now);
    if (bytes > sizeof now) {
        memset((char *)stats + sizeof now, 0, bytes - sizeof now);
    }
}

// --- Had again ---------------------------------------------------------------

// INSIDE: no cycle can take the object's cell, and give it to another, between
// the moment in which its handle is read and that in which it is owned.
// *counted: the object, if it is one that is counted.
static void *rc_retain_target(struct counting *counting,
                              const struct handle *handle, void **counted) {
    uintptr_t target = handle_get(handle);
    struct place place;
    if (target == 0 || !blockmap_find(target, &place)) {
        return NULL;
    }
    if (!block_kind_is_counted(place.kind)) {
        return (void *)target; // the tracer's: to hold it is enough
    }
    *counted = (void *)blockmap_start(&place);
    return count_retain_living(&counting->domain, *counted) ? (void *)target
                                                            : NULL;
}

void *loam_weak_retain(const struct loam_weak *weak) {
    struct counting *counting = counting_here();
    struct mutator *mutator = init_mutator;
    if (counting == NULL || !init_is_free(mutator) || weak == NULL) {
        return NULL;
    }
    void *object = NULL;
    mutator_enter(mutator);
    void *target =
        rc_retain_target(counting, (const struct handle *)weak, &object);
    init_leave(mutator);
    if (UNLIKELY(kinds_checks()) && target != NULL && object != NULL) {
        inquest_changed(counting, object, SITES_RETAINED,
                        __builtin_return_address(0));
    }
    return target;
}

// Whether an object of `type` can be made of one of `old`, which nobody else
// knows of.
static bool rc_fits(const void *object, const struct kinds_type *old,
                    const struct kinds_type *type) {
    struct place place;
    const uint32_t others = KINDS_SHARED | KINDS_ATOMIC | KINDS_DEFERRED |
                            KINDS_TRACED | KINDS_QUARANTINE;
    return old != NULL && old->finalize == NULL &&
           !((old->flags | type->flags) & others) &&
           !((old->flags ^ type->flags) & KINDS_CHECKED) &&
           old->kind == type->kind &&
           !(counted_flags(object) & (COUNTED_KEPT | COUNTED_DEAD)) &&
           object_is_start(object, &place) &&
           type->bytes + type->trail_bytes <= place.bytes - type->front;
}

void *loam_reuse(void *object, struct loam_type *description) {
    const struct kinds_type *type = rc_type(description);
    struct counting *counting = counting_here();
    if (type == NULL || counting == NULL || !loam_unique(object) ||
        !rc_fits(object, kinds_get(counted_type(object)), type)) {
        return NULL;
    }
    const struct kinds_type *old = kinds_of(object);
    const void *caller = __builtin_return_address(0);
    inquest_changed(counting, object, SITES_RELEASED, caller);
    struct counted *head = counted_of(object);
    head->word |= COUNTED_DEAD | COUNTED_QUIET;
    if (old->destroy != NULL) {
        old->destroy(object);
    }
    count_release_slots(&counting->domain, object, old);
    memset(object, 0, old->bytes > type->bytes ? old->bytes : type->bytes);
    counted_set_head(object, (uint64_t)type->id << 52 | type->word);
    counting->domain.figures.destroyed++;
    counting->domain.figures.made++;
    if (UNLIKELY((type->flags & KINDS_CHECKED) != 0)) {
        inquest_made(counting, object, type, caller);
    }
    counting_drain(counting, counting->domain.step);
    return object;
}
