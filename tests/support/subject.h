// subject — the collector under test, as a table of functions.
//
// The oracle and random programs drive a collector through this table, so that
// the same random program runs on Loam and on the small collector.

#ifndef SUPPORT_SUBJECT_H
#define SUPPORT_SUBJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct subject {
    const char *name;
    void *(*alloc)(size_t bytes);
    void *(*alloc_leaf)(size_t bytes);
    void *(*alloc_pinned)(size_t bytes);
    void *(*alloc_leaf_pinned)(size_t bytes);
    void *(*alloc_base_only)(size_t bytes);
    void *(*alloc_aligned)(size_t alignment, size_t bytes);
    const void *(*layout)(size_t bytes, const size_t *offsets, size_t count);
    void *(*alloc_typed)(const void *layout, size_t count);
    void *(*realloc)(void *p, size_t bytes);
    void (*free)(void *p);
    size_t (*usable_size)(const void *p);
    void *(*base)(const void *p);
    bool (*roots_add)(const void *start, size_t bytes);
    bool (*roots_remove)(const void *start, size_t bytes);
    void (*collect)(void);
    void (*disable)(void);
    void (*enable)(void);
    bool (*set_limit)(size_t bytes);
    uint64_t (*live_objects)(void); // after the last collection
    uint64_t (*neighbours)(void);   // kept by the last one: loam_stats
    uint64_t (*collections)(void);  // completed
};

extern const struct subject subject_loam;
extern const struct subject subject_small;

#endif
