// trial — which suspects are parts of dead rings?
//
// A ring of objects that own each other is garbage when nobody else owns any of
// them.  To find out, the objects that the suspects lead to are visited, and a
// scratch count is kept for each: its count, less one for each slot of a
// visited object that owns it.  What is left counts owners from outside.
//
//     propose    visit from the suspects; scratch = count, less inner edges
//     decide     scratch > 0: alive, and so is all that it owns
//     the rest   every count of every member is explained by a member: garbage
//
// The counts themselves are never changed, so that a trial can be abandoned
// between any two objects (trial_abort).  Nothing else runs meanwhile: a trial
// takes one slice, and what does not fit into one is left to the tracer, or to
// a slice without limit.
//
// Visited objects stand in a vector; an object's head says that it was visited
// and what its scratch count is, so that an edge costs one line of memory,
// asked for sixteen edges ahead.
//
// Only plain types take part: an object that other threads count is an owner
// like the stack, and is not looked into; nor is what the tracer condemned.
// One that traced memory may hold without a count is visited, and alive.
//
// Invariants
//   TR1  counts    no count is changed
//   TR2  clean     after trial_abort and trial_take the scratch count of every
//                  object that is not DEAD is 0
//   TR3  explained of what trial_take gives out every count is explained by
//                  slots of what it gives out
//   TR4  bounded   memory is asked for before, and a trial that needs more says
//                  so
//   TR5  fault     a slot that owns without a count keeps its object alive, and
//                  is told of
//   TR6  watched   an object that is WATCHED is DEAD from trial_take on, if at
//                  all: other threads ask weak references during a trial
//
// Called by the domain's thread, INSIDE, which does not leave in between.
// After Lins (1992), Bacon and Rajan (2001), and CPython's subtraction.
// Design, alternatives and measurements: docs/design/rc/trial.md

#ifndef RC_TRIAL_H
#define RC_TRIAL_H

#include "base/defs.h"

enum trial_answer {
    TRIAL_MORE, // the step is used up
    TRIAL_DONE, // decided
    TRIAL_ROOM  // the vectors are full: abort, give more, begin anew
};

enum trial_phase { TRIAL_IDLE, TRIAL_PROPOSE, TRIAL_SEARCH, TRIAL_SPREAD };

// A vector of objects in meta memory; the door gives it.
struct trial_vector {
    void **items;
    size_t count, capacity;
};

// A part of a buffer that names suspects, worked off from its end.
//
//     items [ . . . left | had their turn | rest: take no part | count ]
struct trial_suspects {
    void **items;
    size_t left, rest, count;
    size_t owed; // reached by an edge, and to have their turn
};

struct trial {
    enum trial_phase phase;
    struct trial_vector visited; // in the order of visits
    struct trial_vector live;    // of these, to be looked through; same room
    struct trial_suspects suspects;
    size_t next;            // of visited, to be looked through
    size_t open_count;      // of those visited, not explained yet
    void *faulty;           // see TR5; NULL: none
    bool has_code;          // some visited object has a destructor, or a
                            // finalizer
    bool has_watched;       // some object that was explained is WATCHED
    bool is_closed;         // no slot of theirs leads to an object that
                            // takes no part; after trial_take: or lives
    uint64_t visited_total; // for ever
};

// Begins with one suspect more, whether visited already or not; false when
// there is no room.
bool trial_add(struct trial *trial, void *object);

// Begins with the suspects in a part of a buffer, NULL among them, as they have
// their turn.  These are not KEPT any more then, nor QUIET; trial_abort mends
// that.  After trial_take those that took no part, and are KEPT as ever, are
// the last in the part: from suspects.rest on.
void trial_suspect(struct trial *trial, void **items, size_t count);

// Goes on, for about `limit` objects.
enum trial_answer trial_step(struct trial *trial, size_t limit);

// Leaves everything as it was.
void trial_abort(struct trial *trial);

// Ends it: what is garbage is in visited, in the order of visits, DEAD already
// unless has_code.  Returns their number.
size_t trial_take(struct trial *trial);

#endif
