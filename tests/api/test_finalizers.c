// Finalizers: which run, in which order, when and where; guardians; and the
// collection lock.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "loam/heaps.h"
#include "loam/weak.h"
#include "support/scrub.h"

#define MANY ((size_t)SCALED(100000, 10000))

struct node {
    struct node *next;
    uintptr_t number; // of the node, from 1
    struct node *self;
};

static uintptr_t ran[64]; // numbers of nodes, in the order they were finalized
static size_t ran_count;
static struct node *saved; // a root: resurrection

static void *must(void *p) {
    assert_non_null(p);
    return p;
}

static struct node *make(uintptr_t number) {
    struct node *node = must(loam_alloc(sizeof *node));
    node->number = number;
    return node;
}

static void note(void *object, void *data) {
    const struct node *node = object;
    assert_true(data == NULL || *(uintptr_t *)data == node->number);
    // What an ordered one leads to has not been finalized before it.
    ran[ran_count++ % 64] = node->number;
}

static void set(void *object, enum loam_finalize mode) {
    struct loam_finalizer finalizer = {note, NULL, mode};
    assert_true(loam_finalizer_set(object, &finalizer, NULL));
}

static void settle_all(size_t cycles) {
    for (size_t i = 0; i < cycles; i++) {
        assert_true(scrub_collect());
        scrub_stack();
    }
}

// --- Order ---------------------------------------------------------------

static NOT_INLINED void make_chain(enum loam_finalize mode, bool ring,
                                   bool self) {
    struct node *nodes[3] = {make(1), make(2), make(3)};
    for (size_t i = 0; i < 3; i++) {
        nodes[i]->next = i < 2 ? nodes[i + 1] : ring ? nodes[0] : NULL;
        nodes[i]->self = self ? nodes[i] : NULL;
        set(nodes[i], mode);
    }
    memset(nodes, 0, sizeof nodes);
    loam_keep(nodes);
}

