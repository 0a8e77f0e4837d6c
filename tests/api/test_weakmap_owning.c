// Maps that own their values: keys that die by count, values that lead to their
// keys, maps that die first; rings through all of it; a model of random graphs.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "loam.h"
#include "loam/rc.h"
#include "loam/weak.h"
#include "support/gen.h"
#include "support/scrub.h"

struct node {
    struct node *left, *right;
    struct loam_weakmap *map; // a traced object
    size_t number;
};

static size_t destroyed, finalized;
static char story[32]; // who was called, in order
static struct loam_weak *shorts, *longs;
static struct node *saved;
static struct loam_weakmap *map_used;

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
static LOAM_TYPE(traced_type, struct node, BOTH, .destroy = note,
                 .flags = LOAM_TYPE_TRACED);

static size_t warnings;

static void count_warning(const char *text, void *data) {
    (void)text, (void)data;
    warnings++;
}

static int begin(void **state) {
    (void)state;
    scrub_stack();
    (void)loam_collect_cycles(0);
    (void)loam_settle();
    destroyed = finalized = warnings = 0;
    story[0] = '\0';
    shorts = longs = NULL;
    saved = NULL;
    map_used = NULL;
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

static void note_looking(void *object) {
    note(object);
    // Its entry is gone; others can be put and removed.
    assert_null(loam_weakmap_get(map_used, object));
    static struct node *other;
    if (other == NULL) {
        other = loam_new(&leaf_type);
    }
    for (size_t i = 0; i < 40; i++) {
        struct node *value = loam_new(&bare_type);
        assert_true(loam_weakmap_put(map_used, other, value));
        loam_release(value);
    }
    assert_true(loam_weakmap_remove(map_used, other));
}

static LOAM_TYPE(looking_type, struct node, BOTH, .destroy = note_looking);

// The entries of a key go when its count falls to 0, in whatever map, with a
// cursor in the middle; a destructor may use the map.
static void test_key_dies_by_count(void **state) {
    (void)state;
    enum { KEYS = 50 };
    struct loam_weakmap *maps[2] = {loam_weakmap_make_owning(),
                                    loam_weakmap_make_owning()};
    map_used = maps[0];
    static struct node *keys[KEYS];
    for (size_t i = 0; i < KEYS; i++) {
        keys[i] = make(&looking_type);
        for (size_t m = 0; m < 2; m++) {
            struct node *value = make(&node_type);
            assert_true(loam_weakmap_put(maps[m], keys[i], value));
            loam_release(value);
        }
    }
    struct loam_cursor cursor = {0};
    const void *key;
    void *value;
    size_t seen = 0;
    while (loam_weakmap_next(maps[0], &cursor, &key, &value)) {
        size_t i = seen++;
        assert_ptr_equal(key, keys[i]);
        assert_int_equal(loam_weakmap_count(maps[1]), KEYS - i);
        loam_clear(&keys[i]);
        assert_int_equal(destroyed, 3 * seen);
        assert_int_equal(loam_weakmap_count(maps[0]), KEYS - seen);
    }
    assert_int_equal(seen, KEYS);
    loam_keep(maps[1]);
}

static NOT_INLINED void drop_reaching(struct loam_weakmap *map,
                                      struct loam_type *key_type) {
    struct node *key = make(key_type);
    struct node *value = make(&node_type);
    value->left = loam_retain(key); // the value owns its key
    assert_true(loam_weakmap_put(map, key, value));
    loam_release(value);
    assert_int_equal(loam_count(key), 2);
    loam_release(key);
    assert_int_equal(loam_weakmap_count(map), 1);
}

// The one that leaks in others: found by rings, and by the tracer.
static void test_value_reaches_its_key(void **state) {
    (void)state;
    struct loam_type *const types[] = {&node_type, &leaf_type, &final_type,
                                       &traced_type};
    struct loam_weakmap *map = loam_weakmap_make_owning();
    for (size_t i = 0; i < 4; i++) {
        for (size_t by_tracer = types[i] == &traced_type; by_tracer < 2;
             by_tracer++) {
            (void)begin(NULL);
            loam_cycles_when(false, 0);
            drop_reaching(map, types[i]);
            by_tracer ? collect() : (void)loam_collect_cycles(0);
            assert_int_equal(destroyed, 2);
            assert_int_equal(loam_weakmap_count(map), 0);
            loam_cycles_when(true, 0);
        }
    }
    loam_keep(map);
}

// Neither does, while somebody has the key, or the value.
static void test_what_is_reached_stays(void **state) {
    (void)state;
    struct loam_weakmap *map = loam_weakmap_make_owning();
    for (size_t of_value = 0; of_value < 2; of_value++) {
        (void)begin(NULL);
        struct node *key = make(&node_type);
        struct node *value = make(&node_type);
        value->left = loam_retain(key);
        assert_true(loam_weakmap_put(map, key, value));
        loam_retain(key), loam_release(key);
        loam_release(of_value ? key : value);
        struct node *kept = of_value ? value : key;
        (void)loam_collect_cycles(0);
        collect();
        assert_int_equal(destroyed, 0);
        assert_ptr_equal(loam_weakmap_get(map, key), value);
        loam_release(kept);
        (void)loam_collect_cycles(0);
        assert_int_equal(destroyed, 2);
    }
    loam_keep(map);
}

static NOT_INLINED void make_map_over(struct node *key, size_t count) {
    struct loam_weakmap *map = loam_weakmap_make_owning();
    for (size_t i = 0; i < count; i++) {
        struct node *value = make(&node_type);
        assert_true(loam_weakmap_put(map, key + 0, value));
        value->map = map; // and back
        loam_release(value);
    }
}

// BO3: the map dies before its key, though its values lead to it.
static void test_map_dies(void **state) {
    (void)state;
    struct node *key = make(&node_type);
    for (size_t i = 0; i < 30; i++) {
        make_map_over(key, 1);
    }
    assert_int_equal(destroyed, 0);
    collect();
    collect();
    assert_in_range(destroyed, 28, 30);
    size_t before = destroyed;
    make_map_over(key, 100); // 99 are replaced
    assert_int_equal(destroyed - before, 99);
    loam_release(key); // and the last goes with the key
    assert_int_equal(destroyed - before, 101);
}

static NOT_INLINED void put_under_traced(struct loam_weakmap *map,
                                         bool reaches) {
    void **key = loam_alloc(64);
    struct node *value = make(&node_type);
    value->map = reaches ? (void *)key : NULL;
    assert_true(loam_weakmap_put(map, key, value));
    loam_release(value);
}

// A key that is not counted dies by the tracer; and one that never does.
static void test_traced_keys(void **state) {
    (void)state;
    struct loam_weakmap *map = loam_weakmap_make_owning();
    static int forever;
    struct node *kept = make(&node_type);
    assert_true(loam_weakmap_put(map, &forever, kept));
    loam_release(kept);
    for (size_t i = 0; i < 40; i++) {
        put_under_traced(map, i % 2 == 0);
    }
    collect();
    assert_in_range(destroyed, 38, 40);
    assert_ptr_equal(loam_weakmap_get(map, &forever), kept);
    assert_int_equal(loam_count(kept), 1);
    loam_weakmap_clear(map);
    loam_keep(map);
}

// A finalizer that brings the key back keeps its entries, in a ring or not.
static void test_key_comes_back(void **state) {
    (void)state;
    struct loam_weakmap *map = loam_weakmap_make_owning();
    for (size_t in_ring = 0; in_ring < 2; in_ring++) {
        (void)begin(NULL);
        loam_cycles_when(false, 0);
        struct node *key = make(&node_type);
        struct node *value = make(&node_type);
        value->left = in_ring ? loam_retain(key) : NULL;
        set(key, finalize_saving);
        assert_true(loam_weakmap_put(map, key, value));
        loam_release(value);
        loam_release(key);
        (void)loam_collect_cycles(0);
        assert_ptr_equal(saved, key);
        assert_ptr_equal(loam_weakmap_get(map, key), value);
        assert_int_equal(loam_count(value), 1);
        loam_clear(&saved);
        (void)loam_collect_cycles(0);
        assert_int_equal(destroyed, 2);
        assert_int_equal(loam_weakmap_count(map), 0);
        loam_cycles_when(true, 0);
    }
    loam_keep(map);
}

static NOT_INLINED void make_ring_under(struct loam_weakmap *map,
                                        loam_finalizer_fn *function) {
    struct node *key = make(&node_type);
    struct node *value = make(&node_type);
    value->left = loam_retain(key);
    value->right = make(&atomic_type);
    value->right->left = loam_retain(value);
    set(key, function);
    assert_true(loam_weakmap_put(map, key, value));
    loam_release(value);
    loam_release(key);
}

static NOT_INLINED void check_saved(struct loam_weakmap *map) {
    const struct node *value = loam_weakmap_get(map, saved);
    assert_ptr_equal(value->left, saved);
    assert_int_equal(loam_count(saved), 2);
    assert_int_equal(loam_count(value), 2);
    loam_clear(&saved);
}

// What a key has in a map is of its ring after the finalizers, as before: it
// goes with the key, and comes back with it.
static void test_ring_is_asked_again(void **state) {
    (void)state;
    struct loam_weakmap *map = loam_weakmap_make_owning();
    make_ring_under(map, finalize);
    collect();
    assert_int_equal(finalized, 1);
    assert_int_equal(destroyed, 3);
    make_ring_under(map, finalize_saving);
    collect();
    assert_int_equal(finalized, 2);
    check_saved(map);
    collect();
    assert_int_equal(destroyed, 6);
    assert_int_equal(loam_weakmap_count(map), 0);
    loam_keep(map);
}

enum { LINKS = 300 };

static NOT_INLINED void make_chain(struct loam_weakmap *const *maps,
                                   bool closed) {
    static struct node *keys[LINKS];
    for (size_t i = 0; i < LINKS; i++) {
        keys[i] = make(i % 2 ? &node_type : &leaf_type);
    }
    for (size_t i = 0; i < LINKS; i++) {
        struct node *value = make(&node_type);
        size_t next = (i + 1) % LINKS;
        value->right = next != 0 || closed ? loam_retain(keys[next]) : NULL;
        assert_true(loam_weakmap_put(maps[i % 2], keys[i], value));
        loam_release(value);
    }
    for (size_t i = LINKS; i-- > 0;) {
        loam_clear(&keys[i]);
    }
}

// A chain in which each value owns the next key, open or closed to a ring,
// through two maps.
static void test_chains(void **state) {
    (void)state;
    struct loam_weakmap *maps[2] = {loam_weakmap_make_owning(),
                                    loam_weakmap_make_owning()};
    for (size_t closed = 0; closed < 3; closed++) {
        (void)begin(NULL);
        loam_cycles_when(false, 0);
        make_chain(maps, closed != 0);
        if (closed == 1) {
            (void)loam_collect_cycles(0);
        } else if (closed == 2) {
            collect();
        }
        assert_int_equal(destroyed, LINKS + LINKS);
        loam_cycles_when(true, 0);
    }
    assert_int_equal(loam_weakmap_count(maps[0]), 0);
    assert_int_equal(loam_weakmap_count(maps[1]), 0);
}

static void *make_elsewhere(void *data) {
    struct node **made = data;
    *made = loam_new(&node_type);
    struct loam_weakmap *map = loam_weakmap_make_owning();
    struct node *value = loam_new(&node_type);
    if (!loam_weakmap_put(map, *made, value)) {
        abort();
    }
    loam_release(value);
    return map;
}

// What a thread leaves is destroyed by who is left; what is refused is said.
static void test_threads_and_refusals(void **state) {
    (void)state;
    struct node *left = NULL;
    void *map = NULL;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, make_elsewhere, &left), 0);
    assert_int_equal(pthread_join(thread, &map), 0);
    assert_int_equal(loam_weakmap_count(map), 1);
    loam_release(left); // taken over
    assert_int_equal(destroyed, 2);
    assert_int_equal(loam_weakmap_count(map), 0);

    loam_set_warning_hook(count_warning, NULL);
    struct node *atomic = make(&atomic_type);
    struct node *value = make(&node_type);
    errno = 0;
    assert_false(loam_weakmap_put(map, atomic, value));
    assert_int_equal(errno, EINVAL);
    assert_int_equal(warnings, 1);
    assert_int_equal(loam_count(value), 1);
    loam_set_warning_hook(NULL, NULL);
    // The other way round is fine.
    assert_true(loam_weakmap_put(map, value, atomic));
    assert_int_equal(loam_count(atomic), 2);
    loam_release(atomic);
    loam_release(value);
    assert_int_equal(destroyed, 4);
    loam_keep(map);
}

