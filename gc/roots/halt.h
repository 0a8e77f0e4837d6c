// halt — the words by which threads are told to stop, and tell that they did.
//
// A stop has a number, its *epoch*.  `stopping` is that number while the stop
// lasts, and 0 otherwise.  A thread that runs answers by storing the number in
// its record, and then sleeps for as long as `stopping` stays what it was.  A
// thread in a safe region need not do anything: its state is turned from SAFE
// to HELD, and back when the stop is over.
//
//     conductor              a thread that runs        a thread that is SAFE
//     stopping = e
//     signal or hold  ---->  in the handler:           SAFE -> HELD
//     wait for answers       acknowledged = e
//       ...                  answers + 1               wants to leave: sleeps
//     mark                   sleep while stopping == e on its state
//     stopping = 0    ---->  go on
//     HELD -> SAFE, wake                               SAFE -> RUNS
//
// An attempt may be withdrawn before all have answered, and the next one begun
// before all have woken; so an answer bears the number of its stop, and a
// thread that wakes looks at `stopping` again.
//
// Invariants
//   H1  number  acknowledged == e of a record means: its thread stores nothing
//               and runs no program code until `stopping` is not e, but for
//               work that the conductor offers (roots/assist.h)
//   H2  woken   the conductor never sleeps when as many answers as it wants
//               have been given
//   H3  seen    a thread that becomes SAFE while a stop is on is found by the
//               conductor's next look, and that look will be
//   H4  held    a thread whose state is HELD does not leave its safe region,
//               and one that waits to leave is woken when it may
//   H5  inside  a mutator that is INSIDE does not answer in the handler, nor
//               does one that is LENT until nobody has answered for a while:
//               it may wait for a thread that has
//   H6  once    each signal that a stop sent is claimed by halt_hear, once, and
//               no other is, but one that was sent just when ours was
//
// halt_answer and below, up to the conductor's part: the thread whose record or
// mutator it is, its signals blocked.  The conductor's: the holder of the lock.
// Design, alternatives and measurements: docs/design/roots/halt.md

#ifndef ROOTS_HALT_H
#define ROOTS_HALT_H

#include "base/defs.h"
#include "roots/assist.h"

struct mutator;
struct record;

struct halt {
    _Alignas(64) uint32_t stopping; // epoch, or 0: nobody stops; futex
    uint32_t epoch;                 // of the last attempt; conductor
    _Alignas(64) uint32_t answers;  // ever given; added to; futex
    uint32_t wanted;                // wake the conductor at so many; it says
                                    // how many before it sleeps
    uint32_t idle; // naps of this attempt in which nobody answered; atomic
    bool lingers;  // who has answered looks about before it sleeps; atomic
    struct assist assist; // what is offered to those who answered
};

// --- A thread that runs ----------------------------------------------------

// Tells the conductor that something changed which it may be waiting for.
void halt_tell(struct halt *halt);

// Whether a thread that the signal found is to stop there.
bool halt_must_answer(const struct halt *halt, const struct record *record);

// Notes the signal stack that the calling thread is on, if it is.
void halt_note_alternate(struct record *record);

// Answers every stop that is on, and sleeps until none is.  All that is to be
// read of the thread's stack lies from hot_end on.
void halt_answer(struct halt *halt, struct record *record, const void *hot_end);

// What the handler of the signal does: answers the stop that is on, if the
// thread is to stop where it is.  `ours`: a stop may have sent it.  Returns
// whether one did.
bool halt_hear(struct halt *halt, struct record *record, const void *hot_end,
               bool ours);

// --- A thread in a safe region ---------------------------------------------

// From RUNS to SAFE; registers and hot end were published.
void halt_make_safe(struct halt *halt, struct mutator *mutator);

// From SAFE to RUNS, after the end of a stop that holds it.  If one is on then,
// it has to be answered: the signal may have come while the state was SAFE.
void halt_run(struct mutator *mutator);

// --- The conductor ---------------------------------------------------------

// Begins an attempt; returns its epoch.
uint32_t halt_begin(struct halt *halt);

// Ends it; who answered goes on.
void halt_end(struct halt *halt);

// Whether the signal is to be sent: not while one is under way, whose handler
// will see this attempt.
MUST_USE bool halt_may_send(struct record *record);

// It could not be sent.
void halt_not_sent(struct record *record);

// From SAFE to HELD, if it is SAFE.
MUST_USE bool halt_hold(struct mutator *mutator);

// From HELD to SAFE.
void halt_free(struct mutator *mutator);

// Whether a thread answered this attempt.
bool halt_has_answered(const struct halt *halt, const struct record *record);

// The answers so far: to be read before a look at the records, whose missing
// ones are to be added for halt_doze.
uint32_t halt_answers(const struct halt *halt);

// Waits until there are `wanted` answers; false: not one came for a
// millisecond.  True after some milliseconds with answers, too: a look at ten
// thousand records takes as long as a nap, and the processor that they need in
// order to answer.
bool halt_doze(struct halt *halt, uint32_t wanted);

#endif
