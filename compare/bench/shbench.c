// shbench — from small to large and back, in mixed orders of release; after
// MicroQuill's benchmark of SmartHeap, sh6 by one thread and sh8 by several.
//
// In each of --size rounds a thread makes blocks of each of some sixty sizes
// from 16 to 1000 bytes, of the small ones most.  Then a third of what there is
// is freed in the order made, a third in the opposite order, and the rest as
// the round after next begins, every other one first.

#include "blocks.h"
#include "crew.h"

enum { SHBENCH_BLOCKS = 2400 };

struct shbench_round {
    void *blocks[SHBENCH_BLOCKS];
    size_t count, from; // from: what was not freed yet
};

static void shbench_make(struct shbench_round *round, uint64_t *made,
                         size_t maker) {
    round->count = 0;
    for (size_t bytes = 16; bytes <= 1000; bytes += 2 + bytes / 16) {
        for (size_t at = 0; at < 10 + 2000 / bytes; at++) {
            round->blocks[round->count++] =
                block_make(bytes, block_stamp(made, maker));
        }
    }
}

static uint64_t shbench_free_most(struct shbench_round *round) {
    size_t third = round->count / 3;
    uint64_t sum = 0;
    for (size_t at = 0; at < third; at++) {
        sum += block_end(round->blocks[at]);
    }
    for (size_t at = 2 * third; at-- > third;) {
        sum += block_end(round->blocks[at]);
    }
    round->from = 2 * third;
    return sum;
}

static uint64_t shbench_free_rest(struct shbench_round *round) {
    uint64_t sum = 0;
    for (size_t at = round->from; at < round->count; at += 2) {
        sum += block_end(round->blocks[at]);
    }
    for (size_t at = round->from + 1; at < round->count; at += 2) {
        sum += block_end(round->blocks[at]);
    }
    round->from = round->count;
    return sum;
}

static void shbench_work(struct crew_member *member) {
    struct shbench_round *rounds = mem_checked(calloc(2, sizeof *rounds));
    uint64_t made = 0;
    for (size_t turn = 0; turn < member->run->size; turn++) {
        struct shbench_round *round = &rounds[turn % 2];
        member->sum += shbench_free_rest(round);
        shbench_make(round, &made, member->index);
        member->sum += shbench_free_most(round);
    }
    member->sum += shbench_free_rest(&rounds[0]);
    member->sum += shbench_free_rest(&rounds[1]);
    free(rounds);
}

int main(int argc, char **argv) {
    struct measure *run = measure_open(argc, argv);
    size_t count = block_threads(run);
    if (count > CREW_MAX) {
        return 2;
    }
    measure_start(run);
    crew_round(run, count, shbench_work);
    measure_stop(run, crew_sum(count));
    return 0;
}
