// counted_glib — a GObject of a type of one's own.  Its counts are atomic.

#include <glib-object.h>

#define COUNTED_WEAK 1

typedef struct counted_node *counted_ref;
typedef GWeakRef counted_weak;

struct counted_node {
    GObject parent;
    struct counted_node *left, *right;
    uint64_t value;
};
struct counted_node_class {
    GObjectClass parent;
};
typedef struct counted_node CountedNode;
typedef struct counted_node_class CountedNodeClass;

static GType counted_node_get_type(void);
G_DEFINE_TYPE(CountedNode, counted_node, G_TYPE_OBJECT)

static void counted_node_dispose(GObject *object) {
    struct counted_node *node = (struct counted_node *)object;
    g_clear_object(&node->left);
    g_clear_object(&node->right);
    G_OBJECT_CLASS(counted_node_parent_class)->dispose(object);
}

static void counted_node_class_init(CountedNodeClass *class) {
    G_OBJECT_CLASS(class)->dispose = counted_node_dispose;
}

static void counted_node_init(CountedNode *node) {
    (void)node;
}

static inline counted_ref *counted_refs(size_t count) {
    return mem_checked(calloc(count, sizeof(counted_ref)));
}

static inline void counted_make(counted_ref *ref) {
    *ref = g_object_new(counted_node_get_type(), NULL);
}

static inline void counted_make_atomic(counted_ref *ref) {
    counted_make(ref);
}

static inline void counted_set(counted_ref *to, const counted_ref *from) {
    g_set_object(to, *from);
}

static inline void counted_drop(counted_ref *ref) {
    g_clear_object(ref);
}

static inline struct counted_node *counted_at(const counted_ref *ref) {
    return *ref;
}

static inline void counted_touch(const counted_ref *ref) {
    struct counted_node *node = g_object_ref(*ref);
    keep_object(node);
    g_object_unref(node);
}

static inline counted_weak *counted_weaks_of(size_t count) {
    return mem_checked(calloc(count, sizeof(counted_weak)));
}

static inline void counted_weak_make(counted_weak *weak,
                                     const counted_ref *ref) {
    g_weak_ref_init(weak, *ref);
}

static inline uint64_t counted_weak_read(counted_weak *weak) {
    struct counted_node *node = g_weak_ref_get(weak);
    uint64_t value = node != NULL ? node->value : 0;
    g_clear_object(&node);
    return value;
}

static inline void counted_weak_drop(counted_weak *weak) {
    g_weak_ref_clear(weak);
}

static inline void counted_in_steps(void) {
}

static inline void counted_settle(void) {
}

static inline uint64_t counted_left(void) {
    return 0;
}
