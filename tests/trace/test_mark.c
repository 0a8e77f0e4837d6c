// The marker beside a reference: what it marks is exactly what can be reached.
//
// Graphs are drawn at random from objects of every kind, size and layout, with
// words of every sort in them: starts, insides, ends, cells that are free,
// words just outside.  The reference knows the objects from the moment they
// were made, looks words up by a search in a sorted list and keeps its own
// stack: it shares no line with the marker.  LOAM_SEED=<number> repeats a run.
//
// With LOAM_MARKERS=n there are one or n - 1 threads that mark, too (K8).
//
// with: LOAM_MARKERS=4
// seconds: 200

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "heap/meta.h"
#include "support/gen.h"
#include "support/ground.h"
#include "support/helpers.h"
#include "support/scrub.h"
#include "trace/mark.h"

#define WORDS_OF(bytes) ((bytes) / WORD_BYTES)

// --- The reference ---------------------------------------------------------

struct item {
    uintptr_t start;
    size_t bytes; // of the cell
    unsigned kind, layout;
    bool reached;
};

static struct ground ground;
static struct marker marker;
static struct item *items; // sorted by start once a graph is made
static size_t item_count, item_capacity;
static struct item **stack;
static size_t stack_count;

static void *must(void *p) {
    assert_non_null(p);
    return p;
}

static struct object *make(size_t bytes, unsigned kind, unsigned layout) {
    struct object *object = must(ground_make(&ground, bytes, kind, layout));
    struct place place;
    assert_true(blockmap_find((uintptr_t)object, &place));
    if (item_count == item_capacity) {
        item_capacity = item_capacity == 0 ? 1024 : item_capacity * 2;
        items = must(realloc(items, item_capacity * sizeof *items));
    }
    items[item_count++] = (struct item){place.start, place.bytes, kind,
                                        block_get(place.block)->layout, false};
    if (block_kind_is_leaf(kind)) {
        memset((void *)object, 0, place.bytes);
    }
    return object;
}

static int by_start(const void *a, const void *b) {
    const struct item *left = a, *right = b;
    return left->start < right->start ? -1 : left->start > right->start;
}

static void sort_items(void) {
    qsort(items, item_count, sizeof *items, by_start);
    stack = must(realloc(stack, (item_count + 1) * sizeof *stack));
    for (size_t i = 0; i < item_count; i++) {
        items[i].reached = false;
    }
}

static struct item *item_of(uintptr_t word) {
    size_t low = 0, high = item_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (items[middle].start <= word) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == 0 || word - items[low - 1].start >= items[low - 1].bytes) {
        return NULL;
    }
    return &items[low - 1];
}

static void reach_word(uintptr_t word) {
    struct item *item = item_of(word);
    if (item == NULL || item->reached ||
        (item->kind == KIND_BASE_ONLY &&
         word - item->start >= BASE_ONLY_BYTES)) { // K6
        return;
    }
    item->reached = true;
    stack[stack_count++] = item;
}

static bool is_leaf(unsigned kind) {
    return block_kind_is_leaf(kind) || kind == KIND_COUNTED_LEAF ||
           kind == KIND_BIASED_LEAF;
}

static bool counts(const struct item *item, size_t word) {
    if (is_leaf(item->kind)) {
        return false;
    }
    if (item->kind != KIND_DESCRIBED) {
        return true;
    }
    const struct layout *layout = layout_get(item->layout);
    size_t inside = word % (layout->element_words + !layout->element_words);
    return layout->pointer_bits[inside / 64] >> (inside % 64) & 1;
}

static void reach_all(void) {
    for (size_t i = 0; i < item_count; i++) {
        if (items[i].kind == KIND_PINNED) {
            items[i].reached = true;
            stack[stack_count++] = &items[i];
        }
        items[i].reached |= items[i].kind == KIND_PINNED_LEAF;
    }
    while (stack_count != 0) {
        const struct item *item = stack[--stack_count];
        const uintptr_t *words = (const uintptr_t *)item->start;
        for (size_t i = 0; i < WORDS_OF(item->bytes); i++) {
            if (counts(item, i)) {
                reach_word(words[i]);
            }
        }
    }
}

// --- Comparing -------------------------------------------------------------

static size_t marks_in_all;

