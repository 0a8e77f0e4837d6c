// The range of this process, and in children those of processes that may not
// have as much as they ask for.

#include "heap/range.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "heap/block.h"
#include "support/child.h"

#define RANGE_BYTES (32 * MiB)

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1 // takes more address space than the limits below
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

static int make_range(void **state) {
    (void)state;
    return range_init(RANGE_BYTES) ? 0 : -1;
}

// Every table has a zeroed, writable entry for `block` (R2).
static bool is_covered(size_t block) {
    static const struct block fresh;
    bool zero =
        range.entries[block] == 0 && range.distances[block] == 0 &&
        range.chunks[block / CHUNK_BLOCKS] == 0 &&
        memcmp(&range.blocks[block], &fresh, sizeof fresh) == 0 &&
        ((range.taken[block / 64] | range.dirty[block / 64]) >> block % 64 &
         1) == 0;
    for (size_t i = 0; i < BITS_WORDS_PER_BLOCK; i++) {
        zero = zero && range.bits[block * BITS_WORDS_PER_BLOCK + i] == 0;
        range.bits[block * BITS_WORDS_PER_BLOCK + i] = 0;
    }
    range.entries[block] = 0;
    range.distances[block] = 0;
    range.blocks[block] = fresh;
    return zero;
}

static void test_reserve(void **state) {
    (void)state;
    assert_int_equal(range.base % CHUNK_BYTES, 0); // R1
    assert_int_equal(range.bytes, RANGE_BYTES);
    assert_int_equal(range.frontier_bytes, 0);
    assert_int_equal(range_block_count(), 0);
    assert_false(range_has(range.base));
    assert_false(range_has(0));
    if (!SANITIZED) {
        // A control character above five bytes of address, then two zeros.
        assert_in_range(range.base >> 40, 0x11, 0x15);
    }
}

static void test_extend(void **state) {
    (void)state;
    size_t frontier_bytes = 0;
    for (size_t blocks = 1;
         frontier_bytes + blocks * BLOCK_BYTES <= RANGE_BYTES; blocks++) {
        size_t promised_bytes = range_extend_bytes(blocks);
        size_t table_bytes = range.table_bytes;
        assert_true(range_extend(blocks));
        frontier_bytes += blocks * BLOCK_BYTES;
        assert_int_equal(range.frontier_bytes, frontier_bytes);  // R3
        assert_int_equal(range.frontier_bytes % BLOCK_BYTES, 0); // R1
        assert_int_equal(range.table_bytes - table_bytes + blocks * BLOCK_BYTES,
                         promised_bytes);
    }
    for (size_t block = 0; block < range_block_count(); block++) {
        assert_true(is_covered(block)); // R2
        char *at = (char *)range_block_address((uint32_t)block);
        assert_int_equal(at[0], 0);
        assert_int_equal(at[BLOCK_BYTES - 1], 0);
        at[0] = at[BLOCK_BYTES - 1] = 1;
        assert_int_equal(range_block_of((uintptr_t)at + BLOCK_BYTES - 1),
                         block);
    }
}

static void test_exhausted(void **state) {
    (void)state;
    size_t frontier_bytes = range.frontier_bytes;
    size_t table_bytes = range.table_bytes;
    size_t rest = (RANGE_BYTES - frontier_bytes) / BLOCK_BYTES;
    assert_false(range_extend(rest + 1));
    assert_false(range_extend(SIZE_MAX));
    assert_false(range_extend(SIZE_MAX / BLOCK_BYTES));
    assert_int_equal(range.frontier_bytes, frontier_bytes); // R4
    assert_int_equal(range.table_bytes, table_bytes);
    char *last = (char *)(range.base + frontier_bytes - 1);
    assert_int_equal(*last, 1); // R3
    assert_true(range_has((uintptr_t)last));
    assert_false(range_has((uintptr_t)last + 1));
    assert_true(range_has(range.base));
    assert_false(range_has(range.base - 1));
    assert_true(rest == 0 || range_extend(rest));
    assert_int_equal(range.frontier_bytes, RANGE_BYTES);
    assert_false(range_extend(1));
}

static void test_aside(void **state) {
    (void)state;
    size_t table_bytes = range.table_bytes;
    assert_true(range_use_aside());
    assert_true(range_use_aside());
    assert_true(range.aside_in_use);
    assert_true(range.table_bytes - table_bytes >=
                range_block_count() * ASIDE_WORDS_PER_BLOCK * 8);
    for (size_t i = 0; i < range_block_count() * ASIDE_WORDS_PER_BLOCK; i++) {
        assert_int_equal(range.aside[i], 0); // R2
        range.aside[i] = 0;
    }
}

static void test_freed(void **state) {
    (void)state;
    size_t table_bytes = range.table_bytes;
    assert_true(range_use_freed());
    assert_true(range_use_freed());
    assert_true(range.freed_in_use);
    assert_true(range.table_bytes - table_bytes >=
                range_block_count() * FREED_WORDS_PER_BLOCK * 8);
    for (size_t i = 0; i < range_block_count() * FREED_WORDS_PER_BLOCK; i++) {
        assert_int_equal(range.freed[i], 0); // R2
        range.freed[i] = 0;
    }
}

static void test_huge(void **state) {
    (void)state;
    char *at = (char *)range_block_address(1);
    range_use_huge();
    range_use_huge();
    assert_int_equal(at[0], 1); // a wish: nothing is changed by it
}

