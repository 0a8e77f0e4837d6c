#include "support/small.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WORD            sizeof(uintptr_t)
#define BASE_ONLY_BYTES ((size_t)4096)
#define FIRST_BYTES     ((size_t)1 << 20) // allocated before the first cycle

// Words of a stack are read whole, whatever a sanitizer thinks stands there.
#define UNCHECKED                                                              \
    __attribute__((__noinline__, no_sanitize("address"), no_sanitize("thread")))

// --- The table of objects ----------------------------------------------

enum kind {
    KIND_SCANNED,
    KIND_LEAF,
    KIND_PINNED,
    KIND_LEAF_PINNED,
    KIND_BASE_ONLY,
    KIND_TYPED,
};

struct small_layout {
    size_t bytes;      // of an element
    size_t count;      // of offsets
    size_t offsets[8]; // where an element may hold a pointer
};

struct small_object {
    uintptr_t start;                   // its first byte
    size_t bytes;                      // usable, all of them scanned
    enum kind kind;                    // how it is scanned and kept
    bool marked;                       // reached by this collection
    const struct small_layout *layout; // KIND_TYPED only
};

struct small_range {
    const void *start;
    size_t bytes;
};

static struct {
    struct small_object *objects;   // M1: by address
    size_t *grey;                   // marked, not yet scanned: indices
    size_t count, capacity, greys;  // of the above
    struct small_range ranges[256]; // what small_roots_add was given
    size_t range_count;             //
    size_t bytes, limit;            // in objects now; 0 = no limit
    size_t next_bytes;              // collect when `bytes` passes this
    size_t disabled;                // how deep
    size_t live_objects, cycles;    // figures
} small;

