#include "api/vec.h"

#include <string.h>

#include "base/bits.h"
#include "os/error.h"

#define VEC_FIRST_BYTES  ((size_t)64)
#define VEC_DOUBLE_BYTES ((size_t)64 * KiB) // below this it doubles
#define VEC_INSERTION    12                 // elements

static unsigned char *vec_at(const struct loam_vec *vec, size_t at) {
    return (unsigned char *)vec->data + at * vec->element_bytes;
}

struct loam_vec *loam_vec_make(size_t element_bytes, enum loam_data contents) {
    if (element_bytes == 0 || element_bytes > UINT32_MAX) {
        error_set_no_memory();
        return NULL;
    }
    struct loam_vec *vec = loam_alloc(sizeof *vec);
    if (vec != NULL) {
        vec->element_bytes = (uint32_t)element_bytes;
        vec->contents = contents;
    }
    return vec;
}

// An array for at least `capacity` elements, at least one: the vector's.
static bool vec_move(struct loam_vec *vec, size_t capacity) {
    size_t bytes;
    if (bits_mul_overflows(capacity, vec->element_bytes, &bytes) ||
        bytes > PTRDIFF_MAX) {
        error_set_no_memory();
        return false;
    }
    void *data = vec->data != NULL ? loam_realloc(vec->data, bytes)
                 : vec->contents == LOAM_DATA_LEAF ? loam_alloc_leaf(bytes)
                                                   : loam_alloc(bytes);
    if (data == NULL) {
        return false; // VE4
    }
    vec->data = data;
    vec->capacity = loam_usable_size(data) / vec->element_bytes; // VE2
    return true;
}

bool loam_vec_reserve(struct loam_vec *vec, size_t more) {
    size_t least;
    if (more <= vec->capacity - vec->count) {
        return true;
    }
    if (bits_add_overflows(vec->count, more, &least)) {
        error_set_no_memory();
        return false;
    }
    size_t bytes = vec->capacity * vec->element_bytes;
    size_t wanted =
        vec->capacity +
        (bytes < VEC_DOUBLE_BYTES ? vec->capacity : vec->capacity / 2);
    size_t first = VEC_FIRST_BYTES / vec->element_bytes;
    wanted = wanted < first ? first : wanted;
    // Where so much more is not to be had, what is needed may be.
    return (wanted > least && vec_move(vec, wanted)) || vec_move(vec, least);
}

bool loam_vec_shrink(struct loam_vec *vec) {
    if (vec->count != 0) {
        return vec_move(vec, vec->count);
    }
    void *data = vec->data;
    vec->data = NULL;
    vec->capacity = 0;
    loam_free(data);
    return true;
}

// Elements from `at` to the count are gone.
static void vec_cut(struct loam_vec *vec, size_t at) {
    if (vec->contents != LOAM_DATA_LEAF && at < vec->count) {
        memset(vec_at(vec, at), 0, (vec->count - at) * vec->element_bytes);
    }
    vec->count = at; // VE3
}

bool loam_vec_resize(struct loam_vec *vec, size_t count) {
    if (count <= vec->count) {
        vec_cut(vec, count);
        return true;
    }
    size_t more = count - vec->count;
    if (!loam_vec_reserve(vec, more)) {
        return false;
    }
    if (vec->contents == LOAM_DATA_LEAF) {
        memset(vec_at(vec, vec->count), 0, more * vec->element_bytes);
    }
    vec->count = count;
    return true;
}

bool loam_vec_push(struct loam_vec *vec, const void *element) {
    return loam_vec_insert(vec, vec->count, element, 1);
}

bool loam_vec_pop(struct loam_vec *vec, void *element) {
    if (vec->count == 0) {
        return false;
    }
    if (element != NULL) {
        memcpy(element, vec_at(vec, vec->count - 1), vec->element_bytes);
    }
    vec_cut(vec, vec->count - 1);
    return true;
}

