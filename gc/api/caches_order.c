#include "api/caches_order.h"

#include <string.h>

#include "api/init.h"
#include "api/object.h"

#define CACHES_ORDER_ROOM 64 // groups or ghosts in the first array
#define CACHES_ORDER_USES 3  // of an entry in S3-FIFO, at most
#define CACHES_ORDER_NEW  10 // one part in so many is for new entries

static void *caches_order_alloc(size_t bytes) {
    return object_make_in(&init_state.home.collector, bytes,
                          (struct order){.kind = KIND_LEAF});
}

static void caches_order_free(void *array) {
    struct place place;
    if (array != NULL && object_is_start(array, &place)) {
        (void)object_free(&place);
    }
}

void caches_order_init(struct caches_order *order, unsigned policy,
                       uint64_t seed) {
    *order = (struct caches_order){.policy = policy, .random = seed};
}

// --- Queues ----------------------------------------------------------------

static void caches_order_push(struct caches_queue *queue,
                              struct caches_entry *entry) {
    entry->newer = NULL;
    entry->older = queue->newest;
    if (queue->newest != NULL) {
        queue->newest->newer = entry;
    } else {
        queue->oldest = entry;
    }
    queue->newest = entry;
    queue->count++;
    queue->bytes += entry->bytes; // CO7
}

static void caches_order_unlink(struct caches_queue *queue,
                                struct caches_entry *entry) {
    if (entry->newer != NULL) {
        entry->newer->older = entry->older;
    } else {
        queue->newest = entry->older;
    }
    if (entry->older != NULL) {
        entry->older->newer = entry->newer;
    } else {
        queue->oldest = entry->newer;
    }
    entry->newer = entry->older = NULL;
    queue->count--;
    queue->bytes -= entry->bytes;
}

static struct caches_entry *
caches_order_oldest(const struct caches_queue *queue,
                    const struct caches_entry *spared) {
    struct caches_entry *oldest = queue->oldest;
    return oldest != NULL && oldest == spared ? oldest->newer : oldest; // CO6
}

// --- LFU -------------------------------------------------------------------

static bool caches_order_grow(struct caches_order *order) {
    uint32_t room = order->group_room;
    uint32_t grown = room == 0 ? CACHES_ORDER_ROOM : room * 2;
    struct caches_group *groups =
        grown > room ? caches_order_alloc(grown * sizeof *groups) : NULL;
    if (groups == NULL) {
        return false;
    }
    if (room != 0) {
        memcpy(groups, order->groups, room * sizeof *groups);
    }
    caches_order_free(order->groups);
    order->groups = groups;
    order->group_room = grown;
    order->group_end = order->group_end == 0 ? 1 : order->group_end;
    return true;
}

static bool caches_order_has_group(struct caches_order *order) {
    return order->group_free != 0 ||
           (order->group_end != 0 && order->group_end < order->group_room) ||
           caches_order_grow(order);
}

// A group behind `fewer`, or the first of the row; there is one to be had.
static uint32_t caches_order_add(struct caches_order *order, uint32_t fewer,
                                 uint64_t uses) {
    uint32_t at = order->group_free;
    if (at != 0) {
        order->group_free = order->groups[at].more;
    } else {
        at = order->group_end++;
    }
    uint32_t *from =
        fewer == 0 ? &order->group_fewest : &order->groups[fewer].more;
    order->groups[at] =
        (struct caches_group){.uses = uses, .fewer = fewer, .more = *from};
    if (*from != 0) {
        order->groups[*from].fewer = at;
    }
    *from = at;
    return at;
}

static void caches_order_join(struct caches_order *order, uint32_t at,
                              struct caches_entry *entry) {
    entry->rank = at;
    caches_order_push(&order->groups[at].queue, entry);
}

