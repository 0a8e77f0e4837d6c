// shim — the one interface that every benchmark is written to.
//
// Each collector is one header in shims/, chosen when the benchmark is compiled
// (-DSHIM="shims/NAME.h") and inline throughout: no collector pays for a call
// that another does not.  A shim does no work that its collector would not ask
// of a user who knows it well.
//
//   SHIM_MANUAL            1 where the program must free, else 0: a constant,
//                          so `if (SHIM_MANUAL)` costs the others nothing
//   SHIM_COLLECTS          1 where garbage is found without being told
//   shim_open(limits)      start: a heap of at most limit_bytes (0: defaults);
//                          prefault_bytes is for the bump allocator
//   shim_new(bytes)        zeroed, may hold pointers
//   shim_raw(bytes)        as malloc: any contents, may hold pointers
//   shim_leaf(bytes)       any contents, holds no pointers
//   shim_resize(p, bytes)  as realloc, of the same kind
//   shim_dead(p)           the program knows that this object is dead
//   shim_usable(p)         bytes of the object that the program may use
//   shim_layout(...)       a layout for shim_typed: where the pointers are
//   shim_typed(layout)     one zeroed object of that layout
//   shim_collect()         collect now, if there is a now
//   shim_attach()          in a thread: the collector may have to be told
//   shim_blocking(f, data) f(data), which waits and touches no object: a
//                          collection meanwhile need not wake this thread
//   shim_figures()         what the collector says of itself
//   shim_config()          how it was set up, for the report
//
// A benchmark of several threads defines SHIM_THREADS before it includes
// anything, and one that needs weak references or finalizers SHIM_WEAK: those
// that have them (loam, bdwgc) then also offer
//
//   shim_weak(object)      a reference that does not keep it; itself collected
//   shim_weak_get(weak)    the object, or NULL once it was collected
//   shim_finalizer(object, f)   f(object) is called when it is found dead;
//                          NULL: nothing is
//   shim_finalizers_run()  call what is due; how many were called
//   shim_map(count)        a map with weak keys, for so many entries
//   shim_map_put(map, key, value), shim_map_get(map, key),
//   shim_map_count(map)    entries whose keys were not yet found dead
//
// Everything but shim_open may return NULL, for want of memory; benchmarks call
// the mem_ functions below, which end the run with that result.

#ifndef SHIM_H
#define SHIM_H

#include <stddef.h>
#include <stdint.h>

struct shim_limits {
    size_t limit_bytes;    // the heap may not exceed this; 0: no limit
    size_t prefault_bytes; // the bump allocator touches so much beforehand
};

// All zero where the collector cannot say.
struct shim_figures {
    uint64_t heap_bytes;      // held from the system for objects
    uint64_t block_bytes;     // of these, in blocks that hold objects
    uint64_t metadata_bytes;  // held beside the heap
    uint64_t floor_bytes;     // the heap at which the first collection is due
    uint64_t collections;     // so far
    uint64_t collect_ns;      // spent in them
    uint64_t mark_ns;         // of these, marking
    uint64_t pause_ns;        // the last time the world stood still
    uint64_t stop_ns;         // of this, until everyone had stopped
    uint64_t live_bytes;      // after the last collection; count: the most ever
    uint64_t allocated_bytes; // count and bump: handed out, in bump's cells
};

#include SHIM

_Noreturn static inline void measure_out_of_memory(void);

static inline void *mem_checked(void *p) {
    if (__builtin_expect(p == NULL, 0)) {
        measure_out_of_memory();
    }
    return p;
}

static inline void *mem_new(size_t bytes) {
    return mem_checked(shim_new(bytes));
}

static inline void *mem_raw(size_t bytes) {
    return mem_checked(shim_raw(bytes));
}

static inline void *mem_leaf(size_t bytes) {
    return mem_checked(shim_leaf(bytes));
}

static inline void *mem_resize(void *p, size_t bytes) {
    return mem_checked(shim_resize(p, bytes));
}

static inline void *mem_typed(const struct shim_layout *layout) {
    return mem_checked(shim_typed(layout));
}

#endif
