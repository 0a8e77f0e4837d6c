// gcbench — trees built from the top and from the bottom, and a large array.
//
// --size is the depth of the long-lived tree (16 in the original).

#include "gcbench.h"

int main(int argc, char **argv) {
    struct measure *run = measure_open(argc, argv);
    measure_start(run);
    uint64_t sum = gcbench_run(run->size != 0 ? run->size : 16);
    measure_stop(run, sum);
    return 0;
}
