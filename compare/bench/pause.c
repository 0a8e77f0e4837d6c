// pause — a server that answers, and how long its callers wait.
//
// --threads of them share nothing but the collector.  Each keeps its part of
// --size MiB of entries, a cell and a text each, and answers --rounds thousand
// requests: a request makes some cells that are garbage when it ends and
// replaces a few entries at random.  Two distributions come out of it:
//
//   pauses_us    how long the world stood still, as the collector itself says:
//                each collection that was noticed, by whoever was slow then
//   requests     how long each request took, as its thread saw it: pauses,
//                waiting for locks, allocating and sweeping, and what else the
//                machine did.  Counts by length, sixteen to a doubling:
//                requests_ns are the lengths, requests_count the counts

#define SHIM_THREADS

#include "crew.h"

enum {
    PAUSE_REPLACED = 4, // entries, in a request
    PAUSE_CELLS = 12,   // garbage of a request
    PAUSE_PARTS = 16,   // of a doubling
    PAUSE_DOUBLINGS = 36,
    PAUSE_LENGTHS = PAUSE_PARTS * PAUSE_DOUBLINGS,
    PAUSE_MAX = 4096,
    PAUSE_NOTICED_NS = 10000, // a shorter request held no pause
    PAUSE_ENTRY_BYTES = 224   // on average
};

struct pause_cell {
    struct pause_cell *next;
    uint64_t number;
};

struct pause_entry {
    char *text;
    uint64_t bytes;
};

static uint64_t pause_counts[CREW_MAX][PAUSE_LENGTHS];
static pthread_mutex_t pause_lock = PTHREAD_MUTEX_INITIALIZER;
static double pause_us[PAUSE_MAX];
static size_t pause_count;
static uint64_t pause_seen; // collections

static size_t pause_length(uint64_t ns) {
    if (ns < PAUSE_PARTS) {
        return (size_t)ns;
    }
    unsigned doubling = 63 - (unsigned)__builtin_clzll(ns);
    size_t part = (size_t)(ns >> (doubling - 4)) & (PAUSE_PARTS - 1);
    size_t at = (doubling - 3) * PAUSE_PARTS + part;
    return at < PAUSE_LENGTHS ? at : PAUSE_LENGTHS - 1;
}

// The least length that is counted at `at`.
static double pause_length_ns(size_t at) {
    if (at < PAUSE_PARTS) {
        return (double)at;
    }
    uint64_t part = PAUSE_PARTS + at % PAUSE_PARTS;
    return (double)(part << (at / PAUSE_PARTS - 1));
}

static void pause_notice(void) {
    if (!SHIM_COLLECTS || pthread_mutex_trylock(&pause_lock) != 0) {
        return;
    }
    struct shim_figures figures = shim_figures();
    if (figures.collections != pause_seen && pause_count < PAUSE_MAX) {
        pause_us[pause_count++] = (double)figures.pause_ns / 1e3;
        pause_seen = figures.collections;
    }
    pthread_mutex_unlock(&pause_lock);
}

static struct pause_entry *pause_entry(uint64_t dice) {
    struct pause_entry *entry = mem_raw(sizeof *entry);
    entry->bytes = 32 + (dice & 255);
    entry->text = mem_leaf(entry->bytes);
    memset(entry->text, (int)(dice & 127), entry->bytes);
    return entry;
}

static uint64_t pause_request(struct pause_entry **entries, size_t count,
                              uint64_t *state) {
    struct pause_cell *list = NULL;
    uint64_t sum = 0;
    for (uint64_t at = 0; at < PAUSE_CELLS; at++) {
        struct pause_cell *cell = mem_raw(sizeof *cell);
        cell->next = list;
        cell->number = at;
        list = cell;
    }
    for (size_t at = 0; at < PAUSE_REPLACED; at++) {
        uint64_t dice = random_next(state);
        struct pause_entry **place = &entries[(dice >> 20) % count];
        sum = sum * 31 + (uint64_t)(*place)->text[(*place)->bytes - 1];
        if (SHIM_MANUAL) {
            shim_dead((*place)->text);
            shim_dead(*place);
        }
        *place = pause_entry(dice);
    }
    while (list != NULL) {
        struct pause_cell *next = list->next;
        sum += list->number;
        if (SHIM_MANUAL) {
            shim_dead(list);
        }
        list = next;
    }
    return sum;
}

