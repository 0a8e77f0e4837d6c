#include "roots/reserve.h"

#include "base/check.h"
#include "heap/block.h"
#include "heap/sizeclass.h"

// A limit must leave so many times what is kept.
#define RESERVE_SHARE 16

// Set in a kept block's number if its memory is zero.
#define RESERVE_ZERO ((uint32_t)1 << 31)

static struct {
    size_t wanted;                   // blocks to be kept; lock
    uint32_t blocks[RESERVE_BLOCKS]; // BLOCK_NONE or a block; exchanged
} reserve_kept;

// --- The blocks that are kept ----------------------------------------------

static uint32_t reserve_pop(void) {
    for (size_t i = 0; i < RESERVE_BLOCKS; i++) {
        uint32_t *at = &reserve_kept.blocks[i];
        if (__atomic_load_n(at, __ATOMIC_RELAXED) != BLOCK_NONE) {
            uint32_t block =
                __atomic_exchange_n(at, BLOCK_NONE, __ATOMIC_ACQ_REL); // V4
            if (block != BLOCK_NONE) {
                return block;
            }
        }
    }
    return BLOCK_NONE;
}

static bool reserve_may_keep(const struct region *region) {
    return region_spare_bytes(region) >=
           RESERVE_SHARE * RESERVE_BLOCKS * BLOCK_BYTES; // V6
}

void reserve_top_up(struct region *region) {
    for (size_t i = 0; i < reserve_kept.wanted; i++) {
        uint32_t *at = &reserve_kept.blocks[i];
        if (LIKELY(__atomic_load_n(at, __ATOMIC_RELAXED) != BLOCK_NONE)) {
            continue;
        }
        bool zero = false;
        uint32_t block = reserve_may_keep(region)
                             ? region_take(region, 1, 1, &zero)
                             : BLOCK_NONE;
        if (block == BLOCK_NONE) {
            return;
        }
        __atomic_store_n(at, block | (zero ? RESERVE_ZERO : 0),
                         __ATOMIC_RELEASE);
    }
}

void reserve_keep(struct region *region, size_t blocks) {
    ASSERT(blocks <= RESERVE_BLOCKS);
    reserve_kept.wanted = blocks;
    for (size_t i = blocks; i < RESERVE_BLOCKS; i++) {
        uint32_t block = __atomic_exchange_n(&reserve_kept.blocks[i],
                                             BLOCK_NONE, __ATOMIC_ACQ_REL);
        if (block != BLOCK_NONE) {
            region_give(region, block & ~RESERVE_ZERO, 1);
        }
    }
    reserve_top_up(region);
}

void reserve_forget(void) {
    for (size_t i = 0; i < RESERVE_BLOCKS; i++) {
        reserve_kept.blocks[i] = BLOCK_NONE;
    }
}

// --- In a handler ----------------------------------------------------------

struct reserve_level *reserve_enter(struct reserve *reserve, uint32_t id) {
    // A handler that comes in between these lines leaves all as it was (V1).
    uint32_t depth = reserve->depth;
    if (depth == RESERVE_LEVELS) {
        return NULL;
    }
    __atomic_store_n(&reserve->depth, depth + 1, __ATOMIC_RELAXED);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    struct reserve_level *level = &reserve->levels[depth];
    level->owner = (depth + 1) * RESERVE_OWNERS + id; // V3
    return level;
}

void reserve_leave(struct reserve *reserve) {
    ASSERT(reserve->depth != 0);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    __atomic_store_n(&reserve->depth, reserve->depth - 1, __ATOMIC_RELAXED);
}

static bool reserve_serves(const struct reserve_cache *it,
                           const struct heap *heap, struct order order) {
    return it->heap == heap && it->cache.order.kind == order.kind &&
           it->cache.order.cls == order.cls;
}

static struct reserve_cache *reserve_find(struct reserve_level *level,
                                          const struct heap *heap,
                                          struct order order) {
    for (size_t i = 0; i < RESERVE_CACHES; i++) {
        if (reserve_serves(&level->caches[i], heap, order)) {
            return &level->caches[i];
        }
    }
    return NULL;
}

static void *reserve_take_from(struct reserve_cache *it) {
    return cache_refill(&it->cache) ? cache_take(&it->cache) : NULL; // V5
}

void *reserve_take(struct reserve_level *level, const struct heap *heap,
                   struct order order) {
    struct reserve_cache *it = reserve_find(level, heap, order);
    return it != NULL ? reserve_take_from(it) : NULL;
}

void *reserve_take_larger(struct reserve_level *level, const struct heap *heap,
                          struct order order) {
    for (size_t i = 0; i < RESERVE_CACHES; i++) {
        struct reserve_cache *it = &level->caches[i];
        unsigned kind = it->cache.order.kind;
        if (it->heap == heap && it->cache.bytes > sizeclass_bytes(order.cls) &&
            (kind == order.kind ||
             (kind == KIND_SCANNED && order.kind == KIND_LEAF))) {
            void *cell = reserve_take_from(it);
            if (cell != NULL) {
                return cell;
            }
        }
    }
    return NULL;
}

