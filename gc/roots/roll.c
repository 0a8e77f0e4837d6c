#include "roots/roll.h"

#include <string.h>

#include "base/check.h"
#include "heap/meta.h"

#define ROLL_LEAF_SLOTS ((uint32_t)1 << ROLL_LEAF_BITS)

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

struct record *roll_add(struct roll *roll, uint32_t thread) {
    ASSERT(thread != 0 && roll_find(roll, thread) == NULL); // J1
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
    __atomic_store_n(&record->thread, thread, __ATOMIC_RELAXED);
    __atomic_store_n(slot, record, __ATOMIC_RELEASE);
    return record;
}

void roll_remove(struct roll *roll, struct record *record) {
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

void roll_forget(struct roll *roll) {
    memset(roll, 0, sizeof *roll);
}
