#include "api/init.h"

#include "api/fork.h"
#include "api/report.h"
#include "api/report_cycle.h"
#include "collect/pacer.h"
#include "heap/block.h"
#include "heap/cache.h"
#include "heap/heap.h"
#include "heap/range.h"
#include "heap/region.h"
#include "os/lock.h"
#include "os/suspend.h"
#include "os/thread.h"
#include "os/tracer.h"
#include "roots/mutator.h"
#include "roots/ranges.h"
#include "roots/reserve.h"
#include "roots/world.h"

struct init_state init_state;
__thread struct mutator *init_mutator
    __attribute__((tls_model("initial-exec")));
__thread const void *init_handler __attribute__((tls_model("initial-exec")));
__thread bool init_gone __attribute__((tls_model("initial-exec")));

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
    struct conductor *conductor = &init_state.conductor;
    size_t floor_bytes = options->floor_bytes;
    if (LOAM_TINY && floor_bytes > 256 * KiB) {
        floor_bytes = 256 * KiB;
    }
    pacer_init(&init_state.home.collector.pacer, floor_bytes,
               options->growth_percent);
    conductor->neighbours = options->neighbours;
    conductor->check_mark = (options->check_flags & OPTIONS_CHECK_MARK) != 0;
    conductor->check_verify =
        LOAM_CHECK >= 2 || (options->check_flags & OPTIONS_CHECK_VERIFY) != 0;
    conductor->collect_every = options->collect_every;
    conductor->help.most = options->markers - 1;
    conductor->disabled = options->disable ? 1 : 0;
    conductor->shortage = init_shortage;
    conductor->report =
        options->trace != OPTIONS_TRACE_OFF ? report_cycle : NULL;
    report_cycle_set(options->trace, options->trace_file);
    conductor->huge_bytes = options->huge == OPTIONS_HUGE_OFF  ? 0
                            : options->huge == OPTIONS_HUGE_ON ? 1
                                                               : 32 * MiB;
    conductor->failed = report_stop;
    conductor->blind = report_blind;
    conductor->unowned = report_unowned;
    world.named = report_thread;
    init_state.home.heap.region.limit_bytes = options->limit_bytes;
    init_state.home.collector.pacer.limit_bytes = options->limit_bytes;
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

// Bells of the world: a thread vanished without a word, with the lock held or
// in a stop; its caches are whole, for it was not INSIDE when it was last seen,
// or they are lost until the next flip.
static void init_give_up_cache(struct cache *cache, void *data) {
    cache_give_up(cache, data);
}

static void init_give_up_set(struct mutator *mutator, struct cacheset *set) {
    mutator_each_cache(mutator, set->heap, init_give_up_cache, set->heap);
    collect_add_tally(set);
}

static void init_give_up(struct mutator *mutator) {
    if (init_counts() != NULL) {
        init_counts()->bury(mutator);
    }
    // What waits for this thread alone waits for whoever climbs next.
    uint32_t block = mutator->inbox;
    mutator->inbox = BLOCK_NONE;
    while (block != BLOCK_NONE) {
        uint32_t next = block_get(block)->next_freed;
        heap_push_freed(heap_get(block), block);
        block = next;
    }
    reserve_give_up(&mutator->reserve);
    init_give_up_set(mutator, &mutator->home);
    for (struct cacheset *set = mutator->sets; set != NULL; set = set->next) {
        init_give_up_set(mutator, set);
    }
    if (mutator->keeps) {
        heap_disown_counted(mutator->id);
        mutator->keeps = false;
    }
}

// In a child: what counts is put in order.
static void init_forked(struct mutator *self) {
    if (init_counts() != NULL) {
        init_counts()->forked(self);
    }
}

// A signal that cannot be used for stopping is told, and the usual one taken.
static bool init_world(void) {
    int signal = (int)init_state.options.signal;
    if (signal == 0 || world_init(signal)) {
        return signal != 0 || world_init(0);
    }
    report_warning(REPORT_OPTION, "LOAM_SIGNAL names a signal that threads "
                                  "cannot be stopped with; SIGURG is used");
    return world_init(0);
}

// The collector's own tables are no roots: nothing in them is the program's.
static bool init_exclude(const void *start, size_t bytes) {
    uintptr_t from = (uintptr_t)start;
    return ranges_add(&init_state.conductor.roots.excluded,
                      (struct extent){from, from + bytes});
}

static bool init_exclude_own(void) {
    size_t bytes;
    const void *memory = tracer_memory(&bytes);
    return init_exclude(memory, bytes) && init_exclude(&world, sizeof world) &&
           init_exclude(&init_state.home, sizeof init_state.home);
}

static struct mutator *init_self(void) {
    return init_mutator;
}

