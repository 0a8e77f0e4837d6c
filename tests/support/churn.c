#include "support/churn.h"

#include "support/scrub.h"

// Slot 0 holds a node while another is being made.
#define SPARE_SLOT 0

void churn_init(struct churn *m, struct oracle *o, uint64_t seed) {
    *m = (struct churn){.oracle = o};
    gen_init(&m->gen, seed);
    m->bytes_max = 1 << 20;
    m->total_max = 64 << 20;
}

static size_t churn_slot(struct churn *m) {
    return 1 + gen_below(&m->gen, m->oracle->slot_count - 1);
}

// A node that the roots lead to, by a random walk.
static size_t churn_pick(struct churn *m) {
    const struct oracle *o = m->oracle;
    size_t node = o->roots[churn_slot(m)].target;
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
static size_t churn_offset(struct churn *m, size_t node) {
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

static enum oracle_kind churn_kind(struct churn *m) {
    size_t chance = gen_below(&m->gen, 100);
    return chance < 60   ? ORACLE_SCANNED
           : chance < 80 ? ORACLE_LEAF
           : chance < 92 ? ORACLE_TYPED
           : chance < 96 ? ORACLE_BASE_ONLY
           : chance < 98 ? ORACLE_PINNED
                         : ORACLE_LEAF_PINNED;
}

static void churn_drop(struct churn *m, unsigned percent) {
    for (size_t slot = 1; slot < m->oracle->slot_count; slot++) {
        if (gen_chance(&m->gen, percent)) {
            oracle_root(m->oracle, slot, ORACLE_NONE, 0);
        }
    }
}

// Pinned nodes go only by hand: about one in two when room is wanted.
static void churn_unpin(struct churn *m) {
    struct oracle *o = m->oracle;
    for (size_t i = 0; i < o->capacity; i++) {
        enum oracle_kind kind = o->nodes[i].kind;
        bool pinned = kind == ORACLE_PINNED || kind == ORACLE_LEAF_PINNED;
        if (o->nodes[i].id % 2 && pinned) {
            oracle_free(o, i);
        }
    }
}

void churn_collect(struct churn *m) {
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

static void churn_make_room(struct churn *m) {
    churn_collect(m);
    while (m->born > m->oracle->capacity / 2 || m->bytes > m->total_max / 2) {
        churn_drop(m, 40);
        churn_unpin(m);
        churn_collect(m);
    }
}

static void churn_alloc(struct churn *m) {
    struct oracle *o = m->oracle;
    size_t bytes = gen_bytes(&m->gen, m->bytes_max);
    if (m->born >= o->capacity / 4 * 3 || m->bytes + bytes > m->total_max) {
        churn_make_room(m);
    }
    enum oracle_kind kind = churn_kind(m);
    size_t octave = gen_below(&m->gen, 14);
    bool aligned = kind == ORACLE_SCANNED && gen_chance(&m->gen, 5);
    size_t old = churn_pick(m);
    oracle_root(o, SPARE_SLOT, old, churn_offset(m, old));
    size_t slot = churn_slot(m);
    size_t node =
        oracle_alloc(o, kind, bytes, aligned ? (size_t)1 << octave : 0, slot);
    m->born++;
    m->bytes += bytes;
    size_t place = gen_below(&m->gen, ORACLE_EDGES);
    if (node == ORACLE_NONE) {
        m->refused++;
    } else if (o->nodes[node].edge_count && old != ORACLE_NONE) {
        oracle_link(o, node, place % o->nodes[node].edge_count, old,
                    churn_offset(m, old));
    }
    oracle_root(o, SPARE_SLOT, ORACLE_NONE, 0);
}

static void churn_link(struct churn *m, bool unlink) {
    size_t from = churn_pick(m);
    size_t to = unlink ? ORACLE_NONE : churn_pick(m);
    size_t place = gen_below(&m->gen, ORACLE_EDGES);
    if (from == ORACLE_NONE || !m->oracle->nodes[from].edge_count) {
        return;
    }
    place %= m->oracle->nodes[from].edge_count;
    oracle_link(m->oracle, from, place, to, churn_offset(m, to));
}

static void churn_realloc(struct churn *m) {
    size_t node = churn_pick(m);
    size_t bytes = gen_bytes(&m->gen, m->bytes_max);
    if (node != ORACLE_NONE && m->bytes + bytes < m->total_max) {
        m->bytes += bytes;
        m->refused += !oracle_realloc(m->oracle, node, bytes);
    }
}

static void churn_switch(struct churn *m) {
    if (m->disabled) {
        m->oracle->subject->enable();
        m->disabled--;
    } else {
        m->oracle->subject->disable();
        m->disabled++;
    }
}

// A limit that may refuse the next allocations, or none.
static void churn_limit(struct churn *m) {
    size_t bytes = gen_below(&m->gen, 2 * m->total_max) + 1;
    if (m->limits) {
        (void)m->oracle->subject->set_limit(bytes % 3 ? 0 : bytes);
    }
}

static void churn_step(struct churn *m) {
    struct oracle *o = m->oracle;
    size_t chance = gen_below(&m->gen, 1000);
    if (chance < 450) {
        churn_alloc(m);
    } else if (chance < 650) {
        churn_link(m, false);
    } else if (chance < 720) {
        churn_link(m, true);
    } else if (chance < 800) {
        oracle_root(o, churn_slot(m), ORACLE_NONE, 0);
    } else if (chance < 880) {
        size_t node = churn_pick(m);
        oracle_root(o, churn_slot(m), node, churn_offset(m, node));
    } else if (chance < 940) {
        churn_realloc(m);
    } else if (chance < 970) {
        size_t node = churn_pick(m);
        if (node != ORACLE_NONE) {
            oracle_free(o, node);
        }
    } else if (chance < 990) {
        churn_limit(m);
    } else if (chance < 994) {
        churn_switch(m);
    } else if (chance < 998) {
        oracle_check(o);
    } else {
        churn_collect(m);
    }
}

void churn_run(struct churn *m, size_t steps) {
    for (size_t i = 0; i < steps; i++) {
        m->oracle->step++;
        churn_step(m);
    }
    while (m->disabled) {
        churn_switch(m);
    }
    if (m->limits) {
        (void)m->oracle->subject->set_limit(0);
    }
    churn_collect(m);
}
