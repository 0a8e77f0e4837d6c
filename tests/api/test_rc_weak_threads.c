// loam_weak_retain while another thread lets go, collects, and makes other
// objects in the same places: behind every fourth instruction, and in a storm.
//
// seconds: 120

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "loam.h"
#include "loam/rc.h"
#include "loam/weak.h"
#include "support/step.h"
#include "support/team.h"

// What may go wrong takes more instructions than that.
#define STRIDE ((size_t)4)

#define CROWD ((size_t)600) // enough to be met where one was

struct thing {
    struct thing *slot;
    uint64_t serial; // 0 when its destructor has run
    uint64_t padding[3];
};

static void wipe(void *object) {
    struct thing *t = object;
    t->serial = 0;
}

static LOAM_TYPE(biased_type, struct thing, LOAM_OWNS(struct thing, slot),
                 .destroy = wipe, .flags = LOAM_TYPE_SHARED);
static LOAM_TYPE(atomic_type, struct thing, LOAM_OWNS(struct thing, slot),
                 .destroy = wipe, .flags = LOAM_TYPE_ATOMIC);

// --- Behind an instruction ---------------------------------------------------

// What the thread that owns is asked for, in this order.
enum { MAKE = 1, MADE, DROP, DROPPED, QUIT };

static atomic_uint stage;
static struct loam_type *type;
static struct loam_weak *weak;
static struct thing *found; // owned
static size_t moment, moments, dropped_in_time;

static void *own(void *data) {
    static struct thing *crowd[CROWD];
    (void)data;
    for (;;) {
        while (atomic_load(&stage) != MAKE && atomic_load(&stage) != QUIT) {
            rest();
        }
        if (atomic_load(&stage) == QUIT) {
            return NULL;
        }
        struct thing *t = loam_new(type);
        MUST(t != NULL);
        t->serial = 1;
        weak = loam_weak_make(t);
        atomic_store(&stage, MADE);
        while (atomic_load(&stage) != DROP) {
            rest();
        }
        loam_release(t);
        t = NULL;
        MUST(loam_collect());
        for (size_t i = 0; i < CROWD; i++) {
            crowd[i] = loam_new(type);
            MUST(crowd[i] != NULL);
            crowd[i]->serial = 2;
        }
        atomic_store(&stage, DROPPED);
        for (size_t i = 0; i < CROWD; i++) {
            loam_release(crowd[i]);
        }
    }
}

// Where the collection would wait for this very thread it is not waited for.
static void drop_now(size_t instructions, void *data) {
    (void)data;
    moments = instructions;
    if (instructions != moment) {
        return;
    }
    atomic_store(&stage, DROP);
    for (int i = 0; i < 25 && atomic_load(&stage) != DROPPED; i++) {
        const struct timespec pause = {0, 200000};
        (void)nanosleep(&pause, NULL);
    }
    dropped_in_time += atomic_load(&stage) == DROPPED;
}

static void retain_it(void *data) {
    (void)data;
    found = loam_weak_retain(weak);
}

static void step_through(struct loam_type *which) {
    size_t last = SIZE_MAX;
    type = which;
    dropped_in_time = 0;
    for (moment = 1; moment <= last; moment += STRIDE) {
        atomic_store(&stage, MAKE);
        wait_for(&stage, MADE);
        if (!step_run(retain_it, drop_now, NULL)) {
            atomic_store(&stage, DROP);
            wait_for(&stage, DROPPED);
            return;
        }
        if (moment > moments) {
            last = moments; // it was over before
            atomic_store(&stage, DROP);
        }
        wait_for(&stage, DROPPED);
        if (found != NULL) {
            assert_int_equal(found->serial, 1); // itself, or nothing
            assert_int_equal(loam_count(found), 1);
            loam_release(found);
        } else {
            assert_null(loam_weak_get(weak));
        }
    }
    assert_true(dropped_in_time > 10);
}

static void test_every_instruction(void **state) {
    (void)state;
    pthread_t owner = begin(own, NULL);
    step_through(&biased_type);
    step_through(&atomic_type);
    atomic_store(&stage, QUIT);
    join(owner);
}

// --- Behind the instructions of a trial -------------------------------------

// What another thread would be told there: nobody else could tell it apart.
static LOAM_TYPE(simple_type, struct thing, LOAM_OWNS(struct thing, slot));
static LOAM_TYPE(wiped_type, struct thing, LOAM_OWNS(struct thing, slot),
                 .destroy = wipe);

#define RING ((size_t)8)

struct ring {
    struct thing *owned;        // its first, or NULL
    struct loam_weak *of[RING]; // its members
    struct loam_weakmap *map;   // has an entry for each of them
    bool was_gone[RING];
};

static struct ring living, dead;
static size_t looks;

