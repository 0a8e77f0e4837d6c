// collect — the conductor: one cycle, from stop to resume.
//
// A cycle is a walk through a few states.  In this version the one mutator is
// the conductor, so the world is stopped as soon as its registers are on its
// stack.
//
//     IDLE -> ROOTS     tails out, freed cells out, marks clear
//     ROOTS -> MARK     every root read
//     MARK -> REMARK    reserved: what was written while marking
//     MARK -> FLIP      nothing left to be looked at
//     FLIP -> IDLE      holes made of the dead, tails in, a new goal
//     any -> IDLE       given up: nothing is reclaimed
//
// What a cycle needs to decide and to tell stands in struct collector: the heap
// and the mutator, what the program said about roots, the pacer, the options
// that concern collections, and the figures.
//
// Invariants
//   C1  kept      an object that is reachable from a root by words that count
//                 when a cycle begins is in use, unchanged, when it ends
//   C2  reclaimed a cell that is neither marked nor pinned is free after it
//   C3  alone     no cycle begins inside a cycle, hence none in a scanner
//   C4  frugal    a cycle needs no memory that is not there when it begins
//                 (the audit, a debugging aid, excepted)
//   C5  figures   every figure is monotone or describes the last cycle
//
// Called by the mutator, at the door (loam_collect) or from the ladder.
// Design, alternatives and measurements: docs/design/collect/collect.md

#ifndef COLLECT_COLLECT_H
#define COLLECT_COLLECT_H

#include "base/defs.h"
#include "collect/pacer.h"
#include "heap/heap.h"
#include "roots/roots.h"
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
    size_t neighbour_objects; // marked by a word one past another's end
    size_t goal_bytes;        // the next one's
    uint64_t pause_ns, mark_ns;
    size_t audited_objects; // reached by the audit, if it ran
};

// What it has done so far.
struct collect_figures {
    uint64_t cycles, failed;
    uint64_t pause_ns_max, pause_ns_total, mark_ns_total;
    struct collect_report last;
};

struct collector {
    struct heap *heap;
    struct mutator *mutator; // the one
    struct mutator **here;   // where the thread keeps it; cleared while
                             // the program's code runs inside a cycle
    struct roots roots;
    struct pacer pacer;
    struct marker marker;
    enum collect_phase phase;
    const void *hot_end;     // of the stack where the program called in;
                             // NULL while the program runs
    uint32_t disabled;       // nested; automatic cycles only
    bool neighbours;         // a word one past the end keeps
    bool check_mark;         // run the audit
    bool check_verify;       // walk the heap at phase borders
    uint32_t collect_every;  // slow paths between cycles; 0 never
    uint64_t slow_paths;     // passed so far
    size_t huge_bytes;       // huge pages from this size on; 0 never, or
                             // asked for already
    uint64_t resumed_ns;     // clock when the last cycle ended
    uint64_t allocated_then; // heap's allocated_bytes at that time
    struct collect_figures figures;
    void (*report)(const struct collect_report *report); // bell; may be NULL
    bool (*shortage)(size_t bytes); // bell; whether to try again; may be NULL
    bool in_hook;                   // it is ringing
};

// Readies a collector that is all zero; false when memory is short.
MUST_USE bool collect_init(struct collector *collector, struct heap *heap,
                           struct mutator *mutator);

// Calls body(data) with the registers of the program on its stack and hot_end
// set: whatever body calls may begin a cycle, and its frames are not scanned.
// They would be full of stale words, for they lie where the program's last
// calls were.  Calls nest: a hook that calls in again has its own hot end.
void collect_enter(struct collector *collector, void (*body)(void *data),
                   void *data);

// One cycle; false when it could not begin (C3), and nothing has changed.
bool collect_cycle(struct collector *collector, enum collect_reason reason);

// Gives every free chunk back to the system at once.
void collect_trim(struct collector *collector);

#endif
