// Finalizers and guardians of single counted objects, long references across
// resurrection, rings through all of it; counts of maps, and when memory is
// short.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "loam.h"
#include "loam/rc.h"
#include "loam/weak.h"
#include "support/scarce.h"
#include "support/scrub.h"

struct node {
    struct node *left, *right;
    size_t number;
};

static size_t destroyed, finalized;
static char story[32]; // who was called, in order
static struct loam_weak *shorts, *longs;
static struct node *saved;

static void tell(char what) {
    size_t length = strlen(story);
    if (length < sizeof story - 1) {
        story[length] = what;
        story[length + 1] = '\0';
    }
}

static void note(void *object) {
    (void)object;
    destroyed++;
    tell('d');
}

static void note_type(void *object) {
    (void)object;
    tell('t');
}

#define BOTH LOAM_OWNS(struct node, left, right)
static LOAM_TYPE(node_type, struct node, BOTH, .destroy = note);
static LOAM_TYPE(bare_type, struct node, BOTH);
static LOAM_TYPE(leaf_type, struct node, .destroy = note);
static LOAM_TYPE(final_type, struct node, BOTH, .destroy = note,
                 .finalize = note_type);
static LOAM_TYPE(atomic_type, struct node, BOTH, .destroy = note,
                 .flags = LOAM_TYPE_ATOMIC);
static LOAM_TYPE(shared_type, struct node, BOTH, .destroy = note,
                 .flags = LOAM_TYPE_SHARED);

static int begin(void **state) {
    (void)state;
    scrub_stack();
    (void)loam_collect_cycles(0);
    (void)loam_settle();
    destroyed = finalized = 0;
    story[0] = '\0';
    shorts = longs = NULL;
    saved = NULL;
    return 0;
}

// A collection, and what it leaves to this thread.
static void collect(void) {
    assert_true(scrub_collect());
    (void)loam_settle();
}

static struct node *make(struct loam_type *type) {
    struct node *node = loam_new(type);
    assert_non_null(node);
    return node;
}

// --- Finalizers

static void finalize(void *object, void *data) {
    finalized++;
    tell('f');
    assert_ptr_equal(data, &finalized);
    assert_null(shorts == NULL ? NULL : loam_weak_get(shorts));
    assert_true(longs == NULL || loam_weak_get(longs) == object);
}

static void finalize_saving(void *object, void *data) {
    finalize(object, data);
    saved = loam_retain(object);
}

static void set(void *object, loam_finalizer_fn *function) {
    struct loam_finalizer finalizer = {function, &finalized,
                                       LOAM_FINALIZE_ORDERED};
    assert_true(loam_finalizer_set(object, &finalizer, NULL));
}

// BN1, BN2: in place, once, the type's first and the destructor last; a short
// reference is cleared before, a long one is not.
static void test_finalizer_runs_when_the_count_is_0(void **state) {
    (void)state;
    struct loam_type *const types[] = {&node_type, &final_type, &atomic_type,
                                       &shared_type, &leaf_type};
    for (size_t i = 0; i < 5; i++) {
        (void)begin(NULL);
        struct node *node = make(types[i]);
        shorts = loam_weak_make(node);
        longs = loam_weak_make_long(node);
        set(node, finalize);
        struct loam_finalizer now = {0};
        assert_true(loam_finalizer_get(node, &now));
        assert_true(now.function == finalize && now.data == &finalized);
        loam_retain(node);
        loam_release(node);
        assert_int_equal(finalized, 0);
        loam_release(node);
        assert_string_equal(story, types[i] == &final_type ? "tfd" : "fd");
        assert_null(loam_weak_get(longs));
        assert_int_equal(loam_finalizers_waiting(), 0);
    }
}

static void test_finalizer_is_replaced_and_removed(void **state) {
    (void)state;
    struct node *node = make(&node_type);
    set(node, finalize_saving);
    struct loam_finalizer other = {finalize, &finalized, 2}, previous = {0};
    assert_true(loam_finalizer_set(node, &other, &previous));
    assert_true(previous.function == finalize_saving);
    assert_int_equal(loam_finalizers_waiting(), 1);
    assert_true(loam_finalizer_set(node, NULL, &previous));
    assert_true(previous.function == finalize && previous.mode == 2);
    assert_false(loam_finalizer_get(node, &previous));
    loam_release(node);
    assert_string_equal(story, "d");
}

