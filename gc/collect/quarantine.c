#include "collect/quarantine.h"

#include "base/bits.h"
#include "heap/block.h"
#include "heap/blockmap.h"
#include "heap/meta.h"
#include "heap/range.h"
#include "heap/sizeclass.h"
#include "os/clock.h"
#include "os/foreign.h"
#include "os/mapping.h"
#include "os/memory.h"
#include "os/stack.h"
#include "roots/mutator.h"
#include "roots/world.h"

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
    size_t base = QUARANTINE_BASE_BYTES;
    base += quarantine_short(cycle->threads) * QUARANTINE_THREAD_BYTES;
    uint64_t size = quarantine_short((cycle->read_bytes + base) / KiB);
    uint64_t rate = quarantine_short(freed_bytes / (processor_ns / 1024 + 1));
    // What is freed in as long as a cycle takes.
    size_t missed = rate * quarantine_short(cycle->cycle_ns / 1024 + 1);
    size_t room = quarantine_root(size * quarantine_short(missed / KiB)) * KiB /
                  100 * QUARANTINE_SCALE;
    size_t most = cycle->read_bytes / 2 + base; // QU3
    // With less room than that, cycles take longer than the program.
    if (missed > most) {
        size_t dear = missed - most;
        most += dear < QUARANTINE_DEAR_BYTES ? dear : QUARANTINE_DEAR_BYTES;
    }
    room = room < missed ? missed : room;
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
    struct quarantine_cycle cycle = {read_bytes, now - quarantine->began_ns,
                                     quarantine->threads};
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
    bool alone; // no block has objects that die by tracing
};

static void quarantine_ask(uint32_t block, void *data) {
    struct quarantine_walk *walk = data;
    walk->alone &= block_kind_is_pinned(ENTRY_KIND(block_entry(block)));
}

void quarantine_look(struct quarantine *quarantine, const struct heap *heap) {
    quarantine->alone = false;
    quarantine->read_count = 0;
    if (!heap->holds) {
        return;
    }
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

// --- What was read as roots ------------------------------------------------

// In the start of a hole, which is that of a page: it is a stack.
#define QUARANTINE_OF_STACK ((uintptr_t)1)

void quarantine_ready(struct quarantine *quarantine, const struct heap *heap) {
    if (!heap->holds) {
        return;
    }
    quarantine->began_ns = clock_processor_ns();
    quarantine->threads = world.roll.count - 1;
    size_t room = QUARANTINE_HOLES + 2 * world.roll.count;
    if (room <= quarantine->read_room) {
        return;
    }
    room += room / 2; // more may come
    struct foreign_hole *read = meta_make(room * sizeof *read);
    if (read == NULL) {
        return;
    }
    if (quarantine->read != NULL) {
        meta_free(quarantine->read, quarantine->read_room * sizeof *read);
    }
    quarantine->read = read;
    quarantine->read_room = room;
}

void quarantine_note(struct quarantine *quarantine, const uintptr_t *start,
                     const uintptr_t *end, bool stack) {
    if (quarantine->read_count == quarantine->read_room) {
        return;
    }
    // What shares its first and last page is filling.
    struct foreign_hole hole = {
        bits_round_down((uintptr_t)start, memory_page_bytes()),
        bits_round_up((uintptr_t)end, memory_page_bytes())};
    if (stack) {
        hole.end = (uintptr_t)end; // above may be the program's arguments
        struct mapping mapping;
        const void *cold_end = stack_cold_end();
        if ((const void *)start < cold_end && cold_end <= (const void *)end &&
            mapping_find(hole.start, &mapping)) {
            hole.start = mapping.start; // it grows, alone in its mapping
        }
        hole.start |= QUARANTINE_OF_STACK;
    }
    quarantine->read[quarantine->read_count++] = hole;
}

// Moves the hole at `at` down the heap until none below it starts later.
static void quarantine_sift(struct foreign_hole *holes, size_t at,
                            size_t count) {
    struct foreign_hole hole = holes[at];
    for (size_t low = 2 * at + 1; low < count; low = 2 * at + 1) {
        low += low + 1 < count && holes[low + 1].start > holes[low].start;
        if (holes[low].start <= hole.start) {
            break;
        }
        holes[at] = holes[low];
        at = low;
    }
    holes[at] = hole;
}

// By their starts.  Stacks come in any order, and may be ten thousand.
static void quarantine_sort(struct foreign_hole *holes, size_t count) {
    for (size_t at = count / 2; at > 0; at--) {
        quarantine_sift(holes, at - 1, count);
    }
    for (size_t rest = count; rest > 1; rest--) {
        struct foreign_hole last = holes[0];
        holes[0] = holes[rest - 1];
        holes[rest - 1] = last;
        quarantine_sift(holes, 0, rest - 1);
    }
}

// A thread's stack was read from some place up to its end: what lies below, of
// the same stack, is dead.
static void quarantine_lower(struct mutator *mutator, void *data) {
    struct quarantine *quarantine = data;
    uintptr_t cold_end = (uintptr_t)mutator->cold_end;
    uintptr_t lowest =
        bits_round_up((uintptr_t)mutator->lowest, memory_page_bytes());
    size_t from = 0, to = quarantine->read_count;
    while (from < to) { // how many start below the cold end
        size_t middle = from + (to - from) / 2;
        bool below = quarantine->read[middle].start < cold_end;
        from = below ? middle + 1 : from;
        to = below ? to : middle;
    }
    // Between may be thread-local variables.
    for (; lowest != 0 && from > 0; from--) {
        struct foreign_hole *hole = &quarantine->read[from - 1];
        if (hole->start < lowest) {
            return;
        }
        if (hole->end == cold_end && (hole->start & QUARANTINE_OF_STACK) != 0) {
            uintptr_t before = from > 1 ? (hole - 1)->end : 0;
            before = before < lowest ? lowest : before;
            if (before < hole->start) {
                hole->start = before | QUARANTINE_OF_STACK;
            }
            return;
        }
    }
}

static void quarantine_order(struct quarantine *quarantine) {
    quarantine_sort(quarantine->read, quarantine->read_count);
    world_each(quarantine_lower, quarantine);
    for (size_t i = 0; i < quarantine->read_count; i++) {
        quarantine->read[i].start &= ~QUARANTINE_OF_STACK;
    }
}

// --- All of it -------------------------------------------------------------

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
        quarantine_order(quarantine);
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
