#include "rc/count.h"

#include <string.h>

#include "rc/bias.h"
#include "rc/bond.h"

// Flags that stay with an object on the list of the dead.
#define COUNT_STAYS                                                            \
    (COUNTED_DEAD | COUNTED_WATCHED | COUNTED_KEPT | COUNTED_DONE)
#define COUNT_TYPE_BITS ((uint64_t)0xfff << 52) // of a head
#define COUNT_LINK_BITS (((uint64_t)1 << 48) - GRANULE_BYTES)
// Bit 31 is OTHER, that the inline functions keep off; the link's is here.
#define COUNT_LINK_31 ((uint64_t)1 << 48)

void count_init(struct count_domain *domain, uint32_t owner) {
    domain->owner = COUNTED_OWNER_BIT | owner;
}

// --- The list of the dead ------------------------------------------------

static void count_set_word(void *object, uint32_t word) {
    __atomic_store_n(&counted_of(object)->word, word, __ATOMIC_RELAXED);
}

static inline uint64_t count_link(uint64_t next) {
    uint64_t bit = next & COUNTED_OTHER;
    return (uint64_t)COUNTED_LISTED << 32 | next |
           bit * (COUNT_LINK_31 / COUNTED_OTHER) | COUNTED_OTHER;
}

static inline uintptr_t count_next(uint64_t head) {
    uint64_t bit = head / (COUNT_LINK_31 / COUNTED_OTHER) & COUNTED_OTHER;
    return (uintptr_t)((head & COUNT_LINK_BITS & ~(uint64_t)COUNTED_OTHER) |
                       bit);
}

void count_bury(struct count_domain *domain, void *object) {
    uint64_t type = counted_type(object);
    uint64_t head = type << 52 | count_link(domain->dead) | COUNTED_DEAD |
                    (counted_flags(object) & COUNT_STAYS); // CN5
    counted_set_head(object, head);
    domain->dead = (uintptr_t)object;
    domain->owed_count++;
}

// The next object that is to be destroyed, its head a head again.
static void *count_pop(struct count_domain *domain) {
    void *object = (void *)domain->dead;
    if (object != NULL) {
        uint64_t head = counted_head(object);
        domain->dead = count_next(head);
        domain->owed_count--;
        counted_set_head(object, head & (COUNT_TYPE_BITS | COUNT_STAYS));
    }
    return object;
}

// --- Buffers -------------------------------------------------------------

bool count_name(struct count_buffer *buffer, void *object) {
    if (UNLIKELY(buffer->count == buffer->capacity)) {
        buffer->wants_room = true;
        return false;
    }
    buffer->items[buffer->count++] = object;
    // Asked for in time, so that what comes next is not dropped.
    buffer->wants_room |= buffer->count == buffer->capacity / 2;
    return true;
}

void count_name_zero(struct count_domain *domain, void *object) {
    uint32_t word = counted_flags(object);
    if (!(word & COUNTED_KEPT) && count_name(&domain->zeroes, object)) {
        count_set_word(object, word | COUNTED_KEPT);
    } // where there was no room the tracer will find it
}

// A deferred object that was suspected, and fell to 0 meanwhile.
static bool count_is_zero(const void *object, uint32_t word) {
    return (word & (COUNTED_COUNT_MASK | COUNTED_OTHER | COUNTED_DEAD)) == 0 &&
           (kinds_of(object)->flags & KINDS_DEFERRED);
}

void count_unname(struct count_domain *domain, void *object) {
    uint32_t word = counted_flags(object);
    // Of a listed one the other is a bit of the link, of a condemned SHOWN.
    uint32_t flags = COUNTED_KEPT;
    flags |= word & (COUNTED_DEAD | COUNTED_CONDEMNED) ? 0 : COUNTED_QUIET;
    count_set_word(object, word & ~flags);
    if (counted_type(object) != COUNTED_ZOMBIE) {
        if (UNLIKELY(count_is_zero(object, word))) {
            count_name_zero(domain, object);
        }
    } else if (!(word & COUNTED_WATCHED)) {
        count_free(domain, object);
    }
}

static void count_make_zombie(void *object, uint32_t word) {
    counted_set_head(object, (uint64_t)COUNTED_ZOMBIE << 52 |
                                 (word & COUNT_STAYS)); // CT5
}

void count_forget(void *object) {
    uint32_t word = counted_flags(object) & ~(uint32_t)COUNTED_KEPT;
    if (counted_type(object) != COUNTED_ZOMBIE &&
        !(word & (COUNTED_DEAD | COUNTED_CONDEMNED))) {
        word &= ~(uint32_t)COUNTED_QUIET;
        word |= kinds_of(object)->word & COUNTED_QUIET;
    }
    count_set_word(object, word);
}