// Takes an entry out of its group, which goes if it is empty then.
static void caches_order_part(struct caches_order *order,
                              struct caches_entry *entry) {
    uint32_t at = entry->rank;
    struct caches_group *group = &order->groups[at];
    caches_order_unlink(&group->queue, entry);
    if (group->queue.count != 0) {
        return;
    }
    if (group->fewer != 0) {
        order->groups[group->fewer].more = group->more;
    } else {
        order->group_fewest = group->more;
    }
    if (group->more != 0) {
        order->groups[group->more].fewer = group->fewer;
    }
    group->more = order->group_free;
    order->group_free = at;
}

static void caches_order_count(struct caches_order *order,
                               struct caches_entry *entry) {
    uint32_t at = entry->rank;
    uint64_t uses = order->groups[at].uses + 1;
    uint32_t more = order->groups[at].more;
    bool is_next = more != 0 && order->groups[more].uses == uses;
    if (!is_next && order->groups[at].queue.count == 1) {
        order->groups[at].uses = uses;
        return;
    }
    if (!is_next && !caches_order_has_group(order)) {
        more = at; // memory is short: it is not told apart
    } else if (!is_next) {
        more = caches_order_add(order, at, uses);
    }
    if (more == at) {
        caches_order_unlink(&order->groups[at].queue, entry);
    } else {
        caches_order_part(order, entry);
    }
    caches_order_join(order, more, entry);
}

static void caches_order_insert_lfu(struct caches_order *order,
                                    struct caches_entry *entry) {
    uint32_t first = order->group_fewest;
    if (first == 0 || order->groups[first].uses != 1) {
        first = caches_order_add(order, 0, 1);
    }
    caches_order_join(order, first, entry);
}

static struct caches_entry *
caches_order_victim_lfu(const struct caches_order *order,
                        const struct caches_entry *spared) {
    uint32_t at = order->group_fewest;
    struct caches_entry *victim = NULL;
    while (at != 0 && victim == NULL) {
        victim = caches_order_oldest(&order->groups[at].queue, spared);
        at = order->groups[at].more;
    }
    return victim; // CO4
}

// --- Ghosts ----------------------------------------------------------------

static uint64_t caches_order_ghost(uint32_t hash, uint32_t number) {
    return (uint64_t)hash << 32 | number;
}

static size_t caches_order_ghost_home(const struct caches_ghost *ghost,
                                      uint64_t word) {
    return (size_t)((word >> 32) * 0x9E3779B97F4A7C15u >> 32) &
           (2 * (size_t)ghost->room - 1);
}

// The place of a hash in the set, or of the free slot where it would be.
static size_t caches_order_ghost_find(const struct caches_ghost *ghost,
                                      uint32_t hash) {
    size_t mask = 2 * (size_t)ghost->room - 1;
    size_t at = caches_order_ghost_home(ghost, (uint64_t)hash << 32);
    while (ghost->set[at] != 0 && ghost->set[at] >> 32 != hash) {
        at = (at + 1) & mask;
    }
    return at;
}

// Takes the word at a place of the set out; those behind it move up.
static void caches_order_ghost_drop(struct caches_ghost *ghost, size_t at) {
    size_t mask = 2 * (size_t)ghost->room - 1;
    for (size_t next = (at + 1) & mask; ghost->set[next] != 0;
         next = (next + 1) & mask) {
        size_t home = caches_order_ghost_home(ghost, ghost->set[next]);
        if (((next - home) & mask) >= ((next - at) & mask)) {
            ghost->set[at] = ghost->set[next];
            at = next;
        }
    }
    ghost->set[at] = 0;
}

static void caches_order_ghost_put(struct caches_ghost *ghost, uint32_t hash,
                                   uint32_t number) {
    ghost->ring[number & (ghost->room - 1)] = hash;
    ghost->set[caches_order_ghost_find(ghost, hash)] =
        caches_order_ghost(hash, number);
}

// The oldest of them is forgotten: if it was not taken, or came again.
static void caches_order_ghost_pop(struct caches_ghost *ghost) {
    uint32_t number = ghost->first++;
    uint32_t hash = ghost->ring[number & (ghost->room - 1)];
    size_t at = caches_order_ghost_find(ghost, hash);
    if (ghost->set[at] == caches_order_ghost(hash, number)) {
        caches_order_ghost_drop(ghost, at);
    }
}

