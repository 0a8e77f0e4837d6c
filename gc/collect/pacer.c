#include "collect/pacer.h"

void pacer_init(struct pacer *pacer, size_t floor_bytes,
                uint32_t growth_percent) {
    *pacer = (struct pacer){.floor_bytes = floor_bytes,
                            .growth_percent = growth_percent,
                            .goal_bytes = floor_bytes};
}

static size_t pacer_add(size_t a, size_t b) {
    return a > SIZE_MAX - b ? SIZE_MAX : a + b; // P5
}

static size_t pacer_max(size_t a, size_t b) {
    return a > b ? a : b;
}

// n * numerator / denominator, denominator in 1 .. 2^32, without overflow.
static size_t pacer_scale(size_t n, size_t numerator, size_t denominator) {
    size_t whole = n / denominator;
    size_t rest = n % denominator;
    if (numerator != 0 && whole > SIZE_MAX / numerator) {
        return SIZE_MAX;
    }
    return pacer_add(whole * numerator, rest * numerator / denominator);
}

// The root, rounded down.
static size_t pacer_root(size_t n) {
    size_t root = 0;
    for (size_t bit = (size_t)1 << 31; bit != 0; bit >>= 1) {
        size_t next = root | bit;
        if (next * next <= n) {
            root = next;
        }
    }
    return root;
}

// g / s in sixteenths, between 1/2 and 2; 1 while either is unknown.
static size_t pacer_speed(const struct pacer *pacer) {
    if (pacer->allocate_rate == 0 || pacer->mark_rate == 0) {
        return 16;
    }
    size_t speed = pacer->allocate_rate * 16 / pacer->mark_rate;
    return speed < 8 ? 8 : speed > 32 ? 32 : speed;
}

size_t pacer_room(const struct pacer *pacer, size_t work_bytes) {
    // In KiB under the root, so that no heap is too large for it.
    size_t work = work_bytes / KiB + 1;
    size_t square =
        work > SIZE_MAX / (PACER_ROOM_BYTES / KiB * 64)
            ? SIZE_MAX
            : work * (PACER_ROOM_BYTES / KiB) * pacer_speed(pacer) / 16;
    size_t room = pacer_scale(pacer_root(square), KiB, 1);
    return pacer_scale(pacer_max(room, work_bytes), pacer->growth_percent, 100);
}

#define PACER_RATE_MAX ((uint64_t)1 << 40) // a petabyte a second

// Half of what was known and half of what was seen, in bytes a millisecond.
static uint64_t pacer_smooth(uint64_t rate, uint64_t bytes, uint64_t ns) {
    if (bytes == 0 || ns == 0) {
        return rate;
    }
    uint64_t seen =
        ns < 1000000 ? pacer_scale(bytes, 1000000, ns) : bytes / (ns / 1000000);
    seen = seen == 0 ? 1 : seen > PACER_RATE_MAX ? PACER_RATE_MAX : seen;
    return rate == 0 ? seen : rate / 2 + seen / 2 + 1;
}

#define PACER_STAND_NS_MAX  250000 // longer ones are of a busy machine
#define PACER_STOPS         16     // time to work for each, in such times
#define PACER_STOP_ROOM_MAX (8 * MiB)

// The room without which threads would stand still too often.
static size_t pacer_stop_room(struct pacer *pacer, uint64_t stand_ns) {
    stand_ns = stand_ns > PACER_STAND_NS_MAX ? PACER_STAND_NS_MAX : stand_ns;
    pacer->stand_ns = pacer->stand_ns / 4 * 3 + stand_ns / 4;
    size_t rate = pacer->allocate_rate > GiB ? GiB : pacer->allocate_rate;
    size_t room =
        pacer_scale(rate, (size_t)pacer->stand_ns * PACER_STOPS, 1000000);
    return room > PACER_STOP_ROOM_MAX ? PACER_STOP_ROOM_MAX : room;
}

#define PACER_PENDING_BYTES (LOAM_TINY ? 64 * KiB : 4 * MiB)

static void pacer_set_goal(struct pacer *pacer, size_t goal_bytes) {
    goal_bytes = pacer_max(goal_bytes, pacer->floor_bytes); // P1
    if (pacer->limit_bytes != 0 && goal_bytes > pacer->limit_bytes) {
        goal_bytes = pacer->limit_bytes;
    }
    pacer->goal_bytes = goal_bytes;
}

// Whether the program keeps what it allocates: nine tenths of a good part of
// the heap are new and alive.  A cycle that comes soon after another says
// nothing.
static bool pacer_is_building(const struct pacer *pacer,
                              const struct pacer_cycle *cycle) {
    size_t before = pacer->live_bytes;
    size_t grown = cycle->live_bytes > before ? cycle->live_bytes - before : 0;
    return cycle->allocated_bytes >= before / 2 &&
           grown >= cycle->allocated_bytes / 10 * 9;
}

// Generations of what is pending follow each other through the same blocks,
// none of which is ever empty: a goal above them would only ever rise.
static size_t pacer_goal_pending(const struct pacer *pacer,
                                 const struct pacer_cycle *cycle, size_t room) {
    room = pacer_max(room, PACER_PENDING_BYTES);
    size_t used = pacer_add(cycle->live_bytes, cycle->pending_bytes);
    size_t free = cycle->block_bytes > used ? cycle->block_bytes - used : 0;
    size_t step = free >= room ? 0 : pacer_max(room / 4, pacer->floor_bytes);
    return pacer_max(pacer_add(cycle->live_bytes, pacer_scale(room, 4, 1)),
                     pacer_add(cycle->block_bytes, step)); // P8
}

void pacer_finish(struct pacer *pacer, const struct pacer_cycle *cycle) {
    pacer->allocate_rate = pacer_smooth(
        pacer->allocate_rate, cycle->allocated_bytes, cycle->mutator_ns);
    // Roots are read, not chased: a byte of them costs an eighth.
    size_t work = pacer_add(cycle->live_bytes, cycle->other_bytes / 8);
    pacer->mark_rate = pacer_smooth(pacer->mark_rate, work, cycle->mark_ns);
    size_t room = pacer_max(pacer_room(pacer, work),
                            pacer_stop_room(pacer, cycle->stand_ns)); // P7
    if (pacer->limit_bytes != 0) {
        room = pacer_max(room, pacer_add(work, work)); // P6
    }
    size_t step = pacer_max(pacer_max(room / 4, pacer->floor_bytes),
                            cycle->block_bytes / 8);
    size_t goal = pacer_max(pacer_add(cycle->live_bytes, room),
                            pacer_add(cycle->block_bytes, step)); // P2
    if (cycle->pending_bytes != 0) {
        goal = pacer_goal_pending(pacer, cycle, room);
    } else if (pacer_is_building(pacer, cycle)) {
        size_t twice = pacer_add(cycle->block_bytes, cycle->block_bytes);
        goal = pacer_max(goal, twice); // P3
    }
    pacer->live_bytes = cycle->live_bytes;
    pacer_set_goal(pacer, goal);
}

void pacer_outgrown(struct pacer *pacer, size_t block_bytes) {
    if (block_bytes > pacer->goal_bytes) {
        pacer_set_goal(pacer, pacer_add(block_bytes, block_bytes / 4));
    }
}
