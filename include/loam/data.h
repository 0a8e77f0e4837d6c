/* loam/data.h: arrays, sets and maps that cost a collection next to nothing.
 *
 *   vectors         elements in a row, that grow
 *   integer sets    and maps from integers to words or pointers
 *   text sets       and maps from texts (bytes with a length)
 *   interned texts  one copy of each, whoever asks for it
 *
 * A program's own list of a million numbers is a million objects to a
 * collector.  These are two or three, most of them leaves, which it never
 * reads: what it has to look at is the pointers that were put in.
 *
 * Conventions, beside those of loam.h
 *   Ownership   Each is an object like any other: kept by a pointer to it,
 *               collected without one, freed by nobody.  (loam_free of a set
 *               or map gives its own memory back at once and that of its
 *               tables when they are found dead.)
 *   Contents    LOAM_DATA_LEAF: words and bytes, in which the collector does
 *               not look: a pointer there keeps nothing alive.
 *               LOAM_DATA_SCANNED: pointers, which keep what they lead to.
 *   Shortage    What needs memory returns false or NULL when it is short or
 *               the size absurd, sets errno to ENOMEM, and leaves the thing as
 *               it was.  Nothing else fails.
 *   Threads     One thread at a time for each; interned texts: any thread.
 *               Collections by other threads are harmless at any instant.
 *   Growth      The tables behind are made anew; finalizers do not run
 *               meanwhile, so that they may use these things too.
 */

#ifndef LOAM_DATA_H
#define LOAM_DATA_H

#include "../loam.h"

