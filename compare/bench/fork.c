// fork — children that go on allocating.
//
// A process with --size MiB alive and --threads other threads, which wait,
// forks --rounds children, one after the other.  Each allocates a little,
// collects, reads what its parent left it and exits.  child_us is the median
// time from the call of fork until the parent has its answer, fork_us that of
// the call alone.

#define SHIM_THREADS
#define SHIM_FORK

#include "layout.h"

#include <pthread.h>
#include <sys/wait.h>

enum { FORK_ROUNDS_MAX = 10000, FORK_THREADS_MAX = 64, FORK_CHILD_KB = 256 };

static pthread_mutex_t fork_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t fork_change = PTHREAD_COND_INITIALIZER;
static size_t fork_waiting;
static int fork_over;

static void *fork_wait(void *data) {
    keep_object(mem_raw(16));
    pthread_mutex_lock(&fork_lock);
    fork_waiting++;
    pthread_cond_broadcast(&fork_change);
    while (!fork_over) {
        pthread_cond_wait(&fork_change, &fork_lock);
    }
    pthread_mutex_unlock(&fork_lock);
    return data;
}

static void fork_threads(pthread_t *threads, size_t count) {
    for (size_t at = 0; at < count; at++) {
        if (pthread_create(&threads[at], NULL, fork_wait, NULL) != 0) {
            fprintf(stderr, "cannot make a thread\n");
            exit(1);
        }
    }
    pthread_mutex_lock(&fork_lock);
    while (fork_waiting < count) {
        pthread_cond_wait(&fork_change, &fork_lock);
    }
    pthread_mutex_unlock(&fork_lock);
}

static uint64_t fork_read(const struct cell *cell, unsigned depth) {
    return cell == NULL ? 0
           : depth == 0 ? 1
                        : 1 + fork_read(cell->left, depth - 1) +
                              fork_read(cell->right, depth - 1);
}

_Noreturn static void fork_child(const struct cell *root, uint64_t expected) {
    void **list = NULL;
    for (size_t bytes = 0; bytes < FORK_CHILD_KB * 1024; bytes += 64) {
        void **object = mem_raw(64);
        object[0] = bytes % 4096 == 0 ? NULL : list;
        list = object;
    }
    shim_collect();
    keep_object(list);
    _exit(fork_read(root, 12) == expected ? 0 : 1);
}

// Nanoseconds of the call, and until the child's answer in *whole_ns.
static uint64_t fork_once(const struct cell *root, uint64_t expected,
                          uint64_t *whole_ns, uint64_t *sum) {
    int status = -1;
    uint64_t start_ns = measure_now_ns();
    pid_t child = fork();
    if (child == 0) {
        fork_child(root, expected);
    }
    uint64_t forked_ns = measure_now_ns() - start_ns;
    if (child < 0 || waitpid(child, &status, 0) != child) {
        fprintf(stderr, "cannot fork\n");
        exit(1);
    }
    *whole_ns = measure_now_ns() - start_ns;
    *sum = *sum * 31 + (uint64_t)(status == 0);
    return forked_ns;
}

int main(int argc, char **argv) {
    static double forks_us[FORK_ROUNDS_MAX], children_us[FORK_ROUNDS_MAX];
    static pthread_t threads[FORK_THREADS_MAX];
    struct measure *run = measure_open(argc, argv);
    size_t rounds = run->rounds != 0 ? run->rounds : 10;
    rounds = rounds < FORK_ROUNDS_MAX ? rounds : FORK_ROUNDS_MAX;
    size_t count =
        run->threads < FORK_THREADS_MAX ? run->threads : FORK_THREADS_MAX;
    uint64_t cells = ((run->size != 0 ? run->size : 4) << 20) / 41;
    struct cell *root = layout_build(cells, LAYOUT_BREADTH);
    uint64_t expected = fork_read(root, 12), sum = 0;
    fork_threads(threads, count);
    measure_start(run);
    for (size_t at = 0; at < rounds; at++) {
        uint64_t whole_ns = 0;
        forks_us[at] = (double)fork_once(root, expected, &whole_ns, &sum) / 1e3;
        children_us[at] = (double)whole_ns / 1e3;
    }
    measure_note(run, "children", (double)rounds);
    measure_note(run, "fork_us", measure_median(forks_us, rounds));
    measure_note(run, "child_us", measure_median(children_us, rounds));
    measure_stop(run, sum + expected);
    pthread_mutex_lock(&fork_lock);
    fork_over = 1;
    pthread_cond_broadcast(&fork_change);
    pthread_mutex_unlock(&fork_lock);
    for (size_t at = 0; at < count; at++) {
        pthread_join(threads[at], NULL);
    }
    return 0;
}
