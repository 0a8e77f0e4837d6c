// caches_order — which entry of a cache goes first.
//
// One policy a cache, chosen when it is made; each step takes constant time.
//
//     LRU      a queue; a use moves an entry to its new end
//     FIFO     a queue; a use changes nothing
//     LFU      a queue for each number of uses, and these in a row:
//                  1: e d   2: c   7: b a      a use moves on to the next
//     RANDOM   none; the table is asked for any
//     S3-FIFO  two queues and a memory of hashes:
//                  new   a tenth of the bytes; what was used twice or more
//                        when its turn comes goes to main, the rest is evicted
//                        and its hash remembered
//                  main  what was used goes round again, once for each use, at
//                        most three times; what was not is evicted
//                  ghost hashes of what was evicted from new, as many as main
//                        has entries; who comes back goes to main at once
//
// The links are in the entries.  Memory of its own is needed by LFU, for one
// group for each number of uses that some entry has, and by S3-FIFO for ghosts.
// Where it is short, or none may be taken, entries are told apart less well,
// and nothing else.
//
// Invariants
//   CO1  all      each entry that was inserted and not removed is in exactly
//                 one queue, unless the policy has none
//   CO2  lru      the victim is the entry inserted or used longest ago
//   CO3  fifo     the victim is the entry inserted longest ago
//   CO4  lfu      the victim is of those with the fewest uses the one inserted
//                 or used longest ago
//   CO5  s3       the victim is that of the algorithm above, word by word
//   CO6  spared   the entry that is to be spared is the victim of none
//   CO7  sums     the bytes of a queue are those of its entries
//
// Called by whoever is in the cache (api/caches.h).
// Design, alternatives and measurements: docs/design/api/caches_order.md

#ifndef API_CACHES_ORDER_H
#define API_CACHES_ORDER_H

#include "loam/cache.h"

#include "api/caches_table.h"
#include "base/defs.h"

struct caches_queue {
    struct caches_entry *newest, *oldest;
    size_t count, bytes; // of its entries
};

// Entries with the same number of uses.
struct caches_group {
    struct caches_queue queue;
    uint64_t uses;
    uint32_t fewer, more; // the groups beside it, 0: none; or the next free one
};

// Hashes, oldest first, and where each is.
struct caches_ghost {
    uint32_t *ring; // by number, modulo room; a leaf
    uint64_t *set;  // open addressing, twice the room: hash and number; a leaf
    uint32_t room;  // a power of two, or 0
    uint32_t first; // number of the oldest
    uint32_t end;   // of the next one
};

enum { CACHES_NEW, CACHES_MAIN };

struct caches_order {
    unsigned policy;               // enum loam_cache_policy
    uint64_t random;               // state of the generator
    struct caches_queue queues[2]; // S3-FIFO has both, LRU and FIFO the first
    struct caches_group *groups;   // LFU: [1 .. group_end), a leaf
    uint32_t group_room;           // of the array
    uint32_t group_end;            // used so far, or free
    uint32_t group_free;           // the first free one, or 0
    uint32_t group_fewest;         // the first in the row, or 0
    struct caches_ghost ghost;     // S3-FIFO
    bool frugal;                   // takes no memory now
};

void caches_order_init(struct caches_order *order, unsigned policy,
                       uint64_t seed);

// Room for one insertion; false when memory is short.
MUST_USE bool caches_order_reserve(struct caches_order *order);

// A new entry, whose bytes and hash are known.
void caches_order_insert(struct caches_order *order,
                         struct caches_entry *entry);

// It was used.
void caches_order_use(struct caches_order *order, struct caches_entry *entry);

// The same for LRU: it is the newest now.
static inline void caches_order_renew(struct caches_queue *queue,
                                      struct caches_entry *entry) {
    struct caches_entry *newer = entry->newer;
    if (newer == NULL) {
        return;
    }
    newer->older = entry->older;
    *(entry->older != NULL ? &entry->older->newer : &queue->oldest) = newer;
    entry->older = queue->newest;
    entry->newer = NULL;
    queue->newest->newer = entry;
    queue->newest = entry; // CO2
}

// It goes.
void caches_order_remove(struct caches_order *order,
                         struct caches_entry *entry);

// Its bytes change.
void caches_order_resize(struct caches_order *order, struct caches_entry *entry,
                         size_t bytes);

// Who is to go, and will; not `spared`, which may be NULL.  NULL: nobody is
// left.
struct caches_entry *caches_order_victim(struct caches_order *order,
                                         const struct caches_table *table,
                                         const struct caches_entry *spared);

// All go.
void caches_order_clear(struct caches_order *order);

// Bytes of its own.
size_t caches_order_bytes(const struct caches_order *order);

#endif
