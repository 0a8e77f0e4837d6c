#include "heap/meta.h"

#include <string.h>

#include "base/bits.h"
#include "base/check.h"
#include "os/holding.h"
#include "os/memory.h"

#define META_PIECE_BYTES_MAX (META_MAP_BYTES / 2)
#define META_LISTS           16 // by log2: the last holds pieces of the most

// A piece that waits: its first word leads to the next.
struct meta_piece {
    struct meta_piece *next;
};

static struct {
    struct meta_piece *waiting[META_LISTS]; // by log2 of the size
    char *bump, *limit;                     // the rest of the last mapping
    size_t mapped_bytes;
} meta;

static void *meta_map(size_t bytes) {
    void *at = memory_reserve(bytes, memory_page_bytes(), 0);
    if (at == NULL) {
        return NULL;
    }
    if (!memory_commit(at, bytes)) {
        memory_release(at, bytes);
        return NULL;
    }
    memory_name(at, bytes, "loam meta");
    meta.mapped_bytes += bytes;
    return at;
}

static size_t meta_round(size_t bytes) {
    return (size_t)1 << bits_log2_ceil(bytes < 16 ? 16 : bytes);
}

_Static_assert(META_PIECE_BYTES_MAX == (size_t)1 << (META_LISTS - 1),
               "every piece has a list");

void *meta_make(size_t bytes) {
    ASSERT(bytes > 0);
    if (bytes > SIZE_MAX - memory_page_bytes()) {
        return NULL; // M3: the rounding below would overflow
    }
    if (bytes > META_PIECE_BYTES_MAX) {
        return meta_map(bits_round_up(bytes, memory_page_bytes()));
    }
    size_t size = meta_round(bytes);
    struct meta_piece **list = &meta.waiting[bits_log2_floor(size)];
    struct meta_piece *piece = *list;
    if (piece != NULL) {
        *list = piece->next;
        memset(piece, 0, size);
        return piece;
    }
    if ((size_t)(meta.limit - meta.bump) < size) {
        // What is left of the old mapping is lost: less than one piece.
        char *at = meta_map(META_MAP_BYTES);
        if (at == NULL) {
            return NULL;
        }
        meta.bump = at;
        meta.limit = at + META_MAP_BYTES;
    }
    void *at = meta.bump;
    meta.bump += size;
    return at;
}

void meta_free(void *piece, size_t bytes) {
    if (piece == NULL) {
        return;
    }
    if (bytes > META_PIECE_BYTES_MAX) {
        size_t size = bits_round_up(bytes, memory_page_bytes());
        memory_release(piece, size);
        meta.mapped_bytes -= size;
        return;
    }
    struct meta_piece *free_piece = piece;
    struct meta_piece **list =
        &meta.waiting[bits_log2_floor(meta_round(bytes))];
    free_piece->next = *list;
    *list = free_piece;
}

void meta_forked(void) {
    holding_forked();
    memset(meta.waiting, 0, sizeof meta.waiting);
    meta.bump = meta.limit = NULL;
}

void meta_count(size_t bytes) {
    meta.mapped_bytes += bytes;
}

size_t meta_bytes(void) {
    return meta.mapped_bytes;
}
