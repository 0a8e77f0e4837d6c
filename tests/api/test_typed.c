// Exact layouts: a declared word keeps its target, an undeclared one does not
// once past the first KiB of its shape; arrays; interning; bad arguments.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "loam.h"
#include "loam/typed.h"
#include "support/gen.h"
#include "support/scrub.h"

struct node {
    uintptr_t number; // holds what looks like a pointer
    struct node *left;
    uintptr_t other;
    struct node *right;
    char text[17];
    void *tail;
};

static const size_t node_offsets[] = {offsetof(struct node, left),
                                      offsetof(struct node, right),
                                      offsetof(struct node, tail)};

#define COUNT 200
#define WORDS (sizeof(struct node) / sizeof(void *))

static void **holders[COUNT];
static uintptr_t hidden[COUNT];

static size_t count_alive(void) {
    size_t alive = 0;
    scrub_collect();
    for (size_t i = 0; i < COUNT; i++) {
        void *p = LOAM_REVEAL(hidden[i]);
        alive += loam_base(p) == p;
    }
    return alive;
}

// The first few KiB of a shape may be scanned conservatively: use them up.
static void *ballast[300];

static void pass_first_kib(const struct loam_layout *layout) {
    for (size_t i = 0; i < 300; i++) {
        ballast[i] = loam_alloc_typed(layout);
    }
}

// Word `word` of each holder points to an object of its own.
NOT_INLINED static void hang(const struct loam_layout *layout, size_t count,
                             size_t word) {
    loam_disable();
    for (size_t i = 0; i < COUNT; i++) {
        holders[i] = loam_calloc_typed(layout, count);
        assert_non_null(holders[i]);
        holders[i][word] = loam_alloc_leaf(48);
        hidden[i] = LOAM_HIDE(holders[i][word]);
    }
    loam_enable();
}

static bool is_declared(size_t word) {
    size_t bytes = word % WORDS * sizeof(void *);
    return bytes == node_offsets[0] || bytes == node_offsets[1] ||
           bytes == node_offsets[2];
}

static void test_exact(void **state) {
    (void)state;
    const struct loam_layout *layout =
        loam_layout(sizeof(struct node), node_offsets, 3);
    assert_non_null(layout);
    pass_first_kib(layout);
    for (size_t word = 0; word < WORDS; word++) {
        hang(layout, 1, word);
        if (is_declared(word)) {
            assert_int_equal(count_alive(), COUNT);
        } else {
            assert_true(count_alive() <= 20);
        }
    }
    memset(holders, 0, sizeof holders);
}

// Arrays: the layout repeats, in the first, a middle and the last element, in
// small, medium and large ones.
static void test_arrays(void **state) {
    (void)state;
    static const size_t counts[] = {2, 7, 40, 300, 1000, 5000};
    const struct loam_layout *layout =
        loam_layout(sizeof(struct node), node_offsets, 3);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        size_t elements[] = {0, counts[i] / 2, counts[i] - 1};
        // The first arrays of a shape may be scanned conservatively.
        for (size_t k = 0; k < 40; k++) {
            ballast[k] = loam_calloc_typed(layout, counts[i]);
        }
        for (size_t e = 0; e < 3; e++) {
            hang(layout, counts[i], elements[e] * WORDS + 1);
            assert_int_equal(count_alive(), COUNT);
            hang(layout, counts[i], elements[e] * WORDS + WORDS - 1);
            assert_int_equal(count_alive(), COUNT);
            hang(layout, counts[i], elements[e] * WORDS + 0);
            assert_true(count_alive() <= 20);
        }
    }
    memset(holders, 0, sizeof holders);
    memset(ballast, 0, sizeof ballast);
}

static void test_no_pointers(void **state) {
    (void)state;
    const struct loam_layout *layout = loam_layout(64, NULL, 0);
    assert_non_null(layout);
    pass_first_kib(layout);
    hang(layout, 1, 3);
    assert_true(count_alive() <= 20);
    memset(holders, 0, sizeof holders);
}

static void test_all_pointers(void **state) {
    (void)state;
    size_t offsets[64];
    for (size_t i = 0; i < 64; i++) {
        offsets[i] = i * sizeof(void *);
    }
    const struct loam_layout *layout = loam_layout(512, offsets, 64);
    pass_first_kib(layout);
    for (size_t word = 0; word < 64; word += 9) {
        hang(layout, 1, word);
        assert_int_equal(count_alive(), COUNT);
    }
    memset(holders, 0, sizeof holders);
}

// Elements of every length, also such as are no multiple of a word or granule.
static void test_every_length(void **state) {
    (void)state;
    for (size_t bytes = 8; bytes <= 400; bytes += 24) {
        size_t last = bytes / 8 * 8 - 8;
        const struct loam_layout *layout = loam_layout(bytes, &last, 1);
        assert_non_null(layout);
        for (size_t k = 0; k < 200; k++) {
            ballast[k] = loam_alloc_typed(layout);
            assert_true(loam_usable_size(ballast[k]) >= bytes);
        }
        hang(layout, 1, last / 8);
        assert_int_equal(count_alive(), COUNT);
        if (bytes % 8 == 0) {
            hang(layout, 3, (2 * bytes + last) / 8);
            assert_int_equal(count_alive(), COUNT);
        }
    }
    memset(holders, 0, sizeof holders);
}

static void test_interned(void **state) {
    (void)state;
    const size_t forward[] = {0, 16, 40};
    const size_t backward[] = {40, 0, 16};
    const struct loam_layout *layout = loam_layout(48, forward, 3);
    assert_ptr_equal(loam_layout(48, forward, 3), layout);
    assert_ptr_equal(loam_layout(48, backward, 3), layout); // in any order
    assert_ptr_not_equal(loam_layout(48, forward, 2), layout);
    assert_ptr_not_equal(loam_layout(56, forward, 3), layout);
    loam_collect();
    assert_ptr_equal(loam_layout(48, forward, 3), layout);
}

