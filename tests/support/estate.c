#include "support/estate.h"

#include <stdio.h>
#include <stdlib.h>

#include "support/estate_model.h"

struct estate es;

_Noreturn void estate_fail(const char *file, int line, const char *text) {
    fprintf(stderr, "%s:%d: %s, in step %zu\n", file, line, text, es.steps);
    abort();
}

struct estate_figures estate_figures(void) {
    return es.figures;
}

size_t estate_traced(void **objects, size_t count) {
    size_t found = 0;
    for (size_t i = 0; i < es.alive_count && found < count; i++) {
        if (es_of(es.alive[i])->kind == KIND_TRACED) {
            objects[found++] = es_object(es.alive[i]);
        }
    }
    return found;
}

// --- Types

static void es_destroy(void *object);
static void es_finalize(void *object);

static void es_visit_more(void *object, loam_slot_fn *slot, void *data) {
    struct kin *k = object;
    for (uint32_t i = 4; i < k->slot_count; i++) {
        if (k->more[i - 4] != NULL) {
            slot(&k->more[i - 4], data);
        }
    }
}

static void es_visit_all(void *object, loam_slot_fn *slot, void *data) {
    struct kin *k = object;
    for (uint32_t i = 0; i < 4; i++) {
        if (k->slots[i] != NULL) {
            slot(&k->slots[i], data);
        }
    }
    es_visit_more(object, slot, data);
}

#define FOUR                                                                   \
    LOAM_OWNS(struct kin, slots[0], slots[1], slots[2], slots[3]),             \
        .destroy = es_destroy

static LOAM_TYPE(type_plain, struct kin, FOUR);
static LOAM_TYPE(type_acyclic, struct kin, FOUR, .flags = LOAM_TYPE_ACYCLIC);
static LOAM_TYPE(type_leaf, struct leaf, .destroy = es_destroy,
                 .flags = LOAM_TYPE_LEAF);
static LOAM_TYPE(type_flex, struct kin, .visit = es_visit_all,
                 .destroy = es_destroy);
static LOAM_TYPE(type_final, struct kin, FOUR, .finalize = es_finalize);
static LOAM_TYPE(type_quarantine, struct kin, FOUR,
                 .flags = LOAM_TYPE_QUARANTINE);
static LOAM_TYPE(type_mixed, struct kin, FOUR, .visit = es_visit_more,
                 .finalize = es_finalize, .flags = LOAM_TYPE_QUARANTINE);
static LOAM_TYPE(type_shared, struct kin, FOUR, .flags = LOAM_TYPE_SHARED);
static LOAM_TYPE(type_atomic, struct kin, FOUR, .flags = LOAM_TYPE_ATOMIC);
static LOAM_TYPE(type_traced, struct kin, FOUR, .flags = LOAM_TYPE_TRACED);
static LOAM_TYPE(type_deferred, struct kin, FOUR, .flags = LOAM_TYPE_DEFERRED);

struct loam_type *const es_types[KINDS] = {
    &type_plain,  &type_acyclic,    &type_leaf,    &type_flex,
    &type_final,  &type_quarantine, &type_mixed,   &type_shared,
    &type_atomic, &type_traced,     &type_deferred};

bool es_has_more(enum kind kind) {
    return kind == KIND_FLEX || kind == KIND_MIXED;
}

static bool es_is_final(enum kind kind) {
    return kind == KIND_FINAL || kind == KIND_MIXED;
}

// Those whose death may wait for the tracer, or for a stack to forget them.
static bool es_may_wait(enum kind kind) {
    return kind == KIND_TRACED || kind == KIND_DEFERRED;
}

// Those that the ring collector leaves to the tracer.
static bool es_may_ring(enum kind kind) {
    return es_may_wait(kind) || kind == KIND_SHARED || kind == KIND_ATOMIC;
}

// --- The model

struct member *es_of(uint32_t id) {
    return &es.members[id];
}

void *es_object(uint32_t id) {
    return LOAM_REVEAL(es_of(id)->hidden);
}

static void es_reach(uint32_t id) {
    struct member *m = es_of(id);
    if (id != 0 && !m->is_reached && !m->is_destroyed) {
        m->is_reached = true;
        es.reached[es.reached_count++] = id;
    }
}

