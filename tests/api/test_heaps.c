// loam/heaps.h: each heap is collected by itself, keeps and is kept by nothing
// of the others but what was asked for, and goes as a whole.  The same program
// runs again with every check on, and with many collections.  (At random,
// beside a model: test_heaps_random.c.)
//
// seconds: 240

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "loam.h"
#include "support/child.h"
#include "support/scrub.h"

#define MIB ((size_t)1 << 20)

static size_t effort = SCALED(1, 2); // a part of the rounds, where each is slow

static void *must(void *p) {
    assert_non_null(p);
    return p;
}

static struct loam_heap *make_heap(void) {
    return must(loam_heap_create());
}

static struct loam_stats look(struct loam_heap *heap) {
    struct loam_stats stats;
    memset(&stats, 0xFF, sizeof stats);
    loam_heap_stats(heap, &stats, sizeof stats);
    return stats;
}

static bool is_in(struct loam_heap *heap, const void *p) {
    bool is;
    struct loam_heap *of = loam_heap_of(p, &is);
    return is && of == heap;
}

// --- What is in a heap -----------------------------------------------------

static void check_object(struct loam_heap *heap, size_t bytes, bool leaf) {
    unsigned char *p = must(leaf ? loam_heap_alloc_leaf(heap, bytes)
                                 : loam_heap_alloc(heap, bytes));
    assert_int_equal((uintptr_t)p % 16, 0);
    size_t usable = loam_usable_size(p);
    assert_true(usable >= bytes);
    for (size_t i = 0; i < usable && !leaf; i += i < 64 ? 1 : 997) {
        assert_int_equal(p[i], 0);
    }
    memset(p, 0xA5, usable);
    assert_true(is_in(heap, p));
    assert_true(is_in(heap, p + usable - 1));
    assert_ptr_equal(loam_base(p + usable / 2), p);
    if (bytes % 3 == 0) {
        loam_free(p);
        assert_false(loam_is_heap(p));
    }
}

static void test_alloc(void **state) {
    (void)state;
    struct loam_heap *heaps[] = {NULL, make_heap(), make_heap()};
    for (size_t i = 0; i < 3; i++) {
        for (size_t bytes = 0; bytes < 300; bytes++) {
            check_object(heaps[i], bytes, bytes % 2);
        }
        for (size_t bytes = 300; bytes < 3 * MIB; bytes += bytes / 2) {
            check_object(heaps[i], bytes, bytes % 2);
        }
        errno = 0;
        volatile size_t absurd = (size_t)PTRDIFF_MAX + 1;
        assert_null(loam_heap_alloc(heaps[i], absurd));
        assert_int_equal(errno, ENOMEM);
    }
    bool is = true;
    assert_null(loam_heap_of(&is, &is));
    assert_false(is);
    assert_null(loam_heap_of(NULL, NULL));
    assert_true(loam_heap_destroy(heaps[1]));
    assert_true(loam_heap_destroy(heaps[2]));
}

// Resized, an object stays in its heap, with its kind and its bytes.
static void test_resize(void **state) {
    (void)state;
    struct loam_heap *heap = make_heap();
    static const size_t sizes[] = {1,     16,      17,  400,   5000, 40000,
                                   70000, 3 * MIB, 100, 90000, 64,   20};
    for (unsigned leaf = 0; leaf < 2; leaf++) {
        unsigned char *p = must(leaf ? loam_heap_alloc_leaf(heap, 8)
                                     : loam_heap_alloc(heap, 8));
        memset(p, 0x5A, 8);
        size_t was = 8;
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            p = must(loam_realloc(p, sizes[i]));
            assert_true(is_in(heap, p));
            size_t kept = was < sizes[i] ? was : sizes[i];
            for (size_t at = 0; at < kept; at += at < 100 ? 1 : 501) {
                assert_int_equal(p[at], 0x5A);
            }
            for (size_t at = kept; !leaf && at < sizes[i]; at += 501) {
                assert_int_equal(p[at], 0);
            }
            memset(p, 0x5A, sizes[i]);
            was = sizes[i];
        }
        assert_null(loam_realloc(p, 0));
        assert_false(loam_is_heap(p));
    }
    assert_int_equal(look(heap).used_bytes, 0);
    assert_true(loam_heap_destroy(heap));
}

// --- What keeps what -------------------------------------------------------

#define MANY ((size_t)300)

static void *variable[MANY];
static _Thread_local void *in_thread;
static uintptr_t hidden[MANY]; // of what should be gone, or not

// A chain in `heap`, each link hidden in its place of `hidden`.
static NOT_INLINED void *make_chain(struct loam_heap *heap) {
    void **last = NULL;
    for (size_t i = 0; i < MANY; i++) {
        void **link = must(loam_heap_alloc(heap, 16 + i % 7 * 40));
        link[0] = last;
        hidden[i] = LOAM_HIDE(link);
        last = link;
    }
    return last;
}

