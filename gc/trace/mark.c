#include "trace/mark.h"

#include <string.h>

#include "base/bits.h"
#include "base/check.h"
#include "heap/block.h"
#include "heap/blockmap.h"
#include "heap/heap.h"
#include "heap/layout.h"
#include "heap/range.h"
#include "trace/piece.h"

enum { MARK_BATCH = LOAM_TINY ? 2 : 16, MARK_LINE_BYTES = 64 };

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
    marker->packets = NULL;
    marker->overflowed = false;
    marker->object_count = 0;
    marker->scanned_bytes = 0;
}

// The block and cell of an object that was found before.
static struct place mark_place(const uintptr_t *object) {
    struct place place;
    bool found = blockmap_find((uintptr_t)object, &place);
    CHECK(found);
    return place;
}

// Lets the block that holds an object be read again.  The conductor may be
// doing so just now: then it begins anew when it has seen that this one marked.
static COLD void mark_overflow(struct marker *marker, const uintptr_t *object) {
    struct block *block = block_get(mark_place(object).block);
    __atomic_store_n(&block->rescan, 1, __ATOMIC_RELEASE);
    marker->overflowed = true;
    marker->overflow_count++;
    if (marker->packets != NULL) {
        __atomic_store_n(&marker->packets->overflowed, true, __ATOMIC_RELEASE);
    }
}

// An object of more than a piece: its words are counted anew, since those of a
// run may be more than 32 bits can say.
static NOINLINE void mark_scan_large(struct marker *marker,
                                     const uintptr_t *object) {
    struct place place = mark_place(object);
    struct piece piece = piece_of(place.block, place.cell);
    marker->scanned_bytes += place.bytes;
    if (!worklist_push_piece(&marker->list, piece)) {
        mark_overflow(marker, object);
    }
}

// Which loop it is: constant in each, so that the first asks no questions.
enum mark_way {
    MARK_ALONE,
    MARK_KEYED,  // ephemerons count
    MARK_FIRST,  // helpers mark beside it
    MARK_SECOND, // the one helper
    MARK_AMONG   // one of several
};