// A dead object whose destruction has not begun is as if it waited for the
// tracer.
static void count_undo(void *object) {
    const struct kinds_type *type = kinds_of(object);
    uint32_t word = counted_flags(object) & (COUNTED_WATCHED | COUNTED_DONE);
    word |= type->word & (COUNTED_OTHER | COUNTED_QUIET);
    counted_set_head(object, (counted_head(object) & COUNT_TYPE_BITS) | word);
}

void count_give_up(struct count_domain *domain) {
    for (void *object = count_pop(domain); object != NULL;
         object = count_pop(domain)) {
        count_undo(object);
    }
}

void count_claim_listed(struct count_domain *domain, bool ours) {
    void *object = (void *)domain->dead;
    while (object != NULL) {
        count_claim(object, ours);
        object = (void *)count_next(counted_head(object));
    }
}

void count_mend(void *object) {
    struct counted *head = counted_of(object);
    if (!count_is_dying(object)) {
        head->info &= ~COUNTED_SCRATCH_MASK;
        count_forget(object);
    } else if (head->info & COUNTED_LISTED) {
        count_undo(object);
    } else {
        count_make_zombie(object, head->word & ~(uint32_t)COUNTED_KEPT);
    }
}

// --- The last owner ------------------------------------------------------

// The count of a plain object fell to 0; the head says so already.
static void count_last(struct count_domain *domain, void *object,
                       const struct kinds_type *type) {
    if (type->flags & KINDS_TRACED) {
        return; // the tracer will find it
    }
    if ((type->flags & KINDS_DEFERRED) && !domain->falls) {
        count_name_zero(domain, object);
        return;
    }
    count_bury(domain, object);
}

// The slow half of a release of a plain object, after which `word` is its head.
static void count_released(struct count_domain *domain, void *object,
                           uint32_t word) {
    if (LIKELY((word & COUNTED_COUNT_MASK) == 0)) {
        count_set_word(object, word);
        count_last(domain, object, kinds_of(object));
    } else if (!(word & (COUNTED_QUIET | COUNTED_KEPT)) &&
               count_name(&domain->suspects, object)) {
        count_set_word(object, word | COUNTED_QUIET | COUNTED_KEPT); // CN6
    } else {
        // Of one among the zeroes it is noted for when it leaves them.
        count_set_word(object,
                       word & COUNTED_KEPT ? word | COUNTED_QUIET : word);
    }
}

// --- Counts that are not plain --------------------------------------------

static enum count_fault count_fault(const void *object, uint32_t word) {
    if (counted_type(object) == 0) {
        return COUNT_FREED;
    }
    return word & COUNTED_DEAD ? COUNT_GONE : COUNT_FINE;
}

// One of a dead ring, held until all of it is destroyed: its count is one still
// and means nothing.
static bool count_is_held(const void *object, uint32_t word) {
    uint32_t info =
        __atomic_load_n(&counted_of(object)->info, __ATOMIC_RELAXED);
    return (word & COUNTED_DEAD) && (word & COUNTED_COUNT_MASK) != 0 &&
           !(info & COUNTED_LISTED) && info >> COUNTED_TYPE_SHIFT != 0;
}

// One owner less, and dead with the last, by the same step.  *left: its word.
static enum count_fault
count_drop_atomic(void *object, const struct kinds_type *type, uint32_t *left) {
    uint32_t *at = &counted_of(object)->word;
    uint32_t word = __atomic_load_n(at, __ATOMIC_RELAXED);
    do {
        if ((word & COUNTED_COUNT_MASK) == 0 || (word & COUNTED_DEAD)) {
            return word & COUNTED_DEAD ? COUNT_GONE : COUNT_TOO_OFTEN;
        }
        *left = word - COUNTED_ONE;
        if ((*left & COUNTED_COUNT_MASK) == 0 &&
            !(type->flags & KINDS_TRACED)) {
            *left |= COUNTED_DEAD;
        }
    } while (!__atomic_compare_exchange_n(at, &word, *left, true,
                                          __ATOMIC_ACQ_REL, __ATOMIC_RELAXED));
    return COUNT_FINE;
}

static enum count_fault count_release_atomic(struct count_domain *domain,
                                             void *object,
                                             const struct kinds_type *type) {
    uint32_t left = 0;
    enum count_fault fault = count_drop_atomic(object, type, &left);
    if (fault == COUNT_FINE && (left & COUNTED_DEAD)) {
        count_last(domain, object, type);
    }
    return fault;
}

