// alloctest — slots filled and emptied at random, as a long-running program
// does; after OLogN's alloc-test.
//
// Each of --threads has 16,384 slots.  --size thousand times one is picked: if
// it is empty a block is made, else what is in it is ended.  Some slots are
// picked far more often than others.  Sizes: block_bytes_real.

#include "blocks.h"
#include "crew.h"

enum { ALLOCTEST_SLOTS = 1 << 14 };

// The product of two numbers favours the low ones.
static size_t alloctest_slot(uint64_t dice) {
    uint64_t a = dice & (ALLOCTEST_SLOTS - 1);
    uint64_t b = (dice >> 14) & (ALLOCTEST_SLOTS - 1);
    return (size_t)(a * b / ALLOCTEST_SLOTS);
}

static void alloctest_work(struct crew_member *member) {
    void **slots = mem_checked(calloc(ALLOCTEST_SLOTS, sizeof *slots));
    uint64_t state = mix64(member->run->seed + member->index), made = 0;
    for (size_t at = member->run->size * 1000; at-- > 0;) {
        uint64_t dice = random_next(&state);
        void **slot = &slots[alloctest_slot(dice)];
        if (*slot != NULL) {
            member->sum += block_end(*slot);
            *slot = NULL;
        } else {
            *slot = block_make(block_bytes_real(random_next(&state)),
                               block_stamp(&made, member->index));
        }
    }
    for (size_t at = 0; at < ALLOCTEST_SLOTS; at++) {
        if (slots[at] != NULL) {
            member->sum += block_end(slots[at]);
        }
    }
    free(slots);
}

int main(int argc, char **argv) {
    struct measure *run = measure_open(argc, argv);
    size_t count = block_threads(run);
    if (count > CREW_MAX) {
        return 2;
    }
    measure_start(run);
    crew_round(run, count, alloctest_work);
    measure_stop(run, crew_sum(count));
    return 0;
}