// Where a helper marks what has its mark at *pair.
static ALWAYS_INLINE uint64_t *mark_aside(const uint64_t *pair) {
    return &range.aside[(size_t)(pair - range.bits) / 2];
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
    if (UNLIKELY(count > PIECE_WORDS)) {
        mark_scan_large(marker, edge->words);
        return;
    }
    hot->scanned_words += count;
    if (UNLIKELY((size_t)(hot->end - hot->top) < count)) {
        mark_overflow(marker, edge->words);
    } else if (UNLIKELY(edge->layout != 0)) {
        uint32_t phase = 0;
        hot->top = piece_push_described(hot->top, layout_get(edge->layout),
                                        edge->words, count, &phase);
    } else {
        hot->top = piece_push_words(hot->top, edge->words, count);
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
                                       uintptr_t word, struct edge *edge,
                                       enum mark_way way) {
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
    if (way >= MARK_FIRST) {
        PREFETCH(mark_aside(pair));
    }
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
static ALWAYS_INLINE void mark_fill(struct mark_hot *hot, struct batch *batch,
                                    enum mark_way way) {
    size_t left = (size_t)(hot->top - hot->bottom);
    size_t count = left < MARK_BATCH ? left : MARK_BATCH;
    size_t filled = 0;
    for (size_t i = 0; i < count; i++) {
        filled += mark_resolve(hot, *--hot->top, &batch->edges[filled], way);
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

// Sets the mark of an object; false if it was set, or is of no object.
static ALWAYS_INLINE bool mark_set(const struct edge *edge, enum mark_way way) {
    uint64_t *aside = way >= MARK_FIRST ? mark_aside(edge->pair) : NULL;
    uint64_t mark = __atomic_load_n(&edge->pair[0], __ATOMIC_RELAXED);
    if (way >= MARK_FIRST) {
        mark |= __atomic_load_n(aside, __ATOMIC_RELAXED);
    }
    if ((edge->pair[1] & ~mark & edge->bit) == 0) { // K2, K3
        return false;
    }
    // Each word has one writer, or is or-ed to at once (K8).
    if (way == MARK_AMONG) {
        mark = __atomic_fetch_or(aside, edge->bit, __ATOMIC_RELAXED);
        return (mark & edge->bit) == 0;
    }
    uint64_t *mine = way == MARK_SECOND ? aside : &edge->pair[0];
    __atomic_store_n(mine, mark | edge->bit, __ATOMIC_RELAXED);
    return true;
}

// Marks an object if it is not marked yet, and reads it.
static ALWAYS_INLINE void mark_visit(struct marker *marker,
                                     struct mark_hot *hot,
                                     const struct edge *edge,
                                     enum mark_way way) {
    if (!mark_set(edge, way)) {
        return;
    }
    hot->object_count++;
    if (way == MARK_KEYED) {
        mark_tell(marker, edge);
    }
    if (edge->word_count != 0) {
        mark_scan(marker, hot, edge);
    }
}

static ALWAYS_INLINE void mark_finish(struct marker *marker,
                                      struct mark_hot *hot,
                                      const struct batch *batch,
                                      enum mark_way way) {
    size_t count = batch->count;
    for (size_t i = 0; i < count; i++) {
        mark_visit(marker, hot, &batch->edges[i], way);
    }
}

// Somebody has nothing to do: the oldest words go, half of them at most, and
// the newest take their place.
static NOINLINE void mark_share(struct marker *marker, struct mark_hot *hot) {
    size_t count = (size_t)(hot->top - hot->bottom);
    size_t half = count / 2 < PACKET_WORDS ? count / 2 : PACKET_WORDS;
    if (packets_put(marker->packets, hot->bottom, half)) {
        memcpy(hot->bottom, hot->top - half, half * sizeof *hot->bottom);
        hot->top -= half;
    }
}

// Empties the stack of words.
static ALWAYS_INLINE void mark_drain_loop(struct marker *marker,
                                          enum mark_way way) {
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
        size_t count = (size_t)(hot.top - hot.bottom);
        if (way >= MARK_FIRST && count >= PACKET_WORDS_LEAST &&
            UNLIKELY(packets_are_wanted(marker->packets, count))) {
            mark_share(marker, &hot);
        }
        mark_fill(&hot, &batches[0], way);
        mark_finish(marker, &hot, &batches[1], way);
        mark_fill(&hot, &batches[1], way);
        mark_finish(marker, &hot, &batches[0], way);
    } while (batches[1].count != 0 || hot.top != hot.bottom);
    list->word_count = 0;
    marker->object_count += hot.object_count;
    marker->scanned_bytes += hot.scanned_words * WORD_BYTES;
}

static NOINLINE void mark_drain_alone(struct marker *marker) {
    mark_drain_loop(marker, MARK_ALONE);
}

static NOINLINE void mark_drain_keyed(struct marker *marker) {
    mark_drain_loop(marker, MARK_KEYED);
}

static NOINLINE void mark_drain_first(struct marker *marker) {
    mark_drain_loop(marker, MARK_FIRST);
}

static NOINLINE void mark_drain_second(struct marker *marker) {
    mark_drain_loop(marker, MARK_SECOND);
}

static NOINLINE void mark_drain_among(struct marker *marker) {
    mark_drain_loop(marker, MARK_AMONG);
}

static void mark_drain_words(struct marker *marker) {
    if (UNLIKELY(marker->packets != NULL)) {
        if (!marker->helps) {
            mark_drain_first(marker);
        } else if (marker->packets->helpers == 1) {
            mark_drain_second(marker);
        } else {
            mark_drain_among(marker);
        }
    } else if (LIKELY(marker->ephemerons == NULL)) {
        mark_drain_alone(marker);
    } else {
        mark_drain_keyed(marker);
    }
}

// The words of [from, end) onto the stack, which is drained when it is full,
// and of a layout only those it names.
static void mark_read(struct marker *marker, struct piece piece) {
    struct worklist *list = &marker->list;
    size_t step = PIECE_WORDS;
    while (piece.from < piece.end) {
        size_t count = (size_t)(piece.end - piece.from);
        count = count < step ? count : step;
        if (!worklist_has_room(list, count)) {
            mark_drain_words(marker);
        }
        uintptr_t *top = list->words + list->word_count;
        if (piece.layout == 0) {
            top = piece_push_sparse(top, piece.from, count);
        } else {
            top = piece_push_described(top, layout_get(piece.layout),
                                       piece.from, count, &piece.phase);
        }
        list->word_count = (size_t)(top - list->words);
        piece.from += count;
    }
}

// The second half of a large piece, where somebody has nothing to do.
static void mark_share_piece(struct marker *marker, struct piece *piece) {
    size_t half = (size_t)(piece->end - piece->from) / 2;
    if (half >= PIECE_WORDS && packets_are_wanted(marker->packets, half)) {
        struct piece whole = *piece;
        if (!packets_put_piece(marker->packets, piece_cut(piece, half))) {
            *piece = whole;
        }
    }
}

// Both stacks empty, but for flagged blocks.
static void mark_drain_stacks(struct marker *marker) {
    struct worklist *list = &marker->list;
    mark_drain_words(marker);
    while (list->piece_count != 0) {
        struct piece part = worklist_pop_piece(list);
        if (marker->packets != NULL) {
            mark_share_piece(marker, &part);
        }
        if ((size_t)(part.end - part.from) > PIECE_WORDS) {
            // The rest goes back before what this part leads to is pushed on
            // top: there is room, for it was just popped.
            struct piece rest = piece_cut(&part, PIECE_WORDS);
            bool pushed = worklist_push_piece(list, rest);
            CHECK(pushed);
        }
        mark_read(marker, part);
        mark_drain_words(marker);
    }
}

// Whether a helper has marked a cell.
static bool mark_is_aside(uint32_t block, uint32_t cell) {
    uint64_t marks = __atomic_load_n(mark_aside(block_pair(block, cell / 64)),
                                     __ATOMIC_RELAXED);
    return (marks >> (cell % 64) & 1) != 0;
}

// Reads every marked object of a block, with the stacks drained in between: not
// after each object, for a batch is to be full, and there is to be room for
// what the objects lead to.
static void mark_read_block(struct marker *marker, uint32_t block) {
    uint32_t cells = (uint32_t)block_cells(block);
    for (uint32_t cell = 0; cell < cells; cell++) {
        if (block_is_marked(block, cell) ||
            (marker->packets != NULL && mark_is_aside(block, cell))) {
            mark_read(marker, piece_of(block, cell));
            if (marker->list.word_count >= marker->list.word_capacity / 4) {
                mark_drain_stacks(marker);
            }
        }
    }
    mark_drain_stacks(marker);
}

static void mark_again(uint32_t block, void *data) {
    uint8_t *rescan = &block_get(block)->rescan;
    if (__atomic_load_n(rescan, __ATOMIC_RELAXED) != 0) {
        (void)__atomic_exchange_n(rescan, 0, __ATOMIC_ACQ_REL);
        mark_read_block(data, block);
    }
}

// The stacks of all markers, and the packets.
static void mark_drain_everywhere(struct marker *marker) {
    mark_drain_stacks(marker);
    if (marker->packets != NULL) {
        while (packets_await(marker->packets, &marker->list)) {
            mark_drain_stacks(marker);
        }
        marker->overflowed |= __atomic_exchange_n(&marker->packets->overflowed,
                                                  false, __ATOMIC_ACQ_REL);
    }
}

// Until nothing is left but values of ephemerons.
static void mark_drain_all(struct marker *marker) {
    mark_drain_everywhere(marker);
    while (marker->overflowed) { // K5
        marker->overflowed = false;
        heap_each_block(mark_again, marker);
        mark_drain_everywhere(marker);
    }
    ASSERT(worklist_is_empty(&marker->list)); // K1
}

void mark_together(struct marker *marker, struct packets *packets,
                   size_t helpers) {
    ASSERT(marker->ephemerons == NULL && range.aside_in_use);
    packets_begin(packets, helpers);
    marker->packets = packets;
}

void mark_apart(struct marker *marker) {
    struct packets *packets = marker->packets;
    if (packets != NULL) {
        ASSERT(worklist_is_empty(&marker->list));
        packets_end(packets);
        marker->packets = NULL;
    }
}

void mark_fold(struct marker *marker, struct marker *helper) {
    marker->object_count += helper->object_count;
    marker->scanned_bytes += helper->scanned_bytes;
    marker->overflow_count += helper->overflow_count;
    helper->overflow_count = 0;
}

void mark_help(struct marker *marker, struct packets *packets) {
    marker->packets = packets;
    marker->helps = true;
    bool first = true;
    while (packets_seek(packets, &marker->list, first)) {
        mark_drain_stacks(marker);
        first = false;
    }
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
    ASSERT(worklist_is_empty(&marker->list) && marker->packets == NULL);
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
    struct piece piece = piece_of(place->block, place->cell);
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
            struct piece piece = piece_of(block, cell);
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
