// The second marker: it reaches what the first reaches, knows nothing of it,
// and notices a mark that is missing.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "heap/counted.h"
#include "heap/meta.h"
#include "support/child.h"
#include "support/gen.h"
#include "support/ground.h"
#include "support/room.h"
#include "support/scrub.h"
#include "trace/audit.h"
#include "trace/mark.h"

#define OBJECTS_MAX ((size_t)4000)

static struct ground ground;
static struct marker marker;
static struct object *objects[OBJECTS_MAX];
static size_t object_count;
static unsigned layout_id;
static size_t reached; // of the last graph, by the marker; pinned ones too

static uintptr_t random_word(struct gen *gen) {
    const struct object *object = objects[gen_below(gen, object_count)];
    uintptr_t start = (uintptr_t)object;
    size_t chance = gen_below(gen, 8);
    return chance == 0   ? start + gen_below(gen, 6000)
           : chance == 1 ? gen_next(gen)
                         : start;
}

static struct object *make(size_t bytes, unsigned kind, unsigned layout) {
    struct object *object = ground_make(&ground, bytes, kind, layout);
    assert_non_null(object);
    return object;
}

// Objects of all kinds and sizes, joined at random; new marks from `roots`.
static void make_graph(struct gen *gen, uintptr_t *roots, size_t root_count) {
    object_count = 100 + gen_below(gen, OBJECTS_MAX - 100);
    for (size_t i = 0; i < object_count; i++) {
        unsigned kind = (unsigned)gen_below(gen, KIND_COUNT);
        kind = block_kind_is_pinned(kind) && i % 8 != 0 ? KIND_SCANNED : kind;
        size_t bytes = gen_bytes(gen, i % 50 == 0 ? 400 * KiB : 600);
        unsigned layout = kind == KIND_DESCRIBED ? layout_id : 0;
        objects[i] = make(bytes, kind, layout);
    }
    for (size_t i = 0; i < object_count; i++) {
        struct place place;
        assert_true(blockmap_find((uintptr_t)objects[i], &place));
        uintptr_t *words = (uintptr_t *)place.start;
        size_t count = place.bytes / WORD_BYTES;
        if (block_kind_is_leaf(place.kind)) {
            memset(words, 0, place.bytes);
        }
        for (size_t n = 0; n < 3; n++) {
            words[gen_below(gen, count)] = random_word(gen);
        }
        memset(words, 0, block_kind_front(place.kind)); // no zombie by chance
    }
    for (size_t i = 0; i < root_count; i++) {
        roots[i] = random_word(gen);
    }
}

static void count_marks(uint32_t block, void *data) {
    for (uint32_t cell = 0; cell < block_cells(block); cell++) {
        *(size_t *)data += block_is_marked(block, cell);
    }
}

static void mark_all(const uintptr_t *roots, size_t count) {
    ground_prepare(&ground);
    mark_begin(&marker);
    mark_range(&marker, roots, roots + count);
    mark_pinned(&marker, &ground.heap);
    mark_drain(&marker);
    reached = 0;
    heap_each_block(count_marks, &reached);
}

static void walk(struct audit *audit, const uintptr_t *roots, size_t count) {
    size_t half = count / 2;
    audit_range(audit, roots, roots + half);
    for (size_t i = half; i < count; i++) {
        audit_word(audit, roots[i], NULL);
    }
    audit_pinned(audit);
}

static void flip(void) {
    struct census census;
    ground_flip(&ground, &census);
}

// Frees the pinned objects, so that the next graph begins with nothing.
static void clear_all(void) {
    flip();
    for (size_t i = 0; i < object_count; i++) {
        struct place place;
        if (blockmap_object((uintptr_t)objects[i], &place) != NULL &&
            block_kind_is_pinned(place.kind)) {
            if (place.bytes > CELL_BYTES_MAX) {
                heap_free_run(&ground.heap, place.block);
            } else {
                ground_free(&ground, &place);
            }
        }
    }
    ground_prepare(&ground);
    flip();
}