static void count_marks(uint32_t block, void *data) {
    (void)data;
    for (size_t word = 0; word < block_words(block); word++) {
        const uint64_t *pair = block_pair(block, word);
        assert_int_equal(pair[0] & ~pair[1], 0); // K2
        marks_in_all += (size_t)__builtin_popcountll(pair[0]);
    }
}

// What the marker says it read: each object that may hold a pointer, once.
static size_t readable_bytes(const struct item *item) {
    bool named = item->kind != KIND_DESCRIBED ||
                 layout_get(item->layout)->pointer_count != 0;
    return !is_leaf(item->kind) && named ? item->bytes : 0;
}

static void compare(void) {
    size_t reached = 0, pinned = 0, bytes = 0;
    for (size_t i = 0; i < item_count; i++) {
        const struct item *item = &items[i];
        if (item->reached != ground_is_marked((void *)item->start)) { // K1
            fail_msg("object %zu of kind %u, layout %u, %zu bytes at %zx is "
                     "%sreachable and %smarked",
                     i, item->kind, item->layout, item->bytes,
                     (size_t)item->start, item->reached ? "" : "un",
                     item->reached ? "not " : "");
        }
        reached += item->reached;
        pinned += block_kind_is_pinned(item->kind);
        bytes += item->reached ? readable_bytes(item) : 0;
    }
    marks_in_all = 0;
    heap_each_block(count_marks, NULL);
    assert_int_equal(marks_in_all, reached); // nothing but known objects
    if (helpers.count == 0) {
        assert_int_equal(marker.object_count, reached - pinned);
        assert_int_equal(marker.scanned_bytes, bytes); // K3
    } else { // K8: what two have marked at a time counts twice
        assert_in_range(marker.object_count, reached - pinned,
                        2 * (reached - pinned));
        assert_in_range(marker.scanned_bytes, bytes, 2 * bytes);
    }
    assert_true(worklist_is_empty(&marker.list));
    assert_false(marker.overflowed);
}

// Marks from the words of `roots`, and from pinned objects.
static void mark_from(const uintptr_t *roots, size_t count) {
    size_t memory = meta_bytes() + range.table_bytes;
    ground_prepare(&ground);
    mark_begin(&marker);
    helpers_begin(&marker);
    size_t half = count / 2; // some as a range, some one by one
    mark_range(&marker, roots, roots + half);
    for (size_t i = half; i < count; i++) {
        mark_word(&marker, roots[i]);
    }
    mark_pinned(&marker, &ground.heap);
    mark_drain(&marker);
    helpers_end(&marker);
    assert_int_equal(meta_bytes() + range.table_bytes, memory); // K4
}

static size_t flip(void) {
    struct census census;
    ground_flip(&ground, &census);
    assert_true(region_check(&ground.heap.region));
    return census.live_objects;
}

static void free_pinned(const struct item *item) {
    struct place place;
    assert_non_null(blockmap_object(item->start, &place));
    if (place.bytes > CELL_BYTES_MAX) {
        heap_free_run(&ground.heap, place.block);
    } else {
        ground_free(&ground, &place);
    }
}

// Marks, compares, and gives everything back.
static void mark_and_compare(const uintptr_t *roots, size_t count) {
    sort_items();
    stack_count = 0;
    for (size_t i = 0; i < count; i++) {
        reach_word(roots[i]);
    }
    reach_all();
    mark_from(roots, count);
    compare();
    flip();
    for (size_t i = 0; i < item_count; i++) {
        if (block_kind_is_pinned(items[i].kind)) {
            free_pinned(&items[i]);
        }
    }
    item_count = 0;
    ground_prepare(&ground); // and nothing is marked
    assert_int_equal(flip(), 0);
}

// --- Random graphs ---------------------------------------------------------

// Elements of every awkward number of words, and where their pointers are.
enum { LAYOUTS = 9 };
static const struct {
    size_t words;
    unsigned percent; // of the words that may be pointers
} layout_shapes[LAYOUTS] = {
    {1, 100}, {2, 50},  {3, 40},   {5, 50},   {7, 30},
    {64, 50}, {100, 3}, {300, 50}, {1000, 1},
};
static unsigned layout_ids[LAYOUTS + 1]; // the last names no word at all

