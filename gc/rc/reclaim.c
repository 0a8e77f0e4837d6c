#include "rc/reclaim.h"

#include <string.h>

#include "base/check.h"
#include "heap/counted.h"
#include "rc/bias.h"
#include "rc/bond.h"
#include "rc/gather.h"
#include "rc/kinds.h"

static void reclaim_set_word(void *object, uint32_t word) {
    __atomic_store_n(&counted_of(object)->word, word, __ATOMIC_RELAXED);
}

void reclaim_begin(struct reclaim *reclaim, const struct trial *trial,
                   bool by_tracer) {
    ASSERT(reclaim->phase == RECLAIM_IDLE);
    reclaim->phase = trial->has_code    ? RECLAIM_BEGIN
                     : trial->is_closed ? RECLAIM_QUICK_FREE
                                        : RECLAIM_QUICK_SLOTS;
    reclaim->next = 0;
    reclaim->finalizes = false;
    reclaim->by_tracer = by_tracer;
}

// --- What each phase does with a member ------------------------------------

// A step tells whether something is to be done outside before the next.
typedef bool reclaim_step(struct reclaim *reclaim, struct count_domain *domain,
                          struct count_call *call, void *object);

static bool reclaim_hold(struct reclaim *reclaim, struct count_domain *domain,
                         struct count_call *call, void *object) {
    (void)domain, (void)call;
    const struct kinds_type *type = kinds_of(object);
    reclaim->finalizes |= count_is_due(object, type);
    uint32_t word = counted_flags(object);
    if (type->flags & KINDS_SHARED) {
        word = (word & ~COUNTED_COUNT_MASK) | bias_take(object) * COUNTED_ONE;
    } else if (!(type->flags & KINDS_ATOMIC) && !kinds_is_plain(object, word)) {
        word = (word & ~COUNTED_COUNT_MASK) | COUNTED_STUCK;
    }
    // From here on a plain count, whatever it was.
    reclaim_set_word(object, ((word + COUNTED_ONE) | COUNTED_QUIET) &
                                 ~(COUNTED_CONDEMNED | COUNTED_OTHER));
    return false;
}

// It lives on: what it was, with the owners that it has.  While it was held its
// releases were not looked at, so it is suspected anew.
static void reclaim_let_live(struct count_domain *domain, void *object) {
    const struct kinds_type *type = kinds_of(object);
    uint32_t word = counted_flags(object) - COUNTED_ONE;
    word &= ~(uint32_t)COUNTED_QUIET;
    word |= type->word & (COUNTED_QUIET | COUNTED_OTHER);
    if ((word & COUNTED_COUNT_MASK) >= COUNTED_STUCK / 2) {
        word |= COUNTED_OTHER;
    }
    if (type->flags & KINDS_SHARED) {
        bias_give(object, (word & COUNTED_COUNT_MASK) / COUNTED_ONE);
        word &= ~COUNTED_COUNT_MASK;
    }
    const uint32_t none = COUNTED_QUIET | COUNTED_KEPT | COUNTED_OTHER;
    if ((word & none) == 0 && count_name(&domain->suspects, object)) {
        word |= COUNTED_QUIET | COUNTED_KEPT;
    }
    reclaim_set_word(object, word);
}

static bool reclaim_finalize(struct reclaim *reclaim,
                             struct count_domain *domain,
                             struct count_call *call, void *object) {
    (void)reclaim, (void)domain;
    const struct kinds_type *type = kinds_of(object);
    if (!(counted_flags(object) & COUNTED_CONDEMNED)) {
        return false;
    }
    reclaim_set_word(object,
                     counted_flags(object) & ~(uint32_t)COUNTED_CONDEMNED);
    *call = (struct count_call){
        .wish = COUNT_FINALIZE, .object = object, .type = type};
    return true;
}

static bool reclaim_die(struct reclaim *reclaim, struct count_domain *domain,
                        struct count_call *call, void *object) {
    (void)reclaim, (void)domain, (void)call;
    reclaim_set_word(object, counted_flags(object) | COUNTED_DEAD);
    return false;
}

static bool reclaim_destroy(struct reclaim *reclaim,
                            struct count_domain *domain,
                            struct count_call *call, void *object) {
    (void)reclaim, (void)domain;
    const struct kinds_type *type = kinds_of(object);
    if (type->destroy == NULL && !bond_may_hang(object, type)) {
        return false;
    }
    *call = (struct count_call){
        .wish = COUNT_DESTROY, .object = object, .type = type};
    return true;
}

static bool reclaim_slots(struct reclaim *reclaim, struct count_domain *domain,
                          struct count_call *call, void *object) {
    (void)reclaim, (void)call;
    count_release_slots(domain, object, kinds_of(object));
    return false;
}

static bool reclaim_free(struct reclaim *reclaim, struct count_domain *domain,
                         struct count_call *call, void *object) {
    (void)call;
    uint32_t word = counted_flags(object);
    if (count_get(object) > 1) {
        word |= COUNTED_WATCHED; // somebody retained the dead
    }
    reclaim_set_word(object, word & ~COUNTED_COUNT_MASK);
    domain->figures.in_rings += !reclaim->by_tracer;
    domain->figures.by_tracer += reclaim->by_tracer;
    count_finish(domain, object);
    return false;
}

// --- The same for members without code ------------------------------------

// How far ahead an object is asked for.
#define RECLAIM_AHEAD 8

static inline void *reclaim_next(struct reclaim *reclaim,
                                 const struct trial *trial) {
    size_t ahead = reclaim->next + RECLAIM_AHEAD;
    if (LIKELY(ahead < trial->visited.count)) {
        PREFETCH_WRITE(counted_of(trial->visited.items[ahead]));
    }
    return trial->visited.items[reclaim->next++];
}

