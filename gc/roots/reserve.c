#include "roots/reserve.h"

#include "base/bits.h"
#include "base/check.h"
#include "heap/block.h"
#include "heap/range.h"
#include "heap/sizeclass.h"

// A limit must leave so many times what is kept.
#define RESERVE_SHARE 16

// Cells of this size serve all smaller orders where blocks are scarce: so many
// of them are in a block that a handler of some dozen objects needs one.
#define RESERVE_COARSE_BYTES ((size_t)1024)

// The bits of all caches of a level.
#define RESERVE_ALL (((uint32_t)1 << RESERVE_CACHES) - 1)

// Cycles in which next to nothing was taken, after which fewer are kept.
#define RESERVE_QUIET 64

struct reserve_kept reserve_kept;

// --- Stretches -------------------------------------------------------------

// A stretch of blocks [from, end) in one word; 0: none.
#define RESERVE_ZERO ((uint64_t)1 << 63) // their memory is zero

static uint64_t reserve_stretch(uint32_t from, uint32_t end, bool zero) {
    return (uint64_t)end << 32 | from | (zero ? RESERVE_ZERO : 0);
}

static uint32_t reserve_from(uint64_t stretch) {
    return (uint32_t)stretch;
}

static size_t reserve_length(uint64_t stretch) {
    return ((stretch & ~RESERVE_ZERO) >> 32) - (uint32_t)stretch;
}

// Takes blocks off the front of a stretch; BLOCK_NONE if it is too short.
static uint32_t reserve_take_off(uint64_t *at, size_t count, bool *zero) {
    uint64_t stretch = __atomic_load_n(at, __ATOMIC_ACQUIRE);
    uint64_t rest;
    do {
        size_t length = reserve_length(stretch);
        if (length < count) {
            return BLOCK_NONE;
        }
        rest = length == count ? 0 : stretch + count;
    } while (!__atomic_compare_exchange_n(at, &stretch, rest, false,
                                          __ATOMIC_SEQ_CST,
                                          __ATOMIC_ACQUIRE)); // V4
    *zero = (stretch & RESERVE_ZERO) != 0;
    return reserve_from(stretch);
}

// Blocks in a row, of those that are kept; BLOCK_NONE if there are none.
static uint32_t reserve_pop(size_t count, bool *zero) {
    uint32_t block = BLOCK_NONE;
    for (size_t i = 0; i < RESERVE_STRETCHES && block == BLOCK_NONE; i++) {
        block = reserve_take_off(&reserve_kept.stretches[i], count, zero);
    }
    if (block == BLOCK_NONE) {
        __atomic_store_n(&reserve_kept.refused, 1, __ATOMIC_RELAXED);
    }
    // After the exchange: a top-up that does not see this one is not the last.
    __atomic_store_n(&reserve_kept.asked, 1, __ATOMIC_SEQ_CST); // V7
    return block;
}

size_t reserve_count(void) {
    size_t count = 0;
    for (size_t i = 0; i < RESERVE_STRETCHES; i++) {
        count += reserve_length(
            __atomic_load_n(&reserve_kept.stretches[i], __ATOMIC_ACQUIRE));
    }
    return count;
}

// Whether so few are left that each must go a long way.
static bool reserve_is_scarce(void) {
    return reserve_count() <= RESERVE_BLOCKS_USE / 2;
}

// --- What is missing -------------------------------------------------------

// Gives back what one stretch has; how many blocks that was.
static size_t reserve_return(uint64_t *at) {
    uint64_t stretch = __atomic_exchange_n(at, 0, __ATOMIC_SEQ_CST); // V4
    size_t length = reserve_length(stretch);
    if (length != 0) {
        region_give(reserve_kept.region, reserve_from(stretch), length);
    }
    return length;
}

// Blocks for one stretch that has none: `count` in a row, or half as many, or a
// quarter.  How many they are.
static size_t reserve_fill(uint64_t *at, size_t count) {
    for (; count != 0; count /= 2) {
        bool zero = false;
        uint32_t block = region_take(reserve_kept.region, count, 1, &zero);
        if (block != BLOCK_NONE) {
            uint32_t end = block + (uint32_t)count;
            __atomic_store_n(at, reserve_stretch(block, end, zero),
                             __ATOMIC_RELEASE);
            return count;
        }
    }
    return 0;
}

static uint64_t *reserve_shortest(void) {
    uint64_t *shortest = &reserve_kept.stretches[0];
    for (size_t i = 1; i < RESERVE_STRETCHES; i++) {
        uint64_t *at = &reserve_kept.stretches[i];
        if (reserve_length(*at) < reserve_length(*shortest)) {
            shortest = at;
        }
    }
    return shortest;
}

