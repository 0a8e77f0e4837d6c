/* loam/replace.h: a source tree's malloc, turned into Loam's.
 *
 * Included last in a source file, or for a whole tree by the compiler option
 * `-include loam/replace.h`, it makes malloc, calloc, realloc, free, strdup
 * and their kin call Loam.  free frees at once, as before; what the program
 * forgets to free is collected.  Compile the whole program this way: memory
 * from one allocator must not be freed by the other, and a pointer that only a
 * library's own malloc'ed memory holds is not seen (docs/porting.md).
 *
 * LOAM_REPLACE_KEEP_FREE: define it as 0 to turn free into nothing, when the
 * program is to be collected only.
 */

#ifndef LOAM_REPLACE_H
#define LOAM_REPLACE_H

/* First the headers that declare the originals: a macro must not meet a
 * declaration. */
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "../loam.h"

#ifndef LOAM_REPLACE_KEEP_FREE
#define LOAM_REPLACE_KEEP_FREE 1
#endif

#undef malloc
#undef calloc
#undef realloc
#undef reallocarray
#undef free
#undef strdup
#undef strndup
#undef aligned_alloc
#undef malloc_usable_size

static inline void *loam_replace_reallocarray(void *p, size_t count,
                                              size_t bytes) {
    size_t product;
    if (__builtin_mul_overflow(count, bytes, &product)) {
        product = SIZE_MAX;
    }
    return loam_realloc(p, product);
}

static inline size_t loam_replace_usable_size(void *p) {
    return loam_usable_size(p);
}

static inline void loam_replace_free(void *p) {
#if LOAM_REPLACE_KEEP_FREE
    loam_free(p);
#else
    (void)p;
#endif
}

/* Names, not calls: a pointer to malloc that is stored must be Loam's too. */
#define malloc             loam_alloc
#define calloc             loam_calloc
#define realloc            loam_realloc
#define reallocarray       loam_replace_reallocarray
#define free               loam_replace_free
#define strdup             loam_strdup
#define strndup            loam_strndup
#define aligned_alloc      loam_alloc_aligned
#define malloc_usable_size loam_replace_usable_size

#endif
