#include "heap/block.h"

#include "base/bits.h"
#include "base/check.h"

#define PAGE_BYTES_OF_RUN ((size_t)4096)

size_t block_words(uint32_t block) {
    unsigned cls = ENTRY_CLASS(block_entry(block));
    return cls == CLASS_RUN_HEAD ? 1 : sizeclass_table[cls].words;
}

size_t block_cells(uint32_t block) {
    unsigned cls = ENTRY_CLASS(block_entry(block));
    return cls == CLASS_RUN_HEAD ? 1 : sizeclass_table[cls].cells;
}

size_t block_span(uint32_t block) {
    unsigned cls = ENTRY_CLASS(block_entry(block));
    if (cls == CLASS_RUN_HEAD) {
        size_t pages = block_get(block)->run_pages;
        return bits_div_ceil(pages * PAGE_BYTES_OF_RUN, BLOCK_BYTES);
    }
    return sizeclass_table[cls].blocks;
}

size_t block_cell_bytes(uint32_t block) {
    unsigned entry = block_entry(block);
    unsigned cls = ENTRY_CLASS(entry);
    if (cls == CLASS_RUN_HEAD) {
        return block_get(block)->run_pages * PAGE_BYTES_OF_RUN -
               ENTRY_SHIFT(entry);
    }
    return sizeclass_table[cls].bytes;
}

bool block_kind_takes(unsigned kind, unsigned cls) {
    const struct sizeclass *c = &sizeclass_table[cls];
    if (block_kind_shift(kind) == 0) {
        return cls >= CLASS_FIRST && cls <= CLASS_PLAIN_LAST;
    }
    return c->cells != 0 && c->bytes <= SMALL_BYTES_MAX &&
           cls == sizeclass_of_shifted(c->bytes);
}

// The bits of an entry that follow from the kind: of those whose words the
// marker cannot treat like any other's, and of those that are shifted.
static unsigned block_kind_bits(unsigned kind) {
    if (kind == KIND_DESCRIBED || kind == KIND_BASE_ONLY) {
        return ENTRY_LOOK_CLOSER;
    }
    return block_kind_shift(kind) != 0 ? ENTRY_SHIFTED : 0;
}

// A reader that has no lock sees entries appear in this order.
static void block_set_entry(uint32_t block, unsigned entry) {
    __atomic_store_n(&range.entries[block], (uint16_t)entry, __ATOMIC_RELEASE);
}

void block_format(uint32_t block, unsigned cls, unsigned kind) {
    ASSERT(block_kind_takes(kind, cls)); // B14
    unsigned bits = block_kind_bits(kind);
    for (unsigned i = sizeclass_table[cls].blocks; i-- > 0;) {
        unsigned later = i == 0 ? 0 : ENTRY_LOOK_CLOSER;
        block_set_entry(block + i, ENTRY(cls, kind, i) | bits | later);
    }
}

void block_format_run(uint32_t block, size_t count, size_t pages,
                      unsigned kind) {
    unsigned bits = block_kind_bits(kind) | ENTRY_LOOK_CLOSER;
    block_get(block)->run_pages = (uint32_t)pages;
    block_set_flags(block, BLOCK_EXACT);
    for (size_t i = count; i-- > 1;) {
        range.distances[block + i] = (uint32_t)i;
        block_set_entry(block + (uint32_t)i,
                        ENTRY(CLASS_RUN_TAIL, kind, 0) | bits);
    }
    block_set_entry(block, ENTRY(CLASS_RUN_HEAD, kind, 0) | bits);
}

void block_add_to_run(uint32_t block, size_t before, size_t count) {
    unsigned kind = ENTRY_KIND(block_entry(block));
    unsigned bits = block_kind_bits(kind) | ENTRY_LOOK_CLOSER;
    for (size_t i = count; i-- > before;) {
        range.distances[block + i] = (uint32_t)i;
        block_set_entry(block + (uint32_t)i,
                        ENTRY(CLASS_RUN_TAIL, kind, 0) | bits);
    }
}

void block_set_pages(uint32_t block, size_t pages) {
    __atomic_store_n(&block_get(block)->run_pages, (uint32_t)pages,
                     __ATOMIC_RELEASE);
}

void block_cut_run(uint32_t block, size_t before, size_t count) {
    for (size_t i = count; i < before; i++) {
        block_set_entry(block + (uint32_t)i, CLASS_FREE);
    }
}

void block_clear(uint32_t block) {
    size_t count = block_span(block);
    for (size_t i = 0; i < count; i++) {
        block_set_entry(block + (uint32_t)i, CLASS_FREE);
    }
    // What says that it was told stays: a program that frees an object in two
    // threads at once may have it in a list of such blocks while it is free.
    struct block *b = block_get(block);
    b->next = b->prev = BLOCK_NONE;
    b->run_pages = 0;
    b->live = b->heap = b->layout = b->cursor = 0;
    b->list = b->rescan = 0;
    block_set_owner(block, 0);
    block_clear_flags(block, UINT8_MAX);
}

