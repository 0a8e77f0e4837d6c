// arrays — large arrays that come and go.
//
// Some places hold arrays of log-uniform sizes (--variant medium: 64 places, 32
// to 256 KiB; large: 16 places, 1 to 16 MiB); a random place is given a new one
// --size times.
// Half of the arrays are leaves, half may hold pointers and are scanned (they
// hold one, to the table of places).
// A word of every page is written, so all of them count as memory.

#include "measure.h"

enum { ARRAYS_PLACES_MAX = 64, ARRAYS_PAGE_WORDS = 512 };

struct array {
    size_t words;
    int leaf;
    uint64_t *word;
};

// Log-uniform from `low` up over so many doublings, in steps of 16.
static size_t arrays_bytes(uint64_t *state, size_t low, unsigned doublings) {
    size_t base = low << random_below(state, doublings);
    return (base + random_below(state, base)) & ~(size_t)15;
}

static void arrays_fill(struct array *array, size_t bytes, void *pointer) {
    array->words = bytes / sizeof *array->word;
    array->word = array->leaf ? mem_leaf(bytes) : mem_new(bytes);
    for (size_t at = 0; at < array->words; at += ARRAYS_PAGE_WORDS) {
        array->word[at] = at & 0xffff;
    }
    if (!array->leaf) {
        array->word[1] = (uintptr_t)pointer;
    }
}

// What was in the array; where freeing is by hand, it is freed.
static uint64_t arrays_drop(struct array *array) {
    uint64_t sum = 0;
    for (size_t at = 0; at < array->words; at += ARRAYS_PAGE_WORDS) {
        sum += array->word[at];
    }
    if (SHIM_MANUAL) {
        shim_dead(array->word);
    }
    return sum;
}

int main(int argc, char **argv) {
    struct measure *run = measure_open(argc, argv);
    size_t rounds = run->size != 0 ? run->size : 1000;
    int large = measure_is(run, "large");
    size_t low = large ? (size_t)1 << 20 : (size_t)32 << 10;
    static struct array places[ARRAYS_PLACES_MAX];
    size_t count = large ? ARRAYS_PLACES_MAX / 4 : ARRAYS_PLACES_MAX;
    uint64_t state = run->seed, sum = 0;
    measure_start(run);
    for (size_t round = 0; round < rounds; round++) {
        struct array *array = &places[random_below(&state, count)];
        sum = sum * 31 + arrays_drop(array);
        *array = (struct array){.leaf = random_below(&state, 2) == 0};
        arrays_fill(array, arrays_bytes(&state, low, large ? 4 : 3), &places);
    }
    for (size_t at = 0; at < count; at++) {
        sum = sum * 31 + arrays_drop(&places[at]);
    }
    measure_stop(run, sum);
    return 0;
}
