#include "api/init.h"

#include "api/report.h"
#include "base/check.h"
#include "collect/pacer.h"
#include "heap/heap.h"
#include "heap/range.h"
#include "os/stack.h"
#include "roots/mutator.h"

struct init_state init_state;
__thread struct mutator *init_mutator
    __attribute__((tls_model("initial-exec")));

static void init_tell(const char *sentence, void *data) {
    (void)data;
    report_warning(REPORT_OPTION, sentence);
}

// For the first of two readings: what is wrong is told by the second, when it
// is known whether anything is to be told.
static void init_hush(const char *sentence, void *data) {
    (void)sentence;
    (void)data;
}

static bool init_shortage(size_t bytes) {
    return init_state.shortage != NULL &&
           init_state.shortage(bytes, init_state.shortage_data);
}

// The collector's knobs from the options.
static void init_configure(void) {
    const struct options *options = &init_state.options;
    struct collector *collector = &init_state.collector;
    size_t floor_bytes = options->floor_bytes;
    if (LOAM_TINY && floor_bytes > 256 * KiB) {
        floor_bytes = 256 * KiB;
    }
    pacer_init(&collector->pacer, floor_bytes, options->growth_percent);
    collector->neighbours = options->neighbours;
    collector->check_mark = (options->check_flags & OPTIONS_CHECK_MARK) != 0;
    collector->check_verify =
        LOAM_CHECK >= 2 || (options->check_flags & OPTIONS_CHECK_VERIFY) != 0;
    collector->collect_every = options->collect_every;
    collector->disabled = options->disable ? 1 : 0;
    collector->shortage = init_shortage;
    collector->report = options->trace ? report_cycle : NULL;
    collector->huge_bytes = options->huge == OPTIONS_HUGE_OFF  ? 0
                            : options->huge == OPTIONS_HUGE_ON ? 1
                                                               : 32 * MiB;
    init_state.heap.region.limit_bytes = options->limit_bytes;
    collector->pacer.limit_bytes = options->limit_bytes;
}

// What the environment says, read once.
static void init_read(void) {
    options_init(&init_state.options);
    options_read(&init_state.options, init_hush, NULL);
    report_set_warn(init_state.options.warn);
    options_read(&init_state.options, init_tell, NULL);
    if (init_state.options.help) {
        report_options();
    }
}

// Step by step from the ground: what an earlier try has built stands.
static bool init_build(void) {
    const void *cold_end = stack_own_cold_end();
    bool single = init_state.options.collect_every != 0;
    if (cold_end == NULL ||
        (range.base == 0 && !range_init(init_state.options.range_bytes))) {
        return false;
    }
    if (init_state.first == NULL) {
        init_state.first = mutator_make(1, cold_end, single);
    }
    heap_init(&init_state.heap);
    if (init_state.first == NULL ||
        !collect_init(&init_state.collector, &init_state.heap,
                      init_state.first)) {
        return false;
    }
    init_state.collector.here = &init_mutator;
    init_configure();
    init_mutator = init_state.first;
    return true;
}

// One try.  A hook that is told of a wrong option may call in meanwhile.
static COLD void init_try(void) {
    init_state.building = true; // I1
    if (!init_state.read) {
        init_state.read = true;
        init_read();
    }
    init_state.built = init_build();
    if (!init_state.built && !init_state.said) {
        init_state.said = true;
        report_warning(REPORT_START,
                       "the system refuses the memory that the collector needs "
                       "to begin; allocation fails until it can be had");
    }
    init_state.building = false;
}

struct mutator *init_ready(void) {
    if (LIKELY(init_mutator != NULL)) {
        return init_mutator;
    }
    if (init_state.built) {
        if (init_state.collector.phase != COLLECT_IDLE) {
            return NULL; // I2
        }
        check_stop("a second thread allocates; this version of Loam serves "
                   "one thread of a process"); // I3
    }
    if (!init_state.building) {
        init_try();
    }
    return init_mutator;
}
