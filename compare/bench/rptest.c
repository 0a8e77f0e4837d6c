// rptest — batches of random sizes freed at random, part of them by others;
// after rpmalloc's benchmark.
//
// Each of --threads makes --size batches of 200 blocks, of 16 bytes to 16 KiB,
// small ones more often.  From its 8192 slots it first ends what a random walk
// meets; every fourth batch it takes nothing into its slots, but gives it to
// the thread next to it, which ends it.

#include "blocks.h"
#include "crew.h"

enum { RPTEST_BATCH = 200, RPTEST_SLOTS = 8192 };

struct rptest_parcel {
    struct rptest_parcel *next;
    void *blocks[RPTEST_BATCH];
};

static _Atomic(struct rptest_parcel *) rptest_post[CREW_MAX];

// The cube of a number below one favours the small.
static size_t rptest_bytes(uint64_t dice) {
    uint64_t x = dice & 0x3fff;
    return 16 + (size_t)((x * x >> 14) * x >> 14);
}

static void rptest_give(size_t to, struct rptest_parcel *parcel) {
    parcel->next = atomic_load(&rptest_post[to]);
    while (!atomic_compare_exchange_weak(&rptest_post[to], &parcel->next,
                                         parcel)) {
    }
}

static uint64_t rptest_open(size_t of) {
    struct rptest_parcel *parcel = atomic_exchange(&rptest_post[of], NULL);
    uint64_t sum = 0;
    while (parcel != NULL) {
        struct rptest_parcel *next = parcel->next;
        for (size_t at = 0; at < RPTEST_BATCH; at++) {
            sum += block_end(parcel->blocks[at]);
        }
        free(parcel);
        parcel = next;
    }
    return sum;
}

static void rptest_work(struct crew_member *member) {
    void **slots = mem_checked(calloc(RPTEST_SLOTS, sizeof *slots));
    uint64_t state = mix64(member->run->seed + member->index), made = 0;
    size_t at = 0;
    for (size_t batch = 0; batch < member->run->size; batch++) {
        struct rptest_parcel *parcel =
            batch % 4 == 3 ? mem_checked(malloc(sizeof *parcel)) : NULL;
        for (size_t one = 0; one < RPTEST_BATCH; one++) {
            uint64_t dice = random_next(&state);
            void *p = block_make(rptest_bytes(dice),
                                 block_stamp(&made, member->index));
            if (parcel != NULL) {
                parcel->blocks[one] = p;
                continue;
            }
            at = (at + 1 + (dice >> 40) % 97) % RPTEST_SLOTS;
            member->sum += slots[at] != NULL ? block_end(slots[at]) : 0;
            slots[at] = p;
        }
        if (parcel != NULL) {
            rptest_give((member->index + 1) % member->count, parcel);
        }
        member->sum += rptest_open(member->index);
    }
    for (at = 0; at < RPTEST_SLOTS; at++) {
        member->sum += slots[at] != NULL ? block_end(slots[at]) : 0;
    }
    free(slots);
}

int main(int argc, char **argv) {
    struct measure *run = measure_open(argc, argv);
    size_t count = block_threads(run);
    uint64_t sum = 0;
    if (count > CREW_MAX) {
        return 2;
    }
    measure_start(run);
    crew_round(run, count, rptest_work);
    for (size_t at = 0; at < count; at++) {
        sum += crew_members[at].sum + rptest_open(at);
    }
    measure_stop(run, sum);
    return 0;
}