// Copies `count` bytes of the array itself, which began at byte `from` before a
// gap of as many was opened at byte `at`, into that gap.
static void vec_fill_from_self(unsigned char *data, size_t at, size_t from,
                               size_t count) {
    size_t before = from < at ? at - from : 0; // of them, before the gap
    before = before < count ? before : count;
    memmove(data + at, data + from, before);
    memmove(data + at + before, data + from + before + count, count - before);
}

bool loam_vec_insert(struct loam_vec *vec, size_t at, const void *elements,
                     size_t count) {
    // Whether they are the vector's own: then they move with it.
    size_t offset = (uintptr_t)elements - (uintptr_t)vec->data;
    bool own = offset < vec->count * vec->element_bytes;
    if (at > vec->count) {
        error_set_invalid();
        return false;
    }
    if (count == 0 || !loam_vec_reserve(vec, count)) {
        return count == 0;
    }
    memmove(vec_at(vec, at + count), vec_at(vec, at),
            (vec->count - at) * vec->element_bytes);
    if (own) {
        vec_fill_from_self(vec->data, at * vec->element_bytes, offset,
                           count * vec->element_bytes);
    } else {
        memcpy(vec_at(vec, at), elements, count * vec->element_bytes);
    }
    vec->count += count;
    return true;
}

void loam_vec_remove(struct loam_vec *vec, size_t at, size_t count) {
    if (at >= vec->count || count == 0) {
        return;
    }
    size_t left = vec->count - at;
    count = count < left ? count : left;
    memmove(vec_at(vec, at), vec_at(vec, at + count),
            (left - count) * vec->element_bytes);
    vec_cut(vec, vec->count - count);
}

struct loam_vec *loam_vec_slice(const struct loam_vec *vec, size_t at,
                                size_t count) {
    struct loam_vec *slice =
        loam_vec_make(vec->element_bytes, (enum loam_data)vec->contents);
    if (slice == NULL || at >= vec->count || count == 0) {
        return slice;
    }
    count = count < vec->count - at ? count : vec->count - at;
    if (!vec_move(slice, count)) {
        return NULL;
    }
    memcpy(slice->data, vec_at(vec, at), count * vec->element_bytes);
    slice->count = count;
    return slice;
}

// --- Sorting ---------------------------------------------------------------

struct vec_sort {
    unsigned char *data;
    size_t bytes; // of an element
    loam_compare_fn *compare;
    void *compare_data;
};

static ALWAYS_INLINE unsigned char *vec_sort_at(const struct vec_sort *sort,
                                                size_t at) {
    return sort->data + at * sort->bytes;
}

static ALWAYS_INLINE bool vec_sort_less(const struct vec_sort *sort, size_t a,
                                        size_t b) {
    return sort->compare(vec_sort_at(sort, a), vec_sort_at(sort, b),
                         sort->compare_data) < 0;
}

// Between two comparisons both are in their places; in between one is in a
// register or on the stack, where the collector looks.
static ALWAYS_INLINE void vec_sort_swap(const struct vec_sort *sort, size_t a,
                                        size_t b) {
    unsigned char *p = vec_sort_at(sort, a);
    unsigned char *q = vec_sort_at(sort, b);
    size_t left = sort->bytes;
    for (; left >= sizeof(uint64_t); left -= sizeof(uint64_t)) {
        uint64_t held, other;
        memcpy(&held, p, sizeof held);
        memcpy(&other, q, sizeof other);
        memcpy(p, &other, sizeof other);
        memcpy(q, &held, sizeof held);
        p += sizeof held;
        q += sizeof held;
    }
    for (; left != 0; left--) {
        unsigned char held = *p;
        *p++ = *q;
        *q++ = held;
    }
}

static void vec_sort_insertion(const struct vec_sort *sort, size_t from,
                               size_t end) {
    for (size_t i = from + 1; i < end; i++) {
        for (size_t at = i; at > from && vec_sort_less(sort, at, at - 1);
             at--) {
            vec_sort_swap(sort, at, at - 1); // VE5
        }
    }
}

