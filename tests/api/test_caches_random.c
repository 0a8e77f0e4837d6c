// Random programs on caches of every policy beside a plain model: arrays that
// are searched from end to end.  After each step both have the same entries,
// bytes and figures, and have told of the same ones gone, in the same order.
//
// A RANDOM cache says itself who went; the model only checks that it might.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loam/cache.h"
#include "support/gen.h"
#include "support/scrub.h"

#define KEYS      200
#define STEPS     ((size_t)SCALED(30000, 4000))
#define GONE_MAX  ((size_t)1024)
#define GHOST_MAX ((size_t)400000)
#define RECORD    64 // what loam/cache.h says; and if it expires or was
#define ALARM     48 // charged

struct value {
    size_t key, serial;
};

// One entry of the model.
struct twin {
    bool there, main; // main: of S3-FIFO
    bool alarm;       // it expired once, or was charged
    struct value *value;
    size_t bytes, charge;
    uint64_t used;     // when it was used last: what LRU goes by
    uint64_t queued;   // when it came to its queue
    uint64_t inserted; // numbers grow
    uint64_t uses;
    uint64_t expires; // 0: never
};

struct gone {
    size_t key, serial;
    enum loam_cache_reason reason;
};

static struct {
    struct loam_cache *cache;
    struct loam_cache_settings settings;
    struct twin twins[KEYS];
    size_t ghosts[GHOST_MAX]; // keys, or KEYS where it was taken
    size_t ghost_first, ghost_end;
    uint64_t tick, now, serial;
    struct loam_cache_stats stats; // what they should be
    struct gone told[GONE_MAX], expected[GONE_MAX];
    size_t told_count, expected_count;
    bool tells;
    struct gen gen;
} world;

// --- Keys and values -------------------------------------------------------

// Texts of 2 to 60 bytes; bytes with zeros among them, one of them empty.
static const void *key_for(size_t key) {
    static char text[80];
    static struct loam_cache_bytes bytes;
    if (world.settings.keys == LOAM_CACHE_WORDS) {
        return (const void *)(key * 4096);
    }
    size_t length = key == 0 ? 0 : 4 + key % 50;
    memset(text, 'a' + (int)(key % 7), sizeof text);
    if (world.settings.keys == LOAM_CACHE_BYTES) {
        memset(text, 0, sizeof text);
        memcpy(text, &key, length < sizeof key ? length : sizeof key);
        bytes = (struct loam_cache_bytes){length == 0 ? NULL : text, length};
        return &bytes;
    }
    (void)snprintf(text, sizeof text, "%*zu", (int)length, key);
    return text;
}

static size_t key_bytes(size_t key) {
    const void *made = key_for(key);
    size_t bytes = 0;
    if (world.settings.keys == LOAM_CACHE_TEXTS) {
        bytes = strlen(made) + 1;
    } else if (world.settings.keys == LOAM_CACHE_BYTES) {
        bytes = sizeof(struct loam_cache_bytes) +
                ((const struct loam_cache_bytes *)made)->bytes;
    }
    return (bytes + 15) / 16 * 16; // small cells are multiples of 16
}

// Which key a cache's own key is.
static size_t key_of(const void *key) {
    for (size_t i = 0; i < KEYS; i++) {
        const void *made = key_for(i);
        const struct loam_cache_bytes *a = made;
        const struct loam_cache_bytes *b = key;
        bool same = world.settings.keys == LOAM_CACHE_WORDS ? made == key
                    : world.settings.keys == LOAM_CACHE_TEXTS
                        ? strcmp(made, key) == 0
                        : a->bytes == b->bytes &&
                              (a->bytes == 0 ||
                               memcmp(a->start, b->start, a->bytes) == 0);
        if (same) {
            return i;
        }
    }
    fail_msg("an unknown key");
    return KEYS;
}

static struct value *make_value(size_t key) {
    struct value *value =
        loam_alloc(sizeof *value + gen_below(&world.gen, 300));
    assert_non_null(value);
    *value = (struct value){key, ++world.serial};
    return value;
}

