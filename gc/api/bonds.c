#include "api/bonds.h"

#include "api/init.h"
#include "api/map.h"
#include "heap/block.h"
#include "heap/counted.h"
#include "heap/heap.h"
#include "rc/bond.h"
#include "rc/kinds.h"
#include "trace/ephemeron.h"

#define BONDS_BATCH ((size_t)(LOAM_TINY ? 2 : 256))

static bool bonds_take(const void *object, unsigned sorts, struct bond *taken) {
    struct mutator *mutator = init_lock();
    if (mutator == NULL) {
        return false;
    }
    bool found = bond_take((uintptr_t)object, sorts, taken);
    init_unlock(mutator);
    return found;
}

// --- The end of an object --------------------------------------------------

// Hands the object to the next of its guardians; false when there is none.
static bool bonds_deliver(struct count_domain *domain, void *object) {
    if (!count_retain_living(domain, object)) {
        return false;
    }
    struct mutator *mutator = init_lock();
    struct bond bond;
    bool found =
        mutator != NULL && bond_take((uintptr_t)object, BOND_GUARD, &bond);
    if (found) { // BN3: in the record that became free just now
        bond.sort = BOND_HELD;
        bond.value = (uintptr_t)object;
        bond.thread = init_mutator->id;
        found = bond_add(&bond);
        fate_token_deliver((struct fate_token *)bond.cell, (uintptr_t)object);
    }
    if (mutator != NULL) {
        init_unlock(mutator);
    }
    if (!found) {
        (void)count_release(domain, object);
    }
    return found;
}

static void bonds_look(struct bond *bond, void *data) {
    (void)bond;
    ++*(size_t *)data;
}

// The number of guardians that wait.
static size_t bonds_waiting(const void *object) {
    size_t waiting = 0;
    struct mutator *mutator = init_lock();
    if (mutator != NULL) {
        bond_each_of((uintptr_t)object, BOND_GUARD, bonds_look, &waiting);
        init_unlock(mutator);
    }
    return waiting;
}

void bonds_finalize(struct count_domain *domain,
                    const struct count_call *call) {
    void *object = call->object;
    const struct kinds_type *type = call->type;
    struct bond bond;
    bool hangs = bond_may_hang(object, type);
    size_t waiting = hangs ? bonds_waiting(object) : 0;
    if (type->finalize != NULL && !call->again) {
        type->finalize(object); // BN2
    }
    if (hangs && bonds_take(object, BOND_FINALIZER, &bond)) {
        bond.function(object, (void *)bond.value); // BN1
    }
    while (waiting != 0 && bonds_deliver(domain, object)) {
        waiting--;
    }
}

// What was set for an object that dies without it, or in vain.
static void bonds_drop(struct count_domain *domain, const struct bond *bond) {
    if (bond->sort == BOND_VALUE) {
        (void)count_release(domain, (void *)bond->value); // BN4
    }
}

// One comes down, with what it is known by.
static bool bonds_pull(const void *object, struct bond *bond) {
    const unsigned sorts = BOND_VALUE | BOND_FINALIZER | BOND_GUARD;
    struct mutator *mutator = init_lock();
    if (mutator == NULL) {
        return false; // the tracer will find it so
    }
    bool found = bond_take((uintptr_t)object, sorts, bond);
    if (found && bond->sort == BOND_VALUE) {
        ephemeron_drop((struct ephemeron *)bond->cell);
    } else if (found && bond->sort == BOND_GUARD) {
        fate_token_cancel((struct fate_token *)bond->cell);
    }
    init_unlock(mutator);
    return found;
}

void bonds_destroy(struct count_domain *domain, void *object,
                   const struct kinds_type *type) {
    struct bond bond;
    while (bond_may_hang(object, type) && bonds_pull(object, &bond)) {
        bonds_drop(domain, &bond);
    }
    if (type->destroy != NULL) {
        type->destroy(object);
    }
}

