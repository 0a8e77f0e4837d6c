#include "heap/fate.h"

#include "base/check.h"
#include "heap/meta.h"

#define FATE_CHUNK_BYTES   ((size_t)(LOAM_TINY ? 256 : 32 * 1024))
#define FATE_BUCKETS_FIRST ((size_t)(LOAM_TINY ? 2 : 64))

struct fate_chunk {
    struct fate_chunk *next;
    struct fate records[];
};

#define FATE_CHUNK_RECORDS                                                     \
    ((FATE_CHUNK_BYTES - sizeof(struct fate_chunk)) / sizeof(struct fate))

struct fate_buckets {
    size_t count; // a power of two
    struct fate *heads[];
};

static struct fate **fate_bucket(struct fate_buckets *buckets,
                                 uintptr_t object) {
    uint64_t mixed = object / GRANULE_BYTES * 0x9E3779B97F4A7C15u;
    return &buckets->heads[(mixed >> 32) & (buckets->count - 1)];
}

static size_t fate_buckets_bytes(size_t count) {
    return sizeof(struct fate_buckets) + count * sizeof(struct fate *);
}

static void fate_hang(struct fates *fates, struct fate *fate) {
    struct fate **bucket = fate_bucket(fates->buckets, fate->object);
    fate->next = *bucket;
    *bucket = fate;
}

static void fate_unhang(struct fates *fates, struct fate *fate) {
    struct fate **at = fate_bucket(fates->buckets, fate->object);
    while (*at != fate) {
        CHECK(*at != NULL);
        at = &(*at)->next;
    }
    *at = fate->next;
}

// Twice the buckets, in memory of their own: one store makes them the table.
static bool fate_grow(struct fates *fates) {
    struct fate_buckets *old = fates->buckets;
    size_t count = old == NULL ? FATE_BUCKETS_FIRST : 2 * old->count;
    struct fate_buckets *grown = meta_make(fate_buckets_bytes(count));
    if (grown == NULL) {
        return false;
    }
    grown->count = count;
    for (size_t i = 0; old != NULL && i < old->count; i++) {
        struct fate *next;
        for (struct fate *fate = old->heads[i]; fate != NULL; fate = next) {
            struct fate **bucket = fate_bucket(grown, fate->object);
            next = fate->next;
            fate->next = *bucket;
            *bucket = fate;
        }
    }
    fates->buckets = grown;
    if (old != NULL) {
        meta_free(old, fate_buckets_bytes(old->count));
    }
    return true;
}

static bool fate_add_chunk(struct fates *fates) {
    struct fate_chunk *chunk = meta_make(FATE_CHUNK_BYTES);
    if (chunk == NULL) {
        return false;
    }
    chunk->next = fates->chunks;
    fates->chunks = chunk; // FA5: all its records are free
    for (size_t i = FATE_CHUNK_RECORDS; i-- > 0;) {
        chunk->records[i].next = fates->free;
        fates->free = &chunk->records[i];
    }
    return true;
}

struct fate *fate_find(const struct fates *fates, uintptr_t object) {
    if (fates->buckets == NULL) {
        return NULL;
    }
    struct fate *fate = *fate_bucket(fates->buckets, object);
    while (fate != NULL &&
           (fate->object != object || fate->mode == FATE_GUARDED)) {
        fate = fate->next;
    }
    return fate;
}

struct fate *fate_add(struct fates *fates, const struct fate *fate) {
    ASSERT(fate->mode == FATE_GUARDED ||
           fate_find(fates, fate->object) == NULL); // FA1
    bool full =
        fates->buckets == NULL || fates->waiting_count >= fates->buckets->count;
    if ((full && !fate_grow(fates) && fates->buckets == NULL) ||
        (fates->free == NULL && !fate_add_chunk(fates))) {
        return NULL; // FA4
    }
    struct fate *added = fates->free;
    fates->free = added->next;
    *added = *fate;
    added->state = FATE_FREE;
    fate_hang(fates, added);
    __atomic_store_n(&added->state, FATE_WAITS, __ATOMIC_RELEASE); // FA5
    fates->waiting_count++;
    return added;
}

