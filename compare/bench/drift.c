// drift — a program whose sizes drift: what is held for what is used?
//
// --size MiB live, in blocks of about 24 bytes.  Then, eight times, blocks are
// replaced at random by ones of twice the size, until nine tenths of the bytes
// are of the new size; and in the end all but a tenth of the blocks are freed.
// What was left behind of each age pins whatever the allocator keeps together.
//
// peak_ratio and end_ratio: resident bytes gained, for each byte that was live
// at most, and that is at the end.

#include "blocks.h"

enum { DRIFT_AGES = 8, DRIFT_FIRST = 24 };

struct drift {
    void **slots;
    size_t count, capacity, live_bytes;
    uint64_t state, made, sum;
};

static void drift_add(struct drift *drift, size_t middle) {
    size_t bytes = middle * 2 / 3 + random_below(&drift->state, middle * 2 / 3);
    bytes = bytes < BLOCK_LEAST ? BLOCK_LEAST : bytes;
    char *p = block_make(bytes, block_stamp(&drift->made, 0));
    for (size_t at = 4096; at + 4096 < bytes; at += 4096) {
        p[at] = 1;
    }
    drift->slots[drift->count++] = p;
    drift->live_bytes += bytes;
}

static void drift_drop(struct drift *drift) {
    size_t at = random_below(&drift->state, drift->count);
    drift->live_bytes -= *(uint64_t *)drift->slots[at];
    drift->sum += block_end(drift->slots[at]);
    drift->slots[at] = drift->slots[--drift->count];
}

static void drift_fill(struct drift *drift, size_t bytes, size_t middle) {
    while (drift->live_bytes < bytes && drift->count < drift->capacity) {
        drift_add(drift, middle);
    }
}

int main(int argc, char **argv) {
    struct measure *run = measure_open(argc, argv);
    size_t bytes = (run->size != 0 ? run->size : 16) << 20;
    struct drift drift = {.state = mix64(run->seed)};
    drift.capacity = bytes / BLOCK_LEAST;
    drift.slots = mem_checked(malloc(drift.capacity * sizeof *drift.slots));
    memset(drift.slots, 1, drift.capacity * sizeof *drift.slots);
    uint64_t before_kb = measure_rss_kb();
    size_t middle = DRIFT_FIRST;
    measure_start(run);
    drift_fill(&drift, bytes, middle);
    for (size_t age = 0; age < DRIFT_AGES; age++) {
        middle *= 2;
        for (size_t parts = 0; parts < 23; parts++) { // 0.9 to this is 1/10
            size_t least = drift.live_bytes / 10 * 9;
            while (drift.live_bytes > least) {
                drift_drop(&drift);
            }
            drift_fill(&drift, bytes, middle);
        }
    }
    uint64_t peak_kb = measure_peak_rss_kb() - before_kb;
    for (size_t left = drift.count / 10; drift.count > left;) {
        drift_drop(&drift);
    }
    uint64_t end_kb = measure_rss_kb() - before_kb;
    double live_kb = (double)drift.live_bytes / 1024;
    measure_note(run, "peak_ratio", (double)peak_kb * 1024 / (double)bytes);
    measure_note(run, "end_ratio", (double)end_kb / live_kb);
    while (drift.count > 0) {
        drift_drop(&drift);
    }
    measure_stop(run, drift.sum);
    return 0;
}
