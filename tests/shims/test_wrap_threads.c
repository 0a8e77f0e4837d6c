// Threads made by wrapped calls: their arguments (W6), attributes, ends and
// cancellation (W1), and what the system keeps for them.
// seconds: 120

#include "loam.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/scrub.h"
#include "support/shuffle.h"

#define STORM 400 // threads made one after the other
#define KEYS  80  // more than the thread's own block has places for

struct parcel {
    uint64_t sum;
    uint64_t words[7];
};

static struct parcel *pack(uint64_t seed) {
    struct parcel *parcel = loam_alloc(sizeof *parcel);
    assert_non_null(parcel);
    for (size_t i = 0; i < 7; i++) {
        parcel->words[i] = seed * (i + 3);
        parcel->sum += parcel->words[i];
    }
    return parcel;
}

static bool is_whole(const struct parcel *parcel) {
    uint64_t sum = 0;
    for (size_t i = 0; i < 7; i++) {
        sum += parcel->words[i];
    }
    return parcel->sum != 0 && sum == parcel->sum;
}

static _Atomic bool collect_end;
static _Atomic unsigned broken, unpacked;

static void *collect_always(void *unused) {
    (void)unused;
    while (!collect_end) {
        (void)loam_collect();
        for (int i = 0; i < 100; i++) {
            (void)pack(77); // what would be handed out again
        }
        shuffle_fill(2000);
    }
    return NULL;
}

static pthread_t begin_collecting(void) {
    pthread_t thread;
    collect_end = false;
    assert_int_equal(pthread_create(&thread, NULL, collect_always, NULL), 0);
    return thread;
}

static void end_collecting(pthread_t thread) {
    collect_end = true;
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static void *unpack(void *data) {
    broken += !is_whole(data);
    unpacked++;
    return data;
}

static int unpack_c11(void *data) {
    broken += !is_whole(data);
    unpacked++;
    return 77;
}

// The parcel is in no frame of the caller's once the thread is made.
static NOT_INLINED void make(pthread_t *thread,
                             const pthread_attr_t *attributes, uint64_t seed) {
    assert_int_equal(pthread_create(thread, attributes, unpack, pack(seed)), 0);
}

static void an_argument_lives_until_its_thread_begins(void **state) { // W6
    (void)state;
    pthread_t collecting = begin_collecting();
    broken = unpacked = 0;
    for (uint64_t n = 0; n < STORM; n++) {
        pthread_t thread;
        make(&thread, NULL, n + 1);
        scrub_stack();
        void *parcel;
        assert_int_equal(pthread_join(thread, &parcel), 0);
        assert_true(is_whole(parcel));
        parcel = NULL;
    }
    for (uint64_t n = 0; n < STORM / 4; n++) {
        thrd_t thread;
        int result = 0;
        assert_int_equal(thrd_create(&thread, unpack_c11, pack(n + 1)),
                         thrd_success);
        assert_int_equal(thrd_join(thread, &result), thrd_success);
        assert_int_equal(result, 77);
    }
    end_collecting(collecting);
    assert_int_equal(broken, 0);
    assert_int_equal(unpacked, STORM + STORM / 4);
}

static void every_attribute_is_kept(void **state) { // W1, W6
    (void)state;
    pthread_t collecting = begin_collecting();
    size_t bytes = 256 * 1024;
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(memory != MAP_FAILED);
    broken = unpacked = 0;
    unsigned made = 0;
    for (int n = 0; n < 40; n++) {
        pthread_attr_t attributes;
        cpu_set_t processors;
        pthread_t thread;
        CPU_ZERO(&processors);
        CPU_SET(0, &processors);
        assert_int_equal(pthread_attr_init(&attributes), 0);
        assert_int_equal(pthread_attr_setstack(&attributes, memory, bytes), 0);
        if (n % 2 == 0) { // behind a lock of its parent's
            assert_int_equal(pthread_attr_setaffinity_np(
                                 &attributes, sizeof processors, &processors),
                             0);
        }
        make(&thread, &attributes, (uint64_t)n + 1);
        made++;
        assert_int_equal(pthread_join(thread, NULL), 0);
        (void)pthread_attr_destroy(&attributes);

        assert_int_equal(pthread_attr_init(&attributes), 0);
        assert_int_equal(pthread_attr_setstacksize(&attributes, 64 * 1024), 0);
        assert_int_equal(
            pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED),
            0);
        make(&thread, &attributes, (uint64_t)n + 1);
        made++;
        (void)pthread_attr_destroy(&attributes);
    }
    for (int n = 0; n < 5000 && unpacked < made; n++) {
        (void)usleep(1000);
    }
    end_collecting(collecting);
    assert_int_equal(unpacked, made);
    assert_int_equal(broken, 0);
    // What the system refuses is refused.
    pthread_t thread;
    pthread_attr_t attributes;
    assert_int_equal(pthread_attr_init(&attributes), 0);
    assert_int_equal(pthread_attr_setstacksize(&attributes, (size_t)1 << 50),
                     0);
    assert_int_equal(pthread_create(&thread, &attributes, unpack, pack(1)),
                     EAGAIN);
    (void)pthread_attr_destroy(&attributes);
}