static void fate_free(struct fates *fates, struct fate *fate) {
    __atomic_store_n(&fate->state, FATE_FREE, __ATOMIC_RELEASE);
    fate->next = fates->free;
    fates->free = fate;
}

void fate_remove(struct fates *fates, struct fate *fate) {
    ASSERT(fate->state == FATE_WAITS || fate->state == FATE_DYING);
    fate_unhang(fates, fate);
    fates->waiting_count--;
    fate_free(fates, fate);
}

static void fate_queue(struct fates *fates, struct fate *fate) {
    fate->next = NULL;
    if (fates->first == NULL) {
        fates->first = fate;
    } else {
        fates->last->next = fate;
    }
    fates->last = fate;
    __atomic_store_n(&fates->ready_count, fates->ready_count + 1,
                     __ATOMIC_RELAXED);
}

void fate_release(struct fates *fates, struct fate *fate) {
    ASSERT(fate->mode != FATE_GUARDED);
    fate_unhang(fates, fate);
    fates->waiting_count--;
    __atomic_store_n(&fate->state, FATE_READY, __ATOMIC_RELEASE);
    fate_queue(fates, fate);
}

bool fate_take(struct fates *fates, struct fate *taken) {
    struct fate *fate = fates->first;
    if (fate == NULL) {
        return false;
    }
    *taken = *fate;
    fates->first = fate->next;
    __atomic_store_n(&fates->ready_count, fates->ready_count - 1,
                     __ATOMIC_RELAXED);
    fate_free(fates, fate);
    return true;
}

void fate_each(struct fates *fates, fate_visit *visit, void *data) {
    struct fate_chunk *chunk = fates->chunks;
    for (; chunk != NULL; chunk = chunk->next) {
        for (size_t i = 0; i < FATE_CHUNK_RECORDS; i++) {
            if (chunk->records[i].state != FATE_FREE) {
                visit(fates, &chunk->records[i], data);
            }
        }
    }
}

static void fate_rebuild_one(struct fates *fates, struct fate *fate) {
    if (fate->state == FATE_FREE) {
        fate->next = fates->free;
        fates->free = fate;
    } else if (fate->state == FATE_READY) {
        fate_queue(fates, fate);
    } else {
        fate_hang(fates, fate);
        fates->waiting_count++;
    }
}

void fate_rebuild(struct fates *fates) {
    for (size_t i = 0; fates->buckets != NULL && i < fates->buckets->count;
         i++) {
        fates->buckets->heads[i] = NULL;
    }
    fates->free = fates->first = fates->last = NULL;
    fates->waiting_count = fates->ready_count = 0;
    struct fate_chunk *chunk = fates->chunks;
    for (; chunk != NULL; chunk = chunk->next) {
        for (size_t i = 0; i < FATE_CHUNK_RECORDS; i++) {
            fate_rebuild_one(fates, &chunk->records[i]);
        }
    }
}

void fate_token_wait(struct fate_token *token, struct fate_guard *guard) {
    token->hidden = ~(uintptr_t)guard;
    token->next = guard->waiting;
    if (guard->waiting != NULL) {
        guard->waiting->prev = token;
    }
    guard->waiting = token;
}

void fate_token_cancel(struct fate_token *token) {
    if (token->prev != NULL) {
        token->prev->next = token->next;
    } else {
        fate_token_guard(token)->waiting = token->next;
    }
    if (token->next != NULL) {
        token->next->prev = token->prev;
    }
    token->next = token->prev = NULL;
}

void fate_token_deliver(struct fate_token *token, uintptr_t object) {
    struct fate_guard *guard = fate_token_guard(token);
    ASSERT(token->object == 0 && object != 0); // FA6
    fate_token_cancel(token);
    token->object = object;
    if (guard->ready == NULL) {
        guard->ready = token;
    } else {
        guard->ready_last->next = token;
    }
    guard->ready_last = token;
}

uintptr_t fate_guard_take(struct fate_guard *guard) {
    struct fate_token *token = guard->ready;
    if (token == NULL) {
        return 0;
    }
    guard->ready = token->next;
    if (guard->ready == NULL) {
        guard->ready_last = NULL; // or it would keep the object alive
    }
    uintptr_t object = token->object;
    token->object = 0;
    token->next = NULL;
    return object;
}
