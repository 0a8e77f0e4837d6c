// mstress — all kinds of sizes and lifetimes, after mimalloc's stress test.
//
// --rounds times --threads threads begin.  Each makes --size thousand blocks,
// one after the other or, now and then, a row of equal ones: most of 16 to 512
// bytes, one in 100 up to 8 KiB, one in 2000 up to 256 KiB.  Half of them soon
// end in the thread, some when it does; one in eight changes places with what
// is in a table that all threads share, and is ended by another thread, perhaps
// in another round.

#include "blocks.h"
#include "crew.h"

enum { MSTRESS_SHARED = 1024, MSTRESS_KEPT = 512 };

static _Atomic(void *) mstress_shared[MSTRESS_SHARED];
static size_t mstress_turn;

static size_t mstress_bytes(uint64_t dice) {
    size_t spread = (dice >> 32) & 0xfff;
    return dice % 2000 == 0  ? (16 + spread * 4) * 16
           : dice % 100 == 0 ? 16 + spread * 2
                             : 16 + spread % (16 + (dice >> 20 & 511));
}

static uint64_t mstress_end(void *p) {
    return p != NULL ? block_end(p) : 0;
}

static void mstress_work(struct crew_member *member) {
    void *kept[MSTRESS_KEPT] = {NULL};
    size_t maker = mstress_turn * CREW_MAX + member->index;
    uint64_t state = mix64(member->run->seed + maker), made = 0;
    uint64_t sum = 0;
    size_t bytes = 16, row = 0;
    for (size_t at = member->run->size * 1000; at-- > 0;) {
        uint64_t dice = random_next(&state);
        if (row > 0) {
            row--;
        } else {
            bytes = mstress_bytes(dice);
            row = dice % 100 == 1 ? 100 : 0;
        }
        void *p = block_make(bytes, block_stamp(&made, maker));
        uint64_t where = random_next(&state);
        if (where % 8 == 0) {
            p = atomic_exchange(&mstress_shared[(where >> 8) % MSTRESS_SHARED],
                                p);
        }
        void **slot = where % 2 == 0 ? &kept[(where >> 8) % MSTRESS_KEPT]
                                     : &kept[(where >> 8) % 16];
        sum += mstress_end(*slot);
        *slot = p;
    }
    for (size_t at = 0; at < MSTRESS_KEPT; at++) {
        sum += mstress_end(kept[at]);
    }
    member->sum = sum;
}

int main(int argc, char **argv) {
    struct measure *run = measure_open(argc, argv);
    size_t count = block_threads(run);
    size_t rounds = run->rounds != 0 ? run->rounds : 1;
    uint64_t sum = 0;
    if (count > CREW_MAX) {
        return 2;
    }
    measure_start(run);
    for (mstress_turn = 0; mstress_turn < rounds; mstress_turn++) {
        crew_round(run, count, mstress_work);
        for (size_t at = 0; at < count; at++) {
            sum += crew_members[at].sum;
        }
    }
    for (size_t at = 0; at < MSTRESS_SHARED; at++) {
        sum += mstress_end(mstress_shared[at]);
    }
    measure_stop(run, sum);
    return 0;
}