// --- The model -------------------------------------------------------------

static size_t bytes_now(bool only_new) {
    size_t bytes = 0;
    for (size_t i = 0; i < KEYS; i++) {
        const struct twin *twin = &world.twins[i];
        bytes += twin->there && !(only_new && twin->main) ? twin->bytes : 0;
    }
    return bytes;
}

static size_t count_now(bool only_main) {
    size_t count = 0;
    for (size_t i = 0; i < KEYS; i++) {
        count += world.twins[i].there && (!only_main || world.twins[i].main);
    }
    return count;
}

static void expect(size_t key, const struct value *value,
                   enum loam_cache_reason reason) {
    world.stats.gone[reason]++;
    if (world.tells) {
        assert_true(world.expected_count < GONE_MAX);
        world.expected[world.expected_count++] =
            (struct gone){key, value->serial, reason};
    }
}

static void drop(size_t key, enum loam_cache_reason reason) {
    struct twin *twin = &world.twins[key];
    assert_true(twin->there);
    expect(key, twin->value, reason);
    memset(twin, 0, sizeof *twin);
}

// The one with the least number; of those in one queue of S3-FIFO if `queue`.
static size_t least(size_t spared, bool by_use, int queue) {
    size_t found = KEYS;
    for (size_t i = 0; i < KEYS; i++) {
        const struct twin *twin = &world.twins[i];
        const struct twin *best = &world.twins[found % KEYS];
        if (!twin->there || i == spared ||
            (queue >= 0 && twin->main != (queue == 1))) {
            continue;
        }
        uint64_t mine = by_use ? twin->used : twin->queued;
        if (found == KEYS || mine < (by_use ? best->used : best->queued)) {
            found = i;
        }
    }
    return found;
}

static size_t least_used(size_t spared) {
    size_t found = KEYS;
    for (size_t i = 0; i < KEYS; i++) {
        const struct twin *twin = &world.twins[i];
        if (!twin->there || i == spared) {
            continue;
        }
        const struct twin *best = &world.twins[found % KEYS];
        if (found == KEYS || twin->uses < best->uses ||
            (twin->uses == best->uses && twin->used < best->used)) {
            found = i;
        }
    }
    return found;
}

static size_t s3_victim(size_t spared) {
    for (;;) {
        size_t fresh = least(spared, false, 0);
        size_t main = least(spared, false, 1);
        bool is_new =
            main == KEYS ||
            (fresh != KEYS && bytes_now(true) >= bytes_now(false) / 10);
        size_t key = is_new ? fresh : main;
        if (key == KEYS) {
            return KEYS;
        }
        struct twin *twin = &world.twins[key];
        if (is_new && twin->uses <= 1) {
            assert_true(world.ghost_end < GHOST_MAX);
            world.ghosts[world.ghost_end++] = key;
            while (world.ghost_end - world.ghost_first > count_now(true)) {
                world.ghost_first++;
            }
            return key;
        }
        if (!is_new && twin->uses == 0) {
            return key;
        }
        twin->uses = is_new ? 0 : twin->uses - 1;
        twin->main = true;
        twin->queued = ++world.tick;
    }
}

static bool ghost_take(size_t key) {
    for (size_t i = world.ghost_first; i < world.ghost_end; i++) {
        if (world.ghosts[i] == key) {
            world.ghosts[i] = KEYS;
            return true;
        }
    }
    return false;
}

static size_t victim(size_t spared) {
    switch (world.settings.policy) {
    case LOAM_CACHE_LRU:
        return least(spared, true, -1);
    case LOAM_CACHE_FIFO:
        return least(spared, false, -1);
    case LOAM_CACHE_LFU:
        return least_used(spared);
    case LOAM_CACHE_S3FIFO:
        return s3_victim(spared);
    case LOAM_CACHE_RANDOM:
    default:
        return KEYS;
    }
}

