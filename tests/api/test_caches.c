// Caches as a program uses them: callbacks that use the cache, time, pressure,
// threads, children.  What the policies do is in test_caches_random.c.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api/caches.h"
#include "loam/cache.h"
#include "support/scrub.h"
#include "support/team.h"

#define RECORD 64

static size_t warnings;

static void count_warning(const char *sentence, void *data) {
    (void)sentence;
    (void)data;
    warnings++;
}

static struct loam_cache *make(const struct loam_cache_settings *settings) {
    struct loam_cache *cache = loam_cache_make(settings, sizeof *settings);
    assert_non_null(cache);
    return cache;
}

static const void *word(size_t key) {
    return (const void *)key;
}

static size_t *value_for(size_t key, size_t bytes) {
    size_t *value = loam_alloc(bytes);
    assert_non_null(value);
    *value = key;
    return value;
}

static bool put(struct loam_cache *cache, size_t key, size_t bytes) {
    return loam_cache_put(cache, word(key), value_for(key, bytes));
}

static struct loam_cache_stats stats_of(struct loam_cache *cache) {
    struct loam_cache_stats stats;
    loam_cache_stats(cache, &stats, sizeof stats);
    return stats;
}

// --- Room ------------------------------------------------------------------

static void test_bytes(void **state) {
    (void)state;
    struct loam_cache *cache = make(&(struct loam_cache_settings){
        .keys = LOAM_CACHE_TEXTS, .max_bytes = 4000});
    assert_true(loam_cache_put(cache, "seventeen letters", loam_alloc(100)));
    assert_int_equal(stats_of(cache).bytes, 112 + 32 + RECORD); // CA2
    assert_true(loam_cache_charge(cache, "seventeen letters", 1000));
    assert_int_equal(stats_of(cache).bytes, 112 + 32 + RECORD + 48 + 1000);
    assert_false(loam_cache_charge(cache, "another", 1));
    assert_true(
        loam_cache_put_for(cache, "a", loam_alloc_leaf(2000), 1000000000000));
    assert_int_equal(stats_of(cache).entries, 2);
    assert_true(loam_cache_put(cache, "b", loam_alloc(600)));
    assert_null(loam_cache_peek(cache, "seventeen letters"));
    assert_true(stats_of(cache).bytes <= 4000); // CA1
    errno = 0;
    assert_false(loam_cache_put(cache, "b", loam_alloc(5000)));
    assert_int_equal(errno, ENOMEM);
    assert_null(loam_cache_peek(cache, "b"));
    assert_false(loam_cache_charge(cache, "a", SIZE_MAX));
    assert_int_equal(stats_of(cache).entries, 0);
    assert_int_equal(stats_of(cache).bytes, 0);
    assert_true(stats_of(cache).bytes_max <= 4000);
}

static void test_misuse(void **state) {
    (void)state;
    int local = 0;
    struct loam_cache *cache =
        make(&(struct loam_cache_settings){.keys = LOAM_CACHE_TEXTS});
    warnings = 0;
    errno = 0;
    assert_false(loam_cache_put(cache, "key", &local));
    assert_int_equal(errno, EINVAL);
    assert_false(loam_cache_put(cache, NULL, loam_alloc(8)));
    assert_null(loam_cache_get(cache, NULL));
    assert_int_equal(warnings, 3);
    errno = 0;
    struct loam_cache_settings wrong = {.policy = (enum loam_cache_policy)77};
    assert_null(loam_cache_make(&wrong, sizeof wrong));
    assert_int_equal(errno, EINVAL);
    // An older program knows fewer settings, and fewer figures.
    struct loam_cache *old =
        loam_cache_make(&wrong, offsetof(struct loam_cache_settings, keys) * 0);
    assert_non_null(old);
    uint64_t hits = 7;
    loam_cache_stats(old, (struct loam_cache_stats *)(void *)&hits,
                     sizeof hits);
    assert_int_equal(hits, 0);
}

static void test_refused(void **state) {
    (void)state;
    struct loam_cache *cache =
        make(&(struct loam_cache_settings){.pressure = LOAM_CACHE_NEVER});
    assert_false(loam_set_limit(1));
    size_t key = 0;
    void *value = value_for(0, 16);
    while (value != NULL && loam_cache_put(cache, word(key), value)) {
        value = loam_alloc_leaf(1000);
        key++;
    }
    struct loam_cache_stats before = stats_of(cache);
    assert_int_equal(before.entries, key);
    assert_false(value != NULL && loam_cache_put(cache, word(key), value));
    struct loam_cache_stats after = stats_of(cache);
    assert_memory_equal(&before, &after, sizeof before); // CA6
    assert_true(loam_set_limit(0));
    assert_true(put(cache, key, 16));
}

