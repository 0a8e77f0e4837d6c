// loam_weak — weak references, finalizers and a map with weak keys, of Loam.

#include <loam/weak.h>
#include <string.h>

static inline void *shim_weak(void *object) {
    return loam_weak_make(object);
}

static inline void *shim_weak_get(void *weak) {
    return loam_weak_get(weak);
}

static inline void loam_shim_finalize(void *object, void *data) {
    void (*finalizer)(void *object) = NULL;
    memcpy(&finalizer, &data, sizeof finalizer);
    finalizer(object);
}

static inline void shim_finalizer(void *object, void (*finalizer)(void *)) {
    struct loam_finalizer one = {.mode = LOAM_FINALIZE_ORDERED};
    memcpy(&one.data, &finalizer, sizeof one.data);
    one.function = finalizer != NULL ? loam_shim_finalize : NULL;
    if (!loam_finalizer_set(object, &one, NULL)) {
        abort();
    }
}

static inline uint64_t shim_finalizers_run(void) {
    return loam_finalizers_run(SIZE_MAX);
}

struct shim_map;

static inline struct shim_map *shim_map(size_t count) {
    (void)count;
    return (struct shim_map *)loam_weakmap_make();
}

static inline int shim_map_put(struct shim_map *map, void *key, void *value) {
    return loam_weakmap_put((struct loam_weakmap *)map, key, value);
}

static inline void *shim_map_get(struct shim_map *map, void *key) {
    return loam_weakmap_get((struct loam_weakmap *)map, key);
}

static inline size_t shim_map_count(struct shim_map *map) {
    return loam_weakmap_count((struct loam_weakmap *)map);
}