// It lives on, with what it owns, and may be given another finalizer.  What was
// short is cleared for ever, what was long is not; the type's has had its turn.
static void test_finalizer_brings_back(void **state) {
    (void)state;
    struct loam_type *const types[] = {&final_type, &atomic_type, &shared_type};
    for (size_t i = 0; i < 3; i++) {
        (void)begin(NULL);
        struct node *node = make(types[i]);
        node->left = make(types[i]);
        shorts = loam_weak_make(node);
        longs = loam_weak_make_long(node);
        set(node, finalize_saving);
        loam_release(node);
        assert_ptr_equal(saved, node);
        assert_int_equal(loam_count(node), 1);
        assert_int_equal(destroyed, 0);
        assert_null(loam_weak_get(shorts));
        assert_ptr_equal(loam_weak_get(longs), node);
        collect();
        assert_ptr_equal(loam_weak_get(longs), node);
        story[0] = '\0';
        set(node, finalize);
        shorts = NULL;
        saved = NULL;
        loam_release(node);
        assert_string_equal(story, types[i] == &final_type ? "fdtd" : "fdd");
        assert_null(loam_weak_get(longs));
    }
}

static NOT_INLINED void drop_ring(struct loam_type *type,
                                  loam_finalizer_fn *function) {
    struct node *a = make(type);
    struct node *b = make(type);
    a->left = loam_retain(b);
    b->left = loam_retain(a);
    longs = loam_weak_make_long(a);
    set(a, function);
    loam_release(a);
    loam_release(b);
}

static NOT_INLINED void check_saved(void) {
    assert_int_equal(finalized, 1);
    assert_int_equal(destroyed, 0);
    assert_ptr_equal(loam_weak_get(longs), saved);
    assert_ptr_equal(saved->left->left, saved);
    assert_int_equal(loam_count(saved), 2);
    loam_clear(&saved);
}

// Of a dead ring, found by either collector; brought back, and let go again.
static void test_finalizer_in_a_ring(void **state) {
    (void)state;
    for (size_t by_tracer = 0; by_tracer < 2; by_tracer++) {
        for (size_t bare = 0; bare < 2; bare++) {
            (void)begin(NULL);
            loam_cycles_when(false, 0);
            drop_ring(bare ? &bare_type : &node_type, finalize_saving);
            by_tracer ? collect() : (void)loam_collect_cycles(0);
            check_saved();
            by_tracer ? collect() : (void)loam_collect_cycles(0);
            assert_int_equal(destroyed, bare ? 0 : 2);
            assert_null(loam_weak_get(longs));
            loam_cycles_when(true, 0);
        }
    }
}

// The first that is finalized of a ring sets a finalizer for the others, whose
// own is to come, and lets a guardian wait for them.
static struct loam_guardian *waits;

static void finalize_peer(void *object, void *data) {
    (void)data;
    tell('p');
    assert_int_equal(((struct node *)object)->number, 0);
}

static void finalize_meddling(void *object) {
    struct node *node = object, *peer = node->left;
    tell('t');
    assert_int_equal(node->number, 1);
    node->number = 0;
    if (peer->number != 0) {
        set(peer, finalize_peer);
        if (waits != NULL) {
            assert_true(loam_guardian_watch(waits, peer));
        }
    }
}

static LOAM_TYPE(meddling_type, struct node, BOTH, .destroy = note,
                 .finalize = finalize_meddling);

static NOT_INLINED void drop_meddling(void) {
    struct node *a = make(&meddling_type);
    struct node *b = make(&meddling_type);
    a->number = b->number = 1;
    a->left = loam_retain(b);
    b->left = loam_retain(a);
    loam_release(a);
    loam_release(b);
}

static NOT_INLINED void let_go_again(void) {
    struct node *peer = loam_guardian_next(waits);
    assert_int_equal(loam_count(peer), 2);
    set(peer, finalize_peer);
    loam_release(peer);
}

