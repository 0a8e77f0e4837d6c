#include "collect/settle.h"

#include "heap/block.h"
#include "heap/handle.h"
#include "heap/range.h"
#include "rc/bond.h"
#include "trace/order.h"

static bool settle_has_fates(const struct settle *settle) {
    return settle->fates.waiting_count + settle->fates.ready_count != 0;
}

static bool settle_is_used(const struct settle *settle) { // ST4
    return settle->handles || settle->ephemerons.capacity != 0 ||
           settle_has_fates(settle);
}

bool settle_use_handles(struct settle *settle) {
    if (!range_use_freed()) { // B13 of heap/block.h needs it
        return false;
    }
    __atomic_store_n(&settle->handles, true, __ATOMIC_RELEASE);
    return true;
}

bool settle_use_ephemeron(struct settle *settle) {
    return range_use_freed() && ephemeron_reserve(&settle->ephemerons);
}

struct fate *settle_add_fate(struct settle *settle, const struct fate *fate) {
    if (!range_use_freed()) {
        return NULL;
    }
    block_set_flags(fate->block, BLOCK_WATCHED);
    return fate_add(&settle->fates, fate);
}

struct settle_walk {
    settle_visit *visit;
    void *data;
    bool all;
};

static void settle_root(struct fates *fates, struct fate *fate, void *data) {
    const struct settle_walk *walk = data;
    (void)fates;
    if (fate->object != 0 && (walk->all || fate->state == FATE_READY)) {
        walk->visit(fate->object, walk->data);
    }
    if (fate->mode != FATE_GUARDED) {
        walk->visit(fate->data, walk->data); // ST3
    }
}

static void settle_bond(struct bond *bond, void *data) {
    const struct settle_walk *walk = data;
    if (bond->sort == BOND_FINALIZER) {
        walk->visit(bond->value, walk->data); // ST3
    }
}

void settle_roots(struct settle *settle, bool all, settle_visit *visit,
                  void *data) {
    struct settle_walk walk = {visit, data, all};
    if (bond_is_used()) {
        bond_each(settle_bond, &walk);
    }
    if (settle_has_fates(settle)) {
        fate_each(&settle->fates, settle_root, &walk);
    }
}

// Who is watched is found anew in each cycle.
static void settle_unwatch(uint32_t block, void *data) {
    (void)data;
    block_clear_flags(block, BLOCK_WATCHED);
}

void settle_mark(struct settle *settle, struct marker *marker,
                 struct settle_report *report) {
    *report = (struct settle_report){0, 0, 0, 0};
    if (!settle_is_used(settle)) {
        return;
    }
    heap_each_block(settle_unwatch, NULL);
    mark_ephemerons(marker, &settle->ephemerons);
    mark_drain(marker);
    if (settle->handles) {
        report->short_count = handle_clear(HANDLE_SHORT); // ST1
    }
    if (settle_has_fates(settle)) {
        size_t before = settle->fates.ready_count;
        order_settle(&settle->fates, marker);
        report->ready_count = settle->fates.ready_count - before;
        if (report->ready_count != 0) {
            __atomic_add_fetch(&settle->notices, 1, __ATOMIC_RELEASE);
        }
    }
}

void settle_finish(struct settle *settle, struct settle_report *report) {
    if (settle->handles) {
        report->long_count = handle_clear(HANDLE_LONG); // ST2
    }
    if (settle->ephemerons.capacity != 0) {
        ephemeron_finish(&settle->ephemerons);
        report->ephemeron_count = settle->ephemerons.cleared_count;
    }
}

static bool settle_is_gone(uint32_t block, void *data) {
    const struct heap *heap = data;
    return heap_is_block_of(heap, block);
}

static void settle_void_fate(struct fates *fates, struct fate *fate,
                             void *data) {
    if (fate->object == 0 || !settle_is_gone(fate->block, data)) {
        return;
    }
    if (fate->state == FATE_READY) {
        fate->object = 0; // passed over when its turn comes
        fate->data = 0;
    } else {
        fate_remove(fates, fate);
    }
}

void settle_void(struct settle *settle, const struct heap *heap) {
    struct heap *gone = (struct heap *)(uintptr_t)heap;
    if (settle->handles) {
        handle_clear_gone(settle_is_gone, gone);
    }
    if (settle->ephemerons.capacity != 0) {
        ephemeron_clear_gone(settle_is_gone, gone);
    }
    fate_each(&settle->fates, settle_void_fate, gone);
}
