// A heap driven by hand: marks are set by the test, a flip follows, and the
// sums and the shelves are what they should be.

#include "heap/heap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "heap/layout.h"
#include "support/gen.h"

static struct heap heap;

static int make_heap(void **state) {
    (void)state;
    return heap_init(&heap, NULL) && range_init(64 * MiB) ? 0 : -1;
}

// What all blocks hold, counted anew.
static void add_used(uint32_t block, void *data) {
    size_t *used_bytes = data;
    assert_true(block_check(block));
    *used_bytes += block_get(block)->live * block_cell_bytes(block);
}

static void check_sums(void) {
    size_t used_bytes = 0;
    heap_each_block(add_used, &used_bytes);
    assert_int_equal(used_bytes, heap.used_bytes); // E1
    assert_int_equal(heap.allocated_bytes, heap.used_bytes + heap.freed_bytes +
                                               heap.collected_bytes); // E2
}

// Allocates a cell as a cache would.
static void use(uint32_t block, uint32_t cell) {
    size_t bytes = block_cell_bytes(block);
    block_set_hole(block, (struct hole){cell, cell + 1});
    heap.allocated_bytes += bytes;
    heap.used_bytes += bytes;
}

// Frees it by hand, as a cache would.
static void free_cell(const struct place *place) {
    heap_clear_cell(place);
    heap.freed_bytes += place->bytes;
    heap.used_bytes -= place->bytes;
}

static void mark(uint32_t block, uint32_t cell) {
    block_pair(block, cell / 64)[0] |= (uint64_t)1 << (cell % 64);
}

static struct census cycle_keeping(uint32_t block, uint32_t cells) {
    struct census census;
    heap_prepare(&heap);
    for (uint32_t cell = 0; cell < cells; cell++) {
        mark(block, cell);
    }
    heap_flip(&heap, &census);
    check_sums();
    return census;
}

static uint32_t make(struct order order, uint32_t owner) {
    uint32_t block = heap_make_block(&heap, order, owner);
    assert_int_not_equal(block, BLOCK_NONE);
    assert_int_equal(block_get(block)->owner, owner);
    assert_int_equal(block_get(block)->layout, order.layout);
    return block;
}

static bool is_listed(const struct shelf *shelf, uint32_t block) {
    for (unsigned list = SHELF_EMPTIEST; list < SHELF_LISTS; list++) {
        uint32_t at = shelf->lists[list].head;
        for (; at != BLOCK_NONE; at = block_get(at)->next) {
            if (at == block) {
                return true;
            }
        }
    }
    return false;
}

// A full block is on no shelf, one with room on its own, an empty one goes.
static void test_flip(void **state) {
    (void)state;
    for (unsigned cls = CLASS_FIRST; cls <= CLASS_PLAIN_LAST; cls++) {
        struct order order = {KIND_SCANNED, cls, 0};
        uint32_t cells = sizeclass_table[cls].cells;
        uint32_t block = make(order, 3);
        for (uint32_t cell = 0; cell < cells; cell++) {
            use(block, cell);
        }
        const struct shelf *shelf = heap_find_shelf(&heap, order);
        struct census census = cycle_keeping(block, cells);
        assert_int_equal(census.live_objects, cells);
        assert_int_equal(census.dead_objects, 0);
        assert_int_equal(block_get(block)->owner, 0);
        assert_false(is_listed(shelf, block)); // E3
        if (cells > 1) {
            census = cycle_keeping(block, cells - 1);
            assert_int_equal(census.dead_objects, 1);
            assert_int_equal(census.dead_bytes, sizeclass_bytes(cls));
            assert_true(is_listed(shelf, block)); // E3
            assert_true(shelf_check(shelf));
            // A block with little room is taken only when asked for.
            bool little = cells > 4;
            assert_int_equal(heap_take_block(&heap, order, false, 5),
                             little ? BLOCK_NONE : block);
            assert_int_equal(heap_take_block(&heap, order, true, 6),
                             little ? block : BLOCK_NONE);
            assert_int_equal(block_get(block)->owner, little ? 6 : 5);
            assert_false(is_listed(shelf, block));
        }
        assert_int_equal(heap_block_bytes(&heap),
                         sizeclass_table[cls].blocks * BLOCK_BYTES);
        census = cycle_keeping(block, 0);
        assert_int_equal(census.block_bytes, 0);
        assert_int_equal(heap_block_bytes(&heap), 0); // E4
        assert_int_equal(block_entry(block), CLASS_FREE);
    }
}