void bonds_settle(struct count_domain *domain, bool nobodys) {
    void *values[BONDS_BATCH];
    size_t count = BONDS_BATCH;
    while (count == BONDS_BATCH && bond_is_used()) {
        struct mutator *mutator = init_lock();
        if (mutator == NULL) {
            return;
        }
        count = bond_take_loose(init_mutator->id, nobodys, values, BONDS_BATCH);
        init_unlock(mutator);
        for (size_t i = 0; i < count; i++) {
            (void)count_release(domain, values[i]);
        }
    }
}

// --- Finalizers and guardians ------------------------------------------------

static void bonds_describe(const struct bond *bond,
                           struct loam_finalizer *finalizer) {
    *finalizer = (struct loam_finalizer){NULL, NULL, LOAM_FINALIZE_ORDERED};
    if (bond != NULL) {
        finalizer->function = bond->function;
        finalizer->data = (void *)bond->value;
        finalizer->mode = (enum loam_finalize)bond->mode;
    }
}

// Under the lock; false when memory is short.
static bool bonds_put(uintptr_t object, struct bond *old,
                      const struct loam_finalizer *finalizer) {
    if (finalizer == NULL || finalizer->function == NULL) {
        if (old != NULL) {
            bond_remove(old);
        }
        return true;
    }
    if (old != NULL) {
        old->function = finalizer->function;
        old->value = (uintptr_t)finalizer->data;
        old->mode = (uint8_t)finalizer->mode;
        return true;
    }
    struct bond bond = {.object = object,
                        .value = (uintptr_t)finalizer->data,
                        .function = finalizer->function,
                        .sort = BOND_FINALIZER,
                        .mode = (uint8_t)finalizer->mode};
    return bond_add(&bond);
}

bool bonds_set(const struct place *place,
               const struct loam_finalizer *finalizer,
               struct loam_finalizer *previous) {
    uintptr_t object = blockmap_start(place);
    struct mutator *mutator = init_lock();
    if (mutator == NULL) {
        return false;
    }
    struct bond *old = bond_find(object, BOND_FINALIZER, 0);
    struct loam_finalizer was;
    bonds_describe(old, &was);
    bool put = bonds_put(object, old, finalizer);
    init_unlock(mutator);
    if (put) {
        map_watch(place);
        if (previous != NULL) {
            *previous = was;
        }
    }
    return put;
}

bool bonds_get(const struct place *place, struct loam_finalizer *finalizer) {
    struct mutator *mutator = init_lock();
    if (mutator == NULL) {
        return false;
    }
    const struct bond *bond =
        bond_find(blockmap_start(place), BOND_FINALIZER, 0);
    bonds_describe(bond, finalizer);
    init_unlock(mutator);
    return bond != NULL;
}

bool bonds_watch(const struct place *place, struct fate_guard *guard,
                 struct fate_token *token) {
    uintptr_t object = blockmap_start(place);
    struct bond bond = {
        .object = object, .cell = (uintptr_t)token, .sort = BOND_GUARD};
    struct mutator *mutator = init_lock();
    if (mutator == NULL) {
        return false;
    }
    bool added = bond_add(&bond);
    if (added) {
        fate_token_wait(token, guard);
    }
    init_unlock(mutator);
    if (added) {
        map_watch(place);
    }
    return added;
}

// Under the lock.
bool bonds_take_held(uintptr_t object, const void *cell) {
    struct bond *held = bond_find(object, BOND_HELD, (uintptr_t)cell);
    if (held != NULL) {
        bond_remove(held);
    }
    return held != NULL;
}

void bonds_hold(const void *cell, void *object) {
    struct mutator *mutator = init_lock();
    if (mutator != NULL) {
        struct bond bond = {.object = (uintptr_t)object,
                            .cell = (uintptr_t)cell,
                            .value = (uintptr_t)object,
                            .thread = mutator->id,
                            .sort = BOND_HELD};
        bool held = bond_add(&bond);
        (void)held;
        init_unlock(mutator);
    }
}

void bonds_let_go(const void *cell, void *object) {
    struct mutator *mutator = init_lock();
    if (mutator != NULL) {
        (void)bonds_take_held((uintptr_t)object, cell);
        init_unlock(mutator);
    }
}