// Nothing of this is what somebody forgot to release.
static void test_nothing_is_forgotten(void **state) {
    (void)state;
    struct loam_weakmap *map = loam_weakmap_make_owning();
    struct loam_guardian *guardian = loam_guardian_make();
    size_t before = loam_rc_forgotten(NULL, NULL);
    static struct node *key; // whom the tracer sees
    key = make(&node_type);
    struct node *value = make(&node_type);
    assert_true(loam_weakmap_put(map, key, value));
    loam_release(value);
    struct node *guarded = make(&node_type);
    assert_true(loam_guardian_watch(guardian, guarded));
    loam_release(guarded);
    assert_int_equal(loam_rc_forgotten(NULL, NULL), before);
    loam_release(loam_guardian_next(guardian));
    loam_clear(&key);
    assert_int_equal(destroyed, 3);
    loam_keep(map);
}

// --- A model

// Random graphs: nodes own each other through slots and through entries of two
// maps; some are held by variables.  After a full collection, or one of rings,
// what lives is what the variables reach, an entry counting as an edge from its
// key while its map is there.
#define NODES  ((size_t)60)
#define ROUNDS ((size_t)SCALED(400, 60))

static struct node *held[NODES]; // variables' counts
static struct loam_weak *weak[NODES];
static size_t left[NODES], right[NODES], under[2][NODES]; // edges; NODES: none
static bool lives[NODES], was_dead[NODES];
static struct gen gen;