// The shelves hand out the emptiest first, and of these the lowest.
static void test_choice(void **state) {
    (void)state;
    struct order order = {KIND_LEAF, 20, 0};
    uint32_t cells = sizeclass_table[20].cells;
    static const unsigned percent[] = {60, 10, 95, 10, 40, 80, 100};
    uint32_t blocks[7];
    for (size_t i = 0; i < 7; i++) {
        blocks[i] = make(order, 1);
        for (uint32_t cell = 0; cell < cells * percent[i] / 100; cell++) {
            use(blocks[i], cell);
        }
    }
    heap_prepare(&heap);
    for (size_t i = 0; i < 7; i++) {
        for (uint32_t cell = 0; cell < cells * percent[i] / 100; cell++) {
            mark(blocks[i], cell);
        }
    }
    struct census census;
    heap_flip(&heap, &census);
    assert_int_equal(census.dead_objects, 0);
    static const size_t expected[] = {1, 3, 4, 0};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(heap_take_block(&heap, order, false, 1),
                         blocks[expected[i]]);
    }
    assert_int_equal(heap_take_block(&heap, order, false, 1), BLOCK_NONE);
    assert_int_equal(heap_take_block(&heap, order, true, 1), blocks[2]);
    assert_int_equal(heap_take_block(&heap, order, true, 1), blocks[5]);
    assert_int_equal(heap_take_block(&heap, order, true, 1), BLOCK_NONE);
    cycle_keeping(blocks[0], 0);
    assert_int_equal(heap_block_bytes(&heap), 0); // E4
}

static void test_current(void **state) {
    (void)state;
    uint32_t block = make((struct order){KIND_SCANNED, 9, 0}, 4);
    use(block, 0);
    block_get(block)->flags |= BLOCK_CURRENT;
    cycle_keeping(block, 0);
    assert_int_equal(block_get(block)->live, 0);
    assert_int_equal(block_get(block)->owner, 4);
    assert_int_equal(block_get(block)->list, SHELF_NONE);
    block_get(block)->flags = 0;
    cycle_keeping(block, 0);
    assert_int_equal(heap_block_bytes(&heap), 0); // E4
}

static void test_pinned(void **state) {
    (void)state;
    uint32_t block = make((struct order){KIND_PINNED, 9, 0}, 4);
    use(block, 7);
    struct census census = cycle_keeping(block, 0);
    assert_int_equal(census.live_objects, 1);
    assert_true(block_is_allocated(block, 7));
    struct place place;
    assert_true(blockmap_find(block_cell_address(block, 7), &place));
    shelf_withdraw(heap_find_shelf(&heap, (struct order){KIND_PINNED, 9, 0}),
                   block);
    free_cell(&place);
    assert_false(block_is_marked(block, 7));
    check_sums();
    cycle_keeping(block, 0);
    assert_int_equal(heap_block_bytes(&heap), 0); // E4
}

// Each layout and class has a shelf of its own; an order nobody made has none.
static void test_described(void **state) {
    (void)state;
    size_t offset = 0;
    struct order orders[40];
    uint32_t blocks[40];
    for (unsigned i = 0; i < 40; i++) {
        const struct layout *layout = layout_make(8 * (i / 2 + 1), &offset, 1);
        orders[i] = (struct order){KIND_DESCRIBED, 2 + i % 2, layout->id};
        assert_null(heap_find_shelf(&heap, orders[i]));
        assert_true(heap_add_described(&heap, orders[i]));
        assert_true(heap_add_described(&heap, orders[i]));
        blocks[i] = make(orders[i], 1);
        use(blocks[i], 5);
    }
    heap_prepare(&heap);
    for (unsigned i = 0; i < 40; i++) {
        mark(blocks[i], 5);
    }
    struct census census;
    heap_flip(&heap, &census);
    for (unsigned i = 40; i-- > 0;) {
        assert_true(is_listed(heap_find_shelf(&heap, orders[i]), blocks[i]));
        assert_int_equal(heap_take_block(&heap, orders[i], false, 1),
                         blocks[i]); // E3
    }
    cycle_keeping(blocks[0], 0);
    assert_int_equal(heap_block_bytes(&heap), 0); // E4
}

