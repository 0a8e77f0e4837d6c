// footprint — the memory it takes to hold what was asked for.
//
// Allocates --size MiB in objects that all stay alive, on a fresh heap, with
// sizes as --variant says, and touches every byte:
//
//   step16   multiples of 16 up to 128, equally often
//   pow2     powers of two from 16 to 4096, equally many bytes of each
//   uniform  16 to 4096 bytes, equally often, multiples of 8
//   log      32 to 256 KiB, log-uniform
//
// rss_ratio is resident memory gained, block_ratio what the collector says is
// in blocks that hold objects, each divided by the bytes asked for.

#include "measure.h"

struct object {
    struct object *next;
    uint64_t bytes;
};

static size_t footprint_bytes(const struct measure *run, uint64_t *state) {
    if (measure_is(run, "step16")) {
        return 16 * (1 + random_below(state, 8));
    }
    if (measure_is(run, "pow2")) {
        // Class k is picked with a probability of about 2^-k.
        uint64_t bits = random_next(state) | (uint64_t)1 << 8;
        return (size_t)16 << __builtin_ctzll(bits);
    }
    if (measure_is(run, "log")) {
        size_t base = (size_t)32768 << random_below(state, 3);
        return (base + random_below(state, base)) & ~(size_t)15;
    }
    return 16 + 8 * random_below(state, 511);
}

int main(int argc, char **argv) {
    struct measure *run = measure_open(argc, argv);
    size_t wanted_bytes = (run->size != 0 ? run->size : 16) << 20;
    uint64_t state = run->seed, sum = 0;
    size_t asked_bytes = 0, count = 0;
    struct object *list = NULL;
    uint64_t start_kb = measure_rss_kb();
    measure_start(run);
    while (asked_bytes < wanted_bytes) {
        size_t bytes = footprint_bytes(run, &state);
        struct object *object = mem_raw(bytes);
        keep_object(object); // or malloc and memset become a lazy calloc
        memset(object, 0, bytes);
        object->next = list;
        object->bytes = bytes;
        list = object;
        asked_bytes += bytes;
        count++;
    }
    double gained_bytes = (double)(measure_rss_kb() - start_kb) * 1024;
    struct shim_figures figures = shim_figures();
    for (struct object *object = list; object; object = object->next) {
        sum = sum * 31 + object->bytes;
    }
    double asked = (double)asked_bytes;
    measure_note(run, "objects", (double)count);
    measure_note(run, "asked_bytes", asked);
    measure_note(run, "rss_ratio", gained_bytes / asked);
    measure_note(run, "block_ratio", (double)figures.block_bytes / asked);
    measure_note(run, "heap_ratio", (double)figures.heap_bytes / asked);
    measure_note(run, "metadata_ratio", (double)figures.metadata_bytes / asked);
    measure_stop(run, sum);
    return 0;
}
