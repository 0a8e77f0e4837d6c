// loam_collect, loam_disable and loam_enable: when a cycle runs and when not.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "loam.h"
#include "support/scrub.h"

static uint64_t collections(void) {
    struct loam_stats stats = {0};
    loam_stats(&stats, sizeof stats);
    return stats.collections;
}

// Garbage enough for several collections.
static void churn(void) {
    for (size_t i = 0; i < 100000; i++) {
        (void)!loam_alloc(1000);
    }
}

static void test_is_synchronous(void **state) {
    (void)state;
    for (uint64_t i = 0; i < 20; i++) {
        uint64_t before = collections();
        assert_true(loam_collect());
        assert_true(collections() == before + 1);
    }
}

static void test_runs_by_itself(void **state) {
    (void)state;
    uint64_t before = collections();
    struct loam_stats stats = {0};
    churn();
    assert_true(collections() > before);
    loam_stats(&stats, sizeof stats);
    assert_true(stats.heap_bytes_max < (uint64_t)64 << 20); // of 100 MB
}

static void test_disable_nests(void **state) {
    (void)state;
    loam_disable();
    loam_disable();
    uint64_t before = collections();
    churn();
    assert_true(collections() == before);
    loam_enable();
    churn();
    assert_true(collections() == before); // one is still in force
    assert_true(loam_collect());          // asked for, it collects
    assert_true(collections() == before + 1);
    loam_enable();
    churn();
    assert_true(collections() > before + 1);
}

static unsigned warnings;

static void count_warning(const char *sentence, void *data) {
    (void)sentence;
    (void)data;
    warnings++;
}

static void test_enable_too_many(void **state) {
    (void)state;
    loam_set_warning_hook(count_warning, NULL);
    warnings = 0;
    loam_disable();
    loam_enable();
    assert_int_equal(warnings, 0);
    loam_enable();
    assert_int_equal(warnings, 1);
    loam_set_warning_hook(NULL, NULL);
    uint64_t before = collections();
    churn();
    assert_true(collections() > before); // and it had no other effect
    loam_disable();
    before = collections();
    churn();
    assert_true(collections() == before);
    loam_enable();
}

// A chain is kept whole by its head, and lost whole with it.
struct link {
    struct link *next;
    size_t number;
};

static struct link *chain;

NOT_INLINED static void grow_chain(size_t count) {
    for (size_t i = 0; i < count; i++) {
        struct link *link = loam_alloc(sizeof *link);
        link->next = chain;
        link->number = i;
        chain = link;
    }
}

static uint64_t live_objects(void) {
    struct loam_stats stats = {0};
    scrub_collect();
    loam_stats(&stats, sizeof stats);
    return stats.live_objects;
}

static void test_chain(void **state) {
    (void)state;
    enum { COUNT = 50000 };
    uint64_t before = live_objects();
    grow_chain(COUNT);
    churn();
    assert_true(live_objects() >= COUNT);
    size_t number = COUNT;
    for (const struct link *link = chain; link; link = link->next) {
        assert_int_equal(link->number, --number);
    }
    assert_int_equal(number, 0);
    chain = NULL;
    assert_true(live_objects() <= before + 20);
}

// Rings without a way in are found like all else.
NOT_INLINED static void make_rings(void) {
    for (size_t i = 0; i < 10000; i++) {
        struct link *a = loam_alloc(sizeof *a);
        struct link *b = loam_alloc(sizeof *b);
        a->next = b;
        b->next = a;
    }
}

static void test_rings(void **state) {
    (void)state;
    uint64_t before = live_objects();
    make_rings();
    assert_true(live_objects() <= before + 40);
}

// Phases that each keep 4 MB alive in objects of another size: what the one
// leaves behind is the next one's, or the heap would grow phase by phase.
static void **held;

NOT_INLINED static void run_phase(size_t bytes, bool leaf) {
    size_t count = 4000000 / bytes + 1;
    held = loam_alloc(count * sizeof *held);
    for (size_t round = 0; round < 5; round++) {
        for (size_t i = 0; i < count; i++) {
            held[i] = leaf ? loam_alloc_leaf(bytes) : loam_alloc(bytes);
            memset(held[i], 0, bytes);
        }
    }
    held = NULL;
}

static void test_phases(void **state) {
    (void)state;
    struct loam_stats stats = {0};
    uint64_t early = 0;
    uint64_t most = 0;
    for (size_t phase = 0; phase < 60; phase++) {
        size_t step = phase * 37 % 60; // up and down through all sizes
        run_phase((size_t)16 << step / 4 | (step % 4) << step / 5,
                  phase % 3 == 1);
        loam_stats(&stats, sizeof stats);
        early = phase == 5 ? stats.heap_bytes : early;
        most = stats.heap_bytes > most ? stats.heap_bytes : most;
    }
    assert_true(most <= 2 * early + ((uint64_t)16 << 20));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_is_synchronous),
        cmocka_unit_test(test_runs_by_itself),
        cmocka_unit_test(test_disable_nests),
        cmocka_unit_test(test_enable_too_many),
        cmocka_unit_test(test_chain),
        cmocka_unit_test(test_rings),
        cmocka_unit_test(test_phases),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