// How many may be kept under the limit: as wanted, or half of that, and so on.
static size_t reserve_target(void) {
    size_t spare = region_spare_bytes(reserve_kept.region);
    size_t blocks = reserve_kept.wanted;
    while (blocks != 0 && spare / RESERVE_SHARE / BLOCK_BYTES < blocks) {
        blocks /= 2; // V6
    }
    return blocks >= RESERVE_BLOCKS ? blocks : 0;
}

static void reserve_stock(void) {
    size_t target = reserve_target();
    size_t count = reserve_count();
    for (size_t i = 0; i < RESERVE_STRETCHES && count < target; i++) {
        uint64_t *at = reserve_shortest();
        count -= reserve_return(at);
        size_t got = reserve_fill(at, target - count);
        if (got == 0) {
            break;
        }
        count += got;
    }
    reserve_kept.left = count;
}

// How many are wanted, after what was asked since the last top-up.
static void reserve_learn(size_t taken, bool refused) {
    size_t wanted = reserve_kept.wanted;
    if (wanted < RESERVE_BLOCKS_USE) {
        wanted = RESERVE_BLOCKS_USE;
    }
    if (refused) {
        wanted = RESERVE_BLOCKS_MAX;
    } else if (taken > wanted / 2 && wanted < RESERVE_BLOCKS_MAX) {
        wanted *= 2;
    }
    reserve_kept.wanted = wanted;
    if (taken > reserve_kept.most) {
        reserve_kept.most = taken;
    }
}

void reserve_top_up(void) {
    bool asked =
        __atomic_exchange_n(&reserve_kept.asked, 0, __ATOMIC_SEQ_CST) != 0;
    bool refused =
        __atomic_exchange_n(&reserve_kept.refused, 0, __ATOMIC_RELAXED) != 0;
    if (reserve_kept.wanted == 0) {
        return;
    }
    if (asked) {
        size_t count = reserve_count();
        size_t left = reserve_kept.left;
        reserve_learn(left > count ? left - count : 0, refused);
    }
    reserve_stock();
}

static void reserve_restock(size_t blocks) {
    reserve_kept.wanted = blocks;
    for (size_t i = 0; i < RESERVE_STRETCHES; i++) {
        (void)reserve_return(&reserve_kept.stretches[i]);
    }
    if (blocks != 0) {
        reserve_stock();
    }
}

void reserve_keep(struct region *region, size_t blocks) {
    ASSERT(blocks <= RESERVE_BLOCKS_MAX);
    reserve_kept.region = region;
    reserve_kept.least = blocks;
    reserve_kept.most = 0;
    reserve_restock(blocks);
}

void reserve_settle(void) {
    if (++reserve_kept.quiet >= RESERVE_QUIET) {
        size_t half = reserve_kept.wanted / 2;
        size_t least =
            reserve_kept.most == 0 ? reserve_kept.least : RESERVE_BLOCKS_USE;
        if (reserve_kept.most < half / 4 && half >= least) {
            reserve_restock(half);
        }
        reserve_kept.quiet = 0;
        reserve_kept.most = 0;
    }
    reserve_top_up();
}

void reserve_forget(void) {
    for (size_t i = 0; i < RESERVE_STRETCHES; i++) {
        reserve_kept.stretches[i] = 0;
    }
}

// --- In a handler ----------------------------------------------------------

size_t reserve_enter(struct reserve *reserve, uint32_t id) {
    // A handler that comes in between these lines leaves all as it was (V1).
    uint32_t depth = reserve->depth;
    if (depth == RESERVE_LEVELS) {
        return RESERVE_LEVELS;
    }
    __atomic_store_n(&reserve->depth, depth + 1, __ATOMIC_RELAXED);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    reserve->levels[depth].owner = (depth + 1) * RESERVE_OWNERS + id; // V3
    return depth;
}

void reserve_leave(struct reserve *reserve) {
    ASSERT(reserve->depth != 0);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    __atomic_store_n(&reserve->depth, reserve->depth - 1, __ATOMIC_RELAXED);
}

// The class for an order: a power of two, so that its cells are aligned to
// their size; CLASS_FREE if it is to be a run.
static unsigned reserve_class(const struct reserve_order *order) {
    size_t bytes =
        order->bytes > order->alignment ? order->bytes : order->alignment;
    if (bytes > RESERVE_CELL_BYTES) {
        return CLASS_FREE;
    }
    return sizeclass_of((size_t)1 << bits_log2_ceil(bytes));
}

// One cell, or NULL; the place where cells of this level are made.
static void *reserve_take_from(struct reserve_cache *it) {
    return cache_refill(&it->cache) ? cache_take(&it->cache) : NULL; // V5
}

