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
    reclaim->finalizes = reclaim->shares = reclaim->shows = false;
    reclaim->by_tracer = by_tracer;
}

// --- What each phase does with a member ------------------------------------

// A step tells whether something is to be done outside before the next.
typedef bool reclaim_step(struct reclaim *reclaim, struct count_domain *domain,
                          struct count_call *call, void *object);

// Whether members count it by another way than the inline functions.
static bool reclaim_is_shared(const void *object) {
    return (kinds_of(object)->flags & (KINDS_SHARED | KINDS_ATOMIC)) != 0;
}

// In the address of one that is due: its type's finalizer has had its turn.
#define RECLAIM_AGAIN 1u

// What others may change at the same time.
static void reclaim_put_flags(void *object, uint32_t flags) {
    __atomic_fetch_or(&counted_of(object)->word, flags, __ATOMIC_ACQ_REL);
}

static void reclaim_take_flags(void *object, uint32_t flags) {
    __atomic_fetch_and(&counted_of(object)->word, ~flags, __ATOMIC_ACQ_REL);
}

// Of those that traced memory may hold without a count, the SHOWN are CONDEMNED
// no more from here on, and the others are until the review (RE6): no reference
// leads there.  Of shared ones SHOWN itself goes on to say so, as no one else
// is to take them.
static bool reclaim_show(void *object, const struct kinds_type *type) {
    if (!(type->flags & KINDS_TRACED) ||
        (!(counted_flags(object) & COUNTED_SHOWN) &&
         !count_is_due(object, type))) {
        return false;
    }
    reclaim_put_flags(object, COUNTED_SHOWN);
    reclaim_take_flags(object, COUNTED_CONDEMNED);
    return true;
}

// After the finalizers: whether it is for the next cycle to say who holds it.
static bool reclaim_was_shown(const void *object) {
    uint32_t word = counted_flags(object);
    return (kinds_of(object)->flags & KINDS_TRACED) &&
           (reclaim_is_shared(object) ? (word & COUNTED_SHOWN) != 0
                                      : !(word & COUNTED_CONDEMNED));
}

static bool reclaim_hold(struct reclaim *reclaim, struct count_domain *domain,
                         struct count_call *call, void *object) {
    (void)domain, (void)call;
    const struct kinds_type *type = kinds_of(object);
    reclaim->finalizes |= count_is_due(object, type);
    reclaim->shares |= reclaim_is_shared(object);
    if (reclaim->by_tracer) {
        reclaim->shows |= reclaim_show(object, type);
    }
    if (type->flags & KINDS_SHARED) {
        // From here on all count in one number.
        bias_give(object, bias_take(object) + 1);
        return false;
    }
    uint32_t word = counted_flags(object);
    if (type->flags & KINDS_ATOMIC) {
        reclaim_set_word(object, word + COUNTED_ONE);
        return false;
    }
    if (!kinds_is_plain(object, word)) {
        word = (word & ~COUNTED_COUNT_MASK) | COUNTED_STUCK;
    }
    reclaim_set_word(object, ((word + COUNTED_ONE) | COUNTED_QUIET) &
                                 ~(uint32_t)COUNTED_OTHER);
    return false;
}

