// larson — a server, after Larson and Krishnan: blocks outlive their threads.
//
// Each of --threads lines has 5000 slots with blocks of 8 to 1000 bytes.  A
// thread replaces --size thousand of its line's at random, then makes the
// thread that goes on with the same slots, and ends: --rounds generations of
// them.  Most of what a thread frees was made by one that is no more.

#include "blocks.h"

#include <pthread.h>

enum {
    LARSON_SLOTS = 5000,
    LARSON_LEAST = 16,
    LARSON_MOST = 1000,
    LARSON_LINES_MAX = 64
};

struct larson_line {
    void *slots[LARSON_SLOTS];
    const struct measure *run;
    uint64_t state, made, sum;
    size_t index, left; // its number; generations to come
};

static pthread_mutex_t larson_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t larson_over = PTHREAD_COND_INITIALIZER;
static size_t larson_running;

static void *larson_make(struct larson_line *line) {
    size_t bytes =
        LARSON_LEAST + random_below(&line->state, LARSON_MOST - LARSON_LEAST);
    return block_make(bytes, block_stamp(&line->made, line->index));
}

static void *larson_serve(void *data);

static void larson_begin(struct larson_line *line) {
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&thread, &attributes, larson_serve, line) != 0) {
        fprintf(stderr, "cannot make a thread\n");
        _exit(1);
    }
    pthread_attr_destroy(&attributes);
}

static void *larson_serve(void *data) {
    struct larson_line *line = data;
    for (size_t at = line->run->size * 1000; at-- > 0;) {
        void **slot = &line->slots[random_below(&line->state, LARSON_SLOTS)];
        line->sum += block_end(*slot);
        *slot = larson_make(line);
    }
    if (--line->left > 0) {
        larson_begin(line);
        return NULL;
    }
    pthread_mutex_lock(&larson_lock);
    larson_running--;
    pthread_cond_signal(&larson_over);
    pthread_mutex_unlock(&larson_lock);
    return NULL;
}

int main(int argc, char **argv) {
    static struct larson_line lines[LARSON_LINES_MAX];
    struct measure *run = measure_open(argc, argv);
    size_t count = block_threads(run);
    uint64_t sum = 0;
    if (count > LARSON_LINES_MAX) {
        return 2;
    }
    for (size_t at = 0; at < count; at++) {
        lines[at].run = run;
        lines[at].index = at;
        lines[at].state = mix64(run->seed + at);
        lines[at].left = run->rounds != 0 ? run->rounds : 1;
        for (size_t slot = 0; slot < LARSON_SLOTS; slot++) {
            lines[at].slots[slot] = larson_make(&lines[at]);
        }
    }
    measure_start(run);
    larson_running = count;
    for (size_t at = 0; at < count; at++) {
        larson_begin(&lines[at]);
    }
    pthread_mutex_lock(&larson_lock);
    while (larson_running > 0) {
        pthread_cond_wait(&larson_over, &larson_lock);
    }
    pthread_mutex_unlock(&larson_lock);
    for (size_t at = 0; at < count; at++) {
        sum += lines[at].sum;
        for (size_t slot = 0; slot < LARSON_SLOTS; slot++) {
            sum += block_end(lines[at].slots[slot]);
        }
    }
    measure_stop(run, sum);
    return 0;
}
