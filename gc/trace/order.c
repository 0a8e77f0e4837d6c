#include "trace/order.h"

#include "base/check.h"
#include "heap/block.h"
#include "heap/blockmap.h"

// One walk over the records.
struct order_walk {
    struct marker *marker;
    size_t count; // of what the walk looks for
};

static bool order_is_marked(const struct fate *fate) {
    return block_is_marked(fate->block, fate->cell);
}

static bool order_is_dead(const struct fate *fate) {
    return fate->state == FATE_WAITS && !order_is_marked(fate);
}

static struct fate_token *order_token(const struct fate *fate) {
    return (struct fate_token *)fate->data;
}

static bool order_is_marked_at(const void *at) {
    struct place place;
    return blockmap_find((uintptr_t)at, &place) &&
           block_is_marked(place.block, place.cell);
}

// Whether the guardian lives.  It alone holds the token: where that is dead,
// what it says of the guardian may be out of date.
static bool order_has_guardian(const struct fate *fate) {
    const struct fate_token *token = order_token(fate);
    return order_is_marked_at(token) &&
           order_is_marked_at(fate_token_guard(token));
}

// Freed by hand: no bit in freed is left, the cycle has begun with them.
static void order_drop(struct fates *fates, struct fate *fate, void *data) {
    (void)data;
    if (block_is_allocated(fate->block, fate->cell)) {
        return;
    }
    if (fate->state == FATE_READY) {
        fate->object = 0; // its turn will come, and be passed over
        return;
    }
    if (fate->mode == FATE_GUARDED && order_has_guardian(fate)) {
        fate_token_cancel(order_token(fate));
    }
    fate_remove(fates, fate); // OR6
}

// OR3: what dead objects lead to is not due in this cycle.
static void order_mark_inside(struct fates *fates, struct fate *fate,
                              void *data) {
    struct order_walk *walk = data;
    struct place place;
    (void)fates;
    if (!order_is_dead(fate) || fate->mode == FATE_UNORDERED ||
        fate->mode == FATE_GUARDED) {
        return;
    }
    bool found = blockmap_find(fate->object, &place);
    CHECK(found);
    mark_inside(walk->marker, &place, fate->mode != FATE_IGNORES_SELF);
}

// Decides, and marks nothing: two unordered objects that lead to each other are
// both due.
static void order_decide(struct fates *fates, struct fate *fate, void *data) {
    (void)data;
    if (!order_is_dead(fate) || fate->mode == FATE_UNREACHABLE) {
        return;
    }
    if (fate->mode == FATE_GUARDED) {
        fate->state = FATE_DYING;
    } else {
        fate_release(fates, fate);
    }
}

static void order_decide_last(struct fates *fates, struct fate *fate,
                              void *data) {
    (void)data;
    if (order_is_dead(fate) && fate->mode == FATE_UNREACHABLE) { // OR4
        fate_release(fates, fate);
    }
}

static void order_mark_ready(struct fates *fates, struct fate *fate,
                             void *data) {
    struct order_walk *walk = data;
    (void)fates;
    if (fate->state == FATE_READY && fate->object != 0 &&
        !order_is_marked(fate)) {
        mark_word(walk->marker, fate->object); // OR5
    }
}

static void order_deliver(struct fates *fates, struct fate *fate, void *data) {
    struct order_walk *walk = data;
    if (fate->state == FATE_DYING && order_has_guardian(fate)) {
        fate_token_deliver(order_token(fate), fate->object);
        mark_word(walk->marker, fate->object); // OR5
        fate_remove(fates, fate);
        walk->count++;
    }
}

// An object that is handed out may lead to a guardian: again, until nothing
// more comes.
static void order_guard(struct fates *fates, struct order_walk *walk) {
    do {
        walk->count = 0;
        fate_each(fates, order_deliver, walk);
        mark_drain(walk->marker);
    } while (walk->count != 0);
}

static void order_finish(struct fates *fates, struct fate *fate, void *data) {
    (void)data;
    if (fate->mode == FATE_GUARDED && !order_has_guardian(fate)) {
        fate_remove(fates, fate); // OR6
    } else if (fate->object != 0) {
        ASSERT(order_is_marked(fate)); // OR1
        block_set_flags(fate->block, BLOCK_WATCHED);
    }
}

void order_settle(struct fates *fates, struct marker *marker) {
    struct order_walk walk = {marker, 0};
    fate_each(fates, order_drop, NULL);
    fate_each(fates, order_mark_inside, &walk);
    mark_drain(marker);
    fate_each(fates, order_decide, NULL);
    fate_each(fates, order_mark_ready, &walk);
    mark_drain(marker);
    order_guard(fates, &walk);
    fate_each(fates, order_decide_last, NULL);
    fate_each(fates, order_mark_ready, &walk);
    mark_drain(marker);
    order_guard(fates, &walk);
    fate_each(fates, order_finish, NULL);
}
