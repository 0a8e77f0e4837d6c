#include "support/scrub.h"

#include <stddef.h>
#include <stdint.h>

#include "loam.h"

// Volatile stores cannot be left out, and each call of the chain adds a frame.
// Uninstrumented: a sanitizer's red zones would stay as they were.
__attribute__((no_sanitize("address"))) NOT_INLINED static void
scrub_frame(unsigned depth) {
    volatile uintptr_t words[1024];
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        words[i] = 0;
    }
    if (depth) {
        scrub_frame(depth - 1);
    }
    words[0] = 1; // not a tail call
}

// The same from half a frame further down: what lay between two frames of the
// first pass lies within one of the second.
__attribute__((no_sanitize("address"))) NOT_INLINED static void
scrub_shifted(void) {
    volatile uintptr_t words[512];
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        words[i] = 0;
    }
    scrub_frame(7);
    words[0] = 1;
}

// A compiler may leave one word between the array and the return address, to
// align the frame; an array that is a word shorter reaches there.
__attribute__((no_sanitize("address"))) NOT_INLINED static void
scrub_odd(void) {
    volatile uintptr_t words[511];
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        words[i] = 0;
    }
}

__attribute__((no_sanitize("address"))) void scrub_stack(void) {
    // Or it aligns by pushing a register, with what the last call left there.
    volatile uintptr_t words[3];
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        words[i] = 0;
    }
    scrub_frame(7);
    scrub_shifted();
    scrub_odd();
    words[0] = 1; // not a tail call
}

_Bool scrub_collect(void) {
    scrub_stack();
    return loam_collect();
}
