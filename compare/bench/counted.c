// counted — objects that count their owners: Loam's, C++'s, Boost's, GLib's.
//
// COUNTED_SHIM is a header of shims/ that offers, for one library,
//
//   struct counted_node      with slots left and right, and a value
//   counted_ref              a variable or slot that owns an object, or none
//   counted_make(ref)        a new object in an empty variable
//   counted_set(to, from)    one owner more for the new, one less for the old
//   counted_drop(ref)        one less
//   counted_at(ref)          the object
//   counted_touch(ref)       one more and one less, by the shortest way
//   counted_refs(count)      so many empty variables in malloc's memory
//   counted_make_atomic(ref) the same, of a type that no thread has for its own
//   counted_in_steps()       from now on a release may put off what it owes
//   counted_settle()         what is owed is done
//   counted_left()           objects not destroyed, where it can be said
//   COUNTED_WEAK             1 with counted_weak, counted_weaks_of(count), so
//                            many that are empty, counted_weak_make(weak, ref),
//                            counted_weak_read(weak), which owns the object
//                            while it reads, and counted_weak_drop(weak)
//
// Times are CPU times of the thread, but for `both` and `lazy`: wall.
//
// Compiled twice: for one thread, and with COUNTED_SHARED for types that
// threads share.  In C++ it is included by counted.cpp.  --variant:
//
//   hot     touching one object: op_ns (with --threads 2 there has been another
//           thread, as in all of these)
//   slots   setting one of --size slots, a power of two, to one of as many
//           objects: op_ns
//   both    two threads touch one object: op_ns, wall, for each touch
//   list, tree   letting go of --size thousand objects: op_ns for each
//   lazy    many small objects come and go, 256 of them with a tree: p999_us of
//           all those releases
//   new     an object made and dropped: op_ns
//   weak    get_ns, get_far_ns, make_ns: as in weak.c, the object retained
//   bytes   resident bytes for each of --size thousand objects, 24 of which
//           are the program's

#define SHIM_THREADS

#include "measure.h"

#include <pthread.h>
#include <sys/resource.h>

#include COUNTED_SHIM

#define COUNTED_STACK (UINT64_C(1) << 30)

enum {
    COUNTED_TREES = 256,
    COUNTED_OPS = 400 * COUNTED_TREES,
    COUNTED_NEAR = 1000,
    COUNTED_STEPS = 100000
};

static clockid_t counted_clock = CLOCK_THREAD_CPUTIME_ID;
static uint64_t counted_now_ns;

static void counted_begin(void) {
    counted_now_ns = measure_clock_ns(counted_clock);
}

static double counted_end(double count) {
    return (double)(measure_clock_ns(counted_clock) - counted_now_ns) / count;
}

static size_t counted_random(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (size_t)(*state >> 33);
}

// --- Counts ----------------------------------------------------------------

static uint64_t counted_hot(struct measure *run) {
    size_t steps = run->rounds * COUNTED_STEPS;
    counted_ref *one = counted_refs(1);
    counted_make(one);
    counted_at(one)->value = 7;
    counted_begin();
    for (size_t step = 0; step < steps; step++) {
        counted_touch(one);
    }
    measure_note(run, "op_ns", counted_end((double)steps));
    uint64_t sum = counted_at(one)->value;
    counted_drop(one);
    return sum;
}

static uint64_t counted_slots(struct measure *run) {
    size_t count = run->size, steps = run->rounds * COUNTED_STEPS;
    counted_ref *objects = counted_refs(count), *slots = counted_refs(count);
    uint64_t state = run->seed, sum = 0;
    for (size_t at = 0; at < count; at++) {
        counted_make(&objects[at]);
        counted_at(&objects[at])->value = at;
        counted_set(&slots[at], &objects[at]);
    }
    counted_begin();
    for (size_t step = 0; step < steps; step++) {
        counted_set(&slots[step & (count - 1)],
                    &objects[counted_random(&state) & (count - 1)]);
    }
    measure_note(run, "op_ns", counted_end((double)steps));
    for (size_t at = 0; at < count; at++) {
        sum = sum * 31 + counted_at(&slots[at])->value;
        counted_drop(&slots[at]);
        counted_drop(&objects[at]);
    }
    return sum;
}

static counted_ref *counted_common;
static pthread_barrier_t counted_gate;

