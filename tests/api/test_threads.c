// Threads: objects go from thread to thread, are freed by others, and outlive
// their maker; threads come and go, and ask for everything at once.  The same
// runs again with every check on.  (What keeps what a thread holds:
// test_thread_roots.c.)
//
// seconds: 240

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sched.h>
#include <string.h>

#include "loam.h"
#include "support/child.h"
#include "support/gen.h"
#include "support/scrub.h"
#include "support/team.h"

#define THREADS 16
#define MIB     ((uint64_t)1 << 20)

static size_t effort = SCALED(1, 4); // a part of the rounds, where each is slow

static struct loam_stats look(void) {
    struct loam_stats stats = {0};
    loam_stats(&stats, sizeof stats);
    return stats;
}

// --- Trees -----------------------------------------------------------------

struct tree {
    struct tree *left, *right;
    uint64_t sum;
    size_t bytes;
    unsigned char *leaf; // `bytes` times the low byte of sum
};

static struct tree *make_tree(struct gen *g, unsigned depth) {
    struct tree *tree = loam_alloc(sizeof *tree);
    MUST(tree != NULL);
    MUST(tree->left == NULL && tree->leaf == NULL && tree->sum == 0);
    tree->bytes = gen_bytes(g, gen_chance(g, 1) ? 100000 : 300);
    tree->leaf = loam_alloc_leaf(tree->bytes);
    MUST(tree->leaf != NULL);
    if (depth > 0) {
        tree->left = make_tree(g, depth - 1);
        tree->right = make_tree(g, depth - 1);
    }
    tree->sum = gen_mix((uintptr_t)tree->left ^ (uintptr_t)tree->right,
                        (uintptr_t)tree ^ (uintptr_t)tree->leaf);
    memset(tree->leaf, (int)tree->sum, tree->bytes);
    return tree;
}

static void check_tree(const struct tree *tree) {
    if (tree == NULL) {
        return;
    }
    uintptr_t below = (uintptr_t)tree->left ^ (uintptr_t)tree->right;
    uintptr_t here = (uintptr_t)tree ^ (uintptr_t)tree->leaf;
    MUST(tree->sum == gen_mix(below, here));
    for (size_t i = 0; i < tree->bytes; i += 1 + tree->bytes / 8) {
        MUST(tree->leaf[i] == (unsigned char)tree->sum);
    }
    check_tree(tree->left);
    check_tree(tree->right);
}

static void free_tree(struct tree *tree) {
    if (tree != NULL) {
        free_tree(tree->left);
        free_tree(tree->right);
        memset(tree->leaf, 0xEE, tree->bytes);
        loam_free(tree->leaf);
        tree->sum = 0;
        loam_free(tree);
    }
}

// --- All at once -----------------------------------------------------------

// Where threads leave trees for one another: each place has one at a time.
#define PLACES 64
static struct tree *_Atomic places[PLACES];
static atomic_uint wanted; // an end

// Makes trees, leaves them, takes what others left, frees or loses it.
static void *trade(void *data) {
    struct gen g;
    gen_init(&g, *(uint64_t *)data);
    struct tree *own = make_tree(&g, 5);
    for (size_t round = 0; round < 1500 / effort; round++) {
        struct tree *tree = make_tree(&g, (unsigned)gen_below(&g, 4));
        tree = atomic_exchange(&places[gen_below(&g, PLACES)], tree);
        check_tree(tree);
        if (gen_chance(&g, 70)) {
            free_tree(tree); // whoever made it
        }
        if (gen_chance(&g, 2)) {
            check_tree(own);
            own = make_tree(&g, 5);
        }
        if (round % 500 == 499) {
            MUST(loam_collect());
        }
    }
    check_tree(own);
    return NULL;
}

