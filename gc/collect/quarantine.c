#include "collect/quarantine.h"

#include "base/bits.h"
#include "heap/block.h"
#include "heap/blockmap.h"
#include "heap/range.h"
#include "heap/sizeclass.h"
#include "os/clock.h"
#include "os/foreign.h"
#include "os/mapping.h"
#include "os/memory.h"

// The processor's own foresight ends at each page.
#define QUARANTINE_AHEAD_WORDS 512

// --- When ------------------------------------------------------------------

#define QUARANTINE_LEAST_BYTES (LOAM_TINY ? 16 * KiB : 256 * KiB)
#define QUARANTINE_FIRST_BYTES (LOAM_TINY ? 64 * KiB : 1 * MiB)
// What a process takes besides what is read: its programs and libraries.
#define QUARANTINE_BASE_BYTES (4 * MiB)

// The root, rounded down.
static uint64_t quarantine_root(uint64_t n) {
    uint64_t root = 0;
    for (uint64_t bit = (uint64_t)1 << 31; bit != 0; bit >>= 1) {
        uint64_t next = root | bit;
        if (next * next <= n) {
            root = next;
        }
    }
    return root;
}

static uint64_t quarantine_short(uint64_t n) {
    return n < UINT32_MAX ? n : UINT32_MAX;
}

size_t quarantine_room(const struct quarantine_cycle *cycle, size_t freed_bytes,
                       uint64_t processor_ns) {
    // In KiB and 2^10 ns, and no more than 32 bits of each.
    uint64_t size = cycle->read_bytes / KiB + QUARANTINE_BASE_BYTES / KiB;
    uint64_t rate = quarantine_short(freed_bytes / (processor_ns / 1024 + 1));
    uint64_t missed = rate * quarantine_short(cycle->cycle_ns / 1024 + 1) / KiB;
    size = quarantine_short(size);
    missed = quarantine_short(missed);
    size_t room = quarantine_root(size * missed) * KiB / 100 * QUARANTINE_SCALE;
    size_t most = cycle->read_bytes / 2 + QUARANTINE_BASE_BYTES; // QU3
    room = room > most ? most : room;
    return room < QUARANTINE_LEAST_BYTES ? QUARANTINE_LEAST_BYTES : room;
}

void quarantine_begin(struct quarantine *quarantine) {
    quarantine->room_bytes = QUARANTINE_FIRST_BYTES;
}

void quarantine_finish(struct quarantine *quarantine, size_t read_bytes) {
    uint64_t now = clock_processor_ns();
    size_t freed =
        __atomic_exchange_n(&quarantine->freed_bytes, 0, __ATOMIC_RELAXED);
    struct quarantine_cycle cycle = {read_bytes, now - quarantine->began_ns};
    size_t room = quarantine_room(&cycle, freed,
                                  quarantine->began_ns - quarantine->ended_ns);
    quarantine->ended_ns = now;
    quarantine->read_bytes = read_bytes;
    __atomic_store_n(&quarantine->room_bytes, room, __ATOMIC_RELAXED);
}

void quarantine_put_off(struct quarantine *quarantine) {
    size_t freed = __atomic_load_n(&quarantine->freed_bytes, __ATOMIC_RELAXED);
    size_t room = 2 * freed + QUARANTINE_LEAST_BYTES;
    __atomic_store_n(&quarantine->room_bytes, room, __ATOMIC_RELAXED);
}

// --- The walk --------------------------------------------------------------

