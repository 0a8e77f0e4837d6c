#include "support/mutator.h"

#include "support/scrub.h"

// Slot 0 holds a node while another is being made.
#define SPARE_SLOT 0

void mutator_init(struct mutator *m, struct oracle *o, uint64_t seed) {
    *m = (struct mutator){.oracle = o};
    gen_init(&m->gen, seed);
    m->bytes_max = 1 << 20;
    m->total_max = 64 << 20;
}

static size_t mutator_slot(struct mutator *m) {
    return 1 + gen_below(&m->gen, m->oracle->slot_count - 1);
}

// A node that the roots lead to, by a random walk.
static size_t mutator_pick(struct mutator *m) {
    const struct oracle *o = m->oracle;
    size_t node = o->roots[mutator_slot(m)].target;
    size_t left = gen_below(&m->gen, 8);
    while (node != ORACLE_NONE && left--) {
        const struct oracle_node *n = &o->nodes[node];
        if (!n->edge_count) {
            break;
        }
        size_t next = n->edges[gen_below(&m->gen, n->edge_count)].target;
        node = next == ORACLE_NONE ? node : next;
    }
    return node;
}

// Where a pointer to `node` may point: often its start, else anywhere inside.
static size_t mutator_offset(struct mutator *m, size_t node) {
    uint64_t chance = gen_next(&m->gen);
    if (node == ORACLE_NONE || chance % 2) {
        return 0;
    }
    const struct oracle_node *n = &m->oracle->nodes[node];
    size_t bytes = n->usable;
    if (n->kind == ORACLE_BASE_ONLY && bytes > 4096) {
        bytes = 4096;
    }
    return (size_t)((chance >> 8) % bytes);
}

static enum oracle_kind mutator_kind(struct mutator *m) {
    size_t chance = gen_below(&m->gen, 100);
    return chance < 60   ? ORACLE_SCANNED
           : chance < 80 ? ORACLE_LEAF
           : chance < 92 ? ORACLE_TYPED
           : chance < 96 ? ORACLE_BASE_ONLY
           : chance < 98 ? ORACLE_PINNED
                         : ORACLE_LEAF_PINNED;
}

static void mutator_drop(struct mutator *m, unsigned percent) {
    for (size_t slot = 1; slot < m->oracle->slot_count; slot++) {
        if (gen_chance(&m->gen, percent)) {
            oracle_root(m->oracle, slot, ORACLE_NONE, 0);
        }
    }
}

// Pinned nodes go only by hand: about one in two when room is wanted.
static void mutator_unpin(struct mutator *m) {
    struct oracle *o = m->oracle;
    for (size_t i = 0; i < o->capacity; i++) {
        enum oracle_kind kind = o->nodes[i].kind;
        bool pinned = kind == ORACLE_PINNED || kind == ORACLE_LEAF_PINNED;
        if (o->nodes[i].id % 2 && pinned) {
            oracle_free(o, i);
        }
    }
}

void mutator_collect(struct mutator *m) {
    struct oracle *o = m->oracle;
    oracle_collect(o);
    m->born = 0;
    m->bytes = 0;
    uint64_t sum = 0;
    for (size_t i = 0; i < o->capacity; i++) {
        const struct oracle_node *n = &o->nodes[i];
        if (!n->reachable) {
            continue;
        }
        m->born++;
        m->bytes += n->asked;
        uint64_t node = gen_mix(n->id, n->asked);
        for (size_t k = 0; k < n->edge_count; k++) {
            if (n->edges[k].target != ORACLE_NONE) {
                node += gen_mix(n->id * 8 + k, n->edges[k].target_id);
            }
        }
        sum += node; // a sum: the order of the nodes is the collector's
    }
    m->graph = gen_mix(m->graph, sum);
}

static void mutator_make_room(struct mutator *m) {
    mutator_collect(m);
    while (m->born > m->oracle->capacity / 2 || m->bytes > m->total_max / 2) {
        mutator_drop(m, 40);
        mutator_unpin(m);
        mutator_collect(m);
    }
}

