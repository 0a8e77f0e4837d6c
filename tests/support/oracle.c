#include "support/oracle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loam.h"
#include "support/gen.h"
#include "support/scrub.h"

#define WORD            sizeof(uintptr_t)
#define BASE_ONLY_BYTES ((size_t)4096)
#define ELEMENT_BYTES   ((size_t)40)
static const size_t oracle_offsets[3] = {8, 16, 32};

// --- Complaint ---------------------------------------------------------

#define ORACLE_REQUIRE(o, condition, node)                                     \
    ((condition) ? (void)0                                                     \
                 : oracle_fail((o), #condition, __func__, __LINE__, (node)))

__attribute__((__noreturn__)) static void oracle_fail(const struct oracle *o,
                                                      const char *condition,
                                                      const char *function,
                                                      int line, size_t node) {
    fprintf(stderr, "oracle: %s: %s:%d: %s\n  seed %llu step %llu node %zu\n",
            o->subject->name, function, line, condition,
            (unsigned long long)o->seed, (unsigned long long)o->step, node);
    fprintf(stderr, "  %zu reachable, %zu kept, %zu of them by chance\n",
            o->reachable_count, o->kept_count, o->chance_count);
    if (node != ORACLE_NONE) {
        const struct oracle_node *n = &o->nodes[node];
        fprintf(stderr, "  at %p id %llx asked %zu usable %zu kind %d\n",
                LOAM_REVEAL(n->hidden), (unsigned long long)n->id, n->asked,
                n->usable, (int)n->kind);
    }
    abort();
}

// --- Addresses ---------------------------------------------------------

static char *oracle_start(const struct oracle *o, size_t node) {
    return LOAM_REVEAL(o->nodes[node].hidden);
}

static size_t oracle_bucket(const struct oracle *o, uintptr_t hidden) {
    return (size_t)gen_mix(hidden, 7) & o->table_mask;
}

// The node that starts there, or ORACLE_NONE.
static size_t oracle_lookup(const struct oracle *o, uintptr_t hidden) {
    size_t at = oracle_bucket(o, hidden);
    while (o->table[at]) {
        size_t node = o->table[at] - 1;
        if (o->nodes[node].hidden == hidden) {
            return node;
        }
        at = (at + 1) & o->table_mask;
    }
    return ORACLE_NONE;
}

static void oracle_enter(struct oracle *o, size_t node) {
    size_t at = oracle_bucket(o, o->nodes[node].hidden);
    while (o->table[at]) {
        at = (at + 1) & o->table_mask;
    }
    o->table[at] = node + 1;
}

// Open addressing: whoever stands behind the gap in one cluster moves up.
static void oracle_leave(struct oracle *o, size_t node) {
    size_t at = oracle_bucket(o, o->nodes[node].hidden);
    while (o->table[at] != node + 1) {
        at = (at + 1) & o->table_mask;
    }
    o->table[at] = 0;
    for (at = (at + 1) & o->table_mask; o->table[at];
         at = (at + 1) & o->table_mask) {
        size_t moved = o->table[at] - 1;
        o->table[at] = 0;
        oracle_enter(o, moved);
    }
}

static bool oracle_is_valid(const struct oracle *o,
                            const struct oracle_edge *edge) {
    return edge->target != ORACLE_NONE &&
           o->nodes[edge->target].id == edge->target_id;
}

// --- Contents ----------------------------------------------------------

static bool oracle_is_leaf(enum oracle_kind kind) {
    return kind == ORACLE_LEAF || kind == ORACLE_LEAF_PINNED;
}

static bool oracle_is_pinned(enum oracle_kind kind) {
    return kind == ORACLE_PINNED || kind == ORACLE_LEAF_PINNED;
}

// The places for edges: one in each of edge_count equal parts of the object,
// or the declared words of its first elements.  Ascending.
static void oracle_places(struct oracle_node *n) {
    size_t places = n->asked / 16 ? n->asked / 16 : 1;
    if (oracle_is_leaf(n->kind)) {
        places = 0;
    } else if (n->kind == ORACLE_TYPED) {
        places = 3 * (n->asked / ELEMENT_BYTES);
    }
    n->edge_count = places < ORACLE_EDGES ? places : ORACLE_EDGES;
    for (size_t k = 0; k < n->edge_count; k++) {
        size_t part = n->usable / WORD / n->edge_count;
        n->edges[k].word = k * part + (size_t)gen_mix(n->id, k) % part;
        if (n->kind == ORACLE_TYPED) {
            n->edges[k].word =
                (k / 3 * ELEMENT_BYTES + oracle_offsets[k % 3]) / WORD;
        }
    }
    for (size_t k = n->edge_count; k < ORACLE_EDGES; k++) {
        n->edges[k].target = ORACLE_NONE;
    }
}

static uintptr_t oracle_address(const struct oracle *o,
                                const struct oracle_edge *edge) {
    return (uintptr_t)oracle_start(o, edge->target) + edge->offset;
}

// What should stand in the word of an edge.
static uintptr_t oracle_edge_word(const struct oracle *o,
                                  const struct oracle_node *n, size_t k) {
    const struct oracle_edge *edge = &n->edges[k];
    return oracle_is_valid(o, edge) ? oracle_address(o, edge)
                                    : (uintptr_t)gen_mix(n->id, edge->word);
}

static void oracle_write(struct oracle *o, size_t node) {
    struct oracle_node *n = &o->nodes[node];
    uintptr_t *words = (uintptr_t *)(void *)oracle_start(o, node);
    for (size_t i = 0; i < n->usable / WORD; i++) {
        words[i] = (uintptr_t)gen_mix(n->id, i);
    }
    for (size_t k = 0; k < n->edge_count; k++) {
        words[n->edges[k].word] = oracle_edge_word(o, n, k);
    }
}

// O1, O2 for the first `bytes` of the node's copy at `words`.  Edges of the
// dead are not looked at: what they led to may have been freed since.
static void oracle_read(const struct oracle *o, size_t node,
                        const uintptr_t *words, size_t bytes) {
    const struct oracle_node *n = &o->nodes[node];
    size_t k = 0;
    for (size_t i = 0; i < bytes / WORD; i++) {
        if (k < n->edge_count && n->edges[k].word == i) {
            bool right = n->dead || words[i] == oracle_edge_word(o, n, k);
            ORACLE_REQUIRE(o, right && "an edge is as written", node);
            k++;
            continue;
        }
        bool right = words[i] == (uintptr_t)gen_mix(n->id, i);
        ORACLE_REQUIRE(o, right && "the contents are as written", node);
    }
}

static void oracle_require_zero(const struct oracle *o, size_t node,
                                size_t from) {
    const char *bytes = oracle_start(o, node);
    for (size_t i = from; i < o->nodes[node].usable; i++) {
        ORACLE_REQUIRE(o, bytes[i] == 0 && "new bytes are zero", node);
    }
}

// --- Begin and end -----------------------------------------------------

static void *oracle_room(size_t count, size_t bytes) {
    void *room = calloc(count, bytes);
    if (!room) {
        fprintf(stderr, "oracle: no memory for the model\n");
        abort();
    }
    return room;
}

void oracle_init(struct oracle *o, const struct subject *subject,
                 size_t capacity, size_t slot_count_max, uint64_t seed) {
    memset(o, 0, sizeof *o);
    o->subject = subject;
    o->seed = seed;
    o->capacity = capacity;
    o->table_mask = 1;
    while (o->table_mask < 4 * capacity) {
        o->table_mask *= 2;
    }
    o->table = oracle_room(o->table_mask, sizeof *o->table);
    o->table_mask--;
    o->nodes = oracle_room(capacity, sizeof *o->nodes);
    o->stack = oracle_room(capacity, sizeof *o->stack);
    o->slots = oracle_room(slot_count_max, sizeof *o->slots);
    o->roots = oracle_room(slot_count_max, sizeof *o->roots);
    o->layout = subject->layout(ELEMENT_BYTES, oracle_offsets, 3);
    scrub_stack();
    subject->collect();
    o->foreign = (size_t)subject->live_objects();
}

void oracle_add_slots(struct oracle *o, void **slots, size_t count) {
    for (size_t i = 0; i < count; i++) {
        slots[i] = NULL;
        o->slots[o->slot_count] = &slots[i];
        o->roots[o->slot_count++].target = ORACLE_NONE;
    }
}

void oracle_fini(struct oracle *o) {
    for (size_t slot = 0; slot < o->slot_count; slot++) {
        oracle_root(o, slot, ORACLE_NONE, 0);
    }
    for (size_t i = 0; i < o->capacity; i++) {
        if (o->nodes[i].id && oracle_is_pinned(o->nodes[i].kind)) {
            oracle_free(o, i);
        }
    }
    oracle_collect(o);
    ORACLE_REQUIRE(o, o->reachable_count == 0, ORACLE_NONE);
    free(o->table);
    free(o->nodes);
    free(o->stack);
    free(o->slots);
    free(o->roots);
}

// --- Acts of the program -----------------------------------------------

static void *oracle_obtain(struct oracle *o, enum oracle_kind kind,
                           size_t bytes, size_t alignment) {
    const struct subject *s = o->subject;
    switch (kind) {
    case ORACLE_SCANNED:
        return alignment ? s->alloc_aligned(alignment, bytes) : s->alloc(bytes);
    case ORACLE_LEAF:
        return s->alloc_leaf(bytes);
    case ORACLE_PINNED:
        return s->alloc_pinned(bytes);
    case ORACLE_LEAF_PINNED:
        return s->alloc_leaf_pinned(bytes);
    case ORACLE_BASE_ONLY:
        return s->alloc_base_only(bytes);
    case ORACLE_TYPED:
        return s->alloc_typed(o->layout, bytes / ELEMENT_BYTES);
    case ORACLE_KINDS:
    default:
        abort();
    }
}

static void oracle_forget(struct oracle *o, size_t node) {
    oracle_leave(o, node);
    o->nodes[node].id = 0;
    o->used--;
}

// Whoever bore this address before must be known to be dead: O5.
static void oracle_bury_former(struct oracle *o, uintptr_t hidden) {
    size_t former = oracle_lookup(o, hidden);
    if (former == ORACLE_NONE) {
        return;
    }
    if (!o->nodes[former].dead) {
        oracle_trace(o);
    }
    ORACLE_REQUIRE(o, o->nodes[former].dead && "a live object was reused",
                   former);
    oracle_forget(o, former);
}

static size_t oracle_unused(struct oracle *o) {
    if (o->used == o->capacity) {
        return ORACLE_NONE;
    }
    size_t node = (size_t)(o->next_id % o->capacity);
    while (o->nodes[node].id) {
        node = (node + 1) % o->capacity;
    }
    return node;
}

size_t oracle_alloc(struct oracle *o, enum oracle_kind kind, size_t bytes,
                    size_t alignment, size_t slot) {
    if (kind == ORACLE_TYPED) {
        bytes = (bytes / ELEMENT_BYTES + 1) * ELEMENT_BYTES;
    }
    if (o->used == o->capacity) {
        return ORACLE_NONE;
    }
    void *p = oracle_obtain(o, kind, bytes, alignment);
    if (!p) {
        return ORACLE_NONE;
    }
    *o->slots[slot] = p;
    oracle_bury_former(o, LOAM_HIDE(p));
    size_t node = oracle_unused(o);
    struct oracle_node *n = &o->nodes[node];
    memset(n, 0, sizeof *n);
    n->id = ++o->next_id;
    n->hidden = LOAM_HIDE(p);
    n->asked = bytes;
    n->usable = o->subject->usable_size(p);
    n->kind = kind;
    for (size_t k = 0; k < ORACLE_EDGES; k++) {
        n->edges[k].target = ORACLE_NONE;
    }
    oracle_places(n);
    oracle_enter(o, node);
    o->used++;
    o->roots[slot] = (struct oracle_edge){node, n->id, 0, 0};
    size_t unit = alignment < 16 ? 16 : alignment;
    ORACLE_REQUIRE(o, (uintptr_t)p % unit == 0, node);
    ORACLE_REQUIRE(o, n->usable >= bytes && n->usable % WORD == 0, node);
    ORACLE_REQUIRE(o, o->subject->base(p) == p, node);
    if (!oracle_is_leaf(kind)) {
        oracle_require_zero(o, node, 0);
    }
    oracle_write(o, node);
    return node;
}

void oracle_root(struct oracle *o, size_t slot, size_t node, size_t offset) {
    struct oracle_edge edge = {node, 0, 0, offset};
    if (node == ORACLE_NONE) {
        *o->slots[slot] = NULL;
    } else {
        edge.target_id = o->nodes[node].id;
        *o->slots[slot] = (void *)oracle_address(o, &edge);
    }
    o->roots[slot] = edge;
}

void oracle_link(struct oracle *o, size_t from, size_t edge, size_t to,
                 size_t offset) {
    struct oracle_node *n = &o->nodes[from];
    uintptr_t *words = (uintptr_t *)(void *)oracle_start(o, from);
    n->edges[edge].target = to;
    n->edges[edge].offset = offset;
    n->edges[edge].target_id = to == ORACLE_NONE ? 0 : o->nodes[to].id;
    words[n->edges[edge].word] = oracle_edge_word(o, n, edge);
}

// Every pointer to `node` that the program can reach now leads to `to`: the
// node itself at its new place, or nowhere.
static void oracle_redirect(struct oracle *o, size_t node, size_t to) {
    uint64_t id = o->nodes[node].id;
    size_t usable = o->nodes[node].usable;
    for (size_t slot = 0; slot < o->slot_count; slot++) {
        struct oracle_edge *root = &o->roots[slot];
        if (root->target == node && root->target_id == id) {
            oracle_root(o, slot, to, root->offset % usable);
        }
    }
    for (size_t i = 0; i < o->capacity; i++) {
        struct oracle_node *n = &o->nodes[i];
        for (size_t k = 0; n->id && k < n->edge_count; k++) {
            struct oracle_edge *edge = &n->edges[k];
            if (edge->target != node || edge->target_id != id) {
                continue;
            }
            if (n->dead) {
                edge->target = ORACLE_NONE;
            } else {
                oracle_link(o, i, k, to, edge->offset % usable);
            }
        }
    }
}

void oracle_free(struct oracle *o, size_t node) {
    oracle_trace(o); // dead nodes must not be written to
    void *start = oracle_start(o, node);
    oracle_redirect(o, node, ORACLE_NONE);
    o->subject->free(start);
    ORACLE_REQUIRE(o, o->subject->usable_size(start) == 0, node);
    oracle_forget(o, node);
}

bool oracle_realloc(struct oracle *o, size_t node, size_t bytes) {
    struct oracle_node *n = &o->nodes[node];
    if (n->kind == ORACLE_TYPED) {
        bytes = (bytes / ELEMENT_BYTES + 1) * ELEMENT_BYTES;
    }
    bytes = bytes ? bytes : 1;
    oracle_trace(o);
    size_t old_usable = n->usable;
    void *p = o->subject->realloc(oracle_start(o, node), bytes);
    if (!p) {
        return false;
    }
    // Compared before the new place is entered: edges to itself are the old.
    oracle_read(o, node, p, old_usable < bytes ? old_usable : bytes);
    if (LOAM_HIDE(p) != n->hidden) {
        oracle_bury_former(o, LOAM_HIDE(p));
        oracle_leave(o, node);
        n->hidden = LOAM_HIDE(p);
        oracle_enter(o, node);
    }
    n->asked = bytes;
    n->usable = o->subject->usable_size(p);
    ORACLE_REQUIRE(o, n->usable >= bytes, node);
    if (!oracle_is_leaf(n->kind)) {
        oracle_require_zero(o, node, old_usable);
    }
    oracle_places(n);
    oracle_write(o, node);
    oracle_redirect(o, node, node);
    return true;
}

// --- Judgement ---------------------------------------------------------

static size_t oracle_reach(struct oracle *o, size_t count,
                           const struct oracle_edge *edge) {
    if (oracle_is_valid(o, edge) && !o->nodes[edge->target].reachable) {
        o->nodes[edge->target].reachable = true;
        o->stack[count++] = edge->target;
    }
    return count;
}

void oracle_trace(struct oracle *o) {
    size_t count = 0;
    for (size_t i = 0; i < o->capacity; i++) {
        struct oracle_node *n = &o->nodes[i];
        n->reachable = n->id && oracle_is_pinned(n->kind);
        if (n->reachable) {
            o->stack[count++] = i;
        }
    }
    for (size_t slot = 0; slot < o->slot_count; slot++) {
        count = oracle_reach(o, count, &o->roots[slot]);
    }
    while (count) {
        const struct oracle_node *n = &o->nodes[o->stack[--count]];
        for (size_t k = 0; k < n->edge_count; k++) {
            count = oracle_reach(o, count, &n->edges[k]);
        }
    }
    o->reachable_count = 0;
    for (size_t i = 0; i < o->capacity; i++) {
        struct oracle_node *n = &o->nodes[i];
        n->dead = n->id && !n->reachable;
        o->reachable_count += n->reachable;
    }
}

static void oracle_check_node(const struct oracle *o, size_t node) {
    const struct oracle_node *n = &o->nodes[node];
    const char *start = oracle_start(o, node);
    ORACLE_REQUIRE(o, o->subject->base(start) == start, node);
    ORACLE_REQUIRE(o, o->subject->base(start + n->usable - 1) == start, node);
    ORACLE_REQUIRE(o, o->subject->usable_size(start) == n->usable, node);
    oracle_read(o, node, (const uintptr_t *)(const void *)start, n->usable);
}

void oracle_check(struct oracle *o) {
    oracle_trace(o);
    for (size_t i = 0; i < o->capacity; i++) {
        if (o->nodes[i].reachable) {
            oracle_check_node(o, i);
        }
    }
    for (size_t slot = 0; slot < o->slot_count; slot++) {
        const struct oracle_edge *root = &o->roots[slot];
        void *word = *o->slots[slot];
        uintptr_t right =
            root->target == ORACLE_NONE ? 0 : oracle_address(o, root);
        ORACLE_REQUIRE(o, (uintptr_t)word == right, root->target);
    }
}

// Dead nodes that are still there.  The others leave the model, O4 permitting.
static void oracle_find_kept(struct oracle *o) {
    o->kept_count = 0;
    for (size_t i = 0; i < o->capacity; i++) {
        struct oracle_node *n = &o->nodes[i];
        n->visited = false; // oracle_chance begins with none
        n->kept = n->dead && o->subject->base(oracle_start(o, i)) ==
                                 (void *)oracle_start(o, i);
        if (n->kept) {
            oracle_check_node(o, i);
            o->kept_count++;
        }
    }
    for (size_t i = 0; i < o->capacity; i++) {
        const struct oracle_node *n = &o->nodes[i];
        for (size_t k = 0; n->kept && k < n->edge_count; k++) {
            if (oracle_is_valid(o, &n->edges[k])) {
                size_t target = n->edges[k].target;
                bool there =
                    o->nodes[target].reachable || o->nodes[target].kept;
                ORACLE_REQUIRE(o, there && "a survivor's target", i);
            }
        }
    }
    for (size_t i = 0; i < o->capacity; i++) {
        if (o->nodes[i].dead && !o->nodes[i].kept) {
            oracle_forget(o, i);
            o->nodes[i].dead = false;
        }
    }
}

static void oracle_visit(struct oracle *o, size_t node) {
    size_t count = 0;
    o->nodes[node].visited = true;
    o->stack[count++] = node;
    while (count) {
        const struct oracle_node *n = &o->nodes[o->stack[--count]];
        for (size_t k = 0; k < n->edge_count; k++) {
            const struct oracle_edge *edge = &n->edges[k];
            if (oracle_is_valid(o, edge) && o->nodes[edge->target].kept &&
                !o->nodes[edge->target].visited) {
                o->nodes[edge->target].visited = true;
                o->stack[count++] = edge->target;
            }
        }
    }
}

// Survivors that no other survivor explains: those without a kept predecessor,
// and one for each ring that is left.
static size_t oracle_chance(struct oracle *o) {
    size_t count = 0;
    for (size_t i = 0; i < o->capacity; i++) {
        const struct oracle_node *n = &o->nodes[i];
        for (size_t k = 0; n->kept && k < n->edge_count; k++) {
            if (oracle_is_valid(o, &n->edges[k])) {
                o->nodes[n->edges[k].target].visited = true;
            }
        }
    }
    for (size_t i = 0; i < o->capacity; i++) {
        o->nodes[i].first = o->nodes[i].kept && !o->nodes[i].visited;
        o->nodes[i].visited = false;
    }
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < o->capacity; i++) {
            bool begin = pass || o->nodes[i].first;
            if (begin && o->nodes[i].kept && !o->nodes[i].visited) {
                oracle_visit(o, i);
                count++;
            }
        }
    }
    return count;
}

size_t oracle_budget(const struct oracle *o) {
    return 20 + o->reachable_count / 100 + (size_t)o->subject->neighbours();
}

void oracle_collect(struct oracle *o) {
    scrub_stack();
    o->subject->collect();
    oracle_check(o);
    oracle_find_kept(o);
    o->chance_count = oracle_chance(o);
    if (o->chance_count > o->chance_max) {
        o->chance_max = o->chance_count;
    }
    ORACLE_REQUIRE(o, o->chance_count <= oracle_budget(o), ORACLE_NONE);
    size_t live = (size_t)o->subject->live_objects();
    ORACLE_REQUIRE(o, live >= o->reachable_count, ORACLE_NONE);
    ORACLE_REQUIRE(o, live <= o->reachable_count + o->kept_count + o->foreign,
                   ORACLE_NONE);
}