// What a word leads into is marked if it is held.
static ALWAYS_INLINE NO_SANITIZE void quarantine_word(uintptr_t word) {
    uintptr_t offset = word - range.base;
    if (offset >= range.frontier_bytes) {
        return;
    }
    uint32_t block = (uint32_t)(offset >> BLOCK_SHIFT);
    unsigned entry = range.entries[block];
    uint32_t cell;
    if (UNLIKELY(entry & ENTRY_LOOK_CLOSER)) {
        struct place place;
        if (!blockmap_find(word, &place)) {
            return;
        }
        block = place.block;
        cell = place.cell;
    } else {
        const struct sizeclass *c = &sizeclass_table[ENTRY_CLASS(entry)];
        uint64_t inside = (offset & (BLOCK_BYTES - 1)) - ENTRY_SHIFT(entry);
        cell = (uint32_t)(inside * c->reciprocal >> 40);
        if (cell >= c->cells) {
            return;
        }
    }
    uint64_t freed = range.freed[block * FREED_WORDS_PER_BLOCK + cell / 64];
    uint64_t bit = (uint64_t)1 << (cell % 64);
    if (UNLIKELY((freed & bit) != 0)) {
        block_pair(block, cell / 64)[0] |= bit; // QU2
    }
}

// Most words are no pointers: four are turned away together.
static NO_SANITIZE void quarantine_words(const uintptr_t *at,
                                         const uintptr_t *end) {
    uintptr_t base = range.base;
    size_t frontier = range.frontier_bytes;
    for (; end - at >= 4; at += 4) {
        PREFETCH(at + QUARANTINE_AHEAD_WORDS);
        if ((at[0] - base < frontier) | (at[1] - base < frontier) |
            (at[2] - base < frontier) | (at[3] - base < frontier)) {
            for (size_t i = 0; i < 4; i++) {
                quarantine_word(at[i]);
            }
        }
    }
    for (; at < end; at++) {
        quarantine_word(*at);
    }
}

void quarantine_read(const uintptr_t *start, const uintptr_t *end) {
    quarantine_words(start, end);
}

struct quarantine_walk {
    const struct heap *heap;
    size_t read_bytes;
    bool alone; // no block has objects that are traced
};

static void quarantine_ask(uint32_t block, void *data) {
    struct quarantine_walk *walk = data;
    walk->alone &= block_is_holding(block);
}

void quarantine_look(struct quarantine *quarantine, const struct heap *heap) {
    quarantine->alone = false;
    quarantine->read_count = 0;
    if (!heap->holds) {
        return;
    }
    quarantine->began_ns = clock_processor_ns();
    struct quarantine_walk walk = {heap, 0, true};
    heap_each_block(quarantine_ask, &walk);
    quarantine->alone = walk.alone;
}

static void quarantine_cells(struct quarantine_walk *walk, uint32_t block,
                             uint32_t from, uint32_t end) {
    size_t bytes = block_cell_bytes(block);
    uintptr_t first = block_first(block);
    quarantine_words((const uintptr_t *)(first + from * bytes),
                     (const uintptr_t *)(first + end * bytes));
    walk->read_bytes += (end - from) * bytes;
}

// Reads the cells in use of a block: in stretches, as they lie there.
static void quarantine_block(uint32_t block, void *data) {
    struct quarantine_walk *walk = data;
    if (block_get(block)->heap != walk->heap->slot ||
        !block_is_holding(block)) {
        return;
    }
    uint32_t from = 0;
    uint32_t end = 0; // of the stretch that is open
    size_t words = block_words(block);
    const uint64_t *freed = &range.freed[block * FREED_WORDS_PER_BLOCK];
    for (size_t word = 0; word < words; word++) {
        uint64_t used = block_pair(block, word)[1] & ~freed[word];
        while (used != 0) {
            unsigned low = (unsigned)bits_lowest(used);
            uint64_t rest = ~(used >> low);
            unsigned count = rest == 0 ? 64 : (unsigned)bits_lowest(rest);
            count = low + count > 64 ? 64 - low : count;
            uint32_t start = (uint32_t)(word * 64 + low);
            if (start != end) {
                quarantine_cells(walk, block, from, end);
                from = start;
            }
            end = start + count;
            used &= low + count >= 64 ? 0 : ~bits_mask_below(low + count);
        }
    }
    quarantine_cells(walk, block, from, end);
}

