// loam_set_limit and the shortage hook: the limit is honoured, shortage is
// NULL and ENOMEM, and after it life goes on.
//
// seconds: 240

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "loam.h"
#include "support/gen.h"
#include "support/scrub.h"

#define MIB ((size_t)1 << 20)

struct link {
    struct link *next;
    size_t bytes;
};

static struct link *chain;

static uint64_t committed(void) {
    struct loam_stats stats;
    loam_stats(&stats, sizeof stats);
    return stats.heap_bytes + stats.metadata_bytes;
}

// At most `limit`: said with figures where not.
static void check_committed(size_t limit) {
    uint64_t bytes = committed();
    if (bytes > limit) {
        fail_msg("%llu bytes committed, limit %zu", (unsigned long long)bytes,
                 limit);
    }
}

static int lift(void **state) {
    (void)state;
    chain = NULL;
    loam_set_shortage_hook(NULL, NULL);
    scrub_collect();
    assert_true(loam_set_limit(0));
    return 0;
}

// Links objects of `bytes` until there are no more; how many there were.
NOT_INLINED static size_t fill(size_t bytes, size_t limit) {
    size_t count = 0;
    for (;;) {
        errno = 0;
        struct link *link = loam_alloc(bytes);
        if (!link) {
            break;
        }
        check_committed(limit ? limit : SIZE_MAX);
        link->next = chain;
        link->bytes = bytes;
        memset(link + 1, 0x55, bytes - sizeof *link);
        chain = link;
        count++;
        assert_true(count < 100 * MIB);
    }
    assert_int_equal(errno, ENOMEM);
    return count;
}

static void check_chain(void) {
    for (const struct link *link = chain; link; link = link->next) {
        const char *bytes = (const char *)(link + 1);
        for (size_t i = 0; i < link->bytes - sizeof *link; i++) {
            assert_int_equal(bytes[i], 0x55);
        }
    }
}

static const size_t sizes[] = {32, 200, 1000, 5000, 20000, 100000, 1000000};
#define SIZES (sizeof sizes / sizeof sizes[0])

static void test_is_honoured(void **state) {
    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        size_t limit = 16 * MIB;
        assert_true(loam_set_limit(limit));
        struct loam_stats stats;
        loam_stats(&stats, sizeof stats);
        assert_true(stats.limit_bytes == limit);
        size_t count = fill(sizes[i], limit);
        assert_true(count * sizes[i] > 4 * MIB); // a fair use of it
        check_chain();
        // The program lets go: the next allocation finds room by itself.
        chain = NULL;
        scrub_stack();
        void *p = loam_alloc(sizes[i]);
        assert_non_null(p);
        count = fill(sizes[i], limit);
        assert_true(count * sizes[i] > 4 * MIB);
        check_chain();
        lift(NULL);
        (void)!loam_alloc(sizes[i]);
    }
}

// In a frame of its own, as all that holds links: a forgotten one in a frame
// that is still there would keep the whole chain.
NOT_INLINED static void replace_one(size_t bytes) {
    assert_null(loam_alloc(bytes));
    struct link *next = chain->next;
    loam_free(chain);
    chain = loam_alloc(bytes);
    assert_non_null(chain);
    chain->next = next;
}

// Freeing by hand makes room too.
static void test_free_makes_room(void **state) {
    (void)state;
    assert_true(loam_set_limit(12 * MIB));
    for (size_t i = 0; i < SIZES; i++) {
        fill(sizes[i], 12 * MIB);
        for (size_t round = 0; round < 10; round++) {
            replace_one(sizes[i]);
        }
        chain = NULL;
        scrub_collect();
    }
}

static void test_below_use(void **state) {
    (void)state;
    assert_true(loam_set_limit(64 * MIB));
    fill(1000, 64 * MIB);
    assert_false(loam_set_limit(8 * MIB)); // all of it is alive
    assert_null(loam_alloc(100000));       // refuses to grow
    check_chain();
    chain = NULL;
    scrub_stack();
    assert_true(loam_set_limit(8 * MIB)); // collects, gives memory back
    check_committed(8 * MIB);
    assert_true(fill(1000, 8 * MIB) > 1000);
}