static int make_layouts(void **state) {
    (void)state;
    struct gen gen;
    gen_init(&gen, 1);
    static size_t offsets[1000];
    for (size_t i = 0; i < LAYOUTS; i++) {
        size_t count = 0;
        for (size_t word = 0; word < layout_shapes[i].words; word++) {
            if (gen_chance(&gen, layout_shapes[i].percent)) {
                offsets[count++] = word * WORD_BYTES;
            }
        }
        struct layout *layout = must(
            layout_make(layout_shapes[i].words * WORD_BYTES, offsets, count));
        layout_ids[i] = layout->id;
    }
    struct layout *none = must(layout_make(24, offsets, 0));
    layout_ids[LAYOUTS] = none->id;
    return 0;
}

static size_t random_bytes(struct gen *gen) {
    if (gen_chance(gen, 70)) {
        return gen_bytes(gen, 512);
    }
    return gen_bytes(gen, gen_chance(gen, 90) ? 20 * KiB : 700 * KiB);
}

// A word of any sort, as a program may have one.
static uintptr_t random_word(struct gen *gen, size_t known) {
    const struct item *item = &items[gen_below(gen, known)];
    switch (gen_below(gen, 10)) {
    case 0:
        return item->start + item->bytes; // a neighbour, or nothing
    case 1:
        return item->start - 1;
    case 2:
        return item->start + item->bytes - 1;
    case 3:
        return range.base + gen_below(gen, range.frontier_bytes);
    case 4:
        return gen_chance(gen, 50) ? range.base + range.frontier_bytes
                                   : range.base - 1 - gen_below(gen, 64);
    case 5:
        return item->start + gen_below(gen, item->bytes);
    case 6:
        return (uintptr_t)gen_next(gen);
    default:
        return item->start;
    }
}

// Words for an object; large ones only here and there, and at their ends.
static void fill(struct gen *gen, const struct item *item, size_t known) {
    uintptr_t *words = (uintptr_t *)item->start;
    size_t count = WORDS_OF(item->bytes);
    for (size_t i = 0; i < count; i++) {
        if (count < 16 ? gen_chance(gen, 30) : gen_below(gen, count) < 6) {
            words[i] = random_word(gen, known);
        }
    }
    if (gen_chance(gen, 50)) {
        words[count - 1] = items[gen_below(gen, known)].start;
    }
}

static void make_graph(struct gen *gen, size_t count) {
    for (size_t i = 0; i < count; i++) {
        static const unsigned kinds[] = {
            KIND_LEAF,      KIND_SCANNED,    KIND_SCANNED,
            KIND_SCANNED,   KIND_DESCRIBED,  KIND_DESCRIBED,
            KIND_BASE_ONLY, KIND_PINNED,     KIND_PINNED_LEAF,
            KIND_COUNTED,   KIND_COUNTED,    KIND_COUNTED_LEAF,
            KIND_BIASED,    KIND_BIASED_LEAF};
        unsigned kind = kinds[gen_below(gen, sizeof kinds / sizeof *kinds)];
        if (block_kind_is_pinned(kind) && !gen_chance(gen, 10)) {
            kind = KIND_SCANNED;
        }
        unsigned layout = kind == KIND_DESCRIBED
                              ? layout_ids[gen_below(gen, LAYOUTS + 1)]
                              : 0;
        size_t bytes = random_bytes(gen);
        bytes = kind == KIND_BASE_ONLY ? bytes * 10 : bytes;
        (void)make(bytes, kind, layout);
    }
}

// Frees every twentieth that is not pinned: words then point to free cells.
static void free_some(struct gen *gen) {
    size_t kept = 0;
    for (size_t i = 0; i < item_count; i++) {
        struct place place;
        assert_non_null(blockmap_object(items[i].start, &place));
        if (block_kind_is_pinned(items[i].kind) || !gen_chance(gen, 5)) {
            items[kept++] = items[i];
        } else if (place.bytes > CELL_BYTES_MAX ||
                   block_cells(place.block) == 1) {
            items[kept++] = items[i]; // that would free the block too
        } else {
            ground_free(&ground, &place);
        }
    }
    item_count = kept;
}

// K1, K2, K3, K4.
static void test_random(void **state) {
    (void)state;
    uint64_t seed = gen_seed("graphs");
    for (size_t round = 0; round < SCALED(60, 25); round++) {
        struct gen gen;
        gen_init(&gen, seed + round);
        make_graph(&gen, 1 + gen_below(&gen, round % 5 == 0 ? 3000 : 300));
        for (size_t i = 0; i < item_count; i++) {
            fill(&gen, &items[i], item_count);
        }
        size_t before = item_count;
        uintptr_t roots[40];
        size_t count = gen_below(&gen, 41);
        for (size_t i = 0; i < count; i++) {
            roots[i] = random_word(&gen, before);
        }
        free_some(&gen);
        mark_and_compare(roots, count);
    }
}

