#include "collect/help.h"

#include "base/bits.h"
#include "heap/block.h"
#include "heap/heap.h"
#include "heap/meta.h"
#include "heap/range.h"
#include "os/memory.h"
#include "os/thread.h"
#include "roots/world.h"
#include "trace/worklist.h"

// What one marker has done before anybody has come.
#define HELP_MARKER_BYTES (128 * KiB) // for the stacks of one
#define HELP_SPACE_SHARE  256 // of a limit on address space, for one of them
static const uint64_t help_least_ns = LOAM_TINY ? 0 : 100 * 1000;

static size_t help_wanted(const struct help *help) {
    struct thread_cpus cpus;
    thread_find_cpus(&cpus);
    size_t count = 0;
    for (size_t i = 0; i < THREAD_CPUS / 64; i++) {
        count += bits_count(cpus.bits[i]);
    }
    count = count > 2 ? count - 1 : 1; // others may be pinned elsewhere
    count = count < help->most ? count : help->most;
    return count < ASSIST_SEATS ? count : ASSIST_SEATS;
}

// What they take at first, about.
static size_t help_bytes(size_t count) {
    return sizeof(struct packets) + count * HELP_MARKER_BYTES +
           range_block_count() * ASIDE_WORDS_PER_BLOCK * sizeof *range.aside;
}

void help_ready(struct help *help, const struct region *ground,
                uint64_t mark_ns) {
    if (mark_ns < help_least_ns || help->most == 0 || help->packets != NULL) {
        return;
    }
    size_t count = help_wanted(help);
    if (help_bytes(count) > region_spare_bytes(ground)) {
        return; // a limit: the program comes first
    }
    size_t made = 0;
    struct packets *packets = meta_make(sizeof *packets);
    struct marker *markers = meta_make(count * sizeof *markers);
    if (range_use_aside() && packets != NULL && markers != NULL) {
        while (made < count && mark_init(&markers[made])) {
            made++;
        }
    }
    if (made == 0) {
        meta_free(markers, count * sizeof *markers);
        meta_free(packets, sizeof *packets);
        help->most = 0; // nor will there be room later
        return;
    }
    packets->call = world_invite;
    // Last what the others go by: a child forked meanwhile has all or none.
    help->markers = markers;
    help->count = made;
    __atomic_store_n(&help->packets, packets, __ATOMIC_RELEASE);
    help_fit(help);
    help_grow(help, ground);
}

void help_grow(struct help *help, const struct region *ground) {
    for (size_t i = 0; i < help->count; i++) {
        worklist_grow(&help->markers[i].list, ground->committed_bytes,
                      region_spare_bytes(ground));
    }
}

void help_fit(struct help *help) {
    size_t most_bytes = memory_limit_bytes(0) / HELP_SPACE_SHARE;
    for (size_t i = 0; i < help->count; i++) {
        worklist_fit(&help->markers[i].list, most_bytes);
    }
}

static void help_mark(void *data, size_t seat) {
    struct help *help = data;
    mark_help(&help->markers[seat], help->packets);
}

// The marks that helpers set go to the others.
static void help_gather(uint32_t block, void *data) {
    uint64_t *aside = &range.aside[block * ASIDE_WORDS_PER_BLOCK];
    (void)data;
    for (uint32_t i = 0; i < ASIDE_WORDS_PER_BLOCK; i++) {
        if (aside[i] != 0) {
            *block_pair(block, i) |= aside[i];
            aside[i] = 0;
        }
    }
}

void help_begin(struct help *help, struct marker *marker, size_t threads,
                uint64_t mark_ns) {
    size_t count = threads < help->count ? threads : help->count;
    if (count == 0 || mark_ns < help_least_ns) {
        return;
    }
    for (size_t i = 0; i < help->count; i++) {
        mark_begin(&help->markers[i]);
    }
    mark_together(marker, help->packets, count);
    world_offer(help_mark, help, count); // HP1
}

void help_end(struct help *help, struct marker *marker) {
    if (marker->packets == NULL) {
        return;
    }
    mark_apart(marker);
    world_recall(); // HP1
    heap_each_block(help_gather, NULL);
    for (size_t i = 0; i < help->count; i++) {
        help->used += help->markers[i].object_count != 0;
        mark_fold(marker, &help->markers[i]); // HP2
    }
}

void help_forked(struct help *help, bool in_cycle) {
    if (help->packets == NULL) {
        help->count = 0; // it was being made
    }
    if (!in_cycle) {
        return;
    }
    for (size_t i = 0; i < help->count; i++) {
        help->markers[i].list.word_count = 0;
        help->markers[i].list.piece_count = 0;
    }
    size_t words = range_block_count() * ASIDE_WORDS_PER_BLOCK;
    for (size_t i = 0; range.aside_in_use && i < words; i++) {
        if (range.aside[i] != 0) { // what is only read stays shared
            range.aside[i] = 0;
        }
    }
}
