// Every call of the system refused once under each way to get memory: a no, and
// all that was there before.

#include "heap/heap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "heap/layout.h"
#include "support/fault.h"

static struct heap heap;

static int make_heap(void **state) {
    (void)state;
    return heap_init(&heap, NULL) && range_init(256 * MiB) ? 0 : -1;
}

static void count_block(uint32_t block, void *data) {
    size_t *count = data;
    assert_true(block_check(block));
    *count += block_span(block);
}

static void check(const struct heap *before, bool refused) {
    size_t count = 0;
    heap_each_block(count_block, &count);
    assert_int_equal(count, heap.region.used_blocks);
    assert_true(region_check(&heap.region));
    if (refused) {
        assert_memory_equal(before, &heap, sizeof heap);
    }
}

// Small blocks, spans and runs, until each was got once without a refusal.
static void test_blocks(void **state) {
    (void)state;
    for (unsigned what = 0; what < 3; what++) {
        for (size_t n = 1;; n++) {
            struct heap before = heap;
            bool zero;
            fault_arm(n);
            bool got =
                what == 2
                    ? heap_make_run(&heap, KIND_LEAF, 3 * MiB, 1, &zero) != NULL
                    : heap_make_block(
                          &heap,
                          (struct order){KIND_SCANNED, what == 0 ? 3 : 75, 0},
                          1) != BLOCK_NONE;
            fault_disarm();
            bool refused = fault_hits() >= n;
            assert_true(got || refused);
            check(&before, !got);
            if (got && n > 4) {
                break;
            }
        }
    }
}

static void test_described(void **state) {
    (void)state;
    size_t offset = 0;
    size_t refusals = 0;
    for (unsigned i = 1; i < 400; i++) {
        const struct layout *layout = layout_make(8 * i, &offset, 1);
        assert_non_null(layout);
        struct order order = {KIND_DESCRIBED, 5, layout->id};
        struct heap before = heap;
        fault_arm_from(1);
        bool added = heap_add_described(&heap, order);
        fault_disarm();
        if (!added) {
            refusals++;
            assert_memory_equal(&before, &heap, sizeof heap);
            assert_null(heap_find_shelf(&heap, order));
            assert_true(heap_add_described(&heap, order));
        }
        assert_non_null(heap_find_shelf(&heap, order));
    }
    assert_int_not_equal(refusals, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_described),
    };
    return cmocka_run_group_tests(tests, make_heap, NULL);
}
