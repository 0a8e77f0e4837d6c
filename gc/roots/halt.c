#include "roots/halt.h"

#include <string.h>

#include "os/copy.h"
#include "os/lock.h"
#include "os/segments.h"
#include "os/suspend.h"
#include "os/thread.h"
#include "roots/mutator.h"
#include "roots/roll.h"

// HELD, and its thread sleeps until it is not.
#define HALT_WAITS ((uint32_t)MUTATOR_HELD + 1)

#define HALT_SPINS   400     // looks at the answers before sleeping
#define HALT_LINGERS 2500    // the same, of a thread at the end of the stop
#define HALT_TICK_NS 1000000 // a nap of the conductor
#define HALT_NAPS    16      // in which answers came, and then a look
#define HALT_IDLE    4       // naps without, and who is LENT answers, too

// The state becomes `to` if it is `from`; what it was.
static uint32_t halt_change(struct mutator *mutator, uint32_t from,
                            uint32_t to) {
    (void)__atomic_compare_exchange_n(&mutator->state, &from, to, false,
                                      __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    return from;
}

// --- A thread that runs ----------------------------------------------------

void halt_tell(struct halt *halt) {
    uint32_t answers = __atomic_add_fetch(&halt->answers, 1, __ATOMIC_SEQ_CST);
    uint32_t wanted = __atomic_load_n(&halt->wanted, __ATOMIC_SEQ_CST);
    if ((int32_t)(answers - wanted) >= 0) {
        (void)lock_wake(&halt->answers, 1); // H2
    }
}

void halt_note_alternate(struct record *record) {
    if (!suspend_find_alternate(&record->alternate_lowest,
                                &record->alternate_end)) {
        record->alternate_lowest = record->alternate_end = NULL;
    }
}

// Looks for a while whether the stop is over, or there is work that is wanted.
// Who sleeps and is woken may well be put on the conductor's processor.
static bool halt_linger(const struct halt *halt, uint32_t epoch, bool wants) {
    if (!__atomic_load_n(&halt->lingers, __ATOMIC_RELAXED) ||
        assist_is_beside(&halt->assist)) {
        return false;
    }
    for (size_t turn = 0; turn < HALT_LINGERS; turn++) {
        if (__atomic_load_n(&halt->stopping, __ATOMIC_SEQ_CST) != epoch ||
            (wants && assist_is_open(&halt->assist))) {
            return true;
        }
        lock_pause();
    }
    return false;
}

// Whose stack nobody knows might have no room for marking.
static bool halt_may_help(const struct record *record) {
    return record->alternate_lowest != NULL || // which assist_take looks at
           (record->mutator != NULL &&
            mutator_has_room(record->mutator, ASSIST_ROOM_BYTES));
}

void halt_answer(struct halt *halt, struct record *record,
                 const void *hot_end) {
    record->hot_end = hot_end;
    halt_note_alternate(record);
    if (record->mutator == NULL) {
        record->thread_pointer = segments_thread_pointer();
    }
    bool may_help = halt_may_help(record);
    uint32_t epoch = __atomic_load_n(&halt->stopping, __ATOMIC_SEQ_CST);
    while (epoch != 0) {
        __atomic_store_n(&record->acknowledged, epoch, __ATOMIC_SEQ_CST); // H1
        halt_tell(halt);
        uint32_t now = epoch;
        while (now == epoch) {
            // Who was not taken, or has had enough, waits until it is called.
            bool wants = may_help && !assist_is_open(&halt->assist);
            (void)(may_help && !wants && assist_take(&halt->assist));
            if (!halt_linger(halt, epoch, wants)) {
                (void)lock_wait(&halt->stopping, epoch, 0);
            }
            now = __atomic_load_n(&halt->stopping, __ATOMIC_SEQ_CST);
        }
        epoch = now; // the next may be on already, and may count on this one
    }
}

// H5: whoever holds the C library's lock has stopped, perhaps.
static bool halt_is_busy(const struct halt *halt,
                         const struct mutator *mutator) {
    return mutator->busy == MUTATOR_INSIDE ||
           (mutator->busy == MUTATOR_LENT &&
            __atomic_load_n(&halt->idle, __ATOMIC_SEQ_CST) < HALT_IDLE);
}

// Whether the signal finds a thread that is to stop where it is.
bool halt_must_answer(const struct halt *halt, const struct record *record) {
    const struct mutator *mutator = record->mutator;
    uint32_t epoch = __atomic_load_n(&halt->stopping, __ATOMIC_SEQ_CST);
    return epoch != 0 && record->acknowledged != epoch &&
           (mutator == NULL ||
            (__atomic_load_n(&mutator->state, __ATOMIC_RELAXED) ==
                 MUTATOR_RUNS &&
             !halt_is_busy(halt, mutator)));
}

// The mark is taken away at the end, not at the beginning: else the conductor
// might send another signal meanwhile, whose mark this handler would take, too.
// And who found the mark has not sent: so one more look at the stop.
bool halt_hear(struct halt *halt, struct record *record, const void *hot_end,
               bool ours) {
    bool claimed =
        ours && __atomic_load_n(&record->signalled, __ATOMIC_SEQ_CST);
    if (halt_must_answer(halt, record)) {
        halt_answer(halt, record, hot_end);
    }
    if (!claimed) {
        return false;
    }
    __atomic_store_n(&record->signalled, false, __ATOMIC_SEQ_CST); // H6
    if (halt_must_answer(halt, record)) {
        halt_answer(halt, record, hot_end);
    }
    return true;
}

// --- A thread in a safe region ---------------------------------------------

void halt_run(struct mutator *mutator) {
    if (halt_change(mutator, MUTATOR_SAFE, MUTATOR_RUNS) == MUTATOR_SAFE) {
        return;
    }
    uint64_t mask = suspend_block(); // no handler of the program meanwhile
    for (;;) {
        uint32_t was = halt_change(mutator, MUTATOR_SAFE, MUTATOR_RUNS);
        if (was == MUTATOR_SAFE || was == MUTATOR_RUNS) {
            break;
        }
        if (copy_is_new()) { // held by a conductor that is not here
            __atomic_store_n(&mutator->state, MUTATOR_RUNS, __ATOMIC_RELAXED);
            break;
        }
        (void)halt_change(mutator, MUTATOR_HELD, HALT_WAITS); // H4
        (void)lock_wait(&mutator->state, HALT_WAITS, 0);
    }
    suspend_unblock(mask);
}

void halt_make_safe(struct halt *halt, struct mutator *mutator) {
    // It may be SAFE already, or HELD: by a handler of the program that ended.
    (void)halt_change(mutator, MUTATOR_RUNS, MUTATOR_SAFE);
    if (UNLIKELY(__atomic_load_n(&halt->stopping, __ATOMIC_SEQ_CST) != 0)) {
        halt_tell(halt); // H3
    }
}

// --- The conductor ---------------------------------------------------------

uint32_t halt_begin(struct halt *halt) {
    halt->epoch = halt->epoch == UINT32_MAX ? 1 : halt->epoch + 1;
    // Nobody sleeps yet.  A wake for each answer costs a system call, and where
    // the kernel keeps this word with another one, a walk along all who wait.
    __atomic_store_n(&halt->wanted, halt_answers(halt) + INT32_MAX,
                     __ATOMIC_SEQ_CST);
    __atomic_store_n(&halt->idle, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&halt->assist.cpu, thread_cpu(), __ATOMIC_RELAXED);
    __atomic_store_n(&halt->stopping, halt->epoch, __ATOMIC_SEQ_CST);
    return halt->epoch;
}

void halt_end(struct halt *halt) {
    __atomic_store_n(&halt->stopping, 0, __ATOMIC_SEQ_CST);
    (void)lock_wake(&halt->stopping, SIZE_MAX);
}

bool halt_may_send(struct record *record) {
    return !__atomic_exchange_n(&record->signalled, true, __ATOMIC_SEQ_CST);
}

void halt_not_sent(struct record *record) {
    __atomic_store_n(&record->signalled, false, __ATOMIC_SEQ_CST);
}

bool halt_hold(struct mutator *mutator) {
    if (__atomic_load_n(&mutator->state, __ATOMIC_SEQ_CST) != MUTATOR_SAFE) {
        return false; // its thread is about to read the word: it stays shared
    }
    return halt_change(mutator, MUTATOR_SAFE, MUTATOR_HELD) == MUTATOR_SAFE;
}

void halt_free(struct mutator *mutator) {
    if (halt_change(mutator, MUTATOR_HELD, MUTATOR_SAFE) == MUTATOR_HELD) {
        return;
    }
    // It waits to leave, and has left: or else the next stop, if it is quick,
    // holds it again, and the one after that.
    __atomic_store_n(&mutator->state, MUTATOR_RUNS, __ATOMIC_SEQ_CST);
    (void)lock_wake(&mutator->state, 1);
}

bool halt_has_answered(const struct halt *halt, const struct record *record) {
    return __atomic_load_n(&record->acknowledged, __ATOMIC_SEQ_CST) ==
           halt->epoch;
}

uint32_t halt_answers(const struct halt *halt) {
    return __atomic_load_n(&halt->answers, __ATOMIC_SEQ_CST);
}

bool halt_doze(struct halt *halt, uint32_t wanted) {
    __atomic_store_n(&halt->wanted, wanted, __ATOMIC_SEQ_CST);
    uint32_t before = 0; // at the end of the last nap
    for (size_t turn = 0; turn < HALT_SPINS + HALT_NAPS; turn++) {
        uint32_t answers = __atomic_load_n(&halt->answers, __ATOMIC_SEQ_CST);
        if ((int32_t)(answers - wanted) >= 0) {
            return true;
        }
        if (turn < HALT_SPINS) {
            lock_pause();
        } else if (turn > HALT_SPINS && answers == before) {
            __atomic_add_fetch(&halt->idle, 1, __ATOMIC_SEQ_CST);
            return false;
        } else {
            before = answers;
            (void)lock_wait(&halt->answers, answers, HALT_TICK_NS);
        }
    }
    return true;
}