// The cache of a level for a heap's cells of a kind and class, or NULL.
static struct reserve_cache *reserve_find(struct reserve *reserve, size_t level,
                                          const struct heap *heap,
                                          struct order order) {
    uint32_t used = reserve->used[level];
    for (; used != 0; used &= used - 1) {
        struct reserve_cache *it =
            &reserve->levels[level].caches[bits_lowest(used)];
        if (it->heap == heap && it->cache.order.kind == order.kind &&
            it->cache.order.cls == order.cls) {
            return it;
        }
    }
    return NULL;
}

static void *reserve_take_of(struct reserve *reserve, size_t level,
                             const struct heap *heap, struct order order) {
    struct reserve_cache *it = reserve_find(reserve, level, heap, order);
    return it != NULL ? reserve_take_from(it) : NULL;
}

void *reserve_take(struct reserve *reserve, size_t level,
                   const struct reserve_order *order) {
    struct order cell = {order->kind, reserve_class(order), 0};
    return reserve_take_of(reserve, level, order->heap, cell);
}

// Whether cells of one kind may serve for another: those that are scanned for
// others that are collected, those that are scanned and pinned for the pinned.
static bool reserve_serves(unsigned kind, unsigned wanted) {
    return kind == wanted ||
           (kind == KIND_SCANNED &&
            (wanted == KIND_LEAF || wanted == KIND_BASE_ONLY)) ||
           (kind == KIND_PINNED && wanted == KIND_PINNED_LEAF);
}

// For want of anything better.
static void *reserve_take_larger(struct reserve *reserve, size_t level,
                                 const struct heap *heap, struct order order) {
    uint32_t used = reserve->used[level];
    for (; used != 0; used &= used - 1) {
        struct reserve_cache *it =
            &reserve->levels[level].caches[bits_lowest(used)];
        void *cell = it->heap == heap && it->cache.order.cls >= order.cls &&
                             reserve_serves(it->cache.order.kind, order.kind)
                         ? reserve_take_from(it)
                         : NULL;
        if (cell != NULL) {
            return cell;
        }
    }
    return NULL;
}

// Takes a cache from what it served; false if that needs the lock.
static bool reserve_vacate(struct reserve_cache *it, const struct heap *heap,
                           bool locked) {
    if (locked) {
        cache_give_up(&it->cache, it->heap);
        cache_add_tally(it->heap, &it->tally);
        return true;
    }
    if (it->heap != heap) {
        return false;
    }
    cache_abandon(&it->cache); // the tally goes on
    return true;
}

// A cache that is not in use, or RESERVE_CACHES.
static size_t reserve_free_cache(struct reserve *reserve, size_t level,
                                 const struct heap *heap, bool locked) {
    uint32_t rest = ~reserve->used[level] & RESERVE_ALL;
    if (rest != 0) {
        return bits_lowest(rest);
    }
    struct reserve_level *its = &reserve->levels[level];
    for (size_t tries = 0; tries < RESERVE_CACHES; tries++) {
        size_t index = its->turn;
        its->turn = (its->turn + 1) % RESERVE_CACHES;
        if (reserve_vacate(&its->caches[index], heap, locked)) {
            return index;
        }
    }
    return RESERVE_CACHES;
}