// BN1, BN2: each is finalized by its type once, whoever set what before its
// turn; and what came back is not again.
static void test_finalizer_meddles_in_a_ring(void **state) {
    (void)state;
    for (size_t by_tracer = 0; by_tracer < 2; by_tracer++) {
        for (size_t guarded = 0; guarded < 2; guarded++) {
            (void)begin(NULL);
            loam_cycles_when(false, 0);
            waits = guarded ? loam_guardian_make() : NULL;
            drop_meddling();
            by_tracer ? collect() : (void)loam_collect_cycles(0);
            if (!guarded) {
                assert_string_equal(story, "ttpdd");
                continue;
            }
            assert_string_equal(story, "ttp");
            let_go_again();
            by_tracer ? collect() : (void)loam_collect_cycles(0);
            assert_string_equal(story, "ttppdd");
        }
    }
    loam_cycles_when(true, 0);
    waits = NULL;
}

// --- Guardians

// BN3: handed over once, with its count; the next time it dies, or goes to the
// guardian again.
static void test_guardian_has_it_instead(void **state) {
    (void)state;
    struct loam_type *const types[] = {&node_type, &final_type, &atomic_type,
                                       &shared_type, &leaf_type};
    struct loam_guardian *guardian = loam_guardian_make();
    for (size_t i = 0; i < 5; i++) {
        (void)begin(NULL);
        struct node *node = make(types[i]);
        assert_true(loam_guardian_watch(guardian, node));
        assert_null(loam_guardian_next(guardian));
        for (size_t again = 0; again < 3; again++) {
            loam_release(node);
            assert_int_equal(loam_count(node), 1);
            collect(); // the guardian keeps it
            assert_int_equal(loam_count(node), 1);
            assert_ptr_equal(loam_guardian_next(guardian), node);
            assert_null(loam_guardian_next(guardian));
            if (again < 2) {
                assert_true(loam_guardian_watch(guardian, node));
            }
        }
        assert_int_equal(destroyed, 0);
        loam_release(node);
        assert_string_equal(story, types[i] == &final_type ? "td" : "d");
    }
    loam_keep(guardian);
}

static void test_guardians_each_have_it(void **state) {
    (void)state;
    struct loam_guardian *one = loam_guardian_make();
    struct loam_guardian *two = loam_guardian_make();
    struct node *node = make(&node_type);
    set(node, finalize);
    assert_true(loam_guardian_watch(one, node));
    assert_true(loam_guardian_watch(two, node));
    assert_true(loam_guardian_watch(two, node));
    assert_int_equal(loam_finalizers_waiting(), 4);
    loam_release(node);
    assert_string_equal(story, "f");
    assert_int_equal(loam_count(node), 3);
    for (size_t i = 0; i < 3; i++) {
        struct loam_guardian *from = i == 0 ? one : two;
        assert_ptr_equal(loam_guardian_next(from), node);
        assert_int_equal(destroyed, 0);
        loam_release(node);
    }
    assert_string_equal(story, "fd");
    assert_null(loam_guardian_next(two));
    loam_keep(one);
}

static NOT_INLINED void watch_and_leave(bool dead) {
    struct loam_guardian *guardian = loam_guardian_make();
    struct node *node = make(&node_type);
    assert_true(loam_guardian_watch(guardian, node));
    if (dead) {
        loam_release(node);
    } else {
        saved = node;
    }
}

// BO3: a guardian that is dead has nothing, and owns nothing: what it had ready
// dies.
static void test_guardian_dies(void **state) {
    (void)state;
    for (size_t i = 0; i < 20; i++) {
        watch_and_leave(true);
    }
    collect();
    collect();
    assert_in_range(destroyed, 18, 20); // but for what a stray word keeps
    size_t before = destroyed;
    for (size_t i = 0; i < 20; i++) {
        watch_and_leave(false);
        collect();
        loam_clear(&saved);
    }
    assert_in_range(destroyed - before, 18, 22);
}

static NOT_INLINED void guard_ring(struct loam_guardian *guardian) {
    drop_ring(&node_type, finalize);
    struct node *a = loam_weak_get(longs);
    assert_true(loam_guardian_watch(guardian, a));
}

// In a frame of its own: a word of this ring that is left in a register would
// hold the next one, which is made in the same cells.
static NOT_INLINED void take_ring(struct loam_guardian *guardian) {
    struct node *a = loam_guardian_next(guardian);
    assert_non_null(a);
    assert_int_equal(loam_count(a), 2);
    assert_ptr_equal(a->left->left, a);
    loam_clear(&a->left);
    loam_release(a);
}

