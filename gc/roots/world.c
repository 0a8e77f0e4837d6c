#include "roots/world.h"

#include <string.h>

#include "base/check.h"
#include "heap/meta.h"
#include "os/clock.h"
#include "os/segments.h"
#include "os/stack.h"
#include "os/suspend.h"
#include "os/task.h"
#include "os/thread.h"
#include "os/tracer.h"
#include "roots/deaf.h"
#include "roots/fiber.h"
#include "roots/stacks.h"

#define WORLD_INQUIRE      8       // ticks without an answer: who, and why
#define WORLD_INQUIRE_LAST 60      // the same, once more
#define WORLD_PATIENCE     100     // ticks without an answer: withdrawn
#define WORLD_STRONG       3       // the attempt from which all means are used
#define WORLD_TRIES        8       // attempts for a thread that does not answer
#define WORLD_TRIES_SLOW   80      // for one that gets no processor
#define WORLD_LINGERERS    8       // more threads sleep at once
#define WORLD_NAP_NS       1000000 // the shortest rest between attempts
#define WORLD_ROUNDS       100     // looks at who is there, in an attempt

struct world world;

// Rung in the handler of the signal.
static bool world_suspended(const struct suspend_here *here) {
    struct record *record = roll_find(&world.roll, here->thread);
    return record != NULL &&
           halt_hear(&world.halt, record, here->hot_end, here->ours); // W3
}

static void world_park_here(const void *hot_end, void *data) {
    const struct mutator *mutator = data;
    struct record *record = roll_find(&world.roll, mutator->thread);
    ASSERT(record != NULL);
    if (__atomic_load_n(&world.conductor, __ATOMIC_RELAXED) != mutator) {
        halt_answer(&world.halt, record,
                    mutator->hot_end != NULL ? mutator->hot_end : hot_end);
    }
}

void world_park(struct mutator *mutator) {
    uint64_t mask = suspend_block(); // from here on no handler makes a child
    if (copy_is_new()) { // a stop of the parent's, which nobody will end here
        __atomic_store_n(&world.halt.stopping, 0, __ATOMIC_RELAXED);
    } else {
        stack_spill(world_park_here, mutator);
    }
    suspend_unblock(mask);
}

bool world_init(int signal) {
    if (world.ready) {
        return true;
    }
    signal = signal == 0 ? suspend_default() : signal;
    world.roll.buried = world.buried;
    world.ready =
        SUSPEND_COOPERATIVE || suspend_install(signal, world_suspended);
    return world.ready;
}

// --- Safe regions ----------------------------------------------------------

// Ends a region, and with it what kept the program from allocating (U6).
static void world_come_out(struct mutator *mutator) {
    halt_run(mutator);
    if (mutator->busy == MUTATOR_AWAY) {
        __atomic_store_n(&mutator->busy, MUTATOR_OUT, __ATOMIC_RELAXED);
    }
    // The signal of a stop may have found it SAFE, and been spent on that.
    if (UNLIKELY(__atomic_load_n(&world.halt.stopping, __ATOMIC_SEQ_CST) !=
                 0)) {
        world_park(mutator);
    }
    // In a child it may be the middle of a cycle, of which its caches tell.
    if (mutator->busy != MUTATOR_INSIDE) { // who waits for the lock looks there
        world_copy(mutator);
    }
}

void world_safe_enter_at(struct mutator *mutator, const uintptr_t *saved,
                         const void *hot_end) {
    if (mutator->safe_depth != 0 && hot_end > mutator->stopped_at) {
        mutator->safe_depth = 0; // the region was jumped out of
        world_come_out(mutator);
    }
    if (mutator->safe_depth != 0) {
        mutator->safe_depth++;
        return;
    }
    // A handler of the program that comes in between puts back what it found,
    // or has ended the region for good: then all is done again.
    do {
        mutator->safe_depth = 1;
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
        memcpy(mutator->registers, saved, sizeof mutator->registers);
        mutator->stopped_at = hot_end;
        if (mutator->busy == MUTATOR_OUT) {
            __atomic_store_n(&mutator->busy, MUTATOR_AWAY,
                             __ATOMIC_RELAXED); // U6
        }
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
        halt_make_safe(&world.halt, mutator);
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
    } while (mutator->safe_depth == 0);
}

