#include "trace/worklist.h"

#include "base/bits.h"
#include "heap/meta.h"
#include "os/memory.h"

// In the tiny build the stacks overflow all the time, and never grow.
#define WORKLIST_WORDS_FIRST ((size_t)(LOAM_TINY ? 4 : 8 * 1024))
#define WORKLIST_PIECES      ((size_t)(LOAM_TINY ? 2 : 1024))
#define WORKLIST_BYTES_MAX   ((size_t)(LOAM_TINY ? 0 : 32 * MiB))
#define WORKLIST_HEAP_SHARE  512 // bytes of heap for one of the stack of words

// The stack of words, with address space to grow into or without.
static bool worklist_map_words(struct worklist *list) {
    size_t first_bytes = WORKLIST_WORDS_FIRST * sizeof *list->words;
    list->word_capacity = WORKLIST_WORDS_FIRST;
    list->word_reserved = WORKLIST_BYTES_MAX;
    if (list->word_reserved != 0) {
        list->words =
            memory_reserve(list->word_reserved, memory_page_bytes(), 0);
        if (list->words != NULL) {
            if (memory_commit(list->words, first_bytes)) {
                meta_count(first_bytes);
                memory_name(list->words, list->word_reserved, "loam stack");
                return true;
            }
            memory_release(list->words, list->word_reserved);
        }
    }
    list->word_reserved = 0;
    list->words = meta_make(first_bytes);
    return list->words != NULL;
}

bool worklist_init(struct worklist *list) {
    list->word_count = list->piece_count = 0;
    list->piece_capacity = WORKLIST_PIECES;
    list->pieces = meta_make(WORKLIST_PIECES * sizeof *list->pieces);
    if (list->pieces == NULL) {
        return false;
    }
    if (!worklist_map_words(list)) {
        meta_free(list->pieces, WORKLIST_PIECES * sizeof *list->pieces);
        return false;
    }
    return true;
}

void worklist_grow(struct worklist *list, size_t heap_bytes,
                   size_t spare_bytes) {
    size_t now_bytes = list->word_capacity * sizeof *list->words;
    size_t want_bytes =
        bits_round_up(heap_bytes / WORKLIST_HEAP_SHARE, memory_page_bytes());
    if (want_bytes > list->word_reserved) {
        want_bytes = list->word_reserved;
    }
    if (want_bytes > now_bytes && want_bytes - now_bytes <= spare_bytes &&
        memory_commit((char *)list->words + now_bytes,
                      want_bytes - now_bytes)) {
        list->word_capacity = want_bytes / sizeof *list->words;
        meta_count(want_bytes - now_bytes);
    }
}

void worklist_fit(struct worklist *list, size_t most_bytes) {
    size_t has_bytes = list->word_capacity * sizeof *list->words;
    size_t kept = most_bytes > has_bytes ? most_bytes : has_bytes;
    if (kept < list->word_reserved) {
        kept = bits_round_up(kept, memory_page_bytes());
        memory_release((char *)list->words + kept, list->word_reserved - kept);
        list->word_reserved = kept;
    }
}
