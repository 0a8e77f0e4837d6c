// assist — threads that were stopped do the conductor's work.
//
// While the world stands the processors of all threads but one have nothing to
// do.  A thread that answered a stop need not sleep until it is over: the
// conductor may offer it work.  It is done where the thread stopped, in the
// handler of the signal or in a piece of our own code; so it must be work for
// any place: no lock, no memory, little stack, and no word of the program's.
//
//     conductor                  a thread that answered
//     assist_offer  ---------->  takes a seat, and works
//       does its own part          ...
//     assist_recall              leaves the seat
//       waits for all seats      sleeps until the stop is over
//
// A seat is a number below the count that was offered, and nobody else has the
// same one.  Who never comes (it may not have found a processor) is not waited
// for: a program whose threads all wait for other things marks as one thread.
//
// Invariants
//   A1  seats  two threads that help at the same time have different seats,
//              below the count
//   A2  end    after assist_recall nobody has a seat, and nobody gets one
//   A3  room   who is on a signal stack with little room left does not help,
//              nor does one that could only take turns with the conductor, nor
//              one that is stepped (SIGTRAP would kill it, by A4).  What other
//              stack the caller is on is for it to know
//   A4  quiet  no handler of the program runs in a thread that has a seat
//
// assist_offer and assist_recall: the conductor, in a stop.  assist_take: a
// thread that has answered it, its signals blocked; async-signal-safe, as all.
// Design, alternatives and measurements: docs/design/roots/assist.md

#ifndef ROOTS_ASSIST_H
#define ROOTS_ASSIST_H

#include "base/defs.h"

#define ASSIST_SEATS      ((size_t)15)
#define ASSIST_ROOM_BYTES (4 * KiB) // of a stack: more than it takes
#define ASSIST_FREE       (((uint32_t)1 << ASSIST_SEATS) - 1) // bits of `seats`

typedef void assist_work(void *data, size_t seat);

struct assist {
    uint32_t seats;    // open, free ones, taken ones; atomic; futex
    assist_work *work; // what is offered; conductor
    void *data;        // for it; conductor
    unsigned cpu;      // on which the conductor runs; atomic
    uint32_t waiting;  // threads that wait in safe regions and may come; atomic
};

// Offers seats, at most ASSIST_SEATS; who sleeps is for the caller to wake.
void assist_offer(struct assist *assist, assist_work *work, void *data,
                  size_t count);

// Ends it: waits for those who have a seat.  The work must have told them.
void assist_recall(struct assist *assist);

// Whether there is a free seat: at that moment.
static inline bool assist_is_open(const struct assist *assist) {
    return (__atomic_load_n(&assist->seats, __ATOMIC_SEQ_CST) & ASSIST_FREE) !=
           0;
}

// Whether the calling thread runs on the conductor's processor.
bool assist_is_beside(const struct assist *assist);

// Helps if there is a free seat; whether it did.
bool assist_take(struct assist *assist);

// The same for a thread in a safe region, whose signals are not blocked yet.
void assist_take_deaf(struct assist *assist);

// Such a thread begins to wait, or ends it: in a child it may end what was
// begun in the parent.
void assist_wait(struct assist *assist, bool begins);

// In a forked child: a stop that was on was the parent's.
void assist_forked(struct assist *assist);

#endif
