// small — objects of one size that are garbage at once.
//
// --size counts them in thousands, --variant is their size in bytes.  The first
// word of each is written; with malloc it is then freed.

#include "measure.h"

int main(int argc, char **argv) {
    struct measure *run = measure_open(argc, argv);
    size_t count = (run->size != 0 ? run->size : 1000) * 1000;
    size_t bytes = strtoul(run->variant, NULL, 10);
    bytes = bytes >= 16 ? bytes : 16;
    uint64_t sum = 0;
    measure_start(run);
    for (size_t at = 0; at < count; at++) {
        uint64_t *object = mem_raw(bytes);
        object[0] = at;
        keep_object(object);
        sum += object[0];
        if (SHIM_MANUAL) {
            shim_dead(object);
        }
    }
    measure_note(run, "objects", (double)count);
    measure_stop(run, sum);
    return 0;
}
