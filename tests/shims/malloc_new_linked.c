// What a C++ library has: forms of new that catch what a handler throws.  These
// stand for them, and say how often they were asked.

#include <stddef.h>

unsigned linked_asked(void);
void *_ZnwmRKSt9nothrow_t(size_t bytes, const void *tag);
void *_ZnwmSt11align_val_tRKSt9nothrow_t(size_t bytes, size_t alignment,
                                         const void *tag);

static unsigned asked;

unsigned linked_asked(void) {
    unsigned count = asked;
    asked = 0;
    return count;
}

void *_ZnwmRKSt9nothrow_t(size_t bytes, const void *tag) {
    asked += bytes != 0 && tag != NULL;
    return NULL;
}

void *_ZnwmSt11align_val_tRKSt9nothrow_t(size_t bytes, size_t alignment,
                                         const void *tag) {
    asked += bytes != 0 && alignment == 64 && tag != NULL;
    return NULL;
}