// Those that a cache without order chose: there, and not there any more.
static void follow(size_t spared, enum loam_cache_reason reason) {
    for (size_t i = 0; i < KEYS; i++) {
        if (world.twins[i].there && i != spared &&
            loam_cache_peek(world.cache, key_for(i)) == NULL) {
            drop(i, reason);
        }
    }
}

static void fit(size_t bytes, size_t spared, enum loam_cache_reason reason) {
    if (world.settings.policy == LOAM_CACHE_RANDOM) {
        follow(spared, reason);
        assert_true(bytes_now(false) <= bytes);
        return;
    }
    while (bytes_now(false) > bytes ||
           (world.settings.max_entries != 0 &&
            count_now(false) > world.settings.max_entries)) {
        size_t key = victim(spared);
        if (key == KEYS) {
            return;
        }
        drop(key, reason);
    }
}

static size_t max_bytes(void) {
    return world.settings.max_bytes == 0 ? SIZE_MAX : world.settings.max_bytes;
}

// In any order: check_told sorts.
static void expire(void) {
    for (size_t i = 0; i < KEYS; i++) {
        if (world.twins[i].there && world.twins[i].expires != 0 &&
            world.twins[i].expires <= world.now) {
            drop(i, LOAM_CACHE_EXPIRED);
        }
    }
}

static void use(size_t key) {
    struct twin *twin = &world.twins[key];
    bool is_s3 = world.settings.policy == LOAM_CACHE_S3FIFO;
    twin->used = ++world.tick;
    twin->uses += !is_s3 || twin->uses < 3;
}

static void insert(size_t key) {
    struct twin *twin = &world.twins[key];
    twin->there = true;
    twin->used = twin->queued = twin->inserted = ++world.tick;
    twin->uses = world.settings.policy == LOAM_CACHE_S3FIFO ? 0 : 1;
    twin->main = world.settings.policy == LOAM_CACHE_S3FIFO && ghost_take(key);
}

static bool model_put(size_t key, struct value *value, uint64_t ttl) {
    struct twin *twin = &world.twins[key];
    bool alarm = twin->alarm || ttl != 0;
    size_t bytes = RECORD + (alarm ? (size_t)ALARM : 0) + key_bytes(key) +
                   loam_usable_size(value);
    if (bytes > max_bytes()) {
        if (twin->there) {
            drop(key, LOAM_CACHE_REPLACED);
        }
        return false;
    }
    if (twin->there) {
        expect(key, twin->value, LOAM_CACHE_REPLACED);
        use(key);
    } else {
        insert(key);
    }
    twin->value = value;
    twin->bytes = bytes;
    twin->charge = 0;
    twin->alarm = alarm;
    twin->expires = ttl == 0 ? 0 : world.now + ttl;
    world.stats.puts++;
    fit(max_bytes(), key, LOAM_CACHE_EVICTED);
    return true;
}

// --- Beside each other -----------------------------------------------------

static void told(const void *key, void *value, enum loam_cache_reason reason,
                 void *data) {
    const struct value *known = value;
    assert_ptr_equal(data, &world);
    assert_int_equal(key_of(key), known->key);
    assert_true(world.told_count < GONE_MAX);
    world.told[world.told_count++] =
        (struct gone){known->key, known->serial, reason};
}

static int compare_gone(const void *a, const void *b) {
    const struct gone *x = a;
    const struct gone *y = b;
    return x->serial < y->serial ? -1 : x->serial > y->serial;
}

static bool is_ordered(size_t at) {
    enum loam_cache_reason reason = world.expected[at].reason;
    return reason != LOAM_CACHE_EXPIRED && reason != LOAM_CACHE_CLEARED &&
           world.settings.policy != LOAM_CACHE_RANDOM;
}

static void check_told(void) {
    size_t count = world.expected_count;
    assert_int_equal(world.told_count, count); // CA4
    bool ordered = true;
    for (size_t i = 0; i < count; i++) {
        ordered = ordered && is_ordered(i);
    }
    if (!ordered) {
        qsort(world.told, count, sizeof *world.told, compare_gone);
        qsort(world.expected, count, sizeof *world.told, compare_gone);
    }
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(world.told[i].serial, world.expected[i].serial);
        assert_int_equal(world.told[i].reason, world.expected[i].reason);
    }
    world.told_count = world.expected_count = 0;
}