__attribute__((used)) static void
world_safe_entered(void *mutator, const uintptr_t *saved, const void *hot_end) {
    world_safe_enter_at(mutator, saved, hot_end);
}

STACK_DOOR(world_safe_enter, world_safe_entered, ".hidden");

void world_safe_leave(struct mutator *mutator) {
    // It may have been broken off, and not mended since.
    if (mutator->safe_depth != 0 && --mutator->safe_depth == 0) {
        world_come_out(mutator);
    }
}

struct world_safe world_safe_break(struct mutator *mutator) {
    struct world_safe was = {.depth = mutator->safe_depth};
    was.is_safe =
        __atomic_load_n(&mutator->state, __ATOMIC_RELAXED) != MUTATOR_RUNS;
    if (was.depth != 0) {
        was.busy = mutator->busy;
        was.hot_end = mutator->stopped_at;
        memcpy(was.registers, mutator->registers, sizeof was.registers);
        mutator->safe_depth = 0;
    }
    if (was.depth != 0 || was.is_safe) { // or it was just coming out by itself
        world_come_out(mutator);
    }
    return was;
}

void world_safe_mend(struct mutator *mutator, const struct world_safe *was) {
    if (was->depth != 0 && !was->is_safe) {
        // It was about to be entered: as if nothing had been in between.
        memcpy(mutator->registers, was->registers, sizeof was->registers);
        mutator->stopped_at = was->hot_end;
        mutator->safe_depth = was->depth;
        __atomic_store_n(&mutator->busy, was->busy, __ATOMIC_RELAXED);
        return;
    }
    // Where the handler's frame lies says nothing: a signal stack is anywhere.
    if (was->depth != 0) {
        world_safe_enter_at(mutator, was->registers, was->hot_end);
        mutator->safe_depth = was->depth;
    }
}

// The lists of the process that another thread may have been changing.
static COLD void world_begin_anew(struct mutator *self) {
    uint64_t mask = suspend_block();
    // Whom nobody was beside has nothing to repair.
    bool was_alone = world.roll.count <= 1 && world.roll.mutators == self &&
                     world.lock.word == 0 && !world_is_stopping();
    if (!was_alone) {
        meta_forked();
    }
    if (!world_forked(self)) {
        check_stop("a forked child has no memory for a list of its threads");
    }
    world.lock.word = 1;
    assist_forked(&world.halt.assist);
    if (!was_alone) {
        fiber_rebuild();
        if (world.copied != NULL) {
            world.copied(self);
        }
    }
    copy_accept();
    suspend_unblock(mask);
}

void world_copy(struct mutator *self) {
    if (copy_is_new()) {
        world_begin_anew(self);
        world_unlock();
    }
}

void world_lock_taken(struct mutator *mutator) {
    if (UNLIKELY(copy_is_new())) {
        world_begin_anew(mutator);
        return;
    }
    if (mutator == NULL) {
        lock_acquire(&world.lock);
        return;
    }
    // With signals: another collector may hold up who has the lock by one, and
    // wait for this thread to hear it, too.
    world_safe_enter(mutator); // W1
    // Such a signal's handler may fork: the child finds the lock taken, and
    // looks whether there is anybody left to release it.
    uint32_t *word = &world.lock.word;
    lock_linger(&world.lock);
    assist_wait(&world.halt.assist, true);
    while (!copy_is_new() &&
           __atomic_exchange_n(word, 2, __ATOMIC_ACQUIRE) != 0) {
        assist_take_deaf(&world.halt.assist); // it stands as well
        (void)lock_wait(word, 2, WORLD_LOOK_NS);
    }
    assist_wait(&world.halt.assist, false);
    world_safe_leave(mutator); // there is no stop now: it does not wait
    if (UNLIKELY(copy_is_new())) {
        world_begin_anew(mutator);
    }
}

// --- Threads come and go ---------------------------------------------------

