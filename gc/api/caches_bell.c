#include "api/caches_bell.h"

#include "loam/weak.h"

#include "api/init.h"
#include "api/object.h"
#include "os/lock.h"
#include "roots/mutator.h"
#include "roots/world.h"

#define CACHES_BELL_ROOM    8
#define CACHES_BELL_PART    4           // of what a cache has, at a time
#define CACHES_BELL_BYTES   (256 * KiB) // but at least this
#define CACHES_BELL_WAIT_NS 50000

// All caches.  The array is an object, found by this variable.
static struct {
    struct loam_weak **roll; // lock
    size_t count, room;      // places in use, some of dead caches; lock
    const struct caches_hands *hands; // lock
    uint32_t rings;                   // so far; lock
} caches_bell;

// --- The roll --------------------------------------------------------------

// A place whose cache is dead, or a new one; SIZE_MAX: there is no room.  Lock.
static size_t caches_bell_place(void) {
    for (size_t at = 0; at < caches_bell.count; at++) {
        if (loam_weak_get(caches_bell.roll[at]) == NULL) {
            return at;
        }
    }
    return caches_bell.count < caches_bell.room ? caches_bell.count : SIZE_MAX;
}

// Lock; false when there is no room.
static bool caches_bell_add(struct loam_weak *weak,
                            const struct caches_hands *hands) {
    size_t at = caches_bell_place();
    if (at == SIZE_MAX) {
        return false;
    }
    caches_bell.roll[at] = weak;
    caches_bell.count += at == caches_bell.count;
    caches_bell.hands = hands;
    init_state.conductor.relieve = caches_bell_ring;
    return true;
}

// A larger roll, made before the lock is taken; another thread may have been
// faster, and then it is dropped.
static bool caches_bell_grow(void) {
    struct mutator *mutator = init_lock();
    if (mutator == NULL) {
        return false;
    }
    size_t room = caches_bell.room;
    init_unlock(mutator);
    size_t grown = room == 0 ? CACHES_BELL_ROOM : room * 2;
    struct loam_weak **roll =
        object_make_in(&init_state.home.collector, grown * sizeof *roll,
                       (struct order){.kind = KIND_SCANNED});
    if (roll == NULL || (mutator = init_lock()) == NULL) {
        return false;
    }
    if (caches_bell.room < grown) {
        for (size_t at = 0; at < caches_bell.count; at++) {
            roll[at] = caches_bell.roll[at];
        }
        caches_bell.roll = roll;
        caches_bell.room = grown;
    }
    init_unlock(mutator);
    return true;
}

bool caches_bell_enrol(struct caches_seat *seat,
                       const struct caches_hands *hands) {
    struct loam_weak *weak = loam_weak_make(seat); // CB5
    bool added = false;
    bool grown = weak != NULL;
    while (grown && !added) {
        struct mutator *mutator = init_lock();
        if (mutator == NULL) {
            return false;
        }
        added = caches_bell_add(weak, hands);
        init_unlock(mutator);
        grown = added || caches_bell_grow();
    }
    return added;
}

// --- To come in ------------------------------------------------------------

// Whether a mutator that is in a cache is in this process.  Lock.
static bool caches_bell_is_gone(uint32_t id) {
    return id != 0 && world_find(id) == NULL;
}

// Makes the cache the calling thread's, if nobody is in, or nobody that will
// ever leave.  Lock.
static bool caches_bell_turn(struct caches_seat *seat, uint32_t id,
                             enum caches_entered *how) {
    uint32_t claim = __atomic_load_n(&seat->claim, __ATOMIC_ACQUIRE);
    uint32_t busy = __atomic_load_n(&seat->busy, __ATOMIC_ACQUIRE);
    if (busy == id) {
        *how = CACHES_REFUSED; // CB8
        return true;
    }
    bool is_orphan = caches_bell_is_gone(claim) || caches_bell_is_gone(busy);
    if (!is_orphan && (claim != 0 || busy != 0)) {
        return false;
    }
    __atomic_store_n(&seat->owner, id, __ATOMIC_RELAXED);
    __atomic_store_n(&seat->busy, id, __ATOMIC_RELAXED);
    __atomic_store_n(&seat->claim, 0, __ATOMIC_RELAXED);
    *how = is_orphan ? CACHES_ORPHANED : CACHES_ENTERED; // CB7
    return true;
}

