#include "api/fork.h"

#include "collect/help.h"
#include "heap/cache.h"
#include "heap/fate.h"
#include "heap/heap.h"
#include "heap/rebuild.h"
#include "os/copy.h"
#include "roots/reserve.h"
#include "roots/world.h"
#include "trace/ephemeron.h"

static struct fork_order fork_order;

static void fork_claim(struct cache *cache, void *data) {
    (void)data;
    rebuild_claim(cache);
}

static void fork_tally(struct cache *cache, void *data) {
    rebuild_tally(data, cache->tally);
}

static void fork_rebuild(struct mutator *self) {
    reserve_forget(); // its blocks have no entries: they are free again
    rebuild_begin(self != NULL ? self->id : 0);
    if (self != NULL) {
        self->inbox = BLOCK_NONE;
        mutator_each_cache(self, NULL, fork_claim, NULL);
        for (size_t slot = 0; slot <= UINT16_MAX; slot++) {
            struct heap *heap = heap_find(slot);
            if (heap != NULL) {
                mutator_each_cache(self, heap, fork_tally, heap);
            }
        }
    }
    rebuild_end();
    for (size_t slot = 0; slot <= UINT16_MAX; slot++) {
        struct heap *heap = heap_find(slot);
        if (heap != NULL) {
            collect_bring_back(heap);
        }
    }
    reserve_keep(fork_order.ground, RESERVE_BLOCKS);
}

// Called by the library's fork in the child.
static void fork_made(void) {
    struct mutator *self = fork_order.self();
    if (self == NULL || self->busy == MUTATOR_OUT ||
        self->busy == MUTATOR_AWAY) {
        world_copy(self);
    }
}

// The rest of what world_copy begins in a child.
static void fork_copied(struct mutator *self) {
    struct conductor *conductor = fork_order.conductor;
    fork_rebuild(self); // FO1
    fork_order.forked(self);
    fate_rebuild(&conductor->settle.fates);
    ephemeron_forked(&conductor->settle.ephemerons);
    // What the marker of a cycle had on its stacks.
    conductor->marker.list.word_count = 0;
    conductor->marker.list.piece_count = 0;
    conductor->marker.packets = NULL;
    help_forked(&conductor->help, conductor->phase != COLLECT_IDLE);
    conductor->phase = COLLECT_IDLE;
    conductor->thread = 0;
    conductor->held = 0; // by threads that are not here
}

void fork_watch(const struct fork_order *order) {
    fork_order = *order;
    world.copied = fork_copied;
    copy_watch(fork_made);
}