static void check_stats(void) {
    struct loam_cache_stats stats;
    loam_cache_stats(world.cache, &stats, sizeof stats);
    uint64_t gone = 0;
    for (size_t i = 0; i < LOAM_CACHE_REASONS; i++) {
        assert_int_equal(stats.gone[i], world.stats.gone[i]);
        gone += stats.gone[i];
    }
    assert_int_equal(stats.hits, world.stats.hits);
    assert_int_equal(stats.misses, world.stats.misses);
    assert_int_equal(stats.puts, world.stats.puts);
    assert_int_equal(stats.entries, count_now(false));
    assert_int_equal(stats.bytes, bytes_now(false));    // CA2
    assert_int_equal(stats.puts, stats.entries + gone); // CA7
    assert_true(stats.bytes <= max_bytes());            // CA1
    assert_true(world.settings.max_entries == 0 ||
                stats.entries <= world.settings.max_entries);
}

// Every entry, by its key and by an iteration, and no other.
static void check_entries(void) {
    struct loam_cursor cursor = {0};
    const void *key;
    void *value;
    size_t seen = 0;
    while (loam_cache_next(world.cache, &cursor, &key, &value)) {
        const struct twin *twin = &world.twins[key_of(key)];
        assert_true(twin->there);
        assert_ptr_equal(value, twin->value);
        seen++; // CA8: as many as there are
    }
    assert_int_equal(seen, count_now(false));
    for (size_t i = 0; i < KEYS; i++) {
        assert_ptr_equal(loam_cache_peek(world.cache, key_for(i)),
                         world.twins[i].value);
    }
}

// --- Steps -----------------------------------------------------------------

// Small numbers more often.
static size_t some_key(void) {
    size_t bound = 1 + gen_below(&world.gen, KEYS);
    return gen_below(&world.gen, bound);
}

static void step_put(void) {
    size_t key = some_key();
    struct value *value = make_value(key);
    bool own = gen_chance(&world.gen, 30);
    uint64_t ttl = own ? gen_below(&world.gen, 3) * gen_below(&world.gen, 5000)
                       : world.settings.ttl_ns;
    bool put = own ? loam_cache_put_for(world.cache, key_for(key), value, ttl)
                   : loam_cache_put(world.cache, key_for(key), value);
    assert_int_equal(put, model_put(key, value, ttl));
}

static void step_get(void) {
    size_t key = some_key();
    struct value *value = loam_cache_get(world.cache, key_for(key));
    assert_ptr_equal(value, world.twins[key].value);
    if (value != NULL) {
        assert_int_equal(value->key, key);
        use(key);
    }
    world.stats.hits += value != NULL;
    world.stats.misses += value == NULL;
}

static void step_remove(void) {
    size_t key = some_key();
    assert_int_equal(loam_cache_remove(world.cache, key_for(key)),
                     world.twins[key].there);
    if (world.twins[key].there) {
        drop(key, LOAM_CACHE_REMOVED);
    }
}

static void step_charge(void) {
    size_t key = some_key();
    struct twin *twin = &world.twins[key];
    size_t charge = gen_below(&world.gen, 400);
    size_t bytes = twin->bytes - twin->charge + charge +
                   (twin->there && !twin->alarm ? (size_t)ALARM : 0);
    bool fits = twin->there && bytes <= max_bytes();
    assert_int_equal(loam_cache_charge(world.cache, key_for(key), charge),
                     fits);
    if (twin->there && !fits) {
        drop(key, LOAM_CACHE_EVICTED);
    } else if (fits) {
        twin->bytes = bytes;
        twin->charge = charge;
        twin->alarm = true;
        fit(max_bytes(), key, LOAM_CACHE_EVICTED);
    }
}