// Limits that no heap can keep: said, and survived.
static void test_absurd_limits(void **state) {
    (void)state;
    assert_true(loam_set_limit(16 * MIB));
    fill(1000, 16 * MIB);
    for (size_t limit = 1; limit < MIB; limit *= 16) {
        assert_false(loam_set_limit(limit));
        assert_null(loam_alloc(5 * MIB));
        assert_null(loam_alloc_pinned(300000));
        check_chain();
    }
    assert_true(loam_set_limit(SIZE_MAX));
    assert_non_null(loam_alloc(5 * MIB));
    check_chain();
}

// At the limit, and no collection allowed: NULL.
static void test_disabled(void **state) {
    (void)state;
    assert_true(loam_set_limit(16 * MIB));
    loam_disable();
    struct loam_stats before;
    struct loam_stats after;
    loam_stats(&before, sizeof before);
    size_t count = 0;
    while (loam_alloc(1000)) { // garbage all of it
        count++;
        assert_true(count < 100000);
    }
    assert_int_equal(errno, ENOMEM);
    loam_stats(&after, sizeof after);
    assert_true(before.collections == after.collections);
    loam_enable();
    assert_non_null(loam_alloc(1000));
    loam_stats(&after, sizeof after);
    assert_true(after.collections > before.collections);
}

struct shortage {
    size_t calls;
    size_t bytes; // of the last
    enum { REFUSE, DROP, FREE, RAISE } act;
};

static bool help(size_t bytes, void *data) {
    struct shortage *shortage = data;
    shortage->calls++;
    shortage->bytes = bytes;
    switch (shortage->act) {
    case DROP:
        // Link by link: fill may still hold the first one itself.
        while (chain) {
            struct link *next = chain->next;
            chain->next = NULL;
            chain = next;
        }
        scrub_stack();
        return shortage->calls < 10;
    case FREE: {
        struct link *next = chain->next;
        loam_free(chain);
        chain = next;
        return true;
    }
    case RAISE:
        return loam_set_limit(0);
    case REFUSE:
    default:
        return false;
    }
}

static void test_hook(void **state) {
    (void)state;
    struct shortage shortage = {.act = REFUSE};
    assert_true(loam_set_limit(16 * MIB));
    loam_set_shortage_hook(help, &shortage);
    fill(2000, 16 * MIB);
    assert_int_equal(shortage.calls, 1);
    // What is missing, in whole cells.
    assert_in_range(shortage.bytes, 2000, 2250);
    assert_null(loam_alloc_leaf(3000));
    assert_int_equal(shortage.calls, 2);
    assert_in_range(shortage.bytes, 3000, 3375);
    shortage.act = FREE;
    assert_non_null(loam_alloc(2000));
    assert_int_equal(shortage.calls, 3);
    shortage.act = DROP;
    shortage.calls = 0;
    // A dropped chain makes room for the next, nine times.
    assert_true(fill(2000, 16 * MIB) * 2000 > 9 * 8 * MIB);
    assert_int_equal(shortage.calls, 10);
}

static void test_hook_raises(void **state) {
    (void)state;
    struct shortage shortage = {.act = REFUSE};
    assert_true(loam_set_limit(16 * MIB));
    fill(5000, 16 * MIB);
    loam_set_shortage_hook(help, &shortage);
    shortage.act = RAISE;
    assert_non_null(loam_alloc(5000));
    assert_true(shortage.calls >= 1);
    assert_non_null(loam_alloc(20 * MIB));
}

// A hook that allocates and collects itself, and meets the shortage it is there
// for, is not called from within itself.
struct busy {
    size_t calls, depth, deepest;
};

static bool help_busily(size_t bytes, void *data) {
    struct busy *busy = data;
    busy->calls++;
    busy->depth++;
    busy->deepest = busy->depth > busy->deepest ? busy->depth : busy->deepest;
    (void)!loam_alloc(bytes);
    (void)loam_collect();
    struct link *next = chain ? chain->next : NULL;
    loam_free(chain);
    chain = next;
    (void)!loam_alloc_leaf(16);
    busy->depth--;
    return busy->calls < 50;
}

