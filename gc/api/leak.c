#include "api/leak.h"

#include <string.h>

#include "api/init.h"
#include "api/object.h"
#include "api/resize.h"
#include "collect/collect.h"
#include "collect/lost.h"
#include "heap/block.h"
#include "heap/meta.h"
#include "heap/range.h"
#include "heap/sizeclass.h"
#include "os/error.h"
#include "os/unwind.h"

enum { LEAK_OFF, LEAK_LISTS, LEAK_RECLAIMS };

static struct {
    uint32_t mode;      // atomic
    bool all;           // every stack is taken; constant once on
    uint32_t *sorted;   // numbers of stacks; lock
    size_t sorted_room; // for so many
    size_t sorted_count;
    struct lost_region *regions; // lock
    size_t region_room, region_count;
} leak_state;

// Whether the thread is unwinding its stack, and how often it said that what
// it makes is to be spared.
static __thread struct {
    bool unwinds;
    uint32_t spares;
} leak_thread __attribute__((tls_model("initial-exec")));

bool leak_begin(bool reclaims) {
    struct heap *heap = &init_state.home.heap;
    if (!range_use_age() || (!reclaims && !origin_use())) {
        return false;
    }
    leak_state.all = init_state.options.stacks == OPTIONS_STACKS_ALL;
    heap->seeks = reclaims;
    heap->reclaims = reclaims;
    init_state.conductor.lists_lost = !reclaims;
    __atomic_store_n(&leak_state.mode, reclaims ? LEAK_RECLAIMS : LEAK_LISTS,
                     __ATOMIC_RELEASE);
    return true;
}

static uint32_t leak_mode(void) {
    return __atomic_load_n(&leak_state.mode, __ATOMIC_RELAXED);
}

bool leak_is_on(void) {
    return leak_mode() != LEAK_OFF;
}

// --- Who -------------------------------------------------------------------

// Of frames that nobody knows yet the number is given under the lock, where
// that can be had now.
static uint32_t leak_intern(const uintptr_t *frames, size_t count) {
    uint32_t id = origin_ask(frames, count);
    struct mutator *mutator = id == 0 ? init_lock() : NULL;
    if (mutator != NULL) {
        id = origin_intern(frames, count);
        init_unlock(mutator);
    }
    return id;
}

static NOINLINE uint32_t leak_take_stack(const void *caller) {
    uintptr_t frames[ORIGIN_FRAMES];
    if (leak_thread.unwinds) {
        return 0; // LK4
    }
    leak_thread.unwinds = true;
    size_t count = unwind_stack(caller, frames, ORIGIN_FRAMES);
    leak_thread.unwinds = false;
    return count == 0 ? 0 : leak_intern(frames, count);
}

// The stack of this call, and when the next is to be taken.
static NOINLINE uint32_t leak_sample(struct origin_caller *at, uint32_t count,
                                     const void *caller) {
    uint32_t known = origin_count();
    uint32_t id = leak_take_stack(caller);
    uint32_t gap = __atomic_load_n(&at->gap, __ATOMIC_RELAXED);
    bool news = id > known;
    gap = count < LEAK_FIRST ? 1 : news ? gap : 2 * gap;
    gap = gap < count / LEAK_SHARE ? count / LEAK_SHARE : gap;
    gap = gap < LEAK_GAP ? gap : LEAK_GAP;
    __atomic_store_n(&at->gap, gap, __ATOMIC_RELAXED);
    __atomic_store_n(&at->due, count + gap, __ATOMIC_RELAXED);
    return id;
}

// The number of what is to be known of this call (LK3).
static ALWAYS_INLINE uint32_t leak_ask(const void *caller) {
    struct origin_caller *at = origin_find(caller);
    if (at == NULL) {
        return 0;
    }
    uint32_t count = __atomic_load_n(&at->count, __ATOMIC_RELAXED);
    __atomic_store_n(&at->count, count + 1, __ATOMIC_RELAXED);
    // Where threads race the count may step over it.
    bool due =
        (int32_t)(count - __atomic_load_n(&at->due, __ATOMIC_RELAXED)) >= 0;
    uint32_t id =
        UNLIKELY(due || leak_state.all) ? leak_sample(at, count, caller) : 0;
    return id != 0 ? id : origin_of(at);
}

// --- Made ------------------------------------------------------------------