static void *exit_from_below(void *data) {
    broken += !is_whole(data);
    pthread_exit(data);
}

static void a_thread_may_exit_from_anywhere(void **state) { // W1
    (void)state;
    pthread_t collecting = begin_collecting();
    broken = 0;
    for (uint64_t n = 0; n < 50; n++) {
        pthread_t thread;
        void *parcel;
        assert_int_equal(
            pthread_create(&thread, NULL, exit_from_below, pack(n + 1)), 0);
        assert_int_equal(pthread_join(thread, &parcel), 0);
        assert_true(is_whole(parcel));
    }
    end_collecting(collecting);
    assert_int_equal(broken, 0);
}

static NOT_INLINED void make_many(pthread_t *threads, size_t count) {
    for (size_t n = 0; n < count; n++) {
        if (n % 2 == 0) {
            make(&threads[n], NULL, n + 100);
        } else {
            assert_int_equal(pthread_create(&threads[n], NULL, exit_from_below,
                                            pack(n + 100)),
                             0);
        }
    }
}

// Joins without a wait of the system's; on a busy machine one is not over yet.
static int try_join(pthread_t thread, void **result) {
    int done = pthread_tryjoin_np(thread, result);
    while (done == EBUSY) {
        (void)usleep(1000);
        done = pthread_tryjoin_np(thread, result);
    }
    return done;
}

static void a_result_lives_until_it_is_joined(void **state) { // W7
    (void)state;
    pthread_t threads[20];
    make_many(threads, 20);
    (void)usleep(100000); // most of them are over, and hold nothing
    scrub_stack();
    for (int round = 0; round < 3; round++) {
        assert_true(loam_collect());
        for (int i = 0; i < 1000; i++) {
            (void)pack(77);
        }
    }
    for (size_t n = 0; n < 20; n++) {
        void *result;
        int done = n % 4 == 0 ? try_join(threads[n], &result)
                              : pthread_join(threads[n], &result);
        assert_int_equal(done, 0);
        const struct parcel *parcel = result;
        assert_true(is_whole(parcel));
        assert_int_equal(parcel->words[0], (n + 100) * 3);
    }
    // And no longer.
    struct loam_stats before, after;
    loam_stats(&before, sizeof before);
    scrub_stack();
    assert_true(loam_collect());
    loam_stats(&after, sizeof after);
    assert_true(after.live_objects + 10 <= before.live_objects);
}

// --- Cancellation ------------------------------------------------------

static int never[2]; // a pipe in which nothing comes
static sem_t waiting, nothing;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;

// Runs while the thread is unwound: program code.
static void clean_up(void *data) {
    broken += !shuffle_run(data, 500);
    unpacked++;
}

static void clean_up_mutex(void *data) {
    clean_up(data);
    (void)pthread_mutex_unlock(&mutex);
}

static void *wait_read(void *data) {
    char byte;
    pthread_cleanup_push(clean_up, data);
    (void)sem_post(&waiting);
    (void)!read(never[0], &byte, 1);
    pthread_cleanup_pop(0);
    return NULL;
}

static void *wait_poll(void *data) {
    pthread_cleanup_push(clean_up, data);
    (void)sem_post(&waiting);
    (void)poll(NULL, 0, -1);
    pthread_cleanup_pop(0);
    return NULL;
}

static void *wait_cond(void *data) {
    (void)pthread_mutex_lock(&mutex);
    pthread_cleanup_push(clean_up_mutex, data);
    (void)sem_post(&waiting);
    for (;;) {
        (void)pthread_cond_wait(&condition, &mutex);
    }
    pthread_cleanup_pop(0);
}

static void *wait_sem(void *data) {
    pthread_cleanup_push(clean_up, data);
    (void)sem_post(&waiting);
    (void)sem_wait(&nothing);
    pthread_cleanup_pop(0);
    return NULL;
}

static void *wait_pause(void *data) {
    pthread_cleanup_push(clean_up, data);
    (void)sem_post(&waiting);
    (void)pause();
    pthread_cleanup_pop(0);
    return NULL;
}

