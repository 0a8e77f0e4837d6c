// Threads that stand still help to mark: what they find is in the counts, they
// are gone when it is over, and it takes no memory.

#include "collect/help.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "api/init.h"
#include "heap/block.h"
#include "heap/meta.h"
#include "heap/range.h"
#include "loam.h"
#include "os/clock.h"
#include "os/suspend.h"
#include "os/thread.h"

#define DEPTH (LOAM_TINY ? 11 : 16)
#define NODES (((size_t)2 << DEPTH) - 1)

struct node {
    struct node *left, *right;
    uint64_t number;
};

static atomic_bool done;
static atomic_uint running;

static _Atomic(void *) cell;

static void *spin(void *data) {
    cell = loam_alloc_leaf(16); // a stranger's stack nobody knows
    atomic_fetch_add(&running, 1);
    while (!atomic_load(&done)) {
        if (SUSPEND_COOPERATIVE) { // stops where it allocates
            cell = loam_alloc_leaf(16);
        }
    }
    return data;
}

static struct node *grow(size_t depth, uint64_t number) {
    struct node *node = loam_alloc(sizeof *node);
    assert_non_null(node);
    node->number = number;
    if (depth != 0) {
        node->left = grow(depth - 1, 2 * number);
        node->right = grow(depth - 1, 2 * number + 1);
    }
    return node;
}

static uint64_t sum(const struct node *node) {
    return node == NULL ? 0 : node->number + sum(node->left) + sum(node->right);
}

static const struct collect_report *collect(void) {
    assert_true(loam_collect());
    return &init_state.home.collector.figures.last;
}

// Of the collector's own; not where the threads allocate in order to stop.
static size_t taken(void) {
    return SUSPEND_COOPERATIVE ? 0 : meta_bytes() + range.table_bytes;
}

static bool has_processors(void) {
    struct thread_cpus cpus;
    thread_find_cpus(&cpus);
    size_t count = 0;
    for (size_t i = 0; i < THREAD_CPUS / 64; i++) {
        count += (size_t)__builtin_popcountll(cpus.bits[i]);
    }
    return count > 1;
}

// HP1: the words beside the marks are zero whenever nobody marks.
static void check_aside(void) {
    if (SUSPEND_COOPERATIVE && !atomic_load(&done)) {
        return; // the threads make the heap larger meanwhile
    }
    size_t words = range_block_count() * ASIDE_WORDS_PER_BLOCK;
    for (size_t i = 0; range.aside_in_use && i < words; i++) {
        assert_int_equal(range.aside[i], 0);
    }
}

// HP1, HP2, HP3: until one has come, for a machine that is busy may keep them
// all away for long.
static void test_help(void **state) {
    (void)state;
    struct help *help = &init_state.conductor.help;
    struct node *tree = grow(DEPTH, 1);
    uint64_t wanted = sum(tree);
    const struct collect_report *report = collect();
    assert_int_equal(report->markers, 1);
    assert_null(help->packets); // one thread needs none
    size_t alone = report->scanned_bytes;
    assert_in_range(alone, NODES * sizeof *tree, SIZE_MAX);
    pthread_t threads[2];
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, spin, NULL), 0);
    }
    while (atomic_load(&running) != 2) {
        (void)sched_yield();
    }
    (void)collect(); // in which nobody knew of them
    (void)collect();
    bool ready = help->packets != NULL;
    size_t memory = taken();
    uint64_t began_ns = clock_now_ns();
    size_t most = 1, cycles = 0;
    while ((most == 1 || cycles < 20) &&
           clock_now_ns() - began_ns < 20000000000) {
        report = collect();
        cycles++;
        most = report->markers > most ? report->markers : most;
        assert_in_range(report->markers, 1, 1 + help->count);
        assert_int_equal(report->markers, help->used);
        // What two have marked at a time counts twice.
        assert_in_range(report->scanned_bytes, alone, 2 * alone); // HP2
        check_aside();                                            // HP1
        assert_int_equal(sum(tree), wanted);
    }
    assert_int_equal(taken(), memory); // HP3
    atomic_store(&done, true);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    assert_true(ready);
    assert_true(most > 1 || !has_processors());
    print_message("%zu markers, at most, in %zu cycles\n", most, cycles);
}

// HP1: what a child finds of a cycle that is not its own is put away.
static void test_forked(void **state) {
    (void)state;
    struct help *help = &init_state.conductor.help;
    assert_true(help->count > 0);
    help->markers[0].list.word_count = 3;
    help->markers[0].list.piece_count = 1;
    range.aside[5] = 7;
    help_forked(help, false);
    assert_int_equal(range.aside[5], 7);
    help_forked(help, true);
    assert_int_equal(help->markers[0].list.word_count, 0);
    assert_int_equal(help->markers[0].list.piece_count, 0);
    check_aside();
    (void)collect();
    struct help half = {.count = 3}; // made, and not published
    help_forked(&half, false);
    assert_int_equal(half.count, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_help),
        cmocka_unit_test(test_forked),
    };
    if (!loam_init()) {
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
