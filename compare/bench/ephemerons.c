// ephemerons — a map whose entries go when their keys do.
//
// --variant:
//
//   map    --size thousand keys with a value each are put into a map, asked
//          for, and half of the keys dropped; then a collection.  put_ns,
//          get_ns and collect_ns are for one entry, whole_ns is their sum
//   chain  --size thousand entries, the value of each being the key of the
//          next, made so that the marker finds them in the worst order: with
//          the first key alive all must stay, and without it all must go.
//          chain_ns is the first of these collections, for one entry, and
//          chain_left counts what the second one left.  Only where entries
//          are ephemerons: elsewhere such a chain stays for ever

#define SHIM_THREADS
#define SHIM_WEAK

#include "measure.h"

enum { EPHEMERONS_ROUNDS_MAX = 16, EPHEMERONS_BYTES = 32 };

static uint64_t *ephemerons_object(uint64_t number) {
    uint64_t *object = mem_raw(EPHEMERONS_BYTES);
    object[0] = number;
    return object;
}

static void ephemerons_put(struct shim_map *map, void *key, void *value) {
    if (!shim_map_put(map, key, value)) {
        measure_out_of_memory();
    }
}

// Fills times[0..2]: put, get and collect.
static uint64_t ephemerons_map(uint64_t **keys, size_t count, double *times) {
    struct shim_map *map = mem_checked(shim_map(count));
    uint64_t sum = 0, start_ns = measure_now_ns();
    for (size_t at = 0; at < count; at++) {
        keys[at] = ephemerons_object(at);
        ephemerons_put(map, keys[at], ephemerons_object(3 * at));
    }
    uint64_t put_ns = measure_now_ns();
    for (size_t at = 0; at < count; at++) {
        uint64_t *value = shim_map_get(map, keys[at]);
        sum = sum * 31 + (value != NULL ? value[0] : 1);
    }
    uint64_t get_ns = measure_now_ns();
    for (size_t at = 1; at < count; at += 2) {
        keys[at] = NULL;
    }
    uint64_t drop_ns = measure_now_ns();
    shim_collect();
    size_t left = shim_map_count(map);
    times[2] = (double)(measure_now_ns() - drop_ns) / (double)count;
    times[1] = (double)(get_ns - put_ns) / (double)count;
    times[0] = (double)(put_ns - start_ns) / (double)count;
    for (size_t at = 0; at < count; at += 2) {
        uint64_t *value = shim_map_get(map, keys[at]);
        sum = sum * 31 + (value != NULL ? value[0] : 1);
    }
    return sum + (left >= count / 2 && left <= count / 2 + count / 50);
}

static uint64_t *ephemerons_first; // the only way to a chain

__attribute__((noinline)) static uint64_t
ephemerons_build_chain(struct shim_map *map, size_t count, double *times) {
    ephemerons_first = ephemerons_object(count);
    for (size_t at = count; at-- > 0;) {
        uint64_t *key = ephemerons_object(at);
        ephemerons_put(map, key, ephemerons_first);
        ephemerons_first = key;
    }
    uint64_t start_ns = measure_now_ns();
    shim_collect();
    times[0] = (double)(measure_now_ns() - start_ns) / (double)count;
    uint64_t found = 0, *key = ephemerons_first;
    for (; key != NULL; key = shim_map_get(map, key)) {
        found += key[0] == found;
    }
    return found;
}

// Overwrites what earlier calls left on the stack.
__attribute__((noinline)) static void ephemerons_scrub(void) {
    char room[8192];
    memset(room, 0, sizeof room);
    keep_object(room);
}

static uint64_t ephemerons_chain(size_t count, double *times) {
    struct shim_map *map = mem_checked(shim_map(count));
    uint64_t found = ephemerons_build_chain(map, count, times);
    ephemerons_first = NULL;
    ephemerons_scrub();
    shim_collect();
    ephemerons_scrub();
    shim_collect();
    times[1] = (double)shim_map_count(map);
    return found;
}

int main(int argc, char **argv) {
    struct measure *run = measure_open(argc, argv);
    size_t count = run->size != 0 ? run->size * 1000 : 100000;
    size_t rounds = run->rounds != 0 ? run->rounds : 3;
    rounds = rounds < EPHEMERONS_ROUNDS_MAX ? rounds : EPHEMERONS_ROUNDS_MAX;
    double times[3][EPHEMERONS_ROUNDS_MAX], each[3] = {0};
    uint64_t sum = 0;
    uint64_t **keys = mem_new(count * sizeof *keys);
    int chain = measure_is(run, "chain");
    measure_start(run);
    for (size_t round = 0; round < rounds; round++) {
        sum = sum * 31 + (chain ? ephemerons_chain(count, each)
                                : ephemerons_map(keys, count, each));
        for (size_t at = 0; at < 3; at++) {
            times[at][round] = each[at];
        }
    }
    for (size_t at = 0; at < 3; at++) {
        each[at] = measure_median(times[at], rounds);
    }
    if (chain) {
        measure_note(run, "chain_ns", each[0]);
        measure_note(run, "chain_left", each[1]);
    } else {
        measure_note(run, "put_ns", each[0]);
        measure_note(run, "get_ns", each[1]);
        measure_note(run, "collect_ns", each[2]);
        measure_note(run, "whole_ns", each[0] + each[1] + each[2]);
    }
    measure_stop(run, sum);
    keep_object(keys);
    return 0;
}