// Whether a cache was made free for a new order.
static bool reserve_vacate(struct reserve_cache *it, bool locked) {
    if (it->heap == NULL) {
        return true;
    }
    // What it has must go on a shelf.
    if (!locked) {
        return false;
    }
    cache_give_up(&it->cache, it->heap);
    cache_add_tally(it->heap, &it->tally);
    it->heap = NULL;
    return true;
}

// The cache for an order, or NULL.
static struct reserve_cache *reserve_get(struct reserve_level *level,
                                         struct heap *heap, struct order order,
                                         bool locked) {
    struct reserve_cache *it = reserve_find(level, heap, order);
    if (it != NULL) {
        return it;
    }
    it = &level->caches[level->turn];
    if (!reserve_vacate(it, locked)) {
        return NULL;
    }
    level->turn = (level->turn + 1) % RESERVE_CACHES;
    *it = (struct reserve_cache){.heap = NULL};
    cache_init(&it->cache, order, level->owner, true, &it->tally); // V5
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    it->heap = heap;
    return it;
}

// A block of the heap's; under the lock.
static uint32_t reserve_order(struct heap *heap, struct order order,
                              uint32_t owner) {
    uint32_t block = heap_take_block(heap, order, false, owner);
    if (block == BLOCK_NONE) {
        block = heap_make_block(heap, order, owner);
    }
    return block != BLOCK_NONE ? block
                               : heap_take_block(heap, order, true, owner);
}

bool reserve_feed(struct reserve_level *level, struct heap *heap,
                  struct order order, bool locked) {
    ASSERT(order.layout == 0);
    struct reserve_cache *it = reserve_get(level, heap, order, locked);
    if (it == NULL) {
        return false;
    }
    uint32_t block =
        locked ? reserve_order(heap, order, level->owner) : BLOCK_NONE;
    if (block == BLOCK_NONE && sizeclass_table[order.cls].blocks == 1) {
        block = reserve_pop();
        if (block != BLOCK_NONE) {
            bool zero = (block & RESERVE_ZERO) != 0;
            block &= ~RESERVE_ZERO;
            heap_use_block(heap, block, zero, order, level->owner);
        }
    }
    if (block == BLOCK_NONE) {
        return false;
    }
    cache_adopt(&it->cache, block);
    return true;
}

// --- For the conductor -----------------------------------------------------

typedef void reserve_visit(struct reserve_cache *it, void *data);

static void reserve_each(struct reserve *reserve, const struct heap *heap,
                         reserve_visit *visit, void *data) {
    for (size_t level = 0; level < RESERVE_LEVELS; level++) {
        struct reserve_cache *caches = reserve->levels[level].caches;
        for (size_t i = 0; i < RESERVE_CACHES; i++) {
            if (caches[i].heap != NULL &&
                (heap == NULL || caches[i].heap == heap)) {
                visit(&caches[i], data);
            }
        }
    }
}

struct reserve_call {
    void (*visit)(struct cache *cache, void *data);
    void *data;
};

static void reserve_visit_cache(struct reserve_cache *it, void *data) {
    const struct reserve_call *call = data;
    call->visit(&it->cache, call->data);
}

void reserve_each_cache(struct reserve *reserve, const struct heap *heap,
                        void (*visit)(struct cache *cache, void *data),
                        void *data) {
    struct reserve_call call = {visit, data};
    reserve_each(reserve, heap, reserve_visit_cache, &call);
}

static void reserve_visit_sum(struct reserve_cache *it, void *data) {
    struct tally *sum = data;
    const struct tally *tally = &it->tally;
    sum->allocated_bytes +=
        __atomic_load_n(&tally->allocated_bytes, __ATOMIC_RELAXED);
    sum->freed_bytes += __atomic_load_n(&tally->freed_bytes, __ATOMIC_RELAXED);
}

struct tally reserve_tally(struct reserve *reserve, const struct heap *heap) {
    struct tally sum = {0, 0};
    reserve_each(reserve, heap, reserve_visit_sum, &sum);
    return sum;
}

static void reserve_visit_fold(struct reserve_cache *it, void *data) {
    (void)data;
    cache_add_tally(it->heap, &it->tally);
}

void reserve_fold(struct reserve *reserve, struct heap *heap) {
    reserve_each(reserve, heap, reserve_visit_fold, NULL);
}

static void reserve_visit_give_up(struct reserve_cache *it, void *data) {
    (void)data;
    (void)reserve_vacate(it, true);
}

void reserve_give_up(struct reserve *reserve) {
    reserve_each(reserve, NULL, reserve_visit_give_up, NULL);
}

static void reserve_visit_drop(struct reserve_cache *it, void *data) {
    (void)data;
    it->heap = NULL;
}

void reserve_drop_heap(struct reserve *reserve, const struct heap *heap) {
    reserve_each(reserve, heap, reserve_visit_drop, NULL);
}
