// The order in which a cycle asks about the dead, on a heap without a door.

#include "collect/settle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "heap/handle.h"
#include "support/ground.h"
#include "trace/audit.h"

static struct ground ground;
static struct marker marker;
static struct settle settle;
static struct settle_report report;

static void nothing(void *object, void *data) {
    (void)object;
    (void)data;
}

static void *make(size_t bytes, unsigned kind) {
    void *object = ground_make(&ground, bytes, kind, 0);
    assert_non_null(object);
    return object;
}

static struct handle *make_handle(const void *target, unsigned sort) {
    struct handle *handle = make(sizeof *handle, KIND_HANDLE);
    struct place place = ground_place(target);
    assert_true(settle_use_handles(&settle));
    handle->sort = (uint16_t)sort;
    handle_set(handle, (uintptr_t)target, &place);
    return handle;
}

static void add_fate(const void *object, unsigned mode, const void *data) {
    struct place place = ground_place(object);
    struct fate fate = {.object = place.start,
                        .function = nothing,
                        .data = (uintptr_t)data,
                        .block = place.block,
                        .cell = (uint16_t)place.cell,
                        .mode = (uint8_t)mode};
    assert_non_null(settle_add_fate(&settle, &fate));
}

static void mark_one(uintptr_t word, void *data) {
    mark_word(data, word);
}

static void audit_one(uintptr_t word, void *data) {
    audit_word(data, word, NULL);
}

static bool is_there(const void *object) {
    struct place place;
    return blockmap_object((uintptr_t)object, &place) != NULL;
}

// One cycle, as collect/ does it, with the audit beside it.
static void cycle(const uintptr_t *roots, size_t count) {
    struct audit audit;
    struct census census;
    uintptr_t example;
    ground_prepare(&ground);
    mark_begin(&marker);
    mark_range(&marker, roots, roots + count);
    settle_roots(&settle, false, mark_one, &marker);
    mark_drain(&marker);
    settle_mark(&settle, &marker, &report);
    assert_true(audit_begin(&audit, &ground.heap, NULL));
    audit_range(&audit, roots, roots + count);
    settle_roots(&settle, true, audit_one, &audit);
    audit_ephemerons(&audit);
    assert_int_equal(audit_compare(&audit, &example), 0);
    audit_end(&audit);
    settle_finish(&settle, &report);
    ground_flip(&ground, &census);
}

// Without any of it nothing is walked, and marks of other phases stay.
static void test_quiet(void **state) {
    (void)state;
    uintptr_t root = (uintptr_t)make(48, KIND_SCANNED);
    struct place place = ground_place((void *)root);
    block_set_flags(place.block, BLOCK_WATCHED);
    cycle(&root, 1);
    assert_true(block_flags(place.block) & BLOCK_WATCHED); // ST4
    assert_null(marker.ephemerons);
    assert_int_equal(report.short_count + report.long_count, 0);
}

static void test_finalized(void **state) {
    (void)state;
    uintptr_t *object = make(48, KIND_SCANNED);
    uintptr_t *inner = make(48, KIND_LEAF);
    uintptr_t *data = make(48, KIND_LEAF);
    object[0] = (uintptr_t)inner;
    uintptr_t roots[4] = {
        (uintptr_t)make_handle(object, HANDLE_SHORT),
        (uintptr_t)make_handle(object, HANDLE_LONG),
        (uintptr_t)make_handle(inner, HANDLE_SHORT),
        (uintptr_t)make_handle(inner, HANDLE_LONG),
    };
    const struct handle *handles[4];
    for (size_t i = 0; i < 4; i++) {
        handles[i] = (struct handle *)roots[i];
    }
    add_fate(object, FATE_ORDERED, data);
    cycle(roots, 4);
    assert_int_equal(report.short_count, 2); // ST1
    assert_int_equal(report.long_count, 0);  // ST2
    assert_int_equal(report.ready_count, 1);
    assert_int_equal(settle.notices, 1);
    assert_int_equal(handle_get(handles[0]), 0);
    assert_int_equal(handle_get(handles[1]), (uintptr_t)object);
    assert_int_equal(handle_get(handles[2]), 0);
    assert_int_equal(handle_get(handles[3]), (uintptr_t)inner);
    cycle(roots, 4); // still in the queue
    assert_true(is_there(object) && is_there(inner) && is_there(data)); // ST3
    struct fate taken;
    assert_true(fate_take(&settle.fates, &taken));
    cycle(roots, 4);
    assert_int_equal(report.long_count, 2); // ST2
    assert_false(is_there(object) || is_there(inner) || is_there(data));
}

// A waiting finalizer holds its data; an ephemeron whose key a finalizer will
// see keeps its value until the key's memory goes.
static void test_ephemeron(void **state) {
    (void)state;
    uintptr_t *key = make(48, KIND_SCANNED);
    uintptr_t *value = make(48, KIND_LEAF);
    uintptr_t *data = make(48, KIND_LEAF);
    struct ephemeron *ephemeron = make(sizeof *ephemeron, KIND_EPHEMERON);
    assert_true(settle_use_ephemeron(&settle));
    struct place place = ground_place(key);
    ephemeron_set(ephemeron, (uintptr_t)key, &place, (uintptr_t)value);
    add_fate(key, FATE_UNORDERED, data);
    uintptr_t roots[2] = {(uintptr_t)ephemeron, (uintptr_t)key};
    cycle(roots, 2);
    assert_true(is_there(data) && is_there(value)); // ST3
    cycle(roots, 1);
    assert_int_equal(report.ready_count, 1);
    assert_int_equal(report.ephemeron_count, 0);
    assert_int_equal(ephemeron->value, (uintptr_t)value);
    assert_true(is_there(key) && is_there(value));
    struct fate taken;
    assert_true(fate_take(&settle.fates, &taken));
    cycle(roots, 1);
    assert_int_equal(report.ephemeron_count, 1);
    assert_int_equal(ephemeron->key | ephemeron->value, 0);
    assert_false(is_there(key) || is_there(value));
}

static void test_void(void **state) {
    (void)state;
    uintptr_t *object = make(48, KIND_SCANNED);
    struct ephemeron *ephemeron = make(sizeof *ephemeron, KIND_EPHEMERON);
    struct handle *handle = make_handle(object, HANDLE_LONG);
    struct place place = ground_place(object);
    assert_true(settle_use_ephemeron(&settle));
    ephemeron_set(ephemeron, (uintptr_t)object, &place, (uintptr_t)object);
    add_fate(object, FATE_ORDERED, NULL);
    size_t waiting = settle.fates.waiting_count;
    static struct heap other;
    assert_true(heap_init(&other, &ground.heap));
    settle_void(&settle, &other);
    assert_int_equal(handle_get(handle), (uintptr_t)object);
    assert_int_equal(settle.fates.waiting_count, waiting);
    ground_prepare(&ground);
    settle_void(&settle, &ground.heap);
    ground_resume(&ground);
    assert_int_equal(handle_get(handle), 0); // ST5
    assert_int_equal(ephemeron->key | ephemeron->value, 0);
    assert_int_equal(settle.fates.waiting_count, 0);
}

static int setup(void **state) {
    (void)state;
    return ground_init(&ground, 512 * MiB) && mark_init(&marker) ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quiet),
        cmocka_unit_test(test_finalized),
        cmocka_unit_test(test_ephemeron),
        cmocka_unit_test(test_void),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
