#include "api/intern.h"

#include <string.h>

#include "api/init.h"
#include "api/object.h"
#include "base/bits.h"
#include "base/check.h"
#include "base/hash.h"
#include "collect/settle.h"
#include "heap/block.h"
#include "heap/blockmap.h"
#include "os/error.h"

_Static_assert(INTERN_SHARDS == 64, "a shard is the upper six bits of a hash");

struct intern_root *intern_root;

// A copy: the program is given the address of its bytes.
struct intern_copy {
    uint32_t length;
    char bytes[];
};

// A text that is looked for.
struct intern_key {
    const void *bytes;
    size_t count;
    size_t shard;
    uint32_t tag;
};

static struct intern_key intern_key(const void *bytes, size_t count) {
    uint64_t hash = hash_bytes(bytes, count);
    uint32_t tag = (uint32_t)hash;
    return (struct intern_key){bytes, count, hash >> 58, tag + (tag == 0)};
}

static struct intern_table *intern_table(size_t shard) {
    const struct intern_root *root =
        __atomic_load_n(&intern_root, __ATOMIC_ACQUIRE);
    return root == NULL
               ? NULL
               : __atomic_load_n(&root->tables[shard], __ATOMIC_ACQUIRE);
}

// The copy of a text, or NULL.  Once it was loaded from its handle it is held.
static struct intern_copy *intern_find(const struct intern_table *table,
                                       const struct intern_key *key) {
    uint32_t tag;
    for (size_t at = key->tag & table->mask;
         (tag = __atomic_load_n(&table->tags[at], __ATOMIC_ACQUIRE)) != 0;
         at = (at + 1) & table->mask) {
        if (tag != key->tag) {
            continue;
        }
        struct intern_copy *found =
            (struct intern_copy *)handle_get(&table->row[at]);
        if (found != NULL && found->length == key->count &&
            memcmp(found->bytes, key->bytes, key->count) == 0) {
            return found;
        }
    }
    return NULL;
}

static size_t intern_live(const struct intern_table *table) {
    size_t count = 0;
    for (size_t at = 0; table != NULL && at <= table->mask; at++) {
        count += __atomic_load_n(&table->tags[at], __ATOMIC_ACQUIRE) != 0 &&
                 handle_get(&table->row[at]) != 0;
    }
    return count;
}

static void *intern_alloc(size_t bytes, unsigned kind) {
    return object_make(bytes, (struct order){.kind = kind});
}

// An empty table for twice as many entries as live in another.
static struct intern_table *intern_make_table(const struct intern_table *old) {
    size_t limit = 2 * intern_live(old);
    limit = limit < INTERN_FIRST ? INTERN_FIRST : limit; // IN5
    size_t places = (size_t)1 << bits_log2_ceil(bits_div_ceil(4 * limit, 3));
    struct intern_table *table = intern_alloc(sizeof *table, KIND_SCANNED);
    if (table == NULL || places > UINT32_MAX) {
        return NULL;
    }
    table->tags = intern_alloc(places * sizeof *table->tags, KIND_LEAF);
    table->row = intern_alloc(places * sizeof *table->row, KIND_HANDLE);
    if (table->tags == NULL || table->row == NULL) {
        return NULL;
    }
    memset(table->tags, 0, places * sizeof *table->tags);
    table->mask = places - 1;
    table->limit = places / 4 * 3;
    return table;
}

// Under the lock: an entry for a copy, in a table that has room.
static void intern_put(struct intern_table *table, uint32_t tag,
                       const struct intern_copy *text) {
    struct place place;
    size_t at = tag & table->mask;
    while (table->tags[at] != 0) {
        at = (at + 1) & table->mask;
    }
    CHECK(blockmap_find((uintptr_t)text, &place));
    table->row[at].sort = HANDLE_LONG;
    handle_set(&table->row[at], (uintptr_t)text, &place);
    block_set_flags(place.block, BLOCK_WATCHED);
    __atomic_store_n(&table->used, table->used + 1, __ATOMIC_RELAXED);
    __atomic_store_n(&table->tags[at], tag, __ATOMIC_RELEASE);
}

// Under the lock: the living move to `renewed`, if they fit.
static bool intern_move(const struct intern_table *table,
                        struct intern_table *renewed) {
    for (size_t at = 0; table != NULL && at <= table->mask; at++) {
        uint32_t tag = table->tags[at];
        const struct intern_copy *text =
            tag == 0 ? NULL
                     : (const struct intern_copy *)handle_get(&table->row[at]);
        if (text == NULL) {
            continue;
        }
        if (renewed->used == renewed->limit) {
            return false; // others were faster
        }
        intern_put(renewed, tag, text);
    }
    return renewed->used < renewed->limit;
}