static void test_bad_arguments(void **state) {
    (void)state;
    static const size_t bad[][2] = {
        {16, 1}, {16, 4}, {16, 12}, {16, 16}, {16, 24}, {16, SIZE_MAX - 7},
        {7, 0},  {15, 8}, {0, 0},   {0, 8}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        errno = 0;
        assert_null(loam_layout(bad[i][0], &bad[i][1], 1));
        assert_int_equal(errno, EINVAL);
    }
    errno = 0;
    assert_null(loam_layout(0, NULL, 0));
    assert_int_equal(errno, EINVAL);
    const struct loam_layout *layout = loam_layout(48, (const size_t[]){8}, 1);
    static const volatile size_t absurd[] = {SIZE_MAX, SIZE_MAX / 48 + 1,
                                             SIZE_MAX / 2, (size_t)1 << 60};
    for (size_t i = 0; i < 4; i++) {
        errno = 0;
        assert_null(loam_calloc_typed(layout, absurd[i]));
        assert_int_equal(errno, ENOMEM);
    }
}

static void test_zeroed(void **state) {
    (void)state;
    const struct loam_layout *layout =
        loam_layout(sizeof(struct node), node_offsets, 3);
    for (size_t round = 0; round < 3000; round++) {
        unsigned char *p = loam_calloc_typed(layout, 1 + round % 20);
        size_t usable = loam_usable_size(p);
        for (size_t i = 0; i < usable; i++) {
            assert_int_equal(p[i], 0);
        }
        memset(p, 0xFF, usable);
    }
    assert_non_null(loam_calloc_typed(layout, 0));
}

// A tree of typed nodes, with lures in every undeclared word.
NOT_INLINED static struct node *grow(const struct loam_layout *layout,
                                     size_t depth) {
    struct node *n = loam_alloc_typed(layout);
    n->number = (uintptr_t)loam_alloc(64);
    n->other = (uintptr_t)n;
    strcpy(n->text, "sixteen letters.");
    if (depth) {
        n->left = grow(layout, depth - 1);
        n->right = grow(layout, depth - 1);
    }
    return n;
}

static size_t count_nodes(const struct node *n) {
    assert_int_equal(n->other, (uintptr_t)n);
    assert_string_equal(n->text, "sixteen letters.");
    return 1 + (n->left ? count_nodes(n->left) + count_nodes(n->right) : 0);
}

static void test_tree(void **state) {
    (void)state;
    static struct node *root;
    const struct loam_layout *layout =
        loam_layout(sizeof(struct node), node_offsets, 3);
    root = grow(layout, 15);
    scrub_collect();
    struct loam_stats stats = {0};
    loam_stats(&stats, sizeof stats);
    assert_true(stats.live_objects < 65535 + 2000); // the lures are gone
    assert_int_equal(count_nodes(root), 65535);
    root = NULL;
}

// Many shapes, as many as there may be; then no more, softly.
#define SHAPES 1500
#define MAKERS 4
#define STEP   7 // prime to SHAPES: each thread begins elsewhere

static const struct loam_layout *shapes[MAKERS][SHAPES];

static void *make_shapes(void *data) {
    size_t maker = (size_t)(uintptr_t)data;
    for (size_t i = 0; i < SHAPES; i++) {
        size_t shape = (i * STEP + maker * SHAPES / MAKERS) % SHAPES;
        const size_t offset = 8 * (shape % 16);
        shapes[maker][shape] = loam_layout(2048 + 8 * shape, &offset, 1);
        if (loam_calloc_typed(shapes[maker][shape], 2) == NULL) {
            return data;
        }
    }
    return NULL;
}

// Threads that make the same layouts at the same time are given the same.
static void test_threads(void **state) {
    (void)state;
    pthread_t threads[MAKERS];
    for (size_t i = 0; i < MAKERS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, make_shapes,
                                        (void *)(uintptr_t)i),
                         0);
    }
    for (size_t i = 0; i < MAKERS; i++) {
        void *failed;
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
    for (size_t i = 0; i < SHAPES; i++) {
        for (size_t maker = 0; maker < MAKERS; maker++) {
            assert_non_null(shapes[maker][i]);
            assert_ptr_equal(shapes[maker][i], shapes[0][i]);
        }
    }
    assert_true(loam_collect());
}

static void test_many(void **state) {
    (void)state;
    size_t count = 0;
    for (size_t i = 0; i < LOAM_LAYOUTS_MAX + 100; i++) {
        size_t offset = i % 97 * 8;
        errno = 0;
        const struct loam_layout *layout =
            loam_layout(1000 + i / 97, &offset, 1);
        if (!layout) {
            assert_int_equal(errno, ENOMEM);
            continue;
        }
        count++;
        if (i % 1000 == 0) {
            assert_non_null(loam_alloc_typed(layout));
        }
    }
    assert_true(count <= LOAM_LAYOUTS_MAX);
    assert_true(count > LOAM_LAYOUTS_MAX / 2);
    assert_non_null(loam_layout(1000, (const size_t[]){0}, 1)); // known ones
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exact),
        cmocka_unit_test(test_arrays),
        cmocka_unit_test(test_no_pointers),
        cmocka_unit_test(test_all_pointers),
        cmocka_unit_test(test_every_length),
        cmocka_unit_test(test_interned),
        cmocka_unit_test(test_bad_arguments),
        cmocka_unit_test(test_zeroed),
        cmocka_unit_test(test_tree),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
