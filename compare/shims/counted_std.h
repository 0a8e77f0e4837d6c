// counted_std — std::shared_ptr and std::weak_ptr.  Its counts are atomic from
// the moment when the process has made a thread.

#include <memory>

#define COUNTED_WEAK 1

struct counted_node;
typedef std::shared_ptr<counted_node> counted_ref;
typedef std::weak_ptr<counted_node> counted_weak;

struct counted_node {
    counted_ref left, right;
    uint64_t value = 0;
};

static inline void counted_make(counted_ref *ref) {
    *ref = std::make_shared<counted_node>();
}

#include "counted_pointer.h"

static inline counted_weak *counted_weaks_of(size_t count) {
    return new counted_weak[count]();
}

static inline void counted_weak_make(counted_weak *weak,
                                     const counted_ref *ref) {
    *weak = *ref;
}

static inline uint64_t counted_weak_read(counted_weak *weak) {
    counted_ref node = weak->lock();
    return node != nullptr ? node->value : 0;
}

static inline void counted_weak_drop(counted_weak *weak) {
    weak->reset();
}
