// Cells of many words freed in random order, together and alone, against the
// allocation bits; of blocks that are another's; blocks that become empty.

#include "rc/gather.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "heap/counted.h"
#include "support/folk.h"
#include "support/gen.h"

#define OBJECTS ((size_t)(LOAM_TINY ? 300 : 20000))

static struct ground ground;
static struct count_domain domain;
static const struct kinds_type *types[2];
static void *objects[OBJECTS];
static size_t slow_count, back_count;
static bool all_slow;

static struct cache *find(void *mutator, uint32_t block) {
    return all_slow ? NULL : folk_find(mutator, block);
}

static void free_slowly(void *mutator, void *object) {
    assert_int_equal(domain.gather.pending, 0); // GA2
    assert_int_equal(domain.gather.empty_count, 0);
    slow_count++;
    folk_free_slowly(mutator, object);
    *counted_of(object) = (struct counted){0, 0};
}

static void give_back(void *mutator, uint32_t block) {
    assert_int_equal(domain.gather.pending, 0); // GA2
    back_count++;
    folk_give_back(mutator, block);
}

static void make_all(struct gen *gen) {
    for (size_t i = 0; i < OBJECTS; i++) {
        objects[i] = folk_make(&ground, &domain, types[gen_below(gen, 2)]);
    }
}

static bool is_allocated(const void *object) {
    struct place place;
    return blockmap_object((uintptr_t)counted_of(object), &place) != NULL;
}

// GA1: what is gathered has no type, and its bit at the latest until settled.
static void free_some(struct gen *gen, size_t count) {
    for (size_t i = 0; i < count; i++) {
        size_t chosen = i + gen_below(gen, OBJECTS - i);
        void *object = objects[chosen];
        objects[chosen] = objects[i];
        objects[i] = object;
        gather_cell(&domain.gather, object);
        assert_int_equal(counted_type(object), 0);
        for (size_t at = 0; at < GATHER_WORDS; at++) { // GA3
            const struct gather_word *word = &domain.gather.words[at];
            if (word->reach_bytes != 0) {
                assert_int_equal(block_owner(word->block), ground.mutator->id);
                assert_ptr_equal(word->cache,
                                 folk_find(ground.mutator, word->block));
            }
        }
    }
    gather_settle(&domain.gather);
    assert_int_equal(domain.gather.pending, 0);
}

static void test_random(void **state) {
    (void)state;
    struct gen gen;
    gen_init(&gen, gen_seed("gather"));
    for (size_t round = 0; round < 5; round++) {
        all_slow = false;
        make_all(&gen);
        size_t count = gen_below(&gen, OBJECTS);
        free_some(&gen, count);
        for (size_t i = count; i < OBJECTS; i++) {
            assert_true(is_allocated(objects[i]));
            assert_int_not_equal(counted_type(objects[i]), 0);
        }
        free_some(&gen, 0);
        ground_clear(&ground);
    }
}

static void test_freed(void **state) {
    (void)state;
    struct gen gen;
    gen_init(&gen, gen_seed("gather_freed"));
    make_all(&gen);
    size_t before = folk_freed_bytes(&domain), bytes = 0;
    for (size_t i = 0; i < OBJECTS; i++) {
        bytes += ground_place(counted_of(objects[i])).bytes;
        gather_cell(&domain.gather, objects[i]);
    }
    back_count = 0;
    assert_int_equal(folk_freed_bytes(&domain) - before, bytes);
    assert_true(LOAM_TINY || back_count > 0); // blocks went back
    ground_clear(&ground);
}

