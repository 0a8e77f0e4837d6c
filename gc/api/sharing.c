#include "api/sharing.h"

#include "api/cycles.h"
#include "api/init.h"
#include "api/zeroes.h"
#include "base/bits.h"
#include "heap/block.h"
#include "heap/counted.h"
#include "heap/heap.h"
#include "heap/meta.h"
#include "rc/bias.h"
#include "rc/bond.h"
#include "rc/count.h"
#include "rc/explain.h"
#include "rc/reclaim.h"
#include "roots/world.h"

#define SHARING_ROUNDS 100 // that a thread may take to end

// --- Telling -----------------------------------------------------------------

// The counting of the thread that an object belongs to; NULL: it has none.
static struct counting *sharing_owner(const void *object) {
    uint32_t id = counted_bias_of(object)->owner & ~COUNTED_OWNER_BIT;
    const struct mutator *mutator = world_find(id);
    return mutator == NULL || mutator->leaving ? NULL : mutator->domain;
}

// The object is put into the queue of its owner, or merged for it.
static void sharing_tell_one(struct counting *counting, void *object) {
    struct counting *owner = sharing_owner(object);
    if (owner == NULL || owner == counting) {
        if (count_merge(&counting->domain, object) &&
            !count_name(&counting->heard, object)) {
            // A zombie that nobody names is the tracer's.
            count_forget(object);
        }
        return;
    }
    struct count_buffer *told = &owner->told;
    if (!count_name(told, object) &&
        (!counting_grow(told) || !count_name(told, object))) {
        bias_untell(object);
        return;
    }
    __atomic_store_n(&owner->is_told, 1, __ATOMIC_RELEASE);
}

static void sharing_tell(struct counting *counting) {
    struct count_buffer *tells = &counting->domain.tells;
    while (tells->count != 0) {
        sharing_tell_one(counting, tells->items[--tells->count]);
    }
    if (tells->wants_room) {
        (void)counting_grow(tells);
    }
}

// --- Hearing -----------------------------------------------------------------

// What was destroyed while it waited here goes to `heard`, whose room is no
// less.
static void sharing_hear(struct counting *counting) {
    struct count_buffer *told = &counting->told;
    struct count_buffer *heard = &counting->heard;
    __atomic_store_n(&counting->is_told, 0, __ATOMIC_RELAXED);
    for (size_t i = 0; i < told->count; i++) {
        void *object = told->items[i];
        if (count_merge(&counting->domain, object) && // SH1
            !count_name(heard, object) &&
            (!counting_grow(heard) || !count_name(heard, object))) {
            count_forget(object);
        }
    }
    told->count = 0;
}

void sharing_exchange(struct counting *counting) {
    struct mutator *mutator = init_lock();
    if (mutator == NULL) {
        return;
    }
    sharing_tell(counting);
    sharing_hear(counting);
    init_unlock(mutator);
    mutator_enter(mutator);
    while (counting->heard.count != 0) {
        count_unname(&counting->domain,
                     counting->heard.items[--counting->heard.count]);
    }
    counting_leave(counting);
}

// --- The end of a thread -----------------------------------------------------

static void sharing_forget_all(struct count_buffer *buffer) {
    while (buffer->count != 0) {
        void *object = buffer->items[--buffer->count];
        if (object != NULL) {
            count_forget(object); // SH2, SH3
        }
    }
}

static void sharing_free(struct count_buffer *buffer) {
    if (buffer->capacity != 0) {
        meta_free(buffer->items, buffer->capacity * sizeof *buffer->items);
    }
}

// Under the lock: what is owed still is the tracer's.
static void sharing_close(struct mutator *mutator) {
    struct counting *counting = mutator->domain;
    struct count_domain *domain = &counting->domain;
    sharing_tell(counting);
    sharing_hear(counting);
    count_give_up(domain);
    struct count_buffer *const buffers[] = {&domain->suspects, &domain->zeroes,
                                            &domain->tells, &counting->told,
                                            &counting->heard};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) {
        sharing_forget_all(buffers[i]);
        sharing_free(buffers[i]);
    }
    sharing_free(&counting->deferred.held);
    cycles_free(&counting->cycles);
    counting_free_pool(&counting->pool);
    bond_disown(mutator->id);
    mutator->domain = NULL;
    meta_free(counting, sizeof *counting);
    // Whoever is left alone now may look after what nobody owns.
    __atomic_fetch_add(&init_state.conductor.condemned, 1, __ATOMIC_RELEASE);
}

// Pools, the dead, suspects, zeroes and what the tracer condemned.
static void sharing_settle(struct counting *counting) {
    uint64_t before;
    size_t rounds = 0;
    do {
        before = counting->domain.figures.destroyed;
        while (counting->pool.count != 0) {
            void *owned = counting->pool.items[--counting->pool.count];
            (void)count_release(&counting->domain, owned);
        }
        (void)counting_drain(counting, 0);
        (void)zeroes_settle(counting);
        (void)cycles_collect(counting, counting->cycles.slice_ns);
        (void)cycles_settle(counting);
    } while (before != counting->domain.figures.destroyed &&
             ++rounds < SHARING_ROUNDS);
}