#ifdef __cplusplus
extern "C" {
#endif

enum loam_data { LOAM_DATA_LEAF, LOAM_DATA_SCANNED };

/* Where a walk stands; all zero at the beginning.  It is kept where the
 * collector looks (a local variable will do), for it may hold a key. */
struct loam_walk {
    uint64_t number;
    const void *key;
};

/* --- Vectors ----------------------------------------------------------- */

/* Elements of one size in a row.  The fields may be read, and the elements
 * read and written, by anybody; only these functions change the fields.  It may
 * stand anywhere the collector looks: in a variable, in an object. */
struct loam_vec {
    void *data;             /* `count` elements; NULL while capacity is 0 */
    size_t count;           /* elements */
    size_t capacity;        /* elements there is room for */
    uint32_t element_bytes; /* of one; not 0 */
    uint32_t contents;      /* enum loam_data */
};

/* An empty one:  struct loam_vec numbers = LOAM_VEC(int, LOAM_DATA_LEAF); */
#define LOAM_VEC(type, contents)                                               \
    { NULL, 0, 0, (uint32_t)sizeof(type), (uint32_t)(contents) }

/* The element at a place below `count`, as an lvalue. */
#define LOAM_VEC_AT(vec, type, at) (((type *)(vec)->data)[at])

/* Appends a value of the type; whether there was memory.  A nanosecond. */
#define LOAM_VEC_PUSH(vec, type, value)                                        \
    (loam_vec_has_room(vec) &&                                                 \
     (((type *)(vec)->data)[(vec)->count++] = (value), true))

/* An empty one in an object of its own. */
LOAM_API struct loam_vec *loam_vec_make(size_t element_bytes,
                                        enum loam_data contents) LOAM_MUST_USE;

/* Room for `more` elements behind those there are.  Where there is not, the
 * array moves to one at least half as large again (to twice, while it is
 * small), and the old one is freed: pointers into it are dead then, as after
 * loam_realloc.  A capacity fills its object to the end. */
LOAM_API bool loam_vec_reserve(struct loam_vec *vec, size_t more);

static inline bool loam_vec_has_room(struct loam_vec *vec) {
    return vec->count < vec->capacity || loam_vec_reserve(vec, 1);
}

/* Gives back what is not used, as far as sizes of objects allow. */
LOAM_API bool loam_vec_shrink(struct loam_vec *vec);

/* `count` elements from now on: more are zero, fewer are cut off. */
LOAM_API bool loam_vec_resize(struct loam_vec *vec, size_t count);

/* Copies an element to the end; takes the last one off, into `element` (which
 * may be NULL); false when there is none. */
LOAM_API bool loam_vec_push(struct loam_vec *vec, const void *element);
LOAM_API bool loam_vec_pop(struct loam_vec *vec, void *element);

/* Copies `count` elements in before place `at`, which is at most vec->count;
 * `elements` may lie in the vector itself.  Removes up to `count` from `at`. */
LOAM_API bool loam_vec_insert(struct loam_vec *vec, size_t at,
                              const void *elements, size_t count);
LOAM_API void loam_vec_remove(struct loam_vec *vec, size_t at, size_t count);

/* A new vector with copies of up to `count` elements from `at`. */
LOAM_API struct loam_vec *loam_vec_slice(const struct loam_vec *vec, size_t at,
                                         size_t count) LOAM_MUST_USE;

/* Sorts by a comparison: below, at or above 0 as a is before, like or after b.
 * In place, not stable, n log n in the worst case.  Unlike the C library's
 * qsort it keeps no elements where the collector does not look.  The comparison
 * may leave by longjmp: the elements are all there then, in some order.  It may
 * not change the vector. */
typedef int loam_compare_fn(const void *a, const void *b, void *data);
LOAM_API void loam_vec_sort(struct loam_vec *vec, loam_compare_fn *compare,
                            void *data);

/* --- Integer sets ------------------------------------------------------ */

/* Any 64-bit keys.  9 to 18 bytes for each, all leaf.  Constant, for keys that
 * are not chosen to collide. */
struct loam_intset;

LOAM_API struct loam_intset *loam_intset_make(void) LOAM_MUST_USE;

/* The key is in the set from now on; false when memory is short. */
LOAM_API bool loam_intset_add(struct loam_intset *set, uint64_t key);
LOAM_API bool loam_intset_has(const struct loam_intset *set, uint64_t key);

/* Whether it was there. */
LOAM_API bool loam_intset_remove(struct loam_intset *set, uint64_t key);

LOAM_API size_t loam_intset_count(const struct loam_intset *set);
LOAM_API void loam_intset_clear(struct loam_intset *set);

/* Memory for `more` keys ahead; for no more than there are.  Removing keys
 * does not make a set smaller. */
LOAM_API bool loam_intset_reserve(struct loam_intset *set, size_t more);
LOAM_API bool loam_intset_shrink(struct loam_intset *set);

/* The next key, in an order that seems random and is the same for the same
 * keys, whatever was done before.  False when there is none.  The set may be
 * changed between calls in every way: a key that is there all the time is met
 * once, one that is put or removed meanwhile once or not at all (twice only if
 * it is removed and put again). */
LOAM_API bool loam_intset_next(const struct loam_intset *set,
                               struct loam_walk *walk, uint64_t *key);

/* --- Integer maps ------------------------------------------------------ */

/* From 64-bit keys to words.  Keys are a leaf; values are another, or scanned,
 * as `values` says.  17 to 36 bytes for each.  Functions as for sets. */
struct loam_intmap;

LOAM_API struct loam_intmap *
loam_intmap_make(enum loam_data values) LOAM_MUST_USE;

/* Puts a value, over an older one of the same key. */
LOAM_API bool loam_intmap_put(struct loam_intmap *map, uint64_t key,
                              void *value);

/* The value of a key; NULL if there is none.  Where the value stands, which may
 * be written to until the map is changed; NULL if there is none. */
LOAM_API void *loam_intmap_get(const struct loam_intmap *map, uint64_t key);
LOAM_API void **loam_intmap_find(struct loam_intmap *map, uint64_t key);

LOAM_API bool loam_intmap_remove(struct loam_intmap *map, uint64_t key);
LOAM_API size_t loam_intmap_count(const struct loam_intmap *map);
LOAM_API void loam_intmap_clear(struct loam_intmap *map);
LOAM_API bool loam_intmap_reserve(struct loam_intmap *map, size_t more);
LOAM_API bool loam_intmap_shrink(struct loam_intmap *map);

/* `value` may be NULL. */
LOAM_API bool loam_intmap_next(const struct loam_intmap *map,
                               struct loam_walk *walk, uint64_t *key,
                               void **value);

/* --- Text sets and maps ------------------------------------------------ */

/* Keys are bytes with a length, of which a copy is kept: all copies in a few
 * leaves, one behind the other.  For each 9 to 18 bytes and its own length, and
 * 5 to 8 more.  All keys together may have 16 GiB. */
struct loam_strset;
struct loam_strmap;

LOAM_API struct loam_strset *loam_strset_make(void) LOAM_MUST_USE;
LOAM_API bool loam_strset_add(struct loam_strset *set, const void *bytes,
                              size_t count);
LOAM_API bool loam_strset_has(const struct loam_strset *set, const void *bytes,
                              size_t count);
LOAM_API bool loam_strset_remove(struct loam_strset *set, const void *bytes,
                                 size_t count);
LOAM_API size_t loam_strset_count(const struct loam_strset *set);
LOAM_API void loam_strset_clear(struct loam_strset *set);
LOAM_API bool loam_strset_reserve(struct loam_strset *set, size_t more);

/* Also drops the copies of keys that were removed. */
LOAM_API bool loam_strset_shrink(struct loam_strset *set);

/* The next key, in an order as for integers.  `key` receives the copy that the
 * set keeps, which ends in a zero and stays as it is while anything leads to
 * it, whatever becomes of the set; `count` its length.  The set may be changed
 * between calls in every way, as an integer set may. */
LOAM_API bool loam_strset_next(struct loam_strset *set, struct loam_walk *walk,
                               const char **key, size_t *count);

LOAM_API struct loam_strmap *
loam_strmap_make(enum loam_data values) LOAM_MUST_USE;
LOAM_API bool loam_strmap_put(struct loam_strmap *map, const void *bytes,
                              size_t count, void *value);
LOAM_API void *loam_strmap_get(const struct loam_strmap *map, const void *bytes,
                               size_t count);
LOAM_API void **loam_strmap_find(struct loam_strmap *map, const void *bytes,
                                 size_t count);
LOAM_API bool loam_strmap_remove(struct loam_strmap *map, const void *bytes,
                                 size_t count);
LOAM_API size_t loam_strmap_count(const struct loam_strmap *map);
LOAM_API void loam_strmap_clear(struct loam_strmap *map);
LOAM_API bool loam_strmap_reserve(struct loam_strmap *map, size_t more);
LOAM_API bool loam_strmap_shrink(struct loam_strmap *map);

/* The key is in walk->key, and stays as a set's does; `count` is its length;
 * `value` may be NULL. */
LOAM_API bool loam_strmap_next(struct loam_strmap *map, struct loam_walk *walk,
                               size_t *count, void **value);

/* --- Interned texts ---------------------------------------------------- */

/* The one copy of a text that there is in the process: the same text gives the
 * same pointer, as long as anybody holds it, so that equal texts are equal
 * pointers.  It ends in a zero.  When nothing leads to it any more it is
 * collected, and a later one may lie elsewhere.  It may not be changed, nor
 * freed.  NULL when memory is short.
 *
 * Any thread.  A text that is there is found without a lock, in some twenty
 * nanoseconds; its length and 30 to 60 bytes for each.  A signal handler that
 * interrupted this library is refused a text that is not there yet. */
LOAM_API const char *loam_intern(const char *text) LOAM_MUST_USE;
LOAM_API const char *loam_intern_bytes(const void *bytes,
                                       size_t count) LOAM_MUST_USE;

/* The copy if there is one, else NULL. */
LOAM_API const char *loam_intern_find(const void *bytes, size_t count);

/* The length of an interned text.  Constant. */
static inline size_t loam_intern_length(const char *interned) {
    return ((const uint32_t *)(const void *)interned)[-1];
}

/* The texts that are interned now; proportional to them. */
LOAM_API size_t loam_intern_count(void);

#ifdef __cplusplus
}
#endif

#endif
