#include "shims/malloc.h"

#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

void malloc_misused(const char *function, const void *p, const void *caller) {
    if (loam_door_misuse(function, p, caller)) {
        abort();
    }
}

static void *malloc_refuse(int error) {
    errno = error;
    return NULL;
}

static bool malloc_is_power(size_t n) {
    return n != 0 && (n & (n - 1)) == 0;
}

// --- The five ----------------------------------------------------------

MALLOC_API void *malloc(size_t bytes) {
    return loam_door_malloc(bytes, MALLOC_CALLER);
}

MALLOC_API void free(void *p) {
    malloc_drop(p, "free", MALLOC_CALLER);
}

MALLOC_API void *calloc(size_t count, size_t bytes) {
    size_t product;
    if (UNLIKELY(__builtin_mul_overflow(count, bytes, &product))) {
        return malloc_refuse(ENOMEM);
    }
    return loam_door_calloc(product, MALLOC_CALLER);
}

// A size of 0 frees; the result is NULL and no error, as in glibc.
static void *malloc_resize(void *p, size_t bytes, const char *function,
                           const void *caller) {
    if (p == NULL) {
        return loam_door_malloc(bytes, caller);
    }
    if (bytes == 0) {
        malloc_drop(p, function, caller);
        return NULL;
    }
    bool known;
    void *moved = loam_door_realloc(p, bytes, caller, &known);
    if (UNLIKELY(!known)) {
        malloc_misused(function, p, caller);
        return malloc_refuse(EINVAL);
    }
    return moved;
}

MALLOC_API void *realloc(void *p, size_t bytes) {
    return malloc_resize(p, bytes, "realloc", MALLOC_CALLER);
}

MALLOC_API void *reallocarray(void *p, size_t count, size_t bytes) {
    size_t product;
    if (__builtin_mul_overflow(count, bytes, &product)) {
        return malloc_refuse(ENOMEM);
    }
    return malloc_resize(p, product, "reallocarray", MALLOC_CALLER);
}

// --- Aligned -----------------------------------------------------------

// glibc takes the next power of two for what is none.
static void *malloc_aligned(size_t alignment, size_t bytes,
                            const void *caller) {
    if (alignment > SIZE_MAX / 2 + 1) {
        return malloc_refuse(EINVAL);
    }
    size_t power = GRANULE_BYTES;
    while (power < alignment) {
        power *= 2;
    }
    return loam_door_memalign(power, bytes, caller);
}

MALLOC_API void *memalign(size_t alignment, size_t bytes) {
    return malloc_aligned(alignment, bytes, MALLOC_CALLER);
}

MALLOC_API void *aligned_alloc(size_t alignment, size_t bytes) {
    return malloc_aligned(alignment, bytes, MALLOC_CALLER);
}

MALLOC_API int posix_memalign(void **at, size_t alignment, size_t bytes) {
    if (!malloc_is_power(alignment) || alignment % sizeof(void *) != 0) {
        return EINVAL;
    }
    int saved = errno;
    void *made = malloc_aligned(alignment, bytes, MALLOC_CALLER);
    if (made == NULL) {
        return ENOMEM; // errno says it, too: there are callers who ask it
    }
    errno = saved;
    *at = made;
    return 0;
}

static size_t malloc_page_bytes(void) {
    return (size_t)sysconf(_SC_PAGESIZE);
}

MALLOC_API void *valloc(size_t bytes) {
    return loam_door_memalign(malloc_page_bytes(), bytes, MALLOC_CALLER);
}

MALLOC_API void *pvalloc(size_t bytes) {
    size_t page = malloc_page_bytes();
    size_t rounded;
    if (__builtin_add_overflow(bytes, page - 1, &rounded)) {
        return malloc_refuse(ENOMEM);
    }
    return loam_door_memalign(page, rounded & ~(page - 1), MALLOC_CALLER);
}

// --- The rest ----------------------------------------------------------

MALLOC_API size_t malloc_usable_size(void *p) {
    if (p == NULL) {
        return 0;
    }
    size_t bytes = loam_door_usable(p);
    if (UNLIKELY(bytes == 0)) {
        malloc_misused("malloc_usable_size", p, MALLOC_CALLER);
    }
    return bytes;
}

void free_sized(void *p, size_t bytes);
MALLOC_API void free_sized(void *p, size_t bytes) {
    (void)bytes;
    malloc_drop(p, "free_sized", MALLOC_CALLER);
}

void free_aligned_sized(void *p, size_t alignment, size_t bytes);
MALLOC_API void free_aligned_sized(void *p, size_t alignment, size_t bytes) {
    (void)alignment;
    (void)bytes;
    malloc_drop(p, "free_aligned_sized", MALLOC_CALLER);
}

void cfree(void *p);
MALLOC_API void cfree(void *p) {
    malloc_drop(p, "cfree", MALLOC_CALLER);
}

// Names that glibc keeps for itself, and that some programs call.  gcc would
// have them say what its headers say of the others.
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmissing-attributes"
#endif
#define MALLOC_ALSO(name, of)                                                  \
    MALLOC_API __typeof__(of) name __attribute__((__alias__(#of)))
MALLOC_ALSO(__libc_malloc, malloc);
MALLOC_ALSO(__libc_free, free);
MALLOC_ALSO(__libc_calloc, calloc);
MALLOC_ALSO(__libc_realloc, realloc);
MALLOC_ALSO(__libc_reallocarray, reallocarray);
MALLOC_ALSO(__libc_memalign, memalign);
MALLOC_ALSO(__libc_valloc, valloc);
MALLOC_ALSO(__libc_pvalloc, pvalloc);
MALLOC_ALSO(__posix_memalign, posix_memalign);
