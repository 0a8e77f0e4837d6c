#include "roots/roll.h"

#include <string.h>

#include "base/check.h"
#include "heap/meta.h"
#include "os/suspend.h"
#include "roots/mutator.h"

#define ROLL_LEAF_SLOTS ((uint32_t)1 << ROLL_LEAF_BITS)
#define ROLL_SLOTS      16 // ids to begin with
#define ROLL_SWEEP      16 // leaving mutators that are let be

struct record *roll_find(const struct roll *roll, uint32_t thread) {
    uint32_t at = thread >> ROLL_LEAF_BITS;
    if (thread == 0 || at >= ROLL_LEAVES) {
        return NULL;
    }
    struct roll_leaf *leaf =
        __atomic_load_n(&roll->leaves[at], __ATOMIC_ACQUIRE);
    if (leaf == NULL) {
        return NULL;
    }
    struct record *record = __atomic_load_n(
        &leaf->slots[thread % ROLL_LEAF_SLOTS], __ATOMIC_ACQUIRE);
    if (record == NULL ||
        __atomic_load_n(&record->thread, __ATOMIC_RELAXED) != thread) {
        return NULL; // J2
    }
    return record;
}

// The slot of a thread's id, its leaf made if need be; NULL as roll_add.
static struct record **roll_slot(struct roll *roll, uint32_t thread) {
    uint32_t at = thread >> ROLL_LEAF_BITS;
    if (at >= ROLL_LEAVES) {
        return NULL;
    }
    struct roll_leaf *leaf = roll->leaves[at];
    if (leaf == NULL) {
        leaf = meta_make(sizeof *leaf);
        if (leaf == NULL) {
            return NULL;
        }
        __atomic_store_n(&roll->leaves[at], leaf, __ATOMIC_RELEASE);
    }
    return &leaf->slots[thread % ROLL_LEAF_SLOTS];
}

// A record that was used before, as far as a late reader may still look at it
// left alone, or a new one.
static struct record *roll_take(struct roll *roll) {
    struct record *record = roll->unused;
    if (record == NULL) {
        return meta_make(sizeof *record);
    }
    roll->unused = record->next;
    struct tracer_file *file = record->file;
    memset(record, 0, sizeof *record);
    record->file = file;
    return record;
}

struct record *roll_meet(struct roll *roll, uint32_t thread) {
    struct record *known = roll_find(roll, thread);
    if (known != NULL) {
        return known;
    }
    struct record **slot = roll_slot(roll, thread);
    if (slot == NULL) {
        return NULL;
    }
    struct record *record = roll_take(roll);
    if (record == NULL) {
        return NULL;
    }
    record->next = roll->records;
    record->link = &roll->records;
    if (record->next != NULL) {
        record->next->link = &record->next;
    }
    roll->records = record;
    roll->count++; // J3
    roll->strangers++;
    __atomic_store_n(&record->thread, thread, __ATOMIC_RELAXED);
    __atomic_store_n(slot, record, __ATOMIC_RELEASE); // J1
    return record;
}

static void roll_strike(struct roll *roll, struct record *record) {
    struct record **slot = roll_slot(roll, record->thread);
    ASSERT(slot != NULL && *slot == record);
    __atomic_store_n(slot, NULL, __ATOMIC_RELEASE);
    __atomic_store_n(&record->thread, 0, __ATOMIC_RELAXED);
    *record->link = record->next;
    if (record->next != NULL) {
        record->next->link = record->link;
    }
    roll->count--; // J3
    record->next = roll->unused;
    roll->unused = record;
}

// --- Mutators --------------------------------------------------------------

void roll_bury(struct roll *roll, struct record *record) {
    struct mutator *mutator = record->mutator;
    roll_strike(roll, record);
    if (mutator == NULL) {
        roll->strangers--;
        return;
    }
    mutator->thread = 0;
    roll->dead++;
    if (mutator->leaving) {
        roll->leaving--;
    } else if (roll->buried != NULL) {
        roll->buried(mutator); // J5
    }
}

void roll_reap(struct roll *roll) {
    struct mutator **link = &roll->mutators;
    while (roll->dead != 0) { // or ten thousand are looked at in each stop
        struct mutator *mutator = *link;
        if (mutator->thread != 0) {
            link = &mutator->next;
            continue;
        }
        *link = mutator->next;
        roll->dead--;
        roll->slots[mutator->id - 1] = NULL;
        mutator_free(mutator);
    }
}

// Buries the leaving whose threads are gone by now.  The bound is doubled each
// time, so that many who stay cost little.
static void roll_sweep(struct roll *roll) {
    struct record *next;
    for (struct record *record = roll->records; record != NULL; record = next) {
        next = record->next;
        if (record->mutator != NULL && record->mutator->leaving &&
            !suspend_is_thread(record->thread)) {
            roll_bury(roll, record);
        }
    }
    roll_reap(roll);
    roll->sweep_at = 2 * roll->leaving + ROLL_SWEEP;
}

