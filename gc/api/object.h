// object — an object from the door's side: made, found, resized, freed.
//
// Allocation, its fast path inline and the rest behind one call, and everything
// that begins with a pointer the program hands in.  Such a pointer may be
// anything; object_find and object_is_start are where it is doubted.
//
// Invariants
//   O1  exact   object_find is true exactly for words inside an object that was
//               handed out and neither freed nor found dead: cells of a tail
//               are none
//   O2  kept    a resize (api/resize.h) keeps kind, layout and the bytes up to
//               the smaller size; bytes added to a zeroed kind are zero; only
//               an array of elements that are no number of words is scanned
//               instead of described
//   O3  refused a refusal leaves the object as it was and sets errno to ENOMEM
//   O4  held    what was made is in the caller's frame before the thread can be
//               stopped: no stop finds an object that nobody holds
//   O5  front   of a counted object the program sees what is behind its front:
//               object_start, where it begins, is a multiple of the granule,
//               and object_bytes counts from there
//
// Called by any thread, which becomes a mutator; outside and inside of handlers
// of signals.
// Design, alternatives and measurements: docs/design/api/object.md

#ifndef API_OBJECT_H
#define API_OBJECT_H

#include "api/init.h"
#include "base/defs.h"
#include "heap/block.h"
#include "heap/blockmap.h"
#include "heap/cache.h"
#include "heap/heap.h"
#include "heap/range.h"
#include "heap/sizeclass.h"
#include "roots/mutator.h"
#include "roots/world.h"

// A cell of the cache's stack of freed ones; NULL if there is none.  busy was
// OUT.
void *object_pop(struct mutator *mutator, struct cache *cache);

// The next cell of a cache, asked for with `bytes`; busy was OUT.
static ALWAYS_INLINE void *object_bump(struct mutator *mutator,
                                       struct cache *cache, size_t bytes) {
    // A handler that runs between these lines sees that the cache is in use.
    __atomic_store_n(&mutator->busy, MUTATOR_TAKING, __ATOMIC_RELAXED);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    void *cell = cache_take_for(cache, bytes);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    __atomic_store_n(&mutator->busy, MUTATOR_OUT, __ATOMIC_RELAXED);
    return cell;
}

// The fast path: a cell for `bytes` > 0 bytes of a kind that has no layout, if
// the cache has one at hand, in its tail or freed; else NULL.
static ALWAYS_INLINE void *object_take(size_t bytes, unsigned kind) {
    struct mutator *mutator = init_mutator;
    if (UNLIKELY(mutator == NULL || bytes > CELL_BYTES_MAX ||
                 mutator->busy != MUTATOR_OUT)) {
        return NULL;
    }
    struct cache *cache = &mutator->home.caches[kind][sizeclass_of(bytes)];
    void *cell = object_bump(mutator, cache, bytes);
    return LIKELY(cell != NULL) ? cell : object_pop(mutator, cache);
}

// Parks, and returns the cell, which is held meanwhile (O4).
COLD __attribute__((returns_nonnull)) void *
object_park_with(struct mutator *mutator, void *cell);

// The fast path for malloc's own leaves: what was freed last comes first, as
// long as it is in the processor's cache.  NULL where object_take may still
// have one, or `bytes` is 0.  Not where freed cells are held: it does not note
// what was asked for whole (B12 of heap/block.h).
static ALWAYS_INLINE void *object_take_leaf(size_t bytes) {
    struct mutator *mutator = init_mutator;
    if (UNLIKELY(mutator == NULL || bytes - 1 >= SMALL_BYTES_MAX ||
                 mutator->busy != MUTATOR_OUT)) {
        return NULL;
    }
    unsigned cls = sizeclass_of(bytes);
    struct cache *cache = &mutator->home.caches[KIND_PINNED_LEAF][cls];
    if (cache->free_count == 0) {
        return object_bump(mutator, cache, bytes);
    }
    mutator_enter(mutator);
    void *cell = cache_pop_plain(cache, &mutator->home.tally);
    mutator_exit(mutator);
    if (UNLIKELY(cell == NULL)) {
        return NULL;
    }
    return UNLIKELY(world_is_stopping()) ? object_park_with(mutator, cell)
                                         : cell;
}

// The class that serves cells of `bytes` bytes of a counted kind; CLASS_FREE:
// they are runs.
static ALWAYS_INLINE unsigned object_class_counted(size_t bytes,
                                                   unsigned kind) {
    if (block_kind_shift(kind) != 0) {
        return bytes <= SMALL_BYTES_MAX ? sizeclass_of_shifted(bytes)
                                        : CLASS_FREE;
    }
    return bytes <= CELL_BYTES_MAX ? sizeclass_of(bytes) : CLASS_FREE;
}