// --- What a cache keeps ----------------------------------------------------

static NOT_INLINED struct loam_weak *fill(struct loam_cache *cache,
                                          size_t count) {
    struct loam_weak *weak = NULL;
    for (size_t i = 0; i < count; i++) {
        size_t *value = value_for(i, 48);
        assert_true(loam_cache_put(cache, word(i), value));
        weak = i == 0 ? loam_weak_make(value) : weak;
    }
    return weak;
}

static NOT_INLINED struct loam_weak *fill_lost(void) {
    return fill(make(&(struct loam_cache_settings){0}), 1000);
}

static void test_kept(void **state) {
    (void)state;
    struct loam_cache *cache = make(&(struct loam_cache_settings){0});
    struct loam_weak *weak = fill(cache, 5000);
    for (size_t i = 0; i < 5; i++) {
        assert_true(scrub_collect());
    }
    for (size_t i = 0; i < 5000; i++) {
        assert_int_equal(*(size_t *)loam_cache_get(cache, word(i)), i);
    }
    assert_non_null(loam_weak_get(weak));
    loam_cache_clear(cache);
    assert_true(scrub_collect());
    assert_null(loam_weak_get(weak));
    struct loam_weak *lost = fill_lost();
    assert_true(scrub_collect());
    assert_null(loam_weak_get(lost)); // the cache, too, is garbage
    loam_keep(cache);
}

static void test_next(void **state) {
    (void)state;
    struct loam_cache *cache = make(&(struct loam_cache_settings){0});
    fill(cache, 1000);
    struct loam_cursor cursor = {0};
    const void *key;
    void *value;
    static size_t seen[1000];
    for (size_t more = 10000; loam_cache_next(cache, &cursor, &key, &value);
         more++) {
        if ((size_t)key < 1000) {
            assert_int_equal(*(size_t *)value, (size_t)key);
            seen[(size_t)key]++;
        }
        assert_true(more >= 13000 || put(cache, more, 16));
        (void)loam_cache_remove(cache, word((size_t)key % 500 * 2));
    }
    for (size_t i = 1; i < 1000; i += 2) {
        assert_int_equal(seen[i], 1); // CA8
    }
}

// --- Who is told -----------------------------------------------------------

static struct {
    struct loam_cache *cache;
    size_t told, deep, deepest;
    bool puts_back, collects;
} ear;

// Uses the cache, and throws out others by it.
static void hear(const void *key, void *value, enum loam_cache_reason reason,
                 void *data) {
    struct loam_cache *cache = *(struct loam_cache **)data;
    assert_int_equal(*(size_t *)value, (size_t)key);
    ear.told++;
    ear.deep++;
    ear.deepest = ear.deep > ear.deepest ? ear.deep : ear.deepest;
    (void)loam_cache_peek(cache, key);
    if (ear.collects) {
        (void)loam_collect();
    }
    if (ear.puts_back && reason == LOAM_CACHE_REMOVED && ear.deep == 1) {
        assert_true(loam_cache_put(cache, key, value));
        assert_ptr_equal(loam_cache_peek(cache, key), value); // CA3
    }
    ear.deep--;
}

static void test_told(void **state) {
    (void)state;
    static struct loam_cache *cache;
    ear.told = 0;
    cache = make(&(struct loam_cache_settings){
        .max_entries = 10, .gone = hear, .gone_data = &cache});
    for (size_t i = 0; i < 100; i++) {
        assert_true(put(cache, i, 32));
    }
    assert_int_equal(ear.told, 90); // CA4
    ear.puts_back = ear.collects = true;
    for (size_t i = 90; i < 95; i++) {
        assert_true(loam_cache_remove(cache, word(i)));
        assert_non_null(loam_cache_peek(cache, word(i)));
    }
    assert_int_equal(ear.told, 95);
    ear.puts_back = false;
    assert_true(put(cache, 95, 48));
    assert_int_equal(ear.told, 96);
    loam_cache_clear(cache);
    assert_int_equal(ear.told, 106);
    struct loam_cache_stats stats = stats_of(cache);
    assert_int_equal(stats.gone[LOAM_CACHE_EVICTED], 90);
    assert_int_equal(stats.gone[LOAM_CACHE_REMOVED], 5);
    assert_int_equal(stats.gone[LOAM_CACHE_REPLACED], 1);
    assert_int_equal(stats.gone[LOAM_CACHE_CLEARED], 10);
    assert_int_equal(stats.puts, 106); // CA7
    ear.collects = false;
}

