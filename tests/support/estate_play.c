#include <string.h>

#include "support/estate.h"
#include "support/estate_model.h"
#include "support/scrub.h"

// --- Operations

static uint32_t es_some(void) {
    es_mark();
    return es.reached_count == 0
               ? 0
               : es.reached[gen_below(&es.gen, es.reached_count)];
}

static uint32_t es_some_owned(void) {
    for (int tries = 0; tries < 12; tries++) {
        uint32_t id = es_some();
        if (id != 0 && es_of(id)->outside > es_of(id)->pinned) {
            return id;
        }
    }
    return 0;
}

static bool es_may_link(uint32_t from, uint32_t to) {
    const struct member *f = es_of(from), *t = es_of(to);
    if (f->kind == KIND_ACYCLIC) {
        return t->kind == KIND_LEAF || (t->kind == KIND_ACYCLIC && to < from);
    }
    return true;
}

// Pinned: where it takes memory anything may be destroyed.
static uint32_t es_new(void) {
    enum kind kind;
    do {
        kind = (enum kind)gen_below(&es.gen, KINDS);
    } while ((es.mode.kinds >> kind & 1) == 0);
    uint32_t more = es_has_more(kind) ? (uint32_t)gen_below(&es.gen, 5) : 0;
    void *object = es_has_more(kind)
                       ? loam_new_flex(es_types[kind], more * sizeof(void *))
                       : loam_new(es_types[kind]);
    if (object == NULL) {
        es.figures.refused++;
        return 0;
    }
    uint32_t id = ++es.last_id;
    struct member *m = es_of(id);
    MUST(id + 1 < ESTATE_IDS);
    size_t bytes =
        kind == KIND_LEAF ? sizeof(struct leaf) : sizeof(struct kin) + more * 8;
    for (size_t i = 0; i < bytes; i++) {
        MUST(((char *)object)[i] == 0);
    }
    *m = (struct member){.kind = kind, .hidden = LOAM_HIDE(object)};
    m->slot_count = kind == KIND_LEAF ? 0 : 4 + more;
    m->outside = m->pinned = 1;
    if (kind == KIND_DEFERRED) {
        loam_retain(object);
    }
    es.alive[es.alive_count++] = id;
    es.figures.made++;
    struct kin *kin = object;
    kin->magic = MAGIC;
    kin->id = id;
    kin->program = es.program;
    if (kind != KIND_LEAF) {
        kin->slot_count = m->slot_count;
        kin->blob = loam_alloc(2 * sizeof *kin->blob);
        MUST(kin->blob != NULL);
        kin->blob[0] = kin->blob[1] = id;
    }
    return id;
}

static void es_unpin(uint32_t id) {
    es_of(id)->pinned -= id != 0;
}

static void es_release(uint32_t id) {
    if (id != 0) {
        es_of(id)->outside--;
        loam_release(es_object(id));
    }
}

static void es_assign(uint32_t from, uint32_t to) {
    struct member *m = es_of(from);
    if (from == 0 || to == 0 || m->slot_count == 0 || !es_may_link(from, to)) {
        return;
    }
    uint32_t k = (uint32_t)gen_below(&es.gen, m->slot_count);
    void **slot = es_slot(from, k);
    switch (gen_below(&es.gen, 5)) {
    case 0:
        m->slots[k] = 0;
        loam_clear(slot);
        break;
    case 1:
        if (m->slots[k] != 0) {
            es_of(m->slots[k])->outside++;
            m->slots[k] = 0;
            loam_take(slot);
        }
        break;
    case 2:
        loam_retain(es_object(to));
        m->slots[k] = to;
        loam_give(slot, es_object(to));
        break;
    default:
        m->slots[k] = to;
        loam_assign(slot, es_object(to));
        break;
    }
}

// A ring of some objects, which is garbage as soon as it is made.
static void es_ring(void) {
    uint32_t ids[6];
    size_t count = 0;
    for (size_t n = 1 + gen_below(&es.gen, 6); n != 0; n--) {
        uint32_t id = es_new();
        if (id == 0 || es_of(id)->kind == KIND_ACYCLIC ||
            es_of(id)->slot_count == 0) {
            es_unpin(id);
            es_release(id);
        } else {
            ids[count++] = id;
        }
    }
    for (size_t i = 0; i < count; i++) {
        uint32_t next = ids[(i + 1) % count];
        es_of(ids[i])->slots[0] = next;
        loam_assign(es_slot(ids[i], 0), es_object(next));
    }
    for (size_t i = 0; i < count; i++) {
        es_unpin(ids[i]);
        es_release(ids[i]);
    }
}