static void es_spread(size_t from) {
    for (size_t i = from; i < es.reached_count; i++) {
        struct member *m = es_of(es.reached[i]);
        for (uint32_t k = 0; k < m->slot_count; k++) {
            es_reach(m->slots[k]);
        }
    }
}

// Finds what is reached from outside.
void es_mark(void) {
    es.reached_count = 0;
    for (size_t i = 0; i < es.alive_count; i++) {
        es_of(es.alive[i])->is_reached = false;
    }
    for (size_t i = 0; i < es.alive_count; i++) {
        if (es_of(es.alive[i])->outside != 0) {
            es_reach(es.alive[i]);
        }
    }
    for (size_t i = 0; i < ESTATE_TRACED; i++) {
        es_reach(es.traced_ids[i]);
    }
    es_spread(0);
}

// The same, and what hangs on objects whose death may wait.
void es_mark_waiting(void) {
    es_mark();
    size_t from = es.reached_count;
    for (size_t i = 0; i < es.alive_count; i++) {
        if (es_may_ring(es_of(es.alive[i])->kind)) {
            es_reach(es.alive[i]);
        }
    }
    es_spread(from);
}

// Counts all owners.
void es_count_all(void) {
    for (size_t i = 0; i < es.alive_count; i++) {
        es_of(es.alive[i])->count = es_of(es.alive[i])->outside;
    }
    for (size_t i = 0; i < es.alive_count; i++) {
        const struct member *m = es_of(es.alive[i]);
        for (uint32_t k = 0; k < m->slot_count; k++) {
            es_of(m->slots[k])->count++; // of 0, too
        }
    }
}

size_t es_count(uint32_t id) {
    es_count_all();
    return es_of(id)->count;
}

static void es_forget(uint32_t id) {
    for (size_t i = 0; i < es.alive_count; i++) {
        if (es.alive[i] == id) {
            es.alive[i] = es.alive[--es.alive_count];
            return;
        }
    }
    estate_fail(__FILE__, __LINE__, "an object that the model knows");
}

void **es_slot(uint32_t id, uint32_t k) {
    struct kin *kin = es_object(id);
    return k < 4 ? &kin->slots[k] : &kin->more[k - 4];
}

// --- What dying objects see

static void es_check_whole(uint32_t id) {
    const struct member *m = es_of(id);
    if (m->kind == KIND_LEAF) {
        return;
    }
    const struct kin *kin = es_object(id);
    MUST(kin->slot_count == m->slot_count);
    MUST(kin->blob[0] == id && kin->blob[1] == id);
    for (uint32_t k = 0; k < m->slot_count; k++) {
        uint32_t child = m->slots[k];
        if (child == 0) {
            MUST(*es_slot(id, k) == NULL);
            continue;
        }
        const struct leaf *there = *es_slot(id, k);
        bool is_gone = es_of(child)->is_destroyed && child != id;
        MUST(there == es_object(child) && there->id == child);
        MUST(there->magic == (is_gone ? GONE : MAGIC));
        MUST(!is_gone || es_of(child)->was_owned);
    }
}

static void es_check_weaks(void) {
    for (size_t i = 0; i < ESTATE_WEAKS; i++) {
        const struct weak *w = &es.weaks[i];
        if (w->ref == NULL || w->id == 0) {
            continue;
        }
        const struct member *m = es_of(w->id);
        void *got = loam_weak_get(w->ref);
        if (m->is_destroyed) {
            MUST(got == NULL);
        } else if (m->is_reached && (w->is_long || !w->is_loose)) {
            MUST(got == es_object(w->id));
        } else {
            MUST(got == NULL || got == es_object(w->id));
        }
    }
}

static void es_actions(void) {
    if (es.mode.has_actions && es.depth < 4) {
        for (size_t n = gen_below(&es.gen, 3); n != 0; n--) {
            es_act();
        }
    }
}

// 0: a stray word has kept it since an earlier program, of which the model
// knows nothing any more.
static uint32_t es_id_of(void *object) {
    const struct leaf *leaf = object;
    MUST(leaf->magic == MAGIC && leaf->id != 0);
    if (leaf->program != es.program) {
        MUST(leaf->program != 0 && leaf->program < es.program);
        return 0;
    }
    MUST(leaf->id <= es.last_id && es_object(leaf->id) == object);
    return leaf->id;
}

