// counted_rcbox — GLib's boxes that count: g_rc_box, and g_atomic_rc_box where
// threads share.

#include <glib.h>

#define COUNTED_WEAK 0

#ifdef COUNTED_SHARED
#define COUNTED_MAKE    g_atomic_rc_box_alloc0
#define COUNTED_ACQUIRE g_atomic_rc_box_acquire
#define COUNTED_RELEASE g_atomic_rc_box_release_full
#else
#define COUNTED_MAKE    g_rc_box_alloc0
#define COUNTED_ACQUIRE g_rc_box_acquire
#define COUNTED_RELEASE g_rc_box_release_full
#endif

struct counted_node {
    struct counted_node *left, *right;
    uint64_t value;
};

typedef struct counted_node *counted_ref;

static inline counted_ref *counted_refs(size_t count) {
    return mem_checked(calloc(count, sizeof(counted_ref)));
}

static inline void counted_make(counted_ref *ref) {
    *ref = COUNTED_MAKE(sizeof **ref);
}

static inline void counted_make_atomic(counted_ref *ref) {
    counted_make(ref);
}

static void counted_clear(void *data) {
    struct counted_node *node = data;
    if (node->left != NULL) {
        COUNTED_RELEASE(node->left, counted_clear);
    }
    if (node->right != NULL) {
        COUNTED_RELEASE(node->right, counted_clear);
    }
}

static inline void counted_drop(counted_ref *ref) {
    struct counted_node *old = *ref;
    *ref = NULL;
    if (old != NULL) {
        COUNTED_RELEASE(old, counted_clear);
    }
}

static inline void counted_set(counted_ref *to, const counted_ref *from) {
    struct counted_node *old = *to;
    *to = *from != NULL ? COUNTED_ACQUIRE(*from) : NULL;
    if (old != NULL) {
        COUNTED_RELEASE(old, counted_clear);
    }
}

static inline struct counted_node *counted_at(const counted_ref *ref) {
    return *ref;
}

static inline void counted_touch(const counted_ref *ref) {
    struct counted_node *node = COUNTED_ACQUIRE(*ref);
    keep_object(node);
    COUNTED_RELEASE(node, counted_clear);
}

static inline void counted_in_steps(void) {
}

static inline void counted_settle(void) {
}

static inline uint64_t counted_left(void) {
    return 0;
}