static size_t count_kept(void) {
    size_t kept = 0;
    for (size_t i = 0; i < MANY; i++) {
        kept += loam_is_heap(LOAM_REVEAL(hidden[i]));
    }
    return kept;
}

// All but what some forgotten word may still hold.
static bool few_kept(void) {
    return count_kept() < 20;
}

static NOT_INLINED bool collect(struct loam_heap *heap) {
    scrub_stack();
    return loam_heap_collect(heap);
}

// A holder in `from` of a chain in `to`; the holder is kept by a variable.
static NOT_INLINED void hold_from(struct loam_heap *to,
                                  struct loam_heap *from) {
    void **holder = must(loam_heap_alloc(from, 64));
    holder[3] = make_chain(to);
    variable[0] = holder;
}

static void test_isolation(void **state) {
    (void)state;
    struct loam_heap *one = make_heap(), *other = make_heap();
    struct loam_heap *pairs[][2] = {{one, NULL}, {NULL, one}, {one, other}};
    for (size_t i = 0; i < 3; i++) {
        struct loam_heap *to = pairs[i][0], *from = pairs[i][1];
        hold_from(to, from);
        assert_int_equal(count_kept(), MANY);
        assert_true(collect(from)); // another's collection takes nothing
        assert_int_equal(count_kept(), MANY);
        assert_true(loam_is_heap(variable[0]));
        assert_true(collect(to)); // and the holder, elsewhere, keeps nothing
        assert_true(few_kept());
        assert_true(loam_is_heap(variable[0]));
        // In the same heap it would.
        hold_from(to, to);
        assert_true(collect(to));
        assert_int_equal(count_kept(), MANY);
        variable[0] = NULL;
        assert_true(collect(to));
        assert_true(few_kept());
    }
    assert_true(loam_heap_destroy(one));
    assert_true(loam_heap_destroy(other));
}

static NOT_INLINED void drop_chain(struct loam_heap *heap) {
    (void)make_chain(heap);
}

// The dead of one heap are not read by a collection of another, nor taken.
static void test_dead_elsewhere(void **state) {
    (void)state;
    struct loam_heap *one = make_heap();
    uint64_t before = look(NULL).collected_bytes;
    drop_chain(NULL);
    uint64_t cycles = look(NULL).collections;
    for (size_t i = 0; i < 5; i++) {
        drop_chain(one);
        assert_true(collect(one));
        assert_true(look(one).live_objects < 20);
    }
    if (look(NULL).collections == cycles) { // every allocation may collect
        assert_int_equal(look(NULL).collected_bytes, before);
    }
    assert_int_equal(look(one).collections >= 5, true);
    assert_true(loam_heap_destroy(one));
}

static NOT_INLINED void chain_to(struct loam_heap *heap, void *volatile *at) {
    *at = make_chain(heap);
}

// Kept from `at`, and not when it is gone from there.
static NOT_INLINED void check_root(struct loam_heap *heap, void *volatile *at,
                                   bool is_root) {
    chain_to(heap, at);
    assert_true(collect(heap));
    if (is_root) {
        assert_int_equal(count_kept(), MANY);
    }
    if (is_root) {
        *at = NULL;
    }
    assert_true(collect(heap));
    assert_true(few_kept());
    *at = NULL;
}

// Stacks, variables of all sorts and added ranges keep what is in any heap.
static void test_roots(void **state) {
    (void)state;
    struct loam_heap *heap = make_heap();
    void **range = calloc(4, sizeof *range);
    assert_non_null(range);
    assert_true(loam_roots_add(range, 4 * sizeof *range));
    void *volatile on_stack = NULL;
    check_root(heap, &on_stack, true);
    check_root(heap, &variable[MANY - 1], true);
    check_root(heap, &in_thread, true);
    check_root(heap, &range[2], true);
    void **pinned = must(loam_alloc_pinned(16)); // of another heap
    check_root(heap, pinned, false);
    loam_free(pinned);
    assert_true(loam_roots_remove(range, 4 * sizeof *range));
    free(range);
    assert_true(loam_heap_destroy(heap));
}