static void place_of_mark(uint32_t block, void *data) {
    struct place *wanted = data;
    for (uint32_t cell = 0; cell < block_cells(block); cell++) {
        if (block_is_marked(block, cell) && wanted->bytes-- == 0) {
            wanted->block = block;
            wanted->cell = cell;
        }
    }
}

// The place of the nth marked object.
static struct place marked_place(size_t n) {
    struct place place = {.bytes = n, .block = BLOCK_NONE};
    heap_each_block(place_of_mark, &place);
    assert_int_not_equal(place.block, BLOCK_NONE);
    return place;
}

// Q2: nothing is missed by a marker that is right, and each object is counted
// whose mark is taken away: one, two, ... all.
static void test_missed(void **state) {
    (void)state;
    uint64_t seed = gen_seed("audit");
    for (size_t round = 0; round < SCALED(12, 6); round++) {
        struct gen gen;
        gen_init(&gen, seed + round);
        uintptr_t roots[20], example = 0;
        make_graph(&gen, roots, 20);
        mark_all(roots, 20);
        struct audit audit;
        assert_true(audit_begin(&audit, &ground.heap, NULL));
        walk(&audit, roots, 20);
        assert_true(audit.complete);
        assert_int_equal(audit.object_count, reached);
        assert_int_equal(audit_compare(&audit, &example), 0);
        for (size_t missing = 1; missing <= 5 && reached > missing; missing++) {
            size_t left = reached - missing + 1;
            struct place place = marked_place(gen_below(&gen, left));
            block_pair(place.block, place.cell / 64)[0] &=
                ~((uint64_t)1 << (place.cell % 64));
            assert_int_equal(audit_compare(&audit, &example), missing);
            struct place named;
            assert_non_null(blockmap_object(example, &named));
            assert_int_equal(named.start, example);
            assert_false(block_is_marked(named.block, named.cell));
        }
        audit_end(&audit);
        // What could not be reached and is marked all the same is no miss.
        clear_all();
    }
}

static bool swap_marks;

static void turn_marks(uint32_t block, void *data) {
    (void)data;
    for (size_t word = 0; word < block_words(block); word++) {
        uint64_t *pair = block_pair(block, word);
        pair[0] = swap_marks ? pair[1] & ~pair[0] : pair[1];
    }
}

static void sum_marks(uint32_t block, void *data) {
    uint64_t *sum = data;
    for (size_t word = 0; word < block_words(block); word++) {
        const uint64_t *pair = block_pair(block, word);
        *sum = gen_mix(gen_mix(*sum, pair[0]), pair[1]);
    }
}

// Q1: whatever the mark bits say, it reaches the same and leaves them alone;
// and a mark too many is not its business.
static void test_apart(void **state) {
    (void)state;
    struct gen gen;
    gen_init(&gen, gen_seed("apart"));
    uintptr_t roots[20], example;
    make_graph(&gen, roots, 20);
    mark_all(roots, 20);
    for (size_t turn = 0; turn < 3; turn++) {
        struct audit audit;
        uint64_t before = 0, after = 0;
        heap_each_block(sum_marks, &before);
        assert_true(audit_begin(&audit, &ground.heap, NULL));
        walk(&audit, roots, 20);
        heap_each_block(sum_marks, &after);
        assert_int_equal(before, after);
        assert_int_equal(audit.object_count, reached);
        size_t missed = audit_compare(&audit, &example);
        // As marked; what was marked is not, what was not is; all is.
        assert_int_equal(missed, turn == 1 ? reached : 0);
        audit_end(&audit);
        swap_marks = turn == 0;
        heap_each_block(turn_marks, NULL);
    }
    clear_all();
}

