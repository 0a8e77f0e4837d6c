// Handles by the thousand, into objects of every size, against an array that
// remembers what each should lead to.

#include "heap/handle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "heap/counted.h"
#include "support/gen.h"
#include "support/ground.h"

#define OBJECTS ((size_t)(LOAM_TINY ? 300 : 3000))
#define HANDLES ((size_t)(LOAM_TINY ? 500 : 5000))

static struct ground ground;

// What a handle should do.
static struct model {
    struct handle *handle;
    uintptr_t target; // 0: cleared
    size_t object;    // its number
} models[HANDLES];

static struct place places[OBJECTS];

static void mark(const struct place *place) {
    block_pair(place->block, place->cell / 64)[0] |= (uint64_t)1
                                                     << (place->cell % 64);
}

static bool is_marked(const struct place *place) {
    return block_is_marked(place->block, place->cell);
}

static bool is_watched(const struct place *place) {
    return (block_flags(place->block) & BLOCK_WATCHED) != 0;
}

static void unwatch(uint32_t block, void *data) {
    (void)data;
    block_clear_flags(block, BLOCK_WATCHED);
}

static struct handle *make_handle(unsigned sort) {
    struct handle *handle =
        (struct handle *)ground_make(&ground, sizeof *handle, KIND_HANDLE, 0);
    assert_non_null(handle);
    assert_int_equal(handle->target, 0);
    handle->sort = (uint16_t)sort;
    return handle;
}

static void make_all(struct gen *gen) {
    for (size_t i = 0; i < OBJECTS; i++) {
        size_t bytes = gen_bytes(gen, i % 100 == 0 ? 300 * KiB : 3000);
        places[i] = ground_place(ground_make(&ground, bytes, KIND_SCANNED, 0));
    }
    for (size_t i = 0; i < HANDLES; i++) {
        struct model *model = &models[i];
        model->object = gen_below(gen, OBJECTS);
        const struct place *place = &places[model->object];
        model->target = place->start + gen_below(gen, place->bytes);
        model->handle = make_handle((unsigned)gen_below(gen, HANDLE_SORTS));
        handle_set(model->handle, model->target, place);
        block_set_flags(place->block, BLOCK_WATCHED);
    }
}

static void check_all(void) {
    for (size_t i = 0; i < HANDLES; i++) {
        assert_int_equal(handle_get(models[i].handle), models[i].target);
    }
}

// What clearing one sort should do to the models; the number cleared.
static size_t clear_models(unsigned sort) {
    size_t cleared = 0;
    for (size_t i = 0; i < HANDLES; i++) {
        struct model *model = &models[i];
        if (model->handle->sort == sort && model->target != 0 &&
            !is_marked(&places[model->object])) {
            model->target = 0;
            cleared++;
        }
    }
    return cleared;
}

// Cycles in which objects are marked at random until most handles are empty.
static void test_cycles(void **state) {
    (void)state;
    struct gen gen;
    gen_init(&gen, gen_seed("handles"));
    make_all(&gen);
    check_all();
    for (size_t cycle = 0; cycle < 6; cycle++) {
        ground_prepare(&ground);
        for (size_t i = 0; i < OBJECTS; i++) {
            if (gen_chance(&gen, 70)) {
                mark(&places[i]);
            }
        }
        for (size_t i = 0; i < HANDLES; i++) {
            struct place place = ground_place(models[i].handle);
            mark(&place);
        }
        heap_each_block(unwatch, NULL);
        for (unsigned sort = 0; sort < HANDLE_SORTS; sort++) {
            size_t expected = clear_models(sort);
            assert_int_equal(handle_clear(sort), expected); // N1, N2
            check_all();
        }
        for (size_t i = 0; i < HANDLES; i++) {
            assert_true(models[i].target == 0 ||
                        is_watched(&places[models[i].object])); // N4
        }
        ground_resume(&ground);
    }
}

// A target freed by hand is gone at once, its neighbours are not; the next
// cycle clears the handle for good.
static void test_freed(void **state) {
    (void)state;
    assert_true(range_use_freed());
    struct place gone = ground_place(ground_make(&ground, 48, KIND_SCANNED, 0));
    struct place kept = ground_place(ground_make(&ground, 48, KIND_SCANNED, 0));
    struct handle *to_gone = make_handle(HANDLE_LONG);
    struct handle *to_kept = make_handle(HANDLE_SHORT);
    handle_set(to_gone, gone.start + 5, &gone);
    handle_set(to_kept, kept.start, &kept);
    (void)block_free_remotely(gone.block, gone.cell);
    assert_int_equal(handle_get(to_gone), 0); // N3
    assert_int_equal(handle_get(to_kept), kept.start);
    ground_prepare(&ground);
    mark(&kept);
    struct place place = ground_place(to_gone);
    mark(&place);
    assert_false(blockmap_object(gone.start, &place) != NULL);
    handle_clear(HANDLE_SHORT);
    handle_clear(HANDLE_LONG);
    assert_int_equal(to_gone->target, 0); // N1
    assert_int_equal(handle_get(to_kept), kept.start);
    ground_resume(&ground);
}

