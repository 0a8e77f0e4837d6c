// sharing — do threads get parts of one cache line? After Hoard's cache-scratch
// and cache-thrash.
//
// Each of --threads, --size times, makes an object of 8 bytes, adds to each of
// its bytes 100 times over, and frees it.  --variant:
//
//   thrash    and that is all: an allocator that gives two threads parts of one
//             line makes them slow (active false sharing)
//   scratch   first each frees an object that the main thread made beside the
//             others' and gave it: one that hands that out again to whoever
//             freed it has the line shared once more (passive)
//
// With one processor nothing is to be seen.

#include "blocks.h"
#include "crew.h"

enum { SHARING_BYTES = 8, SHARING_TURNS = 100 };

static char *sharing_given[CREW_MAX];

static void sharing_work(struct crew_member *member) {
    uint64_t sum = 0;
    free(sharing_given[member->index]);
    for (size_t at = 0; at < member->run->size; at++) {
        volatile unsigned char *p = mem_checked(malloc(SHARING_BYTES));
        for (size_t byte = 0; byte < SHARING_BYTES; byte++) {
            p[byte] = (unsigned char)(at + byte);
        }
        for (size_t turn = 0; turn < SHARING_TURNS; turn++) {
            for (size_t byte = 0; byte < SHARING_BYTES; byte++) {
                p[byte]++;
            }
        }
        for (size_t byte = 0; byte < SHARING_BYTES; byte++) {
            sum = sum * 31 + p[byte];
        }
        free((void *)p);
    }
    member->sum = sum;
}

int main(int argc, char **argv) {
    struct measure *run = measure_open(argc, argv);
    size_t count = block_threads(run);
    if (count > CREW_MAX) {
        return 2;
    }
    for (size_t at = 0; at < count && measure_is(run, "scratch"); at++) {
        sharing_given[at] = mem_checked(malloc(SHARING_BYTES));
    }
    measure_start(run);
    crew_round(run, count, sharing_work);
    measure_stop(run, crew_sum(count));
    return 0;
}
