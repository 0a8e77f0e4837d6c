// Threads that hold and drop objects at random, with everything of loam/weak.h
// upon them, while others collect: what is held is never cleared, finalized or
// lost; what is freed by hand is gone at once; what is dropped goes.
//
// seconds: 240

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loam.h"
#include "loam/weak.h"
#include "support/child.h"
#include "support/gen.h"
#include "support/scrub.h"

#define SLOTS   40
#define REFS    60
#define THREADS 3
#define IDS     ((size_t)1 << 20)
#define MAGIC   0x7468696e67ull

enum fate { HELD = 1, DROPPED, FREED, FINALIZED };

struct thing {
    uint64_t magic, id;
    struct thing *other; // of a value: its key
    char rest[40];
};

static unsigned char fates[IDS]; // by id
static uint64_t last_id;
static uint64_t finalizers_set, finalizers_run;

#define MUST(cond)                                                             \
    do {                                                                       \
        if (!(cond)) {                                                         \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);         \
            abort();                                                           \
        }                                                                      \
    } while (0)

// One reference, and what it was made for.
struct ref {
    struct loam_weak *weak;
    uintptr_t hidden;
    uint64_t id;
};

struct player {
    struct gen gen;
    struct thing **slots; // in the heap, held by this struct's thread
    struct ref *refs;     // the same
    struct loam_weakmap *map;
    struct loam_valuemap *names;
    struct loam_guardian *guardian;
    size_t steps;
};

static unsigned fate_of(uint64_t id) {
    return __atomic_load_n(&fates[id], __ATOMIC_SEQ_CST);
}

static void set_fate(uint64_t id, unsigned fate) {
    __atomic_store_n(&fates[id], (unsigned char)fate, __ATOMIC_SEQ_CST);
}

static void check_thing(const struct thing *thing, uint64_t id) {
    MUST(thing->magic == MAGIC && thing->id == id);
    MUST(thing->rest[39] == (char)id);
}

static struct thing *make_thing(unsigned fate) {
    struct thing *thing = loam_alloc(sizeof *thing);
    MUST(thing != NULL);
    thing->id = __atomic_add_fetch(&last_id, 1, __ATOMIC_RELAXED) % IDS;
    thing->magic = MAGIC;
    thing->rest[39] = (char)thing->id;
    set_fate(thing->id, fate);
    return thing;
}

static void finalize(void *object, void *data) {
    const struct thing *thing = object;
    check_thing(thing, thing->id);
    MUST(*(uint64_t *)data == thing->id);
    MUST(fate_of(thing->id) == DROPPED); // not held, not freed, not twice
    set_fate(thing->id, FINALIZED);
    __atomic_add_fetch(&finalizers_run, 1, __ATOMIC_RELAXED);
}

static void add_finalizer(struct player *p, struct thing *thing) {
    uint64_t *data = loam_alloc_leaf(sizeof *data);
    struct loam_finalizer was;
    if (loam_finalizer_get(thing, &was)) {
        return;
    }
    MUST(data != NULL);
    *data = thing->id;
    struct loam_finalizer finalizer = {
        finalize, data, (enum loam_finalize)gen_below(&p->gen, 4)};
    MUST(loam_finalizer_set(thing, &finalizer, NULL));
    __atomic_add_fetch(&finalizers_set, 1, __ATOMIC_RELAXED);
}

static void add_ref(struct player *p, struct thing *thing) {
    struct ref *ref = &p->refs[gen_below(&p->gen, REFS)];
    ref->weak = gen_chance(&p->gen, 50) ? loam_weak_make(thing)
                                        : loam_weak_make_long(thing);
    MUST(ref->weak != NULL);
    ref->hidden = LOAM_HIDE(thing);
    ref->id = thing->id;
}

static void add_entries(struct player *p, struct thing *thing) {
    char name[24];
    struct thing *value = make_thing(DROPPED);
    value->other = thing; // leads back to its key
    MUST(loam_weakmap_put(p->map, thing, value));
    snprintf(name, sizeof name, "%llu", (unsigned long long)thing->id);
    MUST(loam_valuemap_put(p->names, name, thing));
    if (gen_chance(&p->gen, 20)) {
        MUST(loam_guardian_watch(p->guardian, thing));
    }
}

// Everything that should lead to a thing that is held.
static void check_held(struct player *p, struct thing *thing) {
    char name[24];
    check_thing(thing, thing->id);
    MUST(fate_of(thing->id) == HELD);
    struct thing *value = loam_weakmap_get(p->map, thing);
    if (value != NULL) {
        check_thing(value, value->id);
        MUST(value->other == thing);
    }
    snprintf(name, sizeof name, "%llu", (unsigned long long)thing->id);
    struct thing *named = loam_valuemap_get(p->names, name);
    MUST(named == (value != NULL ? thing : NULL));
    for (size_t i = 0; i < REFS; i++) {
        if (p->refs[i].weak != NULL && p->refs[i].id == thing->id) {
            MUST(loam_weak_get(p->refs[i].weak) == thing);
        }
    }
}

