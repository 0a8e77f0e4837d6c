// threads — several threads that allocate, each as much as one alone would.
//
// --threads of them, begun at once; the time is that of the last to end.
// --variant:
//
//   small    --size thousand objects of 32 bytes each, garbage at once
//   mixed    a table of objects of 16 bytes to 8 KiB, --size thousand times one
//            of them replaced by a new one; every second one is a leaf
//   gcbench  gcbench with a long-lived tree of depth --size in each thread
//   handoff  half of the threads make --size thousand messages (some cells and
//            a text each), the other half reads them and, by hand, frees them
//   scaling  small, by one thread and by two in turn, --rounds times, each
//            for --size milliseconds, and then mixed the same way: how much
//            more do two get done than one?

#define SHIM_THREADS

#include "crew.h"
#include "gcbench.h"

#include <sched.h>

enum {
    THREADS_SLOTS = 4096, // objects alive in each thread of `mixed`
    THREADS_STEP = 1000,  // objects between two looks at the clock
    THREADS_RING = 256,   // messages under way in a pair of `handoff`
    THREADS_CELLS = 6,    // in a message
    THREADS_ROUNDS_MAX = 32
};

static uint64_t threads_small_step(size_t count) {
    uint64_t sum = 0;
    for (size_t at = 0; at < count; at++) {
        uint64_t *object = mem_raw(32);
        object[0] = at;
        keep_object(object);
        sum += object[0];
        if (SHIM_MANUAL) {
            shim_dead(object);
        }
    }
    return sum;
}

static void threads_small(struct crew_member *member) {
    member->sum = threads_small_step(member->run->size * 1000);
}

// Most are small, few are large, as programs have them.
static size_t threads_bytes(uint64_t dice) {
    unsigned kind = dice & 31;
    size_t spread = (dice >> 5) & 1023;
    return kind < 22   ? 16 + (spread & 127)
           : kind < 30 ? 128 + spread
                       : 1024 + 7 * spread;
}

static uint64_t threads_mixed_step(uint64_t **slots, uint64_t *state,
                                   size_t count) {
    uint64_t sum = 0;
    for (size_t at = 0; at < count; at++) {
        uint64_t dice = random_next(state);
        uint64_t **slot = &slots[dice % THREADS_SLOTS];
        size_t bytes = threads_bytes(dice >> 16);
        uint64_t *object = (dice >> 48) & 1 ? mem_leaf(bytes) : mem_raw(bytes);
        object[0] = dice & 0xffff;
        object[bytes / 8 - 1] = dice & 0xffff;
        if (*slot != NULL) {
            sum += (*slot)[0];
            if (SHIM_MANUAL) {
                shim_dead(*slot);
            }
        }
        *slot = object;
    }
    return sum;
}

static void threads_mixed_end(uint64_t **slots) {
    for (size_t at = 0; SHIM_MANUAL && at < THREADS_SLOTS; at++) {
        shim_dead(slots[at]);
    }
    if (SHIM_MANUAL) {
        shim_dead(slots);
    }
}

static void threads_mixed(struct crew_member *member) {
    uint64_t state = member->run->seed + member->index;
    uint64_t **slots = mem_new(THREADS_SLOTS * sizeof *slots);
    member->sum = threads_mixed_step(slots, &state, member->run->size * 1000);
    threads_mixed_end(slots);
}

static void threads_gcbench(struct crew_member *member) {
    member->sum = gcbench_run(member->run->size);
}

// --- Handed on ---------------------------------------------------------------

struct message_cell {
    struct message_cell *next;
    uint64_t number;
};

struct message {
    struct message_cell *cells;
    char *text;
    size_t text_bytes;
};

// One writer, one reader.  The slots are global: what they hold is alive.
struct threads_ring {
    _Alignas(64) atomic_size_t written;
    _Alignas(64) atomic_size_t read;
    struct message *slots[THREADS_RING];
};

static struct threads_ring threads_rings[CREW_MAX / 2];

static struct message *threads_write(uint64_t number) {
    struct message *message = mem_raw(sizeof *message);
    message->cells = NULL;
    message->text_bytes = 32 + (mix64(number) & 127);
    message->text = mem_leaf(message->text_bytes);
    memset(message->text, (int)(number & 127), message->text_bytes);
    for (uint64_t at = 0; at < THREADS_CELLS; at++) {
        struct message_cell *cell = mem_raw(sizeof *cell);
        cell->next = message->cells;
        cell->number = number + at;
        message->cells = cell;
    }
    return message;
}

