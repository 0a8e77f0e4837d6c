// count — not a competitor: a malloc that counts.
//
// One run of a benchmark on it, with its frees, says how many bytes are alive
// at the worst moment (the live size that heap limits are multiples of) and how
// many are allocated in all (what the bump allocator must have touched).  Live
// bytes are requests rounded up to 16, the same for every collector.

#include <stdlib.h>

#define SHIM_MANUAL   1
#define SHIM_COLLECTS 0

struct shim_layout {
    size_t bytes;
};

static _Atomic uint64_t count_now;
static _Atomic uint64_t count_most;
static _Atomic uint64_t count_all;

static inline void shim_open(struct shim_limits limits) {
    (void)limits;
}

static inline uint64_t count_round(size_t bytes) {
    return bytes == 0 ? 16 : ((uint64_t)bytes + 15) & ~(uint64_t)15;
}

static inline void *count_note(size_t *head, size_t bytes) {
    if (head == NULL) {
        return NULL;
    }
    head[0] = bytes;
    uint64_t now = count_now += count_round(bytes);
    count_all += count_round(bytes + sizeof(size_t));
    uint64_t most = count_most;
    while (now > most &&
           !__atomic_compare_exchange_n(&count_most, &most, now, 1,
                                        __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    return head + 2;
}

static inline void *shim_new(size_t bytes) {
    return count_note(calloc(1, bytes + 16), bytes);
}

static inline void *shim_raw(size_t bytes) {
    return count_note(malloc(bytes + 16), bytes);
}

static inline void *shim_leaf(size_t bytes) {
    return shim_raw(bytes);
}

static inline size_t shim_usable(void *p) {
    return ((size_t *)p)[-2];
}

static inline void *shim_resize(void *p, size_t bytes) {
    if (p == NULL) {
        return shim_raw(bytes);
    }
    size_t *head = (size_t *)p - 2;
    count_now -= count_round(head[0]);
    return count_note(realloc(head, bytes + 16), bytes);
}

static inline void shim_dead(void *p) {
    if (p != NULL) {
        size_t *head = (size_t *)p - 2;
        count_now -= count_round(head[0]);
        free(head);
    }
}

static inline struct shim_layout
shim_layout(size_t bytes, const size_t *offsets, size_t count) {
    (void)offsets;
    (void)count;
    return (struct shim_layout){bytes};
}

static inline void *shim_typed(const struct shim_layout *layout) {
    return shim_new(layout->bytes);
}

static inline void shim_collect(void) {
}

static inline void shim_attach(void) {
}

static inline void shim_blocking(void *(*work)(void *), void *data) {
    work(data);
}

static inline struct shim_figures shim_figures(void) {
    return (struct shim_figures){.live_bytes = count_most,
                                 .allocated_bytes = count_all};
}

static inline const char *shim_config(void) {
    return "malloc that counts";
}
