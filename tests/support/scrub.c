#include "support/scrub.h"

#include <stddef.h>
#include <stdint.h>

#include "loam.h"

// Volatile stores cannot be left out, and each call of the chain adds a frame.
NOT_INLINED static void scrub_frame(unsigned depth) {
    volatile uintptr_t words[1024];
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        words[i] = 0;
    }
    if (depth) {
        scrub_frame(depth - 1);
    }
    words[0] = 1; // not a tail call
}

void scrub_stack(void) {
    scrub_frame(7);
}

_Bool scrub_collect(void) {
    scrub_stack();
    return loam_collect();
}
