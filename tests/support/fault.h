// fault — system calls that fail on demand.
//
// A test that is linked with --wrap for the functions below can let the nth
// call from now on fail, counted over all of them: n = 1, 2, ... until a run
// passes with no call refused has then seen every failure there is.
//
//     for (size_t n = 1;; n++) {
//         fault_arm(n);
//         ... the work under test ...
//         fault_disarm();
//         if (fault_hits() < n) { break; }   // it made fewer calls than n
//     }
//
// Wrapped: mmap, mprotect, madvise, munmap, as called by the code under test.
// The C library's own calls are not seen.  A refused call does nothing, sets
// errno to ENOMEM and returns its failure.
//
// One thread arms; calls may come from any.

#ifndef SUPPORT_FAULT_H
#define SUPPORT_FAULT_H

#include <stddef.h>

// Starts counting; the nth call fails, n >= 1.
void fault_arm(size_t n);

// As fault_arm, but all calls from the nth on fail.
void fault_arm_from(size_t n);

// No call fails from here on; the counter stops.
void fault_disarm(void);

// The calls counted since the last arming.
size_t fault_hits(void);

#endif