static void test_busy_hook(void **state) {
    (void)state;
    struct busy busy = {0};
    assert_true(loam_set_limit(12 * MIB));
    loam_set_shortage_hook(help_busily, &busy);
    fill(5000, 12 * MIB);
    assert_int_equal(busy.calls, 50);
    assert_int_equal(busy.deepest, 1);
    check_chain();
}

// The hook is not asked in vain: absurd sizes fail without it or with it.
static void test_hook_and_absurd(void **state) {
    (void)state;
    struct shortage shortage = {.act = REFUSE};
    const volatile size_t absurd = SIZE_MAX - 100;
    loam_set_shortage_hook(help, &shortage);
    errno = 0;
    assert_null(loam_alloc(absurd));
    assert_int_equal(errno, ENOMEM);
    assert_true(shortage.calls <= 1);
}

// Everything that allocates fails softly, and realloc leaves its object.
static void test_all_fail_softly(void **state) {
    (void)state;
    assert_true(loam_set_limit(12 * MIB));
    fill(16 * 1024, 0);
    fill(1024, 0);
    fill(64, 0);
    size_t much = 13 * MIB;
    errno = 0;
    assert_null(loam_calloc(13, MIB));
    assert_null(loam_alloc_leaf(much));
    assert_null(loam_alloc_pinned(much));
    assert_null(loam_alloc_leaf_pinned(much));
    assert_null(loam_alloc_base_only(much));
    assert_null(loam_alloc_aligned(4096, much));
    assert_int_equal(errno, ENOMEM);
    size_t usable = loam_usable_size(chain);
    assert_null(loam_realloc(chain, much));
    assert_int_equal(loam_usable_size(chain), usable);
    check_chain();
}

// One object of each size in each kind, all garbage at once: caches of classes
// that are not used any more must not hold on to the memory.
NOT_INLINED static void touch_all_classes(void) {
    for (size_t bytes = 16; bytes < 300000; bytes += 16 + bytes / 16) {
        (void)!loam_alloc(bytes);
        (void)!loam_alloc_leaf(bytes);
        (void)!loam_alloc_base_only(bytes);
    }
}

static void test_all_classes(void **state) {
    (void)state;
    assert_true(loam_set_limit(24 * MIB));
    touch_all_classes();
    scrub_stack();
    size_t count = fill(2000, 24 * MIB);
    assert_true(count * 2000 > 16 * MIB);
    check_chain();
}

// Links objects of random sizes until the limit has refused 20.
NOT_INLINED static void fill_randomly(struct gen *g, size_t limit) {
    size_t refused = 0;
    for (size_t step = 0; refused < 20; step++) {
        size_t bytes = 16 + gen_bytes(g, 2 * MIB);
        struct link *link = loam_alloc(bytes);
        refused += !link;
        assert_true(step < 1000000);
        if (link) {
            check_committed(limit);
            link->next = chain;
            link->bytes = bytes;
            memset(link + 1, 0x55, bytes - sizeof *link);
            chain = link;
        }
    }
}

// A random program with a limit that comes and goes.
static void test_random_sizes(void **state) {
    (void)state;
    struct gen g;
    gen_init(&g, gen_seed("limit"));
    for (size_t round = 0; round < 8; round++) {
        size_t limit = (10 + gen_below(&g, 20)) * MIB;
        chain = NULL;
        scrub_stack();
        assert_true(loam_set_limit(limit));
        fill_randomly(&g, limit);
        check_chain();
    }
}

#define LIMITED(test) cmocka_unit_test_setup_teardown(test, lift, lift)

int main(void) {
    const struct CMUnitTest tests[] = {
        LIMITED(test_is_honoured),     LIMITED(test_free_makes_room),
        LIMITED(test_below_use),       LIMITED(test_absurd_limits),
        LIMITED(test_disabled),        LIMITED(test_hook),
        LIMITED(test_hook_raises),     LIMITED(test_busy_hook),
        LIMITED(test_hook_and_absurd), LIMITED(test_all_fail_softly),
        LIMITED(test_random_sizes),    LIMITED(test_all_classes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
