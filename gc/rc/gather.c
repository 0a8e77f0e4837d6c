#include "rc/gather.h"

#include "base/bits.h"
#include "base/check.h"
#include "heap/block.h"
#include "heap/blockmap.h"

// Frees the cells of one word.
static void gather_out(struct gather *gather, struct gather_word *word) {
    uint32_t empty =
        cache_free_cells(word->cache, word->block, word->word, word->bits);
    word->bits = 0;
    word->reach_bytes = 0;
    gather->pending &= ~((uint32_t)1 << (word - gather->words));
    if (UNLIKELY(empty != BLOCK_NONE)) {
        gather->empties[gather->empty_count++] = empty;
    }
}

void gather_settle_all(struct gather *gather) {
    while (gather->pending != 0) {
        gather_out(gather, &gather->words[bits_lowest(gather->pending)]);
    }
    while (gather->empty_count != 0) { // GA2
        uint32_t block = gather->empties[--gather->empty_count];
        gather->doors->release(gather->mutator, block);
    }
}

void gather_alone(struct gather *gather, void *object) {
    uintptr_t at = (uintptr_t)counted_of(object);
    struct place place;
    bool found = blockmap_find(at, &place);
    CHECK(found);
    struct cache *cache = gather->doors->find(gather->mutator, place.block);
    if (UNLIKELY(cache == NULL || gather->empty_count >= GATHER_WORDS)) {
        gather_cell(gather, object);
        return;
    }
    uint32_t empty = cache_free(cache, &place);
    counted_set_head(object, 0); // GA1
    if (UNLIKELY(empty != BLOCK_NONE)) {
        gather->empties[gather->empty_count++] = empty;
    }
}

void gather_cell_of_other(struct gather *gather, void *object) {
    uintptr_t at = (uintptr_t)counted_of(object);
    struct gather_word *word = gather_find(gather, at);
    struct place place;
    bool found = blockmap_find(at, &place);
    CHECK(found);
    struct cache *cache = gather->doors->find(gather->mutator, place.block);
    if (UNLIKELY(cache == NULL)) {
        gather_settle(gather); // GA2
        gather->doors->free_slowly(gather->mutator, object);
        return;
    }
    if (word->reach_bytes != 0) {
        gather_out(gather, word);
        if (UNLIKELY(gather->empty_count >= GATHER_WORDS)) {
            gather_settle(gather); // each word kept may leave another
        }
    }
    uint32_t number = place.cell / 64;
    size_t cells = block_cells(place.block) - (size_t)number * 64;
    *word = (struct gather_word){
        .start = place.start - (place.cell % 64) * place.bytes,
        .reach_bytes = (cells < 64 ? cells : 64) * place.bytes, // GA5
        .reciprocal = block_class(place.block)->reciprocal,
        .bits = (uint64_t)1 << (place.cell % 64),
        .cache = cache,
        .block = place.block,
        .word = number};
    gather->pending |= (uint32_t)1 << (word - gather->words);
    counted_set_head(object, 0); // GA1
}

// What was gathered of the word before was dead, and nothing weak led there.
void gather_cell_of_many(struct gather *gather, void *object) {
    uintptr_t at = (uintptr_t)counted_of(object);
    const struct gather_word *word = gather_find(gather, at);
    if (UNLIKELY(at - word->start < word->reach_bytes &&
                 (block_flags(word->block) & BLOCK_WATCHED))) {
        gather_settle(gather);
        gather->doors->free_slowly(gather->mutator, object); // GA4
        return;
    }
    gather_cell(gather, object);
}
