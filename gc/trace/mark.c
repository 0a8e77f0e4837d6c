#include "trace/mark.h"

#include "base/bits.h"
#include "base/check.h"
#include "heap/block.h"
#include "heap/blockmap.h"
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
    marker->ephemerons = NULL;
    marker->overflowed = false;
    marker->object_count = 0;
    marker->scanned_bytes = 0;
}

// Pushes the words of [words, words + count) that lie below the frontier at
// `top`, where there is room for all, and returns the new top.  No branch
// depends on what is read.
static inline NO_SANITIZE uintptr_t *
mark_push_words(uintptr_t *top, const uintptr_t *words, size_t count) {
    uintptr_t base = range.base;
    size_t frontier = range.frontier_bytes;
    const uintptr_t *end = words + count;
    // Two at a time: a cell has an even number of words, only a root may not.
    if (count % 2 != 0) {
        uintptr_t word = *words++;
        *top = word;
        top += word - base < frontier;
    }
    for (; words < end; words += 2) {
        uintptr_t first = words[0];
        uintptr_t second = words[1];
        *top = first;
        top += first - base < frontier;
        *top = second;
        top += second - base < frontier;
    }
    return top;
}

// The same for roots and large arrays, where most words are no pointers: four
// are turned away together.
static inline NO_SANITIZE uintptr_t *
mark_push_sparse(uintptr_t *top, const uintptr_t *words, size_t count) {
    uintptr_t base = range.base;
    size_t frontier = range.frontier_bytes;
    const uintptr_t *end = words + count;
    for (; end - words >= 4; words += 4) {
        bool any = (words[0] - base < frontier) | (words[1] - base < frontier) |
                   (words[2] - base < frontier) | (words[3] - base < frontier);
        if (UNLIKELY(any)) {
            top = mark_push_words(top, words, 4);
        }
    }
    return mark_push_words(top, words, (size_t)(end - words));
}

// The same for the words that a layout names, beginning with word *phase of an
// element; *phase becomes that of the word behind them.
static NO_SANITIZE uintptr_t *
mark_push_described(uintptr_t *top, const struct layout *layout,
                    const uintptr_t *words, size_t count, uint32_t *phase) {
    for (size_t i = 0; i < count; i++) {
        uint64_t bits = layout->pointer_bits[*phase / 64];
        *top = words[i];
        top += ((bits >> (*phase % 64)) & 1) & range_has(words[i]);
        *phase = *phase + 1 == layout->element_words ? 0 : *phase + 1;
    }
    return top;
}

