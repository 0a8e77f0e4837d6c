#include "roots/roots.h"

#include "base/bits.h"
#include "os/segments.h"
#include "roots/mutator.h"
#include "roots/world.h"

// What a visit of one extent needs to know.
struct roots_call {
    const struct roots *roots;
    roots_visit *visit;
    void *data;
    enum root_kind kind;
};

static void roots_words(struct extent extent, void *data) {
    const struct roots_call *call = data;
    uintptr_t start = bits_round_up(extent.start, WORD_BYTES);
    uintptr_t end = bits_round_down(extent.end, WORD_BYTES);
    if (start < end) {
        call->visit((const uintptr_t *)start, (const uintptr_t *)end,
                    call->kind, call->data);
    }
}

static void roots_segment(const void *start, const void *end, void *data) {
    const struct roots_call *call = data;
    struct extent extent = {(uintptr_t)start, (uintptr_t)end};
    ranges_each_outside(&call->roots->excluded, extent, roots_words, data);
}

static void roots_stack(const uintptr_t *start, const uintptr_t *end,
                        void *data) {
    const struct roots_call *call = data;
    call->visit(start, end, ROOT_STACK, call->data);
}

// Where the loader's own figures are not to be had, a block of thread-local
// variables is taken for longer than it is, and reaches into the stack below
// it: in the conductor's thread into the frames of this very walk.
static void roots_block(const void *start, const void *end, void *data) {
    const struct mutator *conductor =
        __atomic_load_n(&world.conductor, __ATOMIC_RELAXED);
    const void *hot_end = conductor == NULL ? NULL : conductor->hot_end;
    if (start < hot_end && hot_end < end) {
        start = hot_end;
    }
    roots_segment(start, end, data);
}

static void roots_thread(uintptr_t thread_pointer, void *data) {
    segments_each_tls(thread_pointer, roots_block, data);
}

static void roots_kept(struct mutator *mutator, void *data) {
    const struct roots_call *call = data;
    if (mutator->kept != NULL) {
        call->visit(mutator->kept, mutator->kept + MUTATOR_KEPT, ROOT_STATIC,
                    call->data);
    }
}

void roots_each(const struct roots *roots, roots_visit *visit, void *data) {
    struct roots_call call = {roots, visit, data, ROOT_STATIC};
    world_each_stack(roots_stack, &call);
    world_each(roots_kept, &call);
    segments_each(roots_segment, &call); // tells the next how far to look
    world_each_thread_pointer(roots_thread, &call);
    call.kind = ROOT_ADDED;
    for (size_t i = 0; i < ranges_count(&roots->added); i++) {
        ranges_each_outside(&roots->excluded, ranges_get(&roots->added, i),
                            roots_words, &call);
    }
}

void roots_visit_pushed(const struct roots *roots, struct extent extent,
                        roots_visit *visit, void *data) {
    struct roots_call call = {roots, visit, data, ROOT_ADDED};
    ranges_each_outside(&roots->excluded, extent, roots_words, &call);
}
