#include "rc/deferred.h"

#include "heap/block.h"
#include "heap/blockmap.h"
#include "heap/counted.h"
#include "rc/kinds.h"

static void deferred_set_word(void *object, uint32_t word) {
    __atomic_store_n(&counted_of(object)->word, word, __ATOMIC_RELAXED);
}

// The object that a word leads into, if it is deferred and alive.
static void *deferred_find(uintptr_t word, uint32_t owner) {
    struct place place;
    if (blockmap_object(word, &place) == NULL ||
        !block_kind_is_counted(place.kind) || place.kind >= KIND_BIASED) {
        return NULL;
    }
    uint32_t id = block_owner_mutator(place.block);
    void *object = (void *)(place.start + block_kind_front(place.kind));
    unsigned type = counted_type(object);
    // What leads to the head is one past the end of what lies before.
    if ((id != 0 && id != owner) || word < (uintptr_t)object || type == 0 ||
        type == COUNTED_ZOMBIE || !(kinds_get(type)->flags & KINDS_DEFERRED)) {
        return NULL;
    }
    // One that was owned too often to be counted is never destroyed by counts.
    uint32_t flags = counted_flags(object);
    return flags & (COUNTED_DEAD | COUNTED_OTHER) ? NULL : object;
}

static bool deferred_hold(struct count_buffer *held, void *object) {
    if (object == NULL) {
        return true;
    }
    if (!count_name(held, object)) {
        return false;
    }
    deferred_set_word(object, counted_flags(object) + COUNTED_ONE); // DF1
    return true;
}

bool deferred_hold_word(struct count_buffer *held, uintptr_t word,
                        uint32_t owner) {
    void *object = deferred_find(word, owner);
    void *before = deferred_find(word - 1, owner);
    return deferred_hold(held, object) &&
           (before == object || deferred_hold(held, before));
}

void deferred_let_go(struct count_domain *domain, struct count_buffer *held) {
    while (held->count != 0) {
        void *object = held->items[--held->count];
        uint32_t word = counted_flags(object) - COUNTED_ONE;
        deferred_set_word(object, word); // DF2
        if ((word & (COUNTED_COUNT_MASK | COUNTED_DEAD)) == 0) {
            count_name_zero(domain, object);
        }
    }
}

void deferred_recall(struct count_domain *domain) {
    struct count_buffer *suspects = &domain->suspects;
    for (size_t i = 0; i < suspects->count; i++) {
        void *object = suspects->items[i];
        if (object == NULL || counted_type(object) == COUNTED_ZOMBIE ||
            !(kinds_of(object)->flags & KINDS_DEFERRED)) {
            continue;
        }
        uint32_t word = counted_flags(object);
        if ((word & (COUNTED_COUNT_MASK | COUNTED_DEAD)) == 0 &&
            count_name(&domain->zeroes, object)) {
            deferred_set_word(object, word & ~(uint32_t)COUNTED_QUIET);
            suspects->items[i] = NULL;
        }
    }
}

// An object leaves the zeroes alive.  Whether its count has fallen meanwhile,
// and not to 0, was noted: then it is suspected from now on.
static void deferred_leave(struct count_domain *domain, void *object) {
    uint32_t word = counted_flags(object) & ~(uint32_t)COUNTED_KEPT;
    const struct kinds_type *type = kinds_of(object);
    if ((word & COUNTED_QUIET) && !(type->flags & KINDS_ACYCLIC)) {
        if (count_name(&domain->suspects, object)) {
            word |= COUNTED_KEPT;
        } else {
            word &= ~(uint32_t)COUNTED_QUIET;
        }
    }
    deferred_set_word(object, word);
}

size_t deferred_bury(struct count_domain *domain) {
    struct count_buffer *zeroes = &domain->zeroes;
    size_t kept = 0;
    for (size_t i = 0; i < zeroes->count; i++) {
        void *object = zeroes->items[i];
        uint32_t word = counted_flags(object);
        if (counted_type(object) == COUNTED_ZOMBIE) {
            zeroes->items[kept++] = object;
        } else if (word & COUNTED_DEAD) {
            // On the list of the dead, or in the middle of dying: its cell need
            // not wait for us.
            deferred_set_word(object, word & ~(uint32_t)COUNTED_KEPT);
        } else if ((word & (COUNTED_COUNT_MASK | COUNTED_OTHER)) != 0) {
            deferred_leave(domain, object);
        } else {
            deferred_set_word(object, word & ~(uint32_t)COUNTED_KEPT);
            count_bury(domain, object);
        }
    }
    zeroes->count = kept; // DF4
    return kept;
}
