// weak_std — the `get` of weak.c in C++, with std::shared_ptr and std::weak_ptr.
//
// The same objects in the same order, the same sum.  Locking a weak_ptr gives a
// shared_ptr, which is let go at the end of each step, as a program would.

#define SHIM_THREADS
#define _Noreturn [[noreturn]]

#include "measure.h"

#include <memory>
#include <thread>
#include <vector>

enum { WEAK_NEAR = 1000, WEAK_WORDS = 4 };

struct weak_object {
    uint64_t words[WEAK_WORDS];
};

static uint64_t weak_read(const std::weak_ptr<weak_object> &weak) {
    std::shared_ptr<weak_object> object = weak.lock();
    return object != nullptr ? object->words[0] : 0;
}

int main(int argc, char **argv) {
    struct measure *run = measure_open(argc, argv);
    size_t count = run->size != 0 ? run->size * 1000 : 100000;
    size_t rounds = (run->rounds != 0 ? run->rounds : 3) * 1000;
    std::vector<std::shared_ptr<weak_object>> objects(count);
    std::vector<std::weak_ptr<weak_object>> weaks(count);
    std::thread([] {}).join();
    measure_start(run);
    uint64_t start_ns = measure_now_ns();
    for (size_t at = 0; at < count; at++) {
        objects[at] = std::make_shared<weak_object>();
        objects[at]->words[0] = at;
    }
    for (size_t at = 0; at < count; at++) {
        weaks[at] = objects[at];
    }
    measure_note(run, "make_ns",
                 (double)(measure_now_ns() - start_ns) / (double)count);
    uint64_t sum = 0;
    start_ns = measure_now_ns();
    for (size_t round = 0; round < rounds; round++) {
        for (size_t at = 0; at < WEAK_NEAR; at++) {
            sum += weak_read(weaks[at]);
        }
    }
    measure_note(run, "get_ns",
                 (double)(measure_now_ns() - start_ns) /
                     ((double)rounds * WEAK_NEAR));
    uint64_t state = run->seed;
    start_ns = measure_now_ns();
    for (size_t at = 0; at < count; at++) {
        sum += weak_read(weaks[random_below(&state, count)]);
    }
    measure_note(run, "get_far_ns",
                 (double)(measure_now_ns() - start_ns) / (double)count);
    measure_stop(run, sum);
    return 0;
}