// Its owner will be told; where there is no room, by a later release.
static void count_tell(struct count_domain *domain, void *object) {
    if (!count_name(&domain->tells, object)) {
        bias_untell(object);
    }
}

static enum count_fault count_release_shared(struct count_domain *domain,
                                             void *object,
                                             const struct kinds_type *type) {
    enum bias_end end = bias_release(object, domain->owner);
    if (end == BIAS_LAST) {
        count_last(domain, object, type);
    } else if (end == BIAS_TELL) {
        count_tell(domain, object);
    }
    return end == BIAS_FAULT ? COUNT_TOO_OFTEN : COUNT_FINE;
}

bool count_merge(struct count_domain *domain, void *object) {
    enum bias_end end = bias_merge(object);
    if (end == BIAS_LAST) {
        count_last(domain, object, kinds_of(object));
    }
    return end == BIAS_GONE;
}

enum count_fault count_release(struct count_domain *domain, void *object) {
    uint32_t word = counted_flags(object);
    if (LIKELY((word & COUNTED_COUNT_MASK) != 0 &&
               kinds_is_plain(object, word))) {
        count_released(domain, object, word - COUNTED_ONE);
        return COUNT_FINE;
    }
    if (UNLIKELY(count_is_held(object, word))) {
        count_set_word(object, word - COUNTED_ONE);
        return COUNT_FINE;
    }
    enum count_fault fault = count_fault(object, word);
    if (fault != COUNT_FINE) {
        return fault;
    }
    const struct kinds_type *type = kinds_of(object);
    if (type->flags & KINDS_ATOMIC) {
        return count_release_atomic(domain, object, type);
    }
    if (type->flags & KINDS_SHARED) {
        return count_release_shared(domain, object, type);
    }
    return word & COUNTED_OTHER ? COUNT_FINE : COUNT_TOO_OFTEN; // stuck
}

enum count_fault count_retain(struct count_domain *domain, void *object) {
    uint32_t word = counted_flags(object);
    enum count_fault fault = count_fault(object, word);
    if (fault != COUNT_FINE) {
        return fault;
    }
    const struct kinds_type *type = kinds_of(object);
    if (type->flags & KINDS_ATOMIC) {
        __atomic_fetch_add(&counted_of(object)->word, COUNTED_ONE,
                           __ATOMIC_RELAXED);
    } else if (type->flags & KINDS_SHARED) {
        bias_retain(object, domain->owner);
    } else if (kinds_is_plain(object, word)) {
        count_set_word(object, word + COUNTED_ONE);
    }
    return COUNT_FINE; // a stuck one stays so
}

static bool count_retain_atomic(void *object, bool is_traced) {
    uint32_t *at = &counted_of(object)->word;
    uint32_t word = __atomic_load_n(at, __ATOMIC_RELAXED);
    do {
        bool is_zero = (word & COUNTED_COUNT_MASK) == 0;
        if ((word & (COUNTED_DEAD | COUNTED_CONDEMNED)) ||
            (is_zero && !is_traced)) {
            return false;
        }
    } while (!__atomic_compare_exchange_n(at, &word, word + COUNTED_ONE, true,
                                          __ATOMIC_ACQUIRE, __ATOMIC_RELAXED));
    return true;
}

bool count_retain_living(struct count_domain *domain, void *object) {
    uint32_t word = counted_flags(object);
    unsigned id = counted_type(object);
    if (id == 0 || id == COUNTED_ZOMBIE ||
        (word & (COUNTED_DEAD | COUNTED_CONDEMNED))) {
        return false;
    }
    if (kinds_is_plain(object, word)) {
        count_set_word(object, word + COUNTED_ONE);
        return true;
    }
    const struct kinds_type *type = kinds_get(id);
    if (type->flags & KINDS_ATOMIC) {
        return count_retain_atomic(object, type->flags & KINDS_TRACED);
    }
    return !(type->flags & KINDS_SHARED) ||
           bias_retain_living(object, domain->owner);
}

// --- Destruction ----------------------------------------------------------

// Whether a biased object is in no queue; else it is a zombie that its owner
// may free at any moment.
static bool count_leave(void *object) {
    if (LIKELY(!bias_is_queued(object))) {
        return true;
    }
    uint64_t head = counted_head(object);
    count_make_zombie(object, (uint32_t)head | COUNTED_DEAD | COUNTED_KEPT);
    if (!bias_leave(object)) {
        return false;
    }
    counted_set_head(object, head);
    return true;
}

