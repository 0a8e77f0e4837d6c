// One word in each place that is a root, and how often it is visited as what.

#include "roots/roots.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "os/stack.h"
#include "os/suspend.h"
#include "roots/world.h"

#define WORDS ((size_t)64)

static uintptr_t in_bss[WORDS];
static uintptr_t in_data[WORDS] = {1};
static _Thread_local uintptr_t in_tls[WORDS];
static _Thread_local uintptr_t in_tls_data[WORDS] = {1};
static const uintptr_t in_text[WORDS] = {1};

// How often each word of a place was visited, by kind.
struct spot {
    const uintptr_t *words;
    unsigned visits[3][WORDS];
};

struct visitor {
    struct spot places[8];
    size_t place_count;
    struct roots roots;
};

static struct heap heap;
static struct mutator *self;

static void watch(struct visitor *visitor, const uintptr_t *words) {
    struct spot *place = &visitor->places[visitor->place_count++];
    memset(place, 0, sizeof *place);
    place->words = words;
}

static void visit(const uintptr_t *start, const uintptr_t *end,
                  enum root_kind kind, void *data) {
    struct visitor *visitor = data;
    assert_true(start < end);
    assert_int_equal((uintptr_t)start % WORD_BYTES, 0);
    assert_int_equal((uintptr_t)end % WORD_BYTES, 0);
    for (size_t i = 0; i < visitor->place_count; i++) {
        struct spot *place = &visitor->places[i];
        for (size_t word = 0; word < WORDS; word++) {
            const uintptr_t *at = &place->words[word];
            place->visits[kind][word] += at >= start && at < end;
        }
    }
}

static void each(const void *hot_end, void *data) {
    struct visitor *visitor = data;
    struct world_stop_report report;
    self->hot_end = hot_end;
    mutator_enter(self);
    world_lock(self);
    assert_true(world_stop(self, &report));
    roots_each(&visitor->roots, visit, visitor);
    world_resume();
    world_unlock();
    world_leave(self);
    self->hot_end = NULL;
}

// Words [from, end) of a place were visited so often, as `kind`.
static void check(const struct visitor *visitor, size_t index,
                  enum root_kind kind, const unsigned *times) {
    for (size_t word = 0; word < WORDS; word++) {
        for (unsigned other = 0; other < 3; other++) {
            unsigned expected = other == kind ? times[word] : 0;
            assert_int_equal(visitor->places[index].visits[other][word],
                             expected);
        }
    }
}

static const unsigned never[WORDS];
static unsigned once[WORDS];
static unsigned some[WORDS]; // once, but for what is excluded

static struct extent words(const uintptr_t *at, size_t from, size_t end) {
    return (struct extent){(uintptr_t)(at + from), (uintptr_t)(at + end)};
}

static void test_places(void **state) {
    (void)state;
    static struct visitor visitor;
    uintptr_t on_stack[WORDS] = {1};
    watch(&visitor, in_bss);
    watch(&visitor, in_data);
    watch(&visitor, in_tls);
    watch(&visitor, in_tls_data);
    watch(&visitor, on_stack);
    watch(&visitor, in_text);
    stack_spill(each, &visitor);
    check(&visitor, 0, ROOT_STATIC, once); // P1
    check(&visitor, 1, ROOT_STATIC, once);
    check(&visitor, 2, ROOT_STATIC, once);
    check(&visitor, 3, ROOT_STATIC, once);
    check(&visitor, 4, ROOT_STACK, once); // P2
    check(&visitor, 5, ROOT_STATIC, never);
}

// Excluded words are not visited, except on a stack.  What is added that is
// static too is visited once for each.
static void test_excluded(void **state) {
    (void)state;
    static struct visitor visitor;
    static const uintptr_t *added;
    uintptr_t on_stack[WORDS] = {1};
    added = in_text; // memory that is no root by itself
    memset(&visitor, 0, sizeof visitor);
    const uintptr_t *places[] = {in_bss, in_tls, added, on_stack};
    for (size_t i = 0; i < 4; i++) {
        watch(&visitor, places[i]);
        assert_true(
            ranges_add(&visitor.roots.excluded, words(places[i], 10, 20)));
        // Half a word is a whole one: less than eight bytes hold no pointer.
        struct extent half = words(places[i], 30, 31);
        half.start += 3;
        assert_true(ranges_add(&visitor.roots.excluded, half));
    }
    struct extent extent = words(added, 0, WORDS);
    assert_true(ranges_add(&visitor.roots.added, extent));
    assert_true(ranges_add(&visitor.roots.added, extent)); // once
    stack_spill(each, &visitor);
    check(&visitor, 0, ROOT_STATIC, some); // P3
    check(&visitor, 1, ROOT_STATIC, some);
    check(&visitor, 2, ROOT_ADDED, some);
    check(&visitor, 3, ROOT_STACK, once); // P3

    // The same words again, pushed by a scanner, at odd ends.
    memset(visitor.places[2].visits, 0, sizeof visitor.places[2].visits);
    extent.start++;
    extent.end--;
    roots_visit_pushed(&visitor.roots, extent, visit, &visitor);
    unsigned expected[WORDS];
    memcpy(expected, some, sizeof expected);
    expected[0] = expected[WORDS - 1] = 0;
    check(&visitor, 2, ROOT_ADDED, expected); // P3
}