// Asked for, every object of another heap is a root, also a dead one.
static void test_root_heaps(void **state) {
    (void)state;
    struct loam_heap *heap = make_heap(), *from = make_heap();
    assert_true(loam_heap_root(heap, NULL));
    assert_true(loam_heap_root(heap, NULL)); // again: nothing changes
    assert_true(loam_heap_root(heap, from));
    struct loam_heap *froms[] = {NULL, from};
    for (size_t i = 0; i < 2; i++) {
        hold_from(heap, froms[i]);
        assert_true(collect(heap));
        assert_int_equal(count_kept(), MANY);
        variable[0] = NULL; // the holder is dead, and still there
        assert_true(collect(heap));
        // With a collection at every allocation it may be gone.
        assert_true(count_kept() == MANY || effort != 1);
        assert_true(collect(froms[i]));
        assert_true(collect(heap));
        assert_true(few_kept());
    }
    // Not the other way round.
    hold_from(from, heap);
    assert_true(collect(from));
    assert_true(few_kept());
    assert_false(loam_heap_root(heap, heap));
    assert_false(loam_heap_root(NULL, NULL));
    hold_from(NULL, heap);
    assert_true(loam_heap_root(NULL, heap));
    assert_true(collect(NULL));
    assert_int_equal(count_kept(), MANY);
    assert_true(loam_heap_destroy(heap)); // and with it what it kept
    assert_true(collect(NULL));
    assert_true(few_kept());
    assert_true(loam_heap_destroy(from));
    variable[0] = NULL;
}

// --- The end of a heap -----------------------------------------------------

static unsigned warnings;
static char warned[200];

static void note_warning(const char *sentence, void *data) {
    (void)data;
    warnings++;
    strncpy(warned, sentence, sizeof warned - 1);
}

static void check_warned(const char *part) {
    assert_int_equal(warnings, 1);
    assert_non_null(strstr(warned, part));
    warnings = 0;
}

static void test_destroyed(void **state) {
    (void)state;
    struct loam_heap *heap = make_heap(), *other = make_heap();
    assert_true(loam_heap_root(other, heap));
    variable[1] = must(loam_heap_alloc(heap, 100));
    variable[2] = must(loam_heap_alloc(heap, 5 * MIB));
    variable[3] = must(loam_heap_alloc(other, 100));
    uint64_t blocks = look(NULL).block_bytes;
    assert_true(loam_heap_destroy(heap));
    assert_false(loam_is_heap(variable[1]));
    assert_false(loam_is_heap(variable[2]));
    assert_true(is_in(other, variable[3]));
    assert_int_equal(look(NULL).block_bytes, blocks);
    loam_set_warning_hook(note_warning, NULL);
    struct loam_heap *next = make_heap(); // perhaps in its place
    errno = 0;
    assert_null(loam_heap_alloc(heap, 10));
    assert_int_equal(errno, EINVAL);
    check_warned("loam_heap_alloc");
    assert_null(loam_heap_alloc_leaf(heap, 10));
    check_warned("loam_heap_alloc_leaf");
    assert_false(loam_heap_collect(heap));
    check_warned("loam_heap_collect");
    assert_false(loam_heap_destroy(heap));
    check_warned("loam_heap_destroy");
    assert_false(loam_heap_root(heap, other));
    check_warned("loam_heap_root");
    assert_false(loam_heap_root(other, heap));
    check_warned("loam_heap_root");
    struct loam_stats stats = look(heap);
    check_warned("loam_heap_stats");
    for (size_t i = 0; i < sizeof stats; i++) {
        assert_int_equal(((unsigned char *)&stats)[i], 0);
    }
    assert_false(loam_heap_destroy(NULL));
    check_warned("loam_heap_destroy");
    loam_free(variable[1]);
    check_warned("loam_free");
    assert_true(collect(other)); // its root is gone
    assert_true(is_in(other, variable[3]));
    assert_int_equal(warnings, 0);
    loam_set_warning_hook(NULL, NULL);
    assert_true(loam_heap_destroy(next));
    assert_true(loam_heap_destroy(other));
    memset(variable, 0, sizeof variable);
}

// Made and destroyed by the thousand: no handle comes again, and what they took
// is given back each time.
static void test_many(void **state) {
    (void)state;
    enum { COUNT = 1000 };
    static struct loam_heap *heaps[COUNT];
    static uintptr_t last[COUNT];
    size_t count = COUNT / effort, rounds = effort == 1 ? 20 : 3;
    uint64_t metadata_bytes = 0, heap_bytes = 0;
    for (size_t round = 0; round < rounds; round++) {
        for (size_t i = 0; i < count; i++) {
            heaps[i] = make_heap();
            assert_int_not_equal((uintptr_t)heaps[i], last[i]);
            last[i] = (uintptr_t)heaps[i];
            void **p = must(loam_heap_alloc(heaps[i], 16 + i % 200));
            p[0] = must(loam_heap_alloc_leaf(heaps[i], i % 50 * 3000));
            variable[i % MANY] = p;
            assert_true(is_in(heaps[i], p));
        }
        for (size_t i = 0; i < count; i++) {
            size_t at = (i * 617 + round) % count;
            if (at % 50 == 0) {
                assert_true(loam_heap_collect(heaps[at]));
            }
            assert_true(loam_heap_destroy(heaps[at]));
        }
        struct loam_stats stats = look(NULL);
        if (round == 1) {
            metadata_bytes = stats.metadata_bytes;
            heap_bytes = stats.heap_bytes_max;
        }
        // The first rounds may find the pieces that later ones use again.
        assert_true(round <= 1 || stats.metadata_bytes <= metadata_bytes + MIB);
        assert_true(round <= 1 || stats.heap_bytes_max <= heap_bytes + MIB);
    }
    memset(variable, 0, sizeof variable);
}