// The cache for an order, or NULL.
static struct reserve_cache *reserve_get(struct reserve *reserve, size_t level,
                                         struct heap *heap, struct order order,
                                         bool locked) {
    struct reserve_cache *it = reserve_find(reserve, level, heap, order);
    if (it != NULL) {
        return it;
    }
    size_t index = reserve_free_cache(reserve, level, heap, locked);
    if (index == RESERVE_CACHES) {
        return NULL;
    }
    it = &reserve->levels[level].caches[index];
    it->heap = heap;
    it->cache = (struct cache){.bump = 0};
    cache_init(&it->cache, order, reserve->levels[level].owner, true,
               &it->tally); // V5
    // Whoever asks for figures looks at the caches in use.
    __atomic_store_n(&reserve->used[level],
                     reserve->used[level] | (uint32_t)1 << index,
                     __ATOMIC_RELEASE);
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

// One that was kept.
static uint32_t reserve_dress(struct heap *heap, struct order order,
                              uint32_t owner) {
    bool zero;
    uint32_t block = reserve_pop(1, &zero);
    if (block != BLOCK_NONE) {
        heap_use_block(heap, block, zero, order, owner);
    }
    return block;
}

// A cell of a block that is brought for it, or NULL.
static void *reserve_feed(struct reserve *reserve, size_t level,
                          struct heap *heap, struct order order, bool locked) {
    struct reserve_cache *it = reserve_get(reserve, level, heap, order, locked);
    if (it == NULL) {
        return NULL;
    }
    uint32_t owner = it->cache.owner;
    uint32_t block = locked ? reserve_order(heap, order, owner) : BLOCK_NONE;
    if (block == BLOCK_NONE) {
        block = reserve_dress(heap, order, owner);
    }
    if (block == BLOCK_NONE) {
        return NULL;
    }
    cache_adopt(&it->cache, block);
    return reserve_take_from(it);
}

// What is ordered in the place of a small order where blocks are scarce.
static struct order reserve_coarse(struct order order) {
    unsigned cls = sizeclass_of(RESERVE_COARSE_BYTES);
    unsigned kind = order.kind == KIND_PINNED_LEAF             ? KIND_PINNED
                    : reserve_serves(KIND_SCANNED, order.kind) ? KIND_SCANNED
                                                               : order.kind;
    return (struct order){kind, order.cls > cls ? order.cls : cls, 0};
}

static void *reserve_bring_cell(struct reserve *reserve, size_t level,
                                struct heap *heap, struct order order,
                                bool locked) {
    if (!locked && reserve_is_scarce()) {
        void *cell = reserve_take_larger(reserve, level, heap, order);
        return cell != NULL ? cell
                            : reserve_feed(reserve, level, heap,
                                           reserve_coarse(order), false);
    }
    void *cell = reserve_feed(reserve, level, heap, order, locked);
    return cell != NULL ? cell
                        : reserve_take_larger(reserve, level, heap, order);
}

// A run of blocks that were kept.  The cache for the largest cells tallies it.
static void *reserve_bring_kept_run(struct reserve *reserve, size_t level,
                                    const struct reserve_order *order,
                                    bool *zero) {
    size_t blocks = bits_div_ceil(order->bytes, BLOCK_BYTES);
    if (blocks > RESERVE_BLOCKS_MAX || order->alignment > BLOCK_BYTES) {
        return NULL;
    }
    struct order largest = {order->kind, sizeclass_of(RESERVE_CELL_BYTES), 0};
    struct reserve_cache *it =
        reserve_get(reserve, level, order->heap, largest, false);
    uint32_t block = it == NULL ? BLOCK_NONE : reserve_pop(blocks, zero);
    if (block == BLOCK_NONE) {
        return NULL;
    }
    uint64_t *sum = &it->tally.allocated_bytes;
    size_t bytes = heap_use_run(order->heap, block, order->kind, order->bytes);
    __atomic_store_n(sum, *sum + bytes, __ATOMIC_RELAXED);
    return (void *)range_block_address(block);
}

void *reserve_bring(struct reserve *reserve, size_t level,
                    const struct reserve_order *order, bool locked,
                    bool *zero) {
    __atomic_store_n(&reserve_kept.asked, 1, __ATOMIC_RELAXED);
    struct order cell = {order->kind, reserve_class(order), 0};
    if (cell.cls != CLASS_FREE) {
        *zero = true;
        return reserve_bring_cell(reserve, level, order->heap, cell, locked);
    }
    struct object *run =
        locked ? heap_make_run(order->heap, order->kind, order->bytes,
                               order->alignment, zero)
               : NULL;
    return run != NULL ? run
                       : reserve_bring_kept_run(reserve, level, order, zero);
}

// --- For the conductor -----------------------------------------------------

typedef void reserve_visit(struct reserve_cache *it, void *data);

static void reserve_each_of(struct reserve *reserve, size_t level,
                            const struct heap *heap, reserve_visit *visit,
                            void *data) {
    uint32_t used = __atomic_load_n(&reserve->used[level], __ATOMIC_ACQUIRE);
    for (; used != 0; used &= used - 1) {
        struct reserve_cache *it =
            &reserve->levels[level].caches[bits_lowest(used)];
        if (heap == NULL || it->heap == heap) {
            visit(it, data);
        }
    }
}

static void reserve_each(struct reserve *reserve, const struct heap *heap,
                         reserve_visit *visit, void *data) {
    for (size_t level = 0; level < RESERVE_LEVELS; level++) {
        reserve_each_of(reserve, level, heap, visit, data);
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
    (void)reserve_vacate(it, NULL, true);
}

void reserve_give_up(struct reserve *reserve) {
    reserve_each(reserve, NULL, reserve_visit_give_up, NULL);
    for (size_t level = 0; level < RESERVE_LEVELS; level++) {
        reserve->used[level] = 0;
    }
}

void reserve_drop_heap(struct reserve *reserve, const struct heap *heap) {
    for (size_t level = 0; level < RESERVE_LEVELS; level++) {
        for (size_t i = 0; i < RESERVE_CACHES; i++) {
            uint32_t bit = (uint32_t)1 << i;
            struct reserve_cache *it = &reserve->levels[level].caches[i];
            if ((reserve->used[level] & bit) != 0 && it->heap == heap) {
                it->tally = (struct tally){0, 0};
                reserve->used[level] &= ~bit;
            }
        }
    }
}