// Set again, dropped, and broken by a wild store: the walk survives.
static void test_set(void **state) {
    (void)state;
    struct place a = ground_place(ground_make(&ground, 32, KIND_LEAF, 0));
    struct place b = ground_place(ground_make(&ground, 500, KIND_SCANNED, 0));
    struct handle *handle = make_handle(HANDLE_SHORT);
    handle_set(handle, a.start, &a);
    handle_set(handle, b.start + 499, &b);
    assert_int_equal(handle_get(handle), b.start + 499);
    struct handle *wild = make_handle(HANDLE_SHORT);
    memset((void *)wild, 0xff, sizeof *wild);
    wild->sort = HANDLE_SHORT;
    ground_prepare(&ground);
    mark(&a); // the old target; the new one is dead
    handle_clear(HANDLE_SHORT);
    assert_int_equal(handle_get(handle), 0); // N1, N5
    handle_set(handle, a.start, &a);
    handle_drop(handle);
    assert_int_equal(handle_get(handle), 0);
    ground_resume(&ground);
}

static bool is_of_block(uint32_t block, void *data) {
    return block == *(const uint32_t *)data;
}

static void test_gone(void **state) {
    (void)state;
    struct place a = ground_place(ground_make(&ground, 4000, KIND_LEAF, 0));
    struct place b = ground_place(ground_make(&ground, 96, KIND_LEAF, 0));
    struct handle *handles[2] = {make_handle(HANDLE_SHORT),
                                 make_handle(HANDLE_LONG)};
    handle_set(handles[0], a.start, &a);
    handle_set(handles[1], b.start, &b);
    ground_prepare(&ground);
    assert_true(handle_clear_gone(is_of_block, &b.block) >= 1); // N1
    assert_int_equal(handle_get(handles[0]), a.start);          // N2
    assert_int_equal(handle_get(handles[1]), 0);
    ground_resume(&ground);
}

// N7: rows of every size, to objects of which every third lives.
// A counted target: its head says when it is gone, and when it is as good as
// gone to a short reference.
static void test_counted(void **state) {
    (void)state;
    char *cell = (char *)ground_make(&ground, 40, KIND_COUNTED, 0);
    void *object = cell + sizeof(struct counted);
    *counted_of(object) = (struct counted){64, 1u << COUNTED_TYPE_SHIFT};
    struct place place = ground_place(object);
    struct handle brief = {.sort = HANDLE_SHORT},
                  lasting = {.sort = HANDLE_LONG};
    handle_set(&brief, (uintptr_t)object, &place);
    handle_set(&lasting, (uintptr_t)object, &place);
    assert_int_equal(handle_get(&brief), (uintptr_t)object);
    counted_of(object)->word |= COUNTED_DONE; // its finalizer is due: N6
    assert_int_equal(handle_get(&brief), 0);
    assert_int_equal(handle_get(&lasting), (uintptr_t)object);
    handle_set(&brief, (uintptr_t)object, &place); // made by the finalizer
    assert_int_equal(handle_get(&brief), (uintptr_t)object);
    counted_of(object)->word |= COUNTED_DEAD;
    assert_int_equal(handle_get(&brief), 0);
    assert_int_equal(handle_get(&lasting), 0);
}

static void test_rows(void **state) {
    (void)state;
    const size_t counts[] = {2, 3, 64, 65, 500, 20000};
    struct handle *rows[6];
    struct place targets[3];
    for (size_t i = 0; i < 3; i++) {
        targets[i] = ground_place(ground_make(&ground, 64, KIND_LEAF, 0));
    }
    for (size_t i = 0; i < 6; i++) {
        rows[i] = (struct handle *)ground_make(
            &ground, counts[i] * sizeof *rows[i], KIND_HANDLE, 0);
        assert_non_null(rows[i]);
        for (size_t at = 0; at < counts[i]; at++) {
            assert_int_equal(rows[i][at].target, 0); // N7
            rows[i][at].sort = HANDLE_LONG;
            handle_set(&rows[i][at], targets[at % 3].start, &targets[at % 3]);
        }
    }
    ground_prepare(&ground);
    mark(&targets[1]);
    handle_clear(HANDLE_LONG);
    for (size_t i = 0; i < 6; i++) {
        for (size_t at = 0; at < counts[i]; at++) {
            assert_int_equal(handle_get(&rows[i][at]),
                             at % 3 == 1 ? targets[1].start : 0); // N1, N2
        }
    }
    ground_resume(&ground);
}

static int setup(void **state) {
    (void)state;
    return ground_init(&ground, 512 * MiB) ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cycles), cmocka_unit_test(test_freed),
        cmocka_unit_test(test_set),    cmocka_unit_test(test_gone),
        cmocka_unit_test(test_rows),   cmocka_unit_test(test_counted),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
