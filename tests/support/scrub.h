// scrub — a stack without memories.
//
// A conservative collector keeps what a dead stack slot still points to.  Tests
// that require an object to be gone first overwrite the stack below them and
// the registers, and do their allocating in functions of their own frame.

#ifndef SUPPORT_SCRUB_H
#define SUPPORT_SCRUB_H

// For a function whose frame shall be gone when it returns.
#define NOT_INLINED __attribute__((__noinline__, __noclone__))
#if defined(__clang__)
#undef NOT_INLINED
#define NOT_INLINED __attribute__((__noinline__))
#endif

// Zeroes all of the 64 KiB of the stack right below the caller's frame, and the
// registers that a call may change.
void scrub_stack(void);

// scrub_stack, and then loam_collect in the same place; true as loam_collect's.
_Bool scrub_collect(void);

// How many times more work an optimised build without sanitizers does.
#if !defined(__OPTIMIZE__) || defined(__SANITIZE_ADDRESS__) ||                 \
    defined(__SANITIZE_THREAD__)
#define SCRUB_SLOW 1
#else
#define SCRUB_SLOW 0
#endif
#define SCALED(many, few) (SCRUB_SLOW ? (few) : (many))

#endif
