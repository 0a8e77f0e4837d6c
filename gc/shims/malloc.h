// malloc — Loam under the names of the C library's allocator.
//
// libloam_malloc.so, loaded before the C library or linked first, defines the
// whole family: whatever the program, its libraries and the C library itself
// ask for comes from Loam's heap, and goes back there.  No program need be
// compiled again.
//
//     malloc free calloc realloc reallocarray               malloc.c
//     aligned_alloc memalign posix_memalign valloc pvalloc
//     free_sized free_aligned_sized cfree malloc_usable_size
//     mallopt mallinfo mallinfo2 malloc_trim                malloc_tell.c
//     malloc_stats malloc_info
//     operator new and delete, all of them                  malloc_new.c
//     what leaked, told                                     malloc_leak.c
//     LeakSanitizer's names                                 malloc_lsan.c
//     dlopen, which does not let a library pass it by       malloc_dlopen.S
//
// Each checks its arguments as the C library documents it, and asks the door.
// The names have no version of ours: they must be found whatever version of the
// C library's names the program was linked with.
//
// Invariants
//   ML1  letter   results, errno, alignment and the handling of zero, absurd
//                 and overflowing sizes are glibc's
//   ML2  whole    all that malloc_usable_size names may be used
//   ML3  errno    a free of any kind leaves errno as it was
//   ML4  misuse   a pointer that is none of ours, freed before, or inside of an
//                 object is told with its caller, and nothing is done; where
//                 LOAM_ABORT is set, the process ends then
//   ML5  early    every call works before any constructor has run, inside of
//                 dlsym and the loader, and after a thread's end
//   ML6  new     new calls the program's handler until it succeeds, throws or
//                 returns NULL as the standard says; without a C++ library in
//                 the process nobody can ask for it
//   ML7  deep     a library that is loaded to prefer its own names finds Loam's
//                 malloc all the same; dlopen looks where its caller would
//
// Any thread, at any time.
// Design, alternatives and measurements: docs/design/shims/malloc.md

#ifndef SHIMS_MALLOC_H
#define SHIMS_MALLOC_H

#include "api/door.h"

#include <stddef.h>

// What every name here is to the linker, whatever the build hides.
#define MALLOC_API __attribute__((__visibility__("default")))

// The caller of the function of the family that this stands in.
#define MALLOC_CALLER __builtin_return_address(0)

// What is to be done with a pointer that cannot be used (ML4).
COLD void malloc_misused(const char *function, const void *p,
                         const void *caller);

// Readies the report of what leaked, where that is wished.
void malloc_leak_begin(void);

// Looks, and prints, with functions and lines if those can be had; whether
// something has leaked and is not suppressed.  The last one is the only one of
// its sort, and none comes at exit after it.
bool malloc_leak_check(bool lines);
bool malloc_leak_check_last(void);

// The next dlopen, for the one in front of it.
extern void *(*malloc_dlopen)(const char *name, int flags);
void *(*malloc_find_dlopen(void))(const char *name, int flags);

// Frees for whatever name the program used.
static inline void malloc_drop(void *p, const char *function,
                               const void *caller) {
    if (p != NULL && UNLIKELY(!loam_door_free(p))) {
        malloc_misused(function, p, caller);
    }
}

#endif
