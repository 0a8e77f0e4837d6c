// Heaps of their own at random, beside a model of the graph in each: what is
// reached is whole, in its heap, and where it was.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "loam.h"
#include "support/child.h"
#include "support/gen.h"
#include "support/scrub.h"

static size_t effort = 1; // a part of the rounds, where each one is slow

static void *must(void *p) {
    assert_non_null(p);
    return p;
}

static struct loam_heap *make_heap(void) {
    return must(loam_heap_create());
}

static bool is_in(struct loam_heap *heap, const void *p) {
    bool is;
    struct loam_heap *of = loam_heap_of(p, &is);
    return is && of == heap;
}

static NOT_INLINED bool collect(struct loam_heap *heap) {
    scrub_stack();
    return loam_heap_collect(heap);
}

enum { HEAPS = 4, NODES = 400, LINKS = 3 };

// A node knows its heap, its place in the model, and the bytes behind.
struct node {
    struct node *links[LINKS];
    uintptr_t tag;
    size_t bytes;
    unsigned char fill[];
};

struct model {
    uintptr_t at; // hidden; 0: none
    size_t bytes;
    int links[LINKS]; // -1: none
    bool reached;
};

static struct model nodes[HEAPS][NODES];
// Nobody reads them here: without volatile a compiler leaves them out.
static struct node *volatile roots[HEAPS][8];
static int root_of[HEAPS][8];
static struct loam_heap *heaps[HEAPS];

static struct node *node_at(size_t heap, size_t i) {
    return LOAM_REVEAL(nodes[heap][i].at);
}

static void reach(size_t heap, int from) {
    if (from < 0 || nodes[heap][from].reached) {
        return;
    }
    nodes[heap][from].reached = true;
    for (size_t i = 0; i < LINKS; i++) {
        reach(heap, nodes[heap][from].links[i]);
    }
}

static void reach_all(size_t heap) {
    for (size_t i = 0; i < NODES; i++) {
        nodes[heap][i].reached = false;
    }
    for (size_t i = 0; i < 8; i++) {
        reach(heap, root_of[heap][i]);
    }
}

static void check_node(size_t heap, size_t i) {
    const struct model *m = &nodes[heap][i];
    const struct node *node = node_at(heap, i);
    assert_true(is_in(heaps[heap], node));
    assert_int_equal(node->tag, heap * NODES + i);
    assert_int_equal(node->bytes, m->bytes);
    for (size_t n = 0; n < m->bytes; n += 1 + m->bytes / 16) {
        assert_int_equal(node->fill[n], (unsigned char)node->tag);
    }
    for (size_t n = 0; n < LINKS; n++) {
        assert_ptr_equal(node->links[n],
                         m->links[n] < 0 ? NULL
                                         : node_at(heap, (size_t)m->links[n]));
    }
}

// What is reached is whole; what is not is forgotten.
static NOT_INLINED void check_heap(size_t heap) {
    reach_all(heap);
    for (size_t i = 0; i < NODES; i++) {
        if (nodes[heap][i].reached) {
            check_node(heap, i);
        } else {
            nodes[heap][i].at = 0;
        }
    }
}

static NOT_INLINED void add_node(struct gen *g, size_t heap) {
    size_t i = gen_below(g, NODES);
    struct model *m = &nodes[heap][i];
    reach_all(heap);
    if (m->reached) {
        return;
    }
    m->at = 0;
    size_t bytes = gen_bytes(g, gen_chance(g, 2) ? 100000 : 500);
    struct node *node =
        must(loam_heap_alloc(heaps[heap], sizeof *node + bytes));
    node->tag = heap * NODES + i;
    node->bytes = m->bytes = bytes;
    memset(node->fill, (int)node->tag, bytes);
    for (size_t n = 0; n < LINKS; n++) {
        int to = (int)gen_below(g, NODES);
        // To itself, or to what is reached: nothing else is sure to be there.
        bool can = nodes[heap][to].reached;
        m->links[n] = can ? to : -1;
        node->links[n] = can ? node_at(heap, (size_t)to) : NULL;
    }
    m->at = LOAM_HIDE(node);
    size_t root = gen_below(g, 8);
    roots[heap][root] = node;
    root_of[heap][root] = (int)i;
}

static NOT_INLINED void remake(size_t heap) {
    assert_true(loam_heap_destroy(heaps[heap]));
    heaps[heap] = make_heap();
    for (size_t i = 0; i < NODES; i++) {
        nodes[heap][i].at = 0;
    }
    for (size_t i = 0; i < 8; i++) {
        roots[heap][i] = NULL;
        root_of[heap][i] = -1;
    }
}

static void test_random(void **state) {
    (void)state;
    struct gen g;
    gen_init(&g, gen_seed("heaps"));
    for (size_t i = 0; i < HEAPS; i++) {
        heaps[i] = make_heap();
        remake(i);
    }
    for (size_t step = 0; step < 40000 / effort; step++) {
        size_t heap = gen_below(&g, HEAPS);
        if (gen_chance(&g, 1)) {
            assert_true(loam_heap_collect(heaps[gen_below(&g, HEAPS)]));
            check_heap(heap);
        } else if (gen_below(&g, 2000) == 0) {
            remake(heap);
        } else {
            add_node(&g, heap);
        }
    }
    for (size_t i = 0; i < HEAPS; i++) {
        assert_true(collect(heaps[i]));
        check_heap(i);
        remake(i); // nothing may lead to where other heaps will be
        assert_true(loam_heap_destroy(heaps[i]));
    }
}

// --- Again, with checks ----------------------------------------------------

static void test_checked(void **state) {
    (void)state;
    static const char *const settings[] = {"LOAM_CHECK=all",
                                           "LOAM_COLLECT_EVERY=500", NULL};
    assert_true(child_passes("again", settings));
}

static void test_every(void **state) {
    (void)state;
    static const char *const settings[] = {"LOAM_CHECK=mark",
                                           "LOAM_COLLECT_EVERY=7", NULL};
    assert_true(child_passes("again", settings));
}

int main(int argc, char **argv) {
    if (child_mode(argc, argv) != NULL) {
        effort = 10;
        const struct CMUnitTest tests[] = {cmocka_unit_test(test_random)};
        return cmocka_run_group_tests(tests, NULL, NULL);
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random),
                                       cmocka_unit_test(test_checked),
                                       cmocka_unit_test(test_every)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
