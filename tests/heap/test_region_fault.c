// Blocks from a range that lies where the system put it, and from a system
// that refuses.

#include "heap/range.h"
#include "heap/region.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "support/child.h"
#include "support/fault.h"

static struct region region;

static int make_range(void **state) {
    (void)state;
    region_init(&region);
    return range_init(64 * MiB) ? 0 : -1;
}

// Every count at every alignment, in a range that was refused its wished
// address by call n: then it begins at a multiple of 2 MiB and of no more.
static int child_aligned(void *data) {
    fault_arm(*(const size_t *)data);
    bool made = range_init(64 * MiB);
    fault_disarm();
    region_init(&region);
    for (size_t alignment = 1; made && alignment <= 512; alignment *= 2) {
        for (size_t count = 1; count <= 33; count += 16) {
            bool zero;
            uint32_t block = region_take(&region, count, alignment, &zero);
            if (block == BLOCK_NONE && alignment < 256) {
                return 1; // only the largest may lie outside the range
            }
            if (block == BLOCK_NONE) {
                continue;
            }
            if (range_block_address(block) % (alignment * BLOCK_BYTES) != 0 ||
                !region_check(&region)) { // N1, N4
                return 2;
            }
            region_give(&region, block, count);
        }
    }
    return made ? 0 : 3;
}

static void test_alignment(void **state) {
    (void)state;
    for (size_t n = 1; n <= 6; n++) {
        struct child child;
        child_fork(&child, child_aligned, &n);
        assert_int_equal(child.status, 0);
    }
}

static void test_grow(void **state) {
    (void)state;
    for (size_t n = 1;; n++) {
        struct region before = region;
        size_t frontier_bytes = range.frontier_bytes;
        size_t count = frontier_bytes / BLOCK_BYTES + 1; // fits nowhere yet
        bool zero;
        fault_arm(n);
        uint32_t block = region_take(&region, count, 1, &zero);
        fault_disarm();
        bool refused = fault_hits() >= n;
        assert_true(region_check(&region));
        if (refused) {
            assert_int_equal(block, BLOCK_NONE);
            assert_memory_equal(&before, &region, sizeof region); // N6
            assert_int_equal(range.frontier_bytes, frontier_bytes);
            continue;
        }
        assert_int_not_equal(block, BLOCK_NONE);
        region_give(&region, block, count);
        return;
    }
}

// A chunk that the system does not take back is not counted as dropped, and
// what lies in it is not taken for zero.
static void test_trim(void **state) {
    (void)state;
    bool zero;
    uint32_t block = region_take(&region, 64, 32, &zero);
    assert_int_not_equal(block, BLOCK_NONE);
    memset((void *)range_block_address(block), 0xA5, 64 * BLOCK_BYTES);
    region_give(&region, block, 64);
    size_t committed_bytes = region.committed_bytes;
    fault_arm_from(1);
    assert_int_equal(region_trim(&region, true), 0);
    fault_disarm();
    assert_int_equal(region.committed_bytes, committed_bytes); // N4
    assert_int_equal(region_take(&region, 64, 32, &zero), block);
    assert_false(zero); // N3
    region_give(&region, block, 64);
    assert_true(region_trim(&region, true) >= 2 * CHUNK_BYTES);
    assert_int_equal(region_take(&region, 64, 32, &zero), block);
    assert_true(zero);
    region_give(&region, block, 64);
}

int main(void) {
    // First what wants a process without a range.
    const struct CMUnitTest first[] = {cmocka_unit_test(test_alignment)};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grow),
        cmocka_unit_test(test_trim),
    };
    int failed = cmocka_run_group_tests_name("alignment", first, NULL, NULL);
    return failed + cmocka_run_group_tests(tests, make_range, NULL);
}