static void mutator_alloc(struct mutator *m) {
    struct oracle *o = m->oracle;
    size_t bytes = gen_bytes(&m->gen, m->bytes_max);
    if (m->born >= o->capacity / 4 * 3 || m->bytes + bytes > m->total_max) {
        mutator_make_room(m);
    }
    enum oracle_kind kind = mutator_kind(m);
    size_t octave = gen_below(&m->gen, 14);
    bool aligned = kind == ORACLE_SCANNED && gen_chance(&m->gen, 5);
    size_t old = mutator_pick(m);
    oracle_root(o, SPARE_SLOT, old, mutator_offset(m, old));
    size_t slot = mutator_slot(m);
    size_t node =
        oracle_alloc(o, kind, bytes, aligned ? (size_t)1 << octave : 0, slot);
    m->born++;
    m->bytes += bytes;
    size_t place = gen_below(&m->gen, ORACLE_EDGES);
    if (node == ORACLE_NONE) {
        m->refused++;
    } else if (o->nodes[node].edge_count && old != ORACLE_NONE) {
        oracle_link(o, node, place % o->nodes[node].edge_count, old,
                    mutator_offset(m, old));
    }
    oracle_root(o, SPARE_SLOT, ORACLE_NONE, 0);
}

static void mutator_link(struct mutator *m, bool unlink) {
    size_t from = mutator_pick(m);
    size_t to = unlink ? ORACLE_NONE : mutator_pick(m);
    size_t place = gen_below(&m->gen, ORACLE_EDGES);
    if (from == ORACLE_NONE || !m->oracle->nodes[from].edge_count) {
        return;
    }
    place %= m->oracle->nodes[from].edge_count;
    oracle_link(m->oracle, from, place, to, mutator_offset(m, to));
}

static void mutator_realloc(struct mutator *m) {
    size_t node = mutator_pick(m);
    size_t bytes = gen_bytes(&m->gen, m->bytes_max);
    if (node != ORACLE_NONE && m->bytes + bytes < m->total_max) {
        m->bytes += bytes;
        m->refused += !oracle_realloc(m->oracle, node, bytes);
    }
}

static void mutator_switch(struct mutator *m) {
    if (m->disabled) {
        m->oracle->subject->enable();
        m->disabled--;
    } else {
        m->oracle->subject->disable();
        m->disabled++;
    }
}

// A limit that may refuse the next allocations, or none.
static void mutator_limit(struct mutator *m) {
    size_t bytes = gen_below(&m->gen, 2 * m->total_max) + 1;
    if (m->limits) {
        (void)m->oracle->subject->set_limit(bytes % 3 ? 0 : bytes);
    }
}

static void mutator_step(struct mutator *m) {
    struct oracle *o = m->oracle;
    size_t chance = gen_below(&m->gen, 1000);
    if (chance < 450) {
        mutator_alloc(m);
    } else if (chance < 650) {
        mutator_link(m, false);
    } else if (chance < 720) {
        mutator_link(m, true);
    } else if (chance < 800) {
        oracle_root(o, mutator_slot(m), ORACLE_NONE, 0);
    } else if (chance < 880) {
        size_t node = mutator_pick(m);
        oracle_root(o, mutator_slot(m), node, mutator_offset(m, node));
    } else if (chance < 940) {
        mutator_realloc(m);
    } else if (chance < 970) {
        size_t node = mutator_pick(m);
        if (node != ORACLE_NONE) {
            oracle_free(o, node);
        }
    } else if (chance < 990) {
        mutator_limit(m);
    } else if (chance < 994) {
        mutator_switch(m);
    } else if (chance < 998) {
        oracle_check(o);
    } else {
        mutator_collect(m);
    }
}

void mutator_run(struct mutator *m, size_t steps) {
    for (size_t i = 0; i < steps; i++) {
        m->oracle->step++;
        mutator_step(m);
    }
    while (m->disabled) {
        mutator_switch(m);
    }
    if (m->limits) {
        (void)m->oracle->subject->set_limit(0);
    }
    mutator_collect(m);
}
