#include "trace/mark.h"

#include "base/check.h"
#include "heap/block.h"
#include "heap/heap.h"
#include "heap/layout.h"
#include "heap/range.h"

enum {
    MARK_BATCH = LOAM_TINY ? 2 : 16,
    MARK_PIECE_WORDS = LOAM_TINY ? 4 : 256,
    MARK_LINE_BYTES = 64
};

// A word that was looked up: where its mark is, and what to read.
struct edge {
    uint64_t *pair;         // mark word and allocation word
    uint64_t bit;           // in both
    const uintptr_t *words; // the object
    uint32_t word_count;    // to read; 0 for a leaf
    uint32_t layout;        // id if described, else 0
};

struct batch {
    struct edge edges[MARK_BATCH];
    size_t count;
};

bool mark_init(struct marker *marker) {
    *marker = (struct marker){.overflowed = false};
    return worklist_init(&marker->list);
}

void mark_begin(struct marker *marker) {
    ASSERT(worklist_is_empty(&marker->list));
    marker->overflowed = false;
    marker->object_count = 0;
    marker->scanned_bytes = 0;
}

// Pushes the words of [words, words + count) that lie below the frontier; the
// stack has room for all.  No branch depends on what is read.
static inline NO_SANITIZE void
mark_push_words(struct worklist *list, const uintptr_t *words, size_t count) {
    uintptr_t base = range.base;
    size_t frontier = range.frontier_bytes;
    uintptr_t *top = list->words + list->word_count;
    for (size_t i = 0; i < count; i++) {
        uintptr_t word = words[i];
        *top = word;
        top += word - base < frontier;
    }
    list->word_count = (size_t)(top - list->words);
}

// The words that the layout names, among `count` words that begin with word
// `phase` of an element; returns the phase of the word behind them.
static NO_SANITIZE uint32_t mark_push_described(struct worklist *list,
                                                const struct layout *layout,
                                                const uintptr_t *words,
                                                size_t count, uint32_t phase) {
    uintptr_t *top = list->words + list->word_count;
    for (size_t i = 0; i < count; i++) {
        uint64_t bits = layout->pointer_bits[phase / 64];
        *top = words[i];
        top += ((bits >> (phase % 64)) & 1) & range_has(words[i]);
        phase = phase + 1 == layout->element_words ? 0 : phase + 1;
    }
    list->word_count = (size_t)(top - list->words);
    return phase;
}

// The words of a marked object, as its block says.
static struct piece mark_object_piece(uint32_t block, uint32_t cell) {
    const uintptr_t *from =
        (const uintptr_t *)(range_block_address(block) +
                            (uintptr_t)cell * block_cell_bytes(block));
    struct piece piece = {from, from + block_cell_bytes(block) / WORD_BYTES, 0,
                          0};
    unsigned kind = ENTRY_KIND(block_entry(block));
    if (kind_is_leaf(kind)) {
        piece.end = from;
    } else if (kind == KIND_DESCRIBED) {
        piece.layout = block_get(block)->layout;
        if (layout_get(piece.layout)->pointer_count == 0) {
            piece.end = from;
        }
    }
    return piece;
}

// The block and cell of an object that was found before.
static struct place mark_place(const uintptr_t *object) {
    struct place place;
    bool found = blockmap_find((uintptr_t)object, &place);
    CHECK(found);
    return place;
}

// Lets the block that holds an object be read again.
static COLD void mark_overflow(struct marker *marker, const uintptr_t *object) {
    block_get(mark_place(object).block)->rescan = 1;
    marker->overflowed = true;
    marker->overflow_count++;
}

// An object of more than a piece: its words are counted anew, since those of a
// run may be more than 32 bits can say.
static NOINLINE void mark_scan_large(struct marker *marker,
                                     const uintptr_t *object) {
    struct place place = mark_place(object);
    struct piece piece = mark_object_piece(place.block, place.cell);
    marker->scanned_bytes += place.bytes;
    if (!worklist_push_piece(&marker->list, piece)) {
        mark_overflow(marker, object);
    }
}