// Numbers begin at 1 again, so that no word of the set is 0.
static bool caches_order_ghost_grow(struct caches_ghost *ghost) {
    uint32_t room = ghost->room == 0 ? CACHES_ORDER_ROOM : ghost->room * 2;
    struct caches_ghost grown = {.room = room, .first = 1, .end = 1};
    size_t set_bytes = 2 * (size_t)room * sizeof *grown.set;
    if (room == 0 || room > UINT32_MAX / 4) {
        return false;
    }
    grown.ring = caches_order_alloc(room * sizeof *grown.ring);
    grown.set = grown.ring == NULL ? NULL : caches_order_alloc(set_bytes);
    if (grown.set == NULL) {
        caches_order_free(grown.ring);
        return false;
    }
    memset(grown.set, 0, set_bytes);
    for (uint32_t number = ghost->first; number != ghost->end; number++) {
        uint32_t hash = ghost->ring[number & (ghost->room - 1)];
        size_t at = caches_order_ghost_find(ghost, hash);
        if (ghost->set[at] == caches_order_ghost(hash, number)) {
            caches_order_ghost_put(&grown, hash, grown.end++);
        }
    }
    caches_order_free(ghost->ring);
    caches_order_free(ghost->set);
    *ghost = grown;
    return true;
}

// Remembers a hash, and no more of them than main has entries; where memory is
// short the oldest makes room.
static void caches_order_ghost_add(struct caches_order *order, uint32_t hash) {
    struct caches_ghost *ghost = &order->ghost;
    if (ghost->end - ghost->first == ghost->room &&
        (order->frugal || !caches_order_ghost_grow(ghost))) {
        if (ghost->room == 0) {
            return;
        }
        caches_order_ghost_pop(ghost);
    }
    caches_order_ghost_put(ghost, hash, ghost->end++);
    while (ghost->end - ghost->first > order->queues[CACHES_MAIN].count) {
        caches_order_ghost_pop(ghost);
    }
}

// Whether a hash was remembered, and forgets it.
static bool caches_order_ghost_take(struct caches_ghost *ghost, uint32_t hash) {
    if (ghost->room == 0) {
        return false;
    }
    size_t at = caches_order_ghost_find(ghost, hash);
    bool found = ghost->set[at] != 0;
    if (found) {
        caches_order_ghost_drop(ghost, at);
    }
    return found;
}

// --- S3-FIFO ---------------------------------------------------------------

// The rank is the queue, and the uses above.
static struct caches_queue *caches_order_queue(struct caches_order *order,
                                               struct caches_entry *entry) {
    return &order->queues[entry->rank & 1];
}

static void caches_order_enter(struct caches_order *order,
                               struct caches_entry *entry, uint32_t queue,
                               uint32_t uses) {
    entry->rank = uses << 1 | queue;
    caches_order_push(&order->queues[queue], entry);
}

// The queue whose turn it is to give an entry.
static uint32_t caches_order_turn(const struct caches_order *order,
                                  const struct caches_entry *spared) {
    const struct caches_queue *fresh = &order->queues[CACHES_NEW];
    const struct caches_queue *main = &order->queues[CACHES_MAIN];
    if (caches_order_oldest(main, spared) == NULL) {
        return CACHES_NEW;
    }
    return caches_order_oldest(fresh, spared) != NULL &&
                   fresh->bytes >=
                       (fresh->bytes + main->bytes) / CACHES_ORDER_NEW
               ? CACHES_NEW
               : CACHES_MAIN;
}

static struct caches_entry *
caches_order_victim_s3(struct caches_order *order,
                       const struct caches_entry *spared) {
    for (;;) {
        uint32_t turn = caches_order_turn(order, spared);
        struct caches_queue *queue = &order->queues[turn];
        struct caches_entry *entry = caches_order_oldest(queue, spared);
        if (entry == NULL) {
            return NULL;
        }
        uint32_t uses = entry->rank >> 1;
        if (turn == CACHES_NEW && uses <= 1) {
            caches_order_ghost_add(order, entry->hash);
            return entry; // CO5
        }
        if (turn == CACHES_MAIN && uses == 0) {
            return entry;
        }
        caches_order_unlink(queue, entry);
        caches_order_enter(order, entry, CACHES_MAIN,
                           turn == CACHES_NEW ? 0 : uses - 1);
    }
}