// Whether nobody has told it anything of late.
static bool sharing_is_quiet(struct counting *counting) {
    sharing_tell(counting);
    sharing_hear(counting);
    return !counting_owes(counting);
}

void sharing_end(struct mutator *mutator) {
    struct counting *counting = mutator->domain;
    if (counting == NULL) {
        return;
    }
    // Whatever drained is not on the stack any more.
    counting->domain.draining = false;
    for (size_t rounds = 1;; rounds++) {
        sharing_settle(counting);
        mutator_enter(mutator);
        world_lock(mutator);
        bool ends = sharing_is_quiet(counting) || rounds == SHARING_ROUNDS;
        if (ends) {
            sharing_close(mutator);
        }
        world_unlock();
        world_leave(mutator);
        if (ends) {
            return;
        }
    }
}

void sharing_bury(struct mutator *mutator) {
    if (mutator->domain != NULL) {
        sharing_close(mutator);
    }
}

// --- A child -----------------------------------------------------------------

struct sharing_walk {
    struct counting *counting; // of who is left, or NULL
    uint32_t owner;            // its id, or 0
};

static void sharing_mend_biased(const struct sharing_walk *walk, void *object) {
    uint32_t owner = counted_bias_of(object)->owner;
    bool keeps = walk->owner != 0 && owner == (walk->owner | COUNTED_OWNER_BIT);
    // Nobody owns it: the tracer will find it so.
    if (bias_forked(object, keeps) == BIAS_GONE) {
        count_forget(object);
    }
}

// What this thread is destroying is left to it; what another was, waits for the
// tracer or is a zombie: SH6.
static void sharing_mend_object(const struct sharing_walk *walk, void *object,
                                bool own, bool biased) {
    if (count_is_ours(object)) {
        if (biased) {
            bias_untell(object);
        }
        return;
    }
    bool dying = count_is_dying(object);
    if (biased) {
        sharing_mend_biased(walk, object);
    }
    if (!own || dying) {
        count_mend(object); // SH4
    }
}

static void sharing_mend_block(uint32_t block, void *data) {
    const struct sharing_walk *walk = data;
    unsigned kind = ENTRY_KIND(block_entry(block));
    if (!block_kind_is_counted(kind)) {
        return;
    }
    bool own = walk->owner != 0 && block_owner_mutator(block) == walk->owner;
    bool biased = kind >= KIND_BIASED;
    for (size_t word = 0; word < block_words(block); word++) {
        uint64_t bits = block_pair(block, word)[1];
        for (; bits != 0; bits &= bits - 1) {
            uint32_t cell = (uint32_t)(word * 64 + bits_lowest(bits));
            char *object = (char *)block_cell_address(block, cell) +
                           block_kind_front(kind);
            if (counted_type(object) != 0 && !block_is_freed(block, cell)) {
                sharing_mend_object(walk, object, own, biased);
            }
        }
    }
}

// What its buffers name, which may be anybody's: the walk has struck it out.
static void sharing_name_again(struct count_buffer *buffer) {
    for (size_t i = 0; i < buffer->count; i++) {
        if (buffer->items[i] != NULL) {
            count_set_kept(buffer->items[i]);
        }
    }
}

// What the thread that is left is destroying: its list, a ring, and the object
// whose destructor runs.
static void sharing_claim(struct counting *counting, bool ours) {
    const struct cycles *cycles = &counting->cycles;
    const struct trial_vector *members = &cycles->trial.visited;
    count_claim_listed(&counting->domain, ours);
    size_t first = reclaim_first_whole(&cycles->reclaim, &cycles->trial);
    for (size_t i = first; i < members->count; i++) {
        count_claim(members->items[i], ours);
    }
    if (counting->call.wish == COUNT_DESTROY) {
        count_claim(counting->call.object, ours);
    }
}

void sharing_forked(struct mutator *self) {
    if (!explain_is_used()) {
        return;
    }
    struct sharing_walk walk = {NULL, 0};
    if (self != NULL) {
        walk = (struct sharing_walk){self->domain, self->id};
    }
    if (walk.counting != NULL) {
        // Others may have been writing there; the objects say it all.
        walk.counting->told = (struct count_buffer){NULL, 0, 0, false};
        walk.counting->is_told = 0;
        walk.counting->domain.tells.count = 0;
        sharing_claim(walk.counting, true);
    }
    heap_each_block(sharing_mend_block, &walk);
    if (walk.counting != NULL) {
        sharing_claim(walk.counting, false);
        sharing_name_again(&walk.counting->domain.suspects);
        sharing_name_again(&walk.counting->domain.zeroes);
        sharing_name_again(&walk.counting->heard);
    }
    bond_forked(walk.owner);
}
