// Lists of blocks against arrays of their numbers.

#include "heap/shelf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "support/gen.h"

#define BLOCKS ((size_t)64)

// The model: each list as an array, in order.
static uint32_t lists[SHELF_LISTS][BLOCKS];
static size_t counts[SHELF_LISTS];
static struct shelf shelf;

static int make_blocks(void **state) {
    (void)state;
    if (!range_init(32 * MiB) || !range_extend(2 * CHUNK_BLOCKS)) {
        return -1;
    }
    for (uint32_t block = 1; block < BLOCKS; block++) {
        block_format(block, 1 + block % 40, KIND_LEAF);
    }
    return 0;
}

static void check(void) {
    assert_true(shelf_check(&shelf));
    size_t listed = 0;
    for (unsigned list = SHELF_EMPTIEST; list < SHELF_LISTS; list++) {
        uint32_t at = shelf.lists[list].head;
        uint32_t before = BLOCK_NONE;
        for (size_t i = 0; i < counts[list]; i++) {
            assert_int_equal(at, lists[list][i]);
            assert_int_equal(block_get(at)->prev, before); // L2
            assert_int_equal(block_get(at)->list, list);   // L1
            before = at;
            at = block_get(at)->next;
        }
        assert_int_equal(at, BLOCK_NONE); // L2
        assert_int_equal(shelf.lists[list].tail, before);
        listed += counts[list];
    }
    size_t said = 0;
    for (uint32_t block = 1; block < BLOCKS; block++) {
        said += block_get(block)->list != SHELF_NONE;
    }
    assert_int_equal(said, listed); // L1
}

static void model_remove(unsigned list, uint32_t block) {
    size_t at = 0;
    while (lists[list][at] != block) {
        at++;
    }
    counts[list]--;
    memmove(&lists[list][at], &lists[list][at + 1],
            (counts[list] - at) * sizeof lists[list][0]);
}

// Where a block with so much room belongs, in quarters of its cells.
static unsigned list_of(size_t live, size_t cells) {
    size_t free = cells - live;
    return free * 4 >= cells * 3   ? SHELF_EMPTIEST
           : free * 4 >= cells * 2 ? SHELF_HALF
           : free * 4 >= cells     ? SHELF_QUARTER
                                   : SHELF_TIGHT;
}

static void step_put(struct gen *g) {
    uint32_t block = 1 + (uint32_t)gen_below(g, BLOCKS - 1);
    struct block *b = block_get(block);
    if (b->list != SHELF_NONE) {
        unsigned list = b->list;
        shelf_withdraw(&shelf, block);
        model_remove(list, block);
        shelf_withdraw(&shelf, block); // in none: nothing happens
        return;
    }
    size_t cells = block_cells(block);
    b->live = (uint16_t)gen_below(g, cells); // L3
    unsigned list = list_of(b->live, cells);
    assert_int_equal(shelf_list_for(b->live, cells), list);
    shelf_put(&shelf, block);
    lists[list][counts[list]++] = block;
}

static void step_take(struct gen *g) {
    unsigned first = SHELF_EMPTIEST + (unsigned)gen_below(g, 4);
    unsigned last = first + (unsigned)gen_below(g, SHELF_LISTS - first);
    uint32_t expected = BLOCK_NONE;
    for (unsigned list = first; list <= last; list++) {
        if (counts[list] != 0) {
            expected = lists[list][0];
            model_remove(list, expected);
            break;
        }
    }
    assert_int_equal(shelf_take(&shelf, first, last), expected);
}

static void test_random(void **state) {
    (void)state;
    struct gen g;
    gen_init(&g, gen_seed("shelf"));
    unsigned weight = 50;
    for (size_t step = 0; step < 50000; step++) {
        if (gen_chance(&g, 1)) {
            weight = (unsigned)gen_below(&g, 100);
        }
        if (gen_chance(&g, weight)) {
            step_take(&g);
        } else {
            step_put(&g);
        }
        check();
    }
}

// Every count of every class: the lists' names hold.
static void test_quarters(void **state) {
    (void)state;
    for (unsigned cls = CLASS_FIRST; cls <= CLASS_LAST; cls++) {
        size_t cells = sizeclass_table[cls].cells;
        for (size_t live = 0; live < cells; live++) {
            assert_int_equal(shelf_list_for(live, cells), list_of(live, cells));
        }
    }
}

// What the check is there to see.
static void test_check(void **state) {
    (void)state;
    memset(&shelf, 0, sizeof shelf);
    for (uint32_t block = 1; block < BLOCKS; block++) {
        memset(block_get(block), 0, sizeof(struct block));
    }
    shelf_put(&shelf, 1);
    shelf_put(&shelf, 2);
    assert_true(shelf_check(&shelf));
    block_get(2)->prev = BLOCK_NONE;
    assert_false(shelf_check(&shelf)); // L2
    block_get(2)->prev = 1;
    block_get(1)->list = SHELF_HALF;
    assert_false(shelf_check(&shelf)); // L1
    block_get(1)->list = SHELF_EMPTIEST;
    shelf.lists[SHELF_EMPTIEST].tail = 1;
    assert_false(shelf_check(&shelf));
    shelf.lists[SHELF_EMPTIEST].tail = 2;
    assert_true(shelf_check(&shelf));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_quarters),
        cmocka_unit_test(test_check),
    };
    return cmocka_run_group_tests(tests, make_blocks, NULL);
}