// --- Shapes ----------------------------------------------------------------

// K5, or deep stacks: lists are the worst case for a marker that recurses.
static void test_deep_list(void **state) {
    (void)state;
    size_t count = SCALED(1000000, 200000);
    uintptr_t first = 0;
    for (size_t i = 0; i < count; i++) {
        uintptr_t *node = (uintptr_t *)make(16, KIND_SCANNED, 0);
        node[0] = first;
        first = (uintptr_t)node;
    }
    mark_and_compare(&first, 1);
}

// One array, each word of which leads to another object.
static void test_wide_array(void **state) {
    (void)state;
    size_t count = SCALED(1000000, 200000);
    uintptr_t *array = (uintptr_t *)make(count * WORD_BYTES, KIND_SCANNED, 0);
    for (size_t i = 0; i < count; i++) {
        array[i] = (uintptr_t)make(16, i % 2 ? KIND_LEAF : KIND_SCANNED, 0);
    }
    uintptr_t root = (uintptr_t)(array + count / 2); // anywhere inside
    mark_and_compare(&root, 1);
}

// The most words of an object that is read at once and not in pieces.
enum { NODE_WORDS = LOAM_TINY ? 4 : 256 };

// A chain link of that many words: all but the last lead to fresh objects.
static uintptr_t *make_link(uintptr_t next) {
    uintptr_t *node =
        (uintptr_t *)make(NODE_WORDS * WORD_BYTES, KIND_SCANNED, 0);
    for (size_t word = 0; word + 1 < NODE_WORDS; word++) {
        node[word] = (uintptr_t)make(16, KIND_SCANNED, 0);
    }
    node[NODE_WORDS - 1] = next; // on top of the stack
    return node;
}

// K5: a chain of objects that each lead to hundreds more: what waits grows with
// every step, until the stack of words is full.
static void test_word_overflow(void **state) {
    (void)state;
    uint64_t before = marker.overflow_count;
    uintptr_t next = 0;
    for (size_t i = 0; i < 1500; i++) {
        next = (uintptr_t)make_link(next);
    }
    mark_and_compare(&next, 1);
    assert_true(marker.overflow_count > before);
}

// K5: the same for pieces: large objects, each with the next in its first words
// and more to read behind.
static void test_piece_overflow(void **state) {
    (void)state;
    uint64_t before = marker.overflow_count;
    uintptr_t next = 0;
    for (size_t i = 0; i < 5000; i++) {
        bool described = i % 3 == 0;
        uintptr_t *node =
            (uintptr_t *)make(4096, described ? KIND_DESCRIBED : KIND_SCANNED,
                              described ? layout_ids[0] : 0);
        node[1] = next;
        node[500] = (uintptr_t)make(32, KIND_SCANNED, 0); // seen after it
        next = (uintptr_t)node;
    }
    mark_and_compare(&next, 1);
    assert_true(marker.overflow_count > before);
}

// K5: blocks that overflow, and are read again, and overflow while they are.
static void test_overflow_again(void **state) {
    (void)state;
    uint64_t before = marker.overflow_count;
    uintptr_t next = 0;
    for (size_t chain = 0; chain < 4; chain++) {
        for (size_t i = 0; i < 700; i++) {
            // The chain before hangs on the deepest objects of this one, which
            // wait on the stack when it is full.
            uintptr_t *node = make_link(i == 0 ? 0 : next);
            if (i == 0 && next != 0) {
                *(uintptr_t *)node[1] = next;
            }
            next = (uintptr_t)node;
        }
    }
    mark_and_compare(&next, 1);
    assert_true(marker.overflow_count > before + 1);
}

// Described arrays of elements that do not divide a piece: the phase is carried
// from piece to piece.  Each word holds a pointer; only named ones count.
static void test_described_pieces(void **state) {
    (void)state;
    for (size_t i = 0; i <= LAYOUTS; i++) {
        size_t bytes = i % 2 ? 40000 : 300 * KiB; // a cell, a run
        uintptr_t *array =
            (uintptr_t *)make(bytes, KIND_DESCRIBED, layout_ids[i]);
        size_t count = WORDS_OF(items[0].bytes);
        for (size_t word = 0; word < count; word++) {
            array[word] = (uintptr_t)make(16, KIND_LEAF, 0);
        }
        uintptr_t root = (uintptr_t)array;
        mark_and_compare(&root, 1);
    }
}