// GA1, and its bit goes at once; a block that is empty goes with the rest.
static void test_alone(void **state) {
    (void)state;
    struct gen gen;
    gen_init(&gen, gen_seed("gather_alone"));
    make_all(&gen);
    size_t before = folk_freed_bytes(&domain), bytes = 0;
    slow_count = back_count = 0;
    for (size_t i = 0; i < OBJECTS; i++) {
        all_slow = gen_chance(&gen, 5);
        size_t slow = slow_count;
        size_t cell_bytes = ground_place(counted_of(objects[i])).bytes;
        gather_alone(&domain.gather, objects[i]);
        bytes += slow == slow_count ? cell_bytes : 0;
        assert_int_equal(counted_type(objects[i]), 0);
        assert_int_equal(domain.gather.pending, 0);
        if (gen_chance(&gen, 50)) {
            gather_settle(&domain.gather);
            assert_int_equal(domain.gather.empty_count, 0);
        }
    }
    all_slow = false;
    assert_int_equal(folk_freed_bytes(&domain) - before, bytes);
    assert_true(slow_count > 0 && (LOAM_TINY || back_count > 0));
    ground_clear(&ground);
}

static void test_slow(void **state) {
    (void)state;
    struct gen gen;
    gen_init(&gen, gen_seed("gather_slow"));
    make_all(&gen);
    slow_count = 0;
    for (size_t i = 0; i < OBJECTS; i++) {
        all_slow = gen_chance(&gen, 5);
        gather_cell(&domain.gather, objects[i]);
    }
    all_slow = false;
    gather_settle(&domain.gather);
    assert_true(slow_count > 0);
    for (size_t i = 0; i < OBJECTS; i++) {
        struct place place;
        if (blockmap_find((uintptr_t)objects[i], &place)) {
            assert_false(block_is_allocated(place.block, place.cell) &&
                         counted_type(objects[i]) != 0);
        }
    }
    ground_clear(&ground);
}

// Large cells, the last of a block between the first of the next: GA5.
static void test_large(void **state) {
    (void)state;
    struct kinds_type large = *types[0];
    large.bytes = 600;
    const struct kinds_type *type = kinds_add(&large);
    assert_non_null(type);
    struct gen gen;
    gen_init(&gen, gen_seed("gather_large"));
    const size_t count = LOAM_TINY ? OBJECTS : 4000;
    for (size_t i = 0; i < count; i++) {
        objects[i] = folk_make(&ground, &domain, type);
    }
    for (size_t i = 0; i < count; i++) { // not far from where they lie
        size_t other = i + gen_below(&gen, count - i < 200 ? count - i : 200);
        void *object = objects[other];
        objects[other] = objects[i];
        objects[i] = object;
        gather_cell(&domain.gather, object);
        if (i + 1 < count) {
            assert_true(is_allocated(objects[i + 1]));
        }
    }
    gather_settle(&domain.gather);
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        used += is_allocated(objects[i]);
    }
    assert_int_equal(used, 0);
    ground_clear(&ground);
}

// A weak reference is made in another thread, with a word of the block kept.
static void test_watched(void **state) {
    (void)state;
    void *first = folk_make(&ground, &domain, types[1]);
    void *second = folk_make(&ground, &domain, types[1]);
    uint32_t block = ground_place(counted_of(second)).block;
    assert_int_equal(ground_place(counted_of(first)).block, block);
    slow_count = 0;
    gather_cell_of_many(&domain.gather, first);
    assert_int_equal(slow_count, 0);
    assert_int_not_equal(domain.gather.pending, 0);
    block_set_flags(block, BLOCK_WATCHED);
    gather_cell_of_many(&domain.gather, second);
    assert_int_equal(slow_count, 1); // GA4
    assert_false(is_allocated(first));
    block_clear_flags(block, BLOCK_WATCHED);
    gather_settle(&domain.gather);
    ground_clear(&ground);
}

static int set_up(void **state) {
    (void)state;
    static const struct gather_doors doors = {find, free_slowly, give_back};
    if (!ground_init(&ground, 64 * MiB)) {
        return -1;
    }
    folk_domain(&domain, &ground);
    domain.gather.doors = &doors;
    types[0] = folk_type(0, NULL, NULL);
    types[1] = folk_type(KINDS_SHARED, NULL, NULL);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random), cmocka_unit_test(test_freed),
        cmocka_unit_test(test_alone),  cmocka_unit_test(test_slow),
        cmocka_unit_test(test_large),  cmocka_unit_test(test_watched)};
    return cmocka_run_group_tests(tests, set_up, NULL);
}
