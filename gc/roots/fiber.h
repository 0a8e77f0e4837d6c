// fiber — stacks that the program made itself, and how much of each counts.
//
// A program with fibers, coroutines or green threads switches the stack pointer
// to memory that it chose: a mapping, malloc'ed memory, an object.  It
// registers such stacks and announces each switch.  The registry knows them
// all; each thread has a *seat*, which says what it runs on.
//
//     seat of a thread          records
//     running ───────────────>  [lowest ......|####] end    runs: from sp
//     native: left at, regs     [lowest ..|########] end    left at, registers
//                               [##################] end    never left: all
//
// An announcement is made before the switch, on the old stack.  Between the two
// a stop may come, so it must be right whether or not the switch was made: a
// stack is judged by whether a stopped thread's stack pointer lies in it, and
// only those in which none lies are read as they were left.
//
// Records live in slabs that are never given back.  A record is in use if its
// `lowest` is not 0, which is the one store that registers a stack and the one
// that ends it.  The tree by address, in which a stack pointer is looked up, is
// made of the same records and follows from them: a child that was forked in
// the middle of a change makes it anew.
//
// Invariants
//   F1  apart     areas of records in use do not overlap
//   F2  found     fiber_find finds the record whose area holds an address, and
//                 none for any other address
//   F3  live      what is visited of a record holds every word of its stack
//                 that its fiber may still read, and the registers that it was
//                 left with
//   F4  native    the same for a thread's own stack while it runs on another
//   F5  doubt     a stack left without an announcement, or by a thread that was
//                 not where its seat says, is read whole
//   F6  kept      an object in which a registered stack lies is visited
//   F7  shortage  a refused registration changes nothing
//   F8  truth     fiber_rebuild leaves every record in use found, whatever was
//                 interrupted
//
// fiber_register, fiber_unregister: under the lock.  fiber_switch: the thread
// whose seat it is, without a lock.  The rest: the conductor, in a stop.
// Design, alternatives and measurements: docs/design/roots/fiber.md

#ifndef ROOTS_FIBER_H
#define ROOTS_FIBER_H

#include "base/defs.h"
#include "os/stack.h"

// Frames that may lie between an announcement and the switch itself.
#define FIBER_SLACK_BYTES ((size_t)1024)

// Where a stack was left, and with what in the registers.
struct fiber_left {
    uintptr_t at;                         // stack pointer; 0: not known
    uintptr_t registers[STACK_REGISTERS]; // as they were last time
};

struct fiber {
    uintptr_t lowest;        // address; 0: the record is free.  lock
    uintptr_t end;           // address; constant while in use
    struct fiber_left left;  // who runs on it, or is about to
    uintptr_t noted;         // lowest stack pointer seen in it; conductor
    struct fiber *branch[2]; // tree: below and above; free list: [0].  lock
};

// What a thread runs on.
struct fiber_seat {
    struct fiber *running;    // NULL: its own stack; the thread
    struct fiber_left native; // its own stack; the thread
};

// Registers [lowest, lowest + bytes).
enum fiber_answer { FIBER_TAKEN, FIBER_BAD, FIBER_SHORT };
enum fiber_answer fiber_register(uintptr_t lowest, size_t bytes,
                                 struct fiber **fiber);

// Ends it; the thread whose seat it is (NULL: none) may be running on it.
void fiber_unregister(struct fiber *fiber, struct fiber_seat *seat);

// Whether the record is in use: a handle from the program is doubted.
bool fiber_is_registered(const struct fiber *fiber);

// A thread that is about to leave the stack it is on.
struct fiber_leaving {
    const uintptr_t *registers;    // STACK_REGISTERS
    const void *hot_end;           // stack pointer
    const void *lowest, *cold_end; // of the thread's own stack (os/stack.h)
};

// Whether it is where its seat says, as far as can be seen without the lock.
bool fiber_is_seated(const struct fiber_seat *seat,
                     const struct fiber_leaving *leaving);

// If not: makes the seat say where it is.  Under the lock.
void fiber_reseat(struct fiber_seat *seat, const struct fiber_leaving *leaving);

// It leaves for `to`, or for its own stack if NULL.
void fiber_switch(struct fiber_seat *seat, const struct fiber_leaving *leaving,
                  struct fiber *to);

// The registered stack that an address lies in, or NULL.
struct fiber *fiber_find(uintptr_t address);

// Notes that a thread stopped with its stack pointer in the record's area, for
// the next fiber_each.
void fiber_note(struct fiber *fiber, uintptr_t stack_pointer);

// Is given words [start, end) of a stack or of saved registers.
typedef void fiber_visit(const uintptr_t *start, const uintptr_t *end,
                         void *data);

// Visits what counts of every registered stack (F3, F6), and forgets the notes.
void fiber_each(fiber_visit *visit, void *data);

// Visits the registers with which a thread that runs on another stack left its
// own; returns the address from which that is to be read, at least `lowest`,
// or 0: all of it (F4).
uintptr_t fiber_visit_native(const struct fiber_seat *seat, fiber_visit *visit,
                             void *data);

// Makes the tree and the list of free records anew.  In a forked child.
void fiber_rebuild(void);

// F1, F2 for all records; for VERIFY and tests.
bool fiber_check(void);

#endif
