// crew — several threads that begin at once.
//
// crew_start makes them, waits until each has said that it is ready, and then
// starts the clock; crew_join waits for the last.  A thread takes what memory
// it needs before the clock starts from crew_ready, if at all.

#ifndef CREW_H
#define CREW_H

#include "measure.h"

#include <pthread.h>
#include <stdatomic.h>

enum { CREW_MAX = 8 };

struct crew_member {
    pthread_t thread;
    size_t index, count;
    const struct measure *run;
    void (*work)(struct crew_member *member);
    uint64_t sum;
};

static struct crew_member crew_members[CREW_MAX];
static pthread_barrier_t crew_gate;

static void *crew_main(void *data) {
    struct crew_member *member = data;
    pthread_barrier_wait(&crew_gate);
    member->work(member);
    return NULL;
}

// In a heap that is too small a collector may refuse to know another thread.
_Noreturn static inline void crew_fail(void) {
    if (measure_run.limits.limit_bytes != 0) {
        measure_out_of_memory();
    }
    fprintf(stderr, "cannot make a thread\n");
    exit(1);
}

// One round of `count` threads: the wall nanoseconds from their common start to
// the end of the last.  The sum of each is left in crew_members.
static inline uint64_t crew_round(const struct measure *run, size_t count,
                                  void (*work)(struct crew_member *member)) {
    pthread_barrier_init(&crew_gate, NULL, (unsigned)count + 1);
    for (size_t at = 0; at < count; at++) {
        struct crew_member *member = &crew_members[at];
        member->index = at;
        member->count = count;
        member->run = run;
        member->work = work;
        member->sum = 0;
        if (pthread_create(&member->thread, NULL, crew_main, member) != 0) {
            crew_fail();
        }
    }
    uint64_t start_ns = measure_now_ns();
    pthread_barrier_wait(&crew_gate);
    for (size_t at = 0; at < count; at++) {
        pthread_join(crew_members[at].thread, NULL);
    }
    uint64_t took_ns = measure_now_ns() - start_ns;
    pthread_barrier_destroy(&crew_gate);
    return took_ns;
}

static inline uint64_t crew_sum(size_t count) {
    uint64_t sum = 0;
    for (size_t at = 0; at < count; at++) {
        sum = sum * 31 + crew_members[at].sum;
    }
    return sum;
}

#endif
