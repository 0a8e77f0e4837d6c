// stage — a ground on which cycles are run, without the door.
//
// The calling thread is the only mutator, attached to the world, and does what
// the door does around a climb or a cycle: INSIDE, registers in memory, the
// lock where it is needed.
//
// For tests that link modules of gc/; header only, as ground.h.

#ifndef SUPPORT_STAGE_H
#define SUPPORT_STAGE_H

#include "collect/collect.h"
#include "collect/refill.h"
#include "roots/world.h"
#include "support/ground.h"

// All zero at first; a program has one, as it has one range and one world.
struct stage {
    struct ground *ground;
    struct conductor *conductor;
    struct collector *collector;
};

// False when the system refuses.
static inline bool stage_init(struct stage *stage, size_t range_bytes) {
    struct ground *ground = stage->ground;
    if (!range_init(range_bytes) || !heap_init(&ground->heap, NULL) ||
        !world_init(0)) {
        return false;
    }
    ground->mutator = world_attach(&ground->heap, false);
    collect_init(stage->collector, stage->conductor, &ground->heap);
    return ground->mutator != NULL && collect_init_conductor(stage->conductor);
}

struct stage_call {
    const struct stage *stage;
    enum collect_reason reason;
    struct cache *cache;
    struct run_order run;
    bool done, zero;
    void *got;
};

static inline void stage_enter(struct stage_call *call,
                               void (*body)(void *data)) {
    struct mutator *mutator = call->stage->ground->mutator;
    mutator_enter(mutator);
    collect_enter(mutator, body, call);
    world_leave(mutator);
}

static inline void stage_do_cycle(void *data) {
    struct stage_call *call = data;
    struct mutator *mutator = call->stage->ground->mutator;
    world_lock(mutator);
    call->done = collect_cycle(call->stage->collector, mutator, call->reason);
    world_unlock();
}

static inline bool stage_cycle(const struct stage *stage,
                               enum collect_reason reason) {
    struct stage_call call = {.stage = stage, .reason = reason};
    stage_enter(&call, stage_do_cycle);
    return call.done;
}

static inline void stage_do_cell(void *data) {
    struct stage_call *call = data;
    call->got = refill_cell(call->stage->collector,
                            call->stage->ground->mutator, call->cache);
}

// The ladder for a cell.
static inline void *stage_cell(const struct stage *stage, struct cache *cache) {
    struct stage_call call = {.stage = stage, .cache = cache};
    stage_enter(&call, stage_do_cell);
    return call.got;
}

static inline void stage_do_run(void *data) {
    struct stage_call *call = data;
    call->got = refill_run(call->stage->collector, call->stage->ground->mutator,
                           &call->run, &call->zero);
}

// The ladder for a run, cleared as the door does it.
static inline void *stage_run(const struct stage *stage, struct order order,
                              size_t bytes, size_t alignment) {
    struct stage_call call = {.stage = stage,
                              .run = {order, bytes, alignment, false}};
    stage_enter(&call, stage_do_run);
    if (call.got != NULL && !call.zero && !block_kind_is_leaf(order.kind)) {
        memset(call.got, 0,
               block_cell_bytes(range_block_of((uintptr_t)call.got)));
    }
    return call.got;
}

// The cache of the mutator's home for an order, made if need be.
static inline struct cache *stage_cache(const struct stage *stage,
                                        struct order order) {
    struct mutator *mutator = stage->ground->mutator;
    struct cache *cache = mutator_find_cache(&mutator->home, order);
    return cache != NULL ? cache
                         : mutator_add_cache(mutator, &mutator->home, order);
}

#endif