// What is made before the lock is taken, in case it is needed.
struct intern_order {
    struct intern_copy *text;
    struct intern_table *table; // NULL: none
    struct intern_root *root;   // NULL: none
};

static bool intern_lacks_room(const struct intern_table *table) {
    return table == NULL || table->used == table->limit;
}

// Under the lock: the copy that is there, or the one that is put in; NULL: a
// table or a root is wanted.
static struct intern_copy *intern_settle(const struct intern_key *key,
                                         const struct intern_order *order) {
    struct intern_table *table = intern_table(key->shard);
    struct intern_copy *found =
        table == NULL ? NULL : intern_find(table, key); // IN2
    if (found != NULL) {
        return found;
    }
    if (intern_root == NULL && order->root != NULL) {
        __atomic_store_n(&intern_root, order->root, __ATOMIC_RELEASE);
    }
    if (intern_root == NULL) {
        return NULL;
    }
    if (intern_lacks_room(table)) {
        if (order->table == NULL || order->table->used != 0 ||
            !intern_move(table, order->table)) {
            return NULL;
        }
        table = order->table;
        __atomic_store_n(&intern_root->tables[key->shard], table,
                         __ATOMIC_RELEASE);
    }
    intern_put(table, key->tag, order->text);
    return order->text;
}

// Makes what will be needed; false when memory is short.
static bool intern_prepare(const struct intern_key *key,
                           struct intern_order *order) {
    struct intern_table *table = intern_table(key->shard);
    if (__atomic_load_n(&intern_root, __ATOMIC_ACQUIRE) == NULL &&
        order->root == NULL) {
        order->root = intern_alloc(sizeof *order->root, KIND_PINNED);
        if (order->root == NULL) {
            return false;
        }
    }
    bool lacks_room =
        table == NULL ||
        __atomic_load_n(&table->used, __ATOMIC_RELAXED) == table->limit;
    order->table = lacks_room ? intern_make_table(table) : NULL;
    return !lacks_room || order->table != NULL;
}

// Puts a text in that was not there a moment ago.
static NOINLINE struct intern_copy *intern_add(const struct intern_key *key) {
    struct intern_order order = {0};
    struct intern_copy *made = NULL;
    if (key->count < UINT32_MAX) {
        order.text = intern_alloc(sizeof *made + key->count + 1, KIND_LEAF);
    }
    if (order.text == NULL) {
        error_set_no_memory();
        return NULL; // IN4
    }
    order.text->length = (uint32_t)key->count;
    memcpy(order.text->bytes, key->bytes, key->count);
    order.text->bytes[key->count] = '\0';
    while (made == NULL && intern_prepare(key, &order)) {
        struct mutator *mutator = init_lock();
        bool ready =
            mutator != NULL && settle_use_handles(&init_state.conductor.settle);
        if (ready) {
            made = intern_settle(key, &order);
        }
        if (mutator != NULL) {
            init_unlock(mutator);
        }
        if (!ready) {
            break;
        }
    }
    if (order.root != NULL && order.root != intern_root) {
        loam_free(order.root); // pinned, it would stay
    }
    if (made == NULL) {
        error_set_no_memory();
    }
    return made;
}

const char *loam_intern_bytes(const void *bytes, size_t count) {
    struct intern_key key = intern_key(bytes, count);
    const struct intern_table *table = intern_table(key.shard);
    struct intern_copy *found = table == NULL ? NULL : intern_find(table, &key);
    if (found == NULL) {
        found = intern_add(&key);
    }
    return found == NULL ? NULL : found->bytes;
}

const char *loam_intern(const char *text) {
    return loam_intern_bytes(text, strlen(text));
}

const char *loam_intern_find(const void *bytes, size_t count) {
    struct intern_key key = intern_key(bytes, count);
    const struct intern_table *table = intern_table(key.shard);
    const struct intern_copy *found =
        table == NULL ? NULL : intern_find(table, &key);
    return found == NULL ? NULL : found->bytes;
}

size_t loam_intern_count(void) {
    size_t count = 0;
    for (size_t shard = 0; shard < INTERN_SHARDS; shard++) {
        count += intern_live(intern_table(shard));
    }
    return count;
}
