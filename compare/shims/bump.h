// bump — the floor: a pointer that only moves forward.
//
// Memory is mapped and touched before the clock starts, in huge pages where the
// system gives them, as much as a counted run of the same benchmark used.  An
// allocation is then one addition; nothing is reused, and no page is faulted in
// while the clock runs.  Nothing that manages memory can be cheaper, except by
// reusing what is still in the cache.
//
// Several threads take chunks of that memory, and each moves through its own.
//
// A cell is the object after a word that holds its size, as realloc needs it.

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SHIM_MANUAL   0
#define SHIM_COLLECTS 0

#define BUMP_RESERVE_BYTES ((size_t)64 << 30)
#define BUMP_HUGE_BYTES    ((size_t)2 << 20)
#define BUMP_CHUNK_BYTES   ((size_t)256 << 10)

#ifdef SHIM_THREADS
#define BUMP_LOCAL _Thread_local
#else
#define BUMP_LOCAL
#endif

struct shim_layout {
    size_t bytes;
};

static BUMP_LOCAL char *bump_next; // the word before the next object
static BUMP_LOCAL char *bump_end;
static char *bump_start;
static char *bump_taken; // by all threads; the end, where there is one

static inline void shim_open(struct shim_limits limits) {
    char *start = mmap(NULL, BUMP_RESERVE_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED) {
        abort();
    }
    size_t skip = -(uintptr_t)start & (BUMP_HUGE_BYTES - 1);
    bump_start = start + skip;
    bump_taken = bump_start;
    madvise(bump_start, BUMP_RESERVE_BYTES - skip, MADV_HUGEPAGE);
    size_t wanted = limits.prefault_bytes + BUMP_HUGE_BYTES;
#ifdef SHIM_THREADS
    wanted += limits.prefault_bytes / 16 + BUMP_HUGE_BYTES;
#else
    bump_end = start + BUMP_RESERVE_BYTES;
    bump_next = bump_start + 16 - sizeof(size_t);
#endif
    if (wanted > BUMP_RESERVE_BYTES - skip) {
        wanted = BUMP_RESERVE_BYTES - skip;
    }
    for (size_t at = 0; at < wanted; at += 4096) {
        ((volatile char *)bump_start)[at] = 0;
    }
}

// Another chunk for this thread, of at least so many bytes.
static char *bump_refill(size_t cell_bytes) {
#ifdef SHIM_THREADS
    size_t chunk_bytes = cell_bytes + 16 > BUMP_CHUNK_BYTES
                             ? (cell_bytes + 31) & ~(size_t)15
                             : BUMP_CHUNK_BYTES;
    char *chunk =
        __atomic_fetch_add(&bump_taken, chunk_bytes, __ATOMIC_RELAXED);
    bump_end = chunk + chunk_bytes;
    bump_next = chunk + 16 - sizeof(size_t);
    return bump_next;
#else
    (void)cell_bytes;
    return NULL;
#endif
}

static inline void *shim_new(size_t bytes) {
    size_t cell_bytes = (bytes + sizeof(size_t) + 15) & ~(size_t)15;
    char *cell = bump_next;
    if (__builtin_expect(
            cell_bytes > (size_t)(bump_end - cell) || cell_bytes < bytes, 0)) {
        cell = cell_bytes < bytes ? NULL : bump_refill(cell_bytes);
        if (cell == NULL) {
            return NULL;
        }
    }
    bump_next = cell + cell_bytes;
    *(size_t *)cell = bytes;
    return cell + sizeof(size_t);
}

static inline void *shim_raw(size_t bytes) {
    return shim_new(bytes);
}

static inline void *shim_leaf(size_t bytes) {
    return shim_new(bytes);
}

static inline size_t shim_usable(void *p) {
    return ((size_t *)p)[-1];
}

static inline void *shim_resize(void *p, size_t bytes) {
    if (p == NULL) {
        return shim_new(bytes);
    }
    size_t old_bytes = shim_usable(p);
    if (bytes <= old_bytes) {
        ((size_t *)p)[-1] = bytes;
        return p;
    }
    void *moved = shim_new(bytes);
    return moved != NULL ? memcpy(moved, p, old_bytes) : NULL;
}

static inline void shim_dead(void *p) {
    (void)p;
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
#ifdef SHIM_THREADS
    uint64_t used_bytes = (uint64_t)(bump_taken - bump_start);
#else
    uint64_t used_bytes = (uint64_t)(bump_next - bump_start);
#endif
    return (struct shim_figures){.heap_bytes = used_bytes,
                                 .block_bytes = used_bytes,
                                 .allocated_bytes = used_bytes};
}

static inline const char *shim_config(void) {
    return "prefaulted, huge pages, never freed";
}