// Lets element `root` of a heap of `count` from `from` sink to its place.
static void vec_sort_sink(const struct vec_sort *sort, size_t from, size_t root,
                          size_t count) {
    for (size_t child = 2 * root + 1; child < count; child = 2 * root + 1) {
        if (child + 1 < count &&
            vec_sort_less(sort, from + child, from + child + 1)) {
            child++;
        }
        if (!vec_sort_less(sort, from + root, from + child)) {
            return;
        }
        vec_sort_swap(sort, from + root, from + child);
        root = child;
    }
}

static void vec_sort_heap(const struct vec_sort *sort, size_t from,
                          size_t end) {
    size_t count = end - from;
    for (size_t root = count / 2; root > 0; root--) {
        vec_sort_sink(sort, from, root - 1, count);
    }
    for (size_t last = count - 1; last > 0; last--) {
        vec_sort_swap(sort, from, from + last);
        vec_sort_sink(sort, from, 0, last);
    }
}

// Moves the median of three to `from`.
static void vec_sort_pivot(const struct vec_sort *sort, size_t from,
                           size_t end) {
    size_t middle = from + (end - from) / 2;
    size_t last = end - 1;
    if (vec_sort_less(sort, last, middle)) {
        vec_sort_swap(sort, last, middle);
    }
    if (vec_sort_less(sort, from, middle)) {
        vec_sort_swap(sort, from, middle); // the greater of the lower two
    }
    if (vec_sort_less(sort, last, from)) {
        vec_sort_swap(sort, last, from);
    }
}

// Parts [from, end) about the element at `from`; where that one is then.
static size_t vec_sort_part(const struct vec_sort *sort, size_t from,
                            size_t end) {
    vec_sort_pivot(sort, from, end);
    size_t low = from + 1;
    size_t high = end - 1;
    for (;;) {
        while (low <= high && vec_sort_less(sort, low, from)) {
            low++;
        }
        while (low <= high && vec_sort_less(sort, from, high)) {
            high--;
        }
        if (low >= high) {
            break;
        }
        vec_sort_swap(sort, low++, high--); // equal ones change sides, evenly
    }
    vec_sort_swap(sort, from, high);
    return high;
}

struct vec_part {
    size_t from, end;
    unsigned depth; // partings it may yet take
};

void loam_vec_sort(struct loam_vec *vec, loam_compare_fn *compare, void *data) {
    if (vec->count < 2) {
        return;
    }
    struct vec_sort sort = {vec->data, vec->element_bytes, compare, data};
    struct vec_part waiting[64]; // each at most half of the one before
    size_t count = 0;
    struct vec_part part = {0, vec->count,
                            2 * (unsigned)bits_log2_ceil(vec->count)};
    for (;;) {
        if (part.end - part.from > VEC_INSERTION && part.depth != 0) {
            size_t middle = vec_sort_part(&sort, part.from, part.end);
            part.depth--;
            struct vec_part low = {part.from, middle, part.depth};
            struct vec_part high = {middle + 1, part.end, part.depth};
            bool low_is_less = middle - part.from < part.end - middle;
            waiting[count++] = low_is_less ? high : low;
            part = low_is_less ? low : high;
            continue;
        }
        if (part.end - part.from > VEC_INSERTION) {
            vec_sort_heap(&sort, part.from, part.end); // VE6
        } else {
            vec_sort_insertion(&sort, part.from, part.end);
        }
        if (count == 0) {
            return;
        }
        part = waiting[--count];
    }
}

bool vec_check(const struct loam_vec *vec) {
    if (vec->count > vec->capacity ||
        (vec->capacity == 0) != (vec->data == NULL)) {
        return false; // VE1
    }
    size_t bytes = vec->data == NULL ? 0 : loam_usable_size(vec->data);
    if (bytes / vec->element_bytes != vec->capacity) {
        return false; // VE2
    }
    const unsigned char *data = vec->data;
    for (size_t i = vec->count * vec->element_bytes;
         vec->contents != LOAM_DATA_LEAF && i < bytes; i++) {
        if (data[i] != 0) {
            return false; // VE3
        }
    }
    return true;
}