// --- Time ------------------------------------------------------------------

static uint64_t now;

static uint64_t clock_now(void *data) {
    (void)data;
    return now;
}

static void test_expired(void **state) {
    (void)state;
    struct loam_cache *cache =
        make(&(struct loam_cache_settings){.ttl_ns = 100, .clock = clock_now});
    now = 1000;
    assert_true(put(cache, 1, 16));
    assert_true(loam_cache_put_for(cache, word(2), value_for(2, 16), 50));
    assert_true(loam_cache_put_for(cache, word(3), value_for(3, 16), 0));
    now = 1049;
    assert_non_null(loam_cache_get(cache, word(2)));
    now = 1050;
    assert_null(loam_cache_get(cache, word(2))); // CA5
    assert_true(put(cache, 1, 16));              // a new term
    now = 1149;
    assert_non_null(loam_cache_peek(cache, word(1)));
    now = UINT64_MAX - 1;
    loam_cache_tidy(cache);
    assert_int_equal(stats_of(cache).entries, 1);
    assert_int_equal(stats_of(cache).gone[LOAM_CACHE_EXPIRED], 2);
    assert_true(put(cache, 4, 16)); // for ever: its time would not end
    now = 0;                        // a clock that goes back
    assert_true(put(cache, 5, 16));
    assert_non_null(loam_cache_get(cache, word(3)));
}

static void test_clock(void **state) {
    (void)state;
    struct loam_cache *cache =
        make(&(struct loam_cache_settings){.ttl_ns = 20000000});
    assert_true(put(cache, 1, 16));
    for (size_t i = 0; loam_cache_peek(cache, word(1)) != NULL; i++) {
        assert_true(i < 10000);
        (void)usleep(1000);
    }
}

// --- Pressure --------------------------------------------------------------

// Values of a MiB in all caches, until the limit would have been passed twice.
static void fill_to(struct loam_cache *cache, size_t count) {
    for (size_t i = 0; i < count; i++) {
        void *value = loam_alloc_leaf(100000);
        assert_non_null(value); // the caches gave way
        *(size_t *)value = i;
        assert_true(loam_cache_put(cache, word(i), value));
    }
}

static void test_limit(void **state) {
    (void)state;
    static struct loam_cache *told;
    assert_true(loam_collect());
    struct loam_stats before;
    loam_stats(&before, sizeof before);
    assert_true(
        loam_set_limit(before.heap_bytes + before.metadata_bytes + (32 << 20)));
    struct loam_cache *cache = make(&(struct loam_cache_settings){0});
    told = make(&(struct loam_cache_settings){
        .gone = hear, .gone_data = &told, .cost = 5, .min_bytes = 100000});
    ear.told = 0;
    fill_to(cache, 900);
    assert_true(stats_of(cache).gone[LOAM_CACHE_SHRUNK] > 500);
    fill_to(told, 900);
    struct loam_cache_stats stats = stats_of(told);
    assert_true(stats.gone[LOAM_CACHE_SHRUNK] > 300);
    assert_int_equal(stats.gone[LOAM_CACHE_SHRUNK], ear.told);
    assert_true(stats.bytes >= 100000);
    assert_int_equal(stats_of(cache).puts,
                     stats_of(cache).entries +
                         stats_of(cache).gone[LOAM_CACHE_SHRUNK]);
    assert_true(loam_set_limit(0));
}

// A lower limit: what stands in its way is let go of.
static void test_lowered(void **state) {
    (void)state;
    assert_true(scrub_collect());
    struct loam_stats before;
    loam_stats(&before, sizeof before);
    struct loam_cache *cache = make(&(struct loam_cache_settings){0});
    fill_to(cache, 400);
    assert_true(
        loam_set_limit(before.heap_bytes + before.metadata_bytes + (20 << 20)));
    // What was committed and free may be used, too.
    size_t room = before.heap_bytes - before.used_bytes + (20 << 20);
    size_t most = room / 100000 < 390 ? room / 100000 : 390;
    assert_in_range(stats_of(cache).entries, 10, most);
    assert_true(loam_set_limit(0));
}