static void test_runs(void **state) {
    (void)state;
    static const size_t sizes[] = {1, 4096, 65536, 65537, 300000, 5 * MiB};
    for (size_t i = 0; i < 6; i++) {
        for (size_t alignment = 1; alignment <= 8 * MiB; alignment *= 2) {
            bool zero;
            struct object *run =
                heap_make_run(&heap, KIND_SCANNED, sizes[i], alignment, &zero);
            assert_non_null(run);
            assert_int_equal((uintptr_t)run % alignment, 0);
            uint32_t block = range_block_of((uintptr_t)run);
            assert_true(block_cell_bytes(block) >= sizes[i]);
            assert_true(block_cell_bytes(block) - sizes[i] < 4096);
            check_sums();
            if (i % 2 == 0) {
                heap_free_run(&heap, block);
                check_sums();
            } else {
                struct census census = cycle_keeping(block, 1);
                assert_int_equal(census.live_objects, 1);
                census = cycle_keeping(block, 0);
                assert_int_equal(census.dead_objects, 1);
            }
            assert_int_equal(heap_block_bytes(&heap), 0); // E4
        }
    }
}

// Sizes and alignments beyond all reason get a no that changes nothing.
static void test_absurd(void **state) {
    (void)state;
    static const size_t sizes[] = {64 * MiB,         GiB,
                                   (size_t)1 << 44,  (size_t)1 << 48,
                                   SIZE_MAX - 70000, SIZE_MAX - 4096,
                                   SIZE_MAX - 4095,  SIZE_MAX};
    for (size_t i = 0; i < 8; i++) {
        for (unsigned shift = 0; shift < 64; shift += 7) {
            struct heap before = heap;
            bool zero;
            assert_null(heap_make_run(&heap, KIND_LEAF, sizes[i],
                                      (size_t)1 << shift, &zero));
            assert_memory_equal(&before, &heap, sizeof heap);
        }
    }
    bool zero;
    for (unsigned shift = 27; shift < 64; shift++) {
        assert_null(
            heap_make_run(&heap, KIND_LEAF, 1, (size_t)1 << shift, &zero));
    }
}

// A cell that was freed by another thread is counted when the cycle begins,
// also when the cell is a run.
static void test_drained(void **state) {
    (void)state;
    assert_true(range_use_freed());
    uint32_t block = make((struct order){KIND_SCANNED, 4, 0}, 1);
    for (uint32_t cell = 0; cell < 10; cell++) {
        use(block, cell);
    }
    bool zero;
    struct object *run = heap_make_run(&heap, KIND_LEAF, 70000, 1, &zero);
    uint32_t head = range_block_of((uintptr_t)run);
    uint64_t freed_bytes = heap.freed_bytes;
    assert_int_equal(block_free_remotely(block, 3), FREED_FIRST);
    assert_int_equal(block_free_remotely(head, 0), FREED_FIRST);
    struct census census = cycle_keeping(block, 3);
    assert_int_equal(census.live_objects, 3);
    assert_int_equal(census.dead_objects, 6);
    assert_int_equal(heap.freed_bytes - freed_bytes,
                     sizeclass_bytes(4) + bits_round_up(70000, 4096));
    assert_int_equal(block_entry(head), CLASS_FREE);
    cycle_keeping(block, 0);
    assert_int_equal(heap_block_bytes(&heap), 0); // E4
}

// A cell freed by hand takes its mark with it: what is made there next is not
// marked, nor known to be zero.
static void test_free_cell(void **state) {
    (void)state;
    uint32_t block = make((struct order){KIND_SCANNED, 4, 0}, 1);
    use(block, 0);
    use(block, 70);
    cycle_keeping(block, 71 - 70);
    use(block, 70);
    mark(block, 70);
    struct place place;
    assert_true(blockmap_find(block_cell_address(block, 70), &place));
    block_get(block)->flags |= BLOCK_ZERO;
    free_cell(&place);
    assert_false(block_is_allocated(block, 70));
    assert_false(block_is_marked(block, 70));
    assert_int_equal(block_get(block)->flags & BLOCK_ZERO, 0);
    check_sums(); // E1, E2
    cycle_keeping(block, 0);
}

