/* loam/typed.h: objects whose pointers are known.
 *
 * A layout says which words of an element may hold pointers.  The collector
 * then reads only those words: numbers beside them can retain nothing, and
 * less memory is read.  It is a promise, not a hint: a pointer to an object
 * that stands in a word the layout does not name keeps nothing alive.
 *
 * The idea is that of typed allocation in Boehm's collector (gc_typed.h); here
 * layouts are interned, so that one made twice is the same layout.
 */

#ifndef LOAM_TYPED_H
#define LOAM_TYPED_H

#include "../loam.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Where an element of a fixed size holds pointers.  Never freed. */
struct loam_layout;

/* The layout of an element of `bytes` bytes that may hold a pointer at each of
 * the `count` offsets, given in bytes, in any order, multiples of the size of a
 * pointer.  No offset: the element holds no pointers.  The same arguments
 * return the same layout.  NULL with errno EINVAL when an offset is unaligned
 * or does not fit, or `bytes` is 0; NULL with ENOMEM when memory is short or
 * LOAM_LAYOUTS_MAX layouts exist. */
#define LOAM_LAYOUTS_MAX 65000
LOAM_API const struct loam_layout *
loam_layout(size_t bytes, const size_t *offsets, size_t count) LOAM_MUST_USE;

/* One zeroed element, or an array of `count` of them.  Small numbers of a
 * layout's objects may be scanned conservatively; this is always sound. */
LOAM_API void *loam_alloc_typed(const struct loam_layout *layout) LOAM_MUST_USE;
LOAM_API void *loam_calloc_typed(const struct loam_layout *layout,
                                 size_t count) LOAM_MUST_USE;

/* Usual spelling:
 *     static const size_t offsets[] = {offsetof(struct node, left),
 *                                      offsetof(struct node, right)};
 *     node_layout = loam_layout(sizeof(struct node), offsets, 2);
 */

#ifdef __cplusplus
}
#endif

#endif