// Members own their next one, each has a count of one; the first is suspected.
static void ring_make(struct ring *ring, struct loam_type *of) {
    struct thing *first = loam_new(of), *last = first;
    ring->map = loam_weakmap_make();
    for (size_t i = 0; i < RING; i++) {
        ring->of[i] = loam_weak_make(last);
        ring->was_gone[i] = false;
        assert_true(loam_weakmap_put(ring->map, last, ring));
        if (i + 1 < RING) {
            last->slot = loam_new(of);
            last = last->slot;
        }
    }
    last->slot = loam_retain(first);
    ring->owned = first;
}

// What lives is there all the time; what died does not come back.
static void look(size_t instructions, void *data) {
    (void)instructions, (void)data;
    looks++;
    for (size_t i = 0; i < RING; i++) {
        struct thing *t = loam_weak_get(living.of[i]);
        MUST(t != NULL && loam_weakmap_get(living.map, t) == &living);
        bool is_gone = loam_weak_get(dead.of[i]) == NULL;
        MUST(is_gone || !dead.was_gone[i]);
        dead.was_gone[i] = is_gone;
    }
}

static void try_rings(void *data) {
    (void)data;
    MUST(loam_collect_cycles(0) == RING);
}

static void check_trial(struct loam_type *of, bool with_other_garbage) {
    loam_cycles_when(false, 0);
    ring_make(&living, of);
    ring_make(&dead, of);
    if (with_other_garbage) {
        loam_release(loam_retain(dead.owned));
    }
    loam_release(loam_retain(living.owned));
    loam_release(loam_take(&dead.owned));
    if (step_run(try_rings, look, NULL)) {
        assert_true(looks > 100);
    } else {
        try_rings(NULL);
    }
    for (size_t i = 0; i < RING; i++) {
        assert_non_null(loam_weak_get(living.of[i]));
        assert_null(loam_weak_get(dead.of[i]));
    }
    assert_int_equal(loam_weakmap_count(living.map), RING);
    assert_int_equal(loam_weakmap_count(dead.map), 0);
    loam_release(loam_take(&living.owned));
    assert_int_equal(loam_collect_cycles(0), RING);
}

static void test_trial(void **state) {
    (void)state;
    check_trial(&simple_type, false);
    check_trial(&wiped_type, false);
    check_trial(&simple_type, true);
    check_trial(&wiped_type, true);
}

// --- A storm -----------------------------------------------------------------

enum { READERS = 3, ROUNDS = 2000 };

// Tells which object the reference leads to; traced, never changed.
struct notice {
    struct loam_weak *weak;
    uint64_t serial;
};

static struct notice *_Atomic latest;
static atomic_uint finished, retained, missed;

static void *read_on(void *data) {
    (void)data;
    while (atomic_load(&finished) == 0) {
        struct notice *n = atomic_load(&latest);
        if (n == NULL) {
            rest();
            continue;
        }
        struct thing *t = loam_weak_retain(n->weak);
        if (t == NULL) {
            atomic_fetch_add(&missed, 1);
            continue;
        }
        MUST(t->serial == n->serial); // alive, and no other
        struct thing *again = loam_retain(t);
        loam_release(t);
        MUST(again->serial == n->serial);
        loam_release(again);
        atomic_fetch_add(&retained, 1);
    }
    return NULL;
}

static void *collect_on(void *data) {
    (void)data;
    while (atomic_load(&finished) == 0) {
        (void)loam_collect();
    }
    return NULL;
}

static void make_and_drop(struct loam_type *const types[2]) {
    for (uint64_t serial = 1; serial <= ROUNDS; serial++) {
        struct thing *t = loam_new(types[serial % 2]);
        MUST(t != NULL);
        t->serial = serial;
        t->slot = loam_new(types[serial / 2 % 2]);
        struct notice *n = loam_alloc(sizeof *n);
        MUST(n != NULL && t->slot != NULL);
        n->weak = loam_weak_make(t);
        n->serial = serial;
        MUST(n->weak != NULL);
        atomic_store(&latest, n);
        if (serial % 8 != 0) {
            loam_clear(&t->slot);
        }
        loam_release(t);
        if (serial % 64 == 0) {
            rest();
        }
    }
}

static void test_storm(void **state) {
    (void)state;
    static struct loam_type *const types[2] = {&biased_type, &atomic_type};
    pthread_t readers[READERS];
    for (int i = 0; i < READERS; i++) {
        readers[i] = begin(read_on, NULL);
    }
    pthread_t collector = begin(collect_on, NULL);
    make_and_drop(types);
    atomic_store(&finished, 1);
    for (int i = 0; i < READERS; i++) {
        join(readers[i]);
    }
    join(collector);
    (void)loam_settle();
    assert_null(loam_weak_get(atomic_load(&latest)->weak));
    print_message("%u retained, %u were gone\n", atomic_load(&retained),
                  atomic_load(&missed));
    assert_true(atomic_load(&missed) > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_instruction),
        cmocka_unit_test(test_trial),
        cmocka_unit_test(test_storm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