// The fast path for an object of a counted kind whose cell, with what is in
// front, is to have `cell_bytes` bytes: the object, or NULL.  All zero.
static ALWAYS_INLINE void *object_take_counted(size_t cell_bytes,
                                               unsigned kind) {
    struct mutator *mutator = init_mutator;
    unsigned cls = object_class_counted(cell_bytes, kind);
    if (UNLIKELY(mutator == NULL || cls == CLASS_FREE ||
                 mutator->busy != MUTATOR_OUT)) {
        return NULL;
    }
    struct cache *cache = &mutator->home.caches[kind][cls];
    char *cell = object_bump(mutator, cache, cell_bytes);
    if (UNLIKELY(cell == NULL)) {
        cell = object_pop(mutator, cache);
    }
    return UNLIKELY(cell == NULL) ? NULL : cell + block_kind_front(kind);
}

// An object of `bytes` > 0 bytes of a counted kind, behind what is in front of
// it, all zero; NULL with errno when memory is short or the size absurd.
void *object_make_counted(size_t bytes, unsigned kind);

// Frees an object of a counted kind; false when it was freed before.
bool object_free_counted(const struct place *place);

// The cache into which cells of a block of the home heap can be freed as they
// are (heap/cache.h); NULL if more has to be looked at.  A block that is empty
// then goes to object_release_empty, which leaves errno alone.  INSIDE.
struct cache *object_cache_at_hand(struct mutator *mutator, uint32_t block);
void object_release_empty(struct mutator *mutator, uint32_t block);

// The class of the small cell that starts at p, if one look at the entry of its
// block says that class and kind are all that there is to know: not counted,
// not described.  Else CLASS_FREE.  What is said of a block that is not the
// calling thread's may be old.
static ALWAYS_INLINE unsigned object_find_quick(const void *p,
                                                struct place *place) {
    uintptr_t word = (uintptr_t)p;
    if (UNLIKELY(!range_has(word))) {
        return CLASS_FREE;
    }
    place->block = range_block_of(word);
    unsigned entry = block_entry(place->block);
    unsigned cls = ENTRY_CLASS(entry);
    uint64_t inside = word & (BLOCK_BYTES - 1);
    place->start = word;
    place->kind = ENTRY_KIND(entry);
    place->bytes = sizeclass_table[cls].bytes;
    place->cell = (uint32_t)(inside * sizeclass_table[cls].reciprocal >> 40);
    bool is_start = entry < ENTRY(0, KIND_COUNTED, 0) &&
                    cls <= CLASS_SMALL_LAST &&
                    place->cell * place->bytes == inside;
    return LIKELY(is_start) ? cls : CLASS_FREE;
}

// Whether the cell is an object of this cache's thread that it may free as it
// is.
static ALWAYS_INLINE bool object_is_own(const struct mutator *mutator,
                                        const struct cache *cache,
                                        const struct place *place) {
    const struct block *b = block_get(place->block);
    return block_owner(place->block) == mutator->id && cache->bytes != 0 &&
           !(block_flags(place->block) & BLOCK_WATCHED) && // B13
           b->heap == mutator->home.heap->slot &&
           block_is_allocated(place->block, place->cell) &&
           !block_is_freed(place->block, place->cell) &&
           !cache_has_tail(cache, place->start); // O1
}

// Whether such an object of the calling thread starts at p; what a stop does
// meanwhile changes nothing of that for kinds that are pinned.
static ALWAYS_INLINE bool object_find_own(const void *p, struct place *place) {
    struct mutator *mutator = init_mutator;
    if (UNLIKELY(mutator == NULL || mutator->busy != MUTATOR_OUT)) {
        return false;
    }
    unsigned cls = object_find_quick(p, place);
    return cls != CLASS_FREE &&
           object_is_own(mutator, &mutator->home.caches[place->kind][cls],
                         place);
}

// INSIDE: the rest of object_free_quick, where there is more to look at.
NOINLINE bool object_free_own(struct mutator *mutator, const void *p);

// Leaves, and returns the result of what it leaves.
NOINLINE bool object_leave_with(struct mutator *mutator, bool result);

// Whether a cell of a block of this mutator can be freed with nothing else to
// be done, by the state of the block: it stays in the list it is in, nobody
// watches it, and no other thread has freed in it.
static ALWAYS_INLINE bool object_is_plain(const struct cache *cache,
                                          const struct block *b, uintptr_t at) {
    uint32_t state =
        block_state(b) &
        (BLOCK_STATE_FREED |
         BLOCK_STATE(UINT8_MAX, BLOCK_WATCHED | BLOCK_ZERO | BLOCK_CURRENT));
    return LIKELY(state == BLOCK_STATE(SHELF_MINE, 0))
               ? b->live > 1
               : state == BLOCK_STATE(SHELF_NONE, BLOCK_CURRENT) &&
                     !cache_has_tail(cache, at); // O1
}

