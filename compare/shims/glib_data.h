// glib_data — GLib's hash tables, arrays and interned strings, as its manual
// tells a user to use them: keys of integers are the pointers themselves, keys
// of texts are copies that the table frees.

#include <glib.h>

#define DATA_NAME "glib"

typedef GHashTable data_set;
typedef GHashTable data_map;
typedef GHashTable data_texts;
typedef GArray data_vec;

static inline data_set *data_set_make(void) {
    return g_hash_table_new(NULL, NULL);
}

static inline void data_set_add(data_set *set, uint64_t key) {
    g_hash_table_add(set, (gpointer)key);
}

static inline int data_set_has(data_set *set, uint64_t key) {
    return g_hash_table_contains(set, (gpointer)key);
}

static inline int data_set_remove(data_set *set, uint64_t key) {
    return g_hash_table_remove(set, (gpointer)key);
}

static inline uint64_t data_set_walk(data_set *set) {
    GHashTableIter iter;
    gpointer key;
    uint64_t sum = 0;
    g_hash_table_iter_init(&iter, set);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        sum ^= (uint64_t)key;
    }
    return sum;
}

static inline data_map *data_map_make(void) {
    return g_hash_table_new(NULL, NULL);
}

static inline void data_map_add(data_map *map, uint64_t key, void *value) {
    g_hash_table_insert(map, (gpointer)key, value);
}

static inline void *data_map_get(data_map *map, uint64_t key) {
    return g_hash_table_lookup(map, (gpointer)key);
}

static inline int data_map_remove(data_map *map, uint64_t key) {
    return g_hash_table_remove(map, (gpointer)key);
}

static inline uint64_t data_map_walk(data_map *map) {
    return data_set_walk(map);
}

static inline data_texts *data_texts_make(void) {
    return g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
}

static inline void data_texts_add(data_texts *map, const char *key,
                                  size_t count, void *value) {
    (void)count;
    g_hash_table_insert(map, g_strdup(key), value);
}

static inline void *data_texts_get(data_texts *map, const char *key,
                                   size_t count) {
    (void)count;
    return g_hash_table_lookup(map, key);
}

static inline int data_texts_remove(data_texts *map, const char *key,
                                    size_t count) {
    (void)count;
    return g_hash_table_remove(map, key);
}

static inline uint64_t data_texts_walk(data_texts *map) {
    GHashTableIter iter;
    gpointer key;
    uint64_t sum = 0;
    g_hash_table_iter_init(&iter, map);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        sum += (unsigned char)((const char *)key)[strlen(key) - 1];
    }
    return sum;
}

static inline data_vec *data_vec_make(void) {
    return g_array_new(FALSE, FALSE, sizeof(uint64_t));
}

static inline void data_vec_push(data_vec *vec, uint64_t value) {
    g_array_append_val(vec, value);
}

static inline uint64_t data_vec_at(data_vec *vec, size_t at) {
    return g_array_index(vec, uint64_t, at);
}

static inline uint64_t data_vec_pop(data_vec *vec) {
    uint64_t value = g_array_index(vec, uint64_t, vec->len - 1);
    g_array_set_size(vec, vec->len - 1);
    return value;
}

static int data_vec_compare(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static inline void data_vec_sort(data_vec *vec) {
    g_array_sort(vec, data_vec_compare);
}

static inline const char *data_intern(const char *text) {
    return g_intern_string(text);
}