// The bell takes no memory, where there is none: ghosts of S3-FIFO stay few.
static void test_frugal(void **state) {
    (void)state;
    struct loam_cache *cache =
        make(&(struct loam_cache_settings){.policy = LOAM_CACHE_S3FIFO});
    fill(cache, 20000);
    for (size_t i = 0; i < 40000; i++) {
        assert_non_null(loam_cache_get(cache, word(i / 2 * 2 % 20000)));
    }
    size_t table_bytes = stats_of(cache).table_bytes;
    (void)loam_caches_relieve(1000000);
    assert_int_equal(stats_of(cache).table_bytes, table_bytes);
    (void)loam_set_limit(1);
    struct loam_cache_stats stats = stats_of(cache);
    assert_int_equal(stats.entries + stats.gone[LOAM_CACHE_SHRUNK], 20000);
    assert_int_equal(cache->order.queues[CACHES_NEW].count +
                         cache->order.queues[CACHES_MAIN].count,
                     stats.entries);
    assert_true(loam_set_limit(0));
}

static void test_never(void **state) {
    (void)state;
    struct loam_cache *cache =
        make(&(struct loam_cache_settings){.pressure = LOAM_CACHE_NEVER});
    struct loam_cache *asked =
        make(&(struct loam_cache_settings){.pressure = LOAM_CACHE_IN_USE});
    fill(cache, 1000);
    fill(asked, 1000);
    (void)loam_caches_relieve(SIZE_MAX);
    assert_int_equal(stats_of(cache).entries, 1000);
    loam_cache_tidy(asked);
    assert_int_equal(stats_of(asked).entries, 0);
    assert_int_equal(stats_of(asked).gone[LOAM_CACHE_SHRUNK], 1000);
}

static size_t walk(struct loam_cache *cache) {
    size_t seen = 0;
    struct loam_cursor cursor = {0};
    while (loam_cache_next(cache, &cursor, NULL, NULL)) {
        seen++;
    }
    return seen;
}

// The next to use a cache gives what the bell asked for: it counts what is left
// then, and what it puts itself is not among what goes.
static void test_asked(void **state) {
    (void)state;
    for (unsigned policy = 0; policy <= LOAM_CACHE_S3FIFO; policy++) {
        struct loam_cache *cache = make(&(struct loam_cache_settings){
            .policy = (enum loam_cache_policy)policy,
            .pressure = LOAM_CACHE_IN_USE,
            .min_bytes = 40000});
        fill(cache, 1000);
        for (size_t i = 0; i < 1000; i++) {
            assert_non_null(loam_cache_get(cache, word(i)));
        }
        (void)loam_caches_relieve(SIZE_MAX);
        struct loam_cache_stats stats = stats_of(cache);
        assert_in_range(stats.bytes, 30000, 40000);
        assert_int_equal(stats.puts,
                         stats.entries + stats.gone[LOAM_CACHE_SHRUNK]);
        assert_int_equal(walk(cache), stats.entries); // CA7
        loam_cache_resize(cache, 0, 0);
        (void)loam_caches_relieve(SIZE_MAX);
        assert_true(put(cache, 5000, 48));
        assert_non_null(loam_cache_peek(cache, word(5000))); // CA3
        assert_int_equal(stats_of(cache).entries, 1);
    }
}

// --- Threads ---------------------------------------------------------------

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct loam_cache *shared, *own[2];
static atomic_uint stop;

// Uses the common cache under the program's lock, and one alone.
static void *worker(void *data) {
    size_t me = *(size_t *)data;
    for (size_t i = 0; atomic_load(&stop) == 0; i++) {
        size_t key = i * 7919 % 3000;
        size_t *value = loam_alloc(40);
        MUST(value != NULL);
        *value = key;
        MUST(pthread_mutex_lock(&mutex) == 0);
        size_t *found = loam_cache_get(shared, word(key));
        MUST(found == NULL || *found == key);
        MUST(loam_cache_put(shared, word(key), value));
        MUST(pthread_mutex_unlock(&mutex) == 0);
        found = loam_cache_get(own[me], word(key));
        MUST(found == NULL || *found == key);
        MUST(loam_cache_put(own[me], word(key), value));
        if (i % 256 == 0) {
            rest();
        }
    }
    return NULL;
}

