// collect — the conductor: one cycle, from stop to resume.
//
// The conductor is whichever mutator finds that a cycle is due.  It holds the
// lock of the world, stops all other threads, walks through a few states, and
// lets them go on.
//
//     IDLE -> ROOTS     world stopped, tails out, freed cells out, marks clear
//     ROOTS -> MARK     every root read
//     MARK -> REMARK    reserved: what was written while marking
//     MARK -> FLIP      nothing left to be looked at
//     FLIP -> IDLE      holes made of the dead, tails in, a new goal
//     any -> IDLE       given up: nothing is reclaimed
//
// Each heap has a struct collector: its pacer and its figures.  What all of
// them share stands in struct conductor: what the program said about roots, the
// marker, and the options that concern collections.  A cycle is of one heap;
// objects of others are neither read nor kept, unless the heap was told that
// they are its roots.
//
// A stop may fail (roots/world.h).  The cycle is given up then, before it has
// changed anything, and the heap grows instead.
//
// Invariants
//   C1  kept      an object that is reachable from a root by words that count
//                 when a cycle begins is in use, unchanged, when it ends
//   C2  reclaimed a cell that is neither marked nor pinned is free after it
//   C3  alone     no cycle begins inside a cycle, hence none in a scanner
//   C4  frugal    a cycle needs no memory that is not there when it begins
//                 (the audit, a debugging aid, excepted)
//   C5  figures   every figure is monotone or describes the last cycle
//   C6  same      a mutator that was stopped finds its caches as it left them,
//                 but for freed cells and blocks that it does not bump in
//
// Called by a mutator that holds the lock, at the door (loam_collect) or from
// the ladder.
// Design, alternatives and measurements: docs/design/collect/collect.md

#ifndef COLLECT_COLLECT_H
#define COLLECT_COLLECT_H

#include "base/defs.h"
#include "collect/help.h"
#include "collect/lost.h"
#include "collect/pacer.h"
#include "collect/quarantine.h"
#include "collect/settle.h"
#include "heap/cache.h"
#include "heap/heap.h"
#include "heap/region.h"
#include "rc/explain.h"
#include "roots/mutator.h"
#include "roots/roots.h"
#include "roots/world.h"
#include "trace/mark.h"

enum collect_phase {
    COLLECT_IDLE,
    COLLECT_ROOTS,
    COLLECT_MARK,
    COLLECT_REMARK,
    COLLECT_FLIP
};

enum collect_reason {
    COLLECT_ASKED,    // by the program
    COLLECT_GOAL,     // the heap reached the pacer's goal
    COLLECT_SHORTAGE, // memory was refused
    COLLECT_EVERY,    // the option that collects at every Nth slow path
    COLLECT_HELD,     // much that was freed is held
    COLLECT_REASONS
};

// What is told of a cycle when it is over.
struct collect_report {
    uint64_t number; // of the cycle, from 1
    enum collect_reason reason;
    struct census census;     // what the flip found
    size_t used_bytes;        // in objects when it began
    size_t allocated_bytes;   // since the cycle before, tails and all
    size_t heap_bytes;        // committed after it
    size_t root_bytes;        // scanned outside the heap
    size_t scanned_bytes;     // read in objects
    size_t swept_bytes;       // read for what is held
    size_t foreign_bytes;     // of these, outside of the heap
    size_t pending_bytes;     // lost, and not yet to be freed
    size_t neighbour_objects; // marked by a word one past another's end
    size_t goal_bytes;        // the next one's
    uint64_t pause_ns;      // from the first signal to the last thread's leave
    uint64_t stop_ns;       // of these, until the last thread stood
    uint64_t mark_ns;       // and marking
    size_t threads;         // stopped, the conductor not counted
    size_t markers;         // that marked side by side
    size_t audited_objects; // reached by the audit, if it ran
    struct settle_report settled;    // weak references and their like
    struct explain_report explained; // counted objects
};

// What it has done so far.
struct collect_figures {
    uint64_t cycles, failed;
    uint64_t pause_ns_max, pause_ns_total, mark_ns_total;
    uint64_t stop_ns_max, stop_ns_total;
    struct collect_report last;
};

