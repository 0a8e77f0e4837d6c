#include "support/bazaar.h"

#include <errno.h>
#include <time.h>

#include "loam.h"

struct bazaar bazaar;

void bazaar_init(uint64_t seed) {
    bazaar.seed = seed;
    for (size_t i = 0; i < BAZAAR_SHELVES; i++) {
        (void)pthread_mutex_init(&bazaar.shelves[i].lock, NULL);
    }
}

void bazaar_nap(long us) {
    // Until a point in time: a nap of a thread that stops interrupt would not
    // count what they last.
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_nsec += us % 1000000 * 1000;
    t.tv_sec += us / 1000000 + t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR) {
    }
}

void bazaar_begin(struct thing_maker *m) {
    thing_maker_init(m, bazaar.seed,
                     1 + atomic_fetch_add(&bazaar.makers, 1) % 0xFFFFF);
}

void bazaar_finish(const struct thing_maker *m) {
    atomic_fetch_add(&bazaar.checked, m->checked);
    atomic_fetch_add(&bazaar.refused, m->refused);
    atomic_fetch_add(&bazaar.freed, m->freed);
}

struct thing_link bazaar_frozen(struct thing_maker *m) {
    size_t shelf = gen_below(&m->gen, BAZAAR_SHELVES);
    size_t slot = gen_below(&m->gen, BAZAAR_SLOTS);
    pthread_mutex_lock(&bazaar.shelves[shelf].lock);
    struct thing_link got = bazaar.shelves[shelf].frozen[slot];
    pthread_mutex_unlock(&bazaar.shelves[shelf].lock);
    return got;
}

static void bazaar_new_frozen(struct thing_maker *m) {
    struct thing_link made = thing_freeze(m, bazaar_frozen(m));
    size_t shelf = gen_below(&m->gen, BAZAAR_SHELVES);
    size_t slot = gen_below(&m->gen, BAZAAR_SLOTS);
    pthread_mutex_lock(&bazaar.shelves[shelf].lock);
    struct thing_link old = bazaar.shelves[shelf].frozen[slot];
    bazaar.shelves[shelf].frozen[slot] = made;
    pthread_mutex_unlock(&bazaar.shelves[shelf].lock);
    thing_check(m, old);
}

static void bazaar_exchange(struct thing_maker *m, struct thing_link *own) {
    size_t shelf = gen_below(&m->gen, BAZAAR_SHELVES);
    size_t slot = gen_below(&m->gen, BAZAAR_SLOTS);
    pthread_mutex_lock(&bazaar.shelves[shelf].lock);
    struct thing_link old = bazaar.shelves[shelf].slots[slot];
    bazaar.shelves[shelf].slots[slot] = *own;
    pthread_mutex_unlock(&bazaar.shelves[shelf].lock);
    *own = old;
    thing_check(m, old);
}

void bazaar_step(struct thing_maker *m, struct thing_link own[BAZAAR_OWN]) {
    struct thing_link *at = &own[gen_below(&m->gen, BAZAAR_OWN)];
    size_t dice = gen_below(&m->gen, 1000);
    if (dice < 400) {
        thing_check(m, *at);
        *at = thing_tree(m, 4, bazaar_frozen(m));
    } else if (dice < 600) {
        thing_check(m, *at);
    } else if (dice < 750) {
        bazaar_exchange(m, at);
    } else if (dice < 820) {
        thing_free(m, *at);
        *at = (struct thing_link){NULL, 0};
    } else if (dice < 900) {
        bazaar_new_frozen(m);
    } else if (dice < 990) {
        thing_resize(m, *at);
    } else if (dice < 998) {
        loam_blocking_enter();
        bazaar_nap(50);
        loam_blocking_leave();
    } else if (dice < 999) {
        (void)loam_collect();
    } else {
        m->bytes_max = gen_chance(&m->gen, 90) ? 2000 : 200000;
    }
    atomic_fetch_add_explicit(&bazaar.progress, 1, memory_order_relaxed);
}

void bazaar_check(struct thing_maker *m,
                  const struct thing_link own[BAZAAR_OWN]) {
    for (size_t i = 0; i < BAZAAR_OWN; i++) {
        thing_check(m, own[i]);
    }
}

void bazaar_work(size_t steps) {
    struct thing_maker m;
    struct thing_link own[BAZAAR_OWN] = {{NULL, 0}};
    bazaar_begin(&m);
    for (size_t i = 0; i < steps && !bazaar.over; i++) {
        bazaar_step(&m, own);
    }
    bazaar_check(&m, own);
    bazaar_finish(&m);
}