static size_t leak_trail_bytes(void) {
    return leak_mode() == LEAK_LISTS ? ORIGIN_TRAIL_BYTES : 0;
}

// Of a cell that nobody knows yet, or that is resized where it is (LK1).
static ALWAYS_INLINE void leak_note(const struct place *place, size_t bytes,
                                    const void *caller) {
    if (UNLIKELY(leak_thread.spares != 0) && leak_mode() == LEAK_LISTS) {
        origin_clear(place); // LK5
    } else if (leak_mode() == LEAK_LISTS) {
        origin_set(place, bytes, leak_ask(caller));
    } else {
        lost_renew(place);
    }
}

// A cell that is at hand, of `wanted` bytes with the trail; or NULL.
static ALWAYS_INLINE void *leak_take(size_t wanted, size_t bytes,
                                     const void *caller) {
    void *cell = object_take(wanted, KIND_PINNED);
    if (LIKELY(cell != NULL)) {
        struct place place = {.start = (uintptr_t)cell};
        if (UNLIKELY(leak_mode() == LEAK_RECLAIMS)) {
            (void)object_find_quick(cell, &place);
        } else {
            place.bytes = sizeclass_bytes(sizeclass_of(wanted));
        }
        leak_note(&place, bytes, caller);
    }
    return cell;
}

void *leak_make(size_t bytes, size_t alignment, const void *caller) {
    if (bytes > PTRDIFF_MAX - ORIGIN_TRAIL_BYTES) {
        error_set_no_memory();
        return NULL;
    }
    size_t wanted = bytes + leak_trail_bytes();
    void *cell =
        alignment <= GRANULE_BYTES ? leak_take(wanted, bytes, caller) : NULL;
    if (LIKELY(cell != NULL)) {
        return cell;
    }
    const struct object_form form = {alignment, KIND_PINNED, true};
    cell = object_make_form(wanted, &form);
    struct place place;
    if (LIKELY(cell != NULL) &&
        (LIKELY(object_find_quick(cell, &place) != CLASS_FREE) ||
         blockmap_find((uintptr_t)cell, &place))) {
        leak_note(&place, bytes, caller);
    }
    return cell;
}

size_t leak_bytes(const struct place *place) {
    return place->bytes - leak_trail_bytes(); // LK2
}

void *leak_resize(const struct place *place, size_t bytes, const void *caller) {
    void *old = (void *)place->start;
    size_t room = leak_bytes(place);
    size_t kept = bytes < room ? bytes : room;
    if (bytes <= PTRDIFF_MAX - ORIGIN_TRAIL_BYTES &&
        resize_fits(place, bytes + leak_trail_bytes())) {
        memset((char *)old + kept, 0, room - kept);
        leak_note(place, bytes, caller);
        return old;
    }
    int error = error_save();
    void *moved = leak_make(bytes, 1, caller);
    if (moved == NULL && bytes <= room) {
        error_restore(error);
        return old;
    }
    struct place still;
    if (moved == NULL || !object_is_start(old, &still)) {
        return moved;
    }
    memcpy(moved, old, kept);
    (void)object_free(&still);
    error_restore(error);
    return moved;
}

// --- Spared ----------------------------------------------------------------

void leak_spare(bool spares) {
    if (spares) {
        leak_thread.spares++;
    } else if (leak_thread.spares != 0) {
        leak_thread.spares--;
    }
}

static void leak_ignore_locked(struct mutator *mutator, void *data) {
    struct place place;
    uintptr_t word = (uintptr_t)data;
    (void)mutator;
    if (range_has(word) && blockmap_object(word, &place) != NULL &&
        place.kind == KIND_PINNED) {
        origin_clear(&place); // LK5
    }
}

void leak_ignore(const void *p) {
    if (leak_mode() == LEAK_LISTS) {
        (void)init_locked(leak_ignore_locked, (void *)(uintptr_t)p);
    }
}

// One more entry; false when memory is short.
static bool leak_grow_regions(void) {
    size_t room = leak_state.region_room;
    if (leak_state.region_count < room) {
        return true;
    }
    struct lost_region *more = meta_make((2 * room + 8) * sizeof *more);
    if (more == NULL) {
        return false;
    }
    if (room != 0) {
        memcpy(more, leak_state.regions, room * sizeof *more);
        meta_free(leak_state.regions, room * sizeof *more);
    }
    leak_state.regions = more;
    leak_state.region_room = 2 * room + 8;
    return true;
}

