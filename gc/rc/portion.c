#include "rc/portion.h"

#include <string.h>

#include "base/check.h"
#include "heap/block.h"
#include "heap/blockmap.h"
#include "heap/counted.h"
#include "rc/bias.h"
#include "rc/bond.h"
#include "rc/kinds.h"

#define PORTION_PASSES 64 // over the set, for what is bare

// The scratch count of a member: while owners are explained, one more than
// those that are not; then flags.
#define PORTION_ALIVE  COUNTED_SCRATCH_MASK
#define PORTION_MEMBER 1u
#define PORTION_LEFT   2u // with all that it hangs together with
#define PORTION_BARE   4u // leads to no plain object
#define PORTION_FREED  8u // left, and released by what is taken
#define PORTION_TAKEN  16u

struct portion_walk {
    const struct portion *portion;
    const void *from; // whose slots are looked at
    size_t from_at;
    uint32_t from_flags;
    bool changed, any_left;
};

typedef void portion_edge(struct portion_walk *walk, void *to, uint32_t flags);

static uint32_t portion_scratch(const void *object) {
    return __atomic_load_n(&counted_of(object)->info, __ATOMIC_RELAXED) &
           COUNTED_SCRATCH_MASK;
}

static void portion_set(const void *object, uint32_t scratch) {
    uint32_t *info = &counted_of(object)->info;
    uint32_t was = __atomic_load_n(info, __ATOMIC_RELAXED);
    __atomic_store_n(info, (was & ~COUNTED_SCRATCH_MASK) | scratch,
                     __ATOMIC_RELAXED);
}

static bool portion_is_shared(const void *object) {
    return (kinds_of(object)->flags & (KINDS_SHARED | KINDS_ATOMIC)) != 0;
}

// --- Slots -------------------------------------------------------------------

struct portion_slots {
    struct portion_walk *walk;
    portion_edge *edge;
};

// What is owned cannot die while its owner does not: its head is no link.  The
// scratch count of what is not condemned may be that of a trial by the thread
// it belongs to, which runs (PO6).
static void portion_owned(void *to, void *data) {
    const struct portion_slots *slots = data;
    uint32_t word = to == NULL ? COUNTED_DEAD : counted_flags(to);
    if ((word & COUNTED_DEAD) || kinds_get(counted_type(to)) == NULL) {
        return;
    }
    bool is_ours = (word & COUNTED_CONDEMNED) != 0;
    slots->edge(slots->walk, to, is_ours ? portion_scratch(to) : 0);
}

static void portion_slot(void *slot, void *data) {
    void *to;
    memcpy(&to, slot, sizeof to);
    portion_owned(to, data);
}

// Slots, and what maps have under it: no key that threads share has counted
// values, nor is there anything else under it that is condemned.
static void portion_each_slot(struct portion_walk *walk, void *object,
                              portion_edge *edge) {
    struct portion_slots slots = {walk, edge};
    const struct kinds_type *type = kinds_of(object);
    for (uint32_t i = 0; i < type->slot_count; i++) {
        portion_slot((char *)object + type->slots[i], &slots);
    }
    if (type->visit != NULL) {
        type->visit(object, portion_slot, &slots);
    }
    if (!portion_is_shared(object) && bond_may_hang(object, type)) {
        bond_each_value(object, portion_owned, &slots);
    }
}

static void portion_look(struct portion_walk *walk, size_t at,
                         portion_edge *edge) {
    void *object = walk->portion->set->items[at];
    walk->from = object;
    walk->from_at = at;
    walk->from_flags = portion_scratch(object);
    portion_each_slot(walk, object, edge);
}

static void portion_look_all(struct portion_walk *walk, portion_edge *edge) {
    for (size_t i = 0; i < walk->portion->set->count; i++) {
        portion_look(walk, i, edge);
    }
}

// --- Who is owned from outside -----------------------------------------------

