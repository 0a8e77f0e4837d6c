#include "collect/lost.h"

#include "base/bits.h"
#include "heap/block.h"
#include "heap/blockmap.h"
#include "heap/range.h"
#include "os/foreign.h"
#include "os/mapping.h"
#include "os/memory.h"

struct lost_walk {
    struct heap *heap;
    struct marker *marker;
    struct lost_tally *tally;
    size_t waiting_bytes;
    size_t *read_bytes;
    bool all; // that may lead to the lost was read
};

typedef void lost_visit(const struct place *place, struct lost_walk *walk);

static bool lost_is_here(uint32_t block, const struct lost_walk *walk) {
    return block_get(block)->heap == walk->heap->slot && block_is_sought(block);
}

// Visits the cells of a block whose bits are set in `bits` of a word.
static void lost_each_bit(uint32_t block, size_t word, uint64_t bits,
                          lost_visit *visit, struct lost_walk *walk) {
    struct place place = {
        .block = block, .kind = KIND_PINNED, .bytes = block_cell_bytes(block)};
    for (; bits != 0; bits &= bits - 1) {
        place.cell = (uint32_t)(word * 64 + (size_t)bits_lowest(bits));
        place.start = block_first(block) + place.cell * place.bytes;
        visit(&place, walk);
    }
}

// Visits the lost cells of a block.
static void lost_each(uint32_t block, lost_visit *visit,
                      struct lost_walk *walk) {
    size_t words = block_words(block);
    for (size_t word = 0; word < words; word++) {
        const uint64_t *pair = block_pair(block, word);
        lost_each_bit(block, word, pair[1] & ~pair[0], visit, walk);
    }
}

static void lost_mark(const struct place *place, struct lost_walk *walk) {
    mark_word(walk->marker, place->start);
}

// --- Told ------------------------------------------------------------------

// Whether the object was allocated by whoever is not to be told of.
static bool lost_is_spared(const struct place *place,
                           const struct lost_tally *tally) {
    size_t bytes;
    uint32_t id;
    if (!origin_read(place, &bytes, &id)) {
        return true; // the program pinned it by itself, or asked for that
    }
    return origin_code(id) - tally->spared_start <
           tally->spared_end - tally->spared_start;
}

// LO1
static void lost_keep(const struct place *place, struct lost_walk *walk) {
    if (lost_is_spared(place, walk->tally)) {
        mark_word(walk->marker, place->start);
    }
}

static void lost_keep_block(uint32_t block, void *data) {
    struct lost_walk *walk = data;
    if (lost_is_here(block, walk)) {
        size_t words = block_words(block);
        for (size_t word = 0; word < words; word++) {
            block_age(block, word)[0] = 0;
        }
        lost_each(block, lost_keep, walk);
    }
}

// Whether a word leads into a lost object.
static bool lost_find(uintptr_t word, struct place *place) {
    return range_has(word) && blockmap_object(word, place) != NULL &&
           place->kind == KIND_PINNED &&
           !block_is_marked(place->block, place->cell);
}

// LO3
static NO_SANITIZE void lost_lead(const struct place *place,
                                  struct lost_walk *walk) {
    const uintptr_t *word = (const uintptr_t *)place->start;
    const uintptr_t *end = word + place->bytes / WORD_BYTES;
    for (; word < end; word++) {
        struct place other;
        if (lost_find(*word, &other) && other.start != place->start &&
            block_get(other.block)->heap == walk->heap->slot) {
            block_age(other.block, other.cell / 64)[0] |= (uint64_t)1
                                                          << (other.cell % 64);
        }
    }
}

static void lost_lead_block(uint32_t block, void *data) {
    struct lost_walk *walk = data;
    if (lost_is_here(block, walk)) {
        lost_each(block, lost_lead, walk);
    }
}

static void lost_add(struct origin_sum *sum, size_t bytes) {
    sum->bytes += bytes;
    sum->objects++;
}

static void lost_count(const struct place *place, struct lost_walk *walk) {
    size_t bytes;
    uint32_t id;
    (void)origin_read(place, &bytes, &id);
    uint64_t led = block_age(place->block, place->cell / 64)[0];
    bool indirect = (led >> (place->cell % 64)) & 1;
    struct origin *origin = origin_settle(id);
    if (origin != NULL) {
        lost_add(indirect ? &origin->indirect : &origin->direct, bytes);
    }
    lost_add(indirect ? &walk->tally->indirect : &walk->tally->direct,
             bytes); // LO2
}

