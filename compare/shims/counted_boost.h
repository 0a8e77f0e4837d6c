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

static inline void counted_make(counted_ref *ref) {
    *ref = new counted_node;
}

#include "counted_pointer.h"
