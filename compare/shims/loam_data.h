// loam_data — Loam's sets, maps, vectors and interned texts.

#include <loam/data.h>

#define DATA_NAME "loam"

typedef struct loam_intset data_set;
typedef struct loam_intmap data_map;
typedef struct loam_strmap data_texts;
typedef struct loam_vec data_vec;

static inline data_set *data_set_make(void) {
    return mem_checked(loam_intset_make());
}

static inline void data_set_add(data_set *set, uint64_t key) {
    if (!loam_intset_add(set, key)) {
        measure_out_of_memory();
    }
}

static inline int data_set_has(data_set *set, uint64_t key) {
    return loam_intset_has(set, key);
}

static inline int data_set_remove(data_set *set, uint64_t key) {
    return loam_intset_remove(set, key);
}

static inline uint64_t data_set_walk(data_set *set) {
    struct loam_walk walk = {0, NULL};
    uint64_t key, sum = 0;
    while (loam_intset_next(set, &walk, &key)) {
        sum ^= key;
    }
    return sum;
}

static inline data_map *data_map_make(void) {
    return mem_checked(loam_intmap_make(LOAM_DATA_SCANNED));
}

static inline void data_map_add(data_map *map, uint64_t key, void *value) {
    if (!loam_intmap_put(map, key, value)) {
        measure_out_of_memory();
    }
}

static inline void *data_map_get(data_map *map, uint64_t key) {
    return loam_intmap_get(map, key);
}

static inline int data_map_remove(data_map *map, uint64_t key) {
    return loam_intmap_remove(map, key);
}

static inline uint64_t data_map_walk(data_map *map) {
    struct loam_walk walk = {0, NULL};
    uint64_t key, sum = 0;
    void *value;
    while (loam_intmap_next(map, &walk, &key, &value)) {
        sum ^= key;
    }
    return sum;
}

static inline data_texts *data_texts_make(void) {
    return mem_checked(loam_strmap_make(LOAM_DATA_SCANNED));
}

static inline void data_texts_add(data_texts *map, const char *key,
                                  size_t count, void *value) {
    if (!loam_strmap_put(map, key, count, value)) {
        measure_out_of_memory();
    }
}

static inline void *data_texts_get(data_texts *map, const char *key,
                                   size_t count) {
    return loam_strmap_get(map, key, count);
}

static inline int data_texts_remove(data_texts *map, const char *key,
                                    size_t count) {
    return loam_strmap_remove(map, key, count);
}

static inline uint64_t data_texts_walk(data_texts *map) {
    struct loam_walk walk = {0, NULL};
    uint64_t sum = 0;
    size_t count;
    while (loam_strmap_next(map, &walk, &count, NULL)) {
        sum += (unsigned char)((const char *)walk.key)[count - 1];
    }
    return sum;
}

static inline data_vec *data_vec_make(void) {
    return mem_checked(loam_vec_make(sizeof(uint64_t), LOAM_DATA_LEAF));
}

static inline void data_vec_push(data_vec *vec, uint64_t value) {
    if (!LOAM_VEC_PUSH(vec, uint64_t, value)) {
        measure_out_of_memory();
    }
}

static inline uint64_t data_vec_at(data_vec *vec, size_t at) {
    return LOAM_VEC_AT(vec, uint64_t, at);
}

static inline uint64_t data_vec_pop(data_vec *vec) {
    uint64_t value = 0;
    loam_vec_pop(vec, &value);
    return value;
}

static int data_vec_compare(const void *a, const void *b, void *data) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    (void)data;
    return x < y ? -1 : x > y;
}

static inline void data_vec_sort(data_vec *vec) {
    loam_vec_sort(vec, data_vec_compare, NULL);
}

static inline const char *data_intern(const char *text) {
    return mem_checked((void *)(uintptr_t)loam_intern(text));
}