static void check_refs(struct player *p) {
    for (size_t i = 0; i < REFS; i++) {
        const struct ref *ref = &p->refs[i];
        struct thing *thing =
            ref->weak == NULL ? NULL : loam_weak_get(ref->weak);
        if (thing != NULL) {
            MUST(LOAM_HIDE(thing) == ref->hidden);
            check_thing(thing, ref->id);
            MUST(fate_of(ref->id) != FREED);
        }
    }
}

static void drop(struct player *p, size_t slot) {
    struct thing *thing = p->slots[slot];
    if (thing == NULL) {
        return;
    }
    // What is watched by a guardian or leads somewhere may come back; what is
    // freed may not.
    if (gen_chance(&p->gen, 15)) {
        set_fate(thing->id, FREED);
        (void)loam_weakmap_remove(p->map, thing);
        loam_free(thing);
    } else {
        set_fate(thing->id, DROPPED);
    }
    p->slots[slot] = NULL;
}

static NOT_INLINED void step(struct player *p) {
    size_t slot = gen_below(&p->gen, SLOTS);
    struct thing *thing = p->slots[slot];
    switch (gen_below(&p->gen, 8)) {
    case 0:
        drop(p, slot);
        p->slots[slot] = make_thing(HELD);
        break;
    case 1:
        drop(p, slot);
        break;
    case 2:
        check_refs(p);
        break;
    case 3:
        while ((thing = loam_guardian_next(p->guardian)) != NULL) {
            check_thing(thing, thing->id);
            MUST(fate_of(thing->id) != HELD && fate_of(thing->id) != FREED);
        }
        break;
    default:
        if (thing == NULL) {
            break;
        }
        check_held(p, thing);
        if (gen_chance(&p->gen, 30)) {
            add_ref(p, thing);
        }
        if (gen_chance(&p->gen, 20)) {
            add_entries(p, thing);
        }
        if (gen_chance(&p->gen, 10)) {
            add_finalizer(p, thing);
        }
    }
    if (gen_chance(&p->gen, 1) && gen_chance(&p->gen, 10)) {
        (void)loam_collect();
    }
}

static NOT_INLINED void play(struct player *p) {
    for (size_t i = 0; i < p->steps; i++) {
        step(p);
    }
    for (size_t i = 0; i < SLOTS; i++) {
        drop(p, i);
    }
}

struct task {
    uint64_t seed;
    size_t steps;
};

static void *run(void *data) {
    const struct task *task = data;
    struct player p = {.steps = task->steps};
    gen_init(&p.gen, task->seed);
    p.slots = loam_calloc(SLOTS, sizeof *p.slots);
    p.refs = loam_calloc(REFS, sizeof *p.refs);
    p.map = loam_weakmap_make();
    p.names = loam_valuemap_make(LOAM_KEYS_TEXTS);
    p.guardian = loam_guardian_make();
    MUST(p.slots != NULL && p.refs != NULL && p.map != NULL &&
         p.names != NULL && p.guardian != NULL);
    play(&p);
    return NULL;
}

static void run_all(size_t threads, size_t steps) {
    uint64_t seed = gen_seed("weak model");
    pthread_t ids[THREADS];
    struct task tasks[THREADS];
    for (size_t i = 0; i < threads; i++) {
        tasks[i] = (struct task){seed + i, steps};
        MUST(pthread_create(&ids[i], NULL, run, &tasks[i]) == 0);
    }
    for (size_t i = 0; i < threads; i++) {
        MUST(pthread_join(ids[i], NULL) == 0);
    }
    for (size_t i = 0; i < 6; i++) {
        (void)scrub_collect();
    }
}

static void check_end(void) {
    struct loam_stats stats;
    loam_stats(&stats, sizeof stats);
    printf("%llu collections, %llu finalizers set, %llu run\n",
           (unsigned long long)stats.collections,
           (unsigned long long)finalizers_set,
           (unsigned long long)finalizers_run);
    // Some objects were freed by hand, some are kept by chance.
    MUST(finalizers_run >= finalizers_set / 2);
    MUST(finalizers_run <= finalizers_set);
}

static void test_threads(void **state) {
    (void)state;
    run_all(1, SCALED(200000, 20000));
    run_all(THREADS, SCALED(200000, 20000));
    check_end();
}

static void test_checked(void **state) {
    (void)state;
    static const char *const rarely[] = {"LOAM_CHECK=all", NULL};
    static const char *const often[] = {"LOAM_CHECK=all",
                                        "LOAM_COLLECT_EVERY=7", NULL};
    assert_true(child_passes("child", rarely));
    assert_true(child_passes("child", often));
}

int main(int argc, char **argv) {
    if (child_mode(argc, argv) != NULL) {
        run_all(THREADS, SCALED(2000, 400));
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
