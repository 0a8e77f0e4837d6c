// pair — one malloc and its free, at once; nanoseconds.
//
// --size thousand pairs of --variant bytes; the shortest of --rounds is
// pair_ns.  lifo_ns: the same in stacks of 100, freed from the top; fifo_ns:
// freed from the bottom.

#include "blocks.h"

enum { PAIR_STACK = 100 };

static double pair_best(double best, uint64_t begin_ns, size_t pairs) {
    double ns = (double)(measure_cpu_ns() - begin_ns) / (double)pairs;
    return best == 0 || ns < best ? ns : best;
}

int main(int argc, char **argv) {
    struct measure *run = measure_open(argc, argv);
    size_t bytes = strtoul(run->variant, NULL, 10);
    size_t stacks = (run->size != 0 ? run->size : 1) * 1000 / PAIR_STACK;
    double pair_ns = 0, lifo_ns = 0, fifo_ns = 0;
    uint64_t made = 0, sum = 0;
    void *stack[PAIR_STACK];
    bytes = bytes >= BLOCK_LEAST ? bytes : BLOCK_LEAST;
    measure_start(run);
    for (size_t round = 0; round < (run->rounds | 1); round++) {
        uint64_t begin_ns = measure_cpu_ns();
        for (size_t at = 0; at < stacks * PAIR_STACK; at++) {
            uint64_t *p = mem_checked(malloc(bytes));
            *p = at;
            keep_object(p);
            sum += *p;
            free(p);
        }
        pair_ns = pair_best(pair_ns, begin_ns, stacks * PAIR_STACK);
        begin_ns = measure_cpu_ns();
        for (size_t at = 0; at < stacks; at++) {
            for (size_t one = 0; one < PAIR_STACK; one++) {
                stack[one] = block_make(bytes, ++made);
            }
            for (size_t one = PAIR_STACK; one-- > 0;) {
                sum += block_end(stack[one]);
            }
        }
        lifo_ns = pair_best(lifo_ns, begin_ns, stacks * PAIR_STACK);
        begin_ns = measure_cpu_ns();
        for (size_t at = 0; at < stacks; at++) {
            for (size_t one = 0; one < PAIR_STACK; one++) {
                stack[one] = block_make(bytes, ++made);
            }
            for (size_t one = 0; one < PAIR_STACK; one++) {
                sum += block_end(stack[one]);
            }
        }
        fifo_ns = pair_best(fifo_ns, begin_ns, stacks * PAIR_STACK);
    }
    measure_note(run, "pair_ns", pair_ns);
    measure_note(run, "lifo_ns", lifo_ns);
    measure_note(run, "fifo_ns", fifo_ns);
    measure_stop(run, sum);
    return 0;
}
