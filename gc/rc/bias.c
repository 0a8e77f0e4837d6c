#include "rc/bias.h"

#define BIAS_MERGED UINT32_C(1)
#define BIAS_QUEUED UINT32_C(2)
#define BIAS_ONE    UINT32_C(4)

static int32_t bias_number(uint32_t shared) {
    return (int32_t)(shared & ~(BIAS_MERGED | BIAS_QUEUED)) / (int32_t)BIAS_ONE;
}

static uint32_t bias_owner(const void *object) {
    return __atomic_load_n(&counted_bias_of(object)->owner, __ATOMIC_RELAXED);
}

static uint32_t bias_own_count(const void *object) {
    return (counted_flags(object) & COUNTED_COUNT_MASK) / COUNTED_ONE;
}

static void bias_set_word(void *object, uint32_t word) {
    __atomic_store_n(&counted_of(object)->word, word, __ATOMIC_RELAXED);
}

void bias_retain(void *object, uint32_t owner) {
    if (bias_owner(object) == owner) {
        bias_set_word(object, counted_flags(object) + COUNTED_ONE); // BI3
        return;
    }
    __atomic_fetch_add(&counted_bias_of(object)->shared, BIAS_ONE,
                       __ATOMIC_RELAXED);
}

// The owner lets go: its number is 0, and nobody's any more.
static enum bias_end bias_let_go(void *object) {
    struct counted_bias *bias = counted_bias_of(object);
    __atomic_store_n(&bias->owner, COUNTED_OWNER_BIT, __ATOMIC_RELAXED);
    uint32_t shared =
        __atomic_fetch_or(&bias->shared, BIAS_MERGED, __ATOMIC_ACQ_REL);
    int32_t number = bias_number(shared);
    return number == 0 ? BIAS_LAST : number > 0 ? BIAS_COUNTED : BIAS_FAULT;
}

static enum bias_end bias_release_shared(void *object) {
    uint32_t *at = &counted_bias_of(object)->shared;
    uint32_t shared = __atomic_load_n(at, __ATOMIC_RELAXED);
    uint32_t next;
    enum bias_end end;
    do {
        if ((shared & BIAS_MERGED) && bias_number(shared) <= 0) {
            return BIAS_FAULT;
        }
        next = shared - BIAS_ONE;
        end = BIAS_COUNTED;
        if (shared & BIAS_MERGED) {
            end = bias_number(next) == 0 ? BIAS_LAST : BIAS_COUNTED;
        } else if (bias_number(next) < 0 && !(shared & BIAS_QUEUED)) {
            next |= BIAS_QUEUED; // BI4
            end = BIAS_TELL;
        }
    } while (!__atomic_compare_exchange_n(at, &shared, next, true,
                                          __ATOMIC_ACQ_REL, __ATOMIC_RELAXED));
    return end;
}

enum bias_end bias_release(void *object, uint32_t owner) {
    if (bias_owner(object) != owner) {
        return bias_release_shared(object);
    }
    uint32_t word = counted_flags(object) - COUNTED_ONE;
    bias_set_word(object, word);
    return word & COUNTED_COUNT_MASK ? BIAS_COUNTED : bias_let_go(object);
}

bool bias_retain_living(void *object, uint32_t owner) {
    if (counted_flags(object) & COUNTED_DEAD) {
        return false;
    }
    if (bias_owner(object) == owner) {
        bias_retain(object, owner);
        return true;
    }
    uint32_t *at = &counted_bias_of(object)->shared;
    uint32_t shared = __atomic_load_n(at, __ATOMIC_RELAXED);
    do {
        // What the owner counts may have changed by now: but while the numbers
        // are not merged nobody has found that the object is dead.
        int32_t number = bias_number(shared);
        if (!(shared & BIAS_MERGED)) {
            number += (int32_t)bias_own_count(object);
        }
        if (number <= 0) {
            return false;
        }
    } while (!__atomic_compare_exchange_n(at, &shared, shared + BIAS_ONE, true,
                                          __ATOMIC_ACQUIRE, __ATOMIC_RELAXED));
    return true;
}

enum bias_end bias_merge(void *object) {
    struct counted_bias *bias = counted_bias_of(object);
    uint32_t shared = __atomic_load_n(&bias->shared, __ATOMIC_RELAXED);
    if (shared & BIAS_MERGED) {
        __atomic_fetch_and(&bias->shared, ~BIAS_QUEUED, __ATOMIC_ACQ_REL);
        return BIAS_COUNTED;
    }
    uint32_t count = bias_own_count(object);
    bias_set_word(object, counted_flags(object) & ~COUNTED_COUNT_MASK);
    __atomic_store_n(&bias->owner, COUNTED_OWNER_BIT, __ATOMIC_RELAXED);
    uint32_t next;
    do {
        next = ((shared + count * BIAS_ONE) | BIAS_MERGED) & ~BIAS_QUEUED;
    } while (!__atomic_compare_exchange_n(&bias->shared, &shared, next, true,
                                          __ATOMIC_ACQ_REL, __ATOMIC_RELAXED));
    int32_t number = bias_number(next);
    return number == 0 ? BIAS_LAST : number > 0 ? BIAS_COUNTED : BIAS_FAULT;
}

size_t bias_count(const void *object) {
    uint32_t shared =
        __atomic_load_n(&counted_bias_of(object)->shared, __ATOMIC_ACQUIRE);
    int32_t number = bias_number(shared);
    if (!(shared & BIAS_MERGED)) {
        number += (int32_t)bias_own_count(object);
    }
    return number > 0 ? (size_t)number : 0;
}

uint32_t bias_take(void *object) {
    size_t count = bias_count(object);
    struct counted_bias *bias = counted_bias_of(object);
    __atomic_store_n(&bias->owner, COUNTED_OWNER_BIT, __ATOMIC_RELAXED);
    // What its owner was told of it stays in the queue.
    __atomic_fetch_or(&bias->shared, BIAS_MERGED, __ATOMIC_RELAXED);
    __atomic_fetch_and(&bias->shared, BIAS_MERGED | BIAS_QUEUED,
                       __ATOMIC_RELAXED);
    return (uint32_t)count;
}

void bias_give(void *object, uint32_t count) {
    __atomic_fetch_add(&counted_bias_of(object)->shared, count * BIAS_ONE,
                       __ATOMIC_RELAXED);
}
