// churn — a graph that lives, and of which parts are replaced all the time.
//
// A tree of --size MiB, laid out in memory in one of three ways (--variant),
// loses a random subtree of some 127 cells and is given a new one in its place,
// laid out the same way; --rounds is how often, in thousands.  So the live size
// stays the same, the cells die scattered, and every collection has the whole
// tree to mark.

#include "layout.h"

enum { CHURN_LEVELS = 7, CHURN_CELLS = (1 << CHURN_LEVELS) - 1 };

static struct cell *churn_subtree(uint64_t base, enum layout_order order) {
    struct cell *cells[CHURN_CELLS];
    memset(cells, 0, sizeof cells);
    layout_make(cells, CHURN_CELLS, base, order);
    return layout_link(cells, CHURN_CELLS);
}

// A walk of `steps` from the root, to the pointer that holds a subtree.
static struct cell **churn_place(struct cell **place, size_t steps,
                                 uint64_t choices) {
    for (size_t step = 0; step < steps; step++) {
        struct cell *cell = *place;
        place = choices >> step & 1 ? &cell->right : &cell->left;
    }
    return place;
}

int main(int argc, char **argv) {
    struct measure *run = measure_open(argc, argv);
    size_t bytes = (run->size != 0 ? run->size : 8) << 20;
    size_t rounds = (run->rounds != 0 ? run->rounds : 10) * 1000;
    enum layout_order order = layout_order(run);
    size_t levels = CHURN_LEVELS;
    while ((((uint64_t)1 << (levels + 1)) - 1) * 41 < bytes) {
        levels++;
    }
    uint64_t count = ((uint64_t)1 << levels) - 1;

    measure_start(run);
    struct cell *root = layout_build(count, order);
    uint64_t state = run->seed, sum = 0;
    for (size_t round = 0; round < rounds; round++) {
        uint64_t choices = random_next(&state);
        struct cell **place =
            churn_place(&root, levels - CHURN_LEVELS, choices);
        struct cell *old = *place;
        *place = churn_subtree(choices & 0xffffffff, order);
        layout_free(old);
    }
    uint64_t found = layout_count(root, &sum);
    measure_note(run, "objects", (double)count);
    measure_stop(run, sum + found);
    return 0;
}
