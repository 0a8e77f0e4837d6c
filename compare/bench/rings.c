// rings — what counts never free: Loam's cycle collector, beside Python's.
//
// --size thousand objects of three slots, --rounds times.  --variant is a shape
//
//   ring     one ring of all       pairs    rings of two
//   rings    rings of a hundred    tree     children know their parent
//   random   each leads to two others, chosen at random
//
// each let go of, and collected (collect_ns for an object that was found), or,
// with -live after it, held and suspected, all of it (collect_ns for an object
// that is there).  And
//
//   behind   a thousand dead pairs beside all others in pairs that live:
//            collect_us, the whole of one collection
//   slice    the same, but it works by itself while the program stores pointers
//            and lets pairs go: slice_us, the longest piece of work
//
// collect_ns is CPU time, the others are wall times.
// Nothing is collected by itself but in `slice`.  The checksum is how many
// objects were collected.  rings.py does the same in Python.

#include "measure.h"

#include <loam/rc.h>

enum { RINGS_FEW = 100, RINGS_DEAD = 1000, RINGS_ROUNDS_MAX = 64 };

struct rings_node {
    struct rings_node *a, *b, *c;
};

static LOAM_TYPE(rings_type, struct rings_node,
                 LOAM_OWNS(struct rings_node, a, b, c));

struct rings {
    struct measure *run;
    struct rings_node **nodes; // in malloc's memory: each has a count
    size_t count;
    uint64_t state;
};

// The same numbers as in rings.py: below 2^31.
static size_t rings_random(struct rings *rings) {
    rings->state = (rings->state * 1103515245 + 12345) & 0x7fffffff;
    return (size_t)(rings->state % rings->count);
}

static void rings_link(struct rings *rings, size_t at) {
    struct rings_node **nodes = rings->nodes, *node = nodes[at];
    size_t count = rings->count, group = at - at % RINGS_FEW;
    if (measure_is(rings->run, "ring") || measure_is(rings->run, "ring-live")) {
        loam_assign(&node->a, nodes[(at + 1) % count]);
    } else if (strncmp(rings->run->variant, "rings", 5) == 0) {
        loam_assign(&node->a, nodes[group + (at + 1) % RINGS_FEW]);
    } else if (strncmp(rings->run->variant, "tree", 4) == 0) {
        loam_assign(&node->a, 2 * at + 1 < count ? nodes[2 * at + 1] : NULL);
        loam_assign(&node->b, 2 * at + 2 < count ? nodes[2 * at + 2] : NULL);
        loam_assign(&node->c, at > 0 ? nodes[(at - 1) / 2] : NULL);
    } else if (strncmp(rings->run->variant, "random", 6) == 0) {
        loam_assign(&node->a, nodes[rings_random(rings)]);
        loam_assign(&node->b, nodes[rings_random(rings)]);
    } else {
        loam_assign(&node->a, nodes[at ^ 1]);
    }
}

static void rings_build(struct rings *rings) {
    for (size_t at = 0; at < rings->count; at++) {
        rings->nodes[at] = mem_checked(loam_new(&rings_type));
    }
    for (size_t at = 0; at < rings->count; at++) {
        rings_link(rings, at);
    }
}

static void rings_let_go(struct rings *rings) {
    for (size_t at = 0; at < rings->count; at++) {
        loam_release(rings->nodes[at]);
    }
}

static uint64_t rings_garbage(struct rings *rings) {
    uint64_t found = 0, spent_ns = 0;
    for (size_t round = 0; round < rings->run->rounds; round++) {
        rings_build(rings);
        rings_let_go(rings);
        uint64_t start_ns = measure_cpu_ns();
        found += loam_collect_cycles(0);
        spent_ns += measure_cpu_ns() - start_ns;
    }
    measure_note(rings->run, "collect_ns", (double)spent_ns / (double)found);
    return found;
}

// All that is held is suspected again before each collection.
static uint64_t rings_live(struct rings *rings) {
    uint64_t found = 0, spent_ns = 0;
    rings_build(rings);
    for (size_t round = 0; round < rings->run->rounds; round++) {
        for (size_t at = 0; at < rings->count; at++) {
            loam_release(loam_retain(rings->nodes[at]));
        }
        uint64_t start_ns = measure_cpu_ns();
        found += loam_collect_cycles(0);
        spent_ns += measure_cpu_ns() - start_ns;
    }
    measure_note(rings->run, "collect_ns",
                 (double)spent_ns /
                     (double)(rings->run->rounds * rings->count));
    return found;
}

static void rings_dead_pairs(void) {
    for (size_t at = 0; at < RINGS_DEAD; at++) {
        struct rings_node *one = mem_checked(loam_new(&rings_type));
        struct rings_node *two = mem_checked(loam_new(&rings_type));
        loam_assign(&one->a, two);
        loam_assign(&two->a, one);
        loam_release(one);
        loam_release(two);
    }
}

static uint64_t rings_behind(struct rings *rings) {
    double spent_us[RINGS_ROUNDS_MAX];
    uint64_t found = 0;
    rings_build(rings);
    loam_collect_cycles(0);
    for (size_t round = 0; round < rings->run->rounds; round++) {
        rings_dead_pairs();
        uint64_t start_ns = measure_now_ns();
        found += loam_collect_cycles(0);
        spent_us[round] = (double)(measure_now_ns() - start_ns) / 1e3;
    }
    measure_note(rings->run, "collect_us",
                 measure_median(spent_us, rings->run->rounds));
    return found;
}

static uint64_t rings_slice(struct rings *rings) {
    rings_build(rings);
    loam_cycles_when(true, 0);
    for (size_t round = 0; round < rings->run->rounds; round++) {
        rings_dead_pairs();
        for (size_t step = 0; step < rings->count / 4; step++) {
            struct rings_node *node = rings->nodes[rings_random(rings)];
            loam_assign(&node->b, rings->nodes[rings_random(rings)]);
        }
    }
    struct loam_rc_stats stats;
    loam_rc_stats(&stats, sizeof stats);
    measure_note(rings->run, "slice_us", (double)stats.slice_ns_max / 1e3);
    measure_note(rings->run, "slices", (double)stats.slices);
    loam_collect_cycles(0);
    loam_rc_stats(&stats, sizeof stats);
    return stats.destroyed;
}

int main(int argc, char **argv) {
    struct measure *run = measure_open(argc, argv);
    struct rings rings = {.run = run, .state = run->seed};
    run->rounds = run->rounds != 0 ? run->rounds : 3;
    run->rounds =
        run->rounds < RINGS_ROUNDS_MAX ? run->rounds : RINGS_ROUNDS_MAX;
    rings.count = (run->size != 0 ? run->size : 100) * 1000;
    rings.nodes = mem_checked(calloc(rings.count, sizeof *rings.nodes));
    loam_cycles_when(false, 0);
    measure_start(run);
    uint64_t sum = measure_is(run, "behind")  ? rings_behind(&rings)
                   : measure_is(run, "slice") ? rings_slice(&rings)
                   : strstr(run->variant, "-live") != NULL
                       ? rings_live(&rings)
                       : rings_garbage(&rings);
    measure_stop(run, sum);
    return 0;
}
