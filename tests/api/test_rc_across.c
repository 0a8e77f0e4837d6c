// Rings through objects of all types: plain ones, those that threads share, and
// traced memory; those whose parts belong to several threads; what finalizers
// and weak references bring back of them; a storm.
//
// seconds: 120

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "loam/rc.h"
#include "loam/weak.h"
#include "support/gen.h"
#include "support/scrub.h"
#include "support/team.h"

#define ALIVE UINT64_C(0x616C697665)
#define DEAD  UINT64_C(0x64656164)
#define COUNT ((size_t)SCALED(200, 20))
#define STRAY ((size_t)4) // rings that a stray word may keep

struct thing {
    struct thing *first, *second;
    void *traced;
    uint64_t state;
    unsigned owner; // the thread that made it
    bool is_plain;
};

static atomic_uint made, destroyed;

// A plain one dies where it was made, unless that thread has ended.
static _Thread_local unsigned self; // 0: the first thread
static atomic_uint ended[8];

static void thing_destroy(void *object) {
    struct thing *thing = object;
    MUST(thing->state == ALIVE);
    MUST(!thing->is_plain || thing->owner == self ||
         atomic_load(&ended[thing->owner]) != 0);
    thing->state = DEAD;
    atomic_fetch_add(&destroyed, 1);
}

#define TWO LOAM_OWNS(struct thing, first, second), .destroy = thing_destroy

static LOAM_TYPE(plain_type, struct thing, TWO);
static LOAM_TYPE(shared_type, struct thing, TWO, .flags = LOAM_TYPE_SHARED);
static LOAM_TYPE(atomic_type, struct thing, TWO, .flags = LOAM_TYPE_ATOMIC);
static LOAM_TYPE(deferred_type, struct thing, TWO, .flags = LOAM_TYPE_DEFERRED);
static LOAM_TYPE(traced_type, struct thing, TWO, .flags = LOAM_TYPE_TRACED);
static LOAM_TYPE(held_type, struct thing, TWO,
                 .flags = LOAM_TYPE_TRACED | LOAM_TYPE_SHARED);

static struct loam_type *const types[] = {&plain_type,    &shared_type,
                                          &atomic_type,   &plain_type,
                                          &deferred_type, &traced_type};
#define TYPES (sizeof types / sizeof *types)

static struct thing *thing_new(struct loam_type *type) {
    struct thing *thing = loam_new(type);
    MUST(thing != NULL);
    thing->state = ALIVE;
    thing->owner = self;
    thing->is_plain =
        (type->flags & (LOAM_TYPE_SHARED | LOAM_TYPE_ATOMIC)) == 0;
    if (type->flags & LOAM_TYPE_DEFERRED) {
        loam_retain(thing);
    }
    atomic_fetch_add(&made, 1);
    return thing;
}

static int set_up(void **state) {
    (void)state;
    for (size_t i = 0; i < 8; i++) {
        atomic_store(&ended[i], 0);
    }
    atomic_store(&made, 0);
    atomic_store(&destroyed, 0);
    return 0;
}

static void collect(void) {
    for (int i = 0; i < 3; i++) {
        MUST(scrub_collect());
        (void)loam_settle();
    }
}

static void check_gone(size_t in_ring) {
    collect();
    assert_in_range(atomic_load(&destroyed),
                    atomic_load(&made) - STRAY * in_ring, atomic_load(&made));
}

// --- One thread ----------------------------------------------------------

// A ring of as many, of any types.
static NOT_INLINED void make_ring(struct gen *g, size_t length) {
    struct thing *first = thing_new(types[gen_below(g, TYPES)]), *last = first;
    for (size_t i = 1; i < length; i++) {
        last->first = thing_new(types[gen_below(g, TYPES)]);
        last = last->first;
        if (gen_chance(g, 30)) {
            loam_assign(&last->second, first);
        }
    }
    last->first = first; // takes the owner over
}

static void test_any(void **state) {
    (void)state;
    struct gen g;
    gen_init(&g, gen_seed("any"));
    for (size_t i = 0; i < COUNT; i++) {
        make_ring(&g, 1 + gen_below(&g, 8));
    }
    check_gone(8);
}

// Each type with each, with traced memory in between, which needs no count to
// lead to one of a type that says so.
static NOT_INLINED void make_pair(struct loam_type *a, struct loam_type *b) {
    struct thing *one = thing_new(a), *other = thing_new(b);
    loam_assign(&one->first, other);
    loam_assign(&other->first, one);
    loam_release(one);
    if (b->flags & LOAM_TYPE_TRACED) {
        void **cell = loam_alloc(sizeof *cell);
        *cell = other;
        one->traced = cell;
        loam_clear(&one->first);
    }
    loam_release(other);
}

