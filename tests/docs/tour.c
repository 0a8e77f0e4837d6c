// From docs/tour.md: one object, and a thousand like it, from birth to reuse.

#include <stdio.h>

#include <loam.h>

#define COUNT 1000

// begin
struct node {
    struct node *next;
    long value;
    char name[24]; // 40 bytes in all: a cell of 48
};

static struct node *kept; // a root

static struct node *make(long value) {
    struct node *node = loam_alloc(sizeof *node); // born
    if (node != NULL) {
        node->value = value;
        node->next = kept;
        kept = node; // from now on it can be found
    }
    return node;
}
// end

static uintptr_t hidden[COUNT];

// In a function of its own, so that its frame is gone when we collect.
static __attribute__((noinline)) int fill(void) {
    for (long i = 0; i < COUNT; i++) {
        struct node *node = make(i);
        if (node == NULL || loam_base(&node->name[3]) != node ||
            loam_usable_size(node) != 48) {
            return 1;
        }
        hidden[i] = LOAM_HIDE(node);
    }
    return 0;
}

static int still_there(void) {
    int count = 0;
    for (int i = 0; i < COUNT; i++) {
        count += loam_is_heap(LOAM_REVEAL(hidden[i]));
    }
    return count;
}

static int reused(void) {
    int count = 0;
    for (int i = 0; i < COUNT; i++) {
        uintptr_t fresh = LOAM_HIDE(loam_alloc(sizeof(struct node)));
        for (int j = 0; j < COUNT; j++) {
            count += fresh == hidden[j];
        }
    }
    return count;
}

int main(void) {
    if (fill() != 0 || !loam_collect()) {
        return 1;
    }
    int marked = still_there(); // found by way of `kept`: all
    kept = NULL;                // forgotten
    if (!loam_collect()) {
        return 1;
    }
    int left = still_there(); // a stale word may hold the end of the chain
    int again = left == 0 ? reused() : 0;
    printf("marked %d, left %d, used again %d\n", marked, left, again);
    return marked == COUNT ? 0 : 1;
}
