// malloc_new — operator new and delete.
//
// Under their names of the C++ ABI, in C: what throws, and the handler of the
// program, are asked of the C++ library that the process has.

#include "shims/malloc.h"

#include <dlfcn.h>
#include <stdlib.h>

// std::get_new_handler and std::__throw_bad_alloc; a program that calls new has
// them.
typedef void malloc_handler(void);
__attribute__((__weak__)) malloc_handler *
malloc_new_handler(void) __asm__("_ZSt15get_new_handlerv");
__attribute__((__weak__)) _Noreturn void
malloc_throw(void) __asm__("_ZSt17__throw_bad_allocv");

static COLD _Noreturn void malloc_new_refuse(void) {
    if (malloc_throw != NULL) {
        malloc_throw(); // ML6
    }
    abort();
}

// new, after malloc has failed once.
static COLD void *malloc_new_again(size_t alignment, size_t bytes, bool throws,
                                   const void *caller) {
    void *made = NULL;
    while (made == NULL) {
        malloc_handler *handler =
            malloc_new_handler != NULL ? malloc_new_handler() : NULL;
        if (handler == NULL && throws) {
            malloc_new_refuse();
        }
        if (handler == NULL) {
            return NULL;
        }
        handler();
        made = loam_door_memalign(alignment, bytes, caller);
    }
    return made;
}

typedef void *malloc_quiet(size_t bytes, const void *tag);
typedef void *malloc_quiet_aligned(size_t bytes, size_t alignment,
                                   const void *tag);

// new has no memory at an alignment that is none, and asks no handler for it.
static bool malloc_new_can_align(size_t alignment) {
    return LIKELY(alignment != 0 && (alignment & (alignment - 1)) == 0);
}

// Whether new that may not throw should be the C++ library's, which comes back
// here for memory: only C++ can catch what the program's handler throws.
static COLD bool malloc_new_theirs(const char *name, void *found) {
    if (malloc_new_handler == NULL || malloc_new_handler() == NULL) {
        return false;
    }
    void *at = dlsym(RTLD_NEXT, name);
    *(void **)found = at;
    return at != NULL;
}

static COLD void *malloc_new_quietly(const char *name, size_t bytes,
                                     const void *tag, const void *caller) {
    malloc_quiet *theirs;
    return malloc_new_theirs(name, &theirs)
               ? theirs(bytes, tag) // ML6
               : malloc_new_again(1, bytes, false, caller);
}

static COLD void *malloc_new_aligned_quietly(const char *name, size_t bytes,
                                             size_t alignment, const void *tag,
                                             const void *caller) {
    malloc_quiet_aligned *theirs;
    return malloc_new_theirs(name, &theirs)
               ? theirs(bytes, alignment, tag) // ML6
               : malloc_new_again(alignment, bytes, false, caller);
}

static inline void *malloc_new(size_t bytes, const void *caller) {
    void *made = loam_door_malloc(bytes, caller);
    return LIKELY(made != NULL) ? made
                                : malloc_new_again(1, bytes, true, caller);
}

static inline void *malloc_new_aligned(size_t bytes, size_t alignment,
                                       const void *caller) {
    if (!malloc_new_can_align(alignment)) {
        malloc_new_refuse();
    }
    void *made = loam_door_memalign(alignment, bytes, caller);
    return LIKELY(made != NULL)
               ? made
               : malloc_new_again(alignment, bytes, true, caller);
}

// size_t is m, std::align_val_t St11align_val_t, a reference to a constant
// std::nothrow_t RKSt9nothrow_t.
#define NEW(name)                                                              \
    void *name(size_t bytes);                                                  \
    MALLOC_API void *name(size_t bytes) {                                      \
        return malloc_new(bytes, MALLOC_CALLER);                               \
    }
#define NEW_NOTHROW(name)                                                      \
    void *name(size_t bytes, const void *tag);                                 \
    MALLOC_API void *name(size_t bytes, const void *tag) {                     \
        void *made = loam_door_malloc(bytes, MALLOC_CALLER);                   \
        return LIKELY(made != NULL)                                            \
                   ? made                                                      \
                   : malloc_new_quietly(#name, bytes, tag, MALLOC_CALLER);     \
    }
#define NEW_ALIGNED(name)                                                      \
    void *name(size_t bytes, size_t alignment);                                \
    MALLOC_API void *name(size_t bytes, size_t alignment) {                    \
        return malloc_new_aligned(bytes, alignment, MALLOC_CALLER);            \
    }
#define NEW_ALIGNED_NOTHROW(name)                                              \
    void *name(size_t bytes, size_t alignment, const void *tag);               \
    MALLOC_API void *name(size_t bytes, size_t alignment, const void *tag) {   \
        if (!malloc_new_can_align(alignment)) {                                \
            return NULL;                                                       \
        }                                                                      \
        void *made = loam_door_memalign(alignment, bytes, MALLOC_CALLER);      \
        return LIKELY(made != NULL)                                            \
                   ? made                                                      \
                   : malloc_new_aligned_quietly(#name, bytes, alignment, tag,  \
                                                MALLOC_CALLER);                \
    }
// Whatever else a delete is told: a size, an alignment, a tag.
#define DELETE(name)                                                           \
    void name(void *p);                                                        \
    MALLOC_API void name(void *p) {                                            \
        malloc_drop(p, "operator delete", MALLOC_CALLER);                      \
    }

NEW(_Znwm)
NEW(_Znam)
NEW_NOTHROW(_ZnwmRKSt9nothrow_t)
NEW_NOTHROW(_ZnamRKSt9nothrow_t)
NEW_ALIGNED(_ZnwmSt11align_val_t)
NEW_ALIGNED(_ZnamSt11align_val_t)
NEW_ALIGNED_NOTHROW(_ZnwmSt11align_val_tRKSt9nothrow_t)
NEW_ALIGNED_NOTHROW(_ZnamSt11align_val_tRKSt9nothrow_t)
DELETE(_ZdlPv)
DELETE(_ZdaPv)
DELETE(_ZdlPvm)
DELETE(_ZdaPvm)
DELETE(_ZdlPvRKSt9nothrow_t)
DELETE(_ZdaPvRKSt9nothrow_t)
DELETE(_ZdlPvSt11align_val_t)
DELETE(_ZdaPvSt11align_val_t)
DELETE(_ZdlPvmSt11align_val_t)
DELETE(_ZdaPvmSt11align_val_t)
DELETE(_ZdlPvSt11align_val_tRKSt9nothrow_t)
DELETE(_ZdaPvSt11align_val_tRKSt9nothrow_t)