static void test_pairs(void **state) {
    (void)state;
    for (size_t i = 0; i < TYPES * TYPES; i++) {
        for (size_t n = 0; n < COUNT / 20; n++) {
            make_pair(types[i / TYPES], types[i % TYPES]);
            make_pair(types[i / TYPES], &held_type);
        }
    }
    check_gone(2);
}

// --- Several threads ------------------------------------------------------

static atomic_uint stage;
static uintptr_t hidden[COUNT];

static struct thing *reveal(size_t i) {
    return (struct thing *)~hidden[i];
}

// Rings through a shared object that owns a plain one of each thread.
static NOT_INLINED void make_halves(void) {
    for (size_t i = 0; i < COUNT; i++) {
        struct thing *mine = thing_new(&plain_type);
        mine->first = thing_new(i % 2 == 0 ? &shared_type : &atomic_type);
        hidden[i] = ~(uintptr_t)mine->first;
        mine->first->first = mine;
    }
}

static NOT_INLINED void make_other_halves(void) {
    for (size_t i = 0; i < COUNT; i++) {
        struct thing *mine = thing_new(&plain_type);
        loam_assign(&mine->first, reveal(i));
        reveal(i)->second = mine;
    }
}

static void *own_halves(void *data) {
    (void)data;
    self = 1;
    make_other_halves();
    scrub_stack();
    atomic_store(&stage, 1);
    wait_for(&stage, 2);
    collect();
    atomic_store(&stage, 3);
    wait_for(&stage, 4);
    atomic_store(&ended[self], 1);
    return NULL;
}