struct mutator *world_attach_deaf(struct heap *home, bool single,
                                  struct mutator **here, uint64_t mask,
                                  bool patient) {
    if (!world_lock_deaf(mask, patient)) {
        return NULL;
    }
    struct mutator *mutator = *here;
    if (mutator == NULL) {
        *here = mutator = roll_attach(&world.roll, thread_id(), home, single);
        if (mutator != NULL) {
            uintptr_t pointer = segments_thread_pointer();
            if (mutator->thread_pointer != pointer) {
                mutator->cold_end = NULL; // not a thread that comes back
            }
            mutator->thread_pointer = pointer;
            mutator->here = here;
        }
    }
    lock_release(&world.lock);
    return mutator;
}

bool world_forked(struct mutator *self) {
    world.lock.word = 0;
    world.halt.stopping = 0;
    world.leader_gone = false;
    if (self != NULL) {
        // In a region it stays, but nobody holds it there.
        self->state = self->state == MUTATOR_RUNS ? MUTATOR_RUNS : MUTATOR_SAFE;
    }
    suspend_forked();
    tracer_forked();
    return roll_forked(&world.roll, thread_id(), self);
}

// --- The stop: one thread --------------------------------------------------

// Nobody hears of a thread twice.
static void world_name(struct record *record, const char *name,
                       const char *reason) {
    if (!record->named && world.named != NULL) {
        world.named(record->thread, name, reason);
    }
    record->named = true;
}

static void world_gone(struct record *record) {
    roll_bury(&world.roll, record);
    world.recount = true;
}

// Sends the signal, `again` if the last one was lost; false: the thread is
// gone.
static bool world_signal(struct record *record, bool again) {
    if (SUSPEND_COOPERATIVE || (!halt_may_send(record) && !again)) {
        return true;
    }
    enum suspend_sent sent = suspend_send(record->thread);
    if (sent != SUSPEND_SENT) {
        halt_not_sent(record);
    }
    record->refused = sent == SUSPEND_REFUSED;
    if (sent != SUSPEND_GONE) {
        return true; // what is short now is sent again
    }
    world_gone(record);
    return false;
}

// A thread has not answered for a while.  Finds out why, and what else can be
// done; `strong`: what one would not do lightly, too.
static void world_inquire(struct record *record, bool strong,
                          struct world_stop_report *report) {
    struct task_status status = {.name = ""};
    enum deaf_answer answer = deaf_ask(record, &status);
    if (answer == DEAF_GONE) {
        // The first thread of a process stays on the kernel's list.
        world.leader_gone |= record->thread == thread_process_id();
        world_gone(record);
        return;
    }
    if (answer == DEAF_APART) {
        record->stop = RECORD_PASSED;
        return;
    }
    if (SUSPEND_COOPERATIVE) {
        return;
    }
    if (answer == DEAF_LOST && !strong) {
        (void)world_signal(record, true);
        return;
    }
    if ((answer != DEAF_BLOCKS && !strong) || deaf_trace(record)) { // W3
        return;
    }
    report->reason = deaf_reason(record, &status);
    memcpy(report->name, status.name, WORLD_NAME_BYTES - 1);
    if (record->slow || !(strong || tracer_was_refused())) {
        return;
    }
    if (record->mutator == NULL) {
        // Its stack, as far as we know of it, is read while it runs.
        if (status.stack_pointer != 0) {
            record->hot_end = (const void *)status.stack_pointer;
        }
        record->stop = RECORD_PASSED;
    }
    if (record->mutator == NULL || (strong && answer == DEAF_BLOCKS)) {
        world_name(record, report->name, report->reason);
    }
}

// The first step towards one thread; false: it has to be waited for.
static bool world_call(struct record *record, const struct mutator *self,
                       struct world_stop_report *report) {
    struct mutator *mutator = record->mutator;
    record->stop = mutator == self ? RECORD_SELF : RECORD_RUNS;
    if (mutator == self) {
        halt_note_alternate(record);
        return true;
    }
    if (mutator != NULL && halt_hold(mutator)) {
        record->stop = RECORD_HELD;
        return true;
    }
    // Where nobody is interrupted, who never asks is let be.
    if (record->apart ||
        (SUSPEND_COOPERATIVE && (mutator == NULL || mutator->leaving))) {
        record->stop = RECORD_PASSED;
        return true;
    }
    if (record->deaf) { // as it was last time: perhaps for life
        world_inquire(record, false, report);
        return record->thread == 0 || record->stop != RECORD_RUNS;
    }
    return !world_signal(record, false);
}