// Step by step from the ground: what an earlier try has built stands.
static bool init_build(void) {
    struct init_heap *home = &init_state.home;
    if (range.base == 0 && !range_init(init_state.options.range_bytes)) {
        return false;
    }
    if (!init_state.ground) {
        if (!heap_init(&home->heap, NULL)) {
            return false;
        }
        home->heap.keeper = home;
        collect_init(&home->collector, &init_state.conductor, &home->heap);
        init_configure();
        world.buried = init_give_up;
        struct fork_order order = {&init_state.conductor, &home->heap.region,
                                   init_self, init_forked};
        fork_watch(&order);
        init_state.ground = init_exclude_own();
    }
    struct conductor *conductor = &init_state.conductor;
    return (conductor->marker.list.words != NULL ||
            collect_init_conductor(conductor)) &&
           init_world();
}

// Whether there is a limit, and it leaves not one block.  With the lock.
static bool init_is_choked(struct region *region) {
    if (region->limit_bytes == 0) {
        return false;
    }
    bool zero;
    uint32_t block = region_take(region, 1, 1, &zero);
    if (block != BLOCK_NONE) {
        region_give(region, block, 1);
    }
    return block == BLOCK_NONE;
}

// What is needed to go on, but not to begin.
static void init_stock(void) {
    struct region *region = &init_state.home.heap.region;
    world_lock(NULL);
    reserve_keep(region, RESERVE_BLOCKS);
    bool choked = init_is_choked(region);
    world_unlock();
    if (choked) {
        report_warning(REPORT_OPTION,
                       "LOAM_LIMIT is less than the collector needs for "
                       "itself: nothing can be allocated");
    }
}

static void init_part(void *value) {
    (void)value;
    init_gone = true;
    init_detach();
}

// One try.  A hook that is told of a wrong option may call in meanwhile.
static void init_try(void) {
    if (!init_state.read) {
        init_state.read = true;
        init_read();
    }
    bool built = init_build();
    if (!built && !init_state.said) {
        init_state.said = true;
        report_warning(REPORT_START,
                       "the system refuses the memory that the collector needs "
                       "to begin; allocation fails until it can be had");
    }
    if (built) {
        init_stock();
        // Where keys are used up, a thread's end is noticed by a later stop.
        bool tells = thread_at_exit(init_part);
        (void)tells;
    }
    __atomic_store_n(&init_state.built, built, __ATOMIC_RELEASE);
}

static bool init_is_built(void) {
    return __atomic_load_n(&init_state.built, __ATOMIC_ACQUIRE);
}

// Waits until nobody of this process builds.  A child that was made meanwhile
// finds the number of its parent here, and goes on with what stands.
static void init_close_gate(void) {
    uint32_t process = thread_process_id();
    uint32_t holder = 0;
    while (!__atomic_compare_exchange_n(&init_state.gate, &holder, process,
                                        false, __ATOMIC_ACQUIRE,
                                        __ATOMIC_RELAXED)) {
        if (holder == process) {
            (void)lock_wait(&init_state.gate, process, 0);
            holder = 0;
        }
    }
}

static void init_open_gate(void) {
    __atomic_store_n(&init_state.gate, 0, __ATOMIC_RELEASE);
    (void)lock_wake(&init_state.gate, SIZE_MAX);
}

// Whether the house stands; builds it if nobody does.
static COLD bool init_gate(void) {
    uint32_t me = thread_id();
    if (__atomic_load_n(&init_state.builder, __ATOMIC_RELAXED) == me) {
        return false; // I1: within a try
    }
    init_close_gate();
    if (!init_is_built()) {
        __atomic_store_n(&init_state.builder, me, __ATOMIC_RELAXED);
        init_try();
        __atomic_store_n(&init_state.builder, 0, __ATOMIC_RELAXED);
    }
    init_open_gate();
    return init_is_built();
}

// Whether the library may call malloc now.  A handler may have interrupted it;
// and where malloc is ours it would come back here.
static bool init_may_allocate(void) {
    return !init_is_in_handler() &&
           !__atomic_load_n(&init_state.conductor.serves, __ATOMIC_RELAXED);
}

// What the C library knows of the calling thread.
static void init_meet(struct mutator *mutator, bool may_allocate) {
    if (mutator->cold_end == NULL || (mutator->guessed && may_allocate)) {
        mutator_find_stack(mutator, may_allocate);
    }
    if (may_allocate || thread_arms_freely()) {
        // Where the system refuses, the thread is found gone by a later stop.
        (void)thread_exit_arm(mutator);
    }
}

void init_ask(struct mutator *mutator) {
    if (mutator->guessed && mutator->busy == MUTATOR_OUT &&
        !init_is_in_handler()) {
        uint64_t mask = suspend_block();
        init_meet(mutator, true);
        suspend_unblock(mask);
    }
}