static uint32_t portion_count(const void *object) {
    const struct kinds_type *type = kinds_of(object);
    if (type->flags & KINDS_SHARED) {
        size_t count = bias_count(object);
        return count >= PORTION_ALIVE ? PORTION_ALIVE : (uint32_t)count;
    }
    uint32_t word =
        __atomic_load_n(&counted_of(object)->word, __ATOMIC_ACQUIRE);
    if (!(type->flags & KINDS_ATOMIC) && !kinds_is_plain(object, word)) {
        return 0; // too large to be kept: EX4 of rc/explain.h
    }
    return (word & COUNTED_COUNT_MASK) / COUNTED_ONE;
}

static void portion_explain(struct portion_walk *walk, void *to,
                            uint32_t scratch) {
    (void)walk;
    if (scratch > 1 && scratch != PORTION_ALIVE) {
        portion_set(to, scratch - 1);
    }
}

// Whether a plain object is released by another thread.
static bool portion_is_foreign(const struct portion *portion,
                               const void *object) {
    struct place place;
    if (!blockmap_find((uintptr_t)counted_of(object), &place)) {
        return false;
    }
    uint32_t owner = block_owner_mutator(place.block);
    return owner != portion->owner && !(owner == 0 && portion->alone);
}

// PO2, and what is not bare.  Also a plain object may own another thread's: a
// block that a thread left, with others' in it, may be this one's now.
static void portion_judge(struct portion_walk *walk, void *to, uint32_t flags) {
    (void)flags;
    if (portion_is_shared(to)) {
        return;
    }
    walk->from_flags &= ~PORTION_BARE;
    if (portion_is_foreign(walk->portion, to)) {
        walk->from_flags |= PORTION_LEFT;
    }
}

// Every member is explained as far as it goes, and then has flags.
static void portion_begin(struct portion_walk *walk) {
    const struct trial_vector *set = walk->portion->set;
    for (size_t i = 0; i < set->count; i++) {
        uint32_t count = portion_count(set->items[i]);
        portion_set(set->items[i],
                    count >= PORTION_ALIVE - 1 ? PORTION_ALIVE : count + 1);
    }
    portion_look_all(walk, portion_explain);
    for (size_t i = 0; i < set->count; i++) {
        void *object = set->items[i];
        walk->from_flags = PORTION_MEMBER;
        walk->from_flags |= portion_scratch(object) > 1 ? PORTION_LEFT : 0;
        walk->from_flags |= portion_is_shared(object) ? PORTION_BARE : 0;
        portion_each_slot(walk, object, portion_judge);
        walk->any_left |= (walk->from_flags & PORTION_LEFT) != 0;
        portion_set(object, walk->from_flags);
    }
}

// --- What is bare ------------------------------------------------------------

static void portion_bare(struct portion_walk *walk, void *to, uint32_t flags) {
    (void)to;
    if ((walk->from_flags & PORTION_BARE) && flags != 0 &&
        !(flags & PORTION_BARE)) {
        walk->from_flags &= ~PORTION_BARE;
        portion_set(walk->from, walk->from_flags);
        walk->changed = true;
    }
}

// Forwards and backwards in turn, for lists; if that does not come to an end
// soon, nothing is.
static void portion_find_bare(struct portion_walk *walk) {
    const struct trial_vector *set = walk->portion->set;
    for (size_t pass = 0; pass < PORTION_PASSES; pass++) {
        walk->changed = false;
        for (size_t i = 0; i < set->count; i++) {
            portion_look(walk, pass % 2 == 0 ? set->count - 1 - i : i,
                         portion_bare);
        }
        if (!walk->changed) {
            return;
        }
    }
    for (size_t i = 0; i < set->count; i++) {
        uint32_t flags = portion_scratch(set->items[i]);
        portion_set(set->items[i], flags & ~PORTION_BARE);
    }
}

// --- What hangs together -----------------------------------------------------

static size_t portion_note(const struct portion *portion, size_t at) {
    return (size_t)(uintptr_t)portion->notes[at];
}

static size_t portion_find(const struct portion *portion, size_t at) {
    while (portion_note(portion, at) != at) {
        size_t up = portion_note(portion, at);
        portion->notes[at] = portion->notes[up];
        at = up;
    }
    return at;
}

// Where in the set, which is in the order of addresses.
static size_t portion_at(const struct portion *portion, const void *object) {
    size_t low = 0, high = portion->set->count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if ((uintptr_t)portion->set->items[middle] <= (uintptr_t)object) {
            low = middle;
        } else {
            high = middle;
        }
    }
    ASSERT(portion->set->items[low] == object);
    return low;
}