static void es_keep_child(uint32_t id) {
    const struct member *m = es_of(id);
    for (uint32_t k = 0; k < m->slot_count; k++) {
        uint32_t child = m->slots[k];
        if (child != 0 && child != id && gen_chance(&es.gen, 10)) {
            loam_retain(es_object(child));
            es_of(child)->outside++;
        }
    }
}

// By habit: a destructor that empties its own slots.
static void es_clear_slot(uint32_t id) {
    struct member *m = es_of(id);
    uint32_t k = (uint32_t)gen_below(&es.gen, m->slot_count);
    m->slots[k] = 0;
    loam_clear(es_slot(id, k));
}

static void es_destroy(void *object) {
    uint32_t id = es_id_of(object);
    struct member *m = es_of(id);
    if (id == 0) {
        ((struct leaf *)object)->magic = GONE;
        es.figures.late++;
        return;
    }
    MUST(!m->is_destroyed); // ES2
    MUST(!es_is_final(m->kind) || m->is_finalized);
    es_mark();
    MUST(!m->is_reached); // ES1
    es_check_whole(id);   // ES3
    for (size_t i = 0; i < ESTATE_WEAKS; i++) {
        struct weak *w = &es.weaks[i];
        MUST(w->ref == NULL || w->id != id || w->is_long ||
             loam_weak_get(w->ref) == NULL); // ES4
    }
    if (es.mode.keeps_children && !es.in_collector && !es.mode.has_rings) {
        es_keep_child(id);
    }
    if (m->slot_count != 0 && gen_chance(&es.gen, 10)) {
        es_clear_slot(id);
    }
    m->was_owned = es_count(id) != 0;
    m->is_destroyed = true;
    es_forget(id);
    ((struct leaf *)object)->magic = GONE;
    es.figures.destroyed++;
    es.figures.in_rings += es.in_collector;
    es.depth++;
    es_actions();
    es.depth--;
}

static void es_finalize(void *object) {
    uint32_t id = es_id_of(object);
    struct member *m = es_of(id);
    if (id == 0) {
        return;
    }
    MUST(!m->is_destroyed && !m->is_finalized); // ES2
    es_mark();
    // A finalizer before it, of the same ring, may have brought it back.
    MUST(!m->is_reached || es.finalizes); // ES1
    es_check_whole(id);
    for (size_t i = 0; i < ESTATE_WEAKS; i++) {
        struct weak *w = &es.weaks[i];
        // That one may have made new ones, too.
        MUST(w->ref == NULL || w->id != id || w->is_long || es.finalizes ||
             loam_weak_get(w->ref) == NULL); // ES4
        // References to what dies with it may be gone, too.
        w->is_loose |= w->ref != NULL && !es_of(w->id)->is_reached;
    }
    m->is_finalized = es.finalizes = true;
    es.figures.finalized++;
    if (gen_chance(&es.gen, 30)) {
        loam_retain(object);
        m->outside++;
        es.figures.kept++;
    }
    es.depth++;
    es_actions();
    es.depth--;
}

// --- What follows from the model

void es_check_counts(void) {
    es_count_all();
    for (size_t i = 0; i < es.alive_count; i++) {
        uint32_t id = es.alive[i];
        if (es_of(id)->is_reached) {
            MUST(loam_count(es_object(id)) == es_of(id)->count); // ES7
            MUST(loam_type_of(es_object(id)) == es_types[es_of(id)->kind]);
            es_check_whole(id);
        }
    }
}

void es_check(void) {
    es_mark();
    es_check_weaks();
    if (es.step != 0) {
        return;
    }
    es_count_all();
    for (size_t i = 0; i < es.alive_count; i++) {
        uint32_t id = es.alive[i];
        if (!es_of(id)->is_reached && !es_may_wait(es_of(id)->kind)) {
            MUST(es_of(id)->count != 0); // ES5
        }
    }
}

void es_check_all_gone(void) {
    es_mark_waiting();
    es_count_all();
    if (es.reached_count != es.alive_count) {
        for (size_t i = 0; i < es.alive_count; i++) {
            const struct member *m = es_of(es.alive[i]);
            if (!m->is_reached) {
                fprintf(stderr, "%u (kind %d) is left, count %zu\n",
                        es.alive[i], (int)m->kind, es_of(es.alive[i])->count);
            }
        }
    }
    MUST(es.reached_count == es.alive_count); // ES6
}