static void trade_with(size_t count) {
    pthread_t threads[THREADS];
    uint64_t seeds[THREADS];
    uint64_t seed = gen_seed("threads");
    for (size_t i = 0; i < count; i++) {
        seeds[i] = gen_mix(seed, i);
        threads[i] = begin(trade, &seeds[i]);
    }
    uint64_t failed = look().collections_failed;
    for (size_t i = 0; i < 20; i++) {
        assert_true(loam_collect());
        for (size_t place = 0; place < PLACES; place++) {
            rest();
        }
    }
    for (size_t i = 0; i < count; i++) {
        join(threads[i]);
    }
    for (size_t i = 0; i < PLACES; i++) {
        check_tree(places[i]);
        places[i] = NULL;
    }
    assert_int_equal(look().collections_failed, failed);
}

static void test_trade(void **state) {
    (void)state;
    for (size_t count = 2; count <= THREADS; count *= 2) {
        trade_with(count);
    }
    assert_true(scrub_collect());
    struct loam_stats stats = look();
    assert_true(stats.live_bytes < 2 * MIB);
    assert_int_equal(stats.allocated_bytes, stats.used_bytes +
                                                stats.freed_bytes +
                                                stats.collected_bytes);
}

// --- Threads come and go ---------------------------------------------------

static void *volatile kept[64];

// Makes garbage, leaves one object behind, and maybe says that it ends.
static void *come_and_go(void *data) {
    size_t i = *(size_t *)data;
    for (size_t n = 0; n < 2000 / effort; n++) {
        (void)!loam_alloc(16 + n % 30 * 40);
    }
    uint64_t *mine = loam_alloc(80);
    MUST(mine != NULL);
    mine[3] = i;
    kept[i % 64] = mine;
    if (i % 3 == 0) {
        loam_thread_detach();
    }
    if (i % 5 == 0) {
        pthread_exit(NULL);
    }
    return NULL;
}

// What a thread leaves is there while somebody refers to it; the memory it had
// for itself is used by the next.
static void test_exit(void **state) {
    (void)state;
    size_t numbers[8];
    uint64_t metadata_bytes = 0;
    for (size_t i = 0; i < 400 / effort; i += 8) {
        pthread_t threads[8];
        for (size_t n = 0; n < 8; n++) {
            numbers[n] = i + n;
            threads[n] = begin(come_and_go, &numbers[n]);
        }
        for (size_t n = 0; n < 8; n++) {
            join(threads[n]);
        }
        for (size_t n = 0; n < 64 && n < i + 8; n++) {
            const uint64_t *it = kept[n];
            assert_true(loam_is_heap(it));
            assert_int_equal(it[3] % 64, n);
        }
        if (i == 80) {
            metadata_bytes = look().metadata_bytes;
        }
    }
    struct loam_stats stats = look();
    assert_true(stats.block_bytes < 32 * MIB);
    assert_true(effort != 1 || stats.metadata_bytes < metadata_bytes + 4 * MIB);
    memset((void *)(uintptr_t)kept, 0, sizeof kept);
}

static pthread_key_t early, late;
static atomic_uint destroyed;

// A destructor of a key: it allocates, collects, and asks to be called again.
static void destroy(void *value) {
    uint64_t *words = value;
    MUST(words[0] == 5);
    struct gen g;
    gen_init(&g, words[1]);
    check_tree(make_tree(&g, 3));
    MUST(loam_collect());
    MUST(words[0] == 5);
    atomic_fetch_add(&destroyed, 1);
    if (words[1]-- > 0) {
        MUST(pthread_setspecific(words[2] == 0 ? early : late, words) == 0);
    }
}

static void *use_keys(void *data) {
    (void)data;
    for (uint64_t i = 0; i < 2; i++) {
        uint64_t *words = loam_alloc(3 * sizeof *words);
        MUST(words != NULL);
        words[0] = 5;
        words[1] = 2;
        words[2] = i;
        MUST(pthread_setspecific(i == 0 ? early : late, words) == 0);
    }
    return NULL;
}

