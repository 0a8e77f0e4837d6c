#include "rc/bond.h"

#include "base/check.h"
#include "heap/block.h"
#include "heap/blockmap.h"
#include "heap/meta.h"
#include "os/lock.h"

#define BOND_CHUNK_BYTES   ((size_t)(LOAM_TINY ? 256 : 32 * 1024))
#define BOND_BUCKETS_FIRST ((size_t)(LOAM_TINY ? 2 : 64))
#define BOND_FATES         ((unsigned)(BOND_FINALIZER | BOND_GUARD))

struct bond_chunk {
    struct bond_chunk *next;
    struct bond records[];
};

#define BOND_CHUNK_RECORDS                                                     \
    ((BOND_CHUNK_BYTES - sizeof(struct bond_chunk)) / sizeof(struct bond))

size_t bond_count;
size_t bond_fate_count;

// Chains are read by threads that do not hold the heap lock: `chains` is held
// for every step over them, and for every change.  Whoever holds it is INSIDE
// or has the heap lock, and is never stopped with it.
static struct {
    struct lock chains;
    struct bond **buckets; // chains
    size_t capacity;       // a power of two, or 0; chains
    struct bond_chunk *chunks;
    struct bond *free;
} bond_state;

static struct bond **bond_bucket(uintptr_t object) {
    uint64_t mixed = object / 8 * 0x9E3779B97F4A7C15u;
    return &bond_state.buckets[(mixed >> 32) & (bond_state.capacity - 1)];
}

static void bond_hang(struct bond *bond) {
    struct bond **bucket = bond_bucket(bond->object);
    bond->next = *bucket;
    *bucket = bond;
}

// --- Records ---------------------------------------------------------------

// Twice the buckets.
static bool bond_grow(void) {
    size_t before = bond_state.capacity;
    size_t capacity = before == 0 ? BOND_BUCKETS_FIRST : 2 * before;
    struct bond **old = bond_state.buckets;
    struct bond **grown = meta_make(capacity * sizeof(struct bond *));
    if (grown == NULL) {
        return false;
    }
    lock_acquire(&bond_state.chains);
    bond_state.buckets = grown;
    bond_state.capacity = capacity;
    for (size_t i = 0; i < before; i++) {
        struct bond *next;
        for (struct bond *bond = old[i]; bond != NULL; bond = next) {
            next = bond->next;
            bond_hang(bond);
        }
    }
    lock_release(&bond_state.chains);
    if (before != 0) {
        meta_free(old, before * sizeof(struct bond *));
    }
    return true;
}

static bool bond_add_chunk(void) {
    struct bond_chunk *chunk = meta_make(BOND_CHUNK_BYTES);
    if (chunk == NULL) {
        return false;
    }
    chunk->next = bond_state.chunks;
    bond_state.chunks = chunk; // BO4: all its records are free
    for (size_t i = BOND_CHUNK_RECORDS; i-- > 0;) {
        chunk->records[i].next = bond_state.free;
        bond_state.free = &chunk->records[i];
    }
    return true;
}

static void bond_tally(unsigned sort, size_t change) {
    __atomic_store_n(&bond_count, bond_count + change, __ATOMIC_RELAXED);
    if (sort & BOND_FATES) {
        __atomic_store_n(&bond_fate_count, bond_fate_count + change,
                         __ATOMIC_RELAXED);
    }
}

bool bond_add(const struct bond *bond) {
    if ((bond_count >= bond_state.capacity && !bond_grow() &&
         bond_state.capacity == 0) ||
        (bond_state.free == NULL && !bond_add_chunk())) {
        return false; // BO5
    }
    struct bond *added = bond_state.free;
    bond_state.free = added->next;
    uint8_t sort = bond->sort;
    lock_acquire(&bond_state.chains);
    *added = *bond;
    added->sort = BOND_FREE;
    bond_hang(added);
    __atomic_store_n(&added->sort, sort, __ATOMIC_RELEASE); // BO4
    lock_release(&bond_state.chains);
    bond_tally(sort, 1);
    return true;
}

void bond_remove(struct bond *bond) {
    bond_tally(bond->sort, (size_t)-1);
    lock_acquire(&bond_state.chains);
    struct bond **at = bond_bucket(bond->object);
    while (*at != bond) {
        CHECK(*at != NULL);
        at = &(*at)->next;
    }
    *at = bond->next;
    __atomic_store_n(&bond->sort, BOND_FREE, __ATOMIC_RELEASE);
    lock_release(&bond_state.chains);
    bond->next = bond_state.free;
    bond_state.free = bond;
}

void bond_set_value(struct bond *bond, uintptr_t value) {
    lock_acquire(&bond_state.chains);
    bond->value = value;
    lock_release(&bond_state.chains);
}

// --- By object -------------------------------------------------------------

// The chains held.
static struct bond *bond_seek(uintptr_t object, unsigned sorts,
                              uintptr_t cell) {
    struct bond *bond = bond_state.capacity == 0 ? NULL : *bond_bucket(object);
    while (bond != NULL &&
           (bond->object != object || (bond->sort & sorts) == 0 ||
            (cell != 0 && bond->cell != cell))) {
        bond = bond->next; // BO2
    }
    return bond;
}

struct bond *bond_find(uintptr_t object, unsigned sorts, uintptr_t cell) {
    lock_acquire(&bond_state.chains);
    struct bond *found = bond_seek(object, sorts, cell);
    lock_release(&bond_state.chains);
    return found;
}

bool bond_is_fated(const void *object) {
    return bond_find((uintptr_t)object, BOND_FATES, 0) != NULL;
}