static void lost_count_block(uint32_t block, void *data) {
    struct lost_walk *walk = data;
    if (lost_is_here(block, walk)) {
        lost_each(block, lost_count, walk);
    }
}

static void lost_mark_block(uint32_t block, void *data) {
    struct lost_walk *walk = data;
    if (lost_is_here(block, walk)) {
        lost_each(block, lost_mark, walk);
    }
}

// What of it can be read: it may be shut, or gone.
static void lost_read_region(const struct lost_region *region,
                             struct marker *marker) {
    uintptr_t words[512];
    uintptr_t at = (region->start + WORD_BYTES - 1) & ~(WORD_BYTES - 1);
    while (at < region->end) {
        size_t wanted = region->end - at;
        wanted = wanted < sizeof words ? wanted : sizeof words;
        size_t bytes = mapping_copy(words, at, wanted);
        mark_range(marker, words, words + bytes / WORD_BYTES);
        at =
            bytes == wanted ? at + bytes : (at | (memory_page_bytes() - 1)) + 1;
    }
}

static void lost_clear_sums(void) {
    for (uint32_t id = 1; id <= origin_count(); id++) {
        struct origin *origin = origin_get(id);
        origin->direct = origin->indirect = (struct origin_sum){0, 0};
    }
}

void lost_report(struct heap *heap, struct marker *marker,
                 struct lost_tally *tally) {
    struct lost_walk walk = {.heap = heap, .marker = marker, .tally = tally};
    tally->direct = tally->indirect = (struct origin_sum){0, 0};
    lost_clear_sums();
    for (size_t i = 0; i < tally->region_count; i++) {
        lost_read_region(&tally->regions[i], marker);
    }
    heap_each_block(lost_keep_block, &walk);
    mark_drain(marker);
    heap_each_block(lost_lead_block, &walk);
    heap_each_block(lost_count_block, &walk);
    heap_each_block(lost_mark_block, &walk);
    mark_drain(marker);
}

// --- Older -----------------------------------------------------------------

// One cycle more for the lost, none for the others.
static void lost_age_block(uint32_t block, void *data) {
    struct lost_walk *walk = data;
    if (!lost_is_here(block, walk)) {
        return;
    }
    size_t words = block_words(block);
    for (size_t word = 0; word < words; word++) {
        const uint64_t *pair = block_pair(block, word);
        uint64_t *age = block_age(block, word);
        uint64_t lost = pair[1] & ~pair[0];
        uint64_t low = age[0] & lost;
        uint64_t high = age[1] & lost;
        age[0] = lost & (~low | high); // 0 1 2 3 -> 1 2 3 3
        age[1] = lost & (low | high);
    }
}

// Those that have not waited long enough.
static void lost_stay_block(uint32_t block, void *data) {
    struct lost_walk *walk = data;
    if (!lost_is_here(block, walk)) {
        return;
    }
    size_t words = block_words(block);
    for (size_t word = 0; word < words; word++) {
        const uint64_t *pair = block_pair(block, word);
        const uint64_t *age = block_age(block, word);
        uint64_t stays =
            pair[1] & ~pair[0] & ~(walk->all ? age[0] & age[1] : 0); // LO4
        walk->waiting_bytes +=
            (size_t)bits_count(stays) * block_cell_bytes(block);
        lost_each_bit(block, word, stays, lost_mark, walk);
    }
}

// What other libraries have mapped for themselves may lead to malloc's cells.
static void lost_foreign(const uintptr_t *start, const uintptr_t *end,
                         void *data) {
    struct lost_walk *walk = data;
    *walk->read_bytes += (size_t)(end - start) * WORD_BYTES;
    mark_range(walk->marker, start, end);
}

size_t lost_age(struct heap *heap, struct marker *marker, size_t *read_bytes) {
    struct lost_walk walk = {
        .heap = heap, .marker = marker, .read_bytes = read_bytes};
    walk.all = foreign_each(NULL, 0, lost_foreign, &walk);
    mark_drain(marker);
    if (walk.all) {
        heap_each_block(lost_age_block, &walk);
    }
    heap_each_block(lost_stay_block, &walk);
    mark_drain(marker);
    return walk.waiting_bytes;
}

void lost_renew(const struct place *place) {
    uint64_t *age = block_age(place->block, place->cell / 64);
    uint64_t bit = (uint64_t)1 << (place->cell % 64);
    for (size_t i = 0; i < 2; i++) {
        if ((__atomic_load_n(&age[i], __ATOMIC_RELAXED) & bit) != 0) {
            __atomic_fetch_and(&age[i], ~bit, __ATOMIC_RELAXED);
        }
    }
}