// The stack of blocks with freed cells: all that was pushed comes out once, the
// last first (E5); and what an ownerless block then has is found.
static void test_freed(void **state) {
    (void)state;
    struct order order = {KIND_SCANNED, 30, 0};
    uint32_t cells = sizeclass_table[30].cells;
    uint32_t blocks[4];
    for (size_t i = 0; i < 4; i++) {
        blocks[i] = make(order, 0);
        for (uint32_t cell = 0; cell < cells; cell++) {
            use(blocks[i], cell);
        }
    }
    assert_int_equal(heap_take_freed(&heap), BLOCK_NONE);
    for (size_t i = 0; i < 4; i++) {
        for (uint32_t cell = 0; cell < (i == 3 ? cells : i); cell++) {
            if (block_free_remotely(blocks[i], cell) == FREED_FIRST) {
                heap_push_freed(&heap, blocks[i]); // E5
            }
        }
    }
    uint32_t block = heap_take_freed(&heap);
    assert_int_equal(heap_take_freed(&heap), BLOCK_NONE);
    const struct shelf *shelf = heap_find_shelf(&heap, order);
    for (size_t i = 4; i-- > 1;) {
        assert_int_equal(block, blocks[i]);
        block = block_get(block)->next_freed;
        heap_drain_block(&heap, blocks[i]);
        assert_int_equal(is_listed(shelf, blocks[i]), i != 3);
        check_sums(); // E1, E2
    }
    assert_int_equal(block, BLOCK_NONE);
    assert_int_equal(block_entry(blocks[3]), CLASS_FREE);
    // On its shelf, more is freed: it moves to another, or goes.
    for (uint32_t cell = 1; cell < cells; cell++) {
        (void)block_free_remotely(blocks[1], cell);
    }
    heap_drain_block(&heap, blocks[1]);
    assert_int_equal(block_entry(blocks[1]), CLASS_FREE);
    (void)block_free_remotely(blocks[2], cells / 2);
    heap_drain_block(&heap, blocks[2]);
    assert_true(is_listed(shelf, blocks[2]));
    assert_true(shelf_check(shelf));
    check_sums();
    cycle_keeping(blocks[0], 0);
    assert_int_equal(heap_block_bytes(&heap), 0); // E4
}

static void check_apart(const struct heap *one, uint32_t block) {
    assert_ptr_equal(heap_get(block), one);
    assert_true(heap_is_block_of(one, block));
    assert_ptr_equal(heap_find(one->slot), one);
}

// A cycle of one heap marks everything in another, and takes nothing there;
// what a heap of its own takes comes from the ground of the home heap, and a
// slot that was given back is given out again.
static void test_apart(void **state) {
    (void)state;
    static struct heap others[40];
    struct order order = {KIND_SCANNED, 30, 0};
    uint32_t mine = make(order, 1), blocks[40];
    use(mine, 0);
    for (size_t i = 0; i < 40; i++) {
        assert_true(heap_init(&others[i], &heap));
        assert_int_not_equal(others[i].slot, 0);
        blocks[i] = heap_make_block(&others[i], order, 1);
        block_set_hole(blocks[i], (struct hole){0, 3});
        others[i].allocated_bytes = others[i].used_bytes =
            3 * sizeclass_bytes(30);
    }
    for (size_t i = 0; i < 40; i++) {
        check_apart(&others[i], blocks[i]);
        assert_false(heap_is_block_of(&heap, blocks[i]));
    }
    check_apart(&heap, mine);
    assert_int_equal(heap.used_blocks, 1);
    assert_int_equal(heap.region.used_blocks, 41);
    struct census census;
    heap_prepare(&heap);
    for (size_t i = 0; i < 40; i++) {
        assert_int_equal(block_pair(blocks[i], 0)[0], 7);
    }
    heap_flip(&heap, &census);
    assert_int_equal(census.dead_objects, 1);
    for (size_t i = 0; i < 40; i++) {
        assert_int_equal(block_pair(blocks[i], 0)[1], 7); // E6
        assert_int_equal(block_get(blocks[i])->owner, 1);
    }
    assert_int_equal(heap.used_blocks, 0);
    for (size_t i = 0; i < 40; i++) {
        if (i % 2 == 0) {
            heap_prepare(&others[i]);
            mark(blocks[i], 1);
            heap_flip(&others[i], &census);
            assert_int_equal(census.live_objects, 1);
            assert_int_equal(census.dead_objects, 2);
        }
        heap_void(&others[i]); // whatever is in it
        assert_int_equal(block_entry(blocks[i]), CLASS_FREE);
        assert_int_equal(others[i].used_bytes, 0);
        assert_int_equal(others[i].allocated_bytes, // E2
                         others[i].freed_bytes + others[i].collected_bytes);
        size_t slot = others[i].slot;
        heap_fini(&others[i]);
        assert_null(heap_find(slot));
    }
    assert_int_equal(heap.region.used_blocks, 0);
    assert_true(heap_init(&others[0], &heap));
    assert_int_equal(others[0].slot, 1);
    heap_fini(&others[0]);
    assert_null(heap_find(UINT16_MAX));
}

