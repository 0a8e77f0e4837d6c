// folk_drain — the loop around the dead of a test, as the door has it.
//
// For tests that link modules of gc/; header only, as ground.h.

#ifndef SUPPORT_FOLK_DRAIN_H
#define SUPPORT_FOLK_DRAIN_H

#include "rc/reclaim.h"
#include "support/folk.h"

// What a drain did.
struct folk_drained {
    size_t freed, calls;
};

static inline void folk_fulfil(struct count_call *call,
                               struct folk_drained *drained) {
    if (call->wish == COUNT_FREE) {
        drained->freed += folk_free(&call->cells);
    } else if (call->wish == COUNT_FINALIZE) {
        drained->calls++;
        call->type->finalize(call->object);
    } else {
        drained->calls++;
        call->type->destroy(call->object);
    }
}

// Destroys what is on the list, at most `limit` objects at a time.
static inline struct folk_drained folk_drain(struct count_domain *domain,
                                             size_t limit) {
    struct folk_drained drained = {0, 0};
    struct count_call call = {.wish = COUNT_NOTHING};
    do {
        while (count_advance(domain, &call, limit)) {
            folk_fulfil(&call, &drained);
        }
    } while (domain->dead != 0);
    drained.freed += folk_free(&domain->cells);
    return drained;
}

// Takes a ring apart, and what that buries.
static inline struct folk_drained folk_reclaim(struct reclaim *reclaim,
                                               struct trial *trial,
                                               struct count_domain *domain,
                                               size_t limit) {
    struct folk_drained drained = {0, 0};
    struct count_call call = {.wish = COUNT_NOTHING};
    do {
        while (reclaim_advance(reclaim, trial, domain, &call, limit)) {
            folk_fulfil(&call, &drained);
        }
    } while (reclaim_is_on(reclaim));
    struct folk_drained rest = folk_drain(domain, limit);
    return (struct folk_drained){drained.freed + rest.freed,
                                 drained.calls + rest.calls};
}

#endif