static void spread(size_t i) {
    if (i != NODES && !lives[i]) {
        lives[i] = true;
        spread(left[i]);
        spread(right[i]);
        spread(under[0][i]);
        spread(under[1][i]);
    }
}

static NOT_INLINED void model_build(struct loam_weakmap *const *maps) {
    struct loam_type *const types[] = {&node_type, &bare_type, &final_type};
    for (size_t i = 0; i < NODES; i++) {
        held[i] = make(types[gen_below(&gen, 3)]);
        held[i]->number = i;
        weak[i] = loam_weak_make_long(held[i]);
        assert_non_null(weak[i]);
        left[i] = right[i] = under[0][i] = under[1][i] = NODES;
        was_dead[i] = false;
    }
    for (size_t i = 0; i < NODES; i++) {
        size_t to = gen_below(&gen, NODES);
        if (gen_chance(&gen, 40)) {
            held[i]->left = loam_retain(held[left[i] = to]);
        }
        for (size_t m = 0; m < 2; m++) {
            to = gen_below(&gen, NODES);
            if (gen_chance(&gen, 40)) {
                under[m][i] = to;
                assert_true(loam_weakmap_put(maps[m], held[i], held[to]));
            }
        }
    }
}

static NOT_INLINED void model_change(struct loam_weakmap *const *maps) {
    for (size_t n = 0; n < NODES / 4; n++) {
        size_t i = gen_below(&gen, NODES);
        size_t to = gen_below(&gen, NODES);
        size_t m = gen_below(&gen, 2);
        if (held[i] == NULL || held[to] == NULL) {
            continue;
        }
        if (gen_chance(&gen, 40)) {
            assert_int_equal(loam_weakmap_remove(maps[m], held[i]),
                             under[m][i] != NODES);
            under[m][i] = NODES;
        } else if (gen_chance(&gen, 50)) {
            assert_true(loam_weakmap_put(maps[m], held[i], held[to]));
            under[m][i] = to;
        } else {
            loam_assign(&held[i]->right, held[to]);
            right[i] = to;
        }
    }
}