static void portion_join(struct portion_walk *walk, void *to, uint32_t flags) {
    if (flags == 0 || ((flags ^ walk->from_flags) & PORTION_BARE)) {
        return;
    }
    const struct portion *portion = walk->portion;
    size_t a = portion_find(portion, walk->from_at);
    size_t b = portion_find(portion, portion_at(portion, to));
    // The lower one: chains stay short where memory was handed out in order.
    size_t root = a < b ? a : b;
    portion->notes[a] = portion->notes[b] = (void *)(uintptr_t)root;
}

static void *portion_root(const struct portion *portion, size_t at) {
    return portion->set->items[portion_find(portion, at)];
}

static void portion_flag(void *object, uint32_t flag) {
    portion_set(object, portion_scratch(object) | flag);
}

static bool portion_is_left(const struct portion *portion, size_t at) {
    return (portion_scratch(portion_root(portion, at)) & PORTION_LEFT) != 0;
}

// What is bare and owned by what is left is left.
static void portion_pass(struct portion_walk *walk, void *to, uint32_t flags) {
    const struct portion *portion = walk->portion;
    if (flags != 0 && ((flags ^ walk->from_flags) & PORTION_BARE)) {
        portion_flag(portion_root(portion, portion_at(portion, to)),
                     PORTION_LEFT);
    }
}

// What is left, and owned by what is taken: bare, then.
static void portion_free(struct portion_walk *walk, void *to, uint32_t flags) {
    const struct portion *portion = walk->portion;
    if (flags == 0) {
        return;
    }
    size_t at = portion_at(portion, to);
    if (portion_is_left(portion, at)) {
        ASSERT(flags & PORTION_BARE);
        portion_flag(portion_root(portion, at), PORTION_FREED);
    }
}

static void portion_part(struct portion_walk *walk) {
    const struct portion *portion = walk->portion;
    size_t count = portion->set->count;
    portion_find_bare(walk);
    for (size_t i = 0; i < count; i++) {
        portion->notes[i] = (void *)(uintptr_t)i;
    }
    portion_look_all(walk, portion_join);
    for (size_t i = 0; i < count; i++) {
        if (portion_scratch(portion->set->items[i]) & PORTION_LEFT) {
            portion_flag(portion_root(portion, i), PORTION_LEFT);
        }
    }
    for (size_t i = 0; i < count; i++) {
        uint32_t flags = portion_scratch(portion->set->items[i]);
        if (!(flags & PORTION_BARE) && portion_is_left(portion, i)) {
            portion_look(walk, i, portion_pass);
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (!portion_is_left(portion, i)) {
            portion_look(walk, i, portion_free);
        }
    }
}

// --- The end -----------------------------------------------------------------

static void portion_settle(const struct portion *portion, size_t at) {
    void *object = portion->set->items[at];
    uint32_t flags = portion_scratch(portion_root(portion, at));
    if (!(flags & PORTION_LEFT)) {
        portion_flag(object, PORTION_TAKEN);
    } else if (flags & PORTION_FREED) {
        __atomic_fetch_and(&counted_of(object)->word,
                           ~(uint32_t)COUNTED_CONDEMNED, __ATOMIC_RELEASE);
    }
}

static void portion_finish(struct portion_walk *walk) {
    const struct portion *portion = walk->portion;
    struct trial_vector *set = portion->set;
    size_t taken = 0;
    for (size_t i = 0; walk->any_left && i < set->count; i++) {
        portion_settle(portion, i);
    }
    for (size_t i = 0; i < set->count; i++) {
        void *object = set->items[i];
        bool is_taken =
            !walk->any_left || (portion_scratch(object) & PORTION_TAKEN);
        portion_set(object, 0); // PO5
        set->items[taken] = object;
        taken += is_taken;
    }
    set->count = taken;
}

void portion_take(const struct portion *portion) {
    struct portion_walk walk = {.portion = portion};
    portion_begin(&walk);
    if (walk.any_left) {
        portion_part(&walk);
    }
    portion_finish(&walk);
}
