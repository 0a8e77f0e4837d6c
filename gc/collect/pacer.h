// pacer — when to collect, as arithmetic.
//
// Numbers in, numbers out: the pacer knows no heap and no clock, so that it can
// be simulated (tests/collect/test_pacer.c plays programs against it).
//
// A collection costs time in proportion to what is alive, W; the more room E
// the program gets before the next one, the fewer there are. The sum of both
// costs over heaps is least when E grows with the square root of W, of the
// speed g at which the program allocates, and of 1/s, s being the speed of
// marking (Kirisame, Shenoy and Panchekha, MemBalancer, 2022):
//
//     E = max(W, sqrt(W * (g / s) * ROOM))
//
// The root counts while the heap is small; a large one gets as much again as is
// alive, since there the rule would collect more often than programs that were
// tuned for other collectors expect (docs/decisions/).
//
// A program that is building what it keeps gains nothing from collections: as
// long as nine tenths of what it allocates survive, the heap may double.
//
//     goal = max(floor, live + E, in blocks + max(E / 4, floor, blocks / 8))
//
// A cycle makes other threads stand, however little is alive.  The room is at
// least what they allocate in sixteen times the time that they stand for
// anything but marking, if that is no more than 8 MiB: so long threads work for
// each time they stand.
//
// The last term ends a thrash: where holes cannot be filled (classes that are
// not asked for, blocks that a thousand threads hold for a few cells each),
// some room is granted above what is there, and more the more is there.
//
// Invariants
//   P1  floor    goal_bytes >= floor_bytes, unless the limit is lower
//   P2  room     after a cycle goal_bytes - block_bytes >= max(E / 4, floor,
//                block_bytes / 8), unless the limit is lower
//   P3  build    building what survives from the floor to H bytes takes at most
//                1 + log2(H / floor) collections
//   P4  bounded  W <= E <= max(W, sqrt(2 * W * ROOM)), times
//                growth_percent / 100, but for P6 and P7
//   P8  pending  where objects are pending P2 and P3 do not hold: the goal is
//                four rooms above what is alive, or what is in blocks if that
//                is more, and a step above that if less than a room is free
//   P7  stops    E may be more than P4 says for the sake of stops, but then at
//                most 8 MiB
//   P6  budget   a limit is a budget: under one the room is at least 2 W, as
//                far as the limit goes
//   P5  total    no input, however absurd, overflows or divides by zero
//
// Used by the conductor.
// Design, alternatives and measurements: docs/design/collect/pacer.md

#ifndef COLLECT_PACER_H
#define COLLECT_PACER_H

#include "base/defs.h"

#define PACER_ROOM_BYTES (5 * MiB)

struct pacer {
    size_t floor_bytes;      // no collection below this; constant
    uint32_t growth_percent; // scales E; constant
    size_t limit_bytes;      // 0: none; set by the user
    size_t goal_bytes;       // in blocks: collect rather than grow past this
    size_t live_bytes;       // after the last cycle
    uint64_t allocate_rate;  // bytes a millisecond, smoothed; 0 unknown
    uint64_t mark_rate;      // the same for marking
    uint64_t stand_ns;       // that others stand in a cycle, smoothed
};

// What a cycle found and what it took.
struct pacer_cycle {
    size_t live_bytes;      // in objects that survived, less pending_bytes
    size_t block_bytes;     // in blocks and runs after it
    size_t pending_bytes;   // in objects that survived, but only for now
    size_t other_bytes;     // scanned outside the heap
    size_t allocated_bytes; // since the cycle before
    uint64_t mutator_ns;    // since the cycle before
    uint64_t mark_ns;       // spent marking
    uint64_t stand_ns;      // that other threads stood, but for marking
};

void pacer_init(struct pacer *pacer, size_t floor_bytes,
                uint32_t growth_percent);

// Whether `more_bytes` of fresh blocks may be had without a collection.
static inline bool pacer_may_grow(const struct pacer *pacer, size_t block_bytes,
                                  size_t more_bytes) {
    return block_bytes <= pacer->goal_bytes &&
           more_bytes <= pacer->goal_bytes - block_bytes;
}

// A cycle is done: a new goal.
void pacer_finish(struct pacer *pacer, const struct pacer_cycle *cycle);

// The heap had to grow past the goal to block_bytes: some room above that.
void pacer_outgrown(struct pacer *pacer, size_t block_bytes);

// E for `live_bytes` of work.
size_t pacer_room(const struct pacer *pacer, size_t work_bytes);

#endif