// Reads an object that was just marked.
static ALWAYS_INLINE void mark_scan(struct marker *marker,
                                    const struct edge *edge) {
    struct worklist *list = &marker->list;
    if (UNLIKELY(edge->word_count > MARK_PIECE_WORDS)) {
        mark_scan_large(marker, edge->words);
        return;
    }
    marker->scanned_bytes += edge->word_count * WORD_BYTES;
    if (UNLIKELY(!worklist_has_room(list, edge->word_count))) {
        mark_overflow(marker, edge->words);
    } else if (UNLIKELY(edge->layout != 0)) {
        mark_push_described(list, layout_get(edge->layout), edge->words,
                            edge->word_count, 0);
    } else {
        mark_push_words(list, edge->words, edge->word_count);
    }
}

// Runs, and cells whose words or pointers count differently.
static NOINLINE bool mark_look_closer(uintptr_t word, struct edge *edge) {
    struct place place;
    if (!blockmap_find(word, &place)) {
        return false;
    }
    if (place.kind == KIND_BASE_ONLY &&
        word - place.start >= BASE_ONLY_BYTES) { // K6
        return false;
    }
    edge->pair = block_pair(place.block, place.cell / 64);
    edge->bit = (uint64_t)1 << (place.cell % 64);
    edge->words = (const uintptr_t *)place.start;
    edge->layout = 0;
    size_t count = place.bytes / WORD_BYTES;
    edge->word_count = count > UINT32_MAX ? UINT32_MAX : (uint32_t)count;
    if (kind_is_leaf(place.kind)) {
        edge->word_count = 0;
    } else if (place.kind == KIND_DESCRIBED) {
        edge->layout = block_get(place.block)->layout;
        if (layout_get(edge->layout)->pointer_count == 0) {
            edge->word_count = 0;
        }
    }
    return true;
}

// Looks a word up and asks for its lines; false if it leads to no cell.
static ALWAYS_INLINE bool mark_resolve(uintptr_t word, struct edge *edge) {
    uintptr_t offset = word - range.base;
    size_t block = offset >> BLOCK_SHIFT;
    unsigned entry = range.entries[block];
    if (UNLIKELY(entry & ENTRY_LOOK_CLOSER)) {
        if (!mark_look_closer(word, edge)) {
            return false;
        }
        PREFETCH(edge->pair);
        PREFETCH(edge->words);
        return true;
    }
    const struct sizeclass *sizeclass = &sizeclass_table[ENTRY_CLASS(entry)];
    size_t index = ENTRY_INDEX(entry);
    uint64_t inside = (offset & (BLOCK_BYTES - 1)) + index * BLOCK_BYTES;
    uint64_t cell = inside * sizeclass->reciprocal >> 40;
    block -= index;
    edge->pair = &range.bits[block * BITS_WORDS_PER_BLOCK + cell / 64 * 2];
    edge->bit = (uint64_t)1 << (cell % 64);
    uintptr_t start =
        range.base + (block << BLOCK_SHIFT) + cell * sizeclass->bytes;
    edge->words = (const uintptr_t *)start;
    edge->layout = 0;
    bool leaf = kind_is_leaf(ENTRY_KIND(entry));
    edge->word_count = leaf ? 0 : sizeclass->bytes / (uint32_t)WORD_BYTES;
    PREFETCH(edge->pair);
    if (!leaf) {
        // Its first line, and the second if it reaches that far.
        size_t last = sizeclass->bytes - 1;
        last = last < MARK_LINE_BYTES ? last : MARK_LINE_BYTES;
        PREFETCH((const void *)start);
        PREFETCH((const void *)(start + last));
    }
    return cell < sizeclass->cells;
}

// Fills a batch from the top of the stack.
static ALWAYS_INLINE void mark_fill(struct marker *marker,
                                    struct batch *batch) {
    struct worklist *list = &marker->list;
    size_t count =
        list->word_count < MARK_BATCH ? list->word_count : MARK_BATCH;
    batch->count = 0;
    for (size_t i = 0; i < count; i++) {
        uintptr_t word = list->words[--list->word_count];
        batch->count += mark_resolve(word, &batch->edges[batch->count]);
    }
}

// Marks the objects of a batch that are not marked yet, and reads them.
static ALWAYS_INLINE void mark_finish(struct marker *marker,
                                      const struct batch *batch) {
    for (size_t i = 0; i < batch->count; i++) {
        const struct edge *edge = &batch->edges[i];
        uint64_t mark = edge->pair[0];
        if ((edge->pair[1] & ~mark & edge->bit) == 0) { // K2, K3
            continue;
        }
        edge->pair[0] = mark | edge->bit;
        marker->object_count++;
        if (edge->word_count != 0) {
            mark_scan(marker, edge);
        }
    }
}