// In a child the other thread is gone.
static void check_child(void) {
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        atomic_store(&ended[1], 1);
        collect();
        size_t left = atomic_load(&made) - atomic_load(&destroyed);
        _exit(left <= STRAY * 3 ? 0 : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

// They wait until one of the threads has ended.
static void test_halves(void **state) {
    (void)state;
    atomic_store(&stage, 0);
    make_halves();
    pthread_t thread = begin(own_halves, NULL);
    wait_for(&stage, 1);
    collect();
    assert_int_equal(atomic_load(&destroyed), 0);
    atomic_store(&stage, 2);
    wait_for(&stage, 3);
    assert_int_equal(atomic_load(&destroyed), 0);
    check_child();
    atomic_store(&stage, 4);
    join(thread);
    check_gone(3);
}

// Rings of each thread's that lead to what all use.
static NOT_INLINED void make_users(void) {
    for (size_t i = 0; i < COUNT; i++) {
        struct thing *mine = thing_new(&plain_type);
        mine->first = thing_new(i % 2 == 0 ? &shared_type : &atomic_type);
        mine->first->first = mine;
        loam_assign(&mine->second, reveal(i / 2));
    }
}

static void *use_and_end(void *data) {
    (void)data;
    self = 1;
    make_users();
    atomic_store(&stage, 1);
    wait_for(&stage, 2);
    collect();
    atomic_store(&stage, 3);
    wait_for(&stage, 4);
    atomic_store(&ended[self], 1);
    return NULL;
}

static NOT_INLINED void make_used(void) {
    for (size_t i = 0; i < COUNT / 2; i++) {
        hidden[i] = ~(uintptr_t)thing_new(&shared_type);
        // With a ring behind it.
        reveal(i)->first = thing_new(&atomic_type);
        loam_assign(&reveal(i)->first->first, reveal(i)->first);
    }
}

static NOT_INLINED void forget_used(void) {
    for (size_t i = 0; i < COUNT / 2; i++) {
        loam_release(reveal(i));
    }
}

// Each takes its own while the other lives, and one of them the rest.
static void test_users(void **state) {
    (void)state;
    atomic_store(&stage, 0);
    make_used();
    pthread_t thread = begin(use_and_end, NULL);
    wait_for(&stage, 1);
    make_users();
    forget_used();
    collect();
    unsigned mine = 2 * (unsigned)COUNT;
    assert_in_range(atomic_load(&destroyed), mine - 8, mine);
    atomic_store(&stage, 2);
    wait_for(&stage, 3);
    collect();
    assert_in_range(atomic_load(&destroyed), atomic_load(&made) - 32,
                    atomic_load(&made));
    atomic_store(&stage, 4);
    join(thread);
    check_gone(8);
}

// --- What comes back -----------------------------------------------------

static size_t finalized;
static uintptr_t last_hidden;

static void *collect_once(void *data) {
    (void)data;
    MUST(loam_collect());
    return NULL;
}

// Its first time it is kept.
static void keep(void *object) {
    finalized++;
    loam_retain(object);
}

static LOAM_TYPE(kept_type, struct thing, TWO, .finalize = keep,
                 .flags = LOAM_TYPE_TRACED);

static struct loam_weak *weak[COUNT];
static struct thing **cells;

static NOT_INLINED void make_kept(void) {
    for (size_t i = 0; i < COUNT; i++) {
        struct thing *thing = thing_new(&kept_type);
        weak[i] = loam_weak_make_long(thing);
        hidden[i] = ~(uintptr_t)thing;
        loam_assign(&thing->first, thing);
        loam_release(thing);
    }
}

static NOT_INLINED void release_kept(void) {
    for (size_t i = 0; i < COUNT; i++) {
        MUST(loam_count(reveal(i)) == 2);
        loam_release(reveal(i));
    }
}

// What a weak reference gives, traced memory may lead to without a count.
static NOT_INLINED void use_weak(void) {
    for (size_t i = 0; i < COUNT; i++) {
        cells[i] = loam_weak_get(weak[i]);
    }
}

// A cycle of another thread's has condemned them: a weak reference gives them
// no more, and what it gives is not destroyed.
static void test_lent(void **state) {
    (void)state;
    finalized = 0;
    cells = loam_alloc(COUNT * sizeof *cells);
    make_kept();
    for (int i = 0; i < 4 && finalized != COUNT; i++) {
        collect();
    }
    if (finalized != COUNT) {
        skip(); // a stray word
    }
    release_kept();
    scrub_stack();
    join(begin(collect_once, NULL));
    use_weak();
    (void)loam_settle();
    for (size_t i = 0; i < COUNT; i++) {
        assert_true(cells[i] == NULL || cells[i]->state == ALIVE);
    }
    memset(cells, 0, COUNT * sizeof *cells);
    check_gone(1);
}

static NOT_INLINED void retain_last(void) {
    loam_retain((void *)~last_hidden);
}

// In a finalizer that nothing shows the object any more.
static void collect_in(void *object) {
    finalized++;
    last_hidden = ~(uintptr_t)object;
    object = NULL;
    scrub_stack();
    MUST(scrub_collect());
    retain_last();
}

static LOAM_TYPE(brave_type, struct thing, TWO, .finalize = collect_in);

static NOT_INLINED struct loam_weak *make_brave(void) {
    struct thing *thing = thing_new(&brave_type);
    thing->first = thing_new(&plain_type);
    struct loam_weak *long_one = loam_weak_make_long(thing);
    loam_release(thing);
    return long_one;
}

// The cycle keeps it, with what it owns: it is owned by who finalizes it.
static void test_finalized(void **state) {
    (void)state;
    finalized = 0;
    struct loam_weak *long_one = make_brave();
    assert_int_equal(finalized, 1);
    struct thing *thing = loam_weak_get(long_one);
    assert_ptr_equal(thing, (void *)~last_hidden);
    (void)loam_settle();
    assert_int_equal(atomic_load(&destroyed), 0);
    assert_int_equal(loam_count(thing), 1);
    assert_int_equal(loam_count(thing->first), 1);
    loam_release(thing);
    assert_int_equal(atomic_load(&destroyed), 2);
}

// Rings of a plain object and shared ones, one of which shows itself to another
// thread when it is finalized.  That takes them from each other while it is
// asked which of them live.
enum { LINKS = SCALED(60, 20) };

static pthread_mutex_t window_lock = PTHREAD_MUTEX_INITIALIZER;
static struct thing *window;
static atomic_uint windows;

static void show(void *object) {
    struct thing *old;
    pthread_mutex_lock(&window_lock);
    old = window;
    window = loam_retain(object);
    pthread_mutex_unlock(&window_lock);
    loam_release(old);
    atomic_fetch_add(&windows, 1);
}

static LOAM_TYPE(shown_type, struct thing, TWO, .finalize = show,
                 .flags = LOAM_TYPE_SHARED);

static struct thing *look(void) {
    pthread_mutex_lock(&window_lock);
    struct thing *thing = window;
    window = NULL;
    pthread_mutex_unlock(&window_lock);
    return thing;
}

static void *watch(void *data) {
    (void)data;
    self = 1;
    while (atomic_load(&stage) == 0) {
        struct thing *thing = look();
        while (thing != NULL) {
            MUST(thing->state == ALIVE);
            struct thing *next = thing->second;
            thing->second = NULL;
            loam_release(thing); // perhaps its last owner, perhaps not
            thing = next;
        }
        (void)loam_settle();
    }
    loam_release(look());
    atomic_store(&ended[self], 1);
    return NULL;
}

// first: round the ring; second: a chain that the other thread follows.
static NOT_INLINED void make_shown(void) {
    struct thing *last = thing_new(&plain_type), *first = last;
    struct thing *shown = thing_new(&shown_type);
    first->first = loam_retain(shown);
    for (size_t i = 0; i < LINKS; i++) {
        struct thing *next =
            thing_new(i % 2 == 0 ? &shared_type : &atomic_type);
        shown->second = next;
        shown = next;
    }
    first->first->first = first;
    loam_release(first->first);
}

static void test_shown(void **state) {
    (void)state;
    atomic_store(&stage, 0);
    atomic_store(&windows, 0);
    pthread_t thread = begin(watch, NULL);
    for (size_t i = 0; i < COUNT; i++) {
        make_shown();
        (void)scrub_collect();
        (void)loam_settle();
    }
    assert_in_range(atomic_load(&windows), COUNT / 2, COUNT);
    atomic_store(&stage, 1);
    join(thread);
    check_gone(LINKS + 2);
}

// --- A storm -------------------------------------------------------------

#define SLOTS   16
#define THREADS 3

static pthread_mutex_t doors[SLOTS];
static struct thing *slots[SLOTS]; // that lead to no plain object

static struct thing *take_slot(size_t at) {
    pthread_mutex_lock(&doors[at]);
    struct thing *thing = loam_retain(slots[at]);
    pthread_mutex_unlock(&doors[at]);
    return thing;
}

static void give_slot(size_t at, struct thing *thing) {
    pthread_mutex_lock(&doors[at]);
    struct thing *old = slots[at];
    slots[at] = thing;
    pthread_mutex_unlock(&doors[at]);
    loam_release(old);
}

static struct thing *make_bare(struct gen *g) {
    struct thing *bare =
        thing_new(gen_chance(g, 50) ? &shared_type : &atomic_type);
    bare->first = take_slot(gen_below(g, SLOTS));
    if (gen_chance(g, 30)) {
        loam_assign(&bare->second, bare);
    }
    return bare;
}

// A ring of the thread's own, through shared objects, that leads to what all
// use.
static NOT_INLINED void storm_ring(struct gen *g) {
    struct thing *first = thing_new(&plain_type), *last = first;
    for (size_t n = gen_below(g, 5); n != 0; n--) {
        last->first = thing_new(types[gen_below(g, 5)]);
        last = last->first;
        last->second = take_slot(gen_below(g, SLOTS));
    }
    last->first = first;
    if (gen_chance(g, 10)) {
        loam_clear(&last->first);
    }
}

static uint64_t storm_seed;

static void *storm(void *data) {
    self = 1 + (unsigned)(uintptr_t)data;
    struct gen g;
    gen_init(&g, gen_mix(storm_seed, self));
    for (size_t i = 0; i < SCALED(4000, 300); i++) {
        size_t at = gen_below(&g, SLOTS);
        switch (gen_below(&g, 6)) {
        case 0:
            give_slot(at, make_bare(&g));
            break;
        case 1:
            give_slot(at, NULL);
            break;
        case 2:
            if (gen_chance(&g, 10)) {
                (void)loam_collect();
            }
            (void)loam_settle();
            break;
        case 3:
            if (gen_chance(&g, 10)) {
                (void)loam_collect_cycles(0);
            }
            break;
        default:
            storm_ring(&g);
            break;
        }
    }
    atomic_store(&ended[self], 1);
    return NULL;
}

static void test_storm(void **state) {
    (void)state;
    storm_seed = gen_seed("storm");
    pthread_t threads[THREADS];
    for (size_t i = 0; i < 2 * THREADS; i++) {
        if (i >= THREADS) {
            join(threads[i % THREADS]);
        }
        threads[i % THREADS] = begin(storm, (void *)(uintptr_t)i);
    }
    for (size_t i = 0; i < THREADS; i++) {
        join(threads[i]);
    }
    for (size_t i = 0; i < SLOTS; i++) {
        give_slot(i, NULL);
    }
    collect();
    check_gone(16);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_any, set_up),
        cmocka_unit_test_setup(test_pairs, set_up),
        cmocka_unit_test_setup(test_halves, set_up),
        cmocka_unit_test_setup(test_users, set_up),
        cmocka_unit_test_setup(test_lent, set_up),
        cmocka_unit_test_setup(test_finalized, set_up),
        cmocka_unit_test_setup(test_shown, set_up),
        cmocka_unit_test_setup(test_storm, set_up)};
    for (size_t i = 0; i < SLOTS; i++) {
        pthread_mutex_init(&doors[i], NULL);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
