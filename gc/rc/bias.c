#include "rc/bias.h"

// The shared word: a signed number above three flags.
#define BIAS_QUEUED UINT32_C(2) // named by its owner's queue, or about to be
#define BIAS_GIVEN  UINT32_C(4) // QUEUED, and destroyed
#define BIAS_FLAGS  UINT32_C(7)
#define BIAS_ONE    UINT32_C(8)

static uint32_t *bias_at(const void *object) {
    return &counted_bias_of(object)->shared;
}

static uint32_t bias_load(const void *object) {
    return __atomic_load_n(bias_at(object), __ATOMIC_RELAXED);
}

static int32_t bias_number(uint32_t shared) {
    return (int32_t)(shared & ~BIAS_FLAGS) / (int32_t)BIAS_ONE;
}

// What the owner counts.
static uint32_t bias_own_count(const void *object) {
    return (counted_flags(object) & COUNTED_COUNT_MASK) / COUNTED_ONE;
}

static void bias_set_word(void *object, uint32_t word) {
    __atomic_store_n(&counted_of(object)->word, word, __ATOMIC_RELAXED);
}

// One try to change the shared word; acquires and releases.
static bool bias_change(void *object, uint32_t *was, uint32_t next) {
    return __atomic_compare_exchange_n(bias_at(object), was, next, true,
                                       __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

static enum bias_end bias_end(uint32_t merged) {
    int32_t number = bias_number(merged);
    return number == 0 ? BIAS_LAST : number > 0 ? BIAS_COUNTED : BIAS_FAULT;
}

void bias_retain(void *object, uint32_t owner) {
    uint32_t word = counted_flags(object);
    if (bias_is_own(object, owner) &&
        (word & COUNTED_COUNT_MASK) != COUNTED_COUNT_MASK) {
        bias_set_word(object, word + COUNTED_ONE); // BI3
        return;
    }
    __atomic_fetch_add(bias_at(object), BIAS_ONE, __ATOMIC_RELAXED);
}

// The owner lets go: its number is 0.  What is queued is merged by the queue.
static enum bias_end bias_let_go(void *object) {
    uint32_t shared = bias_load(object);
    do {
        if (shared & BIAS_QUEUED) {
            return BIAS_COUNTED; // BI5
        }
    } while (!bias_change(object, &shared, shared | BIAS_MERGED));
    return bias_end(shared);
}

static enum bias_end bias_release_shared(void *object) {
    uint32_t shared = bias_load(object);
    uint32_t next;
    enum bias_end end;
    do {
        if ((shared & BIAS_MERGED) && bias_number(shared) <= 0) {
            return BIAS_FAULT;
        }
        next = shared - BIAS_ONE;
        end = BIAS_COUNTED;
        if (shared & BIAS_MERGED) {
            end = bias_end(next); // BI2
        } else if (bias_number(next) < 0 && !(shared & BIAS_QUEUED)) {
            next |= BIAS_QUEUED; // BI4
            end = BIAS_TELL;
        }
    } while (!bias_change(object, &shared, next));
    return end;
}

enum bias_end bias_release(void *object, uint32_t owner) {
    if (!bias_is_own(object, owner)) {
        return bias_release_shared(object);
    }
    uint32_t word = counted_flags(object);
    if (UNLIKELY((word & COUNTED_COUNT_MASK) == 0)) {
        // It waits in the queue, or memory was short when it was to be told.
        enum bias_end end = bias_release_shared(object);
        return end == BIAS_TELL ? bias_merge(object) : end;
    }
    bias_set_word(object, word - COUNTED_ONE);
    bool is_last = ((word - COUNTED_ONE) & COUNTED_COUNT_MASK) == 0;
    return is_last ? bias_let_go(object) : BIAS_COUNTED;
}

bool bias_retain_living(void *object, uint32_t owner) {
    if (counted_flags(object) & COUNTED_DEAD) {
        return false;
    }
    if (bias_is_own(object, owner)) {
        bias_retain(object, owner);
        return true;
    }
    uint32_t shared = bias_load(object);
    do {
        // Before the numbers are merged nobody finds that the object is dead.
        if ((shared & BIAS_MERGED) && bias_number(shared) <= 0) {
            return false;
        }
    } while (!bias_change(object, &shared, shared + BIAS_ONE));
    return true;
}

enum bias_end bias_merge(void *object) {
    uint32_t shared = bias_load(object);
    uint32_t own = 0;
    if (!(shared & BIAS_MERGED)) { // else its head may say something else
        own = bias_own_count(object);
        bias_set_word(object, counted_flags(object) & ~COUNTED_COUNT_MASK);
    }
    uint32_t next;
    do {
        next = (shared + own * BIAS_ONE) | BIAS_MERGED;
        next &= ~(BIAS_QUEUED | BIAS_GIVEN);
    } while (!bias_change(object, &shared, next));
    if (shared & BIAS_GIVEN) {
        return BIAS_GONE;
    }
    return shared & BIAS_MERGED ? BIAS_COUNTED : bias_end(next);
}

void bias_untell(void *object) {
    __atomic_fetch_and(bias_at(object), ~BIAS_QUEUED, __ATOMIC_RELAXED);
}

bool bias_is_queued(const void *object) {
    return (bias_load(object) & BIAS_QUEUED) != 0;
}

bool bias_leave(void *object) {
    uint32_t shared = bias_load(object);
    do {
        if (!(shared & BIAS_QUEUED)) {
            return true;
        }
    } while (!bias_change(object, &shared, shared | BIAS_GIVEN)); // BI5
    return false;
}

enum bias_end bias_forked(void *object, bool keeps) {
    uint32_t shared = bias_load(object);
    if (shared & BIAS_QUEUED) {
        return bias_merge(object);
    }
    return !keeps && bias_number(shared) < 0 ? bias_merge(object)
                                             : BIAS_COUNTED;
}

bool bias_try_count(const void *object, size_t *count) {
    uint32_t own, shared = __atomic_load_n(bias_at(object), __ATOMIC_ACQUIRE);
    uint32_t before;
    do {
        before = shared;
        own = (__atomic_load_n(&counted_of(object)->word, __ATOMIC_ACQUIRE) &
               COUNTED_COUNT_MASK) /
              COUNTED_ONE;
        shared = __atomic_load_n(bias_at(object), __ATOMIC_ACQUIRE);
    } while (shared != before);
    int64_t sum = (int64_t)bias_number(shared) + own;
    *count = sum > 0 ? (size_t)sum : 0;
    // Between the two steps of a merge the owner's number is in neither.
    return own != 0 || (shared & (BIAS_QUEUED | BIAS_MERGED)) != BIAS_QUEUED;
}

size_t bias_count(const void *object) {
    size_t count;
    bool is_sure = bias_try_count(object, &count);
    (void)is_sure;
    return count;
}

uint32_t bias_take(void *object) {
    size_t count = bias_count(object);
    // What its owner was told of it stays in the queue.
    uint32_t shared = bias_load(object);
    while (!bias_change(object, &shared,
                        (shared & (BIAS_QUEUED | BIAS_GIVEN)) | BIAS_MERGED)) {
    }
    bias_set_word(object, counted_flags(object) & ~COUNTED_COUNT_MASK); // BI3
    return (uint32_t)count;
}

void bias_give(void *object, uint32_t count) {
    __atomic_fetch_add(bias_at(object), count * BIAS_ONE, __ATOMIC_RELAXED);
}
