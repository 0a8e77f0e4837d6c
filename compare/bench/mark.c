// mark — what it costs to find a live heap alive.
//
// Builds a graph of --size MiB in one of three layouts (--variant) and runs
// --rounds full collections by hand, after one that is not counted.  What is
// compared is the CPU time of a collection (collect_ns, all phases included)
// times the share of it that the collector itself says was marking (mark_ns).

#include "layout.h"

enum { MARK_ROUNDS_MAX = 64 };

// CPU nanoseconds of one collection, and the share of it that was marking.
static double mark_once(double *share) {
    uint64_t marked_ns = shim_figures().mark_ns;
    uint64_t start_ns = measure_now_ns();
    uint64_t start_cpu_ns = measure_cpu_ns();
    shim_collect();
    uint64_t cpu_ns = measure_cpu_ns() - start_cpu_ns;
    uint64_t wall_ns = measure_now_ns() - start_ns;
    *share = (double)(shim_figures().mark_ns - marked_ns) / (double)wall_ns;
    return (double)cpu_ns;
}

int main(int argc, char **argv) {
    struct measure *run = measure_open(argc, argv);
    size_t rounds = run->rounds != 0 ? run->rounds : 5;
    rounds = rounds < MARK_ROUNDS_MAX ? rounds : MARK_ROUNDS_MAX;
    size_t bytes = (run->size != 0 ? run->size : 64) << 20;
    uint64_t count = bytes / 41;
    double mark_ns[MARK_ROUNDS_MAX], collect_ns[MARK_ROUNDS_MAX], share;

    struct cell *root = layout_build(count, layout_order(run));
    shim_collect();
    measure_start(run);
    for (size_t round = 0; round < rounds; round++) {
        collect_ns[round] = mark_once(&share);
        mark_ns[round] = collect_ns[round] * share;
    }
    measure_note(run, "objects", (double)count);
    measure_note(run, "mark_ns_object",
                 measure_median(mark_ns, rounds) / (double)count);
    measure_note(run, "collect_ns_object",
                 measure_median(collect_ns, rounds) / (double)count);
    uint64_t sum = 0;
    uint64_t found = layout_count(root, &sum);
    measure_stop(run, sum + found);
    return 0;
}
