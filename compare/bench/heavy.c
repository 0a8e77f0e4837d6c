// heavy — large blocks.
//
// --variant:
//   replace  of 20 blocks of 5 to 25 MiB one is replaced at random, --size
//            times; a word of each of its pages is written
//   grow     a text grows by realloc from 16 KiB, by an eighth each time, to
//            --size MiB, --rounds times: as files are read whose length is not
//            known; every second time beside another that grows, too
//   step     the same, by 256 KiB each time

#include "blocks.h"

enum { HEAVY_SLOTS = 20, HEAVY_PAGE = 4096 };
enum { HEAVY_FIRST = 16 << 10, HEAVY_STEP = 256 << 10 };

static void heavy_touch(char *p, size_t from, size_t bytes, uint64_t stamp) {
    for (size_t at = from; at + sizeof stamp <= bytes; at += HEAVY_PAGE) {
        uint64_t word = stamp + at;
        memcpy(p + at, &word, sizeof word);
    }
}

static uint64_t heavy_read(const char *p, size_t bytes, uint64_t stamp) {
    uint64_t sum = 0;
    for (size_t at = 0; at + sizeof stamp <= bytes; at += HEAVY_PAGE) {
        uint64_t word;
        memcpy(&word, p + at, sizeof word);
        if (word != stamp + at) {
            fprintf(stderr, "byte %zu of %zu was written over\n", at, bytes);
            _exit(3);
        }
        sum += word;
    }
    return sum;
}

static uint64_t heavy_replace(struct measure *run) {
    struct {
        char *p;
        size_t bytes;
        uint64_t stamp;
    } slots[HEAVY_SLOTS] = {{NULL, 0, 0}};
    uint64_t state = mix64(run->seed), made = 0, sum = 0;
    for (size_t turn = 0; turn < run->size + HEAVY_SLOTS; turn++) {
        size_t at = turn < run->size ? random_below(&state, HEAVY_SLOTS)
                                     : turn - run->size;
        sum += heavy_read(slots[at].p, slots[at].bytes, slots[at].stamp);
        free(slots[at].p);
        slots[at].p = NULL;
        slots[at].bytes = 0;
        if (turn < run->size) {
            slots[at].bytes =
                ((size_t)5 << 20) + random_below(&state, (size_t)20 << 20);
            slots[at].stamp = block_stamp(&made, 0);
            slots[at].p = mem_checked(malloc(slots[at].bytes));
            heavy_touch(slots[at].p, 0, slots[at].bytes, slots[at].stamp);
        }
    }
    return sum;
}

// Two texts, or one, that grow by turns.
static uint64_t heavy_grow(struct measure *run, size_t texts, int steps) {
    char *p[2] = {NULL, NULL};
    size_t bytes = HEAVY_FIRST, before = 0;
    uint64_t sum = 0;
    while (bytes <= run->size << 20) {
        for (size_t at = 0; at < texts; at++) {
            p[at] = mem_checked(realloc(p[at], bytes));
            size_t from = (before + HEAVY_PAGE - 1) / HEAVY_PAGE * HEAVY_PAGE;
            heavy_touch(p[at], from, bytes, at);
        }
        before = bytes & ~(size_t)7;
        bytes += steps ? HEAVY_STEP : bytes / 8 & ~(size_t)7;
    }
    for (size_t at = 0; at < texts; at++) {
        sum += heavy_read(p[at], before, at);
        free(p[at]);
    }
    return sum;
}

int main(int argc, char **argv) {
    struct measure *run = measure_open(argc, argv);
    size_t rounds = run->rounds != 0 ? run->rounds : 1;
    uint64_t sum = 0;
    measure_start(run);
    for (size_t at = 0; at < rounds; at++) {
        sum += measure_is(run, "replace")
                   ? heavy_replace(run)
                   : heavy_grow(run, 1 + at % 2, measure_is(run, "step"));
    }
    measure_stop(run, sum);
    return 0;
}
