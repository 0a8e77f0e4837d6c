#include "api/summary.h"

#include "api/init.h"
#include "base/bits.h"
#include "base/text.h"
#include "heap/block.h"
#include "heap/heap.h"
#include "heap/range.h"
#include "os/mapping.h"
#include "os/output.h"

// Bytes, while they are counted.
struct summary_sum {
    size_t used, held;                         // of the heap, resident
    size_t resident, heap, tables, files, all; // of mappings
};

static size_t summary_least(size_t a, size_t b) {
    return a < b ? a : b;
}

static void summary_block(uint32_t block, void *data) {
    struct summary_sum *sum = data;
    size_t words = block_words(block);
    size_t cell_bytes = block_cell_bytes(block);
    const uint64_t *freed = range.freed_in_use && block_is_holding(block)
                                ? &range.freed[block * FREED_WORDS_PER_BLOCK]
                                : NULL;
    size_t cells = 0;
    size_t held = 0;
    for (size_t word = 0; word < words; word++) {
        cells += bits_count(
            __atomic_load_n(&block_pair(block, word)[1], __ATOMIC_RELAXED));
        held +=
            freed == NULL
                ? 0
                : bits_count(__atomic_load_n(&freed[word], __ATOMIC_RELAXED));
    }
    held = summary_least(held, cells);
    size_t resident = mapping_resident(range_block_address(block),
                                       block_span(block) * BLOCK_BYTES);
    size_t used = summary_least((cells - held) * cell_bytes, resident);
    sum->used += used;
    sum->held += summary_least(held * cell_bytes, resident - used);
}

// The tables are reserved as one: from the first to the mapping of the last.
static bool summary_is_table(const struct mapping *mapping) {
    const uintptr_t tables[] = {
        (uintptr_t)range.entries, (uintptr_t)range.bits,
        (uintptr_t)range.blocks,  (uintptr_t)range.distances,
        (uintptr_t)range.taken,   (uintptr_t)range.dirty,
        (uintptr_t)range.chunks,  (uintptr_t)range.freed,
        (uintptr_t)range.age};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        if (tables[i] >= mapping->start && tables[i] < mapping->end) {
            return true;
        }
    }
    return false;
}

static bool summary_mapping(const struct mapping *mapping, void *data) {
    struct summary_sum *sum = data;
    size_t bytes = mapping->resident_bytes;
    sum->all += bytes;
    if (mapping->start - range.base < range.bytes) {
        sum->heap += bytes;
    } else if (summary_is_table(mapping)) {
        sum->tables += bytes;
    } else if (mapping->inode != 0) {
        sum->files += bytes;
    }
    return true;
}

bool summary_take(struct summary *summary) {
    struct summary_sum sum = {0};
    struct mutator *mutator = init_lock();
    if (mutator == NULL) {
        return false;
    }
    heap_each_block(summary_block, &sum);
    bool told = mapping_each_resident(summary_mapping, &sum);
    init_unlock(mutator);
    // SU1: each part is what is left for it, in whole KiB.
    size_t all = sum.all / KiB;
    size_t heap = sum.heap / KiB;
    size_t tables = sum.tables / KiB;
    size_t files = sum.files / KiB;
    size_t used = summary_least(sum.used / KiB, heap);
    size_t held = summary_least(sum.held / KiB, heap - used);
    *summary = (struct summary){
        .resident = all,
        .used = used,
        .held = held,
        .free = heap - used - held,
        .tables = tables,
        .files = files,
        .other = all - heap - tables - files,
    };
    return told && all != 0;
}

// SU2
static void summary_line(const char *name, size_t kib) {
    char line[128];
    struct text text;
    text_init(&text, line, sizeof line);
    text_add(&text, name);
    for (size_t least = 100000000; least > 1 && kib < least; least /= 10) {
        text_add(&text, " ");
    }
    text_add_number(&text, kib);
    text_add(&text, " KiB\n");
    output_write(line, text.count);
}

void summary_say(void) {
    struct summary summary;
    if (!summary_take(&summary)) {
        return;
    }
    summary_line("loam: in memory        ", summary.resident);
    summary_line("loam:   in objects     ", summary.used);
    summary_line("loam:   held           ", summary.held);
    summary_line("loam:   free in heap   ", summary.free);
    summary_line("loam:   side tables    ", summary.tables);
    summary_line("loam:   files mapped   ", summary.files);
    summary_line("loam:   stacks, others ", summary.other);
}