static void pause_serve(struct crew_member *member) {
    const struct measure *run = member->run;
    uint64_t *counts = pause_counts[member->index];
    size_t count = (run->size << 20) / PAUSE_ENTRY_BYTES / member->count;
    uint64_t state = run->seed + member->index;
    struct pause_entry **entries = mem_new(count * sizeof *entries);
    for (size_t at = 0; at < count; at++) {
        entries[at] = pause_entry(at);
    }
    for (size_t at = 0; at < run->rounds * 1000; at++) {
        uint64_t start_ns = measure_now_ns();
        member->sum = member->sum * 31 + pause_request(entries, count, &state);
        uint64_t took_ns = measure_now_ns() - start_ns;
        counts[pause_length(took_ns)]++;
        if (took_ns > PAUSE_NOTICED_NS) {
            pause_notice();
        }
    }
    for (size_t at = 0; SHIM_MANUAL && at < count; at++) {
        shim_dead(entries[at]->text);
        shim_dead(entries[at]);
    }
    if (SHIM_MANUAL) {
        shim_dead(entries);
    }
}

// The length, in microseconds, that `share` of all requests do not exceed.
static double pause_quantile(const double *counts, double share) {
    double all = 0, below = 0;
    for (size_t at = 0; at < PAUSE_LENGTHS; at++) {
        all += counts[at];
    }
    for (size_t at = 0; at < PAUSE_LENGTHS; at++) {
        below += counts[at];
        if (below >= share * all) {
            return pause_length_ns(at) / 1e3;
        }
    }
    return 0;
}

static void pause_report(struct measure *run) {
    static double lengths_ns[PAUSE_LENGTHS], counts[PAUSE_LENGTHS];
    static double shown_ns[PAUSE_LENGTHS], shown[PAUSE_LENGTHS];
    size_t used = 0;
    for (size_t at = 0; at < PAUSE_LENGTHS; at++) {
        lengths_ns[at] = pause_length_ns(at);
        for (size_t member = 0; member < CREW_MAX; member++) {
            counts[at] += (double)pause_counts[member][at];
        }
        if (counts[at] > 0) {
            shown_ns[used] = lengths_ns[at];
            shown[used++] = counts[at];
        }
    }
    measure_note(run, "request_us", pause_quantile(counts, 0.5));
    measure_note(run, "request_us_99", pause_quantile(counts, 0.99));
    measure_note(run, "request_us_999", pause_quantile(counts, 0.999));
    measure_note(run, "request_us_9999", pause_quantile(counts, 0.9999));
    measure_note(run, "request_us_max", pause_quantile(counts, 1));
    measure_series(run, "requests_ns", shown_ns, used);
    measure_series(run, "requests_count", shown, used);
    if (pause_count > 0) {
        measure_note(run, "pause_us", measure_median(pause_us, pause_count));
        measure_note(run, "pause_us_max",
                     measure_quantile(pause_us, pause_count, 1));
        measure_series(run, "pauses_us", pause_us, pause_count);
    }
}

int main(int argc, char **argv) {
    struct measure *run = measure_open(argc, argv);
    run->size = run->size != 0 ? run->size : 16;
    run->rounds = run->rounds != 0 ? run->rounds : 50;
    size_t count = run->threads != 0 ? run->threads : 1;
    count = count < CREW_MAX ? count : CREW_MAX;
    measure_start(run);
    crew_round(run, count, pause_serve);
    measure_take_times(run);
    pause_report(run);
    measure_stop(run, crew_sum(count));
    return 0;
}