void count_free(struct count_domain *domain, void *object) {
    uint32_t word = counted_flags(object) | COUNTED_DEAD;
    unsigned id = counted_type(object);
    uint32_t flags = id == COUNTED_ZOMBIE ? 0 : kinds_get(id)->flags;
    if (flags & KINDS_QUARANTINE) {
        word |= COUNTED_WATCHED;
    }
    if (word & (COUNTED_KEPT | COUNTED_WATCHED)) { // CN4
        count_make_zombie(object, word);
    } else if (!(flags & KINDS_SHARED)) {
        gather_cell(&domain->gather, object);
    } else if (count_leave(object)) {
        gather_cell_of_many(&domain->gather, object);
    }
}

static void count_release_slot(void *slot, void *data) {
    void *object;
    memcpy(&object, slot, sizeof object);
    if (object != NULL) {
        (void)count_release(data, object);
    }
}

// Last slot first, so that the list gives them back in order.
void count_release_slots(struct count_domain *domain, void *object,
                         const struct kinds_type *type) {
    domain->falls = domain->settles;
    for (uint32_t i = type->slot_count; i-- > 0;) {
        count_release_slot((char *)object + type->slots[i], domain);
    }
    if (type->visit != NULL) {
        type->visit(object, count_release_slot, domain);
    }
    domain->falls = false;
}

// Whether somebody owns what was finalized.  We did: a cycle kept it, and of
// those that share it one is the last.
static bool count_is_owned(struct count_domain *domain, void *object) {
    const struct kinds_type *type = kinds_of(object);
    uint32_t word = counted_flags(object);
    if (type->flags & KINDS_SHARED) {
        return bias_release(object, domain->owner) == BIAS_COUNTED;
    }
    if (type->flags & KINDS_ATOMIC) {
        (void)count_drop_atomic(object, type, &word);
        return !(word & COUNTED_DEAD);
    }
    uint32_t ours = kinds_is_plain(object, word) ? COUNTED_ONE : 0; // stuck
    count_set_word(object, word - ours);
    return count_get(object) != 0;
}

// What the program's code left of an object: whether it is to be destroyed on.
static bool count_came_back(struct count_domain *domain, void *object,
                            enum count_wish stage) {
    if (stage == COUNT_FINALIZE && (counted_flags(object) & COUNTED_DEAD)) {
        return false; // retained and released again: it is on the list
    }
    if (stage == COUNT_FINALIZE && count_is_owned(domain, object)) {
        domain->figures.resurrected++;
        return false;
    }
    count_set_word(object, counted_flags(object) | COUNTED_DEAD);
    return true;
}

// Whether the object's finalizer is due; then it is not dead for now.
static bool count_is_finalized(struct count_call *call, void *object,
                               const struct kinds_type *type) {
    if (!count_is_due(object, type)) {
        return false;
    }
    uint32_t word = counted_flags(object);
    bool again = (word & COUNTED_DONE) != 0;
    *call = (struct count_call){COUNT_FINALIZE, again, object, type};
    word |= type->word & (COUNTED_OTHER | COUNTED_QUIET);
    if (type->flags & KINDS_SHARED) {
        bias_give(object, 1);
        word -= COUNTED_ONE;
    }
    word = ((word + COUNTED_ONE) | COUNTED_DONE) & ~(uint32_t)COUNTED_DEAD;
    count_set_word(object, word);
    return true;
}

void count_finish(struct count_domain *domain, void *object) {
    domain->figures.destroyed++;
    count_free(domain, object);
}

// One object, from `stage` on.  False when something is to be done outside.
static bool count_destroy(struct count_domain *domain, struct count_call *call,
                          void *object, enum count_wish stage) {
    const struct kinds_type *type = kinds_of(object);
    if (stage == COUNT_NOTHING && count_is_finalized(call, object, type)) {
        return false;
    }
    if (stage != COUNT_DESTROY &&
        (type->destroy != NULL || bond_may_hang(object, type))) {
        *call = (struct count_call){COUNT_DESTROY, false, object, type};
        return false;
    }
    if (!(type->flags & KINDS_LEAF)) {
        count_release_slots(domain, object, type);
    }
    count_finish(domain, object);
    return true;
}

// --- Many of one type -----------------------------------------------------

// What the head of a simple object must be for the short way, and where: of
// the type, with one owner, in no buffer, without weak references.
#define COUNT_ASKED                                                            \
    (COUNT_TYPE_BITS | COUNTED_COUNT_MASK | COUNTED_OTHER | COUNTED_DEAD |     \
     COUNTED_KEPT | COUNTED_WATCHED)

