// Deferred objects, whose variables are an array of the test: what a word of it
// leads to is held, the rest is buried, with what falls to 0 in the cascade.

#include "rc/deferred.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "support/folk_drain.h"
#include "support/gen.h"

#define NODES ((size_t)(LOAM_TINY ? 50 : 1000))
#define ROOM  (8 * NODES)

static struct ground ground;
static struct count_domain domain;
static const struct kinds_type *deferred;
static void *suspects[ROOM], *zeroes[ROOM], *names[ROOM];
static struct count_buffer held;
static size_t destroyed[NODES];

static void destroy(void *object) {
    struct folk_node *node = object;
    assert_int_equal(destroyed[node->number]++, 0);
}

static int set_up(void **state) {
    (void)state;
    if (!ground_init(&ground, 64 * MiB)) {
        return -1;
    }
    folk_domain(&domain, &ground);
    deferred = folk_type(KINDS_DEFERRED, destroy, NULL);
    return 0;
}

static int begin(void **state) {
    (void)state;
    memset(destroyed, 0, sizeof destroyed);
    folk_room(&domain.suspects, suspects, ROOM);
    folk_room(&domain.zeroes, zeroes, ROOM);
    folk_room(&held, names, ROOM);
    return 0;
}

static struct folk_node *make(size_t number) {
    struct folk_node *node = folk_make(&ground, &domain, deferred);
    node->number = number;
    count_name_zero(&domain, node); // DF3
    return node;
}

static bool hold(const void *word) {
    return deferred_hold_word(&held, (uintptr_t)word,
                              domain.owner & ~COUNTED_OWNER_BIT);
}

static void settle(void) {
    size_t zombies;
    deferred_recall(&domain);
    do {
        zombies = deferred_bury(&domain);
        assert_int_equal(domain.zeroes.count, zombies); // DF4
        while (domain.zeroes.count != 0) {
            void *object = domain.zeroes.items[--domain.zeroes.count];
            (void)count_unname(&domain, object);
        }
        domain.settles = true;
        folk_drain(&domain, SIZE_MAX);
        domain.settles = false;
    } while (domain.zeroes.count != 0);
    deferred_let_go(&domain, &held);
}

// DF1: by a word that leads to its start, into it, or one past its end.
static void test_words(void **state) {
    (void)state;
    struct folk_node *nodes[4];
    for (size_t i = 0; i < 4; i++) {
        nodes[i] = make(i);
    }
    assert_true(hold(nodes[0]) && hold(&nodes[1]->slots[1]));
    assert_true(hold(nodes[2] + 1));
    assert_true(hold(&nodes) && hold(NULL)); // lead nowhere
    settle();
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(destroyed[i], i == 3);
    }
    // DF2, DF3: as it was
    assert_int_equal(count_get(nodes[0]), 0);
    assert_int_equal(domain.zeroes.count, 3);
    settle();
    assert_int_equal(destroyed[0] + destroyed[1] + destroyed[2], 3);
}

// No room: false, and nothing but what was said is held.
static void test_no_room(void **state) {
    (void)state;
    struct folk_node *a = make(0), *b = make(1);
    folk_room(&held, names, 1);
    assert_true(hold(a));
    assert_false(hold(b));
    assert_int_equal(count_get(b), 0);
    deferred_let_go(&domain, &held);
    assert_int_equal(count_get(a), 0);
    settle();
    assert_int_equal(destroyed[0] + destroyed[1], 2);
}

// A list falls in one settlement; what is held in its middle lives on.
static void test_list(void **state) {
    (void)state;
    struct folk_node *nodes[NODES];
    for (size_t i = 0; i < NODES; i++) {
        nodes[i] = make(i);
        if (i != 0) {
            folk_own(&domain, nodes[i - 1], 0, nodes[i]);
        }
    }
    size_t middle = NODES / 2;
    assert_true(hold(nodes[middle]));
    settle();
    for (size_t i = 0; i < NODES; i++) {
        assert_int_equal(destroyed[i], i < middle);
    }
    settle();
    assert_int_equal(destroyed[middle] + destroyed[NODES - 1], 2);
}

// DF3: a suspect that falls to 0 is recalled.
static void test_suspect(void **state) {
    (void)state;
    struct folk_node *node = make(0);
    folk_retain(&domain, node);
    folk_retain(&domain, node);
    settle();
    assert_int_equal(domain.zeroes.count, 0);
    assert_int_equal(count_release(&domain, node), COUNT_FINE);
    assert_int_equal(domain.suspects.count, 1);
    assert_int_equal(count_release(&domain, node), COUNT_FINE);
    assert_int_equal(domain.zeroes.count, 0);
    deferred_recall(&domain);
    assert_int_equal(domain.zeroes.count, 1);
    assert_null(domain.suspects.items[0]);
    settle();
    assert_int_equal(destroyed[0], 1);
}

// Graphs without rings, variables at random: what they lead to lives, and
// nothing else.
static void reach(const struct folk_node *node, bool *lives) {
    for (; node != NULL && !lives[node->number]; node = node->slots[0]) {
        lives[node->number] = true;
        reach(node->slots[1], lives);
    }
}

static void test_random(void **state) {
    struct gen g;
    gen_init(&g, gen_seed("deferred"));
    for (size_t round = 0; round < 20; round++) {
        begin(state);
        struct folk_node *nodes[NODES];
        bool lives[NODES] = {false};
        for (size_t i = 0; i < NODES; i++) {
            nodes[i] = make(i);
            for (size_t slot = 0; i != 0 && slot < 2; slot++) {
                if (gen_chance(&g, 60)) {
                    folk_own(&domain, nodes[i], slot, nodes[gen_below(&g, i)]);
                }
            }
        }
        for (size_t i = 0; i < NODES / 20; i++) {
            struct folk_node *variable = nodes[gen_below(&g, NODES)];
            assert_true(hold(variable));
            reach(variable, lives);
        }
        settle();
        for (size_t i = 0; i < NODES; i++) {
            assert_int_equal(destroyed[i], !lives[i]);
        }
        settle();
        for (size_t i = 0; i < NODES; i++) {
            assert_int_equal(destroyed[i], 1);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_words, begin),
        cmocka_unit_test_setup(test_no_room, begin),
        cmocka_unit_test_setup(test_list, begin),
        cmocka_unit_test_setup(test_suspect, begin),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