void block_forget_freed(uint32_t block) {
    __atomic_store_n(&block_get(block)->freed_any, 0, __ATOMIC_SEQ_CST);
}

// The next set bit of the allocation words inverted or not, from `from` on.
static uint32_t block_next(uint32_t block, uint32_t from, uint32_t end,
                           uint64_t invert) {
    if (from >= end) {
        return end;
    }
    size_t word = from / 64;
    uint64_t bits = block_pair(block, word)[1] ^ invert;
    bits &= ~bits_mask_below(from % 64);
    while (bits == 0) {
        word++;
        if (word * 64 >= end) {
            return end;
        }
        bits = block_pair(block, word)[1] ^ invert;
    }
    uint32_t at = (uint32_t)(word * 64) + (uint32_t)bits_lowest(bits);
    return at < end ? at : end;
}

bool block_find_hole(uint32_t block, uint32_t from, uint32_t cells_max,
                     struct hole *hole) {
    uint32_t cells = (uint32_t)block_cells(block);
    hole->from = block_next(block, from, cells, ~(uint64_t)0);
    if (hole->from == cells) {
        return false;
    }
    uint32_t end = cells;
    if (cells - hole->from > cells_max) {
        end = hole->from + cells_max;
    }
    hole->end = block_next(block, hole->from, end, 0);
    return true;
}

// The bits of `hole` that lie in allocation word `word`.
static uint64_t block_hole_mask(struct hole hole, size_t word) {
    size_t low = word * 64;
    size_t from = hole.from > low ? hole.from - low : 0;
    size_t end = hole.end - low < 64 ? hole.end - low : 64;
    return bits_mask_below(end) & ~bits_mask_below(from);
}

static inline bool block_freed_in_use(void) {
    return __atomic_load_n(&range.freed_in_use, __ATOMIC_ACQUIRE);
}

static inline uint64_t *block_freed_word(uint32_t block, size_t word) {
    return &range.freed[block * FREED_WORDS_PER_BLOCK + word];
}

void block_drop_freed(uint32_t block, size_t word, uint64_t mask) {
    uint64_t *freed = block_freed_word(block, word);
    if ((__atomic_load_n(freed, __ATOMIC_RELAXED) & mask) != 0) {
        __atomic_fetch_and(freed, ~mask, __ATOMIC_RELAXED);
    }
}

void block_set_hole(uint32_t block, struct hole hole) {
    for (size_t word = hole.from / 64; word * 64 < hole.end; word++) {
        uint64_t mask = block_hole_mask(hole, word);
        uint64_t *alloc = &block_pair(block, word)[1];
        ASSERT((*alloc & mask) == 0);
        if (UNLIKELY(block_freed_in_use())) {
            block_drop_freed(block, word, mask); // B8
        }
        __atomic_store_n(alloc, *alloc | mask, __ATOMIC_RELAXED);
    }
    struct block *b = block_get(block);
    b->live = (uint16_t)(b->live + (hole.end - hole.from));
}

void block_clear_hole(uint32_t block, struct hole hole) {
    for (size_t word = hole.from / 64; word * 64 < hole.end; word++) {
        uint64_t mask = block_hole_mask(hole, word);
        uint64_t *alloc = &block_pair(block, word)[1];
        ASSERT((*alloc & mask) == mask);
        __atomic_store_n(alloc, *alloc & ~mask, __ATOMIC_RELAXED);
    }
    struct block *b = block_get(block);
    b->live = (uint16_t)(b->live - (hole.end - hole.from));
}

enum freed_by block_free_remotely(uint32_t block, uint32_t cell) {
    ASSERT(block_freed_in_use());
    uint64_t bit = (uint64_t)1 << (cell % 64);
    if (!block_is_allocated(block, cell)) {
        return FREED_TWICE;
    }
    uint64_t *freed = block_freed_word(block, cell / 64);
    if ((__atomic_fetch_or(freed, bit, __ATOMIC_SEQ_CST) & bit) != 0) {
        return FREED_TWICE;
    }
    // The bit first: a drain that has missed it has not cleared the summary
    // that is set here, so that the block is told of again.  Where the summary
    // is seen to be set, no drain that missed the bit has begun.
    uint8_t *any = &block_get(block)->freed_any;
    return __atomic_load_n(any, __ATOMIC_SEQ_CST) == 0 &&
                   __atomic_exchange_n(any, 1, __ATOMIC_SEQ_CST) == 0
               ? FREED_FIRST
               : FREED_MORE;
}

