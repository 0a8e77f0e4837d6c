// malloc_new — operator new and delete.
//
// Under their names of the C++ ABI, in C: what throws, and the handler of the
// program, are asked of the C++ library that the process has.

#include "shims/malloc.h"

#include <stdlib.h>

// std::get_new_handler and std::__throw_bad_alloc; a program that calls new has
// them.
typedef void malloc_handler(void);
__attribute__((__weak__)) malloc_handler *
malloc_new_handler(void) __asm__("_ZSt15get_new_handlerv");
__attribute__((__weak__)) _Noreturn void
malloc_throw(void) __asm__("_ZSt17__throw_bad_allocv");

// new, after malloc has failed once.
static COLD void *malloc_new_again(size_t alignment, size_t bytes,
                                   bool throws) {
    void *made = NULL;
    while (made == NULL) {
        malloc_handler *handler =
            malloc_new_handler != NULL ? malloc_new_handler() : NULL;
        if (handler == NULL && throws && malloc_throw != NULL) {
            malloc_throw(); // ML6
        }
        if (handler == NULL && throws) {
            abort();
        }
        if (handler == NULL) {
            return NULL;
        }
        handler();
        made = loam_door_memalign(alignment, bytes);
    }
    return made;
}

static inline void *malloc_new(size_t bytes, bool throws) {
    void *made = loam_door_malloc(bytes);
    return LIKELY(made != NULL) ? made : malloc_new_again(1, bytes, throws);
}

static inline void *malloc_new_aligned(size_t bytes, size_t alignment,
                                       bool throws) {
    void *made = loam_door_memalign(alignment, bytes);
    return LIKELY(made != NULL) ? made
                                : malloc_new_again(alignment, bytes, throws);
}

// size_t is m, std::align_val_t St11align_val_t, a reference to a constant
// std::nothrow_t RKSt9nothrow_t.
#define NEW(name)                                                              \
    void *name(size_t bytes);                                                  \
    MALLOC_API void *name(size_t bytes) {                                      \
        return malloc_new(bytes, true);                                        \
    }
#define NEW_NOTHROW(name)                                                      \
    void *name(size_t bytes, const void *tag);                                 \
    MALLOC_API void *name(size_t bytes, const void *tag) {                     \
        (void)tag;                                                             \
        return malloc_new(bytes, false);                                       \
    }
#define NEW_ALIGNED(name)                                                      \
    void *name(size_t bytes, size_t alignment);                                \
    MALLOC_API void *name(size_t bytes, size_t alignment) {                    \
        return malloc_new_aligned(bytes, alignment, true);                     \
    }
#define NEW_ALIGNED_NOTHROW(name)                                              \
    void *name(size_t bytes, size_t alignment, const void *tag);               \
    MALLOC_API void *name(size_t bytes, size_t alignment, const void *tag) {   \
        (void)tag;                                                             \
        return malloc_new_aligned(bytes, alignment, false);                    \
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