// Frees what starts at p if that is a small object of the home heap, in a block
// of this thread that nobody watches: most of what is freed by hand.  False,
// and nothing is done, if more has to be looked at.  errno stays.
MUST_USE static ALWAYS_INLINE bool object_free_quick(const void *p) {
    struct mutator *mutator = init_mutator;
    if (UNLIKELY(mutator == NULL || mutator->busy != MUTATOR_OUT)) {
        return false;
    }
    // INSIDE from here on, so that no cycle comes between what is asked and
    // what is done.
    mutator_enter(mutator);
    struct place place;
    unsigned cls = object_find_quick(p, &place);
    if (UNLIKELY(cls == CLASS_FREE || block_owner(place.block) != mutator->id ||
                 block_get(place.block)->heap != HEAP_SLOT_HOME)) {
        return object_leave_with(mutator, false);
    }
    struct cache *cache = &mutator->home.caches[place.kind][cls];
    struct block *b = block_get(place.block);
    uint64_t *pair = block_pair(place.block, place.cell / 64);
    uint64_t bit = (uint64_t)1 << (place.cell % 64);
    uint64_t alloc = pair[1];
    if (UNLIKELY(!object_is_plain(cache, b, place.start) ||
                 (alloc & bit) == 0 || cache->bytes == 0)) {
        return object_free_own(mutator, p);
    }
    b->live--;
    cache_free_plain(cache, &mutator->home.tally, pair, bit, place.start);
    mutator_exit(mutator);
    return LIKELY(!world_is_stopping()) || object_leave_with(mutator, true);
}

// object_free_quick for what malloc handed out, which has one kind.  Where more
// has to be looked at it leaves without a call, which served_free_near makes.
MUST_USE static ALWAYS_INLINE bool object_free_leaf(const void *p) {
    struct mutator *mutator = init_mutator;
    uintptr_t word = (uintptr_t)p;
    if (UNLIKELY(mutator == NULL || mutator->busy != MUTATOR_OUT ||
                 !range_has(word))) {
        return false;
    }
    mutator_enter(mutator);
    uint32_t block = range_block_of(word);
    struct block *b = block_get(block);
    unsigned cls = block_entry(block) - ENTRY(0U, KIND_PINNED_LEAF, 0U);
    if (UNLIKELY(cls - 1 >= CLASS_SMALL_LAST || // others, runs, spans
                 block_whose(b) != mutator->id)) {
        mutator_exit(mutator);
        return false;
    }
    struct cache *cache = &mutator->home.caches[KIND_PINNED_LEAF][cls];
    uint64_t inside = word & (BLOCK_BYTES - 1);
    uint64_t cell = inside * cache->reciprocal >> 40;
    uint64_t *pair = block_pair(block, cell / 64);
    uint64_t bit = (uint64_t)1 << (cell % 64);
    uint32_t state = block_state(b);
    if (UNLIKELY(cell * cache->bytes != inside || (pair[1] & bit) == 0 ||
                 (state & BLOCK_STATE_BUSY) != 0 ||
                 (state & BLOCK_STATE_ROOM) == 0 || b->live <= 1 ||
                 cache_has_tail(cache, word) || cache->bytes == 0)) {
        mutator_exit(mutator);
        return false;
    }
    b->live--;
    cache_free_plain(cache, &mutator->home.tally, pair, bit, word);
    mutator_exit(mutator);
    if (UNLIKELY(world_is_stopping())) {
        world_park(mutator);
    }
    return true;
}

// Frees a cell of another thread's block, or of one that is watched, into the
// freed table, which is there; false when it was freed before.  INSIDE, unless
// the thread is no mutator; errno stays.
bool object_free_far(const struct place *place);

// Frees a counted object that is dead and stays so until it is freed.  INSIDE;
// may wait for the lock.
void object_free_dead(struct mutator *mutator, void *object);

// An object of `bytes` > 0 bytes, of the kind and layout of `order` (its class
// is not read); NULL with errno when memory is short or the size absurd.
void *object_make(size_t bytes, struct order order);

// The same in the heap of `collector`.
void *object_make_in(struct collector *collector, size_t bytes,
                     struct order order);

// The same, where a run is to have room behind it to grow by half.
void *object_make_roomy(struct collector *collector, size_t bytes,
                        struct order order);

// What an object is to be besides large enough.
struct object_form {
    size_t alignment; // its address is a multiple of this power of two
    unsigned kind;    // without a layout, and not counted
    bool clear;       // leaves are all zero, too
};

// An object of `bytes` > 0 bytes of a form.
void *object_make_form(size_t bytes, const struct object_form *form);

// The object that a word points into.
bool object_find(uintptr_t word, struct place *place);

// The start of the object in a cell, as the program sees it.
static inline uintptr_t object_start(const struct place *place) {
    return blockmap_start(place);
}

// Its bytes.
static inline size_t object_bytes(const struct place *place) {
    return place->bytes - block_kind_front(place->kind);
}

// Whether p is the start of an object.
bool object_is_start(const void *p, struct place *place);

// Tells the heap that the program uses the object to the last byte of its cell,
// so that a pointer one past its end may lie outside.
void object_use_whole(const struct place *place);

// Frees an object; false when it was freed before, by another thread just now.
bool object_free(const struct place *place);

// Frees an object for a thread that is no mutator and need not become one: it
// has ended, or is about to.
bool object_free_late(const struct place *place);

#endif
