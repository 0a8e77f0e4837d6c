// xmalloc — producers allocate, consumers free, after Lever and Boreham.
//
// Half of --threads make blocks and hand them over in batches of 120, the other
// half ends them: no block is freed where it was made.  --size thousand blocks
// from each producer, of 16 to 512 bytes, most of them small.  At most 64
// batches are under way.

#include "blocks.h"
#include "crew.h"

enum { XMALLOC_BATCH = 120, XMALLOC_UNDER_WAY = 64 };

struct xmalloc_batch {
    struct xmalloc_batch *next;
    size_t count;
    void *blocks[XMALLOC_BATCH];
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t some, room;
    struct xmalloc_batch *first;
    size_t count, producers;
} xmalloc = {.lock = PTHREAD_MUTEX_INITIALIZER,
             .some = PTHREAD_COND_INITIALIZER,
             .room = PTHREAD_COND_INITIALIZER};

static void xmalloc_hand(struct xmalloc_batch *batch) {
    pthread_mutex_lock(&xmalloc.lock);
    while (xmalloc.count >= XMALLOC_UNDER_WAY) {
        pthread_cond_wait(&xmalloc.room, &xmalloc.lock);
    }
    batch->next = xmalloc.first;
    xmalloc.first = batch;
    xmalloc.count++;
    pthread_cond_signal(&xmalloc.some);
    pthread_mutex_unlock(&xmalloc.lock);
}

// NULL: nothing is left, and nothing will come.
static struct xmalloc_batch *xmalloc_fetch(void) {
    pthread_mutex_lock(&xmalloc.lock);
    while (xmalloc.first == NULL && xmalloc.producers > 0) {
        pthread_cond_wait(&xmalloc.some, &xmalloc.lock);
    }
    struct xmalloc_batch *batch = xmalloc.first;
    if (batch != NULL) {
        xmalloc.first = batch->next;
        xmalloc.count--;
        pthread_cond_signal(&xmalloc.room);
    }
    pthread_mutex_unlock(&xmalloc.lock);
    return batch;
}

static void xmalloc_produce(struct crew_member *member) {
    uint64_t state = mix64(member->run->seed + member->index);
    uint64_t made = 0;
    size_t left = member->run->size * 1000;
    while (left > 0) {
        struct xmalloc_batch *batch = mem_checked(malloc(sizeof *batch));
        batch->count = left < XMALLOC_BATCH ? left : XMALLOC_BATCH;
        left -= batch->count;
        for (size_t at = 0; at < batch->count; at++) {
            uint64_t dice = random_next(&state);
            size_t low = (size_t)16 << (__builtin_ctzll(dice | 16));
            size_t bytes = low + ((dice >> 32) & (low - 1));
            batch->blocks[at] =
                block_make(bytes, block_stamp(&made, member->index));
        }
        xmalloc_hand(batch);
    }
    pthread_mutex_lock(&xmalloc.lock);
    xmalloc.producers--;
    pthread_cond_broadcast(&xmalloc.some);
    pthread_mutex_unlock(&xmalloc.lock);
}

static void xmalloc_consume(struct crew_member *member) {
    struct xmalloc_batch *batch;
    while ((batch = xmalloc_fetch()) != NULL) {
        for (size_t at = 0; at < batch->count; at++) {
            member->sum += block_end(batch->blocks[at]);
        }
        free(batch);
    }
}

static void xmalloc_work(struct crew_member *member) {
    if (member->index % 2 == 0) {
        xmalloc_produce(member);
    } else {
        xmalloc_consume(member);
    }
}

int main(int argc, char **argv) {
    struct measure *run = measure_open(argc, argv);
    size_t count = run->threads >= 2 ? run->threads & ~(size_t)1 : 2;
    uint64_t sum = 0;
    xmalloc.producers = count / 2;
    measure_start(run);
    crew_round(run, count, xmalloc_work);
    for (size_t at = 0; at < count; at++) {
        sum += crew_members[at].sum;
    }
    measure_stop(run, sum);
    return 0;
}
