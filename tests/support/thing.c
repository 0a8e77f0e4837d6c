#include "support/thing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "loam.h"

#define THING_DEEP 12u // frozen things that a check follows

void thing_maker_init(struct thing_maker *m, uint64_t seed, uint64_t number) {
    memset(m, 0, sizeof *m);
    gen_init(&m->gen, gen_mix(seed, number));
    // The top bit: no number looks like an address.
    m->next_id = UINT64_C(1) << 63 | number << 40;
    m->bytes_max = 2000;
}

static uint64_t thing_sum(const struct thing *t) {
    uint64_t sum = gen_mix(t->id, (uintptr_t)t);
    sum = gen_mix(sum, (uint64_t)t->is_frozen << 32 | t->leaf_bytes);
    sum = gen_mix(sum, (uintptr_t)t->leaf);
    for (size_t i = 0; i < THING_LINKS; i++) {
        sum = gen_mix(sum, (uintptr_t)t->links[i].to);
        sum = gen_mix(sum, t->links[i].id);
    }
    return sum;
}

// Async-signal-safe.
static _Noreturn void thing_fail(const char *what, const struct thing *t,
                                 uint64_t id) {
    char line[200];
    int length = snprintf(line, sizeof line,
                          "storm: %s: thing %llx at %p, which has %llx\n", what,
                          (unsigned long long)id, (const void *)t,
                          t == NULL ? 0 : (unsigned long long)t->id);
    (void)!write(STDERR_FILENO, line, (size_t)length);
    abort();
}

static uint64_t *thing_leaf(struct thing_maker *m, uint64_t id, size_t bytes) {
    uint64_t *leaf = loam_alloc_leaf(bytes);
    if (leaf == NULL) {
        m->refused++;
        return NULL;
    }
    leaf[0] = leaf[bytes / 8 - 1] = id;
    return leaf;
}

static size_t thing_leaf_bytes(struct thing_maker *m) {
    return (gen_bytes(&m->gen, m->bytes_max) + 15) / 8 * 8;
}

static struct thing *thing_make(struct thing_maker *m) {
    struct thing *t = loam_alloc(sizeof *t);
    if (t == NULL) {
        m->refused++;
        return NULL;
    }
    for (size_t i = 0; i < sizeof *t / 8; i++) {
        if (((const uint64_t *)(const void *)t)[i] != 0) {
            thing_fail("not zero", t, 0);
        }
    }
    m->made++;
    t->id = ++m->next_id;
    t->address = (uintptr_t)t;
    if (gen_chance(&m->gen, 50)) {
        size_t bytes = thing_leaf_bytes(m);
        t->leaf = thing_leaf(m, t->id, bytes);
        t->leaf_bytes = t->leaf == NULL ? 0 : (uint32_t)bytes;
    }
    return t;
}

static struct thing_link thing_seal(struct thing *t) {
    if (t == NULL) {
        return (struct thing_link){NULL, 0};
    }
    t->sum = thing_sum(t);
    return (struct thing_link){t, t->id};
}

struct thing_link thing_tree(struct thing_maker *m, unsigned depth,
                             struct thing_link frozen) {
    struct thing *t = thing_make(m);
    if (t == NULL) {
        return thing_seal(NULL);
    }
    if (gen_chance(&m->gen, 30)) {
        t->links[0] = frozen;
    }
    for (size_t i = 1; i < THING_LINKS && depth > 1; i++) {
        if (gen_chance(&m->gen, 60)) {
            t->links[i] = thing_tree(m, depth - 1, frozen);
        }
    }
    return thing_seal(t);
}

struct thing_link thing_freeze(struct thing_maker *m, struct thing_link to) {
    struct thing *t = thing_make(m);
    if (t != NULL) {
        t->is_frozen = 1;
        if (to.to != NULL && to.to->depth < 100) {
            t->links[0] = to;
            t->depth = to.to->depth + 1;
        }
    }
    return thing_seal(t);
}

// TH1, TH2
static void thing_check_one(struct thing_maker *m, struct thing_link link) {
    const struct thing *t = link.to;
    m->checked++;
    if (t->id != link.id || t->address != (uintptr_t)t ||
        t->sum != thing_sum(t)) {
        thing_fail("lost, or written over", t, link.id);
    }
    if (loam_base(t) != t) {
        thing_fail("not in use", t, link.id);
    }
    if (t->leaf != NULL &&
        (t->leaf[0] != t->id || t->leaf[t->leaf_bytes / 8 - 1] != t->id)) {
        thing_fail("its leaf is lost", t, link.id);
    }
}

void thing_check(struct thing_maker *m, struct thing_link link) {
    for (unsigned deep = 0; link.to != NULL && deep < THING_DEEP; deep++) {
        const struct thing *t = link.to;
        thing_check_one(m, link);
        for (size_t i = 1; i < THING_LINKS && !t->is_frozen; i++) {
            thing_check(m, t->links[i]);
        }
        link = t->links[0];
    }
}

void thing_free(struct thing_maker *m, struct thing_link link) {
    struct thing *t = link.to;
    if (t == NULL || t->is_frozen) {
        return;
    }
    thing_check_one(m, link);
    for (size_t i = 1; i < THING_LINKS; i++) {
        thing_free(m, t->links[i]);
    }
    loam_free(t->leaf);
    loam_free(t);
    m->freed++;
}

void thing_resize(struct thing_maker *m, struct thing_link link) {
    struct thing *t = link.to;
    if (t == NULL || t->is_frozen || t->leaf == NULL) {
        return;
    }
    thing_check_one(m, link);
    size_t bytes = thing_leaf_bytes(m);
    uint64_t *leaf = loam_realloc(t->leaf, bytes);
    if (leaf == NULL) {
        m->refused++;
        return;
    }
    if (leaf[0] != t->id) {
        thing_fail("a leaf lost by resizing", t, link.id);
    }
    leaf[bytes / 8 - 1] = t->id;
    t->leaf = leaf;
    t->leaf_bytes = (uint32_t)bytes;
    t->sum = thing_sum(t);
}