// --- All -------------------------------------------------------------------

bool caches_order_reserve(struct caches_order *order) {
    return order->policy != LOAM_CACHE_LFU || caches_order_has_group(order);
}

void caches_order_insert(struct caches_order *order,
                         struct caches_entry *entry) {
    switch (order->policy) {
    case LOAM_CACHE_LFU:
        caches_order_insert_lfu(order, entry);
        break;
    case LOAM_CACHE_S3FIFO:
        caches_order_enter(order, entry,
                           caches_order_ghost_take(&order->ghost, entry->hash)
                               ? CACHES_MAIN
                               : CACHES_NEW,
                           0);
        break;
    case LOAM_CACHE_RANDOM:
        break;
    default:
        caches_order_push(&order->queues[0], entry);
    }
}

void caches_order_use(struct caches_order *order, struct caches_entry *entry) {
    if (order->policy == LOAM_CACHE_LRU) {
        caches_order_renew(&order->queues[0], entry);
    } else if (order->policy == LOAM_CACHE_LFU) {
        caches_order_count(order, entry);
    } else if (order->policy == LOAM_CACHE_S3FIFO &&
               entry->rank >> 1 < CACHES_ORDER_USES) {
        entry->rank += 2;
    }
}

// The queue of an entry, or NULL.
static struct caches_queue *caches_order_where(struct caches_order *order,
                                               struct caches_entry *entry) {
    switch (order->policy) {
    case LOAM_CACHE_LFU:
        return &order->groups[entry->rank].queue;
    case LOAM_CACHE_S3FIFO:
        return caches_order_queue(order, entry);
    case LOAM_CACHE_RANDOM:
        return NULL;
    default:
        return &order->queues[0];
    }
}

void caches_order_remove(struct caches_order *order,
                         struct caches_entry *entry) {
    if (order->policy == LOAM_CACHE_LFU) {
        caches_order_part(order, entry);
    } else if (order->policy != LOAM_CACHE_RANDOM) {
        caches_order_unlink(caches_order_where(order, entry), entry);
    }
}

void caches_order_resize(struct caches_order *order, struct caches_entry *entry,
                         size_t bytes) {
    struct caches_queue *queue = caches_order_where(order, entry);
    if (queue != NULL) {
        queue->bytes += bytes - entry->bytes; // CO7, modulo 2^64
    }
    entry->bytes = bytes;
}

static struct caches_entry *
caches_order_any(struct caches_order *order, const struct caches_table *table,
                 const struct caches_entry *spared) {
    if (table->count <= (spared != NULL)) {
        return NULL;
    }
    struct caches_entry *entry;
    do {
        entry = caches_table_pick(table, &order->random);
    } while (entry == spared);
    return entry;
}

struct caches_entry *caches_order_victim(struct caches_order *order,
                                         const struct caches_table *table,
                                         const struct caches_entry *spared) {
    switch (order->policy) {
    case LOAM_CACHE_LFU:
        return caches_order_victim_lfu(order, spared);
    case LOAM_CACHE_S3FIFO:
        return caches_order_victim_s3(order, spared);
    case LOAM_CACHE_RANDOM:
        return caches_order_any(order, table, spared);
    default:
        return caches_order_oldest(&order->queues[0], spared); // CO2, CO3
    }
}

void caches_order_clear(struct caches_order *order) {
    caches_order_free(order->groups);
    caches_order_free(order->ghost.ring);
    caches_order_free(order->ghost.set);
    caches_order_init(order, order->policy, order->random);
}

size_t caches_order_bytes(const struct caches_order *order) {
    return order->group_room * sizeof *order->groups +
           order->ghost.room *
               (sizeof *order->ghost.ring + 2 * sizeof *order->ghost.set);
}
