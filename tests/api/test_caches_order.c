// The orders: by example, and whether all queues are whole after many steps.
// Beside a model they run in test_caches_random.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "api/caches_order.h"
#include "loam.h"
#include "support/gen.h"
#include "support/scrub.h"

#define COUNT 200
#define STEPS ((size_t)SCALED(50000, 6000))

static struct caches_entry *entries[COUNT];
static bool there[COUNT];
static struct caches_order order;
static struct caches_table table;
static uint64_t seed;

static void begin(unsigned policy) {
    caches_order_init(&order, policy, seed);
    caches_table_init(&table);
    memset(there, 0, sizeof there);
}

static void insert(size_t i) {
    struct caches_entry *entry = entries[i];
    *entry = (struct caches_entry){
        .bytes = 100, .hash = (uint32_t)gen_mix(i, 1), .number = i + 1};
    assert_true(caches_table_reserve(&table, entry->hash));
    assert_true(caches_order_reserve(&order));
    caches_table_insert(&table, entry);
    caches_order_insert(&order, entry);
    there[i] = true;
}

static void use(size_t i) {
    caches_order_use(&order, entries[i]);
}

static void drop(size_t i) {
    caches_order_remove(&order, entries[i]);
    caches_table_remove(&table, entries[i]);
    there[i] = false;
}

// The next victim, which goes; COUNT: nobody.
static size_t evict(const struct caches_entry *spared) {
    const struct caches_entry *victim =
        caches_order_victim(&order, &table, spared);
    if (victim == NULL) {
        return COUNT;
    }
    drop(victim->number - 1);
    return victim->number - 1;
}

static void assert_evicts(const size_t *wanted, size_t count) {
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(evict(NULL), wanted[i]);
    }
    assert_int_equal(evict(NULL), COUNT);
}

static void test_lru(void **state) {
    (void)state;
    begin(LOAM_CACHE_LRU);
    for (size_t i = 0; i < 5; i++) {
        insert(i);
    }
    use(0);
    use(3);
    use(4);
    use(4);
    const size_t wanted[] = {1, 2, 0, 3, 4}; // CO2
    assert_evicts(wanted, 5);
}

static void test_fifo(void **state) {
    (void)state;
    begin(LOAM_CACHE_FIFO);
    for (size_t i = 0; i < 4; i++) {
        insert(i);
    }
    use(0);
    drop(2);
    insert(2);
    const size_t wanted[] = {0, 1, 3, 2}; // CO3
    assert_evicts(wanted, 4);
}

static void test_lfu(void **state) {
    (void)state;
    begin(LOAM_CACHE_LFU);
    for (size_t i = 0; i < 5; i++) {
        insert(i);
    }
    for (size_t i = 0; i < 5; i++) {
        for (size_t times = 0; times < (size_t[]){2, 0, 2, 0, 7}[i]; times++) {
            use(i);
        }
    }
    const size_t wanted[] = {1, 3, 0, 2, 4}; // CO4
    assert_evicts(wanted, 5);
}

// With nothing in main each entry is new; what was used twice moves there.
static void test_s3(void **state) {
    (void)state;
    begin(LOAM_CACHE_S3FIFO);
    for (size_t i = 0; i < 6; i++) {
        insert(i);
    }
    use(0);
    use(0);
    use(1);
    assert_int_equal(evict(NULL), 1); // 0 went to main: CO5
    assert_int_equal(order.queues[CACHES_MAIN].count, 1);
    insert(1); // a ghost: at once to main
    assert_int_equal(order.queues[CACHES_MAIN].count, 2);
    insert(7);
    use(0);
    const size_t wanted[] = {2, 3, 4, 5, 7, 1, 0};
    assert_evicts(wanted, 7);
}

static void test_spared(void **state) {
    (void)state;
    static const unsigned policies[] = {LOAM_CACHE_LRU, LOAM_CACHE_LFU,
                                        LOAM_CACHE_FIFO, LOAM_CACHE_RANDOM,
                                        LOAM_CACHE_S3FIFO};
    for (size_t p = 0; p < 5; p++) {
        begin(policies[p]);
        for (size_t i = 0; i < 20; i++) {
            insert(i);
        }
        for (size_t i = 0; i < 19; i++) {
            assert_true(evict(entries[0]) - 1 < 19); // CO6
        }
        assert_int_equal(evict(entries[0]), COUNT);
        assert_true(there[0]);
        assert_int_equal(evict(NULL), 0);
    }
}

// CO1, CO7
static void check_queue(const struct caches_queue *queue, size_t *seen) {
    size_t count = 0;
    size_t bytes = 0;
    const struct caches_entry *newer = NULL;
    for (const struct caches_entry *entry = queue->newest; entry != NULL;
         entry = entry->older) {
        assert_true(there[entry->number - 1]);
        assert_ptr_equal(entry->newer, newer);
        newer = entry;
        count++;
        bytes += entry->bytes;
    }
    assert_ptr_equal(queue->oldest, newer);
    assert_int_equal(queue->count, count);
    assert_int_equal(queue->bytes, bytes);
    *seen += count;
}

static void check(void) {
    size_t seen = 0;
    check_queue(&order.queues[0], &seen);
    check_queue(&order.queues[1], &seen);
    uint64_t uses = 0;
    for (uint32_t at = order.group_fewest; at != 0;
         at = order.groups[at].more) {
        assert_true(order.groups[at].uses > uses);
        assert_true(order.groups[at].queue.count != 0);
        uses = order.groups[at].uses;
        check_queue(&order.groups[at].queue, &seen);
    }
    size_t count = 0;
    for (size_t i = 0; i < COUNT; i++) {
        count += there[i];
    }
    // A group that is empty serves again.
    assert_true(order.group_end <= COUNT + 2);
    assert_int_equal(seen,
                     order.policy == LOAM_CACHE_RANDOM ? 0 : count); // CO1
}

static void run(unsigned policy) {
    struct gen gen;
    gen_init(&gen, seed + policy);
    begin(policy);
    for (size_t step = 0; step < STEPS; step++) {
        size_t i = gen_below(&gen, COUNT);
        if (!there[i]) {
            insert(i);
        } else if (gen_chance(&gen, 60)) {
            use(there[i / 16] ? i / 16 : i); // some very often
        } else if (gen_chance(&gen, 50)) {
            caches_order_resize(&order, entries[i], gen_below(&gen, 1000));
        } else if (gen_chance(&gen, 50)) {
            assert_int_not_equal(evict(entries[i]), i);
        } else {
            drop(i);
        }
        if (!there[i / 16]) {
            insert(i / 16);
        }
        if (step % 32 == 0) {
            check();
        }
    }
    caches_order_clear(&order);
    assert_int_equal(caches_order_bytes(&order), 0);
}

static void test_random(void **state) {
    (void)state;
    for (unsigned policy = 0; policy <= LOAM_CACHE_S3FIFO; policy++) {
        run(policy);
    }
}

static int setup(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT; i++) {
        entries[i] = loam_alloc(sizeof *entries[i]);
        assert_non_null(entries[i]);
    }
    return 0;
}

int main(void) {
    seed = gen_seed("test_caches_order");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lru),    cmocka_unit_test(test_fifo),
        cmocka_unit_test(test_lfu),    cmocka_unit_test(test_s3),
        cmocka_unit_test(test_spared), cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
