// tracer — to stop a thread that no signal reaches.
//
// Some threads block every signal for life: helpers of the C library, of other
// runtimes, workers that a careful program made so.  A debugger can stop them.
// No thread can debug another of its own process, but a second process can; so
// one is made that shares all of our memory and is otherwise a stranger, and
// it is told through that memory what to do:
//
//     this process                  the helper (made when it is first needed)
//     order = STOP, thread   ---->  seize, interrupt, wait, read the registers
//     done                   <----
//     ... the stop lasts ...        sleeps; its threads stay as they are
//     order = END            ---->  lets all go, ends
//
// The system may forbid it (a container, a security module, another debugger):
// then tracer_stop says so, and the first refusal to make the helper is
// remembered for the rest of the stop only.
//
// Invariants:
//   V1  still      a thread that was stopped executes nothing until tracer_end,
//                  or until the helper is killed
//   V2  registers  its file holds every register that can hold an address, and
//                  the vector registers as far as the system shows them
//   V3  bounded    tracer_stop returns within about TRACER_PATIENCE_MS, also
//                  for a thread that cannot be stopped (one in the middle of a
//                  vfork); if it can be later, it stands until tracer_end, and
//                  may be asked for again
//   V4  gone       after tracer_end the helper is gone and all threads are free
//   V5  quiet      no allocation, no lock, no signal to the program; its child
//                  is not seen by an ordinary wait
//
// One thread at a time; its signals should be blocked.
// Design, alternatives and measurements: docs/design/os/tracer.md

#ifndef OS_TRACER_H
#define OS_TRACER_H

#include "base/defs.h"

#define TRACER_GENERAL_WORDS ((size_t)40)  // 27 on x86-64, 34 on aarch64
#define TRACER_VECTOR_WORDS  ((size_t)384) // AVX-512 and all before it
#define TRACER_PATIENCE_MS   40

// The registers of one stopped thread.
struct tracer_file {
    uintptr_t stack_pointer;
    uintptr_t thread_pointer; // 0: unknown
    size_t general_count;     // words that are filled
    size_t vector_count;      // words that are filled
    uintptr_t general[TRACER_GENERAL_WORDS];
    uintptr_t vector[TRACER_VECTOR_WORDS];
};

// Stops a thread of this process, other than the caller, and reads its
// registers; false when it cannot be done now.
MUST_USE bool tracer_stop(uint32_t thread, struct tracer_file *file);

// Whether the last tracer_stop failed for want of permission, or of a helper:
// it will not do better next time.
bool tracer_was_refused(void);

// Lets one thread go again that was stopped.
void tracer_free(uint32_t thread);

// Lets all threads go that were stopped, if any.
void tracer_end(void);

// In a forked child: the helper is another's.
void tracer_forked(void);

// The helper's own memory, in which no reference of the program stands.
const void *tracer_memory(size_t *bytes);

#endif
