// Every system call of the range refused once: what was had stays usable.

#include "heap/range.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/child.h"
#include "support/fault.h"

enum { GOOD, LAST, BAD };

#define STEP CHUNK_BLOCKS // blocks: enough for every table to grow in time

// Writes to each block below the frontier, and its tables, what is only there.
static void write_all(void) {
    for (size_t block = 0; block < range_block_count(); block++) {
        *(uint64_t *)range_block_address((uint32_t)block) = block + 1;
        range.entries[block] = (uint16_t)(block + 1);
        range.bits[block * BITS_WORDS_PER_BLOCK] = block + 1;
    }
}

static bool all_there(size_t blocks) {
    for (size_t block = 0; block < blocks; block++) {
        if (*(uint64_t *)range_block_address((uint32_t)block) != block + 1 ||
            range.entries[block] != block + 1 ||
            range.bits[block * BITS_WORDS_PER_BLOCK] != block + 1) {
            return false;
        }
    }
    return true;
}

// Extends; if that is refused, all is as it was, and the next try succeeds.
static bool extend(void) {
    size_t frontier_bytes = range.frontier_bytes;
    size_t blocks = range_block_count();
    bool zero = true;
    if (!range_extend(STEP)) {
        if (range.frontier_bytes != frontier_bytes || !all_there(blocks)) {
            return false; // R4
        }
        size_t promised_bytes = range_extend_bytes(STEP);
        size_t table_bytes = range.table_bytes;
        if (!range_extend(STEP) ||
            range.table_bytes - table_bytes + STEP * BLOCK_BYTES !=
                promised_bytes) {
            return false;
        }
    }
    for (size_t block = blocks; block < range_block_count(); block++) {
        zero = zero && range.entries[block] == 0 &&
               range.bits[block * BITS_WORDS_PER_BLOCK] == 0;
    }
    return zero &&
           range.frontier_bytes == frontier_bytes + STEP * BLOCK_BYTES; // R3
}

static int child_refused(void *data) {
    size_t n = *(const size_t *)data;
    fault_arm(n);
    // One refusal halves the range or is gone round; it never ends the search.
    if (!range_init(64 * MiB) || range.bytes < 32 * MiB ||
        range.base % CHUNK_BYTES != 0) { // R1
        return BAD;
    }
    for (size_t i = 0; i < 4; i++) {
        if (!extend()) {
            return BAD;
        }
        write_all();
    }
    if (!range_use_freed() && !range_use_freed()) {
        return BAD;
    }
    range_use_huge();
    if (!extend()) {
        return BAD;
    }
    write_all();
    for (size_t i = 0; i < range_block_count() * FREED_WORDS_PER_BLOCK; i++) {
        range.freed[i] = i; // R2
    }
    fault_disarm();
    if (!all_there(range_block_count())) {
        return BAD;
    }
    return fault_hits() < n ? LAST : GOOD;
}

static void test_each(void **state) {
    (void)state;
    int status = GOOD;
    size_t n = 0;
    while (status == GOOD) {
        n++;
        struct child child;
        child_fork(&child, child_refused, &n);
        if (child.status != GOOD && child.status != LAST) {
            child_show(&child);
            fail_msg("call %zu refused: %d", n, child.status);
        }
        status = child.status;
    }
    assert_true(n > 20);
}

// From the nth call on everything is refused: no is an answer.
static int child_no_more(void *data) {
    size_t n = *(const size_t *)data;
    fault_arm_from(n);
    if (!range_init(64 * MiB)) {
        fault_disarm();
        return range_init(64 * MiB) && range_extend(STEP) ? GOOD : BAD;
    }
    size_t steps = 0;
    while (steps < 4 && range_extend(STEP)) {
        steps++;
        write_all();
    }
    bool freed = range_use_freed();
    fault_disarm();
    if (range.frontier_bytes != steps * STEP * BLOCK_BYTES ||
        freed != range.freed_in_use || !all_there(range_block_count())) {
        return BAD; // R4
    }
    return fault_hits() < n ? LAST : extend() ? GOOD : BAD;
}

static void test_all_from(void **state) {
    (void)state;
    int status = GOOD;
    for (size_t n = 1; status == GOOD; n++) {
        struct child child;
        child_fork(&child, child_no_more, &n);
        if (child.status != GOOD && child.status != LAST) {
            child_show(&child);
            fail_msg("refused from call %zu on: %d", n, child.status);
        }
        status = child.status;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each),
        cmocka_unit_test(test_all_from),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