// --- Its own pace, its own figures -----------------------------------------

static void *volatile sink;

static void test_by_itself(void **state) {
    (void)state;
    struct loam_heap *heap = make_heap();
    uint64_t before = look(NULL).collections;
    for (size_t i = 0; i < 100000 / effort; i++) {
        sink = must(loam_heap_alloc(heap, 1000));
    }
    struct loam_stats stats = look(heap);
    assert_true(stats.collections > 2);
    assert_true(stats.block_bytes < 8 * MIB);
    assert_int_equal(look(NULL).collections, before);
    loam_disable();
    uint64_t count = stats.collections;
    for (size_t i = 0; i < 10000 / effort; i++) {
        sink = must(loam_heap_alloc(heap, 1000));
    }
    assert_int_equal(look(heap).collections, count);
    loam_enable();
    sink = NULL;
    assert_true(loam_heap_destroy(heap));
}

static void test_stats(void **state) {
    (void)state;
    struct loam_heap *heaps[3] = {make_heap(), make_heap(), make_heap()};
    loam_disable();
    uint64_t home = look(NULL).allocated_bytes;
    for (size_t i = 0; i < 3; i++) {
        for (size_t n = 0; n < 100 * (i + 1); n++) {
            void *p = must(loam_heap_alloc(heaps[i], 64));
            if (n % 10 == 0) {
                loam_free(p);
            } else if (n % 10 == 1) {
                variable[n / 10] = p;
            }
        }
        struct loam_stats stats = look(heaps[i]);
        assert_int_equal(stats.allocated_bytes, 6400 * (i + 1));
        assert_int_equal(stats.freed_bytes, 640 * (i + 1));
        assert_int_equal(stats.used_bytes, 5760 * (i + 1));
        assert_int_equal(stats.collected_bytes, 0);
        assert_int_equal(stats.collections, 0);
        assert_true(stats.block_bytes >= stats.used_bytes);
        assert_true(collect(heaps[i]));
        stats = look(heaps[i]);
        assert_int_equal(stats.collections, 1);
        assert_in_range(stats.live_objects, 10 * (i + 1), 10 * (i + 1) + 20);
        assert_int_equal(stats.live_bytes, 64 * stats.live_objects);
        assert_int_equal(stats.used_bytes, stats.live_bytes);
        assert_int_equal(stats.allocated_bytes, stats.used_bytes +
                                                    stats.freed_bytes +
                                                    stats.collected_bytes);
        assert_true(stats.root_bytes != 0 && stats.pause_ns != 0);
    }
    assert_int_equal(look(NULL).allocated_bytes, home);
    assert_int_equal(look(heaps[0]).heap_bytes, look(NULL).heap_bytes);
    loam_enable();
    for (size_t i = 0; i < 3; i++) {
        assert_true(loam_heap_destroy(heaps[i]));
    }
    memset(variable, 0, sizeof variable);
}

// --- Again, with checks ----------------------------------------------------

static void run_again(const char *first, const char *second) {
    static struct child child;
    const char *settings[] = {first, second, NULL};
    child_exec(&child, "again", settings);
    if (child.status != 0) {
        child_show(&child);
    }
    assert_int_equal(child.status, 0);
}

static void test_checked(void **state) {
    (void)state;
    run_again("LOAM_CHECK=all", "LOAM_COLLECT_EVERY=500");
}

static void test_every(void **state) {
    (void)state;
    run_again("LOAM_CHECK=mark", "LOAM_COLLECT_EVERY=7");
}

#define ALL                                                                    \
    cmocka_unit_test(test_alloc), cmocka_unit_test(test_resize),               \
        cmocka_unit_test(test_isolation), cmocka_unit_test(test_roots),        \
        cmocka_unit_test(test_root_heaps), cmocka_unit_test(test_destroyed),   \
        cmocka_unit_test(test_many)

int main(int argc, char **argv) {
    if (child_mode(argc, argv) != NULL) {
        effort = 10;
        const struct CMUnitTest tests[] = {ALL};
        return cmocka_run_group_tests(tests, NULL, NULL);
    }
    const struct CMUnitTest tests[] = {
        ALL,
        cmocka_unit_test(test_dead_elsewhere),
        cmocka_unit_test(test_by_itself),
        cmocka_unit_test(test_stats),
        cmocka_unit_test(test_checked),
        cmocka_unit_test(test_every),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