static void test_guardian_of_a_ring(void **state) {
    (void)state;
    struct loam_guardian *guardian = loam_guardian_make();
    for (size_t by_tracer = 0; by_tracer < 2; by_tracer++) {
        (void)begin(NULL);
        loam_cycles_when(false, 0);
        guard_ring(guardian);
        by_tracer ? collect() : (void)loam_collect_cycles(0);
        take_ring(guardian);
        assert_string_equal(story, "fdd");
        loam_cycles_when(true, 0);
    }
}

// --- Maps that own

// BN4: one count, for as long as the entry is there.
static void test_map_owns_its_values(void **state) {
    (void)state;
    struct loam_weakmap *map = loam_weakmap_make_owning();
    struct node *key = make(&leaf_type);
    struct node *one = make(&node_type);
    struct node *two = make(&node_type);
    assert_true(loam_weakmap_put(map, key, one));
    assert_int_equal(loam_count(one), 2);
    assert_true(loam_weakmap_put(map, key, one));
    assert_int_equal(loam_count(one), 2);
    assert_true(loam_weakmap_put(map, key, two));
    assert_int_equal(loam_count(one), 1);
    loam_release(two);
    assert_ptr_equal(loam_weakmap_get(map, key), two);
    collect();
    assert_ptr_equal(loam_weakmap_get(map, key), two);
    assert_int_equal(loam_count(two), 1);
    assert_true(loam_weakmap_remove(map, key));
    assert_false(loam_weakmap_remove(map, key));
    assert_int_equal(destroyed, 1);
    assert_true(loam_weakmap_put(map, key, one));
    loam_release(one);
    loam_weakmap_clear(map);
    assert_int_equal(destroyed, 2);
    // Not only counted values.
    void *text = loam_alloc(100);
    assert_true(loam_weakmap_put(map, key, text));
    assert_true(loam_weakmap_put(map, key, make(&node_type)));
    loam_release(loam_weakmap_get(map, key));
    assert_true(loam_weakmap_put(map, key, text));
    assert_int_equal(destroyed, 3);
    assert_ptr_equal(loam_weakmap_get(map, key), text);
    loam_release(key);
    assert_int_equal(loam_weakmap_count(map), 0);
    loam_keep(map);
}

// BN5
static void test_short_of_memory(void **state) {
    (void)state;
    struct loam_weakmap *map = loam_weakmap_make_owning();
    struct loam_guardian *guardian = loam_guardian_make();
    static struct node *keys[4000], *value;
    value = make(&node_type);
    for (size_t i = 0; i < 4000; i++) {
        keys[i] = make(&bare_type);
    }
    size_t put = 0, watched = 0;
    scarce_begin();
    for (size_t i = 0; i < 4000; i++) {
        put += loam_weakmap_put(map, keys[i], value);
        watched += loam_guardian_watch(guardian, keys[i]);
    }
    scarce_end();
    assert_in_range(put, 0, 3999);
    assert_int_equal(loam_count(value), 1 + put);
    assert_int_equal(loam_weakmap_count(map), put);
    assert_int_equal(loam_finalizers_waiting(), watched);
    for (size_t i = 0; i < 4000; i++) {
        loam_clear(&keys[i]);
    }
    void *back;
    for (; (back = loam_guardian_next(guardian)) != NULL; watched--) {
        loam_release(back);
    }
    assert_int_equal(watched, 0);
    assert_int_equal(loam_count(value), 1);
    loam_clear(&value);
    assert_int_equal(destroyed, 1);
    loam_keep(map);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_finalizer_runs_when_the_count_is_0, begin),
        cmocka_unit_test_setup(test_finalizer_is_replaced_and_removed, begin),
        cmocka_unit_test_setup(test_finalizer_brings_back, begin),
        cmocka_unit_test_setup(test_finalizer_in_a_ring, begin),
        cmocka_unit_test_setup(test_finalizer_meddles_in_a_ring, begin),
        cmocka_unit_test_setup(test_guardian_has_it_instead, begin),
        cmocka_unit_test_setup(test_guardians_each_have_it, begin),
        cmocka_unit_test_setup(test_guardian_dies, begin),
        cmocka_unit_test_setup(test_guardian_of_a_ring, begin),
        cmocka_unit_test_setup(test_map_owns_its_values, begin),
        cmocka_unit_test_setup(test_short_of_memory, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