static void test_destructors(void **state) {
    (void)state;
    assert_int_equal(pthread_key_create(&late, destroy), 0);
    for (size_t i = 0; i < 40 / effort; i++) {
        atomic_store(&destroyed, 0);
        pthread_t threads[2] = {begin(use_keys, NULL), begin(use_keys, NULL)};
        join(threads[0]);
        join(threads[1]);
        assert_int_equal(atomic_load(&destroyed), 12);
    }
}

// --- Together --------------------------------------------------------------

static void *ask(void *data) {
    size_t which = *(size_t *)data;
    while (atomic_load(&wanted) == 0) {
        static uintptr_t ranges[8][64];
        switch (which % 4) {
        case 0:
            MUST(loam_collect());
            break;
        case 1:
            MUST(loam_roots_add(ranges[which], sizeof ranges[which]));
            MUST(loam_roots_remove(ranges[which], sizeof ranges[which]));
            break;
        case 2:
            loam_disable();
            (void)!loam_alloc(100);
            loam_enable();
            break;
        default: {
            struct loam_stats stats = look();
            MUST(stats.allocated_bytes < UINT64_MAX / 2);
            MUST(stats.used_bytes < UINT64_MAX / 2);
            MUST(stats.used_bytes <= stats.allocated_bytes);
            MUST(stats.freed_bytes <= stats.allocated_bytes);
        }
        }
        rest();
    }
    return NULL;
}

// Everybody asks for something that takes the lock, at the same time.
static void test_together(void **state) {
    (void)state;
    size_t numbers[8];
    pthread_t threads[8];
    atomic_store(&wanted, 0);
    for (size_t i = 0; i < 8; i++) {
        numbers[i] = i;
        threads[i] = begin(ask, &numbers[i]);
    }
    trade_with(4);
    atomic_store(&wanted, 1);
    for (size_t i = 0; i < 8; i++) {
        join(threads[i]);
    }
}

// Works in a heap of its own and in one that all share, and leaves what it made
// there for others to free.
static struct loam_heap *shared;
static void *_Atomic left[PLACES];

static void *use_heaps(void *data) {
    struct gen g;
    gen_init(&g, *(uint64_t *)data);
    for (size_t round = 0; round < 30 / effort + 1; round++) {
        struct loam_heap *mine = loam_heap_create();
        MUST(mine != NULL);
        void *held[64] = {0};
        for (size_t i = 0; i < 500; i++) {
            void **p = loam_heap_alloc(mine, 16 + gen_below(&g, 400));
            MUST(p != NULL && p[0] == NULL);
            p[0] = p;
            held[i % 64] = p;
            void **q = loam_heap_alloc(shared, 16 + gen_below(&g, 400));
            MUST(q != NULL && q[0] == NULL && q[1] == NULL);
            q[1] = q;
            void **other = atomic_exchange(&left[gen_below(&g, PLACES)], q);
            MUST(other == NULL || other[1] == (void *)other);
            loam_free(other);
        }
        for (size_t i = 0; i < 64; i++) {
            MUST(*(void **)held[i] == held[i]);
        }
        MUST(gen_chance(&g, 50) || loam_heap_collect(mine));
        MUST(gen_chance(&g, 90) || loam_heap_collect(shared));
        MUST(loam_heap_destroy(mine));
    }
    return NULL;
}

static void test_heaps_together(void **state) {
    (void)state;
    pthread_t threads[6];
    uint64_t seeds[6], seed = gen_seed("threads and heaps");
    shared = loam_heap_create();
    assert_non_null(shared);
    for (size_t i = 0; i < 6; i++) {
        seeds[i] = gen_mix(seed, i);
        threads[i] = begin(use_heaps, &seeds[i]);
    }
    for (size_t i = 0; i < 6; i++) {
        join(threads[i]);
    }
    memset(left, 0, sizeof left);
    assert_true(scrub_collect());
    assert_true(loam_heap_collect(shared));
    struct loam_stats stats;
    loam_heap_stats(shared, &stats, sizeof stats);
    assert_true(stats.live_objects < 50);
    assert_int_equal(stats.allocated_bytes, stats.used_bytes +
                                                stats.freed_bytes +
                                                stats.collected_bytes);
    assert_true(loam_heap_destroy(shared));
}

