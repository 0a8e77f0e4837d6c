// folk — counted objects on a ground, without the door.
//
// Nodes of two slots, of types that a test describes; made and counted as the
// door does it, in one domain, by one thread.
//
// For tests that link modules of gc/; header only, as ground.h.

#ifndef SUPPORT_FOLK_H
#define SUPPORT_FOLK_H

#include <string.h>

#include "base/check.h"
#include "heap/block.h"
#include "heap/counted.h"
#include "rc/bias.h"
#include "rc/count.h"
#include "rc/kinds.h"
#include "support/ground.h"

struct folk_node {
    struct folk_node *slots[2];
    size_t number; // a test's
};

static const uint32_t folk_slots[2] = {0, sizeof(void *)};

// A type of nodes.
static inline const struct kinds_type *
folk_type(uint32_t flags, kinds_destroy *destroy, kinds_destroy *finalize) {
    struct kinds_type type = {.name = "node",
                              .bytes = sizeof(struct folk_node),
                              .slots = folk_slots,
                              .slot_count = flags & KINDS_LEAF ? 0 : 2,
                              .flags = flags,
                              .destroy = destroy,
                              .finalize = finalize};
    CHECK(kinds_fault(&type) == NULL);
    const struct kinds_type *added = kinds_add(&type);
    CHECK(added != NULL);
    return added;
}

// An object of a type with one owner.
static inline void *folk_make(struct ground *ground,
                              const struct count_domain *domain,
                              const struct kinds_type *type) {
    char *cell =
        (char *)ground_make(ground, type->bytes + type->front, type->kind, 0);
    CHECK(cell != NULL);
    void *object = cell + type->front;
    if (type->flags & KINDS_SHARED) {
        counted_bias_of(object)->owner = domain->owner;
    }
    *counted_of(object) =
        (struct counted){type->word, type->id << COUNTED_TYPE_SHIFT};
    return object;
}

// As loam_retain.
static inline void *folk_retain(struct count_domain *domain, void *object) {
    if (counted_of(object)->word & COUNTED_OTHER) {
        CHECK(count_retain(domain, object) == COUNT_FINE);
    } else {
        counted_of(object)->word += COUNTED_ONE;
    }
    return object;
}

// Lets slot `i` own an object that is retained for it; it was empty.
static inline void folk_own(struct count_domain *domain, struct folk_node *node,
                            size_t i, struct folk_node *owned) {
    node->slots[i] = folk_retain(domain, owned);
}

// Gives a buffer room.
static inline void folk_room(struct count_buffer *buffer, void **items,
                             size_t capacity) {
    *buffer = (struct count_buffer){.items = items, .capacity = capacity};
}

static inline struct cache *folk_find(void *mutator, uint32_t block) {
    return mutator_find_cache(&((struct mutator *)mutator)->home,
                              heap_order_of(block));
}

static inline void folk_free_slowly(void *mutator, void *object) {
    (void)mutator;
    struct place place = ground_place(counted_of(object));
    heap_clear_cell(&place);
}

static inline void folk_give_back(void *mutator, uint32_t block) {
    heap_release_block(((struct mutator *)mutator)->home.heap, block);
}

// A domain for the mutator of a ground.
static inline void folk_domain(struct count_domain *domain,
                               const struct ground *ground) {
    static const struct gather_doors doors = {folk_find, folk_free_slowly,
                                              folk_give_back};
    count_init(domain, ground->mutator->id);
    domain->gather.mutator = ground->mutator;
    domain->gather.doors = &doors;
}

// The bytes of the cells that were freed by hand, ever.
static inline size_t folk_freed_bytes(struct count_domain *domain) {
    gather_settle(&domain->gather);
    const struct mutator *mutator = domain->gather.mutator;
    return (size_t)mutator->home.tally.freed_bytes;
}

#endif
