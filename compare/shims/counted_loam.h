// counted_loam — objects of loam/rc.h.

#include <loam/rc.h>
#include <loam/weak.h>

#define COUNTED_WEAK 1

enum { COUNTED_LAZY_STEP = 8 };

struct counted_node {
    struct counted_node *left, *right;
    uint64_t value;
};

typedef struct counted_node *counted_ref;
typedef struct loam_weak *counted_weak;

#ifdef COUNTED_SHARED
#define COUNTED_FLAGS LOAM_TYPE_SHARED
#else
#define COUNTED_FLAGS 0
#endif

static LOAM_TYPE(counted_type, struct counted_node,
                 LOAM_OWNS(struct counted_node, left, right),
                 .flags = COUNTED_FLAGS);
static LOAM_TYPE(counted_atomic, struct counted_node,
                 LOAM_OWNS(struct counted_node, left, right),
                 .flags = LOAM_TYPE_ATOMIC);

static inline counted_ref *counted_refs(size_t count) {
    return mem_checked(calloc(count, sizeof(counted_ref)));
}

static inline void counted_make(counted_ref *ref) {
    *ref = mem_checked(loam_new(&counted_type));
}

// Of no thread.
static inline void counted_make_atomic(counted_ref *ref) {
    *ref = mem_checked(loam_new(&counted_atomic));
}

static inline void counted_set(counted_ref *to, const counted_ref *from) {
    loam_assign(to, *from);
}

static inline void counted_drop(counted_ref *ref) {
    loam_clear(ref);
}

static inline struct counted_node *counted_at(const counted_ref *ref) {
    return *ref;
}

static inline void counted_touch(const counted_ref *ref) {
    struct counted_node *node = loam_retain(*ref);
    keep_object(node);
    loam_release(node);
}

// Where the tracer sees them: weak references are its objects.
static inline counted_weak *counted_weaks_of(size_t count) {
    return mem_new(count * sizeof(counted_weak));
}

static inline void counted_weak_make(counted_weak *weak,
                                     const counted_ref *ref) {
    *weak = mem_checked(loam_weak_make(*ref));
}

static inline uint64_t counted_weak_read(counted_weak *weak) {
    struct counted_node *node = loam_weak_retain(*weak);
    uint64_t value = node != NULL ? node->value : 0;
    loam_release(node);
    return value;
}

static inline void counted_weak_drop(counted_weak *weak) {
    *weak = NULL;
}

static inline void counted_in_steps(void) {
    loam_release_step(COUNTED_LAZY_STEP);
}

static inline void counted_settle(void) {
    loam_release_step(0);
    loam_settle();
}

static inline uint64_t counted_left(void) {
    struct loam_rc_stats stats;
    loam_rc_stats(&stats, sizeof stats);
    return stats.made - stats.destroyed;
}