// A cycle that keeps the first `cells` cells of `block`, and where it is then.
static void check_kept(uint32_t block, uint32_t cells, uint32_t owner,
                       bool is_kept) {
    (void)cycle_keeping(block, cells);
    assert_int_equal(block_get(block)->owner, owner); // E3
    assert_int_equal(block_get(block)->list, is_kept ? SHELF_MINE : SHELF_NONE);
    assert_int_equal(heap_take_kept(&heap), is_kept ? block : BLOCK_NONE);
    assert_int_equal(heap_take_kept(&heap), BLOCK_NONE);
}

// A counted block stays its owner's, full or not; without an owner it is like
// any other, and empty it goes.
static void test_kept(void **state) {
    (void)state;
    static const struct order counted[] = {{KIND_COUNTED, 97, 0},
                                           {KIND_COUNTED_LEAF, 3, 0},
                                           {KIND_BIASED, 60, 0},
                                           {KIND_BIASED_LEAF, 2, 0}};
    for (size_t i = 0; i < 4; i++) {
        struct order order = counted[i];
        uint32_t cells = sizeclass_table[order.cls].cells;
        uint32_t block = make(order, 3);
        for (uint32_t cell = 0; cell < cells; cell++) {
            use(block, cell);
        }
        check_kept(block, cells, 3, false);
        check_kept(block, cells - 1, 3, true);
        block_set_owner(block, 2 * BLOCK_OWNER_LEVEL + 3); // of its reserve
        check_kept(block, cells - 1, 3, true);
        const struct shelf *shelf = heap_find_shelf(&heap, order);
        heap_disown_counted(4);
        assert_int_equal(block_owner(block), 3);
        assert_false(is_listed(shelf, block));
        heap_disown_counted(3);
        assert_int_equal(block_owner(block), 0);
        assert_true(is_listed(shelf, block));
        (void)cycle_keeping(block, cells - 1);
        assert_true(is_listed(shelf, block)); // E3
        assert_int_equal(heap_take_block(&heap, order, true, 5), block);
        check_kept(block, 1, 5, true);
        (void)cycle_keeping(block, 0);
        assert_int_equal(block_entry(block), CLASS_FREE); // E4
        assert_int_equal(heap_take_kept(&heap), BLOCK_NONE);
    }
}

// Runs of counted kinds: the shift is inside their pages.
static void test_counted_runs(void **state) {
    (void)state;
    for (unsigned kind = KIND_COUNTED; kind < KIND_COUNT; kind++) {
        size_t shift = block_kind_shift(kind);
        for (size_t bytes = 4096 - 9; bytes < 20 * 4096; bytes += 4096 - 1) {
            bool zero;
            struct object *run = heap_make_run(&heap, kind, bytes, 1, &zero);
            uint32_t block = range_block_of((uintptr_t)run);
            size_t pages = (bytes + shift + 4095) / 4096;
            assert_int_equal(run, range_block_address(block) + shift);
            assert_int_equal(block_cell_bytes(block), pages * 4096 - shift);
            assert_int_equal(block_span(block), (pages + 15) / 16);
            block_set_owner(block, 3);
            check_sums();
            check_kept(block, 1, 3, false);
            heap_disown_counted(3);
            assert_int_equal(block_owner(block), 0);
            heap_free_run(&heap, block);
            check_sums();
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kept),      cmocka_unit_test(test_counted_runs),
        cmocka_unit_test(test_flip),      cmocka_unit_test(test_choice),
        cmocka_unit_test(test_current),   cmocka_unit_test(test_pinned),
        cmocka_unit_test(test_described), cmocka_unit_test(test_runs),
        cmocka_unit_test(test_drained),   cmocka_unit_test(test_free_cell),
        cmocka_unit_test(test_absurd),    cmocka_unit_test(test_freed),
        cmocka_unit_test(test_apart),
    };
    return cmocka_run_group_tests(tests, make_heap, NULL);
}