static void es_weak(void) {
    struct weak *w = &es.weaks[gen_below(&es.gen, ESTATE_WEAKS)];
    uint32_t id = es_some();
    if (w->ref != NULL && gen_chance(&es.gen, 50)) {
        const struct member *m = es_of(w->id);
        es_mark();
        void *got = loam_weak_retain(w->ref);
        if (got != NULL) {
            MUST(!m->is_destroyed && got == es_object(w->id));
            es_of(w->id)->outside++;
        } else {
            MUST(m->is_destroyed || !m->is_reached ||
                 (w->is_loose && !w->is_long));
        }
        return;
    }
    if (id != 0) {
        w->is_long = gen_chance(&es.gen, 30);
        w->is_loose = false;
        w->id = id;
        w->ref = w->is_long ? loam_weak_make_long(es_object(id))
                            : loam_weak_make(es_object(id));
        MUST(w->ref != NULL);
    }
}

static void es_pool_close(size_t depth) {
    while (es.pool_count > depth + 1) {
        struct pool *inner = &es.pools[--es.pool_count];
        for (size_t i = 0; i < inner->count; i++) {
            es_of(inner->ids[i])->outside--;
            es_of(inner->ids[i])->pinned--;
        }
    }
    struct pool *pool = &es.pools[--es.pool_count];
    for (size_t i = 0; i < pool->count; i++) {
        es_of(pool->ids[i])->outside--;
        es_of(pool->ids[i])->pinned--;
    }
    struct loam_pool handle = pool->pool;
    loam_pool_close(&handle);
}

static void es_pool(void) {
    struct pool *pool = &es.pools[es.pool_count == 0 ? 0 : es.pool_count - 1];
    if (es.pool_count < ESTATE_POOLS && gen_chance(&es.gen, 20)) {
        pool = &es.pools[es.pool_count++];
        pool->pool = loam_pool_open();
        pool->count = 0;
    } else if (es.pool_count != 0 && gen_chance(&es.gen, 20)) {
        es_pool_close(gen_below(&es.gen, es.pool_count));
    } else if (es.pool_count != 0 && pool->count < ESTATE_POOLED) {
        uint32_t id = es_some();
        if (id != 0) {
            loam_retain(es_object(id));
            es_of(id)->outside++;
            es_of(id)->pinned++;
            pool->ids[pool->count++] = id;
            MUST(loam_autorelease(es_object(id)) == es_object(id));
        }
    }
}

static void es_trace_word(void) {
    size_t k = gen_below(&es.gen, ESTATE_TRACED);
    uint32_t id = es_some();
    es.traced_ids[k] = 0;
    es.traced[k] = NULL;
    if (id != 0 && es_of(id)->kind == KIND_TRACED) {
        es.traced_ids[k] = id;
        es.traced[k] = es_object(id);
    }
}

// What a destructor may do as well as anybody.
void es_act(void) {
    uint32_t id;
    switch (gen_below(&es.gen, 14)) {
    case 0:
    case 1:
        if (es.alive_count < ESTATE_ALIVE && es.last_id < ESTATE_IDS - 2000) {
            es_unpin(es_new());
        }
        break;
    case 2:
        id = es_some();
        if (id != 0) {
            es_of(id)->outside++;
            MUST(loam_retain(es_object(id)) == es_object(id));
        }
        break;
    case 3:
    case 4:
    case 5:
        es_release(es_some_owned());
        break;
    case 6:
    case 7:
    case 8:
        id = es_some();
        es_assign(id, es_some());
        break;
    case 9:
        es_weak();
        break;
    case 10:
        if (es.alive_count < ESTATE_ALIVE && es.last_id < ESTATE_IDS - 2000) {
            es_ring();
        }
        break;
    case 11:
        es_trace_word();
        break;
    case 12:
        if (es.depth != 0 && !gen_chance(&es.gen, 80)) {
            MUST(loam_collect_cycles(0) == 0); // in a destructor
        }
        break;
    default:
        if (es.depth != 0 &&
            gen_chance(&es.gen, es.mode.collects_often ? 40 : 10)) {
            es.in_collector = es.has_traced = true; // until the step is done
            loam_collect();
        }
        break;
    }
}