// What the heaps of a process share.
struct conductor {
    struct roots roots;           // lock
    struct marker marker;         // conductor, in a stop
    struct help help;             // lock
    struct settle settle;         // lock
    struct quarantine quarantine; // of the heap that holds
    struct lost_tally lost;       // of the last report; lock
    uint32_t held;                // nested; no cycle begins; lock
    enum collect_phase phase;     // conductor; atomic, after the thread
    uint32_t thread;           // the conductor's, in a cycle; conductor; atomic
    uint32_t disabled;         // nested; automatic cycles only; atomic
    uint32_t condemned;        // cycles that condemned counted objects; atomic
    struct explain_list *list; // a cycle fills it, or NULL; lock
    bool serves;               // pinned leaves are malloc's: they wait for no
                               // cycle, and begin none; atomic
    bool stops;                // the world was stopped, or is to be, though it
                               // serves; atomic
    bool lists_lost;           // malloc's cells are KIND_PINNED, and freed by
                               // the program alone; constant once set
    bool neighbours;           // a word one past the end keeps; constant
    bool check_mark;           // run the audit; constant
    bool check_verify;         // walk the heap at phase borders; constant
    uint32_t collect_every;    // slow paths between cycles; 0 never; constant
    uint64_t slow_paths;       // passed so far; lock
    size_t huge_bytes;         // huge pages from this size on; 0 never, or
                               // asked for already; lock
    void (*report)(const struct collect_report *report); // bell; may be NULL
    bool (*shortage)(size_t bytes);  // bell; whether to try again; may be NULL
    size_t (*relieve)(size_t bytes); // bell; takes so much from caches, and
                                     // says how much went; may be NULL; lock
    void (*failed)(const struct world_stop_report *why); // bell; may be NULL
    void (*blind)(void); // bell: thread-local variables are not found;
                         // may be NULL; rung once, after the first cycle
    // Bell: a slot owns without a count; in a stop, may be NULL.
    void (*unowned)(const struct slots_fault *fault);
    bool tls_asked;  // whether they are
    bool tls_missed; // they are not, and nobody was told yet
};

struct collector {
    struct conductor *conductor; // shared; constant
    struct heap *heap;           // constant
    struct heap **root_heaps;    // whose objects are roots; meta memory; lock
    size_t root_heap_count;      // of them
    size_t root_heap_room;       // for so many
    struct pacer pacer;          // lock
    uint64_t resumed_ns;         // clock when the last cycle ended; lock
    uint64_t allocated_then;     // heap's allocated_bytes at that time; lock
    struct collect_figures figures; // lock
};

// Readies what all share, and a collector, from all zero; false when memory is
// short.
MUST_USE static inline bool
collect_init_conductor(struct conductor *conductor) {
    return mark_init(&conductor->marker);
}

void collect_init(struct collector *collector, struct conductor *conductor,
                  struct heap *heap);

// Calls body(data) with the registers of the program on its stack and the
// mutator's hot_end set: whatever body calls may begin a cycle, and its frames
// are not scanned.  They would be full of stale words, for they lie where the
// program's last calls were.  Calls nest: a hook that calls in again has its
// own hot end.
void collect_enter(struct mutator *mutator, void (*body)(void *data),
                   void *data);

// One cycle; false when it could not begin (C3) or was given up, and nothing
// has changed.  `self` is INSIDE, within collect_enter, and holds the lock.
bool collect_cycle(struct collector *collector, struct mutator *self,
                   enum collect_reason reason);

// Whether a cycle is on, and whether it is the calling thread's.  A thread that
// no stop waits for may ask at any time.
static inline bool collect_is_on(const struct conductor *conductor) {
    return __atomic_load_n(&conductor->phase, __ATOMIC_ACQUIRE) != COLLECT_IDLE;
}

static inline bool collect_is_by(const struct conductor *conductor,
                                 uint32_t thread) {
    return collect_is_on(conductor) &&
           __atomic_load_n(&conductor->thread, __ATOMIC_RELAXED) == thread;
}

// Gives every free chunk back to the system at once; lock.
static inline void collect_trim(struct collector *collector) {
    region_trim(collector->heap->ground, true);
}

// Adds the tally of a set to its heap's sums; by its mutator with the lock, or
// in a stop.
static inline void collect_add_tally(struct cacheset *set) {
    cache_add_tally(set->heap, &set->tally);
}

// Brings the counted blocks that a flip, or the rebuilding of a child's heap,
// has left to their mutators (E3 of heap/heap.h) to the caches they belong to.
// In a stop, or in such a child.
void collect_bring_back(struct heap *heap);

#endif