// It lives on: what it was, with the owners that it has.  While it was held its
// releases were not looked at, so it is suspected anew.
static void reclaim_let_live(struct count_domain *domain, void *object) {
    const struct kinds_type *type = kinds_of(object);
    if (type->flags & (KINDS_SHARED | KINDS_ATOMIC)) {
        (void)count_release(domain, object);
        return;
    }
    uint32_t word = counted_flags(object) - COUNTED_ONE;
    word &= ~(uint32_t)(COUNTED_QUIET | COUNTED_CONDEMNED);
    word |= type->word & (COUNTED_QUIET | COUNTED_OTHER);
    if ((word & COUNTED_COUNT_MASK) >= COUNTED_STUCK / 2) {
        word |= COUNTED_OTHER;
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
    bool again = ((uintptr_t)object & RECLAIM_AGAIN) != 0;
    object = (char *)object - again;
    *call = (struct count_call){.wish = COUNT_FINALIZE,
                                .again = again,
                                .object = object,
                                .type = kinds_of(object)};
    return true;
}

static void reclaim_die(void *object) {
    uint32_t word = counted_flags(object) | COUNTED_DEAD;
    if (reclaim_is_shared(object)) {
        // From here on a plain count: whoever releases it is this thread.
        if (kinds_of(object)->flags & KINDS_SHARED) {
            word &= ~COUNTED_COUNT_MASK;
            word |= bias_take(object) * COUNTED_ONE;
        }
        word = (word | COUNTED_QUIET) & ~(uint32_t)COUNTED_OTHER;
    }
    reclaim_set_word(object, word & ~(uint32_t)COUNTED_CONDEMNED);
}

static bool reclaim_die_step(struct reclaim *reclaim,
                             struct count_domain *domain,
                             struct count_call *call, void *object) {
    (void)reclaim, (void)domain, (void)call;
    reclaim_die(object);
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
// references were made until now give NULL (RE1), while long ones give the
// object again, which may be brought back.
static void reclaim_clear(struct reclaim *reclaim, struct trial *trial) {
    bool is_due = reclaim->finalizes || reclaim->shows;
    for (size_t i = 0; is_due && i < trial->visited.count; i++) {
        void *object = trial->visited.items[i];
        if (count_is_due(object, kinds_of(object))) {
            bool again = (counted_flags(object) & COUNTED_DONE) != 0;
            trial->live.items[trial->live.count++] = (char *)object + again;
        }
        reclaim_put_flags(object, COUNTED_DONE);
        if (!(kinds_of(object)->flags & KINDS_TRACED) ||
            reclaim_is_shared(object)) {
            reclaim_take_flags(object, COUNTED_CONDEMNED);
        }
    }
}

// --- After the finalizers ----------------------------------------------------

// Scratch: 0 of what is no member, else one more than the owners that are not
// explained by members; this one for what lives.
#define RECLAIM_ALIVE COUNTED_SCRATCH_MASK

static uint32_t reclaim_scratch(const void *object) {
    return counted_flags(object) & COUNTED_DEAD
               ? 0
               : counted_of(object)->info & COUNTED_SCRATCH_MASK;
}

static void reclaim_set_scratch(void *object, uint32_t scratch) {
    uint32_t *info = &counted_of(object)->info;
    __atomic_store_n(info, (*info & ~COUNTED_SCRATCH_MASK) | scratch,
                     __ATOMIC_RELAXED);
}

// The owners beside ourselves.
static uint32_t reclaim_owners(const void *object) {
    const struct kinds_type *type = kinds_of(object);
    if (type->flags & KINDS_SHARED) {
        size_t count = bias_count(object) - 1;
        return count > RECLAIM_ALIVE ? RECLAIM_ALIVE : (uint32_t)count;
    }
    uint32_t count =
        __atomic_load_n(&counted_of(object)->word, __ATOMIC_ACQUIRE);
    count = (count & COUNTED_COUNT_MASK) / COUNTED_ONE - 1;
    // Of one that is stuck the count says nothing.
    bool is_stuck =
        count >= COUNTED_STUCK / COUNTED_ONE && !(type->flags & KINDS_ATOMIC);
    return is_stuck ? 0 : count;
}

static void reclaim_explain(void *object, void *data) {
    (void)data;
    uint32_t scratch = object == NULL ? 0 : reclaim_scratch(object);
    if (scratch > 1 && scratch != RECLAIM_ALIVE) {
        reclaim_set_scratch(object, scratch - 1);
    }
}

static void reclaim_revive(void *object, void *data) {
    struct trial_vector *live = data;
    uint32_t scratch = object == NULL ? 0 : reclaim_scratch(object);
    if (scratch != 0 && scratch != RECLAIM_ALIVE) {
        reclaim_set_scratch(object, RECLAIM_ALIVE);
        live->items[live->count++] = object;
    }
}

// What is done with each object that a member owns, by a slot or an entry.
struct reclaim_owned {
    bond_visit *each;
    void *data;
};

static void reclaim_slot(void *slot, void *data) {
    const struct reclaim_owned *owned = data;
    void *object;
    memcpy(&object, slot, sizeof object);
    owned->each(object, owned->data);
}

// One that is shared lives as long as its entry: EX7 of rc/explain.h.
static void reclaim_value(void *value, void *data) {
    const struct reclaim_owned *owned = data;
    if (!reclaim_is_shared(value)) {
        owned->each(value, owned->data);
    }
}

static void reclaim_each_owned(void *object, bond_visit *each, void *data) {
    struct reclaim_owned owned = {each, data};
    const struct kinds_type *type = kinds_of(object);
    for (uint32_t i = 0; i < type->slot_count; i++) {
        reclaim_slot((char *)object + type->slots[i], &owned);
    }
    if (type->visit != NULL) {
        type->visit(object, reclaim_slot, &owned);
    }
    if (bond_may_hang(object, type)) {
        bond_each_value(object, reclaim_value, &owned);
    }
}

static void reclaim_count_all(const struct trial_vector *members) {
    for (size_t i = 0; i < members->count; i++) {
        void *object = members->items[i];
        uint32_t owners =
            reclaim_was_shown(object) ? RECLAIM_ALIVE : reclaim_owners(object);
        reclaim_set_scratch(object, owners >= RECLAIM_ALIVE - 1 ? RECLAIM_ALIVE
                                                                : owners + 1);
    }
    for (size_t i = 0; i < members->count; i++) {
        reclaim_each_owned(members->items[i], reclaim_explain, NULL);
    }
}

// Those that are owned from outside, and what these own, go to live.
static void reclaim_decide(struct trial *trial) {
    struct trial_vector *members = &trial->visited, *live = &trial->live;
    reclaim_count_all(members);
    live->count = 0;
    for (size_t i = 0; i < members->count; i++) {
        if (reclaim_scratch(members->items[i]) > 1) {
            reclaim_set_scratch(members->items[i], RECLAIM_ALIVE);
            live->items[live->count++] = members->items[i];
        }
    }
    for (size_t i = 0; i < live->count; i++) {
        reclaim_each_owned(live->items[i], reclaim_revive, live);
    }
    size_t kept = 0;
    for (size_t i = 0; i < members->count; i++) {
        void *object = members->items[i];
        bool is_garbage = reclaim_scratch(object) == 1;
        reclaim_set_scratch(object, 0);
        members->items[kept] = object;
        kept += is_garbage;
    }
    members->count = kept;
}

// Another thread may have got a member by a long weak reference, or from where
// a finalizer put it, and be changing what that owns: nothing that is read of
// it while it runs holds (RE5).
static void reclaim_spare(struct trial *trial) {
    struct trial_vector *members = &trial->visited;
    memcpy(trial->live.items, members->items,
           members->count * sizeof *members->items);
    trial->live.count = members->count;
    members->count = 0;
}

// What lives on is held no longer.
void reclaim_review(struct reclaim *reclaim, struct trial *trial,
                    struct count_domain *domain, bool is_still) {
    if (is_still) {
        reclaim_decide(trial); // RE3
    } else {
        reclaim_spare(trial);
    }
    for (size_t i = 0; i < trial->live.count; i++) {
        reclaim_let_live(domain, trial->live.items[i]);
    }
    domain->figures.resurrected += trial->live.count;
    trial->live.count = 0;
    for (size_t i = 0; i < trial->visited.count; i++) {
        reclaim_die(trial->visited.items[i]);
    }
    reclaim->phase = RECLAIM_DESTROY;
    reclaim->next = 0;
}

static reclaim_step *const reclaim_steps[] = {
    [RECLAIM_BEGIN] = reclaim_hold,   [RECLAIM_FINALIZE] = reclaim_finalize,
    [RECLAIM_DIE] = reclaim_die_step, [RECLAIM_DESTROY] = reclaim_destroy,
    [RECLAIM_SLOTS] = reclaim_slots,  [RECLAIM_FREE] = reclaim_free};

static void reclaim_next_phase(struct reclaim *reclaim, struct trial *trial,
                               struct count_domain *domain) {
    reclaim->next = 0;
    switch (reclaim->phase) {
    case RECLAIM_BEGIN:
        reclaim_clear(reclaim, trial);
        reclaim->phase = reclaim->finalizes || reclaim->shows ? RECLAIM_FINALIZE
                                                              : RECLAIM_DIE;
        break;
    case RECLAIM_FINALIZE:
        reclaim->phase = RECLAIM_REVIEW;
        if (!reclaim->shares) {
            reclaim_review(reclaim, trial, domain, true);
        }
        break;
    case RECLAIM_QUICK_FREE:
    case RECLAIM_FREE:
        trial->visited.count = 0;
        reclaim->phase = RECLAIM_IDLE;
        break;
    case RECLAIM_IDLE:
    case RECLAIM_QUICK_SLOTS:
    case RECLAIM_REVIEW:
    case RECLAIM_DIE:
    case RECLAIM_DESTROY:
    case RECLAIM_SLOTS:
        reclaim->phase++;
        break;
    }
}

// Finalizers are due for some.
static const struct trial_vector *reclaim_members(const struct reclaim *reclaim,
                                                  const struct trial *trial) {
    return reclaim->phase == RECLAIM_FINALIZE ? &trial->live : &trial->visited;
}

bool reclaim_advance(struct reclaim *reclaim, struct trial *trial,
                     struct count_domain *domain, struct count_call *call,
                     size_t limit) {
    call->wish = COUNT_NOTHING;
    size_t done = 0;
    while (reclaim_is_on(reclaim)) {
        if (UNLIKELY(reclaim->phase == RECLAIM_REVIEW)) {
            call->wish = COUNT_REVIEW;
            return true;
        }
        const struct trial_vector *members = reclaim_members(reclaim, trial);
        if (reclaim->next == members->count) {
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
        void *object = members->items[reclaim->next++];
        done++;
        if (reclaim_steps[reclaim->phase](reclaim, domain, call, object)) {
            return true;
        }
    }
    return false;
}