struct leak_wish {
    struct lost_region region;
    bool done;
};

static void leak_add_locked(struct mutator *mutator, void *data) {
    struct leak_wish *wish = data;
    (void)mutator;
    wish->done = leak_grow_regions();
    if (wish->done) {
        leak_state.regions[leak_state.region_count++] = wish->region;
    }
}

static void leak_remove_locked(struct mutator *mutator, void *data) {
    const struct leak_wish *wish = data;
    (void)mutator;
    for (size_t i = 0; i < leak_state.region_count; i++) {
        struct lost_region *region = &leak_state.regions[i];
        if (region->start == wish->region.start &&
            region->end == wish->region.end) {
            *region = leak_state.regions[--leak_state.region_count];
            return;
        }
    }
}

static struct leak_wish leak_wish_of(const void *start, size_t bytes) {
    uintptr_t from = (uintptr_t)start;
    uintptr_t most = UINTPTR_MAX - from;
    return (struct leak_wish){{from, from + (bytes < most ? bytes : most)},
                              false};
}

bool leak_add_region(const void *start, size_t bytes) {
    struct leak_wish wish = leak_wish_of(start, bytes);
    return init_locked(leak_add_locked, &wish) && wish.done;
}

void leak_remove_region(const void *start, size_t bytes) {
    struct leak_wish wish = leak_wish_of(start, bytes);
    (void)init_locked(leak_remove_locked, &wish);
}

// --- Looked for ------------------------------------------------------------

static size_t leak_size(uint32_t id) {
    const struct origin *origin = origin_get(id);
    return origin->direct.bytes + origin->indirect.bytes;
}

static bool leak_is_larger(uint32_t a, uint32_t b) {
    size_t one = leak_size(a), other = leak_size(b);
    return one > other || (one == other && a < b);
}

// By what they lost, the largest first: Shell (1959).
static void leak_order(uint32_t *ids, size_t count) {
    size_t gap = 1;
    while (gap < count / 3) {
        gap = gap * 3 + 1;
    }
    for (; gap != 0; gap /= 3) {
        for (size_t i = gap; i < count; i++) {
            uint32_t id = ids[i];
            size_t at = i;
            for (; at >= gap && leak_is_larger(id, ids[at - gap]); at -= gap) {
                ids[at] = ids[at - gap];
            }
            ids[at] = id;
        }
    }
}

static void leak_sort(void) {
    size_t count = origin_count();
    if (count > leak_state.sorted_room) {
        uint32_t *ids = meta_make(2 * count * sizeof *ids);
        if (ids == NULL) {
            leak_state.sorted_count = 0;
            return;
        }
        if (leak_state.sorted != NULL) {
            meta_free(leak_state.sorted, leak_state.sorted_room * sizeof *ids);
        }
        leak_state.sorted = ids;
        leak_state.sorted_room = 2 * count;
    }
    leak_state.sorted_count = 0;
    for (uint32_t id = 1; id <= count; id++) {
        const struct origin *origin = origin_get(id);
        if (origin->direct.objects + origin->indirect.objects != 0) {
            leak_state.sorted[leak_state.sorted_count++] = id;
        }
    }
    leak_order(leak_state.sorted, leak_state.sorted_count);
}

static void leak_cycle(struct mutator *mutator, void *data) {
    bool *done = data;
    struct heap *heap = &init_state.home.heap;
    heap->seeks = true;
    init_state.conductor.lost.regions = leak_state.regions;
    init_state.conductor.lost.region_count = leak_state.region_count;
    *done = collect_cycle(&init_state.home.collector, mutator, COLLECT_ASKED);
    heap->seeks = false;
    if (*done) {
        leak_sort();
    }
}

bool leak_look(struct origin_sum lost[2]) {
    struct lost_tally *tally = &init_state.conductor.lost;
    bool done = false;
    unwind_loader(&tally->spared_start, &tally->spared_end);
    if (leak_mode() == LEAK_LISTS && init_locked(leak_cycle, &done) && done) {
        lost[0] = init_state.conductor.lost.direct;
        lost[1] = init_state.conductor.lost.indirect;
    }
    return done;
}

const struct origin *leak_get(size_t index) {
    return index < leak_state.sorted_count
               ? origin_get(leak_state.sorted[index])
               : NULL;
}
