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
//   O2  kept    object_resize keeps kind, layout and the bytes up to the
//               smaller size; bytes added to a zeroed kind are zero; only an
//               array of elements that are no number of words is scanned
//               instead of described
//   O3  refused a refusal leaves the object as it was and sets errno to ENOMEM
//   O4  held    what was made is in the caller's frame before the thread can be
//               stopped: no stop finds an object that nobody holds
//
// Called by any thread, which becomes a mutator; outside and inside of handlers
// of signals.
// Design, alternatives and measurements: docs/design/api/object.md

#ifndef API_OBJECT_H
#define API_OBJECT_H

#include "api/init.h"
#include "base/defs.h"
#include "heap/cache.h"
#include "heap/heap.h"
#include "heap/sizeclass.h"
#include "roots/mutator.h"

// The fast path: a cell for `bytes` > 0 bytes of a kind that has no layout, if
// the cache has one at hand; else NULL.
static ALWAYS_INLINE void *object_take(size_t bytes, unsigned kind) {
    struct mutator *mutator = init_mutator;
    if (UNLIKELY(mutator == NULL || bytes > CELL_BYTES_MAX ||
                 mutator->busy != MUTATOR_OUT)) {
        return NULL;
    }
    struct cache *cache = &mutator->home.caches[kind][sizeclass_of(bytes)];
    // A handler that runs between these lines sees that the cache is in use.
    __atomic_store_n(&mutator->busy, MUTATOR_TAKING, __ATOMIC_RELAXED);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    void *cell = cache_take_for(cache, bytes);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    __atomic_store_n(&mutator->busy, MUTATOR_OUT, __ATOMIC_RELAXED);
    return cell;
}

// An object of `bytes` > 0 bytes, of the kind and layout of `order` (its class
// is not read); NULL with errno when memory is short or the size absurd.
void *object_make(size_t bytes, struct order order);

// The same in the heap of `collector`.
void *object_make_in(struct collector *collector, size_t bytes,
                     struct order order);

// A scanned object at a multiple of `alignment`, a power of two.
void *object_make_aligned(size_t bytes, size_t alignment);

// The object that a word points into.
bool object_find(uintptr_t word, struct place *place);

// Whether p is the start of an object.
bool object_is_start(const void *p, struct place *place);

// Tells the heap that the program uses the object to the last byte of its cell,
// so that a pointer one past its end may lie outside.
void object_use_whole(const struct place *place);

// Frees an object; false when it was freed before, by another thread just now.
bool object_free(const struct place *place);

// The object with `bytes` > 0 bytes, moved if need be; NULL when memory is
// short.
void *object_resize(const struct place *place, size_t bytes);

#endif
