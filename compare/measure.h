// measure — the frame around a benchmark: arguments, clock, one JSON line.
//
//     int main(int argc, char **argv) {
//         struct measure *run = measure_open(argc, argv);
//         ... build what is not to be timed ...
//         measure_start(run);
//         uint64_t sum = work(run->size);
//         measure_stop(run, sum);
//         return 0;
//     }
//
// The clock runs from measure_start to measure_stop: loading the program and
// starting its collector are outside.  Two times are taken: wall, and the CPU
// time of the whole process, in user and kernel mode and in all its threads.
// Peak memory is VmHWM, what the kernel saw, and not what a collector claims.
//
// Arguments, all optional:
//   --size N         what N means is the benchmark's own affair
//   --variant NAME   the same
//   --rounds N       the same
//   --threads N      the same
//   --limit BYTES    the collector's heap may not exceed this
//   --prefault BYTES for the bump allocator
//   --seed N         changes nothing but pseudo-random choices
//
// Everything is inline: a program is one translation unit, in which the shim's
// state exists once.

#ifndef MEASURE_H
#define MEASURE_H

#include "shim.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { MEASURE_NOTES_MAX = 16, MEASURE_SERIES_MAX = 6 };

struct measure {
    const char *bench;     // the program's name up to the last dot
    const char *collector; // and after it
    const char *variant;   // "" if none
    size_t size;           // 0 if not given
    size_t rounds;         // 0 if not given
    size_t threads;        // 0 if not given
    uint64_t seed;
    struct shim_limits limits;
    uint64_t start_wall_ns, start_cpu_ns;
    uint64_t wall_ns, cpu_ns;
    uint64_t start_faults, faults;
    uint64_t start_rss_kb;
    uint64_t peak_rss_kb; // 0: that of this process
    struct {
        const char *name;
        double value;
    } notes[MEASURE_NOTES_MAX];
    size_t note_count;
    struct {
        const char *name;
        const double *values; // the benchmark's own memory
        size_t count;
    } series[MEASURE_SERIES_MAX];
    size_t series_count;
};

// --- Pseudo-random numbers: the same on every machine ----------------------

static inline uint64_t mix64(uint64_t x) {
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static inline uint64_t random_next(uint64_t *state) {
    *state += 0x9e3779b97f4a7c15u;
    return mix64(*state);
}

// 0 .. bound-1, for a bound below 2^32.
static inline uint64_t random_below(uint64_t *state, uint64_t bound) {
    return (random_next(state) >> 32) * bound >> 32;
}

// Keeps the compiler from removing an object that nobody reads.
static inline void keep_object(void *p) {
    __asm__ volatile("" : : "r"(p) : "memory");
}

static struct measure measure_run;

static inline uint64_t measure_clock_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline uint64_t measure_now_ns(void) {
    return measure_clock_ns(CLOCK_MONOTONIC);
}

static inline uint64_t measure_cpu_ns(void) {
    return measure_clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

// ru_maxrss would be simpler, but a child inherits its parent's through exec.
static inline uint64_t measure_status_kb(const char *field) {
    FILE *file = fopen("/proc/self/status", "r");
    if (file == NULL) {
        return 0;
    }
    char line[256];
    uint64_t found_kb = 0;
    size_t field_bytes = strlen(field);
    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, field, field_bytes) == 0) {
            found_kb = strtoull(line + field_bytes, NULL, 10);
            break;
        }
    }
    fclose(file);
    return found_kb;
}

// Resident memory now, and at most, as the kernel counts it.
static inline uint64_t measure_rss_kb(void) {
    return measure_status_kb("VmRSS:");
}

static inline uint64_t measure_peak_rss_kb(void) {
    return measure_status_kb("VmHWM:");
}

static inline uint64_t measure_faults(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)usage.ru_minflt;
}

// Whether --variant is `name`.
static inline int measure_is(const struct measure *run, const char *name) {
    return strcmp(run->variant, name) == 0;
}

static inline void measure_argument(struct measure *run, const char *name,
                                    char *value) {
    unsigned long long number = strtoull(value, NULL, 10);
    if (strcmp(name, "--size") == 0) {
        run->size = (size_t)number;
    } else if (strcmp(name, "--variant") == 0) {
        run->variant = value;
    } else if (strcmp(name, "--rounds") == 0) {
        run->rounds = (size_t)number;
    } else if (strcmp(name, "--threads") == 0) {
        run->threads = (size_t)number;
    } else if (strcmp(name, "--limit") == 0) {
        run->limits.limit_bytes = (size_t)number;
    } else if (strcmp(name, "--prefault") == 0) {
        run->limits.prefault_bytes = (size_t)number;
    } else if (strcmp(name, "--seed") == 0) {
        run->seed = number;
    } else {
        fprintf(stderr, "unknown argument %s\n", name);
        exit(2);
    }
}

