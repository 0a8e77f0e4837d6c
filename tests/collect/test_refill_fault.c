// The ladder where the system says no: at the first call, the second, ... and
// at all of them.  What was made stays, what can be served is, and when the
// system gives again so does the ladder.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "collect/refill.h"
#include "collect/verify.h"
#include "os/stack.h"
#include "support/fault.h"
#include "support/gen.h"
#include "support/ground.h"
#include "support/stage.h"

static struct ground ground;
static struct conductor conductor;
static struct collector collector;
static struct stage stage = {&ground, &conductor, &collector};

struct node {
    struct node *next;
    size_t bytes;
    uint64_t stamp[];
};

static struct node *list; // a segment is a root
static size_t list_count;
static size_t refusals;
static struct gen gen;

static void *make(size_t bytes, unsigned kind) {
    if (bytes > CELL_BYTES_MAX) {
        struct order order = {.kind = kind};
        return stage_run(&stage, order, bytes, 1);
    }
    struct order order = {kind, sizeclass_of(bytes), 0};
    struct cache *cache = stage_cache(&stage, order);
    void *cell = cache_take(cache);
    return cell != NULL ? cell : stage_cell(&stage, cache);
}

// Puts `count` objects more on the list, as far as they are served.
static void build(size_t count) {
    for (size_t i = 0; i < count; i++) {
        size_t bytes = 32 + gen_bytes(&gen, i % 64 == 0 ? MiB : 2000);
        struct node *node = make(bytes, KIND_SCANNED);
        if (node == NULL) {
            refusals++;
            continue;
        }
        assert_int_equal(node->bytes, 0); // Y3
        node->bytes = bytes;
        for (size_t at = 0; at < (bytes - 32) / 8; at++) {
            node->stamp[at] = gen_mix(bytes, at);
        }
        node->next = list;
        list = node;
        list_count++;
    }
}

static void check_list(void) {
    size_t count = 0;
    for (const struct node *node = list; node != NULL; node = node->next) {
        for (size_t at = 0; at < (node->bytes - 32) / 8; at++) {
            assert_int_equal(node->stamp[at], gen_mix(node->bytes, at));
        }
        count++;
    }
    assert_int_equal(count, list_count);
    ground_fold(&ground);
    verify_heap(&ground.heap);
}

// One call refused, whichever it is: each round needs fresh memory from the
// system, so that the first calls of many growths are reached.
static void test_each(void **state) {
    (void)state;
    size_t reached = 0;
    for (size_t round = 0; round < 24; round++) {
        size_t n = 1 + round % 4;
        fault_arm(n);
        build(LOAM_TINY ? 600 : 3000);
        bool collected = stage_cycle(&stage, COLLECT_ASKED);
        collect_trim(&collector);
        fault_disarm();
        reached += fault_hits() >= n;
        assert_true(collected); // a cycle needs nothing of the system
        check_list();
        build(50);
        check_list();
    }
    print_message("%zu calls were refused, %zu objects not made\n", reached,
                  refusals);
    assert_in_range(reached, 1, 24);
    // A refusal is tried again on another rung, mostly with success.
    assert_true(refusals <= reached);
}

// --- Memory that was in use ------------------------------------------------

static bool is_zero(const unsigned char *at, size_t bytes) {
    return at[0] == 0 && memcmp(at, at + 1, bytes - 1) == 0;
}

static void free_pinned(const struct place *place) {
    struct order order = {KIND_PINNED, ENTRY_CLASS(block_entry(place->block)),
                          0};
    if (order.cls > CLASS_LAST) {
        heap_free_run(&ground.heap, place->block);
        return;
    }
    uint32_t empty = cache_free(stage_cache(&stage, order), place);
    if (empty != BLOCK_NONE) {
        heap_release_block(&ground.heap, empty);
    }
}

// Y3: whatever was in a cell, a block or a run, each kind that is zero is.
static void test_zeroed(void **state) {
    (void)state;
    static const unsigned kinds[] = {KIND_SCANNED, KIND_BASE_ONLY, KIND_PINNED};
    static const size_t sizes[] = {16, 176, 5000, 40000, 300 * KiB, 3 * MiB};
    for (size_t i = 0; i < 4 * 18 * 20; i++) {
        unsigned kind = kinds[i / 20 % 3];
        unsigned char *p = make(sizes[i / 60 % 6], kind);
        struct place place;
        assert_non_null(blockmap_object((uintptr_t)p, &place));
        assert_int_equal(place.kind, kind);
        assert_true(is_zero(p, place.bytes)); // Y3
        memset(p, 0xA5, place.bytes);
        if (kind == KIND_PINNED) {
            free_pinned(&place);
        }
        if (i % 360 == 359) {
            assert_true(stage_cycle(&stage, COLLECT_ASKED));
        }
    }
}

// --- Refused ---------------------------------------------------------------

static size_t hook_calls;

static bool hook(size_t bytes) {
    assert_true(bytes > 0);
    hook_calls++;
    return false;
}

// Every call refused: NULL at last, after a cycle and the hook; all the room
// there was is used first.
static void test_all(void **state) {
    (void)state;
    list = NULL;
    list_count = 0;
    build(100);
    conductor.shortage = hook;
    fault_arm_from(1);
    uint64_t cycles = collector.figures.cycles;
    refusals = 0;
    while (refusals == 0) {
        build(10);
    }
    assert_int_equal(hook_calls, refusals); // Y1
    assert_true(collector.figures.cycles > cycles);
    cycles = collector.figures.cycles;
    struct order order = {.kind = KIND_LEAF};
    assert_null(stage_run(&stage, order, 512 * MiB, 1));
    assert_int_equal(collector.figures.cycles, cycles + 1); // Y1, Y2
    fault_disarm();
    check_list();
    assert_non_null(stage_run(&stage, order, 100 * MiB, 1));
    refusals = 0;
    build(1000);
    assert_int_equal(refusals, 0);
    check_list();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_zeroed),
        cmocka_unit_test(test_each),
        cmocka_unit_test(test_all),
    };
    gen_init(&gen, gen_seed("refused"));
    const void *cold_end = stack_cold_end();
    if (cold_end == NULL || !stage_init(&stage, 4 * GiB)) {
        return 77; // no memory for it here
    }
    ground.mutator->cold_end = cold_end;
    pacer_init(&collector.pacer, 4 * MiB, 100);
    conductor.check_verify = true;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
