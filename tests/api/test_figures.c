// loam_stats: every field is defined, agrees with the others, and grows where
// it counts; programs with an older or newer header are served.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "loam.h"
#include "support/gen.h"
#include "support/scrub.h"

static struct loam_stats look(void) {
    struct loam_stats stats;
    memset(&stats, 0xFF, sizeof stats);
    loam_stats(&stats, sizeof stats);
    return stats;
}

// No field is negative, that is, enormous.
static void check_defined(const struct loam_stats *s) {
    uint64_t fields[sizeof *s / sizeof(uint64_t)];
    memcpy(fields, s, sizeof fields);
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        assert_true(fields[i] <= UINT64_MAX / 2); // S2
    }
}

// What holds at any moment.
static void check_identities(const struct loam_stats *s) {
    check_defined(s);
    assert_true(s->allocated_bytes == // S1
                s->used_bytes + s->freed_bytes + s->collected_bytes);
    assert_true(s->used_bytes <= s->block_bytes);
    assert_true(s->block_bytes <= s->heap_bytes);
    assert_true(s->heap_bytes <= s->heap_bytes_max);
    assert_true(s->live_bytes >= 16 * s->live_objects);
    assert_true(s->pause_ns <= s->pause_ns_max);
    assert_true(s->pause_ns_max <= s->pause_ns_total);
    assert_true(s->mark_ns_total <= s->pause_ns_total);
    assert_true(s->scanned_bytes <= s->live_bytes);
    assert_true(!s->limit_bytes ||
                s->heap_bytes + s->metadata_bytes <= s->limit_bytes);
}

static void check_grown(const struct loam_stats *was,
                        const struct loam_stats *is) {
    assert_true(is->collections >= was->collections); // S2
    assert_true(is->collections_failed >= was->collections_failed);
    assert_true(is->allocated_bytes >= was->allocated_bytes);
    assert_true(is->freed_bytes >= was->freed_bytes);
    assert_true(is->collected_bytes >= was->collected_bytes);
    assert_true(is->heap_bytes_max >= was->heap_bytes_max);
    assert_true(is->pause_ns_max >= was->pause_ns_max);
    assert_true(is->pause_ns_total >= was->pause_ns_total);
    assert_true(is->mark_ns_total >= was->mark_ns_total);
    assert_true(is->overflows >= was->overflows);
}

// Before the first allocation all is zero, or at least defined.
static void test_at_first(void **state) {
    (void)state;
    struct loam_stats s = look();
    check_identities(&s);
    assert_true(s.collections == 0);
    assert_true(s.used_bytes == 0);
    assert_true(s.live_objects == 0);
}

#define COUNT 500
static void *objects[COUNT];

static void test_at_random(void **state) {
    (void)state;
    struct gen g;
    gen_init(&g, gen_seed("figures"));
    struct loam_stats was = look();
    for (size_t step = 0; step < SCALED(100000, 20000); step++) {
        size_t i = gen_below(&g, COUNT);
        size_t chance = gen_below(&g, 100);
        size_t bytes = gen_bytes(&g, chance ? 20000 : 2000000);
        if (chance < 60) {
            objects[i] =
                chance % 2 ? loam_alloc(bytes) : loam_alloc_leaf(bytes);
        } else if (chance < 80) {
            loam_free(objects[i]);
            objects[i] = NULL;
        } else if (chance < 99) {
            objects[i] = loam_realloc(objects[i], bytes);
        } else if (step % 10 == 0) {
            loam_collect();
        }
        struct loam_stats is = look();
        check_identities(&is);
        check_grown(&was, &is);
        was = is;
    }
    memset(objects, 0, sizeof objects);
}