// A free id; 0: no memory.  J4
static uint32_t roll_new_id(struct roll *roll) {
    for (size_t i = 0; i < roll->slot_count; i++) {
        size_t at = (roll->slot_last + i) % roll->slot_count;
        if (roll->slots[at] == NULL) {
            roll->slot_last = at;
            return (uint32_t)at + 1;
        }
    }
    size_t count = roll->slot_count == 0 ? ROLL_SLOTS : 2 * roll->slot_count;
    struct mutator **slots = meta_make(count * sizeof *slots);
    if (slots == NULL) {
        return 0;
    }
    if (roll->slot_count != 0) {
        memcpy(slots, roll->slots, roll->slot_count * sizeof *slots);
        meta_free(roll->slots, roll->slot_count * sizeof *slots);
    }
    roll->slots = slots;
    roll->slot_last = roll->slot_count;
    roll->slot_count = count;
    return (uint32_t)roll->slot_last + 1;
}

struct mutator *roll_attach(struct roll *roll, uint32_t thread,
                            struct heap *home, bool single) {
    if (roll->leaving > roll->sweep_at) {
        roll_sweep(roll);
    }
    struct record *record = roll_find(roll, thread);
    if (record != NULL && record->mutator != NULL) {
        if (record->mutator->leaving) { // the same thread, or one with its id
            record->mutator->leaving = false;
            roll->leaving--;
            return record->mutator;
        }
        roll_bury(roll, record);
        roll_reap(roll);
    }
    record = roll_meet(roll, thread);
    uint32_t id = record == NULL ? 0 : roll_new_id(roll);
    struct mutator *mutator = id == 0 ? NULL : mutator_make(id, home, single);
    if (mutator == NULL) {
        return NULL; // the record is a stranger's
    }
    mutator->thread = thread;
    mutator->next = roll->mutators;
    roll->mutators = mutator;
    roll->slots[id - 1] = mutator;
    roll->strangers--;
    __atomic_store_n(&record->mutator, mutator, __ATOMIC_RELEASE);
    return mutator;
}

void roll_detach(struct roll *roll, struct mutator *mutator) {
    ASSERT(!mutator->leaving);
    mutator->leaving = true;
    roll->leaving++;
}

struct mutator *roll_find_id(const struct roll *roll, uint32_t id) {
    return id == 0 || id > roll->slot_count ? NULL : roll->slots[id - 1];
}

// Forgets all but what one thread needs: a leaf and a record, which stay such
// (J2), and room for ids.  What another thread was changing there does no harm.
static void roll_empty(struct roll *roll, uint32_t thread, uint32_t id) {
    struct record *record =
        roll->records != NULL ? roll->records : roll->unused;
    struct roll_leaf *leaf = NULL;
    for (size_t at = 0; at < ROLL_LEAVES && leaf == NULL; at++) {
        leaf = roll->leaves[at];
    }
    size_t count = id > ROLL_SLOTS ? id : ROLL_SLOTS;
    struct mutator **slots = roll->slot_count >= count ? roll->slots : NULL;
    void (*buried)(struct mutator *) = roll->buried;
    memset(roll, 0, sizeof *roll);
    roll->buried = buried;
    if (record != NULL) {
        roll->unused = memset(record, 0, sizeof *record);
    }
    if (leaf != NULL && thread >> ROLL_LEAF_BITS < ROLL_LEAVES) {
        roll->leaves[thread >> ROLL_LEAF_BITS] = memset(leaf, 0, sizeof *leaf);
    }
    if (slots != NULL) {
        roll->slots = memset(slots, 0, count * sizeof *slots);
        roll->slot_count = count;
    }
}

// A child may have been made because there is no more memory: it has what its
// parent had.
bool roll_forked(struct roll *roll, uint32_t thread, struct mutator *self) {
    roll_empty(roll, thread, self != NULL ? self->id : 0);
    struct record *record = roll_meet(roll, thread);
    if (record == NULL) {
        return false;
    }
    if (self != NULL) {
        self->thread = thread;
        self->next = NULL;
        self->leaving = false;
        roll->slots[self->id - 1] = self;
        roll->mutators = self;
        record->mutator = self;
        roll->strangers = 0;
    }
    return true;
}

void roll_each(const struct roll *roll, roll_visit *visit, void *data) {
    struct mutator *next;
    for (struct mutator *m = roll->mutators; m != NULL; m = next) {
        next = m->next;
        visit(m, data);
    }
}