static void test_order(void **state) {
    (void)state;
    static const struct {
        enum loam_finalize mode;
        bool ring, self;
        size_t first, all; // run after one cycle, after many
    } cases[] = {
        {LOAM_FINALIZE_ORDERED, false, false, 1, 3},
        {LOAM_FINALIZE_ORDERED, true, false, 0, 0},
        {LOAM_FINALIZE_ORDERED, false, true, 0, 0},
        {LOAM_FINALIZE_IGNORING_SELF, false, true, 1, 3},
        {LOAM_FINALIZE_IGNORING_SELF, true, false, 0, 0},
        {LOAM_FINALIZE_UNORDERED, false, false, 3, 3},
        {LOAM_FINALIZE_UNORDERED, true, true, 3, 3},
        {LOAM_FINALIZE_UNREACHABLE, false, false, 1, 3},
        {LOAM_FINALIZE_UNREACHABLE, true, false, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ran_count = 0;
        make_chain(cases[i].mode, cases[i].ring, cases[i].self);
        settle_all(1);
        assert_int_equal(ran_count, cases[i].first);
        settle_all(4);
        assert_int_equal(ran_count, cases[i].all);
        assert_true(loam_finalizers_waiting() >= 3 - cases[i].all);
        for (size_t k = 0; cases[i].first == 1 && k < 3; k++) {
            assert_int_equal(ran[k], k + 1);
        }
    }
}

// --- Set, get, remove ----------------------------------------------------

static void other(void *object, void *data) {
    (void)object;
    (void)data;
    fail();
}

static NOT_INLINED void set_and_drop(void) {
    struct node *node = make(7);
    struct loam_finalizer first = {other, node, LOAM_FINALIZE_UNORDERED};
    struct loam_finalizer second = {note, NULL, LOAM_FINALIZE_ORDERED};
    struct loam_finalizer was;
    assert_false(loam_finalizer_get(node, &was));
    assert_null(was.function);
    assert_true(loam_finalizer_set(node, &first, &was));
    assert_null(was.function);
    assert_true(loam_finalizer_set(node, &second, &was));
    assert_true(was.function == other && was.data == node &&
                was.mode == LOAM_FINALIZE_UNORDERED);
    assert_true(loam_finalizer_get(node, &was));
    assert_true(was.function == note);
    struct node *removed = make(8);
    assert_true(loam_finalizer_set(removed, &first, NULL));
    assert_true(loam_finalizer_set(removed, NULL, &was));
    assert_true(was.function == other);
    struct node *freed = make(9);
    assert_true(loam_finalizer_set(freed, &first, NULL));
    loam_free(freed);
    struct node *moved = make(10);
    assert_true(loam_finalizer_set(moved, &first, NULL));
    moved = must(loam_realloc(moved, 100000));
    assert_false(loam_finalizer_get(moved, &was));
}

static void test_set(void **state) {
    (void)state;
    ran_count = 0;
    set_and_drop();
    settle_all(2);
    assert_int_equal(ran_count, 1);
    assert_int_equal(ran[0], 7);
    int local;
    struct node *node = make(1);
    struct loam_finalizer finalizer = {note, NULL, LOAM_FINALIZE_ORDERED};
    errno = 0;
    assert_false(loam_finalizer_set(&local, &finalizer, NULL));
    assert_int_equal(errno, EINVAL);
    assert_false(loam_finalizer_set((char *)node + 8, &finalizer, NULL));
    finalizer.mode = (enum loam_finalize)77;
    assert_false(loam_finalizer_set(node, &finalizer, NULL));
}

// Data lives, by whatever it alone is held.
static NOT_INLINED void make_with_data(size_t count) {
    for (size_t i = 1; i <= count; i++) {
        struct node *node = make(i);
        uintptr_t *data = must(loam_alloc_leaf(sizeof *data));
        *data = i;
        struct loam_finalizer finalizer = {note, data, LOAM_FINALIZE_ORDERED};
        assert_true(loam_finalizer_set(node, &finalizer, NULL));
    }
}

static void test_many(void **state) {
    (void)state;
    ran_count = 0;
    make_with_data(MANY);
    settle_all(2);
    assert_true(ran_count > MANY - 10 && ran_count <= MANY);
}

// --- Resurrection --------------------------------------------------------

static struct loam_weak *short_ref, *long_ref;

static void save(void *object, void *data) {
    (void)data;
    assert_null(loam_weak_get(short_ref));
    assert_ptr_equal(loam_weak_get(long_ref), object);
    saved = object;
    ran_count++;
}

static NOT_INLINED void make_saved(void) {
    struct node *node = make(1);
    node->next = make(2);
    short_ref = must(loam_weak_make(node->next));
    short_ref = must(loam_weak_make(node));
    long_ref = must(loam_weak_make_long(node));
    struct loam_finalizer finalizer = {save, NULL, LOAM_FINALIZE_ORDERED};
    assert_true(loam_finalizer_set(node, &finalizer, NULL));
}

static NOT_INLINED void check_saved(bool again) {
    assert_non_null(saved);
    assert_int_equal(saved->number, 1);
    assert_int_equal(saved->next->number, 2);
    struct loam_finalizer finalizer;
    assert_false(loam_finalizer_get(saved, &finalizer));
    assert_ptr_equal(loam_weak_get(long_ref), saved);
    if (again) {
        finalizer = (struct loam_finalizer){save, NULL, LOAM_FINALIZE_ORDERED};
        assert_true(loam_finalizer_set(saved, &finalizer, NULL));
    }
    saved = NULL;
}

// Dead, saved, dead again, saved again, and gone.  A stray word may keep it at
// each step: of five, one goes all the way at least.
static NOT_INLINED bool is_resurrected(void) {
    ran_count = 0;
    make_saved();
    settle_all(1);
    if (ran_count != 1) {
        return false;
    }
    settle_all(1);
    check_saved(true);
    settle_all(1);
    if (ran_count != 2) {
        return false;
    }
    check_saved(false);
    settle_all(2);
    assert_int_equal(ran_count, 2);
    return loam_weak_get(long_ref) == NULL;
}

static void test_resurrection(void **state) {
    (void)state;
    size_t done = 0;
    for (size_t i = 0; i < 5 && done == 0; i++) {
        done += is_resurrected();
    }
    assert_true(done > 0);
}

// --- When and where ------------------------------------------------------

static size_t depth, depth_max;

static void busy(void *object, void *data) {
    depth++;
    depth_max = depth > depth_max ? depth : depth_max;
    for (size_t i = 0; i < 100; i++) {
        must(loam_alloc(1000));
    }
    (void)loam_collect();
    struct node *node = object;
    if (node->number > 1) { // one more for later
        struct node *next = make(node->number - 1);
        struct loam_finalizer finalizer = {busy, data, LOAM_FINALIZE_ORDERED};
        assert_true(loam_finalizer_set(next, &finalizer, NULL));
    }
    loam_free(node);
    ran_count++;
    depth--;
}

static NOT_INLINED void make_busy(void) {
    for (uintptr_t i = 1; i <= 5; i++) {
        struct node *node = make(i);
        struct loam_finalizer finalizer = {busy, NULL, LOAM_FINALIZE_ORDERED};
        assert_true(loam_finalizer_set(node, &finalizer, NULL));
    }
}

// They allocate, collect, set and free, and do not nest on their own.
static void test_busy(void **state) {
    (void)state;
    ran_count = depth_max = 0;
    make_busy();
    settle_all(8);
    assert_int_equal(ran_count, 15);
    assert_int_equal(depth_max, 1);
}

static void nested(void *object, void *data) {
    (void)object;
    (void)data;
    ran_count++;
    depth++;
    depth_max = depth > depth_max ? depth : depth_max;
    (void)loam_finalizers_run(1);
    depth--;
}

static NOT_INLINED void make_nodes(size_t count, loam_finalizer_fn *function) {
    for (size_t i = 1; i <= count; i++) {
        struct loam_finalizer finalizer = {function, NULL,
                                           LOAM_FINALIZE_ORDERED};
        assert_true(loam_finalizer_set(make(i), &finalizer, NULL));
    }
}

static void test_on_demand(void **state) {
    (void)state;
    ran_count = depth_max = 0;
    loam_finalizers_when(LOAM_FINALIZERS_ON_DEMAND);
    make_nodes(10, nested);
    settle_all(2);
    assert_int_equal(ran_count, 0);
    size_t due = loam_finalizers_due();
    assert_true(due >= 9);
    assert_true(loam_finalizers_wait(0));
    assert_int_equal(loam_finalizers_run(1), 1);
    assert_int_equal(depth_max, due); // each asks for the next
    assert_int_equal(ran_count, due);
    assert_int_equal(loam_finalizers_run(SIZE_MAX), 0);
    assert_false(loam_finalizers_wait(5));
    loam_finalizers_when(LOAM_FINALIZERS_ON_THEIR_OWN);
}

static jmp_buf out;

static void jump(void *object, void *data) {
    (void)object;
    (void)data;
    ran_count++;
    longjmp(out, 1);
}

// Against the rules, but the next ones run all the same.
static void test_jump(void **state) {
    (void)state;
    ran_count = 0;
    make_nodes(3, jump);
    for (size_t i = 0; i < 20 && ran_count < 3; i++) {
        if (setjmp(out) == 0) {
            (void)scrub_collect();
        }
    }
    assert_int_equal(ran_count, 3);
}

// They run without a call of loam_collect.
static void test_on_their_own(void **state) {
    (void)state;
    ran_count = 0;
    make_nodes(20, note);
    scrub_stack();
    for (size_t i = 0; i < 100000; i++) {
        must(loam_alloc(1000));
    }
    assert_true(ran_count > 15);
}

static size_t notices;

static void count_notice(void *data) {
    assert_ptr_equal(data, &notices);
    must(loam_alloc(100));
    notices++;
}

static bool finish;

static void *serve(void *data) {
    while (!__atomic_load_n(&finish, __ATOMIC_ACQUIRE)) {
        if (loam_finalizers_wait(20)) {
            *(size_t *)data += loam_finalizers_run(SIZE_MAX);
        }
    }
    return NULL;
}

static void test_thread(void **state) {
    (void)state;
    size_t served = 0;
    pthread_t thread;
    ran_count = 0;
    loam_finalizers_when(LOAM_FINALIZERS_ON_DEMAND);
    loam_finalizers_notify(count_notice, &notices);
    assert_int_equal(pthread_create(&thread, NULL, serve, &served), 0);
    for (size_t i = 0; i < 10; i++) {
        make_nodes(5, note);
        settle_all(1);
    }
    for (size_t i = 0; i < 10000 && loam_finalizers_due() != 0; i++) {
        usleep(2000);
    }
    __atomic_store_n(&finish, true, __ATOMIC_RELEASE);
    assert_int_equal(pthread_join(thread, NULL), 0);
    loam_finalizers_notify(NULL, NULL);
    loam_finalizers_when(LOAM_FINALIZERS_ON_THEIR_OWN);
    settle_all(1);
    assert_true(served > 30);
    assert_true(ran_count >= served && ran_count <= 50);
    assert_true(notices > 0);
}

// --- Guardians -----------------------------------------------------------

static NOT_INLINED void guard(struct loam_guardian *a, struct loam_guardian *b,
                              size_t count) {
    for (size_t i = 1; i <= count; i++) {
        struct node *node = make(i);
        node->next = make(1000 + i);
        assert_true(loam_guardian_watch(a, node));
        if (i % 2 == 0) {
            assert_true(loam_guardian_watch(b, node));
        }
    }
}

static NOT_INLINED size_t drain(struct loam_guardian *guardian) {
    struct node *node;
    size_t count = 0;
    while ((node = loam_guardian_next(guardian)) != NULL) {
        assert_int_equal(node->next->number, 1000 + node->number);
        count++;
    }
    return count;
}

static NOT_INLINED void guard_lost(void) {
    struct loam_guardian *lost = must(loam_guardian_make());
    for (size_t i = 0; i < 100; i++) {
        assert_true(loam_guardian_watch(lost, make(i)));
    }
}

static void test_guardian(void **state) {
    (void)state;
    struct loam_guardian *a = must(loam_guardian_make());
    struct loam_guardian *b = must(loam_guardian_make());
    assert_null(loam_guardian_next(a));
    guard(a, b, 100);
    guard_lost();
    settle_all(2);
    size_t from_a = drain(a);
    size_t from_b = drain(b);
    assert_true(from_a > 95 && from_a <= 100);
    assert_true(from_b > 45 && from_b <= 50);
    settle_all(2); // given back once
    assert_true(drain(a) <= 5);
    int local;
    assert_false(loam_guardian_watch(a, &local));
    assert_null(loam_guardian_next((struct loam_guardian *)&local));
    loam_keep(a);
    loam_keep(b);
}

// --- A heap that goes ----------------------------------------------------

static void test_heap(void **state) {
    (void)state;
    struct loam_heap *heap = must(loam_heap_create());
    struct loam_weakmap *map = must(loam_weakmap_make());
    struct node *node = must(loam_heap_alloc(heap, sizeof *node));
    struct node *stays = make(2);
    struct loam_weak *weak = must(loam_weak_make_long(node));
    struct loam_finalizer finalizer = {other, NULL, LOAM_FINALIZE_UNORDERED};
    assert_true(loam_finalizer_set(node, &finalizer, NULL));
    assert_true(loam_weakmap_put(map, node, stays));
    assert_true(loam_weakmap_put(map, stays, node));
    assert_true(loam_weakmap_put(map, map, stays));
    assert_true(loam_heap_collect(heap));
    assert_ptr_equal(loam_weak_get(weak), node);
    assert_int_equal(loam_weakmap_count(map), 3);
    assert_true(loam_heap_destroy(heap));
    assert_null(loam_weak_get(weak));
    assert_int_equal(loam_weakmap_count(map), 1);
    settle_all(2);
    loam_keep(stays);
}

// --- By hand -------------------------------------------------------------

static uintptr_t hidden;

static NOT_INLINED void hide(void) {
    struct node *node = make(77);
    hidden = LOAM_HIDE(node);
}

static void *reveal(void *data) {
    struct loam_stats before, after;
    loam_stats(&before, sizeof before);
    assert_false(loam_collect());
    for (size_t i = 0; i < 20000; i++) {
        must(loam_alloc(1000)); // grows
    }
    loam_stats(&after, sizeof after);
    assert_true(before.collections == after.collections);
    assert_ptr_equal(data, &hidden);
    return LOAM_REVEAL(hidden);
}

static void test_lock(void **state) {
    (void)state;
    hide();
    struct node *node = loam_with_collection_lock(reveal, &hidden);
    assert_int_equal(node->number, 77);
    assert_true(scrub_collect());
    assert_int_equal(node->number, 77);
    loam_keep(node);
}

static void *fork_in(void *data) {
    *(pid_t *)data = fork();
    return NULL;
}

// The child comes out of the lock as the parent does.
static void test_lock_and_fork(void **state) {
    (void)state;
    int status = -1;
    pid_t child = -1;
    (void)loam_with_collection_lock(fork_in, &child);
    if (child == 0) {
        _exit(loam_collect() ? 0 : 1);
    }
    assert_true(child > 0 && waitpid(child, &status, 0) == child);
    assert_int_equal(status, 0);
    assert_true(loam_collect());
}

static void no_warning(const char *sentence, void *data) {
    (void)sentence;
    (void)data;
}

int main(void) {
    // What must go should not be kept by pointers beside it.
    setenv("LOAM_NEIGHBOURS", "off", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_set),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_resurrection),
        cmocka_unit_test(test_busy),
        cmocka_unit_test(test_on_demand),
        cmocka_unit_test(test_jump),
        cmocka_unit_test(test_on_their_own),
        cmocka_unit_test(test_thread),
        cmocka_unit_test(test_guardian),
        cmocka_unit_test(test_heap),
        cmocka_unit_test(test_lock),
        cmocka_unit_test(test_lock_and_fork),
    };
    loam_set_warning_hook(no_warning, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
