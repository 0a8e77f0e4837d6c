/* loam/heaps.h: heaps of their own.
 *
 * Every program has the default heap, in which loam_alloc allocates.  A program
 * may have more: one for a document, a request, a plug-in.  Each is collected
 * by itself, in time proportional to what lives in it and to the stacks, and
 * can be dropped as a whole without a look at what is in it.
 *
 * What keeps an object of a heap alive: stacks, registers, variables, ranges
 * the program added, and other objects of the same heap.  A pointer from
 * another heap does not, unless loam_heap_root says so: that is what keeps a
 * collection small.  An object is freed, resized and asked about with the
 * functions of loam.h, whichever heap it is in; resized it stays in its heap.
 *
 * After Apple's malloc zones and the arenas of region-based systems (Tofte and
 * Talpin, 1994), with a collector in each.
 */

#ifndef LOAM_HEAPS_H
#define LOAM_HEAPS_H

#include "../loam.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A heap by its handle, which is a number and not an address: it is never used
 * again for another heap, so that one that was destroyed is recognised.  NULL
 * stands for the default heap where a heap is asked for. */
struct loam_heap;

/* A new heap without objects; NULL with errno ENOMEM when memory is short or
 * 65,535 heaps exist.  Some microseconds, and about 20 KiB while it lives; any
 * thread. */
LOAM_API struct loam_heap *loam_heap_create(void) LOAM_MUST_USE;

/* loam_alloc and loam_alloc_leaf in that heap.  NULL with errno EINVAL for a
 * heap that was destroyed.  Any thread; some 20 ns. */
LOAM_API void *loam_heap_alloc(struct loam_heap *heap, size_t bytes)
    LOAM_ALLOC_SIZE(2) LOAM_MUST_USE;
LOAM_API void *loam_heap_alloc_leaf(struct loam_heap *heap, size_t bytes)
    LOAM_ALLOC_SIZE(2) LOAM_MUST_USE;

/* One collection of that heap alone, as loam_collect is of the default one. */
LOAM_API bool loam_heap_collect(struct loam_heap *heap);

/* From now on every object of `from`, alive or dead, keeps alive what it points
 * to in `heap`.  A collection of `heap` then reads all of `from`.  It cannot be
 * taken back; it ends with either heap.  False when memory is short, when one
 * of them was destroyed, or when both are the same. */
LOAM_API bool loam_heap_root(struct loam_heap *heap, struct loam_heap *from);

/* Drops the heap with all objects in it, at once: no finalizer runs, weak
 * references into it read NULL from then on.  The program must not use a
 * pointer to one of its objects again, and no thread may be inside a call that
 * uses the heap.  The default heap cannot be destroyed.  False when the heap
 * was destroyed before, or when a thread could not be stopped (try again).
 * Some microseconds for each megabyte in use. */
LOAM_API bool loam_heap_destroy(struct loam_heap *heap);

/* The heap of the object that `p` points into; *is_object, if not NULL, tells
 * whether there is one.  NULL for the default heap too. */
LOAM_API struct loam_heap *loam_heap_of(const void *p, bool *is_object);

/* loam_stats of one heap.  What the heaps share (heap_bytes, heap_bytes_max,
 * metadata_bytes, limit_bytes, overflows) is told of all of them together.
 * Zeros for a heap that was destroyed. */
LOAM_API void loam_heap_stats(struct loam_heap *heap, struct loam_stats *stats,
                              size_t stats_bytes);

#ifdef __cplusplus
}
#endif

#endif