void bond_each_of(uintptr_t object, unsigned sorts, bond_look *look,
                  void *data) {
    lock_acquire(&bond_state.chains);
    struct bond *bond = bond_seek(object, sorts, 0);
    for (; bond != NULL; bond = bond->next) {
        if (bond->object == object && (bond->sort & sorts) != 0) {
            look(bond, data);
        }
    }
    lock_release(&bond_state.chains);
}

struct bond_visiting {
    bond_visit *visit;
    void *data;
};

static void bond_look_value(struct bond *bond, void *data) {
    const struct bond_visiting *visiting = data;
    visiting->visit((void *)bond->value, visiting->data);
}

void bond_each_value(const void *key, bond_visit *visit, void *data) {
    struct bond_visiting visiting = {visit, data};
    bond_each_of((uintptr_t)key, BOND_VALUE, bond_look_value, &visiting);
}

bool bond_take(uintptr_t object, unsigned sorts, struct bond *taken) {
    struct bond *found = bond_find(object, sorts, 0);
    if (found != NULL) {
        *taken = *found;
        bond_remove(found);
    }
    return found != NULL;
}

// --- All of them -------------------------------------------------------------

void bond_each(bond_look *look, void *data) {
    struct bond_chunk *chunk = bond_state.chunks;
    for (; chunk != NULL; chunk = chunk->next) {
        for (size_t i = 0; i < BOND_CHUNK_RECORDS; i++) {
            if (chunk->records[i].sort != BOND_FREE) {
                look(&chunk->records[i], data);
            }
        }
    }
}

struct bond_taking {
    uint32_t thread;
    bool nobodys;
    void **values;
    size_t count, capacity;
};

static void bond_look_loose(struct bond *bond, void *data) {
    struct bond_taking *taking = data;
    bool mine =
        bond->thread == 0 ? taking->nobodys : bond->thread == taking->thread;
    if (bond->sort == BOND_LOOSE && mine && taking->count < taking->capacity) {
        taking->values[taking->count++] = (void *)bond->value;
        bond_remove(bond);
    }
}

size_t bond_take_loose(uint32_t thread, bool nobodys, void **values,
                       size_t capacity) {
    struct bond_taking taking = {.thread = thread,
                                 .nobodys = nobodys,
                                 .values = values,
                                 .capacity = capacity};
    if (bond_is_used()) {
        bond_each(bond_look_loose, &taking);
    }
    return taking.count;
}

static void bond_look_owner(struct bond *bond, void *data) {
    const uint32_t *thread = data;
    if (bond->thread == *thread) {
        bond->thread = 0;
    }
}

void bond_disown(uint32_t thread) {
    bond_each(bond_look_owner, &thread);
}

// --- After marking -----------------------------------------------------------

struct bond_walk {
    const struct heap *heap;
    bond_mark *mark;
    void *data;
    bool loose;
};

// Whether a word of an object is one of the heap that goes.
static bool bond_is_gone(const struct bond_walk *walk, uintptr_t word,
                         struct place *place) {
    return blockmap_find(word, place) &&
           block_get(place->block)->heap == walk->heap->slot &&
           (!block_is_marked(place->block, place->cell) ||
            block_is_freed(place->block, place->cell));
}

// Whether it is a counted object that is condemned.
static bool bond_is_condemned(const struct place *place) {
    const void *object = (const void *)blockmap_start(place);
    const uint32_t asked = COUNTED_CONDEMNED | COUNTED_DEAD;
    return block_kind_is_counted(place->kind) && counted_type(object) != 0 &&
           counted_type(object) != COUNTED_ZOMBIE &&
           (counted_flags(object) & asked) == COUNTED_CONDEMNED;
}

static void bond_settle_one(struct bond *bond, void *data) {
    struct bond_walk *walk = data;
    struct place place;
    bool gone = bond_is_gone(walk, bond->object, &place);
    bool condemned = gone && bond_is_condemned(&place);
    if (bond->sort == BOND_VALUE && condemned) {
        // What hangs on it goes with it, or comes back with it.
        walk->mark(bond->cell, walk->data);
        return;
    }
    bool cell_gone = bond->cell != 0 && bond_is_gone(walk, bond->cell, &place);
    if (bond->sort == BOND_LOOSE) {
        walk->loose = true;
    } else if (cell_gone || (gone && !condemned)) { // BO3
        if (bond->sort & BOND_FATES) {
            bond_remove(bond);
        } else {
            bond->sort = BOND_LOOSE;
            bond->cell = 0;
            walk->loose = true;
        }
    }
}

bool bond_settle(const struct heap *heap, bond_mark *mark, void *data) {
    struct bond_walk walk = {heap, mark, data, false};
    if (bond_is_used()) {
        bond_each(bond_settle_one, &walk);
    }
    return walk.loose;
}

// --- A child -----------------------------------------------------------------

void bond_forked(uint32_t thread) {
    bond_state.chains.word = 0;
    bond_state.free = NULL;
    bond_count = bond_fate_count = 0;
    for (size_t i = 0; i < bond_state.capacity; i++) {
        bond_state.buckets[i] = NULL;
    }
    struct bond_chunk *chunk = bond_state.chunks;
    for (; chunk != NULL; chunk = chunk->next) {
        for (size_t i = 0; i < BOND_CHUNK_RECORDS; i++) {
            struct bond *bond = &chunk->records[i];
            if (bond->sort == BOND_FREE) {
                bond->next = bond_state.free;
                bond_state.free = bond;
            } else {
                bond->thread = bond->thread == thread ? thread : 0;
                bond_hang(bond);
                bond_tally(bond->sort, 1);
            }
        }
    }
}