// Each act moves its own figure by what it should.
static void test_each_act(void **state) {
    (void)state;
    loam_disable(); // nothing else moves them
    struct loam_stats was = look();
    char *p = loam_alloc(1000);
    size_t usable = loam_usable_size(p);
    struct loam_stats is = look();
    assert_true(is.allocated_bytes - was.allocated_bytes == usable);
    assert_true(is.used_bytes - was.used_bytes == usable);
    loam_free(p);
    is = look();
    assert_true(is.freed_bytes - was.freed_bytes == usable);
    assert_true(is.used_bytes == was.used_bytes);
    p = loam_alloc(1000000);
    usable = loam_usable_size(p);
    is = look();
    assert_true(is.used_bytes - was.used_bytes == usable);
    p = loam_realloc(p, 3000000);
    is = look();
    assert_true(is.used_bytes - was.used_bytes == loam_usable_size(p));
    loam_free(p);
    is = look();
    assert_true(is.used_bytes == was.used_bytes);
    loam_enable();
}

NOT_INLINED static uint64_t waste(size_t count, size_t bytes) {
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += loam_usable_size(loam_alloc(bytes));
    }
    return sum;
}

static void test_collected(void **state) {
    (void)state;
    static const size_t sizes[] = {16, 48, 1000, 9000, 70000, 400000};
    scrub_collect();
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        loam_disable();
        struct loam_stats was = look();
        uint64_t sum = waste(200, sizes[i]);
        loam_enable();
        scrub_collect();
        struct loam_stats is = look();
        assert_true(is.collected_bytes - was.collected_bytes >= sum / 100 * 85);
        assert_true(is.live_bytes == is.used_bytes);
        assert_true(is.collections == was.collections + 1);
        assert_true(is.root_bytes > 1000);
        check_identities(&is);
    }
}

static void *kept;

static void test_live(void **state) {
    (void)state;
    scrub_collect();
    struct loam_stats was = look();
    void **list = NULL;
    for (size_t i = 0; i < 1000; i++) {
        void **link = loam_alloc(32);
        link[0] = list;
        list = link;
    }
    kept = list;
    list = NULL;
    scrub_collect();
    struct loam_stats is = look();
    assert_true(is.live_objects + 20 >= was.live_objects + 1000);
    assert_true(is.live_objects <= was.live_objects + 1020);
    assert_true(is.live_bytes + 20 * 32 >= was.live_bytes + 32000);
    assert_true(is.scanned_bytes >= 32000);
    kept = loam_alloc_leaf(5000000); // a leaf is not scanned
    scrub_collect();
    is = look();
    assert_true(is.live_bytes >= 5000000);
    assert_true(is.scanned_bytes < 5000000);
    kept = NULL;
}

// An older program passes less, and no byte beyond is touched; a newer one
// passes more, and finds zero there.
static void test_versions(void **state) {
    (void)state;
    struct {
        struct loam_stats stats;
        uint64_t later[8];
    } room;
    struct loam_stats whole = look();
    for (size_t bytes = 0; bytes <= sizeof room; bytes += 8) {
        memset(&room, 0xEE, sizeof room);
        loam_stats(&room.stats, bytes);
        const unsigned char *at = (const unsigned char *)&room;
        size_t known = bytes < sizeof whole ? bytes : sizeof whole;
        assert_memory_equal(at, &whole, known);
        for (size_t i = known; i < bytes; i++) {
            assert_int_equal(at[i], 0);
        }
        for (size_t i = bytes; i < sizeof room; i++) {
            assert_int_equal(at[i], 0xEE);
        }
    }
}

static void test_metadata_is_small(void **state) {
    (void)state;
    for (size_t i = 0; i < 2000; i++) {
        void **p = loam_alloc(i % 2 ? 30000 : 500);
        p[0] = kept;
        kept = p;
    }
    struct loam_stats s = look();
    assert_true(s.metadata_bytes > 0);
    assert_true(s.next_bytes > 0);
    kept = NULL;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_at_first),
        cmocka_unit_test(test_at_random),
        cmocka_unit_test(test_each_act),
        cmocka_unit_test(test_collected),
        cmocka_unit_test(test_live),
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_metadata_is_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