static void a_cancelled_wait_is_left(void **state) { // W1
    (void)state;
    void *(*const waits[])(void *) = {wait_read, wait_poll, wait_cond, wait_sem,
                                      wait_pause};
    pthread_t collecting = begin_collecting();
    assert_int_equal(pipe(never), 0);
    broken = unpacked = 0;
    for (uint64_t n = 0; n < 50; n++) {
        pthread_t thread;
        void *result;
        assert_int_equal(
            pthread_create(&thread, NULL, waits[n % 5], shuffle_make(n)), 0);
        (void)sem_wait(&waiting);
        if (n % 2 == 0) {
            (void)usleep(500); // by now it waits
        }
        assert_int_equal(pthread_cancel(thread), 0);
        assert_int_equal(pthread_join(thread, &result), 0);
        assert_ptr_equal(result, PTHREAD_CANCELED);
    }
    end_collecting(collecting);
    assert_int_equal(unpacked, 50);
    assert_int_equal(broken, 0);
}

// --- What the system keeps ---------------------------------------------

static pthread_key_t keys[KEYS];

static NOT_INLINED void set_keys(void) {
    for (size_t i = 0; i < KEYS; i++) {
        assert_int_equal(pthread_setspecific(keys[i], pack(i + 1)), 0);
    }
}

static void check_keys(void) {
    for (size_t i = 0; i < KEYS; i++) {
        broken += !is_whole(pthread_getspecific(keys[i]));
    }
}

static void *use_keys(void *unused) {
    set_keys();
    scrub_stack();
    (void)loam_collect();
    for (int i = 0; i < 2000; i++) {
        (void)pack(9);
    }
    check_keys();
    return unused;
}

static void values_of_keys_are_roots(void **state) { // W1
    (void)state;
    for (size_t i = 0; i < KEYS; i++) {
        assert_int_equal(pthread_key_create(&keys[i], NULL), 0);
    }
    assert_true(keys[KEYS - 1] >= 32);
    pthread_t threads[4];
    broken = 0;
    set_keys();
    scrub_stack();
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, use_keys, NULL), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    (void)loam_collect();
    for (int i = 0; i < 2000; i++) {
        (void)pack(9);
    }
    check_keys();
    assert_int_equal(broken, 0);
    // A key that is deleted holds nothing any more.
    struct loam_stats before, after;
    scrub_stack();
    (void)loam_collect();
    loam_stats(&before, sizeof before);
    for (size_t i = 0; i < KEYS; i++) {
        assert_int_equal(pthread_key_delete(keys[i]), 0);
    }
    scrub_stack();
    (void)loam_collect();
    loam_stats(&after, sizeof after);
    assert_true(after.live_objects + 40 <= before.live_objects);
    assert_int_equal(pthread_setspecific(keys[KEYS - 1], NULL), EINVAL);
}

static uintptr_t stack_hidden;

static NOT_INLINED void give_stack(void) {
    size_t bytes = 64 * 1024;
    char *memory = loam_alloc(bytes);
    assert_non_null(memory);
    memset(memory, 7, bytes);
    stack_t stack = {.ss_sp = memory, .ss_size = bytes};
    assert_int_equal(sigaltstack(&stack, NULL), 0);
    stack_hidden = LOAM_HIDE(memory);
}

static void a_signal_stack_in_the_heap_is_held(void **state) { // W1
    (void)state;
    give_stack();
    scrub_stack();
    (void)loam_collect();
    assert_true(loam_is_heap(LOAM_REVEAL(stack_hidden)));
    stack_t none = {.ss_flags = SS_DISABLE};
    stack_t old;
    assert_int_equal(sigaltstack(&none, &old), 0);
    assert_ptr_equal(old.ss_sp, LOAM_REVEAL(stack_hidden));
    old.ss_sp = NULL;
    scrub_stack();
    (void)loam_collect();
}

static int set_up(void **state) {
    (void)state;
    return loam_init() && loam_alloc(16) != NULL &&
                   sem_init(&waiting, 0, 0) == 0 &&
                   sem_init(&nothing, 0, 0) == 0
               ? 0
               : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_argument_lives_until_its_thread_begins),
        cmocka_unit_test(every_attribute_is_kept),
        cmocka_unit_test(a_thread_may_exit_from_anywhere),
        cmocka_unit_test(a_result_lives_until_it_is_joined),
        cmocka_unit_test(a_cancelled_wait_is_left),
        cmocka_unit_test(values_of_keys_are_roots),
        cmocka_unit_test(a_signal_stack_in_the_heap_is_held),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
