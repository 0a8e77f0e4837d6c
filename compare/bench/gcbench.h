// gcbench — the work of gcbench.c, which threads.c lets several threads do.
//
// After the benchmark of John Ellis and Pete Kovac, as Hans Boehm has it: the
// same quantities, our own code.  A first tree stretches the heap and dies; a
// tree and an array of doubles (a leaf) live to the end; between them, for each
// depth, trees are built in both directions, about as much memory each time.

#ifndef GCBENCH_H
#define GCBENCH_H

#include "measure.h"

struct node {
    struct node *left, *right;
    int i, j;
};

static inline struct node *gcbench_node(struct node *left, struct node *right) {
    struct node *node = mem_raw(sizeof *node);
    node->left = left;
    node->right = right;
    node->i = node->j = 0;
    return node;
}

static inline size_t gcbench_nodes(size_t depth) {
    return ((size_t)1 << (depth + 1)) - 1;
}

static inline void gcbench_populate(size_t depth, struct node *node) {
    if (depth > 0) {
        node->left = gcbench_node(NULL, NULL);
        node->right = gcbench_node(NULL, NULL);
        gcbench_populate(depth - 1, node->left);
        gcbench_populate(depth - 1, node->right);
    }
}

static inline struct node *gcbench_bottom_up(size_t depth) {
    if (depth == 0) {
        return gcbench_node(NULL, NULL);
    }
    struct node *left = gcbench_bottom_up(depth - 1);
    struct node *right = gcbench_bottom_up(depth - 1);
    return gcbench_node(left, right);
}

static inline uint64_t gcbench_count(const struct node *node) {
    return node == NULL
               ? 0
               : 1 + gcbench_count(node->left) + gcbench_count(node->right);
}

static inline void gcbench_free(struct node *node) {
    if (SHIM_MANUAL && node != NULL) {
        gcbench_free(node->left);
        gcbench_free(node->right);
        shim_dead(node);
    }
}

static inline uint64_t gcbench_depth(size_t depth, size_t stretch_depth) {
    size_t rounds = 2 * gcbench_nodes(stretch_depth) / gcbench_nodes(depth);
    uint64_t sum = 0;
    for (size_t round = 0; round < rounds; round++) {
        struct node *tree = gcbench_node(NULL, NULL);
        gcbench_populate(depth, tree);
        sum += tree->left != NULL;
        gcbench_free(tree);
    }
    for (size_t round = 0; round < rounds; round++) {
        struct node *tree = gcbench_bottom_up(depth);
        sum += tree->right != NULL;
        gcbench_free(tree);
    }
    return sum;
}

// All of it, with a long-lived tree of that depth.
static inline uint64_t gcbench_run(size_t depth_max) {
    enum { DEPTH_MIN = 4 };
    size_t stretch_depth = depth_max + 2;
    size_t count = (size_t)500000 << depth_max >> 16;
    struct node *stretch = gcbench_bottom_up(stretch_depth);
    keep_object(stretch);
    gcbench_free(stretch);
    stretch = NULL;
    keep_object(stretch);

    struct node *keep = gcbench_node(NULL, NULL);
    gcbench_populate(depth_max, keep);
    double *array = mem_leaf(count * sizeof *array);
    for (size_t at = 0; at < count; at++) {
        array[at] = 1.0 / (double)(at + 1);
    }
    uint64_t sum = 0;
    for (size_t depth = DEPTH_MIN; depth <= depth_max; depth += 2) {
        sum = sum * 31 + gcbench_depth(depth, stretch_depth);
    }
    sum = sum * 31 + gcbench_count(keep);
    return sum + (array[count / 2] == 1.0 / (double)(count / 2 + 1));
}

#endif
