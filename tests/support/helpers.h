// helpers — threads that mark beside a test's marker.
//
// Unit tests of the marker have no world that could stop threads and ask them
// to help.  Here some are begun that help whenever a test marks: as often as
// they are called, and now and then without having been, or not at all.
//
// For tests that link modules of gc/; header only, since the archive of what
// tests share knows nothing of gc/.

#ifndef SUPPORT_HELPERS_H
#define SUPPORT_HELPERS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "heap/block.h"
#include "heap/range.h"
#include "trace/mark.h"

#define HELPERS_MAX 4

static struct {
    struct packets *packets;
    struct marker markers[HELPERS_MAX];
    size_t count;
    atomic_uint round;  // odd: marking; may be joined
    atomic_size_t used; // helpers that may: one and all in turn
    atomic_uint inside; // helpers in mark_help, or about to look
    atomic_uint joins;  // ever
} helpers;

static inline void *helpers_work(void *data) {
    struct marker *marker = data;
    for (unsigned turn = 0;; turn++) {
        atomic_fetch_add(&helpers.inside, 1);
        if (atomic_load(&helpers.round) % 2 == 1 &&
            (size_t)(marker - helpers.markers) < atomic_load(&helpers.used)) {
            atomic_fetch_add(&helpers.joins, 1);
            mark_help(marker, helpers.packets);
        }
        atomic_fetch_sub(&helpers.inside, 1);
        struct timespec rest = {0, (long)(turn * 7919 % 50000)};
        (void)nanosleep(&rest, NULL);
    }
    return NULL;
}

// Begins `count` threads; false when something is refused.
static inline bool helpers_init(size_t count, size_t word_capacity) {
    helpers.packets = calloc(1, sizeof *helpers.packets);
    if (helpers.packets == NULL || !range_use_aside()) {
        return false;
    }
    for (; helpers.count < count; helpers.count++) {
        struct marker *marker = &helpers.markers[helpers.count];
        pthread_t thread;
        if (!mark_init(marker)) {
            return false;
        }
        if (word_capacity < marker->list.word_capacity) {
            marker->list.word_capacity = word_capacity;
        }
        if (pthread_create(&thread, NULL, helpers_work, marker) != 0) {
            return false;
        }
    }
    return true;
}

static inline void helpers_begin(struct marker *marker) {
    if (helpers.count != 0) {
        for (size_t i = 0; i < helpers.count; i++) {
            mark_begin(&helpers.markers[i]);
        }
        bool all = atomic_load(&helpers.round) / 2 % 2 != 0;
        atomic_store(&helpers.used, all ? helpers.count : 1);
        mark_together(marker, helpers.packets, all ? helpers.count : 1);
        atomic_fetch_add(&helpers.round, 1);
    }
}

// The marker is drained.  What helpers marked joins what it marked.
static inline void helpers_end(struct marker *marker) {
    if (helpers.count == 0) {
        return;
    }
    mark_apart(marker);
    atomic_fetch_add(&helpers.round, 1);
    while (atomic_load(&helpers.inside) != 0) {
        struct timespec rest = {0, 1000};
        (void)nanosleep(&rest, NULL);
    }
    for (size_t i = 0; i < helpers.count; i++) {
        mark_fold(marker, &helpers.markers[i]);
    }
    for (uint32_t block = 0; block < range_block_count(); block++) {
        uint64_t *aside = &range.aside[block * ASIDE_WORDS_PER_BLOCK];
        for (uint32_t i = 0; i < ASIDE_WORDS_PER_BLOCK; i++) {
            *block_pair(block, i) |= aside[i];
            aside[i] = 0;
        }
    }
}

#endif