static void test_twice(void **state) {
    (void)state;
    static struct visitor visitor;
    memset(&visitor, 0, sizeof visitor);
    watch(&visitor, in_bss);
    assert_true(ranges_add(&visitor.roots.added, words(in_bss, 0, WORDS)));
    stack_spill(each, &visitor);
    const struct spot *place = &visitor.places[0];
    for (size_t word = 0; word < WORDS; word++) {
        assert_int_equal(place->visits[ROOT_STATIC][word], 1); // P1
        assert_int_equal(place->visits[ROOT_ADDED][word], 1);
        assert_int_equal(place->visits[ROOT_STACK][word], 0);
    }
}

// Another thread's words: thread-local ones, those on its stack and those that
// the system keeps for it.
struct other {
    uintptr_t *volatile in_tls, *volatile on_stack;
    pthread_barrier_t ready, done;
};

NOINLINE static void attend(struct other *other) {
    uintptr_t on_stack[WORDS] = {1};
    other->in_tls = in_tls;
    other->on_stack = on_stack;
    struct mutator *mutator = world_attach(&heap, false);
    assert_non_null(mutator);
    pthread_barrier_wait(&other->ready);
    pthread_barrier_wait(&other->done);
    assert_int_equal(on_stack[0], 1);
    world_lock(mutator);
    world_detach(mutator);
    world_unlock();
}

// Beside the thread pointer some of the stack is read as the thread's control
// block, whose size is not told: what is watched lies further down.
static void *be_other(void *data) {
    volatile char above[8 * KiB];
    above[0] = above[sizeof above - 1] = 0;
    attend(data);
    above[0] = 1;
    return NULL;
}

static void test_other_thread(void **state) {
    (void)state;
    if (SUSPEND_COOPERATIVE) {
        skip(); // a thread in a barrier answers no stop then
    }
    static struct visitor visitor;
    static struct other other;
    memset(&visitor, 0, sizeof visitor);
    pthread_t thread;
    assert_int_equal(pthread_barrier_init(&other.ready, NULL, 2), 0);
    assert_int_equal(pthread_barrier_init(&other.done, NULL, 2), 0);
    assert_int_equal(pthread_create(&thread, NULL, be_other, &other), 0);
    pthread_barrier_wait(&other.ready);
    static uintptr_t kept[MUTATOR_KEPT];
    self->kept = kept;
    watch(&visitor, other.in_tls);
    watch(&visitor, other.on_stack);
    watch(&visitor, in_tls); // this thread's own
    watch(&visitor, kept);
    stack_spill(each, &visitor);
    self->kept = NULL;
    pthread_barrier_wait(&other.done);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_ptr_not_equal(other.in_tls, in_tls);
    // The C library puts a thread's variables at the end of its stack.
    memset(visitor.places[0].visits[ROOT_STACK], 0, sizeof never);
    check(&visitor, 0, ROOT_STATIC, once); // P1
    check(&visitor, 1, ROOT_STACK, once);  // P2
    check(&visitor, 2, ROOT_STATIC, once);
    unsigned twice[WORDS]; // it is a variable here, too
    for (size_t word = 0; word < WORDS; word++) {
        twice[word] = 2;
    }
    check(&visitor, 3, ROOT_STATIC, twice); // P1
}

static int enter_world(void **state) {
    (void)state;
    if (!range_init(64 * MiB) || !heap_init(&heap, NULL) || !world_init(0)) {
        return -1;
    }
    self = world_attach(&heap, false);
    return self == NULL ? -1 : 0;
}

int main(void) {
    for (size_t word = 0; word < WORDS; word++) {
        once[word] = 1;
        some[word] = (word < 10 || word >= 20) && word != 30;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_excluded),
        cmocka_unit_test(test_twice),
        cmocka_unit_test(test_other_thread),
    };
    return cmocka_run_group_tests(tests, enter_world, NULL);
}