// K6: to the byte, in a cell and in a run.
static void test_base_only(void **state) {
    (void)state;
    static const size_t sizes[] = {16, 4096, 5000, 100000, 500 * KiB};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (size_t at = 0; at < 4; at++) {
            uintptr_t start = (uintptr_t)make(sizes[i], KIND_BASE_ONLY, 0);
            size_t last = items[0].bytes - 1;
            const size_t offsets[] = {0, BASE_ONLY_BYTES - 1, BASE_ONLY_BYTES,
                                      last};
            size_t offset = offsets[at] < last ? offsets[at] : last;
            uintptr_t root = start + offset;
            *(uintptr_t *)start = (uintptr_t)make(16, KIND_LEAF, 0);
            sort_items();
            mark_from(&root, 1);
            assert_int_equal(ground_is_marked((void *)start),
                             offset < BASE_ONLY_BYTES); // K6
            flip();
            item_count = 0;
            ground_prepare(&ground);
            assert_int_equal(flip(), 0);
        }
    }
}

// An object of each class, and runs, kept by one word into each of its blocks.
static void test_inside(void **state) {
    (void)state;
    for (unsigned cls = CLASS_FIRST; cls <= CLASS_PLAIN_LAST + 3; cls++) {
        size_t bytes = cls <= CLASS_PLAIN_LAST
                           ? sizeclass_bytes(cls)
                           : (cls - CLASS_PLAIN_LAST) * 300 * KiB;
        for (size_t offset = bytes - 1;; offset -= BLOCK_BYTES / 2) {
            (void)make(bytes, KIND_SCANNED, 0); // it may share their span
            uintptr_t root = (uintptr_t)make(bytes, KIND_SCANNED, 0) + offset;
            mark_and_compare(&root, 1);
            if (offset < BLOCK_BYTES / 2) {
                break;
            }
        }
    }
}

// Words that lie in the range and in no object: the waste behind the last cell
// of a block, the unused pages of a run's last block, free blocks, block 0.
static void test_just_outside(void **state) {
    (void)state;
    uintptr_t run = (uintptr_t)make(260 * KiB + 1, KIND_SCANNED, 0);
    uintptr_t run_end = run + items[0].bytes;
    assert_int_not_equal(run_end % BLOCK_BYTES, 0);
    uintptr_t cell = (uintptr_t)make(2300, KIND_SCANNED, 0);
    uint32_t block = range_block_of(cell);
    uintptr_t over = block_cell_address(block, (uint32_t)block_cells(block));
    assert_true(over < range_block_address(block) + BLOCK_BYTES);
    const uintptr_t roots[] = {run_end,
                               run_end + 1,
                               run - 1,
                               over,
                               over + 8,
                               range_block_address(block) + BLOCK_BYTES - 1,
                               range.base,
                               range.base + BLOCK_BYTES - 1,
                               range.base - 1,
                               range.base + range.frontier_bytes - 1,
                               range.base + range.frontier_bytes,
                               range.base + range.bytes,
                               0,
                               UINTPTR_MAX};
    mark_and_compare(roots, sizeof roots / sizeof *roots);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_deep_list),
        cmocka_unit_test(test_wide_array),
        cmocka_unit_test(test_word_overflow),
        cmocka_unit_test(test_piece_overflow),
        cmocka_unit_test(test_overflow_again),
        cmocka_unit_test(test_described_pieces),
        cmocka_unit_test(test_base_only),
        cmocka_unit_test(test_inside),
        cmocka_unit_test(test_just_outside),
    };
    if (!ground_init(&ground, 2 * GiB) || !mark_init(&marker)) {
        return 77; // no memory for it here
    }
    const char *markers = getenv("LOAM_MARKERS");
    size_t count = markers == NULL ? 1 : strtoul(markers, NULL, 10);
    if (!helpers_init(count - 1, LOAM_TINY ? 4 : 300)) {
        return 77;
    }
    return cmocka_run_group_tests(tests, make_layouts, NULL);
}
