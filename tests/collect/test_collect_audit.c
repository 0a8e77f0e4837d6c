// What a cycle says when the second marker (trace/audit.h) reaches what the
// first has not marked: a scanner changes the roots between the two walks, as a
// fault of the first marker, or memory that does not stand still, would.

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "collect/collect.h"
#include "os/stack.h"
#include "roots/world.h"
#include "support/child.h"
#include "support/ground.h"
#include "support/scrub.h"
#include "support/stage.h"

typedef void push_fn(void *cycle, const void *start, size_t bytes);

static struct ground ground;
static struct conductor conductor;
static struct collector collector;
static struct stage stage = {&ground, &conductor, &collector};

static uintptr_t hidden; // complemented, the object that is to be missed
static void **page;      // memory of the C library, no root by itself
static uintptr_t global;

static NOT_INLINED uintptr_t *make(void) {
    void *object = ground_make(&ground, 48, KIND_SCANNED, 0);
    assert_non_null(object);
    return object;
}

static NOT_INLINED void make_hidden(void) {
    hidden = ~(uintptr_t)make();
}

// The address, to where the caller does not see it.
static NOT_INLINED void reveal(volatile uintptr_t *at) {
    *at = ~hidden;
}

// Begins a child in which `scan` is called in each walk.
static bool begin(void (*scan)(push_fn *push, void *cycle, void *data)) {
    struct scanner item = {(void (*)(void))scan, NULL};
    return world_forked(ground.mutator) &&
           ranges_add_scanner(&conductor.roots.scanners, item);
}

static bool is_second; // walk

static bool cycle(void) {
    scrub_stack();
    is_second = false;
    return stage_cycle(&stage, COLLECT_ASKED);
}

// The child died of what it was to say, with an address in place of %lx, given
// complemented: what stands here is a root of the child, too.
static void assert_dies(int (*body)(void *data), const char *format,
                        uintptr_t complement) {
    static struct child child;
    char text[200];
    (void)snprintf(text, sizeof text, format, (unsigned long)~complement);
    child_fork(&child, body, NULL);
    if (child.signal != SIGABRT || !child_says(&child, text)) {
        child_show(&child);
    }
    assert_int_equal(child.signal, SIGABRT);
    assert_true(child_says(&child, "objects alive but not marked: 1; one is"));
    assert_true(child_says(&child, ", 48 bytes of kind "));
    assert_true(child_says(&child, text));
}

// --- Who holds the word ----------------------------------------------------

static void scan_added(push_fn *push, void *cycle_, void *data) {
    (void)data;
    if (is_second) {
        push(cycle_, page, sizeof *page);
    }
    is_second = true;
}

static int child_added(void *data) {
    (void)data;
    make_hidden();
    reveal((uintptr_t *)page);
    scrub_stack();
    return begin(scan_added) && cycle() ? 0 : 1;
}

static const struct extent global_extent = {(uintptr_t)&global,
                                            (uintptr_t)(&global + 1)};

static void scan_static(push_fn *push, void *cycle_, void *data) {
    (void)push;
    (void)cycle_;
    (void)data;
    bool removed;
    if (!is_second &&
        !ranges_remove(&conductor.roots.excluded, global_extent, &removed)) {
        abort();
    }
    is_second = true;
}

static int child_static(void *data) {
    (void)data;
    make_hidden();
    reveal(&global);
    return ranges_add(&conductor.roots.excluded, global_extent) &&
                   begin(scan_static) && cycle()
               ? 0
               : 1;
}

static const void *cold_end; // of this thread's stack

static void scan_stack(push_fn *push, void *cycle_, void *data) {
    (void)push;
    (void)cycle_;
    (void)data;
    ground.mutator->cold_end = cold_end;
    is_second = true;
}

static NOT_INLINED bool cycle_below(void) {
    volatile uintptr_t last = 0;
    ground.mutator->cold_end = (const void *)(uintptr_t)&last;
    return cycle();
}

static int child_stack(void *data) {
    make_hidden();
    reveal(data);
    return begin(scan_stack) && cycle_below() ? 0 : 1;
}

// C1: the message tells the object, the word that led to it, and the root that
// holds it; one held by an object is in test_audit.c.
static void test_holder(void **state) {
    (void)state;
    assert_dies(child_added, "led to by the word at %#lx; pushed by a scanner;",
                ~(uintptr_t)page);
    assert_dies(child_static,
                "led to by the word at %#lx; the program's variables: ",
                ~(uintptr_t)&global);
}

// And of a stack, who stopped there.
static void test_stack(void **state) {
    (void)state;
    volatile uintptr_t word = 0;
    static struct child child;
    char text[200];
    child_fork(&child, child_stack, (void *)(uintptr_t)&word);
    (void)snprintf(text, sizeof text, "led to by the word at %#lx; a stack: ",
                   (unsigned long)&word);
    if (!child_says(&child, text)) {
        child_show(&child);
    }
    assert_int_equal(child.signal, SIGABRT);
    assert_true(child_says(&child, text));
    assert_true(child_says(&child, ", nearest to where thread "));
}

// --- Frames of the cycle itself --------------------------------------------

// A frame of the cycle, which was not there when the marker walked.
static void scan_own_frame(push_fn *push, void *cycle_, void *data) {
    (void)data;
    volatile uintptr_t word = is_second ? ~hidden : 0;
    push(cycle_, (const void *)(uintptr_t)&word, sizeof word);
    is_second = true;
}

static int child_own_frame(void *data) {
    (void)data;
    make_hidden();
    return begin(scan_own_frame) && cycle() ? 0 : 1;
}

// What only frames of the cycle lead to is no object that the marker missed:
// they change from one walk to the next, wherever the program keeps the stack.
static void test_own_frame(void **state) {
    (void)state;
    static struct child child;
    child_fork(&child, child_own_frame, NULL);
    if (child.status != 0) {
        child_show(&child);
    }
    assert_int_equal(child.status, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_holder),
        cmocka_unit_test(test_stack),
        cmocka_unit_test(test_own_frame),
    };
    cold_end = stack_cold_end();
    page = calloc(1, sizeof *page);
    if (page == NULL || cold_end == NULL || !stage_init(&stage, GiB)) {
        return 77; // no memory for it here
    }
    ground.mutator->cold_end = cold_end;
    pacer_init(&collector.pacer, 4 * MiB, 100);
    conductor.check_mark = true;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