static inline void measure_start(struct measure *run) {
    run->start_faults = measure_faults();
    run->start_wall_ns = measure_clock_ns(CLOCK_MONOTONIC);
    run->start_cpu_ns = measure_clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

static inline struct measure *measure_open(int argc, char **argv) {
    struct measure *run = &measure_run;
    char *slash = strrchr(argv[0], '/');
    char *name = slash != NULL ? slash + 1 : argv[0];
    char *dot = strrchr(name, '.');
    run->bench = name;
    run->collector = "";
    run->variant = "";
    run->seed = 1;
    if (dot != NULL) {
        *dot = '\0';
        run->collector = dot + 1;
    }
    for (int at = 1; at + 1 < argc; at += 2) {
        measure_argument(run, argv[at], argv[at + 1]);
    }
    shim_open(run->limits);
    run->start_rss_kb = measure_rss_kb();
    measure_start(run);
    return run;
}

// A further figure of this benchmark, printed as a field of that name.
static inline void measure_note(struct measure *run, const char *name,
                                double value) {
    if (run->note_count < MEASURE_NOTES_MAX) {
        run->notes[run->note_count].name = name;
        run->notes[run->note_count++].value = value;
    }
}

// Many figures under one name, printed as a list.
static inline void measure_series(struct measure *run, const char *name,
                                  const double *values, size_t count) {
    if (run->series_count < MEASURE_SERIES_MAX) {
        run->series[run->series_count].name = name;
        run->series[run->series_count].values = values;
        run->series[run->series_count++].count = count;
    }
}

static int measure_compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// The value below which `share` of them lie; sorts them.
static inline double measure_quantile(double *values, size_t count,
                                      double share) {
    if (count == 0) {
        return 0;
    }
    qsort(values, count, sizeof *values, measure_compare);
    size_t at = (size_t)(share * (double)count);
    return values[at < count ? at : count - 1];
}

static inline double measure_median(double *values, size_t count) {
    return measure_quantile(values, count, 0.5);
}

static inline void measure_take_times(struct measure *run) {
    uint64_t cpu_ns = measure_cpu_ns();
    uint64_t wall_ns = measure_now_ns();
    run->cpu_ns = cpu_ns - run->start_cpu_ns;
    run->wall_ns = wall_ns - run->start_wall_ns;
    run->faults = measure_faults() - run->start_faults;
}

static inline void measure_field(const char *name, uint64_t value) {
    printf(",\"%s\":%" PRIu64, name, value);
}

static inline void measure_print(struct measure *run, const char *result) {
    struct shim_figures figures = shim_figures();
    printf("{\"bench\":\"%s\",\"variant\":\"%s\",\"collector\":\"%s\"",
           run->bench, run->variant, run->collector);
    printf(",\"config\":\"%s\",%s", shim_config(), result);
    printf(",\"ms\":%.3f,\"cpu_ms\":%.3f", (double)run->wall_ns / 1e6,
           (double)run->cpu_ns / 1e6);
    measure_field("size", run->size);
    measure_field("limit_bytes", run->limits.limit_bytes);
    measure_field("peak_rss_kb", run->peak_rss_kb != 0 ? run->peak_rss_kb
                                                       : measure_peak_rss_kb());
    measure_field("start_rss_kb", run->start_rss_kb);
    measure_field("faults", run->faults);
    measure_field("heap_bytes", figures.heap_bytes);
    measure_field("block_bytes", figures.block_bytes);
    measure_field("metadata_bytes", figures.metadata_bytes);
    measure_field("floor_bytes", figures.floor_bytes);
    measure_field("collections", figures.collections);
    measure_field("live_bytes", figures.live_bytes);
    measure_field("allocated_bytes", figures.allocated_bytes);
    printf(",\"collect_ms\":%.3f,\"mark_ms\":%.3f",
           (double)figures.collect_ns / 1e6, (double)figures.mark_ns / 1e6);
    for (size_t at = 0; at < run->note_count; at++) {
        printf(",\"%s\":%.6g", run->notes[at].name, run->notes[at].value);
    }
    for (size_t at = 0; at < run->series_count; at++) {
        printf(",\"%s\":[", run->series[at].name);
        for (size_t one = 0; one < run->series[at].count; one++) {
            printf("%s%.5g", one > 0 ? "," : "", run->series[at].values[one]);
        }
        printf("]");
    }
    printf("}\n");
    fflush(stdout);
}

static inline void measure_print_sum(struct measure *run, uint64_t sum) {
    char result[64];
    // As text: a JSON number is a double to most readers, and would be rounded.
    snprintf(result, sizeof result, "\"sum\":\"%016" PRIx64 "\"", sum);
    measure_print(run, result);
}

static inline void measure_stop(struct measure *run, uint64_t sum) {
    measure_take_times(run);
    measure_print_sum(run, sum);
}

// The first thread that runs short says so, for all.
_Noreturn static inline void measure_out_of_memory(void) {
    static int said;
    while (__atomic_exchange_n(&said, 1, __ATOMIC_RELAXED) != 0) {
        pause();
    }
    measure_take_times(&measure_run);
    measure_print(&measure_run, "\"out_of_memory\":true");
    _exit(0);
}

#endif
