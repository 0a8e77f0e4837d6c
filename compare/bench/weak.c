// weak — references that do not keep what they refer to.
//
// --size thousand of them, each to an object of its own.  --variant:
//
//   get    get_ns: reading one of a thousand that are used all the time;
//          get_far_ns: reading all in a random order; make_ns: making one
//   clear  all objects but every tenth are dropped and collected: clear_ns is
//          the whole of that collection, and clear_only_ns what it takes more
//          than the next one, which has nothing to clear; each divided by the
//          references cleared
//
// A second thread has been made, so that nobody may take himself to be alone.

#define SHIM_THREADS
#define SHIM_WEAK

#include "measure.h"

#include <pthread.h>

enum { WEAK_NEAR = 1000, WEAK_BYTES = 32, WEAK_ROUNDS_MAX = 16 };

struct weak_lists {
    uint64_t **objects;
    void **weaks;
    size_t count;
};

static void *weak_other(void *data) {
    keep_object(mem_raw(16));
    return data;
}

static void weak_make(struct weak_lists *lists) {
    for (size_t at = 0; at < lists->count; at++) {
        lists->objects[at] = mem_raw(WEAK_BYTES);
        lists->objects[at][0] = at;
    }
    for (size_t at = 0; at < lists->count; at++) {
        lists->weaks[at] = mem_checked(shim_weak(lists->objects[at]));
    }
}

static uint64_t weak_read(void *weak) {
    uint64_t *object = shim_weak_get(weak);
    return object != NULL ? object[0] : 0;
}

static uint64_t weak_get(struct measure *run, struct weak_lists *lists) {
    size_t rounds = run->rounds * 1000;
    uint64_t sum = 0, start_ns = measure_now_ns();
    for (size_t round = 0; round < rounds; round++) {
        for (size_t at = 0; at < WEAK_NEAR; at++) {
            sum += weak_read(lists->weaks[at]);
        }
    }
    measure_note(run, "get_ns",
                 (double)(measure_now_ns() - start_ns) /
                     ((double)rounds * WEAK_NEAR));
    uint64_t state = run->seed;
    start_ns = measure_now_ns();
    for (size_t at = 0; at < lists->count; at++) {
        sum += weak_read(lists->weaks[random_below(&state, lists->count)]);
    }
    measure_note(run, "get_far_ns",
                 (double)(measure_now_ns() - start_ns) / (double)lists->count);
    return sum;
}

// Every tenth object stays, and must be found; of the others nearly all must
// be gone: a stale word on the stack may keep a few.
static uint64_t weak_check(const struct weak_lists *lists) {
    uint64_t sum = 0, gone = 0;
    for (size_t at = 0; at < lists->count; at++) {
        if (at % 10 == 0) {
            sum = sum * 31 + weak_read(lists->weaks[at]);
        } else {
            gone += shim_weak_get(lists->weaks[at]) == NULL;
        }
    }
    return sum + (gone * 100 >= lists->count * 89);
}

static uint64_t weak_clear(struct measure *run, struct weak_lists *lists) {
    size_t rounds =
        run->rounds < WEAK_ROUNDS_MAX ? run->rounds : WEAK_ROUNDS_MAX;
    double clear_ns[WEAK_ROUNDS_MAX], next_ns[WEAK_ROUNDS_MAX];
    double cleared = (double)lists->count * 0.9;
    uint64_t sum = 0;
    for (size_t round = 0; round < rounds; round++) {
        if (round > 0) {
            weak_make(lists);
        }
        for (size_t at = 0; at < lists->count; at++) {
            lists->objects[at] = at % 10 == 0 ? lists->objects[at] : NULL;
        }
        uint64_t start_ns = measure_now_ns();
        shim_collect();
        uint64_t middle_ns = measure_now_ns();
        shim_collect();
        clear_ns[round] = (double)(middle_ns - start_ns) / cleared;
        next_ns[round] =
            clear_ns[round] - (double)(measure_now_ns() - middle_ns) / cleared;
        sum = sum * 31 + weak_check(lists);
    }
    measure_note(run, "clear_ns", measure_median(clear_ns, rounds));
    measure_note(run, "clear_only_ns", measure_median(next_ns, rounds));
    return sum;
}

int main(int argc, char **argv) {
    struct measure *run = measure_open(argc, argv);
    struct weak_lists lists = {.count =
                                   run->size != 0 ? run->size * 1000 : 100000};
    pthread_t other;
    run->rounds = run->rounds != 0 ? run->rounds : 3;
    if (pthread_create(&other, NULL, weak_other, NULL) != 0) {
        return 1;
    }
    pthread_join(other, NULL);
    lists.objects = mem_new(lists.count * sizeof *lists.objects);
    lists.weaks = mem_new(lists.count * sizeof *lists.weaks);
    measure_start(run);
    uint64_t start_ns = measure_now_ns();
    weak_make(&lists);
    measure_note(run, "make_ns",
                 (double)(measure_now_ns() - start_ns) / (double)lists.count);
    uint64_t sum = measure_is(run, "clear") ? weak_clear(run, &lists)
                                            : weak_get(run, &lists);
    measure_stop(run, sum);
    keep_object(lists.objects);
    return 0;
}