// What a member owns beside its peers, which are DEAD, is released.
static void reclaim_quick_slots(struct reclaim *reclaim,
                                const struct trial *trial,
                                struct count_domain *domain, size_t end) {
    while (reclaim->next != end) {
        void *object = reclaim_next(reclaim, trial);
        const struct kinds_type *type = kinds_of(object);
        if (type->visit != NULL) {
            count_release_slots(domain, object, type);
            continue;
        }
        for (uint32_t i = 0; i < type->slot_count; i++) {
            void *owned;
            memcpy(&owned, (char *)object + type->slots[i], sizeof owned);
            if (owned != NULL && !(counted_flags(owned) & COUNTED_DEAD)) {
                (void)count_release(domain, owned);
            }
        }
    }
}

static void reclaim_quick_free(struct reclaim *reclaim,
                               const struct trial *trial,
                               struct count_domain *domain, size_t end) {
    size_t count = end - reclaim->next;
    while (reclaim->next != end) {
        void *object = reclaim_next(reclaim, trial);
        const uint32_t slow = COUNTED_KEPT | COUNTED_WATCHED;
        if (LIKELY((counted_flags(object) & slow) == 0 &&
                   kinds_of(object)->is_simple)) {
            gather_cell(&domain->gather, object);
        } else {
            reclaim_set_word(object,
                             counted_flags(object) & ~COUNTED_COUNT_MASK);
            count_free(domain, object);
        }
    }
    domain->figures.destroyed += count;
    domain->figures.in_rings += reclaim->by_tracer ? 0 : count;
    domain->figures.by_tracer += reclaim->by_tracer ? count : 0;
}

// Goes on for about `limit` members.
static void reclaim_advance_quick(struct reclaim *reclaim,
                                  const struct trial *trial,
                                  struct count_domain *domain, size_t limit) {
    size_t count = trial->visited.count;
    size_t end = limit < count - reclaim->next ? reclaim->next + limit : count;
    if (reclaim->phase == RECLAIM_QUICK_SLOTS) {
        reclaim_quick_slots(reclaim, trial, domain, end);
    } else {
        reclaim_quick_free(reclaim, trial, domain, end);
    }
}

// --- Phases --------------------------------------------------------------

// Before the first finalizer: those that are due are noted, and what weak
// references were made until now give NULL (RE1).
static void reclaim_clear(struct reclaim *reclaim, const struct trial *trial) {
    for (size_t i = 0; reclaim->finalizes && i < trial->visited.count; i++) {
        void *object = trial->visited.items[i];
        uint32_t word = counted_flags(object);
        if (count_is_due(object, kinds_of(object))) {
            word |= COUNTED_CONDEMNED;
        }
        reclaim_set_word(object, word | COUNTED_DONE);
    }
}

// What lives on is held no longer.  Returns how many.
static size_t reclaim_review(struct trial *trial, struct count_domain *domain) {
    trial_review(trial); // RE3
    size_t count = trial->live.count;
    for (size_t i = 0; i < count; i++) {
        reclaim_let_live(domain, trial->live.items[i]);
    }
    trial->live.count = 0;
    return count;
}

static reclaim_step *const reclaim_steps[] = {
    [RECLAIM_BEGIN] = reclaim_hold,  [RECLAIM_FINALIZE] = reclaim_finalize,
    [RECLAIM_DIE] = reclaim_die,     [RECLAIM_DESTROY] = reclaim_destroy,
    [RECLAIM_SLOTS] = reclaim_slots, [RECLAIM_FREE] = reclaim_free};

static void reclaim_next_phase(struct reclaim *reclaim, struct trial *trial,
                               struct count_domain *domain) {
    reclaim->next = 0;
    switch (reclaim->phase) {
    case RECLAIM_BEGIN:
        if (reclaim->by_tracer) {
            // A destructor that ran since may have retained some.
            (void)reclaim_review(trial, domain);
        }
        reclaim_clear(reclaim, trial);
        reclaim->phase = reclaim->finalizes ? RECLAIM_FINALIZE : RECLAIM_DIE;
        break;
    case RECLAIM_FINALIZE:
        domain->figures.resurrected += reclaim_review(trial, domain);
        reclaim->phase = RECLAIM_DIE;
        break;
    case RECLAIM_QUICK_FREE:
    case RECLAIM_FREE:
        trial->visited.count = 0;
        reclaim->phase = RECLAIM_IDLE;
        break;
    case RECLAIM_IDLE:
    case RECLAIM_QUICK_SLOTS:
    case RECLAIM_DIE:
    case RECLAIM_DESTROY:
    case RECLAIM_SLOTS:
        reclaim->phase++;
        break;
    }
}

bool reclaim_advance(struct reclaim *reclaim, struct trial *trial,
                     struct count_domain *domain, struct count_call *call,
                     size_t limit) {
    call->wish = COUNT_NOTHING;
    size_t done = 0;
    while (reclaim_is_on(reclaim)) {
        if (reclaim->next == trial->visited.count) {
            reclaim_next_phase(reclaim, trial, domain);
            continue;
        }
        if (reclaim_is_quick(reclaim)) {
            size_t from = reclaim->next;
            reclaim_advance_quick(reclaim, trial, domain, limit - done);
            done += reclaim->next - from;
            if (done >= limit) {
                return false;
            }
            continue;
        }
        // What must happen at once happens at once: there is no half of it.
        bool may_pause =
            reclaim->phase != RECLAIM_BEGIN && reclaim->phase != RECLAIM_DIE;
        if (done >= limit && may_pause) {
            return false;
        }
        void *object = trial->visited.items[reclaim->next++];
        done++;
        if (reclaim_steps[reclaim->phase](reclaim, domain, call, object)) {
            return true;
        }
    }
    return false;
}