// --- A wrong program -------------------------------------------------------

#define DOUBLES ((size_t)2000)
static void *volatile doubles[DOUBLES];
static atomic_uint at_it;
static atomic_uint warned;

static void count_warning(const char *sentence, void *data) {
    (void)sentence;
    (void)data;
    atomic_fetch_add(&warned, 1);
}

static void *free_all(void *data) {
    (void)data;
    atomic_fetch_add(&at_it, 1);
    while (atomic_load(&at_it) < 3) {
        sched_yield();
    }
    for (size_t i = 0; i < DOUBLES; i++) {
        loam_free(doubles[i]);
    }
    return NULL;
}

// What the figures say was freed when three threads have freed all of doubles;
// making threads frees something, too.
static uint64_t free_by_three(void) {
    atomic_store(&at_it, 0);
    assert_true(loam_collect()); // what others freed before is counted
    uint64_t before = look().freed_bytes;
    pthread_t threads[3];
    for (size_t i = 0; i < 3; i++) {
        threads[i] = begin(free_all, NULL);
    }
    for (size_t i = 0; i < 3; i++) {
        join(threads[i]);
    }
    for (size_t i = 0; i < DOUBLES; i++) {
        assert_false(loam_is_heap(doubles[i]));
        doubles[i] = NULL;
    }
    assert_true(scrub_collect()); // what waited is freed by now
    return look().freed_bytes - before;
}

// Three threads free the same objects.  That is an error; all the same none is
// freed twice, and the heap is whole.
static void test_freed_by_all(void **state) {
    (void)state;
    loam_set_warning_hook(count_warning, NULL);
    uint64_t idle_bytes = free_by_three();
    for (size_t round = 0; round < 20 / effort + 1; round++) {
        uint64_t bytes = 0;
        for (size_t i = 0; i < DOUBLES; i++) {
            doubles[i] = loam_alloc(i % 700 == 0 ? 100000 : 16 + i % 100 * 20);
            bytes += loam_usable_size(doubles[i]);
        }
        assert_int_equal(free_by_three(), bytes + idle_bytes);
    }
    assert_true(atomic_load(&warned) != 0);
    loam_set_warning_hook(NULL, NULL);
}

// --- Again, with checks ----------------------------------------------------

static void test_checked(void **state) {
    (void)state;
    static const char *const settings[] = {"LOAM_CHECK=all",
                                           "LOAM_COLLECT_EVERY", NULL};
    assert_true(child_passes("again", settings));
}

static void test_every(void **state) {
    (void)state;
    static const char *const settings[] = {"LOAM_CHECK=mark",
                                           "LOAM_COLLECT_EVERY=50", NULL};
    assert_true(child_passes("again", settings));
}

#define ALL                                                                    \
    cmocka_unit_test(test_trade), cmocka_unit_test(test_exit),                 \
        cmocka_unit_test(test_destructors), cmocka_unit_test(test_together),   \
        cmocka_unit_test(test_heaps_together),                                 \
        cmocka_unit_test(test_freed_by_all)

int main(int argc, char **argv) {
    if (pthread_key_create(&early, destroy) != 0) {
        return 1;
    }
    if (child_mode(argc, argv) != NULL) {
        effort = SCALED(10, 30);
        const struct CMUnitTest tests[] = {ALL};
        return cmocka_run_group_tests(tests, NULL, NULL);
    }
    const struct CMUnitTest tests[] = {ALL, cmocka_unit_test(test_checked),
                                       cmocka_unit_test(test_every)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