// In a process with `data` bytes of address space: a smaller range, or a no.
static int child_limited(void *data) {
    size_t limit_bytes = *(const size_t *)data;
    struct rlimit limit = {limit_bytes, limit_bytes};
    if (setrlimit(RLIMIT_AS, &limit) != 0) {
        return 1;
    }
    if (!range_init(0)) {
        return 2;
    }
    if (range.bytes > limit_bytes / 2 || range.bytes < RANGE_BYTES_MIN ||
        range.base % CHUNK_BYTES != 0) {
        return 3;
    }
    while (range_extend(1)) {
        if (!is_covered(range_block_count() - 1)) {
            return 4;
        }
        memset((void *)(range.base + range.frontier_bytes - BLOCK_BYTES), 1,
               BLOCK_BYTES);
    }
    if (range.frontier_bytes != range.bytes) {
        return 5;
    }
    // More than at first, where that leaves something to the program.
    return limit_bytes < 256 * MiB || range.bytes >= limit_bytes / 4 * 3 ? 0
                                                                         : 6;
}

// What follows the range is somebody else's: it ends there.
static int child_hemmed(void *unused) {
    (void)unused;
    struct rlimit limit = {256 * MiB, RLIM_INFINITY};
    if (setrlimit(RLIMIT_AS, &limit) != 0 || !range_init(0)) {
        return 1;
    }
    size_t bytes = range.bytes;
    void *end = (void *)(range.base + bytes);
    void *at = mmap(end, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at != end) {
        return 2;
    }
    while (range_extend(1)) {
    }
    if (range.frontier_bytes != bytes || range.bytes != bytes) {
        return 3;
    }
    if (munmap(at, 4096) != 0 || !range_extend(1) ||
        !is_covered(range_block_count() - 1)) { // R4
        return 4;
    }
    return 0;
}

static void test_hemmed(void **state) {
    (void)state;
    if (SANITIZED) {
        skip();
    }
    struct child child;
    child_fork(&child, child_hemmed, NULL);
    assert_int_equal(child.status, 0);
}

static void test_limited(void **state) {
    (void)state;
    if (SANITIZED) {
        skip();
    }
    static const size_t limits[] = {64 * MiB, 256 * MiB, GiB};
    for (size_t i = 0; i < 3; i++) {
        struct child child;
        size_t limit_bytes = limits[i];
        child_fork(&child, child_limited, &limit_bytes);
        if (child.status != 0) {
            child_show(&child);
        }
        assert_int_equal(child.status, 0);
    }
    struct child child;
    size_t little_bytes = 12 * MiB;
    child_fork(&child, child_limited, &little_bytes);
    assert_int_equal(child.status, 2); // not even RANGE_BYTES_MIN
}

static size_t space_bytes(void) {
    FILE *file = fopen("/proc/self/statm", "re");
    unsigned long pages = 0;
    if (file == NULL || fscanf(file, "%lu", &pages) != 1) {
        return 0;
    }
    (void)fclose(file);
    return pages * 4096;
}

// A limit comes after the range, of which blocks are in use.
static int child_limited_later(void *data) {
    size_t limit_bytes = *(const size_t *)data;
    if (!range_init(GiB) || range.bytes != GiB || !range_extend(100)) {
        return 1;
    }
    range_fit(); // nothing limits it
    size_t whole_bytes = space_bytes();
    struct rlimit limit = {limit_bytes, RLIM_INFINITY};
    if (range.bytes != GiB || setrlimit(RLIMIT_AS, &limit) != 0) {
        return 2;
    }
    range_fit();
    size_t given_bytes = GiB - range.bytes;
    size_t fit_bytes = range.bytes;
    if (range_most_bytes() > limit_bytes || fit_bytes > limit_bytes / 2 ||
        fit_bytes < limit_bytes / 3 || fit_bytes % CHUNK_BYTES != 0 ||
        space_bytes() + given_bytes > whole_bytes) {
        return 3;
    }
    range_fit(); // once is enough
    if (range.bytes != fit_bytes) {
        return 4;
    }
    while (range_extend(1)) {
        if (!is_covered(range_block_count() - 1)) { // R2
            return 5;
        }
    }
    if (range.frontier_bytes != range.bytes || !range_use_freed() ||
        !range_use_age()) {
        return 6;
    }
    fit_bytes = range.bytes;
    limit.rlim_cur = 4 * MiB;
    if (setrlimit(RLIMIT_AS, &limit) != 0) {
        return 7;
    }
    range_fit(); // R3: what is in use stays
    return range.bytes == fit_bytes && is_covered(range_block_count() - 1) ? 0
                                                                           : 8;
}

static void test_limited_later(void **state) {
    (void)state;
    if (SANITIZED) {
        skip();
    }
    static const size_t limits[] = {100 * MiB, 512 * MiB, 700 * MiB};
    for (size_t i = 0; i < 3; i++) {
        struct child child;
        size_t limit_bytes = limits[i];
        child_fork(&child, child_limited_later, &limit_bytes);
        if (child.status != 0) {
            child_show(&child);
        }
        assert_int_equal(child.status, 0);
    }
}

int main(void) {
    // First what wants a process without a range.
    const struct CMUnitTest limited[] = {
        cmocka_unit_test(test_limited),
        cmocka_unit_test(test_limited_later),
        cmocka_unit_test(test_hemmed),
    };
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reserve),   cmocka_unit_test(test_extend),
        cmocka_unit_test(test_exhausted), cmocka_unit_test(test_freed),
        cmocka_unit_test(test_aside),     cmocka_unit_test(test_huge),
    };
    int failed = cmocka_run_group_tests_name("limited", limited, NULL, NULL);
    return failed + cmocka_run_group_tests(tests, make_range, NULL);
}
