// stop — how long it takes until every other thread stands still.
//
// --threads of them wait or run (--variant), and the heap is as good as empty:
//
//   running  they compute
//   safe     they wait inside shim_blocking, as a wrapped wait would
//   wait     they wait by a raw system call that nobody wraps
//
// With --size each of them first allocates so many objects of 16 bytes, else
// the collector is only told of it.  begin_us is the time to make a thread and
// have it do so.
//
// --rounds times, in turn: a collection; and a bare stop, the least that any
// collector can do with one signal: tgkill to each, each handler counts itself
// and waits on a futex, one wake resumes all.  What is compared is the time
// from the decision to the moment when the last one stands still (stop_us), and
// beside it the whole of the collection (collect_us) and the whole of the bare
// stop with everyone on the way again (bare_us).  A collector need not wake the
// threads that are `safe`; the bare stop always does.

#define _GNU_SOURCE
#define SHIM_THREADS

#include "measure.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>

enum {
    STOP_THREADS_MAX = 10000,
    STOP_ROUNDS_MAX = 1000,
    STOP_STACK_BYTES = 64 << 10
};

static pid_t stop_tids[STOP_THREADS_MAX];
static uint64_t stop_sums[STOP_THREADS_MAX];
static pthread_t stop_handles[STOP_THREADS_MAX];
static size_t stop_count;

static _Atomic uint32_t stop_ready; // threads that have begun
static _Atomic uint32_t stop_done;  // 1: let them end
static _Atomic uint32_t stop_held;  // 1 while a bare stop lasts
static _Atomic uint32_t stop_acks;  // threads that stand still
static _Atomic uint32_t stop_gone;  // threads that are on their way again

static void stop_wait(_Atomic uint32_t *word, uint32_t value) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void stop_wake(_Atomic uint32_t *word) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

static void stop_handler(int signal) {
    int kept = errno;
    (void)signal;
    if (atomic_fetch_add(&stop_acks, 1) + 1 == stop_count) {
        stop_wake(&stop_acks);
    }
    while (atomic_load(&stop_held) != 0) {
        stop_wait(&stop_held, 1);
    }
    atomic_fetch_add(&stop_gone, 1);
    errno = kept;
}

static void *stop_until_done(void *data) {
    (void)data;
    while (atomic_load(&stop_done) == 0) {
        stop_wait(&stop_done, 0);
    }
    return NULL;
}

static void *stop_thread(void *data) {
    size_t index = (size_t)((uint64_t *)data - stop_sums);
    uint64_t sum = index;
    stop_tids[index] = (pid_t)syscall(SYS_gettid);
    shim_attach();
    for (size_t at = 0; at < measure_run.size; at++) {
        keep_object(mem_raw(16));
    }
    atomic_fetch_add(&stop_ready, 1);
    if (measure_is(&measure_run, "safe")) {
        shim_blocking(stop_until_done, NULL);
    } else if (measure_is(&measure_run, "wait")) {
        stop_until_done(NULL);
    }
    while (atomic_load_explicit(&stop_done, memory_order_relaxed) == 0) {
        sum = mix64(sum);
    }
    stop_sums[index] = sum;
    return NULL;
}

// Returns the nanoseconds until all had begun.
static uint64_t stop_begin(void) {
    struct sigaction action = {.sa_handler = stop_handler,
                               .sa_flags = SA_RESTART};
    pthread_attr_t attributes;
    sigemptyset(&action.sa_mask);
    sigaction(SIGRTMIN + 9, &action, NULL);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STOP_STACK_BYTES);
    uint64_t start_ns = measure_now_ns();
    for (size_t at = 0; at < stop_count; at++) {
        if (pthread_create(&stop_handles[at], &attributes, stop_thread,
                           &stop_sums[at]) != 0) {
            fprintf(stderr, "cannot make thread %zu\n", at);
            exit(1);
        }
    }
    pthread_attr_destroy(&attributes);
    while (atomic_load(&stop_ready) < stop_count) {
        usleep(100);
    }
    uint64_t took_ns = measure_now_ns() - start_ns;
    usleep(20000);
    return took_ns;
}

// Nanoseconds until all stand still, and, in *whole_ns, until all go on.
static uint64_t stop_bare(uint64_t *whole_ns) {
    pid_t process = getpid();
    atomic_store(&stop_acks, 0);
    atomic_store(&stop_gone, 0);
    atomic_store(&stop_held, 1);
    uint64_t start_ns = measure_now_ns();
    for (size_t at = 0; at < stop_count; at++) {
        syscall(SYS_tgkill, process, stop_tids[at], SIGRTMIN + 9);
    }
    uint32_t acks = atomic_load(&stop_acks);
    while (acks < stop_count) {
        stop_wait(&stop_acks, acks);
        acks = atomic_load(&stop_acks);
    }
    uint64_t stopped_ns = measure_now_ns() - start_ns;
    atomic_store(&stop_held, 0);
    stop_wake(&stop_held);
    while (atomic_load(&stop_gone) < stop_count) {
        sched_yield();
    }
    *whole_ns = measure_now_ns() - start_ns;
    return stopped_ns;
}

int main(int argc, char **argv) {
    static double stops_us[STOP_ROUNDS_MAX], collects_us[STOP_ROUNDS_MAX];
    static double bares_us[STOP_ROUNDS_MAX], wholes_us[STOP_ROUNDS_MAX];
    struct measure *run = measure_open(argc, argv);
    size_t rounds =
        run->rounds < STOP_ROUNDS_MAX ? run->rounds : STOP_ROUNDS_MAX;
    rounds = rounds != 0 ? rounds : 10;
    stop_count =
        run->threads < STOP_THREADS_MAX ? run->threads : STOP_THREADS_MAX;
    uint64_t begin_ns = stop_begin();
    shim_collect();
    measure_start(run);
    uint64_t sum = 0;
    for (size_t at = 0; at < rounds; at++) {
        uint64_t start_ns = measure_now_ns(), whole_ns;
        shim_collect();
        collects_us[at] = (double)(measure_now_ns() - start_ns) / 1e3;
        stops_us[at] = (double)shim_figures().stop_ns / 1e3;
        usleep(1000);
        bares_us[at] = (double)stop_bare(&whole_ns) / 1e3;
        wholes_us[at] = (double)whole_ns / 1e3;
        sum += atomic_load(&stop_acks) == stop_count;
        usleep(1000);
    }
    measure_note(run, "stop_us", measure_median(stops_us, rounds));
    measure_note(run, "stop_us_90", measure_quantile(stops_us, rounds, 0.9));
    measure_note(run, "begin_us", (double)begin_ns / 1e3 / (double)stop_count);
    measure_note(run, "collect_us", measure_median(collects_us, rounds));
    measure_note(run, "bare_stop_us", measure_median(bares_us, rounds));
    measure_note(run, "bare_us", measure_median(wholes_us, rounds));
    measure_note(run, "over_bare",
                 measure_median(stops_us, rounds) /
                     measure_median(bares_us, rounds));
    measure_stop(run, sum * 31 + stop_count);
    atomic_store(&stop_done, 1);
    stop_wake(&stop_done);
    for (size_t at = 0; at < stop_count; at++) {
        pthread_join(stop_handles[at], NULL);
    }
    return 0;
}
