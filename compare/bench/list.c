// list — a linked list that only grows, to --size MiB in nodes of 32 bytes.
//
// Nothing is garbage: every collection is for nothing, and what counts is how
// few there are, that is how the heap is allowed to grow.

#include "measure.h"

struct node {
    struct node *next;
    uint64_t numbers[3];
};

int main(int argc, char **argv) {
    struct measure *run = measure_open(argc, argv);
    size_t count = ((run->size != 0 ? run->size : 16) << 20) / 32;
    measure_start(run);
    struct node *list = NULL;
    for (size_t at = 0; at < count; at++) {
        struct node *node = mem_raw(sizeof *node);
        node->next = list;
        node->numbers[0] = at & 0xffff;
        node->numbers[1] = node->numbers[2] = 1;
        list = node;
    }
    uint64_t sum = 0;
    for (struct node *node = list; node != NULL; node = node->next) {
        sum = sum * 31 + node->numbers[0];
    }
    measure_note(run, "objects", (double)count);
    measure_stop(run, sum);
    return 0;
}