enum caches_entered caches_bell_wait(struct caches_seat *seat) {
    enum caches_entered how = CACHES_REFUSED;
    bool turned = false;
    while (!turned) {
        struct mutator *mutator = init_lock();
        if (mutator == NULL) {
            return CACHES_REFUSED;
        }
        turned = caches_bell_turn(seat, mutator->id, &how);
        init_unlock(mutator);
        if (!turned) {
            uint32_t nothing = 0;
            (void)lock_wait(&nothing, 0, CACHES_BELL_WAIT_NS);
        }
    }
    return how;
}

// --- The bell --------------------------------------------------------------

static size_t caches_bell_above(const struct caches_seat *seat) {
    size_t bytes = __atomic_load_n(&seat->bytes, __ATOMIC_RELAXED);
    size_t minimum = __atomic_load_n(&seat->min_bytes, __ATOMIC_RELAXED);
    size_t target = __atomic_load_n(&seat->target_bytes, __ATOMIC_RELAXED);
    bytes = target < bytes ? target : bytes; // the rest was asked for already
    return bytes > minimum ? bytes - minimum : 0; // CB4
}

// What taking from a cache is worth.
static double caches_bell_value(const struct caches_seat *seat) {
    uint64_t now = init_state.home.collector.figures.cycles;
    uint64_t used = __atomic_load_n(&seat->used, __ATOMIC_RELAXED);
    uint64_t idle = now > used ? now - used : 0;
    return (double)caches_bell_above(seat) * (double)(idle + 1) /
           (double)seat->cost;
}

// One pull of the bell.
struct caches_pull {
    uint32_t number, self; // of the pull; of the mutator
    const struct caches_hands *hands;
    struct caches_seat *chosen;
    bool claimed; // chosen is
    bool stopped; // caches of others were claimed as far as they could be
};

// The cache to take from next, or NULL.  Lock.
static struct caches_seat *caches_bell_choose(uint32_t number) {
    struct caches_seat *chosen = NULL;
    double most = 0;
    for (size_t at = 0; at < caches_bell.count; at++) {
        struct caches_seat *seat = loam_weak_get(caches_bell.roll[at]);
        if (seat == NULL || seat->never || seat->ring == number) {
            continue;
        }
        double value = caches_bell_value(seat);
        if (value > most) { // CB3
            most = value;
            chosen = seat;
        }
    }
    return chosen;
}

static bool caches_bell_is_touchable(const struct caches_seat *seat,
                                     uint32_t self) {
    bool is_own = __atomic_load_n(&seat->owner, __ATOMIC_RELAXED) == self;
    return !__atomic_load_n(&seat->asks, __ATOMIC_RELAXED) &&
           (is_own || !seat->confined);
}

// Whether this ring claimed it.  Lock.
static bool caches_bell_has(const struct caches_pull *pull,
                            const struct caches_seat *seat) {
    return __atomic_load_n(&seat->claim, __ATOMIC_RELAXED) == pull->self &&
           seat->claim_ring == pull->number;
}

// Claims a cache that nobody is in: of this thread, or in a stop.  Lock.
static bool caches_bell_claim(const struct caches_pull *pull,
                              struct caches_seat *seat) {
    if (__atomic_load_n(&seat->claim, __ATOMIC_RELAXED) == 0 &&
        __atomic_load_n(&seat->busy, __ATOMIC_ACQUIRE) == 0) {
        seat->claim_ring = pull->number;
        __atomic_store_n(&seat->claim, pull->self, __ATOMIC_RELAXED); // CB1
    }
    return caches_bell_has(pull, seat);
}

// In a stop: all caches of others that may be touched and that nobody is in.
static void caches_bell_claim_all(struct mutator *mutator, void *data) {
    struct caches_pull *pull = data;
    struct world_stop_report stop = {0};
    if (!world_stop(mutator, &stop)) {
        return;
    }
    for (size_t at = 0; at < caches_bell.count; at++) {
        struct caches_seat *seat = loam_weak_get(caches_bell.roll[at]);
        if (seat != NULL && !seat->never &&
            caches_bell_is_touchable(seat, pull->self)) {
            (void)caches_bell_claim(pull, seat);
        }
    }
    world_resume();
}

// The next to give.  Lock.
static void caches_bell_next(struct caches_pull *pull) {
    struct caches_seat *seat = caches_bell_choose(pull->number);
    pull->chosen = seat;
    pull->hands = caches_bell.hands;
    pull->claimed = false;
    if (seat != NULL && caches_bell_is_touchable(seat, pull->self)) {
        bool is_own =
            __atomic_load_n(&seat->owner, __ATOMIC_RELAXED) == pull->self;
        pull->claimed = is_own ? caches_bell_claim(pull, seat)
                               : caches_bell_has(pull, seat);
    }
}