void bonds_hand_over(struct count_domain *domain, void *object) {
    if (kinds_of(object)->flags & KINDS_DEFERRED) {
        (void)count_release(domain, object);
    }
}

// --- Entries of maps ---------------------------------------------------------

// The counted object of a word; NULL if it leads to none.
static void *bonds_counted(const void *word, struct place *place) {
    return blockmap_object((uintptr_t)word, place) != NULL &&
                   block_kind_is_counted(place->kind)
               ? (void *)blockmap_start(place)
               : NULL;
}

static bool bonds_is_shared(const void *object) {
    return (kinds_of(object)->flags & (KINDS_SHARED | KINDS_ATOMIC)) != 0;
}

// Whether a plain object belongs to another thread.
static bool bonds_is_foreign(const struct place *place) {
    uint32_t owner = block_owner_mutator(place->block);
    return owner != 0 && owner != init_mutator->id;
}

static const char *bonds_key_fault(const void *key) {
    struct place place;
    const void *object = bonds_counted(key, &place);
    if (object == NULL) {
        return blockmap_object((uintptr_t)key, &place) != NULL &&
                       !heap_is_block_of(init_state.home.collector.heap,
                                         place.block)
                   ? "a key of another heap cannot hold a counted value"
                   : NULL;
    }
    if (bonds_is_shared(object)) {
        return "a key that threads share cannot hold a counted value";
    }
    return bonds_is_foreign(&place) ? "the key belongs to another thread"
                                    : NULL;
}

const char *bonds_fault(const void *key, const void *value) {
    struct place place;
    const void *object = bonds_counted(value, &place);
    if (object == NULL) {
        return NULL;
    }
    if (counted_flags(object) & COUNTED_DEAD) {
        return "the value is being destroyed";
    }
    if (!bonds_is_shared(object) && bonds_is_foreign(&place)) {
        return "the value belongs to another thread";
    }
    return bonds_key_fault(key);
}

// A key that could be no part of a ring can be one now: it may be suspected.
static void bonds_suspect(void *key) {
    uint32_t word = counted_flags(key);
    if (!(word & (COUNTED_OTHER | COUNTED_KEPT | COUNTED_DEAD))) {
        __atomic_store_n(&counted_of(key)->word,
                         word & ~(uint32_t)COUNTED_QUIET, __ATOMIC_RELAXED);
    }
}

// Under the lock; with the value's count taken.
static bool bonds_change(uintptr_t object, const void *cell, void *value,
                         void **old) {
    struct bond *bond = bond_find(object, BOND_VALUE, (uintptr_t)cell);
    if (bond != NULL) {
        *old = (void *)bond->value;
        if (value == NULL) {
            bond_remove(bond);
        } else {
            bond_set_value(bond, (uintptr_t)value);
        }
        return true;
    }
    struct bond made = {.object = object,
                        .cell = (uintptr_t)cell,
                        .value = (uintptr_t)value,
                        .thread = init_mutator->id,
                        .sort = BOND_VALUE};
    return value == NULL || bond_add(&made);
}

bool bonds_hang(struct count_domain *domain, const void *key, const void *cell,
                const void *value, void **old) {
    struct place place;
    void *owned = bonds_counted(value, &place);
    *old = NULL;
    if (owned == NULL && !bond_is_used()) {
        return true;
    }
    if (owned != NULL && !count_retain_living(domain, owned)) {
        return false;
    }
    uintptr_t object = (uintptr_t)key;
    if (blockmap_object(object, &place) != NULL) {
        object = blockmap_start(&place);
        if (block_kind_is_counted(place.kind)) {
            bonds_suspect((void *)object);
        }
    }
    struct mutator *mutator = init_lock();
    bool hung = mutator != NULL && bonds_change(object, cell, owned, old);
    if (mutator != NULL) {
        init_unlock(mutator);
    }
    if (!hung && owned != NULL) {
        (void)count_release(domain, owned); // BN5
    }
    return hung;
}