// Q5: of an object without its mark the audit remembers the word that led there
// first, and where it stood.
static void test_first(void **state) {
    (void)state;
    struct gen gen;
    gen_init(&gen, gen_seed("first"));
    for (size_t round = 0; round < 10; round++) {
        uintptr_t roots[20], example;
        make_graph(&gen, roots, 20);
        mark_all(roots, 20);
        struct place place = marked_place(gen_below(&gen, reached)), found;
        block_pair(place.block, place.cell / 64)[0] &=
            ~((uint64_t)1 << (place.cell % 64));
        struct audit audit;
        assert_true(audit_begin(&audit, &ground.heap, NULL));
        assert_int_equal(audit.first.word, 0);
        walk(&audit, roots, 20);
        assert_int_equal(audit_compare(&audit, &example), 1);
        assert_non_null(blockmap_object(audit.first.word, &found));
        assert_int_equal(found.start, example);
        assert_true(audit.first.at == NULL ||
                    *audit.first.at == audit.first.word);
        if (blockmap_object((uintptr_t)audit.first.at, &found) != NULL) {
            assert_true(block_is_marked(found.block, found.cell));
        }
        audit_end(&audit);
        clear_all();
    }
}

// Q6: words where the cycle has its own frames lead nowhere, be they in a root
// or in an object.
static void test_frames(void **state) {
    (void)state;
    uintptr_t *object = (uintptr_t *)make(64, KIND_SCANNED, 0);
    uintptr_t roots[2] = {(uintptr_t)object, (uintptr_t)make(64, KIND_LEAF, 0)};
    object[1] = (uintptr_t)make(64, KIND_LEAF, 0);
    object[2] = (uintptr_t)make(64, KIND_LEAF, 0);
    mark_all(roots, 2);
    assert_int_equal(reached, 4);
    const uintptr_t *const frames[] = {NULL, &roots[1], &object[2], &roots[0]};
    const size_t counts[] = {4, 3, 3, 1};
    for (size_t i = 0; i < 4; i++) {
        struct audit audit;
        uintptr_t example;
        assert_true(audit_begin(&audit, &ground.heap, NULL));
        audit.frames_start = (uintptr_t)frames[i];
        audit.frames_bytes = frames[i] == NULL ? 0 : WORD_BYTES;
        audit_range(&audit, roots, roots + 2);
        assert_int_equal(audit.object_count, counts[i]);
        assert_int_equal(audit_compare(&audit, &example), 0);
        audit_end(&audit);
    }
    flip();
}

static const uintptr_t *dead_at;

static bool is_dead(const void *at) {
    return at == dead_at;
}

// Q6: a dead word does not accuse the marker, but what is marked is gone on
// from; a word elsewhere that leads to the same does accuse it.
static void test_dead(void **state) {
    (void)state;
    uintptr_t *object = (uintptr_t *)make(64, KIND_SCANNED, 0);
    uintptr_t roots[2] = {(uintptr_t)object, (uintptr_t)object};
    object[1] = (uintptr_t)make(64, KIND_LEAF, 0);
    for (size_t marked = 0; marked < 2; marked++) {
        if (marked != 0) {
            mark_all(roots, 1);
        }
        for (size_t count = 1; count <= 2; count++) {
            struct audit audit;
            uintptr_t example;
            dead_at = &roots[0];
            assert_true(audit_begin(&audit, &ground.heap, is_dead));
            audit_range(&audit, roots, roots + count);
            size_t wanted = marked == 0 && count == 1 ? 0 : 2;
            assert_int_equal(audit.object_count, wanted);
            assert_int_equal(audit_compare(&audit, &example),
                             marked == 0 ? wanted : 0);
            audit_end(&audit);
        }
    }
    flip();
}

static int child_no_tables(void *data) {
    (void)data;
    struct audit audit;
    if (!room_end()) {
        return 0; // not a system to ask
    }
    return audit_begin(&audit, &ground.heap, NULL) ? 1 : 0;
}

// An array of more words than the audit's first stack holds.
#define ARRAY_WORDS ((size_t)100000)
static uintptr_t array_root;

