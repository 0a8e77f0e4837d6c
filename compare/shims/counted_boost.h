// counted_boost — Boost's intrusive_ptr, with its own counter in the object:
// an atomic one where threads share.

#include <boost/smart_ptr/intrusive_ptr.hpp>
#include <boost/smart_ptr/intrusive_ref_counter.hpp>

#define COUNTED_WEAK 0

#ifdef COUNTED_SHARED
#define COUNTED_POLICY boost::thread_safe_counter
#else
#define COUNTED_POLICY boost::thread_unsafe_counter
#endif

struct counted_node;
typedef boost::intrusive_ptr<counted_node> counted_ref;

struct counted_node
    : boost::intrusive_ref_counter<counted_node, COUNTED_POLICY> {
    counted_ref left, right;
    uint64_t value = 0;
};

static inline counted_ref *counted_refs(size_t count) {
    return new counted_ref[count]();
}

static inline void counted_make(counted_ref *ref) {
    *ref = new counted_node;
}

static inline void counted_make_atomic(counted_ref *ref) {
    counted_make(ref);
}

static inline void counted_set(counted_ref *to, const counted_ref *from) {
    *to = *from;
}

static inline void counted_drop(counted_ref *ref) {
    ref->reset();
}

static inline counted_node *counted_at(const counted_ref *ref) {
    return ref->get();
}

static inline void counted_touch(const counted_ref *ref) {
    counted_ref copy = *ref;
    keep_object(copy.get());
}

static inline void counted_in_steps(void) {
}

static inline void counted_settle(void) {
}

static inline uint64_t counted_left(void) {
    return 0;
}