// The index of the first object that ends after `word`.
static size_t small_index(uintptr_t word) {
    size_t low = 0;
    size_t high = small.count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        struct small_object *o = &small.objects[middle];
        if (o->start + o->bytes > word) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

// The object that `word` points into, or NULL.  This question is the heart of
// a conservative collector: here two comparisons after a binary search.
static struct small_object *small_find(uintptr_t word) {
    size_t index = small_index(word);
    if (index == small.count || word < small.objects[index].start) {
        return NULL;
    }
    return &small.objects[index];
}

static struct small_object *small_find_start(const void *p) {
    struct small_object *o = small_find((uintptr_t)p);
    return o && o->start == (uintptr_t)p ? o : NULL;
}

// Both arrays grow together, so that a collection needs no memory: an object
// is pushed on the grey stack at most once.
static bool small_reserve(void) {
    if (small.count < small.capacity) {
        return true;
    }
    size_t capacity = small.capacity ? 2 * small.capacity : 1024;
    size_t *grey = realloc(small.grey, capacity * sizeof *grey);
    if (!grey) {
        return false;
    }
    small.grey = grey;
    struct small_object *objects =
        realloc(small.objects, capacity * sizeof *objects);
    if (!objects) {
        return false;
    }
    small.objects = objects;
    small.capacity = capacity;
    return true;
}

// --- Marking -----------------------------------------------------------

static void small_mark(uintptr_t word) {
    struct small_object *o = small_find(word);
    if (!o || o->marked) {
        return;
    }
    if (o->kind == KIND_BASE_ONLY && word - o->start >= BASE_ONLY_BYTES) {
        return;
    }
    o->marked = true;
    small.grey[small.greys++] = (size_t)(o - small.objects);
}

// A root may point one past the end of an array, as C allows.
UNCHECKED static void small_mark_roots(const void *start, const void *end) {
    uintptr_t first = ((uintptr_t)start + WORD - 1) & ~(WORD - 1);
    uintptr_t last = (uintptr_t)end & ~(WORD - 1);
    for (uintptr_t at = first; at < last; at += WORD) {
        uintptr_t word = *(const uintptr_t *)at;
        small_mark(word);
        small_mark(word - 1);
    }
}

static void small_scan(const struct small_object *o) {
    const char *start = (const char *)o->start;
    if (o->kind == KIND_LEAF || o->kind == KIND_LEAF_PINNED) {
        return;
    }
    if (o->kind != KIND_TYPED) {
        for (size_t at = 0; at < o->bytes; at += WORD) {
            small_mark(*(const uintptr_t *)(start + at));
        }
        return;
    }
    size_t step = o->layout->bytes;
    for (size_t at = 0; at + step <= o->bytes; at += step) {
        for (size_t i = 0; i < o->layout->count; i++) {
            uintptr_t word;
            memcpy(&word, start + at + o->layout->offsets[i], sizeof word);
            small_mark(word);
        }
    }
}

static bool small_is_pinned(const struct small_object *o) {
    return o->kind == KIND_PINNED || o->kind == KIND_LEAF_PINNED;
}

extern char __data_start[] __attribute__((__weak__));
extern char _end[] __attribute__((__weak__));
extern void *__libc_stack_end;

// Called in a deeper frame than the one that holds the registers, so that
// `here` lies below them.
UNCHECKED static void small_mark_all(void) {
    void *here = __builtin_frame_address(0);
    small_mark_roots(here, __libc_stack_end);
    small_mark_roots(__data_start, _end);
    for (size_t i = 0; i < small.range_count; i++) {
        const struct small_range *r = &small.ranges[i];
        small_mark_roots(r->start, (const char *)r->start + r->bytes);
    }
    for (size_t i = 0; i < small.count; i++) {
        if (small_is_pinned(&small.objects[i])) {
            small_mark(small.objects[i].start);
        }
    }
    while (small.greys) { // a loop, not a recursion: lists may be long
        small_scan(&small.objects[small.grey[--small.greys]]);
    }
}

// --- Sweeping ----------------------------------------------------------

// Dead bytes are overwritten: who uses a lost object shall notice.
static void small_bury(struct small_object *o) {
    small.bytes -= o->bytes;
    memset((void *)o->start, 0xDD, o->bytes);
    free((void *)o->start);
}

static void small_sweep(void) {
    size_t kept = 0;
    for (size_t i = 0; i < small.count; i++) {
        struct small_object *o = &small.objects[i];
        if (o->marked) {
            o->marked = false;
            small.objects[kept++] = *o; // order stays: M1
        } else {
            small_bury(o);
        }
    }
    small.count = kept;
}

void small_collect(void) {
    __builtin_unwind_init(); // every callee-saved register, into this frame
    small_mark_all();
    small_sweep();
    small.cycles++;
    small.live_objects = small.count;
    small.next_bytes = 2 * small.bytes + FIRST_BYTES;
    __asm__ volatile(""); // not a tail call: the frame must outlive the marking
}

// --- Allocation --------------------------------------------------------

static bool small_has_room(size_t bytes) {
    return !small.limit || small.bytes + bytes <= small.limit;
}

static void *small_new(enum kind kind, size_t alignment, size_t bytes) {
    bool huge = bytes > PTRDIFF_MAX - 4096 || alignment > PTRDIFF_MAX;
    bytes = huge ? 0 : ((bytes ? bytes : 1) + 15) & ~(size_t)15;
    bool due = small.bytes + bytes > small.next_bytes || !small_has_room(bytes);
    if (due && !small.disabled && !huge) {
        small_collect();
    }
    void *p = NULL;
    if (!huge && small_has_room(bytes) && small_reserve()) {
        size_t unit = alignment < 16 ? 16 : alignment; // it wants whole units
        p = aligned_alloc(unit, (bytes + unit - 1) & ~(unit - 1));
    }
    if (!p) {
        errno = ENOMEM;
        return NULL;
    }
    // Leaf bytes are undefined: junk finds those who think them zero.
    bool leaf = kind == KIND_LEAF || kind == KIND_LEAF_PINNED;
    memset(p, leaf ? 0xA5 : 0, bytes);
    size_t at = small_index((uintptr_t)p);
    memmove(&small.objects[at + 1], &small.objects[at],
            (small.count - at) * sizeof small.objects[0]);
    small.objects[at] =
        (struct small_object){(uintptr_t)p, bytes, kind, false, NULL};
    small.count++;
    small.bytes += bytes;
    return p;
}

void *small_alloc(size_t bytes) {
    return small_new(KIND_SCANNED, 16, bytes);
}

void *small_alloc_leaf(size_t bytes) {
    return small_new(KIND_LEAF, 16, bytes);
}

void *small_alloc_pinned(size_t bytes) {
    return small_new(KIND_PINNED, 16, bytes);
}

void *small_alloc_leaf_pinned(size_t bytes) {
    return small_new(KIND_LEAF_PINNED, 16, bytes);
}

void *small_alloc_base_only(size_t bytes) {
    return small_new(KIND_BASE_ONLY, 16, bytes);
}

void *small_alloc_aligned(size_t alignment, size_t bytes) {
    if (!alignment || (alignment & (alignment - 1))) {
        errno = EINVAL;
        return NULL;
    }
    return small_new(KIND_SCANNED, alignment, bytes);
}

void *small_alloc_typed(const struct small_layout *layout, size_t count) {
    void *p = small_new(KIND_TYPED, 16, layout->bytes * count);
    if (p) {
        small_find_start(p)->layout = layout;
    }
    return p;
}

void *small_realloc(void *p, size_t bytes) {
    struct small_object *old = small_find_start(p);
    if (!old) {
        return p ? NULL : small_alloc(bytes);
    }
    if (!bytes) {
        small_free(p);
        return NULL;
    }
    const struct small_layout *layout = old->layout;
    size_t kept = old->bytes < bytes ? old->bytes : bytes;
    void *moved = small_new(old->kind, 16, bytes); // p itself keeps the old one
    if (!moved) {
        return NULL;
    }
    memcpy(moved, p, kept);
    small_find_start(moved)->layout = layout;
    small_free(p);
    return moved;
}

const struct small_layout *small_layout(size_t bytes, const size_t *offsets,
                                        size_t count) {
    struct small_layout *layout = calloc(1, sizeof *layout);
    if (!layout || count > sizeof layout->offsets / sizeof layout->offsets[0]) {
        free(layout);
        return NULL;
    }
    layout->bytes = bytes;
    layout->count = count;
    memcpy(layout->offsets, offsets, count * sizeof *offsets);
    return layout;
}

// --- The rest of the contract ------------------------------------------

bool small_free(void *p) {
    struct small_object *o = small_find_start(p);
    if (!o) {
        return !p;
    }
    small_bury(o);
    size_t at = (size_t)(o - small.objects);
    small.count--;
    memmove(o, o + 1, (small.count - at) * sizeof *o);
    return true;
}

size_t small_usable_size(const void *p) {
    struct small_object *o = small_find_start(p);
    return o ? o->bytes : 0;
}

void *small_base(const void *p) {
    struct small_object *o = small_find((uintptr_t)p);
    return o ? (void *)o->start : NULL;
}

bool small_roots_add(const void *start, size_t bytes) {
    if (small.range_count == sizeof small.ranges / sizeof small.ranges[0]) {
        return false;
    }
    small.ranges[small.range_count++] = (struct small_range){start, bytes};
    return true;
}

bool small_roots_remove(const void *start, size_t bytes) {
    for (size_t i = 0; i < small.range_count; i++) {
        const struct small_range *r = &small.ranges[i];
        if (r->start == start && r->bytes == bytes) {
            small.ranges[i] = small.ranges[--small.range_count];
            return true;
        }
    }
    return false;
}

void small_disable(void) {
    small.disabled++;
}

void small_enable(void) {
    small.disabled -= small.disabled > 0;
}

bool small_set_limit(size_t bytes) {
    small.limit = bytes;
    if (small_has_room(0)) {
        return true;
    }
    small_collect();
    return small_has_room(0);
}

size_t small_live_objects(void) {
    return small.live_objects;
}

size_t small_collections(void) {
    return small.cycles;
}
