// trees — many short-lived binary trees beside a long-lived one.
//
// The well-known binary-trees program: nodes of two pointers, made and counted,
// nothing else.  --size is the depth of the long-lived tree.

#include "measure.h"

struct node {
    struct node *left, *right;
};

static struct node *trees_make(size_t depth) {
    struct node *node = mem_raw(sizeof *node);
    if (depth == 0) {
        node->left = node->right = NULL;
    } else {
        node->left = trees_make(depth - 1);
        node->right = trees_make(depth - 1);
    }
    return node;
}

static uint64_t trees_count(const struct node *node) {
    if (node->left == NULL) {
        return 1;
    }
    return 1 + trees_count(node->left) + trees_count(node->right);
}

static void trees_free(struct node *node) {
    if (node != NULL) {
        trees_free(node->left);
        trees_free(node->right);
        shim_dead(node);
    }
}

static uint64_t trees_one(size_t depth) {
    struct node *tree = trees_make(depth);
    uint64_t count = trees_count(tree);
    if (SHIM_MANUAL) {
        trees_free(tree);
    }
    return count;
}

int main(int argc, char **argv) {
    enum { DEPTH_MIN = 4 };
    struct measure *run = measure_open(argc, argv);
    size_t depth_max = run->size != 0 ? run->size : 14;
    measure_start(run);
    uint64_t sum = trees_one(depth_max + 1);
    struct node *keep = trees_make(depth_max);
    for (size_t depth = DEPTH_MIN; depth <= depth_max; depth += 2) {
        size_t rounds = (size_t)1 << (depth_max - depth + DEPTH_MIN);
        for (size_t round = 0; round < rounds; round++) {
            sum = sum * 31 + trees_one(depth);
        }
    }
    sum = sum * 31 + trees_count(keep);
    measure_stop(run, sum);
    return 0;
}