// Whether a thread that had to be waited for has stopped by now.
static bool world_look(struct record *record) {
    if (record->stop != RECORD_RUNS) {
        return true;
    }
    if (halt_has_answered(&world.halt, record)) {
        record->stop = RECORD_ANSWERED;
        return true;
    }
    if (record->mutator != NULL && halt_hold(record->mutator)) {
        record->stop = RECORD_HELD;
        return true;
    }
    return false;
}

// --- The stop: all of them -------------------------------------------------

// How many have to be waited for still.
static uint32_t world_count_missing(void) {
    uint32_t missing = 0;
    for (struct record *r = world.roll.records; r != NULL; r = r->next) {
        missing += !world_look(r);
    }
    return missing;
}

static void world_inquire_missing(bool strong,
                                  struct world_stop_report *report) {
    struct record *next;
    for (struct record *r = world.roll.records; r != NULL; r = next) {
        next = r->next;
        if (!world_look(r)) {
            world_inquire(r, strong && !r->slow, report);
        }
    }
    roll_reap(&world.roll);
}

// Waits until everybody who was called has stopped; false when nobody answers
// any more.  Time is counted in naps of this thread: while the whole process
// stands (job control, a debugger) none passes.
static bool world_await(struct world_stop_report *report) {
    uint32_t least = UINT32_MAX;
    for (uint32_t idle = 0; idle < WORLD_PATIENCE;) {
        uint32_t answers = halt_answers(&world.halt);
        uint32_t missing = world_count_missing();
        if (missing == 0) {
            return true;
        }
        if (missing < least) {
            least = missing;
            idle = 0;
        }
        if (!halt_doze(&world.halt, answers + missing)) {
            idle++;
            if (idle == WORLD_INQUIRE || idle == WORLD_INQUIRE_LAST) {
                world_inquire_missing(report->attempts >= WORLD_STRONG, report);
            }
        }
    }
    return false;
}

// What a look at the kernel's list found.
struct world_census {
    const struct mutator *self;
    struct world_stop_report *report;
    size_t listed;  // threads
    uint32_t found; // of them, new ones
    bool is_short;  // of memory to write one down
};

static bool world_listed(uint32_t thread, void *data) {
    struct world_census *census = data;
    census->listed++;
    if (world.leader_gone && thread == thread_process_id()) {
        return true;
    }
    struct record *record = roll_find(&world.roll, thread);
    if (record == NULL) {
        record = roll_meet(&world.roll, thread);
        if (record == NULL) {
            census->is_short = true;
            return true;
        }
        census->found++;
        (void)world_call(record, census->self, census->report);
    }
    record->seen = world.pass;
    return true;
}

// All that we know of stand still.  Are they all that there are?
static bool world_is_everybody(const struct mutator *self,
                               struct world_stop_report *report) {
    size_t count = SUSPEND_COOPERATIVE ? 0 : task_count();
    bool agrees = count == world.roll.count + world.leader_gone;
    if (count == 0 || (agrees && !world.recount && world.roll.strangers == 0)) {
        return true;
    }
    struct world_census census = {.self = self, .report = report};
    world.pass++;
    if (!task_each(world_listed, &census)) {
        report->reason = "the system does not list the threads";
        return agrees; // no descriptor is left, or the like
    }
    struct record *next;
    for (struct record *r = world.roll.records; r != NULL; r = next) {
        next = r->next;
        if (r->seen != world.pass) {
            roll_bury(&world.roll, r);
        }
    }
    roll_reap(&world.roll);
    world.recount =
        census.found != 0 || census.is_short || census.listed != task_count();
    return !world.recount;
}