static void *counted_touch_all(void *data) {
    size_t steps = *(size_t *)data;
    shim_attach();
    pthread_barrier_wait(&counted_gate);
    for (size_t step = 0; step < steps; step++) {
        counted_touch(counted_common);
    }
    return NULL;
}

// The maker and another.
static uint64_t counted_both(struct measure *run) {
    size_t steps = run->rounds * COUNTED_STEPS;
    pthread_t other;
    counted_clock = CLOCK_MONOTONIC;
    counted_common = counted_refs(1);
    counted_make_atomic(counted_common);
    counted_at(counted_common)->value = 7;
    pthread_barrier_init(&counted_gate, NULL, 2);
    if (pthread_create(&other, NULL, counted_touch_all, &steps) != 0) {
        exit(1);
    }
    pthread_barrier_wait(&counted_gate);
    counted_begin();
    for (size_t step = 0; step < steps; step++) {
        counted_touch(counted_common);
    }
    pthread_join(other, NULL);
    measure_note(run, "op_ns", counted_end((double)steps));
    uint64_t sum = counted_at(counted_common)->value;
    counted_drop(counted_common);
    return sum;
}

// --- Objects that own others -----------------------------------------------

static uint64_t counted_list(counted_ref *list, size_t count) {
    uint64_t sum = 0;
    counted_ref *tail = list;
    for (size_t at = 0; at < count; at++) {
        counted_make(tail);
        counted_at(tail)->value = at;
        sum += counted_at(tail)->value;
        tail = &counted_at(tail)->right;
    }
    return sum;
}

// Of `count` objects, the root first, then all of its left.
static uint64_t counted_tree(counted_ref *root, size_t count) {
    if (count == 0) {
        return 0;
    }
    counted_make(root);
    counted_at(root)->value = count;
    size_t left = (count - 1) / 2;
    uint64_t sum = counted_tree(&counted_at(root)->left, left);
    sum += counted_tree(&counted_at(root)->right, count - 1 - left);
    return sum + counted_at(root)->value;
}

static uint64_t counted_release(struct measure *run) {
    size_t count = run->size * 1000;
    uint64_t sum = 0;
    double spent_ns = 0;
    counted_ref *all = counted_refs(1);
    for (size_t round = 0; round < run->rounds; round++) {
        sum += measure_is(run, "list") ? counted_list(all, count)
                                       : counted_tree(all, count);
        counted_begin();
        counted_drop(all);
        spent_ns += counted_end((double)count);
    }
    measure_note(run, "op_ns", spent_ns / (double)run->rounds);
    return sum;
}

// Every release is timed.  Trees hang on every 400th.
static uint64_t counted_lazy(struct measure *run) {
    size_t every = COUNTED_OPS / COUNTED_TREES;
    size_t count = run->size * 1000 / COUNTED_TREES;
    uint64_t sum = 0;
    double *spent_us =
        (double *)mem_checked(calloc(COUNTED_OPS, sizeof *spent_us));
    counted_ref *trees = counted_refs(COUNTED_TREES);
    counted_ref *one = counted_refs(1);
    for (size_t at = 0; at < COUNTED_TREES; at++) {
        sum += counted_tree(&trees[at], count);
    }
    counted_in_steps();
    counted_clock = CLOCK_MONOTONIC;
    for (size_t at = 0; at < COUNTED_OPS; at++) {
        counted_ref *drop = at % every == 0 ? &trees[at / every] : one;
        if (drop == one) {
            counted_make(one);
        }
        counted_begin();
        counted_drop(drop);
        spent_us[at] = counted_end(1e3);
    }
    measure_note(run, "p50_us", measure_median(spent_us, COUNTED_OPS));
    measure_note(run, "p999_us",
                 measure_quantile(spent_us, COUNTED_OPS, 0.999));
    measure_note(run, "max_us", spent_us[COUNTED_OPS - 1]);
    return sum;
}

static uint64_t counted_new(struct measure *run) {
    size_t steps = run->rounds * COUNTED_STEPS / 4;
    uint64_t sum = 0;
    counted_ref *one = counted_refs(1);
    counted_begin();
    for (size_t step = 0; step < steps; step++) {
        counted_make(one);
        counted_at(one)->value = step;
        sum += counted_at(one)->value;
        keep_object(counted_at(one));
        counted_drop(one);
    }
    measure_note(run, "op_ns", counted_end((double)steps));
    return sum;
}

