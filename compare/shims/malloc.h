// malloc — free by hand, with whichever malloc the program is linked to.
//
// glibc, mimalloc and jemalloc are three rows of this one shim; leak.h is it
// without the frees.

#include <malloc.h>
#include <stdlib.h>

#ifndef SHIM_MANUAL
#define SHIM_MANUAL 1
#endif
#define SHIM_COLLECTS 0

struct shim_layout {
    size_t bytes;
};

static inline void shim_open(struct shim_limits limits) {
    (void)limits;
}

static inline void *shim_new(size_t bytes) {
    return calloc(1, bytes);
}

static inline void *shim_raw(size_t bytes) {
    return malloc(bytes);
}

static inline void *shim_leaf(size_t bytes) {
    return malloc(bytes);
}

static inline void *shim_resize(void *p, size_t bytes) {
    return realloc(p, bytes);
}

static inline void shim_dead(void *p) {
    if (SHIM_MANUAL) {
        free(p);
    }
}

static inline size_t shim_usable(void *p) {
    return malloc_usable_size(p);
}

static inline struct shim_layout
shim_layout(size_t bytes, const size_t *offsets, size_t count) {
    (void)offsets;
    (void)count;
    return (struct shim_layout){bytes};
}

static inline void *shim_typed(const struct shim_layout *layout) {
    return calloc(1, layout->bytes);
}

static inline void shim_collect(void) {
}

static inline void shim_attach(void) {
}

static inline void shim_blocking(void *(*work)(void *), void *data) {
    work(data);
}

static inline struct shim_figures shim_figures(void) {
    return (struct shim_figures){0};
}

static inline const char *shim_config(void) {
    return SHIM_MANUAL ? "freed by hand" : "malloc, never freed";
}
