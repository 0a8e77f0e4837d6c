// quarantine — what is freed is held until nothing points to it.
//
// Most attacks on a heap, and most of its puzzling crashes, begin with a
// pointer to an object that was freed: the next allocation gets the cell, and
// two owners write into it.  A heap that holds (heap/block.h, B15) lets nobody
// have the cell while a word anywhere in the process still leads into it.
//
//     free(p)        the cell is zeroed, and its bit set in the freed table
//     a cycle        the world stands still; every word of every object in use,
//                    of all roots and of the present pages of the process's
//                    other private mappings is looked at, once, in the order in
//                    which it lies there: what it leads to, if held, is marked
//     the flip       what is held and not marked is free
//
// This is no tracing: an object in use is read whether anything leads to it or
// not.  So a pointer that is missed, because it was hidden, makes a cell free
// as early as any malloc would have: no correct program breaks.  Words that
// only look like pointers hold a cell for longer.
//
// When to begin is arithmetic.  Memory that is held costs space, and a cycle
// costs time: what there is to be read.  As for a heap that is collected
// (collect/pacer.h) the sum of both over all processes is least when the room
// for what is held grows with the square root of
//
//     what the process takes  *  what the program frees while a cycle lasts
//
// And a cycle comes only where the heap would grow if it did not: a program
// that takes itself apart at its end wants none of that memory again.
//
// Invariants
//   QU1  held     between two cycles no cell that was freed is handed out
//   QU2  led to   a cycle frees no held cell into which an aligned word leads
//                 that is in an object in use, a root, or a present page of a
//                 private mapping
//   QU3  bounded  the heap does not grow while more than the room is held that
//                 was freed since the last cycle; the room is never more than
//                 half of what that cycle read, a few MiB, 64 KiB a thread and,
//                 if cycles would take more time than the program else, 16 MiB;
//                 and when memory is refused although a cycle has run, all that
//                 is held is let go
//   QU4  calm     a cycle writes to no memory but the collector's own, and no
//                 page outside the heap comes to be present
//   QU5  empty    what is held through a cycle, and alone in its blocks, takes
//                 no memory
//
// quarantine_count, _is_due, _is_overdue: any mutator; the rest: the conductor.
// After Ainsworth and Jones (MarkUs, 2020) and Erdős, Ainsworth and Jones
// (MineSweeper, 2022), whose sweep without tracing this is.
// Design, alternatives and measurements: docs/design/collect/quarantine.md

#ifndef COLLECT_QUARANTINE_H
#define COLLECT_QUARANTINE_H

#include "base/defs.h"
#include "heap/heap.h"
#include "os/foreign.h"

// The room, in percent of the root: less is slower and smaller.
#define QUARANTINE_SCALE 90

// Roots of a cycle that are remembered, besides two a thread; what is beyond is
// read once more.
#define QUARANTINE_HOLES 256

// What a thread takes besides what is read of it: tables, blocks of its own,
// its stack in the system.  Half of what each of 1000 that allocate took.
#define QUARANTINE_THREAD_BYTES (64 * KiB)

// By so much room may grow where cycles are dear for what they read.
#define QUARANTINE_DEAR_BYTES (16 * MiB)

struct quarantine {
    size_t freed_bytes;   // told since the last cycle; atomic
    size_t room_bytes;    // of these, at which a cycle is due; atomic
    size_t read_bytes;    // by the last cycle: objects, roots, mappings
    size_t foreign_bytes; // of these, mappings; conductor
    uint64_t began_ns;    // processors' time of the process when the cycle that
                          // is on began; conductor
    uint64_t ended_ns;    // and when the last one ended; conductor
    struct foreign_hole *read; // by this cycle, as roots; conductor
    size_t read_count;         // of these
    size_t read_room;          // as many as there is room for; lock
    size_t threads;            // besides the conductor, in this cycle; lock
    void (*unseen)(void); // bell: foreign mappings were not read, as the system
                          // does not tell them; in a stop, may be NULL
    bool alone;           // all cells of all heaps are held or pinned, so that
                          // nothing is to be traced; conductor
    bool gives_way;       // memory is short: all is let go; lock
};

// What a cycle cost, and found.
struct quarantine_cycle {
    size_t read_bytes; // objects in use, roots and foreign pages
    uint64_t cycle_ns; // of the processor, the stop included
    size_t threads;    // that had to be stopped
};

// The room until the next cycle, where the program freed so much in so much of
// the processors' time.  Arithmetic alone.
size_t quarantine_room(const struct quarantine_cycle *cycle, size_t freed_bytes,
                       uint64_t processor_ns);

// The program's malloc begins to hold.
void quarantine_begin(struct quarantine *quarantine);

// Whether a heap that is about to grow should have a cycle instead.
static inline bool quarantine_is_due(const struct quarantine *quarantine) {
    return __atomic_load_n(&quarantine->freed_bytes, __ATOMIC_RELAXED) >=
           __atomic_load_n(&quarantine->room_bytes, __ATOMIC_RELAXED);
}

// The same where the heap does not grow: a program that takes itself apart
// wants none of this memory again.
static inline bool quarantine_is_overdue(const struct quarantine *quarantine) {
    return __atomic_load_n(&quarantine->freed_bytes, __ATOMIC_RELAXED) / 4 >=
           __atomic_load_n(&quarantine->room_bytes, __ATOMIC_RELAXED);
}

// Adds what a mutator has freed.
static inline void quarantine_count(struct quarantine *quarantine,
                                    size_t bytes) {
    __atomic_fetch_add(&quarantine->freed_bytes, bytes, __ATOMIC_RELAXED);
}

// A cycle of this heap is about to stop the world.  The lock.
void quarantine_ready(struct quarantine *quarantine, const struct heap *heap);

// A cycle begins, of this heap: sets `alone`.
void quarantine_look(struct quarantine *quarantine, const struct heap *heap);

// Marks what is held and led to by words of a root: what the marker would do,
// were it not to trace.
void quarantine_read(const uintptr_t *start, const uintptr_t *end);

// A root that was read is no foreign mapping; nor is what lies below it on the
// stack of a thread, where the lowest address of that is known.
void quarantine_note(struct quarantine *quarantine, const uintptr_t *start,
                     const uintptr_t *end, bool stack);

// In a stop, between heap_prepare and heap_flip, roots read: reads all objects
// in use of a heap that holds, and the foreign mappings, and marks what is held
// and led to.  Returns the bytes read.
size_t quarantine_scan(struct quarantine *quarantine, const struct heap *heap);

// What a heap holds: a walk over its tables.  The lock; others may be freeing
// meanwhile.
size_t quarantine_held_bytes(const struct heap *heap);

// After the flip; so many bytes were read, roots included.
void quarantine_finish(struct quarantine *quarantine, size_t read_bytes);

// A cycle was given up: the next is due when twice as much was freed.
void quarantine_put_off(struct quarantine *quarantine);

#endif