// What the tracer condemned is destroyed while the model still knows that a
// collector does it; a destructor may have called the tracer once more.
static void es_settle(void) {
    es.in_collector = true;
    do {
        es.has_traced = false;
        loam_settle();
    } while (es.has_traced);
}

// Until nothing more comes of it: what finalizers and destructors did may need
// a second look.
static void es_collect_rings(void) {
    const struct estate_figures *f = &es.figures;
    size_t ended;
    es.in_collector = true;
    do {
        ended = f->finalized + f->destroyed + f->late;
        loam_settle();
        size_t before = f->destroyed + f->late;
        size_t found = loam_collect_cycles(0);
        MUST(f->destroyed + f->late >= before + found);
    } while (f->finalized + f->destroyed + f->late != ended);
    es.in_collector = false;
    es_check_all_gone();
}

static void es_collector(void) {
    es.in_collector = true;
    switch (gen_below(&es.gen, 6)) {
    case 0:
        es_collect_rings();
        break;
    case 1:
    case 2:
        loam_collect_cycles(1 + gen_below(&es.gen, 20000));
        break;
    case 3:
        loam_collect();
        break;
    case 4:
        loam_settle();
        break;
    default:
        if (es.mode.has_step) {
            es.step = gen_below(&es.gen, 6);
            loam_release_step(es.step);
            if (es.step == 0) {
                loam_settle();
            }
        }
        break;
    }
    es.in_collector = false;
}

void estate_step(void) {
    es.steps++;
    if (gen_chance(&es.gen, 4)) {
        es_collector();
    } else if (gen_chance(&es.gen, 6)) {
        es_pool();
    } else if (gen_chance(&es.gen, 2)) {
        es_mark();
        es_check_counts();
    } else if (es.reached_count > ESTATE_ALIVE / 2) {
        es_release(es_some_owned());
    } else if (es.alive_count == ESTATE_ALIVE) {
        es.in_collector = es.has_traced = true; // what only the tracer finds
        loam_collect();
    } else {
        es_act();
    }
    if (es.has_traced) {
        es_settle();
    }
    es.in_collector = es.finalizes = false;
    es_check();
}

void estate_begin(const struct estate_mode *mode, uint64_t seed) {
    uint32_t program = es.program + 1;
    memset(&es, 0, sizeof es);
    es.program = program;
    es.mode = *mode;
    gen_init(&es.gen, seed);
    es.traced = loam_alloc(ESTATE_TRACED * sizeof *es.traced);
    MUST(es.traced != NULL);
    if (mode->keeps_children) {
        loam_disable(); // who kills a child must be known
    }
    loam_cycles_when(mode->has_rings, mode->has_rings ? 100000 : 0);
}

// The owners outside let go, those too that finalizers made.
static NOT_INLINED void es_release_all(void) {
    for (size_t i = 0; i < es.alive_count; i++) {
        while (i < es.alive_count && es_of(es.alive[i])->outside != 0) {
            es_release(es.alive[i]);
        }
    }
}

// What only the tracer finds.
static NOT_INLINED void es_collect_all(void) {
    es_release_all();
    (void)scrub_collect();
    loam_settle();
    loam_collect_cycles(0);
}

void estate_end(void) {
    if (es.mode.keeps_children) {
        loam_enable();
    }
    es.step = 0;
    loam_release_step(0);
    es_settle();
    es.in_collector = false;
    es.mode.has_actions = es.mode.keeps_children = false;
    if (es.pool_count != 0) {
        es_pool_close(0);
    }
    memset(es.traced_ids, 0, sizeof es.traced_ids);
    memset(es.traced, 0, ESTATE_TRACED * sizeof *es.traced);
    es_mark();
    while (es.reached_count != 0) {
        es_release_all();
        es_check();
        es_collect_rings();
        es_mark();
    }
    es.in_collector = true;
    for (int i = 0; i < 8 && es.alive_count != 0; i++) {
        es_collect_all();
    }
    es.in_collector = false;
}