static bool world_gather(const struct mutator *self,
                         struct world_stop_report *report) {
    struct record *next;
    for (struct record *r = world.roll.records; r != NULL; r = next) {
        next = r->next;
        PREFETCH(next ? next->mutator : NULL); // it is on a page of its own
        (void)world_call(r, self, report);
    }
    roll_reap(&world.roll);
    for (size_t round = 0; round < WORLD_ROUNDS; round++) {
        if (!world_await(report)) {
            return false;
        }
        if (world_is_everybody(self, report)) {
            return true;
        }
    }
    return false;
}

// Everybody goes on.
static void world_release(void) {
    halt_end(&world.halt);
    tracer_end();
    for (struct record *r = world.roll.records; r != NULL; r = r->next) {
        if (r->stop == RECORD_HELD) {
            halt_free(r->mutator);
        }
        r->stop = RECORD_RUNS;
    }
}

// Whether it was tried often enough; if so, for whose sake it failed.
static bool world_is_hopeless(struct world_stop_report *report) {
    struct record *culprit = NULL;
    bool slow = true;
    for (struct record *r = world.roll.records; r != NULL; r = r->next) {
        if (r->stop == RECORD_RUNS) {
            culprit = culprit == NULL || !r->slow ? r : culprit;
            slow &= r->slow;
        }
    }
    if (report->attempts <
        (culprit != NULL && slow ? WORLD_TRIES_SLOW : WORLD_TRIES)) {
        return false;
    }
    struct task_status status;
    if (culprit != NULL && task_read(culprit->thread, &status)) {
        report->thread = culprit->thread;
        memcpy(report->name, status.name, WORLD_NAME_BYTES - 1);
        report->reason = deaf_reason(culprit, &status);
        world_name(culprit, report->name, report->reason);
    }
    return true;
}

// Lets time pass, the signals free: another collector may want to stop us.
// False in a child that a handler made meanwhile: nobody is here to be stopped.
static bool world_back_off(struct mutator *self, uint32_t attempts) {
    uint8_t busy = self->busy;
    mutator_enter(self); // a handler of the program finds the lock taken
    uint32_t doublings = attempts < 6 ? attempts : 6;
    suspend_rest(world.mask, (uint64_t)WORLD_NAP_NS << doublings);
    self->busy = busy;
    return !copy_is_new();
}

static void world_tally(struct world_stop_report *report, uint64_t begin_ns) {
    for (struct record *r = world.roll.records; r != NULL; r = r->next) {
        report->signalled += r->stop == RECORD_ANSWERED;
        report->safe += r->stop == RECORD_HELD;
        report->strangers += r->mutator == NULL && !r->apart;
        report->traced += r->stop == RECORD_TRACED;
        report->passed += r->stop == RECORD_PASSED && !r->apart;
    }
    report->stop_ns = clock_now_ns() - begin_ns;
}

bool world_stop(struct mutator *self, struct world_stop_report *report) {
    uint64_t begin_ns = clock_now_ns();
    memset(report, 0, sizeof *report);
    world.mask = suspend_block();
    __atomic_store_n(&world.conductor, self, __ATOMIC_RELAXED);
    (void)(SUSPEND_COOPERATIVE || suspend_refresh());
    for (;;) {
        report->attempts++;
        __atomic_store_n(&world.halt.lingers,
                         world.roll.count <= WORLD_LINGERERS, __ATOMIC_RELAXED);
        halt_begin(&world.halt);
        if (world_gather(self, report)) {
            world_tally(report, begin_ns);
            return true;
        }
        bool is_hopeless = world_is_hopeless(report);
        world_release(); // W5, W7
        if (is_hopeless || !world_back_off(self, report->attempts)) {
            __atomic_store_n(&world.conductor, NULL, __ATOMIC_RELAXED);
            suspend_unblock(world.mask);
            return false;
        }
    }
}

void world_resume(void) {
    world_release();
    __atomic_store_n(&world.conductor, NULL, __ATOMIC_RELAXED);
    suspend_unblock(world.mask);
}

void world_each_stack(world_words *visit, void *data) {
    stacks_all(world.roll.records, visit, data);
    fiber_each(visit, data);
}

void world_each_thread_pointer(world_pointer *visit, void *data) {
    stacks_each_pointer(world.roll.records, visit, data);
}

bool world_is_dead(const void *at) {
    return stacks_is_dead(world.roll.records, at);
}