// Once no handler runs, what a guess stood for.
static COLD void init_meet_again(struct mutator *mutator) {
    if (init_may_allocate()) {
        init_ask(mutator);
    }
}

// No handler of the program meanwhile, nor in init_detach: it would attach the
// thread too, and wait for locks that the interrupted code holds.
static struct mutator *init_attach_quietly(uint64_t mask, bool may_ask,
                                           bool patient) {
    const struct conductor *conductor = &init_state.conductor;
    if ((!init_is_built() && !init_gate()) ||
        collect_is_by(conductor, thread_id())) {
        return NULL; // I2
    }
    bool single = init_state.options.collect_every != 0;
    struct mutator *mutator = world_attach_deaf(&init_state.home.heap, single,
                                                &init_mutator, mask, patient);
    if (mutator != NULL) {
        init_meet(mutator, may_ask && init_may_allocate());
    }
    return mutator;
}

static COLD struct mutator *init_attach(bool may_ask, bool patient) {
    uint64_t mask = suspend_block();
    struct mutator *mutator = init_attach_quietly(mask, may_ask, patient);
    suspend_unblock(mask);
    return mutator;
}

struct mutator *init_ready_to_wait(bool patient) {
    struct mutator *mutator = init_mutator;
    return mutator != NULL ? mutator : init_attach(false, patient);
}

struct mutator *init_ready(void) {
    struct mutator *mutator = init_mutator;
    if (UNLIKELY(mutator == NULL)) {
        return init_attach(true, true);
    }
    if (UNLIKELY(mutator->guessed)) {
        init_meet_again(mutator);
    }
    return mutator;
}

bool init_come_back(struct mutator *mutator) {
    if (mutator->busy != MUTATOR_AWAY) {
        return false;
    }
    // For good: what a handler holds is not found in a region below it.
    (void)world_safe_break(mutator);
    return true;
}

void init_detach(void) {
    struct mutator *mutator = init_mutator;
    if (mutator == NULL || !init_is_free(mutator)) {
        return;
    }
    if (init_counts() != NULL) {
        init_counts()->end(mutator);
    }
    mutator_enter(mutator);
    world_lock(mutator);
    uint64_t mask = suspend_block();
    init_give_up(mutator); // I3
    init_mutator = NULL;
    world_detach(mutator);
    world_unlock();
    // It may be stopped still, and then must not seem to be at work here.
    world_leave(mutator);
    suspend_unblock(mask);
}

void init_say(struct mutator *mutator) {
    enum report_kind kind;
    char sentence[REPORT_NOTE_BYTES];
    bool taken = true;
    while (taken) {
        mutator_enter(mutator);
        taken = report_take_note(&kind, sentence);
        world_leave(mutator);
        if (taken) {
            report_warning(kind, sentence);
        }
    }
}

struct mutator *init_lock(void) {
    struct mutator *mutator = init_ready();
    if (mutator == NULL || !init_is_free(mutator)) {
        return NULL;
    }
    mutator_enter(mutator);
    world_lock(mutator);
    return mutator;
}

void init_unlock(struct mutator *mutator) {
    world_unlock();
    init_leave(mutator);
}

struct init_call {
    struct mutator *mutator;
    void (*body)(struct mutator *mutator, void *data);
    void *data;
};

static void init_call(void *data) {
    const struct init_call *call = data;
    world_lock(call->mutator);
    call->body(call->mutator, call->data);
    world_unlock();
}

bool init_locked(void (*body)(struct mutator *mutator, void *data),
                 void *data) {
    struct mutator *mutator = init_ready();
    if (mutator == NULL || !init_is_free(mutator)) {
        return false;
    }
    struct init_call call = {mutator, body, data};
    mutator_enter(mutator);
    collect_enter(mutator, init_call, &call);
    init_leave(mutator);
    return true;
}

struct init_request {
    struct collector *collector;
    bool done;
    bool wanted; // others wait for the lock
};

#define INIT_GIVE_WAY_NS 50000 // enough to wake up in

// A thread that collects again and again would always be the first to take the
// lock that it has just released.
static void init_give_way(void) {
    uint32_t nothing = 0;
    (void)lock_wait(&nothing, 0, INIT_GIVE_WAY_NS);
}

static void init_cycle(struct mutator *mutator, void *data) {
    struct init_request *request = data;
    request->done = collect_cycle(request->collector, mutator, COLLECT_ASKED);
    request->wanted = lock_is_wanted(&world.lock);
}

bool init_collect(struct collector *collector) {
    struct init_request request = {collector, false, false};
    bool done = init_locked(init_cycle, &request) && request.done;
    if (request.wanted) {
        init_give_way();
    }
    return done;
}
