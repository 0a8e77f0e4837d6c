// folk_drain — the loop around the dead of a test, as the door has it.
//
// For tests that link modules of gc/; header only, as ground.h.

#ifndef SUPPORT_FOLK_DRAIN_H
#define SUPPORT_FOLK_DRAIN_H

#include "rc/reclaim.h"
#include "support/folk.h"

// Does what the wing wishes for.
static inline void folk_fulfil(const struct count_call *call, size_t *calls) {
    ++*calls;
    if (call->wish == COUNT_FINALIZE) {
        call->type->finalize(call->object);
    } else {
        call->type->destroy(call->object);
    }
}

// Destroys what is on the list, at most `limit` objects at a time; returns the
// number of calls.
static inline size_t folk_drain(struct count_domain *domain, size_t limit) {
    size_t calls = 0;
    struct count_call call = {.wish = COUNT_NOTHING};
    do {
        while (count_advance(domain, &call, limit)) {
            folk_fulfil(&call, &calls);
        }
    } while (domain->dead != 0);
    gather_settle(&domain->gather);
    return calls;
}

// Takes a ring apart, and what that buries.
static inline size_t folk_reclaim(struct reclaim *reclaim, struct trial *trial,
                                  struct count_domain *domain, size_t limit) {
    size_t calls = 0;
    struct count_call call = {.wish = COUNT_NOTHING};
    do {
        while (reclaim_advance(reclaim, trial, domain, &call, limit)) {
            if (call.wish == COUNT_REVIEW) {
                reclaim_review(reclaim, trial, domain, true);
                continue;
            }
            folk_fulfil(&call, &calls);
        }
    } while (reclaim_is_on(reclaim));
    return calls + folk_drain(domain, limit);
}

#endif