static int child_no_stack(void *data) {
    (void)data;
#if defined(__SANITIZE_THREAD__)
    return 0; // TSan itself, which notes what is read, cannot do without memory
#endif
    struct audit audit;
    uintptr_t example;
    if (!audit_begin(&audit, &ground.heap, NULL) || !room_end()) {
        return 0;
    }
    audit_word(&audit, array_root, NULL);
    if (audit.complete) {
        return 1;
    }
    // What it did reach it says; no more was marked, no more is missed.
    if (audit_compare(&audit, &example) != 0) {
        return 2;
    }
    audit_end(&audit);
    return 0;
}

// Q3: no memory for its tables, or for a longer stack: it says so, and goes on.
static void test_shortage(void **state) {
    (void)state;
    static struct child child;
    child_fork(&child, child_no_tables, NULL);
    assert_int_equal(child.status, 0);
    uintptr_t *array =
        (uintptr_t *)make(ARRAY_WORDS * WORD_BYTES, KIND_SCANNED, 0);
    for (size_t i = 0; i < ARRAY_WORDS; i++) {
        array[i] = (uintptr_t)make(16, KIND_LEAF, 0);
    }
    array_root = (uintptr_t)array;
    mark_all(&array_root, 1);
    assert_int_equal(reached, ARRAY_WORDS + 1);
    child_fork(&child, child_no_stack, NULL);
    assert_int_equal(child.status, 0);
    struct audit audit; // and with memory it gets through
    uintptr_t example;
    assert_true(audit_begin(&audit, &ground.heap, NULL));
    audit_word(&audit, array_root, NULL);
    assert_true(audit.complete);
    assert_int_equal(audit.object_count, ARRAY_WORDS + 1);
    assert_int_equal(audit_compare(&audit, &example), 0);
    audit_end(&audit);
    flip();
}

// Its memory goes back when it is done.
static void test_memory(void **state) {
    (void)state;
    struct audit audit;
    assert_true(audit_begin(&audit, &ground.heap, NULL));
    audit_end(&audit);
    size_t before = meta_bytes();
    for (size_t i = 0; i < 20; i++) {
        assert_true(audit_begin(&audit, &ground.heap, NULL));
        audit_end(&audit);
    }
    assert_int_equal(meta_bytes(), before);
}

// Q7: with a head and with a biased one.
static void test_zombies(void **state) {
    (void)state;
    static const unsigned kinds[] = {KIND_COUNTED, KIND_BIASED};
    for (size_t i = 0; i < 2; i++) {
        struct place place;
        uintptr_t root = (uintptr_t)make(64, kinds[i], 0);
        assert_true(blockmap_find(root, &place));
        uintptr_t *object =
            (uintptr_t *)(place.start + block_kind_front(kinds[i]));
        object[2] = (uintptr_t)make(64, KIND_LEAF, 0);
        const uint32_t types[] = {1, COUNTED_ZOMBIE};
        for (size_t n = 0; n < 2; n++) {
            counted_of(object)->info = types[n] << COUNTED_TYPE_SHIFT;
            mark_all(&root, 1);
            struct audit audit;
            uintptr_t example;
            assert_true(audit_begin(&audit, &ground.heap, NULL));
            audit_word(&audit, root, NULL);
            assert_int_equal(audit.object_count, 2 - n);
            assert_int_equal(audit_compare(&audit, &example), 0);
            audit_end(&audit);
            flip();
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_missed),  cmocka_unit_test(test_apart),
        cmocka_unit_test(test_first),   cmocka_unit_test(test_frames),
        cmocka_unit_test(test_zombies), cmocka_unit_test(test_shortage),
        cmocka_unit_test(test_memory),  cmocka_unit_test(test_dead),
    };
    static const size_t offsets[] = {8, 32};
    struct layout *layout = NULL;
    if (ground_init(&ground, 2 * GiB) && mark_init(&marker)) {
        layout = layout_make(40, offsets, 2);
    }
    if (layout == NULL) {
        return 77; // no memory for it here
    }
    layout_id = layout->id;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