// What a slot owned is released; whether it is to be destroyed: it was like
// `wanted`, whose flags are left in *flags.
static ALWAYS_INLINE bool count_let_go(struct count_domain *domain, void *owned,
                                       uint64_t wanted, uint32_t *flags) {
    if (owned == NULL) {
        return false;
    }
    uint64_t head = counted_head(owned);
    if (LIKELY((head & COUNT_ASKED) == wanted)) {
        *flags = ((uint32_t)head & COUNTED_DONE) | COUNTED_DEAD;
        return true;
    }
    (void)count_release(domain, owned);
    return false;
}

static inline void *count_slot(const void *object, uint32_t at) {
    void *owned;
    memcpy(&owned, (const char *)object + at, sizeof owned);
    return owned;
}

static inline void count_push_like(struct count_domain *domain, void *object,
                                   uint64_t type, uint32_t flags) {
    uint64_t head = type << 52 | count_link(domain->dead) | flags;
    counted_set_head(object, head);
    domain->dead = (uintptr_t)object;
    domain->owed_count++;
}

// The next on the list if it is of this type and can be freed as it is.
static inline void *count_pop_like(struct count_domain *domain, uint64_t type) {
    void *object = (void *)domain->dead;
    if (object == NULL) {
        return NULL;
    }
    uint64_t head = counted_head(object);
    if (head >> 52 != type || (head & (COUNTED_KEPT | COUNTED_WATCHED)) != 0) {
        return NULL;
    }
    domain->dead = count_next(head);
    domain->owed_count--;
    return object;
}

// Destroys objects of one simple type, from `object` on, at most `limit`;
// returns how many.  What dies with an object's first slot is next, and does
// not pass by the list.  All that is needed of the type is read before: the way
// to the next object leads through a slot of this one alone.
static size_t count_cascade(struct count_domain *domain, void *object,
                            const struct kinds_type *type, size_t limit) {
    const uint64_t id = type->id;
    const uint64_t wanted = id << 52 | COUNTED_ONE;
    const uint32_t *slots = type->slots;
    const uint32_t slot_count = type->slot_count;
    size_t done = 0;
    for (;;) {
        void *next = NULL;
        uint32_t flags;
        for (uint32_t i = slot_count; i > 1;) {
            void *owned = count_slot(object, slots[--i]);
            if (count_let_go(domain, owned, wanted, &flags)) {
                count_push_like(domain, owned, id, flags);
            }
        }
        if (slot_count != 0) {
            void *owned = count_slot(object, slots[0]);
            if (count_let_go(domain, owned, wanted, &flags)) {
                count_set_word(owned, flags);
                next = owned;
            }
        }
        gather_cell(&domain->gather, object);
        done++;
        char *before = object;
        object = next != NULL ? next : count_pop_like(domain, id);
        if (object == NULL || UNLIKELY(done == limit)) {
            break;
        }
        // What was made together dies together, on this side or on that.
        PREFETCH_WRITE(before + ((char *)object < before ? -2048 : 2048));
    }
    if (object != NULL) {
        count_bury(domain, object);
    }
    return done;
}

void count_drop(struct count_domain *domain, void *object,
                const struct kinds_type *type, size_t limit) {
    count_set_word(object,
                   (counted_flags(object) & COUNTED_DONE) | COUNTED_DEAD);
    domain->falls = domain->settles;
    domain->figures.destroyed += count_cascade(domain, object, type, limit);
    domain->falls = false;
}

bool count_advance(struct count_domain *domain, struct count_call *call,
                   size_t limit) {
    enum count_wish stage = call->wish;
    call->wish = COUNT_NOTHING;
    size_t done = 0;
    if (stage == COUNT_FINALIZE || stage == COUNT_DESTROY) {
        if (count_came_back(domain, call->object, stage) &&
            !count_destroy(domain, call, call->object, stage)) {
            return true;
        }
        done++;
    }
    while (done < limit) {
        void *object = count_pop(domain);
        if (object == NULL) {
            break;
        }
        const struct kinds_type *type = kinds_of(object);
        if (LIKELY(type->is_simple && !(counted_flags(object) &
                                        (COUNTED_KEPT | COUNTED_WATCHED)))) {
            domain->falls = domain->settles;
            size_t some = count_cascade(domain, object, type, limit - done);
            domain->falls = false;
            domain->figures.destroyed += some;
            done += some;
        } else if (count_destroy(domain, call, object, COUNT_NOTHING)) {
            done++;
        } else {
            return true;
        }
    }
    return false;
}