static NOT_INLINED void model_let_go(unsigned percent) {
    for (size_t i = 0; i < NODES; i++) {
        if (gen_chance(&gen, percent)) {
            loam_clear(&held[i]);
        }
    }
}

// What must live does, and its entries; what must not does not.
static NOT_INLINED void model_check(struct loam_weakmap *const *maps,
                                    bool exact) {
    memset(lives, 0, sizeof lives);
    for (size_t i = 0; i < NODES; i++) {
        if (held[i] != NULL) {
            spread(i);
        }
    }
    size_t entries[2] = {0, 0};
    for (size_t i = 0; i < NODES; i++) {
        const struct node *node = loam_weak_get(weak[i]);
        assert_true(node == NULL || node->number == i);
        assert_false(lives[i] && node == NULL);
        assert_false(exact && !lives[i] && node != NULL);
        assert_false(was_dead[i] && node != NULL);
        was_dead[i] = node == NULL;
        for (size_t m = 0; m < 2 && node != NULL; m++) {
            const struct node *value = loam_weakmap_get(maps[m], node);
            size_t number = value == NULL ? NODES : value->number;
            assert_int_equal(number, under[m][i]);
            entries[m] += value != NULL;
        }
    }
    assert_int_equal(loam_weakmap_count(maps[0]), entries[0]);
    assert_int_equal(loam_weakmap_count(maps[1]), entries[1]);
}

