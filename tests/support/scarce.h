// scarce — no memory but what is there.
//
// Between scarce_begin and scarce_end the heap may not grow and nothing is
// collected: small objects may still be had, for a while; larger ones are
// refused.  For tests of what a refusal leaves.

#ifndef SUPPORT_SCARCE_H
#define SUPPORT_SCARCE_H

#include "loam.h"

static inline void scarce_begin(void) {
    loam_disable();
    (void)loam_set_limit(1);
}

static inline void scarce_end(void) {
    (void)loam_set_limit(0);
    loam_enable();
}

#endif
