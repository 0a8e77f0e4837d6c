// finalizers — objects that want to be told when they are found dead.
//
// --size thousand objects of 32 bytes get a finalizer each; all but every tenth
// are dropped, collected, and their finalizers called; --rounds times.
// register_ns, collect_ns and run_ns are medians for one object, whole_ns is
// their sum.  The first word of an object says which it is: a finalizer called
// for one that is alive, or twice, spoils the sum.

#define SHIM_THREADS
#define SHIM_WEAK

#include "measure.h"

enum { FINALIZERS_ROUNDS_MAX = 16, FINALIZERS_BYTES = 32 };

static uint8_t *finalizers_called; // by number; plain memory, no references
static uint64_t finalizers_count;

static void finalizers_call(void *object) {
    finalizers_called[((uint64_t *)object)[0]]++;
    finalizers_count++;
}

static uint64_t finalizers_check(size_t count) {
    uint64_t gone = 0, wrong = 0;
    for (size_t at = 0; at < count; at++) {
        wrong += finalizers_called[at] > (at % 10 != 0);
        gone += finalizers_called[at];
    }
    return wrong * 1000 + (gone * 100 >= count * 89);
}

int main(int argc, char **argv) {
    struct measure *run = measure_open(argc, argv);
    size_t count = run->size != 0 ? run->size * 1000 : 100000;
    size_t rounds = run->rounds != 0 ? run->rounds : 3;
    rounds = rounds < FINALIZERS_ROUNDS_MAX ? rounds : FINALIZERS_ROUNDS_MAX;
    double register_ns[FINALIZERS_ROUNDS_MAX];
    double collect_ns[FINALIZERS_ROUNDS_MAX], run_ns[FINALIZERS_ROUNDS_MAX];
    uint64_t sum = 0;
    uint64_t **objects = mem_new(count * sizeof *objects);
    finalizers_called = malloc(count);
    measure_start(run);
    for (size_t round = 0; round < rounds; round++) {
        memset(finalizers_called, 0, count);
        for (size_t at = 0; at < count; at++) {
            objects[at] = mem_raw(FINALIZERS_BYTES);
            objects[at][0] = at;
        }
        // What the last round kept may die now; it was counted already.
        finalizers_count = 0;
        uint64_t start_ns = measure_now_ns();
        for (size_t at = 0; at < count; at++) {
            shim_finalizer(objects[at], finalizers_call);
        }
        uint64_t registered_ns = measure_now_ns();
        for (size_t at = 0; at < count; at++) {
            objects[at] = at % 10 == 0 ? objects[at] : NULL;
        }
        uint64_t dropped_ns = measure_now_ns();
        shim_collect();
        uint64_t collected_ns = measure_now_ns();
        shim_finalizers_run();
        run_ns[round] = (double)(measure_now_ns() - collected_ns);
        collect_ns[round] = (double)(collected_ns - dropped_ns);
        register_ns[round] = (double)(registered_ns - start_ns);
        sum = sum * 31 + finalizers_check(count);
        // The rest of this round's objects dies without a word.
        for (size_t at = 0; at < count; at += 10) {
            shim_finalizer(objects[at], NULL);
        }
    }
    double all = (double)count;
    double each[] = {measure_median(register_ns, rounds) / all,
                     measure_median(collect_ns, rounds) / all,
                     measure_median(run_ns, rounds) / all};
    measure_note(run, "register_ns", each[0]);
    measure_note(run, "collect_ns", each[1]);
    measure_note(run, "run_ns", each[2]);
    measure_note(run, "whole_ns", each[0] + each[1] + each[2]);
    measure_stop(run, sum);
    keep_object(objects);
    return 0;
}