static void test_model(void **state) {
    (void)state;
    struct loam_weakmap *maps[2] = {loam_weakmap_make_owning(),
                                    loam_weakmap_make_owning()};
    gen_init(&gen, gen_seed("weakmap_owning"));
    for (size_t round = 0; round < ROUNDS; round++) {
        loam_cycles_when(round % 3 == 0, 0);
        model_build(maps);
        for (size_t turn = 0; turn < 4; turn++) {
            model_change(maps);
            model_let_go(turn == 3 ? 100 : 45);
            scrub_stack();
            size_t how = round % 3;
            if (how == 1 || turn == 3) {
                (void)loam_collect_cycles(0); // exact: it knows all edges
            }
            if (how == 2) {
                collect(); // a stray word may keep what leads far
            }
            model_check(maps, how == 1 || turn == 3);
        }
    }
    loam_cycles_when(true, 0);
    loam_keep(maps[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_key_dies_by_count, begin),
        cmocka_unit_test_setup(test_value_reaches_its_key, begin),
        cmocka_unit_test_setup(test_what_is_reached_stays, begin),
        cmocka_unit_test_setup(test_map_dies, begin),
        cmocka_unit_test_setup(test_traced_keys, begin),
        cmocka_unit_test_setup(test_key_comes_back, begin),
        cmocka_unit_test_setup(test_ring_is_asked_again, begin),
        cmocka_unit_test_setup(test_chains, begin),
        cmocka_unit_test_setup(test_threads_and_refusals, begin),
        cmocka_unit_test_setup(test_nothing_is_forgotten, begin),
        cmocka_unit_test_setup(test_model, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
