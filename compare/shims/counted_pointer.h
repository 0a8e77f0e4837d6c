// counted_pointer — what the two smart pointers of C++ have in common.
//
// Included by counted_std.h and counted_boost.h, which say what a counted_ref
// is and how one is made (counted_make).

static inline counted_ref *counted_refs(size_t count) {
    return new counted_ref[count]();
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
