// defs — the words the compiler understands, and the units we count in.
//
// C11 has no word for "this branch is rare" or "do not inline this"; gcc and
// clang have, and this header is the only place where their spelling is known.
// The two switches of a build are given their defaults here:
//
//   LOAM_CHECK   0 CHECK only, 1 and ASSERT, 2 and VERIFY (base/check.h)
//   LOAM_TINY    1 makes every table, stack and block list small, so that the
//                rare paths (overflow, growth, exhaustion) are common in tests
//
// `struct object` is declared and never defined.  A raw word of the program is
// a uintptr_t; it becomes a `struct object *` in one function, which has asked
// whether an object lies there.  The type is the proof that the question was
// put, and since it has no size nobody can read through it by mistake.
//
// Only constants and attributes: no state, no code.
// Design, alternatives and measurements: docs/design/base/defs.md

#ifndef BASE_DEFS_H
#define BASE_DEFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifndef LOAM_CHECK
#define LOAM_CHECK 0
#endif

#ifndef LOAM_TINY
#define LOAM_TINY 0
#endif

#define LIKELY(cond)   __builtin_expect(!!(cond), 1)
#define UNLIKELY(cond) __builtin_expect(!!(cond), 0)

#define COLD          __attribute__((cold, noinline))
#define NOINLINE      __attribute__((noinline))
#define ALWAYS_INLINE inline __attribute__((always_inline))
#define MUST_USE      __attribute__((warn_unused_result))
#define UNUSED        __attribute__((unused))

// Asks for the cache line at p, which may be any address at all.
#define PREFETCH(p)       __builtin_prefetch((p), 0, 3)
#define PREFETCH_WRITE(p) __builtin_prefetch((p), 1, 3)

// On the loops that read memory word by word without knowing what it is:
// stacks with their red zones, data with its guards, objects being written.
// Callees need it too unless they are inlined.
#define NO_SANITIZE                                                            \
    __attribute__((no_sanitize("address", "thread", "undefined")))

#define WORD_BYTES    sizeof(uintptr_t)
#define GRANULE_BYTES ((size_t)16) // the unit of object size and alignment

#define KiB ((size_t)1 << 10) // bytes
#define MiB ((size_t)1 << 20) // bytes
#define GiB ((size_t)1 << 30) // bytes

struct object; // a word that was verified to lie in an object

#endif
