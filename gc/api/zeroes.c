#include "api/zeroes.h"

#include "api/init.h"
#include "collect/collect.h"
#include "os/error.h"
#include "os/stack.h"
#include "rc/count.h"
#include "rc/deferred.h"
#include "roots/fiber.h"
#include "roots/mutator.h"

// --- What the stack shows ----------------------------------------------------

// One look at the stack of the calling thread.
struct zeroes_look {
    struct mutator *mutator;
    struct count_buffer *held;
    uint32_t owner;
    bool failed; // no room, or an unknown stack
};

static NO_SANITIZE void zeroes_words(const uintptr_t *start,
                                     const uintptr_t *end, void *data) {
    struct zeroes_look *look = data;
    for (; start < end && !look->failed; start++) {
        look->failed = !deferred_hold_word(look->held, *start, look->owner);
    }
}

static bool zeroes_is_native(const struct mutator *mutator) {
    const char *hot_end = mutator->hot_end;
    const char *lowest = mutator->lowest;
    const char *cold_end = mutator->cold_end;
    return cold_end != NULL && hot_end <= cold_end &&
           (lowest != NULL ? lowest <= hot_end
                           : stack_is_whole(hot_end, cold_end));
}

// In a fiber: its stack from here on, the thread's own as it was left.
static void zeroes_look_fiber(struct zeroes_look *look,
                              const struct fiber *fiber) {
    struct mutator *mutator = look->mutator;
    zeroes_words(mutator->hot_end, (const uintptr_t *)fiber->end, look);
    uintptr_t from = fiber_visit_native(&mutator->seat, zeroes_words, look);
    const uintptr_t *start =
        from != 0 ? (const uintptr_t *)from : mutator->lowest;
    if (mutator->cold_end == NULL || start == NULL) {
        look->failed = true;
        return;
    }
    zeroes_words(start, mutator->cold_end, look);
}

// The registers are on the stack, the hot end is set, the lock is held.
static void zeroes_look(void *data) {
    struct zeroes_look *look = data;
    const struct mutator *mutator = look->mutator;
    const struct fiber *fiber = fiber_find((uintptr_t)mutator->hot_end);
    if (fiber != NULL) {
        zeroes_look_fiber(look, fiber);
    } else if (zeroes_is_native(mutator)) {
        zeroes_words(mutator->hot_end, mutator->cold_end, look);
    } else {
        look->failed = true;
    }
    fiber_each(zeroes_words, look);
}

bool zeroes_begin(struct counting *counting) {
    struct count_buffer *held = &counting->deferred.held;
    struct zeroes_look look = {
        .held = held, .owner = counting->domain.owner & ~COUNTED_OWNER_BIT};
    look.mutator = init_lock();
    if (look.mutator == NULL) {
        return false;
    }
    bool grown = true;
    do {
        look.failed = false;
        held->wants_room = false;
        collect_enter(look.mutator, zeroes_look, &look);
        if (look.failed) {
            deferred_let_go(&counting->domain, held);
            grown = held->wants_room && counting_grow(held);
        }
    } while (look.failed && grown);
    init_unlock(look.mutator);
    return !look.failed;
}

void zeroes_end(struct counting *counting) {
    deferred_let_go(&counting->domain, &counting->deferred.held);
}

void zeroes_add(struct counting *counting, void *object, size_t bytes) {
    struct count_domain *domain = &counting->domain;
    struct count_buffer *zeroes = &domain->zeroes;
    domain->deferred_bytes += bytes;
    if (UNLIKELY(zeroes->count == zeroes->capacity)) {
        struct mutator *mutator = init_lock();
        if (mutator == NULL) {
            return; // the tracer will find it
        }
        (void)counting_grow(zeroes);
        init_unlock(mutator);
    }
    count_name_zero(domain, object); // DF3
}

// --- A settlement ------------------------------------------------------------

// Zombies leave the zeroes.
static void zeroes_unname(struct counting *counting) {
    struct count_buffer *zeroes = &counting->domain.zeroes;
    while (zeroes->count != 0) {
        count_unname(&counting->domain, zeroes->items[--zeroes->count]);
    }
}

static void zeroes_bury_all(struct counting *counting) {
    mutator_enter(init_mutator);
    if (deferred_bury(&counting->domain) != 0) {
        zeroes_unname(counting);
    }
    counting_leave(counting);
}

// Again and again, for destructors release what they know of.
static void zeroes_rounds(struct counting *counting) {
    struct count_domain *domain = &counting->domain;
    uint64_t before;
    do {
        before = domain->figures.destroyed;
        zeroes_bury_all(counting);
        domain->settles = true;
        (void)counting_drain(counting, 0);
        domain->settles = false;
    } while (domain->figures.destroyed != before && domain->zeroes.count != 0);
}

size_t zeroes_settle(struct counting *counting) {
    struct count_domain *domain = &counting->domain;
    if (counting_is_draining(counting) || !init_is_free(init_mutator)) {
        return 0;
    }
    domain->deferred_bytes = 0;
    deferred_recall(domain);
    uint64_t before = domain->figures.destroyed;
    int error = error_save();
    if (domain->zeroes.count != 0 && zeroes_begin(counting)) {
        zeroes_rounds(counting);
        zeroes_end(counting); // DS2
    }
    // As many again before the stack is read once more.
    counting->deferred.threshold = 2 * domain->zeroes.count + ZEROES_COUNT;
    error_restore(error);
    return (size_t)(domain->figures.destroyed - before);
}
