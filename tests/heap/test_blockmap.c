// Every offset of a block of every class and kind against division, and all
// that is not a block.

#include "heap/blockmap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "heap/heap.h"
#include "support/gen.h"

static struct heap heap;

static int make_heap(void **state) {
    (void)state;
    return heap_init(&heap, NULL) && range_init(64 * MiB) ? 0 : -1;
}

// What a word should find, worked out with divisions from the head's address,
// or from SHIFT_BYTES behind it.
struct answer {
    uint32_t block;
    unsigned kind;
    size_t bytes, cells;
};

static bool check_word(uintptr_t word, const struct answer *in) {
    uintptr_t first = range_block_address(in->block);
    if (in->kind == KIND_COUNTED || in->kind == KIND_COUNTED_LEAF) {
        first += 8;
    }
    size_t cell = (word - first) / in->bytes;
    struct place place;
    bool found = blockmap_find(word, &place);
    if (word < first || cell >= in->cells) {
        return !found; // F1
    }
    return found && place.block == in->block && place.cell == cell &&
           place.start == first + cell * in->bytes &&
           place.bytes == in->bytes && place.kind == in->kind && // F2
           (in->kind < KIND_COUNTED || blockmap_start(&place) % 16 == 0);
}

static void check_every_word(const struct answer *in, size_t span_bytes,
                             size_t step) {
    uintptr_t first = range_block_address(in->block);
    for (size_t offset = 0; offset < span_bytes; offset += step) {
        if (!check_word(first + offset, in)) {
            fail_msg("cells of %zu bytes, offset %zu", in->bytes, offset);
        }
    }
}

// Every byte for one kind; of the others, whose bits stand elsewhere in the
// entry, the two ends of every cell and more.
static void test_classes(void **state) {
    (void)state;
    for (unsigned cls = CLASS_FIRST; cls <= CLASS_LAST; cls++) {
        for (unsigned kind = 0; kind < KIND_COUNT; kind++) {
            struct order order = {kind, cls, 0};
            if (!block_kind_takes(kind, cls)) {
                continue;
            }
            if (kind == KIND_DESCRIBED) {
                order.layout = 1;
                assert_true(heap_add_described(&heap, order));
            }
            uint32_t block = heap_make_block(&heap, order, 1);
            assert_int_not_equal(block, BLOCK_NONE);
            const struct sizeclass *c = &sizeclass_table[cls];
            struct answer in = {block, kind, c->bytes, c->cells};
            check_every_word(&in, c->blocks * BLOCK_BYTES,
                             kind == KIND_LEAF || kind == KIND_COUNTED ? 1
                                                                       : 15);
            heap_release_block(&heap, block);
        }
    }
}

static void test_runs(void **state) {
    (void)state;
    static const size_t sizes[] = {
        1, 4096, 65536, 65537, 262145, 3 * 65536 + 4096, 700001, 20 * MiB};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (unsigned kind = 0; kind < KIND_COUNT; kind++) {
            bool zero;
            struct object *run = heap_make_run(&heap, kind, sizes[i], 1, &zero);
            assert_non_null(run);
            size_t shift = block_kind_shift(kind);
            size_t bytes = bits_round_up(sizes[i] + shift, 4096) - shift;
            size_t blocks_bytes = bits_round_up(sizes[i] + shift, BLOCK_BYTES);
            uint32_t block = range_block_of((uintptr_t)run);
            struct answer in = {block, kind, bytes, 1};
            check_every_word(&in, blocks_bytes, bytes > MiB ? 4093 : 7);
            assert_true(check_word((uintptr_t)run + bytes - 1, &in));
            struct place place;
            assert_ptr_equal(
                blockmap_object((uintptr_t)run + bytes - 1, &place), run);
            heap_free_run(&heap, block);
            assert_false(blockmap_find((uintptr_t)run, &place));
        }
    }
}

// Words outside every block in use: block 0, free blocks, both ends of the
// range, the edges of the address space, and anything at all.
static void test_elsewhere(void **state) {
    (void)state;
    struct place place;
    bool zero;
    struct object *run = heap_make_run(&heap, KIND_LEAF, 1, 1, &zero);
    assert_non_null(run);
    uintptr_t end = range.base + range.frontier_bytes;
    uintptr_t words[] = {0,
                         1,
                         range.base - 1,
                         range.base,
                         end - 1,
                         end,
                         end + 1,
                         UINTPTR_MAX,
                         range.base + range.bytes,
                         range.base + BLOCK_BYTES - 1};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        assert_false(blockmap_find(words[i], &place)); // F3
        assert_null(blockmap_object(words[i], &place));
    }
    struct gen g;
    gen_init(&g, gen_seed("blockmap"));
    for (size_t i = 0; i < 1000000; i++) {
        // All magnitudes, so that some fall into the range.
        uintptr_t word = gen_next(&g) >> gen_below(&g, 64);
        word = i % 2 ? word : range.base + word % (2 * range.frontier_bytes);
        bool inside = word - (uintptr_t)run < 4096;
        assert_int_equal(blockmap_find(word, &place), inside); // F1, F3
    }
    heap_free_run(&heap, range_block_of((uintptr_t)run));
}

static void test_object(void **state) {
    (void)state;
    struct place place;
    struct order order = {KIND_SCANNED, 3, 0};
    uint32_t block = heap_make_block(&heap, order, 1);
    uintptr_t first = range_block_address(block);
    assert_null(blockmap_object(first + 48, &place));
    block_set_hole(block, (struct hole){1, 2});
    assert_null(blockmap_object(first + 47, &place));
    assert_ptr_equal(blockmap_object(first + 48, &place), first + 48);
    assert_ptr_equal(blockmap_object(first + 95, &place), first + 48);
    assert_null(blockmap_object(first + 96, &place));
    block_clear_hole(block, (struct hole){1, 2});
    heap_release_block(&heap, block);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_classes),
        cmocka_unit_test(test_runs),
        cmocka_unit_test(test_elsewhere),
        cmocka_unit_test(test_object),
    };
    return cmocka_run_group_tests(tests, make_heap, NULL);
}