static uint64_t counted_bytes(struct measure *run) {
    size_t count = run->size * 1000;
    uint64_t sum = 0;
    counted_ref *all = counted_refs(count);
    for (size_t at = 0; at < count; at++) {
        keep_object(&all[at]);
        memset((void *)&all[at], 0, sizeof all[at]);
    }
    double before_kb = (double)measure_rss_kb();
    for (size_t at = 0; at < count; at++) {
        counted_make(&all[at]);
        counted_at(&all[at])->value = at;
    }
    double after_kb = (double)measure_rss_kb();
    measure_note(run, "bytes_object",
                 (after_kb - before_kb) * 1024 / (double)count);
    for (size_t at = 0; at < count; at++) {
        sum = sum * 31 + counted_at(&all[at])->value;
        counted_drop(&all[at]);
    }
    return sum;
}

// --- Weak references -------------------------------------------------------

static uint64_t counted_weaks(struct measure *run) {
    uint64_t sum = 0;
#if COUNTED_WEAK
    size_t count = run->size * 1000, steps = run->rounds * 1000;
    uint64_t state = run->seed;
    counted_ref *objects = counted_refs(count);
    counted_weak *weaks = counted_weaks_of(count);
    for (size_t at = 0; at < count; at++) {
        counted_make(&objects[at]);
        counted_at(&objects[at])->value = at;
    }
    counted_begin();
    for (size_t at = 0; at < count; at++) {
        counted_weak_make(&weaks[at], &objects[at]);
    }
    measure_note(run, "make_ns", counted_end((double)count));
    counted_begin();
    for (size_t step = 0; step < steps; step++) {
        for (size_t at = 0; at < COUNTED_NEAR; at++) {
            sum += counted_weak_read(&weaks[at]);
        }
    }
    measure_note(run, "get_ns", counted_end((double)steps * COUNTED_NEAR));
    counted_begin();
    for (size_t at = 0; at < count; at++) {
        sum += counted_weak_read(&weaks[counted_random(&state) % count]);
    }
    measure_note(run, "get_far_ns", counted_end((double)count));
    for (size_t at = 0; at < count; at++) {
        if (at % 2 == 0) {
            counted_drop(&objects[at]);
        }
        sum += counted_weak_read(&weaks[at]);
        counted_weak_drop(&weaks[at]);
        counted_drop(&objects[at]);
    }
#else
    (void)run;
#endif
    return sum;
}

// ---------------------------------------------------------------------------

// Where a release recurses, it needs a deep stack: the program begins again
// with one, since the kernel makes room for it only at the start.
static void counted_deepen(char **argv) {
    struct rlimit deep;
    getrlimit(RLIMIT_STACK, &deep);
    deep.rlim_cur =
        deep.rlim_max < COUNTED_STACK ? deep.rlim_max : (rlim_t)COUNTED_STACK;
    if (getenv("COUNTED_DEEP") == NULL && setrlimit(RLIMIT_STACK, &deep) == 0) {
        setenv("COUNTED_DEEP", "1", 1);
        execv("/proc/self/exe", argv);
    }
}

static void *counted_nothing(void *data) {
    return data;
}

static uint64_t counted_run(struct measure *run) {
    return measure_is(run, "slots")   ? counted_slots(run)
           : measure_is(run, "both")  ? counted_both(run)
           : measure_is(run, "lazy")  ? counted_lazy(run)
           : measure_is(run, "new")   ? counted_new(run)
           : measure_is(run, "weak")  ? counted_weaks(run)
           : measure_is(run, "bytes") ? counted_bytes(run)
           : measure_is(run, "hot")   ? counted_hot(run)
                                      : counted_release(run);
}

int main(int argc, char **argv) {
    for (int at = 1; at < argc; at++) {
        if (strcmp(argv[at], "list") == 0 || strcmp(argv[at], "tree") == 0) {
            counted_deepen(argv);
        }
    }
    struct measure *run = measure_open(argc, argv);
    pthread_t other;
    run->rounds = run->rounds != 0 ? run->rounds : 3;
    run->size = run->size != 0 ? run->size : 128;
    if (run->threads > 1 &&
        (pthread_create(&other, NULL, counted_nothing, NULL) != 0 ||
         pthread_join(other, NULL) != 0)) {
        return 1;
    }
    measure_start(run);
    uint64_t sum = counted_run(run);
    counted_settle();
    measure_stop(run, sum * 31 + counted_left());
    return 0;
}