// Empties the stack of words.
static NOINLINE void mark_drain_words(struct marker *marker) {
    struct batch batches[2];
    batches[0].count = batches[1].count = 0;
    size_t turn = 0;
    do {
        mark_fill(marker, &batches[turn]);
        turn ^= 1;
        mark_finish(marker, &batches[turn]);
    } while (batches[turn ^ 1].count != 0 || marker->list.word_count != 0);
}

// The words of [from, end) onto the stack, which is drained when it is full,
// and of a layout only those it names.
static void mark_read(struct marker *marker, struct piece piece) {
    struct worklist *list = &marker->list;
    size_t step = MARK_PIECE_WORDS;
    while (piece.from < piece.end) {
        size_t count = (size_t)(piece.end - piece.from);
        count = count < step ? count : step;
        if (!worklist_has_room(list, count)) {
            mark_drain_words(marker);
        }
        if (piece.layout == 0) {
            mark_push_words(list, piece.from, count);
        } else {
            piece.phase = mark_push_described(list, layout_get(piece.layout),
                                              piece.from, count, piece.phase);
        }
        piece.from += count;
    }
}

// Both stacks empty, but for flagged blocks.
static void mark_drain_stacks(struct marker *marker) {
    struct worklist *list = &marker->list;
    mark_drain_words(marker);
    while (list->piece_count != 0) {
        struct piece piece = worklist_pop_piece(list);
        struct piece part = piece;
        if ((size_t)(piece.end - piece.from) > MARK_PIECE_WORDS) {
            // The rest goes back before what this part leads to is pushed on
            // top: there is room, for it was just popped.
            part.end = piece.from + MARK_PIECE_WORDS;
            piece.from = part.end;
            if (piece.layout != 0) {
                size_t words = layout_get(piece.layout)->element_words;
                piece.phase =
                    (uint32_t)((piece.phase + MARK_PIECE_WORDS) % words);
            }
            bool pushed = worklist_push_piece(list, piece);
            CHECK(pushed);
        }
        mark_read(marker, part);
        mark_drain_words(marker);
    }
}

// Reads every marked object of a block, with the stacks drained in between.
static void mark_read_block(struct marker *marker, uint32_t block) {
    uint32_t cells = (uint32_t)block_cells(block);
    for (uint32_t cell = 0; cell < cells; cell++) {
        if (block_is_marked(block, cell)) {
            mark_read(marker, mark_object_piece(block, cell));
            mark_drain_stacks(marker);
        }
    }
}

static void mark_again(uint32_t block, void *data) {
    if (block_get(block)->rescan) {
        block_get(block)->rescan = 0;
        mark_read_block(data, block);
    }
}

void mark_drain(struct marker *marker) {
    mark_drain_stacks(marker);
    while (marker->overflowed) { // K5
        marker->overflowed = false;
        heap_each_block(mark_again, marker);
    }
    ASSERT(worklist_is_empty(&marker->list)); // K1
}

void mark_range(struct marker *marker, const uintptr_t *start,
                const uintptr_t *end) {
    mark_read(marker, (struct piece){start, end, 0, 0});
}

void mark_word(struct marker *marker, uintptr_t word) {
    if (!range_has(word)) {
        return;
    }
    if (!worklist_has_room(&marker->list, 1)) {
        mark_drain_words(marker);
    }
    marker->list.words[marker->list.word_count++] = word;
}

static void mark_pinned_block(uint32_t block, void *data) {
    struct marker *marker = data;
    if (ENTRY_KIND(block_entry(block)) != KIND_PINNED) {
        return;
    }
    uint32_t cells = (uint32_t)block_cells(block);
    for (uint32_t cell = 0; cell < cells; cell++) {
        if (block_is_marked(block, cell)) {
            struct piece piece = mark_object_piece(block, cell);
            marker->scanned_bytes +=
                (size_t)(piece.end - piece.from) * WORD_BYTES;
            mark_read(marker, piece);
        }
    }
}

void mark_pinned(struct marker *marker) {
    heap_each_block(mark_pinned_block, marker);
}