static void test_threads(void **state) {
    (void)state;
    static size_t ids[] = {0, 1};
    struct loam_cache_settings settings = {.policy = LOAM_CACHE_LFU};
    shared = make(&settings);
    settings.policy = LOAM_CACHE_S3FIFO;
    own[0] = make(&settings);
    own[1] = make(&(struct loam_cache_settings){0});
    pthread_t threads[] = {begin(worker, &ids[0]), begin(worker, &ids[1])};
    size_t given = 0;
    for (size_t i = 0; i < SCALED(300, 60); i++) {
        given += loam_caches_relieve(20000);
        if (i % 16 == 0) {
            (void)loam_collect();
        }
        rest();
    }
    atomic_store(&stop, 1);
    join(threads[0]);
    join(threads[1]);
    given += loam_caches_relieve(1000);
    assert_true(given > 0);
    struct loam_cache *all[] = {shared, own[0], own[1]};
    for (size_t c = 0; c < 3; c++) {
        struct loam_cache_stats stats = stats_of(all[c]);
        uint64_t gone = 0;
        for (size_t i = 0; i < LOAM_CACHE_REASONS; i++) {
            gone += stats.gone[i];
        }
        assert_int_equal(stats.puts, stats.entries + gone); // CA7
        assert_int_equal(walk(all[c]), stats.entries);
    }
}

// A handler over an operation of the same cache.
static atomic_uint heard;

static void handle(int number) {
    (void)number;
    if (loam_cache_get(shared, word(1)) == NULL) {
        atomic_fetch_add(&heard, 1);
    }
}

static void test_nested(void **state) {
    (void)state;
    shared = make(&(struct loam_cache_settings){0});
    assert_true(put(shared, 1, 16));
    warnings = 0;
    struct caches_seat *seat = &shared->seat;
    uint64_t time;
    assert_true(caches_enter(shared, false, &time));
    (void)signal(SIGUSR1, handle);
    (void)raise(SIGUSR1);
    (void)signal(SIGUSR1, SIG_DFL);
    assert_int_equal(atomic_load(&heard), 1);
    assert_int_equal(warnings, 1);
    assert_int_not_equal(seat->busy, 0);
    caches_leave(shared);
    assert_non_null(loam_cache_get(shared, word(1)));
}

// --- Children --------------------------------------------------------------

static atomic_uint inside;

static void *stay_inside(void *data) {
    uint64_t time;
    MUST(caches_enter(shared, false, &time));
    memset(&shared->order, 0xff, sizeof shared->order); // anything
    atomic_store(&inside, 1);
    while (atomic_load(&inside) != 2) {
        rest();
    }
    return data;
}

static int use_in_child(void) {
    if (loam_cache_get(shared, word(1)) != NULL) {
        return 1;
    }
    struct loam_cache_stats stats = stats_of(shared);
    if (stats.entries != 0 || stats.bytes != 0 ||
        stats.gone[LOAM_CACHE_SHRUNK] != 100) {
        return 2;
    }
    void *value = loam_alloc(64);
    if (!loam_cache_put(shared, word(1), value) || !loam_collect() ||
        loam_cache_get(shared, word(1)) != value) {
        return 3;
    }
    return 0;
}

static void test_orphan(void **state) {
    (void)state;
    shared = make(&(struct loam_cache_settings){0});
    fill(shared, 100);
    struct caches_order order = shared->order;
    pthread_t thread = begin(stay_inside, NULL);
    wait_for(&inside, 1);
    pid_t child = fork();
    if (child == 0) {
        _exit(use_in_child()); // CA9
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    shared->order = order;
    atomic_store(&inside, 2);
    join(thread);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),   cmocka_unit_test(test_misuse),
        cmocka_unit_test(test_kept),    cmocka_unit_test(test_next),
        cmocka_unit_test(test_told),    cmocka_unit_test(test_expired),
        cmocka_unit_test(test_clock),   cmocka_unit_test(test_limit),
        cmocka_unit_test(test_never),   cmocka_unit_test(test_threads),
        cmocka_unit_test(test_nested),  cmocka_unit_test(test_orphan),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_lowered),
        cmocka_unit_test(test_frugal),  cmocka_unit_test(test_asked),
    };
    setenv("LOAM_NEIGHBOURS", "off", 1);
    loam_set_warning_hook(count_warning, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