// Asks a cache to give when it is used next.
static void caches_bell_ask(struct caches_seat *seat, size_t bytes) {
    size_t has = __atomic_load_n(&seat->bytes, __ATOMIC_RELAXED);
    size_t target = has > bytes ? has - bytes : 0;
    size_t was = __atomic_load_n(&seat->target_bytes, __ATOMIC_RELAXED);
    while (was > target && !__atomic_compare_exchange_n(
                               &seat->target_bytes, &was, target, false,
                               __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
}

// What a cache is to give at a time.
static size_t caches_bell_part(const struct caches_seat *seat, size_t bytes) {
    size_t above = caches_bell_above(seat);
    size_t part = above / CACHES_BELL_PART;
    part = part < CACHES_BELL_BYTES ? CACHES_BELL_BYTES : part;
    part = part < above ? part : above;
    return part < bytes ? part : bytes;
}

// Takes a part of the chosen cache, or asks for it; how many bytes went.
static size_t caches_bell_take(const struct caches_pull *pull, size_t bytes) {
    size_t part = caches_bell_part(pull->chosen, bytes);
    if (pull->claimed) {
        return pull->hands->give(pull->chosen, part);
    }
    caches_bell_ask(pull->chosen, part); // CB6
    return 0;
}

// Whether the chosen cache might be claimed if the world were stopped.
static bool caches_bell_wants_stop(const struct caches_pull *pull) {
    return !pull->claimed && !pull->stopped &&
           __atomic_load_n(&pull->chosen->owner, __ATOMIC_RELAXED) !=
               pull->self &&
           caches_bell_is_touchable(pull->chosen, pull->self);
}

// One turn: how many bytes went; *over when there is nobody left to ask.
static size_t caches_bell_step(struct caches_pull *pull, size_t bytes,
                               bool *over) {
    struct mutator *mutator = init_lock();
    *over = mutator == NULL;
    if (*over) {
        return 0;
    }
    caches_bell_next(pull);
    init_unlock(mutator);
    *over = pull->chosen == NULL;
    if (*over) {
        return 0;
    }
    if (caches_bell_wants_stop(pull)) {
        pull->stopped = true;
        (void)init_locked(caches_bell_claim_all, pull);
        return 0;
    }
    size_t given = caches_bell_take(pull, bytes);
    if (given == 0 && (mutator = init_lock()) != NULL) {
        pull->chosen->ring = pull->number; // nothing more from this one
        init_unlock(mutator);
    }
    return given;
}

static bool caches_bell_begin(struct caches_pull *pull) {
    struct mutator *mutator = init_lock();
    if (mutator == NULL) {
        return false;
    }
    pull->self = mutator->id;
    pull->number = ++caches_bell.rings;
    init_unlock(mutator);
    return true;
}

// Lets go of all claims.
static void caches_bell_end(const struct caches_pull *pull) {
    struct mutator *mutator = init_lock();
    for (size_t at = 0; mutator != NULL && at < caches_bell.count; at++) {
        struct caches_seat *seat = loam_weak_get(caches_bell.roll[at]);
        if (seat != NULL && caches_bell_has(pull, seat)) {
            __atomic_store_n(&seat->claim, 0, __ATOMIC_RELEASE);
        }
    }
    if (mutator != NULL) {
        init_unlock(mutator);
    }
}

// A cache of this thread that has to tell what went, or NULL.
static struct caches_seat *caches_bell_debtor(const struct caches_pull *pull) {
    struct caches_seat *debtor = NULL;
    struct mutator *mutator = init_lock();
    for (size_t at = 0; mutator != NULL && at < caches_bell.count; at++) {
        struct caches_seat *seat = loam_weak_get(caches_bell.roll[at]);
        if (seat != NULL && seat->confined &&
            __atomic_load_n(&seat->owner, __ATOMIC_RELAXED) == pull->self &&
            __atomic_load_n(&seat->owes, __ATOMIC_RELAXED)) {
            debtor = seat;
        }
    }
    if (mutator != NULL) {
        init_unlock(mutator);
    }
    return debtor;
}

size_t caches_bell_ring(size_t bytes) {
    struct caches_pull pull = {0};
    size_t given = 0;
    bool over = !caches_bell_begin(&pull);
    while (!over && given < bytes) {
        given += caches_bell_step(&pull, bytes - given, &over);
    }
    caches_bell_end(&pull);
    struct caches_seat *debtor;
    while ((debtor = caches_bell_debtor(&pull)) != NULL) {
        pull.hands->tell(debtor); // CB2
    }
    return given;
}