static uint64_t threads_read(struct message *message) {
    uint64_t sum = (uint64_t)message->text[message->text_bytes - 1];
    struct message_cell *cell = message->cells;
    while (cell != NULL) {
        struct message_cell *next = cell->next;
        sum = sum * 31 + cell->number;
        if (SHIM_MANUAL) {
            shim_dead(cell);
        }
        cell = next;
    }
    if (SHIM_MANUAL) {
        shim_dead(message->text);
        shim_dead(message);
    }
    return sum;
}

static void threads_handoff(struct crew_member *member) {
    struct threads_ring *ring = &threads_rings[member->index / 2];
    size_t count = member->run->size * 1000;
    for (size_t at = 0; at < count; at++) {
        struct message **slot = &ring->slots[at % THREADS_RING];
        if (member->index % 2 == 0) {
            struct message *message = threads_write(at);
            while (at - atomic_load(&ring->read) == THREADS_RING) {
                sched_yield();
            }
            *slot = message;
            atomic_store(&ring->written, at + 1);
        } else {
            while (atomic_load(&ring->written) <= at) {
                sched_yield();
            }
            struct message *message = *slot;
            *slot = NULL;
            atomic_store(&ring->read, at + 1);
            member->sum = member->sum * 31 + threads_read(message);
        }
    }
}

// --- Scaling -----------------------------------------------------------------

// Until the time is over; `sum` is then the number of objects.
static void threads_small_timed(struct crew_member *member) {
    uint64_t end_ns = measure_now_ns() + member->run->size * 1000000;
    while (measure_now_ns() < end_ns) {
        threads_small_step(THREADS_STEP);
        member->sum += THREADS_STEP;
    }
}

static void threads_mixed_timed(struct crew_member *member) {
    uint64_t state = member->run->seed + member->index;
    uint64_t **slots = mem_new(THREADS_SLOTS * sizeof *slots);
    threads_mixed_step(slots, &state, 4 * THREADS_SLOTS);
    uint64_t end_ns = measure_now_ns() + member->run->size * 1000000;
    while (measure_now_ns() < end_ns) {
        threads_mixed_step(slots, &state, THREADS_STEP);
        member->sum += THREADS_STEP;
    }
    threads_mixed_end(slots);
}

// What two threads get done in the time in which one gets 1 done: 2 if they do
// not disturb each other at all.  Returns the nanoseconds an object of two.
static double threads_scaling(struct measure *run, const char *name,
                              void (*work)(struct crew_member *member)) {
    size_t rounds =
        run->rounds < THREADS_ROUNDS_MAX ? run->rounds : THREADS_ROUNDS_MAX;
    double one[THREADS_ROUNDS_MAX], two[THREADS_ROUNDS_MAX];
    for (size_t at = 0; at < rounds; at++) {
        crew_round(run, 1, work);
        one[at] = (double)crew_members[0].sum;
        crew_round(run, 2, work);
        two[at] = (double)(crew_members[0].sum + crew_members[1].sum);
    }
    double both = measure_median(two, rounds);
    measure_note(run, name, both / measure_median(one, rounds));
    return (double)run->size * 1e6 / both;
}

static void (*threads_work(const struct measure *run))(struct crew_member *) {
    return measure_is(run, "mixed")     ? threads_mixed
           : measure_is(run, "gcbench") ? threads_gcbench
           : measure_is(run, "handoff") ? threads_handoff
                                        : threads_small;
}

int main(int argc, char **argv) {
    struct measure *run = measure_open(argc, argv);
    run->size = run->size != 0 ? run->size : 8;
    run->rounds = run->rounds != 0 ? run->rounds : 5;
    size_t count = run->threads < CREW_MAX ? run->threads : CREW_MAX;
    count = count != 0 ? count : 1;
    uint64_t sum;
    measure_start(run);
    if (measure_is(run, "scaling")) {
        double small_ns =
            threads_scaling(run, "scaling_small", threads_small_timed);
        double mixed_ns =
            threads_scaling(run, "scaling_mixed", threads_mixed_timed);
        measure_note(run, "small_ns", small_ns);
        measure_note(run, "mixed_ns", mixed_ns);
        sum = small_ns > 0 && mixed_ns > 0;
    } else {
        uint64_t took_ns = crew_round(run, count, threads_work(run));
        measure_note(run, "crew_ms", (double)took_ns / 1e6);
        sum = crew_sum(count);
    }
    measure_stop(run, sum);
    return 0;
}