// The mappings of stacks are looked up for so many.
#define QUARANTINE_STACKS 64

void quarantine_note(struct quarantine *quarantine, const uintptr_t *start,
                     const uintptr_t *end, bool stack) {
    // What shares its first and last page is filling.
    struct foreign_hole hole = {
        bits_round_down((uintptr_t)start, memory_page_bytes()),
        bits_round_up((uintptr_t)end, memory_page_bytes())};
    size_t at = quarantine->read_count;
    if (at == QUARANTINE_HOLES) {
        return;
    }
    struct mapping mapping;
    if (stack) {
        hole.end = (uintptr_t)end; // above may be the program's arguments
    }
    if (stack && at < QUARANTINE_STACKS && mapping_find(hole.start, &mapping)) {
        hole.start = mapping.start;
    }
    struct foreign_hole *holes = quarantine->read;
    for (; at > 0 && holes[at - 1].start > hole.start; at--) {
        holes[at] = holes[at - 1];
    }
    holes[at] = hole;
    quarantine->read_count++;
}

static void quarantine_foreign(const uintptr_t *start, const uintptr_t *end,
                               void *data) {
    struct quarantine_walk *walk = data;
    quarantine_words(start, end);
    walk->read_bytes += (size_t)(end - start) * WORD_BYTES;
}

static void quarantine_let_go(uint32_t block, void *data) {
    const struct quarantine_walk *walk = data;
    if (block_get(block)->heap == walk->heap->slot && block_is_holding(block)) {
        block_unmark(block);
    }
}

static void quarantine_weigh(uint32_t block, void *data) {
    struct quarantine_walk *walk = data;
    if (block_get(block)->heap != walk->heap->slot ||
        !block_is_holding(block)) {
        return;
    }
    const uint64_t *freed = &range.freed[block * FREED_WORDS_PER_BLOCK];
    size_t cells = 0;
    for (size_t word = 0; word < block_words(block); word++) {
        cells += bits_count(__atomic_load_n(&freed[word], __ATOMIC_RELAXED));
    }
    walk->read_bytes += cells * block_cell_bytes(block);
}

size_t quarantine_held_bytes(const struct heap *heap) {
    struct quarantine_walk walk = {.heap = heap};
    if (heap->holds) {
        heap_each_block(quarantine_weigh, &walk);
    }
    return walk.read_bytes;
}

// A cell that is alone in its blocks, and that this cycle found a word for,
// gives its pages back, once: it is all zero, and may be held for long (QU5).
static void quarantine_empty(uint32_t block, void *data) {
    const struct quarantine_walk *walk = data;
    if (block_get(block)->heap != walk->heap->slot ||
        !block_is_holding(block) || block_cells(block) != 1 ||
        !block_is_freed(block, 0) || !block_is_marked(block, 0) ||
        (block_flags(block) & BLOCK_DROPPED)) {
        return;
    }
    void *blocks = (void *)range_block_address(block);
    if (memory_drop(blocks, block_span(block) * BLOCK_BYTES)) {
        block_set_flags(block, BLOCK_DROPPED);
    }
}

size_t quarantine_scan(struct quarantine *quarantine, const struct heap *heap) {
    struct quarantine_walk walk = {.heap = heap};
    quarantine->foreign_bytes = 0;
    if (quarantine->gives_way) { // QU3
        heap_each_block(quarantine_let_go, &walk);
    } else {
        heap_each_block(quarantine_block, &walk);
        // Where the system does not tell, all the rest has been read.
        size_t own_bytes = walk.read_bytes;
        bool told = foreign_each(quarantine->read, quarantine->read_count,
                                 quarantine_foreign, &walk);
        quarantine->foreign_bytes = walk.read_bytes - own_bytes;
        if (!told && quarantine->unseen != NULL) {
            quarantine->unseen();
        }
        heap_each_block(quarantine_empty, &walk);
    }
    return walk.read_bytes;
}
