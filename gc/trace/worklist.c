#include "trace/worklist.h"

#include "heap/meta.h"

// A mebibyte of words: deep enough that only strange graphs overflow it.
#define WORKLIST_WORDS  ((size_t)(LOAM_TINY ? 4 : 128 * 1024))
#define WORKLIST_PIECES ((size_t)(LOAM_TINY ? 2 : 4 * 1024))

bool worklist_init(struct worklist *list) {
    size_t words_bytes = WORKLIST_WORDS * sizeof *list->words;
    size_t pieces_bytes = WORKLIST_PIECES * sizeof *list->pieces;
    list->words = meta_make(words_bytes);
    list->pieces = meta_make(pieces_bytes);
    if (list->words == NULL || list->pieces == NULL) {
        meta_free(list->words, words_bytes);
        meta_free(list->pieces, pieces_bytes);
        return false;
    }
    list->word_count = list->piece_count = 0;
    list->word_capacity = WORKLIST_WORDS;
    list->piece_capacity = WORKLIST_PIECES;
    return true;
}