// The words of a marked object, as its block says.
static struct piece mark_object_piece(uint32_t block, uint32_t cell) {
    const uintptr_t *from = (const uintptr_t *)block_cell_address(block, cell);
    struct piece piece = {from, from + block_cell_bytes(block) / WORD_BYTES, 0,
                          0};
    unsigned kind = ENTRY_KIND(block_entry(block));
    if (!block_kind_is_read(kind)) {
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

// What the loop below would otherwise load anew after every store: to the
// compiler a word that is pushed might be any of them.
struct mark_hot {
    uintptr_t base;          // of the range
    const uint16_t *entries; // its tables
    uint64_t *bits;          //
    uintptr_t *bottom;       // of the stack of words
    uintptr_t *top;          // above the last word
    uintptr_t *end;          // of its room
    size_t object_count;     // marked here
    size_t scanned_words;    // read here
};

// Reads an object that was just marked.
static ALWAYS_INLINE void mark_scan(struct marker *marker, struct mark_hot *hot,
                                    const struct edge *edge) {
    size_t count = edge->word_count;
    if (UNLIKELY(count > MARK_PIECE_WORDS)) {
        mark_scan_large(marker, edge->words);
        return;
    }
    hot->scanned_words += count;
    if (UNLIKELY((size_t)(hot->end - hot->top) < count)) {
        mark_overflow(marker, edge->words);
    } else if (UNLIKELY(edge->layout != 0)) {
        uint32_t phase = 0;
        hot->top = mark_push_described(hot->top, layout_get(edge->layout),
                                       edge->words, count, &phase);
    } else {
        hot->top = mark_push_words(hot->top, edge->words, count);
    }
}

// Runs, later blocks of a span, and cells whose words or pointers count
// differently.
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
    if (!block_kind_is_read(place.kind)) {
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
static ALWAYS_INLINE bool mark_resolve(const struct mark_hot *hot,
                                       uintptr_t word, struct edge *edge) {
    uintptr_t offset = word - hot->base;
    size_t block = offset >> BLOCK_SHIFT;
    unsigned entry = hot->entries[block];
    if (UNLIKELY(entry & ENTRY_LOOK_CLOSER)) {
        if (!mark_look_closer(word, edge)) {
            return false;
        }
        PREFETCH(edge->pair);
        PREFETCH(edge->words);
        return true;
    }
    // As blockmap_find does it, but for the index in a span, which is 0 here.
    const struct sizeclass *sizeclass = &sizeclass_table[ENTRY_CLASS(entry)];
    size_t bytes = sizeclass->bytes;
    uint64_t inside = (offset & (BLOCK_BYTES - 1)) - ENTRY_SHIFT(entry);
    uint64_t cell = inside * sizeclass->reciprocal >> 40;
    uint64_t *pair = &hot->bits[block * BITS_WORDS_PER_BLOCK + cell / 64 * 2];
    uintptr_t start = word - inside + cell * bytes;
    // A leaf is marked and not read: its lines stay where they are.
    size_t read = block_kind_is_read(ENTRY_KIND(entry)) ? bytes : 0;
    uintptr_t first = read == 0 ? (uintptr_t)pair : start;
    size_t reach =
        read <= MARK_LINE_BYTES ? read - (read != 0) : MARK_LINE_BYTES;
    PREFETCH(pair);
    PREFETCH((const void *)first);
    PREFETCH((const void *)(first + reach)); // the second line, if it has one
    edge->pair = pair;
    edge->bit = (uint64_t)1 << (cell % 64);
    edge->words = (const uintptr_t *)start;
    edge->word_count = (uint32_t)(read / WORD_BYTES);
    edge->layout = 0;
    return cell < sizeclass->cells;
}

// Fills a batch from the top of the stack.
static ALWAYS_INLINE void mark_fill(struct mark_hot *hot, struct batch *batch) {
    size_t left = (size_t)(hot->top - hot->bottom);
    size_t count = left < MARK_BATCH ? left : MARK_BATCH;
    size_t filled = 0;
    for (size_t i = 0; i < count; i++) {
        filled += mark_resolve(hot, *--hot->top, &batch->edges[filled]);
    }
    batch->count = filled;
}

// An object was marked while ephemerons count: it may be a key, or one of them.
static NOINLINE void mark_tell(struct marker *marker, const struct edge *edge) {
    size_t index = (size_t)(edge->pair - range.bits);
    size_t word = index % BITS_WORDS_PER_BLOCK / 2;
    ephemeron_marked(marker->ephemerons,
                     (uint32_t)(index / BITS_WORDS_PER_BLOCK),
                     (uint32_t)(word * 64 + bits_lowest(edge->bit)));
}

// Marks an object if it is not marked yet, and reads it.  `keyed` is constant:
// the loop that knows no ephemerons does not ask about them.
static ALWAYS_INLINE void mark_visit(struct marker *marker,
                                     struct mark_hot *hot,
                                     const struct edge *edge, bool keyed) {
    uint64_t mark = edge->pair[0];
    if ((edge->pair[1] & ~mark & edge->bit) == 0) { // K2, K3
        return;
    }
    edge->pair[0] = mark | edge->bit;
    hot->object_count++;
    if (keyed) {
        mark_tell(marker, edge);
    }
    if (edge->word_count != 0) {
        mark_scan(marker, hot, edge);
    }
}

static ALWAYS_INLINE void mark_finish(struct marker *marker,
                                      struct mark_hot *hot,
                                      const struct batch *batch, bool keyed) {
    size_t count = batch->count;
    for (size_t i = 0; i < count; i++) {
        mark_visit(marker, hot, &batch->edges[i], keyed);
    }
}

// Empties the stack of words.
static ALWAYS_INLINE void mark_drain_loop(struct marker *marker, bool keyed) {
    struct worklist *list = &marker->list;
    struct mark_hot hot = {.base = range.base,
                           .entries = range.entries,
                           .bits = range.bits,
                           .bottom = list->words,
                           .top = list->words + list->word_count,
                           .end = list->words + list->word_capacity};
    struct batch batches[2];
    batches[0].count = batches[1].count = 0;
    do {
        mark_fill(&hot, &batches[0]);
        mark_finish(marker, &hot, &batches[1], keyed);
        mark_fill(&hot, &batches[1]);
        mark_finish(marker, &hot, &batches[0], keyed);
    } while (batches[1].count != 0 || hot.top != hot.bottom);
    list->word_count = 0;
    marker->object_count += hot.object_count;
    marker->scanned_bytes += hot.scanned_words * WORD_BYTES;
}

static NOINLINE void mark_drain_plain(struct marker *marker) {
    mark_drain_loop(marker, false);
}

static NOINLINE void mark_drain_keyed(struct marker *marker) {
    mark_drain_loop(marker, true);
}

static void mark_drain_words(struct marker *marker) {
    if (LIKELY(marker->ephemerons == NULL)) {
        mark_drain_plain(marker);
    } else {
        mark_drain_keyed(marker);
    }
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
        uintptr_t *top = list->words + list->word_count;
        if (piece.layout == 0) {
            top = mark_push_sparse(top, piece.from, count);
        } else {
            top = mark_push_described(top, layout_get(piece.layout), piece.from,
                                      count, &piece.phase);
        }
        list->word_count = (size_t)(top - list->words);
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

// Until nothing is left but values of ephemerons.
static void mark_drain_all(struct marker *marker) {
    mark_drain_stacks(marker);
    while (marker->overflowed) { // K5
        marker->overflowed = false;
        heap_each_block(mark_again, marker);
    }
    ASSERT(worklist_is_empty(&marker->list)); // K1
}

void mark_drain(struct marker *marker) {
    mark_drain_all(marker);
    if (marker->ephemerons == NULL) {
        return;
    }
    uintptr_t value;
    while (ephemeron_take(marker->ephemerons, &value)) { // K7
        do {
            mark_word(marker, value);
        } while (ephemeron_take(marker->ephemerons, &value));
        mark_drain_all(marker);
    }
}

void mark_ephemerons(struct marker *marker, struct ephemerons *ephemerons) {
    ASSERT(worklist_is_empty(&marker->list));
    marker->ephemerons = ephemerons;
    ephemeron_begin(ephemerons);
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

// The first word of a piece that leads into [start, start + bytes), or its end.
static NO_SANITIZE const uintptr_t *mark_find_self(const uintptr_t *from,
                                                   const struct place *place,
                                                   const uintptr_t *end) {
    while (from < end && *from - place->start >= place->bytes) {
        from++;
    }
    return from;
}

void mark_inside(struct marker *marker, const struct place *place, bool self) {
    struct piece piece = mark_object_piece(place->block, place->cell);
    const uintptr_t *first = piece.from;
    uint32_t words = 1;
    if (piece.layout != 0) {
        words = (uint32_t)layout_get(piece.layout)->element_words;
    }
    while (piece.from < piece.end) {
        struct piece part = piece;
        part.phase = (uint32_t)((size_t)(piece.from - first) % words);
        if (!self) {
            part.end = mark_find_self(piece.from, place, piece.end);
        }
        mark_read(marker, part);
        piece.from = part.end + 1;
    }
}

struct mark_call {
    struct marker *marker;
    const struct heap *heap;
};

// Reads every object of a block that is marked.
static void mark_read_marked(struct marker *marker, uint32_t block) {
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

static void mark_pinned_block(uint32_t block, void *data) {
    const struct mark_call *call = data;
    if (ENTRY_KIND(block_entry(block)) == KIND_PINNED &&
        block_get(block)->heap == call->heap->slot) {
        mark_read_marked(call->marker, block);
    }
}

void mark_pinned(struct marker *marker, const struct heap *heap) {
    struct mark_call call = {marker, heap};
    heap_each_block(mark_pinned_block, &call);
}

static void mark_heap_block(uint32_t block, void *data) {
    const struct mark_call *call = data;
    if (block_get(block)->heap == call->heap->slot) {
        mark_read_marked(call->marker, block);
    }
}

void mark_heap(struct marker *marker, const struct heap *heap) {
    struct mark_call call = {marker, heap};
    heap_each_block(mark_heap_block, &call);
}