static void step_resize(void) {
    world.settings.max_bytes = 300 + gen_below(&world.gen, 40000);
    loam_cache_resize(world.cache, world.settings.max_bytes, 0);
    fit(max_bytes(), KEYS, LOAM_CACHE_EVICTED);
}

static void step_shrink(void) {
    size_t bytes = gen_below(&world.gen, 2 * bytes_now(false) + 1);
    size_t before = bytes_now(false);
    size_t given = loam_cache_shrink(world.cache, bytes);
    fit(bytes, KEYS, LOAM_CACHE_SHRUNK);
    assert_int_equal(given, before - bytes_now(false));
}

static void step_clear(void) {
    loam_cache_clear(world.cache);
    for (size_t i = 0; i < KEYS; i++) {
        if (world.twins[i].there) {
            drop(i, LOAM_CACHE_CLEARED);
        }
    }
    world.ghost_first = world.ghost_end;
}

static void step(void) {
    size_t dice = gen_below(&world.gen, 1000);
    if (gen_chance(&world.gen, 20)) {
        world.now += gen_below(&world.gen, 2) * gen_below(&world.gen, 3000);
        loam_cache_tidy(world.cache);
        expire(); // CA5
    }
    if (dice < 450) {
        step_get();
    } else if (dice < 850) {
        step_put();
    } else if (dice < 920) {
        step_remove();
    } else if (dice < 980) {
        step_charge();
    } else if (dice < 990) {
        step_resize();
    } else if (dice < 998) {
        step_shrink();
    } else if (dice < 999) {
        step_clear();
    } else {
        (void)loam_collect();
    }
}

static uint64_t clock_now(void *data) {
    assert_ptr_equal(data, &world);
    return world.now;
}

static void run(enum loam_cache_policy policy, enum loam_cache_keys keys,
                bool tells, uint64_t seed) {
    memset(&world, 0, sizeof world);
    gen_init(&world.gen, seed + policy * 10 + keys);
    world.now = gen_next(&world.gen) >> gen_below(&world.gen, 60);
    world.now = world.now > UINT64_MAX / 2 ? UINT64_MAX / 2 : world.now;
    world.tells = tells;
    world.settings = (struct loam_cache_settings){
        .policy = policy,
        .keys = keys,
        .pressure = LOAM_CACHE_NEVER,
        .max_bytes = 20000,
        .max_entries = gen_chance(&world.gen, 50) ? 60 : 0,
        .ttl_ns = gen_chance(&world.gen, 50) ? 20000 : 0,
        .seed = seed,
        .gone = tells ? told : NULL,
        .gone_data = &world,
        .clock = clock_now,
        .clock_data = &world};
    world.cache = loam_cache_make(&world.settings, sizeof world.settings);
    assert_non_null(world.cache);
    for (size_t i = 0; i < STEPS; i++) {
        step();
        check_told();
        check_stats();
        if (i % 64 == 0) {
            check_entries();
        }
    }
    check_entries();
}

static uint64_t seed_of_run;

static void run_all(enum loam_cache_policy policy) {
    run(policy, LOAM_CACHE_WORDS, false, seed_of_run);
    run(policy, LOAM_CACHE_TEXTS, true, seed_of_run);
    run(policy, LOAM_CACHE_BYTES, true, seed_of_run);
}

static void test_lru(void **state) {
    (void)state;
    run_all(LOAM_CACHE_LRU);
}

static void test_lfu(void **state) {
    (void)state;
    run_all(LOAM_CACHE_LFU);
}

static void test_fifo(void **state) {
    (void)state;
    run_all(LOAM_CACHE_FIFO);
}

static void test_random(void **state) {
    (void)state;
    run_all(LOAM_CACHE_RANDOM);
}

static void test_s3fifo(void **state) {
    (void)state;
    run_all(LOAM_CACHE_S3FIFO);
}

int main(void) {
    seed_of_run = gen_seed("test_caches_random");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lru),    cmocka_unit_test(test_lfu),
        cmocka_unit_test(test_fifo),   cmocka_unit_test(test_random),
        cmocka_unit_test(test_s3fifo),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