uint32_t block_drain_freed(uint32_t block, struct hole tail) {
    struct block *b = block_get(block);
    if (__atomic_exchange_n(&b->freed_any, 0, __ATOMIC_SEQ_CST) == 0) {
        return 0;
    }
    uint32_t count = 0;
    size_t words = block_words(block);
    for (size_t word = 0; word < words; word++) {
        uint64_t freed = __atomic_exchange_n(block_freed_word(block, word), 0,
                                             __ATOMIC_SEQ_CST);
        uint64_t *pair = block_pair(block, word);
        freed &= pair[1]; // what a wrong program freed twice counts once
        if (tail.from < tail.end && word >= tail.from / 64 &&
            word * 64 < tail.end) {
            freed &= ~block_hole_mask(tail, word);
        }
        if (freed != 0) {
            // Before the bits: no cell is free in a block that is zero (B10).
            block_clear_flags(block, BLOCK_ZERO);
            __atomic_store_n(&pair[1], pair[1] & ~freed, __ATOMIC_RELAXED);
            pair[0] &= ~freed; // B4
            count += (uint32_t)bits_count(freed);
        }
    }
    b->live = (uint16_t)(b->live - count);
    return count;
}

void block_mark_all(uint32_t block) {
    uint64_t *pair = block_pair(block, 0);
    uint64_t *end = pair + 2 * block_words(block);
    for (; pair < end; pair += 2) {
        pair[0] = pair[1];
    }
}

void block_unmark(uint32_t block) {
    uint64_t *pair = block_pair(block, 0);
    uint64_t *end = pair + 2 * block_words(block);
    for (; pair < end; pair += 2) {
        pair[0] = 0;
    }
}

void block_clear_marks(uint32_t block) {
    if (block_kind_is_pinned(ENTRY_KIND(block_entry(block)))) {
        block_mark_all(block);
    } else {
        block_unmark(block);
    }
}

uint32_t block_flip_held(uint32_t block, uint32_t *held) {
    size_t words = block_words(block);
    uint32_t out = 0;
    *held = 0;
    for (size_t word = 0; word < words; word++) {
        uint64_t *freed = block_freed_word(block, word);
        if (*freed == 0) {
            continue;
        }
        uint64_t *pair = block_pair(block, word);
        uint64_t bits = *freed & pair[1] & ~pair[0];
        pair[1] &= ~bits;
        *freed &= pair[1];
        out += (uint32_t)bits_count(bits);
        *held += (uint32_t)bits_count(*freed);
    }
    struct block *b = block_get(block);
    b->live = (uint16_t)(b->live - out);
    if (out != 0) {
        block_clear_flags(block, BLOCK_ZERO); // the program may have written
    }
    return out;
}

uint32_t block_flip_lost(uint32_t block) {
    struct block *b = block_get(block);
    size_t live = 0;
    uint64_t *pair = block_pair(block, 0);
    uint64_t *end = pair + 2 * block_words(block);
    for (; pair < end; pair += 2) {
        ASSERT((pair[0] & ~pair[1]) == 0); // B4
        pair[1] &= pair[0];
        live += (size_t)bits_count(pair[1]);
    }
    uint32_t dead = b->live - (uint32_t)live;
    b->live = (uint16_t)live;
    if (dead != 0) {
        block_clear_flags(block, BLOCK_ZERO);
    }
    return dead;
}

uint32_t block_flip(uint32_t block) {
    return block_kind_is_pinned(ENTRY_KIND(block_entry(block)))
               ? 0
               : block_flip_lost(block);
}

static bool block_check_entries(uint32_t block) {
    unsigned entry = block_entry(block);
    unsigned cls = ENTRY_CLASS(entry);
    size_t span = block_span(block);
    if (ENTRY_SHIFT(entry) != block_kind_shift(ENTRY_KIND(entry)) ||
        (cls != CLASS_RUN_HEAD && !block_kind_takes(ENTRY_KIND(entry), cls))) {
        return false; // B14
    }
    for (size_t i = 1; i < span; i++) {
        unsigned other = block_entry(block + (uint32_t)i);
        if (ENTRY_KIND(other) != ENTRY_KIND(entry) ||
            ENTRY_SHIFT(other) != ENTRY_SHIFT(entry)) {
            return false;
        }
        if (cls == CLASS_RUN_HEAD
                ? (ENTRY_CLASS(other) != CLASS_RUN_TAIL ||
                   range.distances[block + i] != i)
                : (ENTRY_CLASS(other) != cls || ENTRY_INDEX(other) != i)) {
            return false;
        }
    }
    return ENTRY_INDEX(entry) == 0;
}

bool block_check(uint32_t block) {
    size_t cells = block_cells(block);
    size_t live = 0;
    for (size_t word = 0; word < BITS_WORDS_PER_BLOCK / 2; word++) {
        size_t inside = cells > word * 64 ? cells - word * 64 : 0;
        uint64_t beyond = ~bits_mask_below(inside < 64 ? inside : 64);
        const uint64_t *pair = block_pair(block, word);
        if (((pair[0] | pair[1]) & beyond) != 0) { // B5
            return false;
        }
        live += (size_t)bits_count(pair[1]);
    }
    return live == block_get(block)->live && block_check_entries(block); // B6
}
