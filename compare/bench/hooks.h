// hooks — the allocation functions that are handed to a library.
//
// They have the types of malloc, realloc, free and strdup.  With malloc they
// are those; with a collector hook_free does nothing: the library frees as it
// always did, and nobody listens.  Blocks may hold pointers, unless the library
// itself tells texts apart (hook_leaf).

#ifndef HOOKS_H
#define HOOKS_H

#include "measure.h"

#include <stdarg.h>

static inline void *hook_malloc(size_t bytes) {
    return mem_raw(bytes);
}

static inline void *hook_leaf(size_t bytes) {
    return mem_leaf(bytes);
}

static inline void *hook_realloc(void *p, size_t bytes) {
    return mem_resize(p, bytes);
}

static inline void hook_free(void *p) {
    shim_dead(p);
}

static inline char *hook_strdup(const char *text) {
    size_t bytes = strlen(text) + 1;
    return memcpy(mem_leaf(bytes), text, bytes);
}

// Text built before the clock starts, in memory of the system's own: a document
// to parse.  It holds no pointers, so nobody misses that it is not scanned.
struct hook_text {
    char *start;
    size_t bytes, room;
};

__attribute__((__format__(__printf__, 2, 3))) static inline void
hook_print(struct hook_text *text, const char *format, ...) {
    enum { PIECE_MAX = 512 };
    if (text->room - text->bytes < PIECE_MAX) {
        text->room = text->room * 2 + PIECE_MAX;
        text->start = realloc(text->start, text->room);
    }
    va_list values;
    va_start(values, format);
    int length =
        vsnprintf(text->start + text->bytes, PIECE_MAX, format, values);
    va_end(values);
    if (text->start == NULL || length < 0 || length >= PIECE_MAX) {
        abort();
    }
    text->bytes += (size_t)length;
}

static inline uint64_t hook_hash(const char *bytes, size_t count) {
    uint64_t hash = count;
    for (size_t at = 0; at < count; at++) {
        hash = (hash ^ (unsigned char)bytes[at]) * 0x100000001b3u;
    }
    return mix64(hash);
}

#endif
