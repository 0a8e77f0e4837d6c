// world — the threads of the process, and how they are all stopped at once.
//
// The conductor (the thread that runs a cycle) must read every stack while
// nobody moves.  Each thread is stopped in the way that costs it least:
//
//     in a safe region     it is held there: nobody wakes it
//     in the program       a signal interrupts it
//     in a piece of our    it goes on to the end of the piece, which is
//       own work           short, and stops there by itself
//     deaf to signals      a helper process stops it, as a debugger does
//
// A stop has a number, its *epoch*; world.halt.stopping is that number while it
// lasts.  A thread answers by storing the number in its record, and sleeps as
// long as world.halt.stopping stays what it was.  Stopping the world can fail,
// and must not hang: when nobody has answered for a while the attempt is
// withdrawn, everybody goes on, and it is tried again; only a mutator that
// never answers makes the stop fail, and it is named.
//
// There is one lock for the whole process.  The conductor takes it before the
// stop and keeps it until everybody runs again: so nobody else holds it during
// a stop, and who wants it waits as SAFE.
//
// Invariants
//   W1  lock     a mutator that holds world.lock is never stopped, and one that
//                waits for it is SAFE
//   W2  still    between a world_stop that says true and world_resume no thread
//                runs program code or changes what the lock guards, but the
//                conductor and those that the report counts as passed
//   W3  whole    a mutator that was stopped is not INSIDE, unless it is SAFE
//   W4  read     world_each_stack visits every word in which a stopped thread
//                may hold a pointer: registers, stacks, signal stacks
//   W5  answer   an answer counts for the stop whose number it bears, and for
//                no other; a thread that answered an attempt that was withdrawn
//                goes on
//   W6  held     a thread whose state is HELD does not leave its safe region
//   W7  ends     world_stop returns, whatever the threads do
//   W8  errno    errno is as the caller left it
//   W9  hurried  a thread that is attached and is not patient waits for the
//                lock WORLD_LOOK_NS, or until WORLD_LOOKS wakes or signals
//
// The lock is named at each function.  world_park and the safe regions: the
// mutator's own thread.
// Design, alternatives and measurements: docs/design/roots/world.md

#ifndef ROOTS_WORLD_H
#define ROOTS_WORLD_H

#include "base/defs.h"
#include "heap/heap.h"
#include "os/copy.h"
#include "os/lock.h"
#include "os/suspend.h"
#include "roots/assist.h"
#include "roots/halt.h"
#include "roots/mutator.h"
#include "roots/reserve.h"
#include "roots/roll.h"

#define WORLD_NAME_BYTES 16
#define WORLD_LOOK_NS    50000000 // between looks at the process itself
#define WORLD_LOOKS      20       // that end early are as good as one

// What became of a stop.
struct world_stop_report {
    uint64_t stop_ns;            // from the first step until all stood
    uint32_t attempts;           // withdrawn ones and the last
    uint32_t signalled;          // mutators and strangers, last attempt
    uint32_t safe;               // found in safe regions, last attempt
    uint32_t strangers;          // threads that never attached
    uint32_t traced;             // stopped by ptrace
    uint32_t passed;             // strangers read while they run
    uint32_t thread;             // of one that did not stop; or 0
    char name[WORLD_NAME_BYTES]; // its name, zero-terminated
    const char *reason;          // why, in words; or NULL
};

struct world {
    struct halt halt;                // halt.stopping: the stop that is on, or 0
    _Alignas(64) struct lock lock;   // the one lock
    uint32_t pass;                   // of the last look at the kernel's list
    uint64_t mask;                   // of the conductor's signals; conductor
    const struct mutator *conductor; // of the stop that is on, or NULL
    bool recount;                    // ask the kernel who is there; lock
    bool leader_gone; // the first thread ended before others; lock
    bool ready;       // world_init has been
    // Bells, set before world_init; rung under the lock, in a stop or not.
    // A thread cannot be stopped, and why; a mutator's thread has vanished with
    // its caches, which are to be given up.
    void (*named)(uint32_t thread, const char *name, const char *reason);
    void (*buried)(struct mutator *mutator);
    // This is a child, and the lists of threads, of roots and of fibers are its
    // own by now: the rest is to follow.  NULL: a thread that never attached.
    void (*copied)(struct mutator *self);
    struct roll roll; // lock
};

extern struct world world;

// Once, before the first attaching: installs the handler for `signal` (0: the
// usual one); false when the system refuses.
MUST_USE bool world_init(int signal);

// --- Threads ---------------------------------------------------------------

// Makes a mutator of the calling thread, its home set for `home`, or takes up
// the one it left with world_detach; takes the lock.  NULL: no memory.
// The caller has blocked all signals, lest a handler of the program attach the
// thread too, and hears those of `mask` while it waits.  *here, where its
// mutator is kept, is set; if it is set already, that is the answer.  Where its
// stack is (cold_end) is for the caller to find out, without the lock.  Not
// `patient`: NULL, too, where the lock is not free for a while (W9).
struct mutator *world_attach_deaf(struct heap *home, bool single,
                                  struct mutator **here, uint64_t mask,
                                  bool patient);

static inline struct mutator *world_attach(struct heap *home, bool single) {
    struct mutator *mutator = NULL;
    uint64_t mask = suspend_block();
    (void)world_attach_deaf(home, single, &mutator, mask, true);
    if (mutator != NULL) {
        mutator->here = NULL;
        mutator_find_stack(mutator, true);
    }
    suspend_unblock(mask);
    return mutator;
}

// The calling thread's mutator is about to end, its caches given up.  The
// thread may live on for a while, and attach again.  Under the lock.
static inline void world_detach(struct mutator *mutator) {
    roll_detach(&world.roll, mutator);
}

// The mutator with this id, or NULL.  Under the lock.
static inline struct mutator *world_find(uint32_t id) {
    return roll_find_id(&world.roll, id);
}

// Visits each mutator.  Under the lock or in a stop; a visit may not attach.
typedef void world_visit(struct mutator *mutator, void *data);
static inline void world_each(world_visit *visit, void *data) {
    roll_each(&world.roll, visit, data);
}

// In a forked child that does not know it yet (os/copy.h): puts in order all
// that another thread may have been changing, and rings `copied`; the lock is
// free.
// `self` is the calling thread's mutator, or NULL, and not INSIDE.
void world_copy(struct mutator *self);

// In a forked child, where self is the only thread (NULL: one that never
// attached): the others are gone, the lock is free.  Memory of theirs is not
// touched, nor is it given back.  False when memory is short: then nobody is
// attached.
MUST_USE bool world_forked(struct mutator *self);

// --- The lock --------------------------------------------------------------

// Takes the lock; the mutator waits as SAFE, so its caches must be whole.
// NULL: the calling thread is not attached.  A forked child takes it from
// whoever had it, and puts everything in order first.
void world_lock_taken(struct mutator *mutator);

static inline void world_lock(struct mutator *mutator) {
    if (UNLIKELY(!lock_try(&world.lock) || copy_is_new())) {
        world_lock_taken(mutator);
    }
}

MUST_USE static inline bool world_try_lock(void) {
    return !copy_is_new() && lock_try(&world.lock);
}

// Takes the lock for a thread that nobody can find SAFE, with its signals
// blocked: while it waits it hears them, lest a stop have to trace it.  False
// only where it is not `patient`.
MUST_USE static inline bool world_lock_deaf(uint64_t mask, bool patient) {
    size_t looks = 0;
    while (__atomic_exchange_n(&world.lock.word, 2, __ATOMIC_ACQUIRE) != 0) {
        if (copy_is_new()) {
            world_lock(NULL);
            return true;
        }
        if (looks >= WORLD_LOOKS && !patient) {
            return false; // W9
        }
        suspend_unblock(mask);
        bool early = lock_wait(&world.lock.word, 2, WORLD_LOOK_NS);
        (void)suspend_block();
        looks += early ? 1 : WORLD_LOOKS;
    }
    return true;
}

// Before the lock is free, what handlers took without it is made good.
static inline void world_unlock(void) {
    if (UNLIKELY(reserve_was_asked())) {
        reserve_top_up();
    }
    lock_release(&world.lock);
}

// --- Where a thread stops by itself ----------------------------------------

static inline bool world_is_stopping(void) {
    return __atomic_load_n(&world.halt.stopping, __ATOMIC_RELAXED) != 0;
}

// Answers the stop that is on, if any, and waits for its end.
COLD void world_park(struct mutator *mutator);

// Ends what mutator_enter began.
static ALWAYS_INLINE void world_leave(struct mutator *mutator) {
    mutator_exit(mutator);
    if (UNLIKELY(world_is_stopping())) {
        world_park(mutator);
    }
}

// --- Safe regions ----------------------------------------------------------

// From here to world_safe_leave the calling thread touches no object and no
// cache.  Regions nest.  The function that calls must also be the one that
// leaves; a STACK_DOOR that returns in between uses world_safe_enter_at, with
// what its body was given.
void world_safe_enter(void *mutator);
void world_safe_enter_at(struct mutator *mutator, const uintptr_t *saved,
                         const void *hot_end);
void world_safe_leave(struct mutator *mutator);

// What a safe region was, before it was broken off.
struct world_safe {
    uint32_t depth;      // 0: there was none
    bool is_safe;        // false: it was about to be entered
    uint8_t busy;        // enum mutator_busy
    const void *hot_end; // as the outermost found it
    uintptr_t registers[STACK_REGISTERS];
};

// Program code runs in a safe region: a signal handler over a call that waits,
// or code that jumped out of one.  Leaves all regions (waiting for the end of a
// stop), until world_safe_mend, which goes back: it is called by a handler that
// is about to return, and by none that jumps.
struct world_safe world_safe_break(struct mutator *mutator);
void world_safe_mend(struct mutator *mutator, const struct world_safe *was);

// --- The stop --------------------------------------------------------------

// Stops all threads but the caller, whose hot end is set and whose registers
// are on its stack above that.  Under the lock.  False: it was given up, all
// run, and the report says for whose sake.
MUST_USE bool world_stop(struct mutator *self,
                         struct world_stop_report *report);

// Lets them go on.
void world_resume(void);

// Wakes so many of those who may come and have not, or have gone away; any
// thread that takes part.
static inline void world_invite(size_t count) {
    (void)lock_wake(&world.halt.stopping, count);
    if (__atomic_load_n(&world.halt.assist.waiting, __ATOMIC_RELAXED) != 0) {
        (void)lock_wake(&world.lock.word, count);
    }
}

// Offers work to at most `count` threads that answered (roots/assist.h).
static inline void world_offer(assist_work *work, void *data, size_t count) {
    assist_offer(&world.halt.assist, work, data, count);
    world_invite(count);
}

// Waits until nobody has a seat: the work has told them to go.
static inline void world_recall(void) {
    assist_recall(&world.halt.assist);
}

// How many threads may follow such an offer: who answered, and who waits for
// the lock.
static inline size_t world_idle(const struct world_stop_report *report) {
    return report->signalled +
           __atomic_load_n(&world.halt.assist.waiting, __ATOMIC_RELAXED);
}

// Whether a word stands in what is dead of a stopped thread's stack, and may
// change (roots/stacks.h).  In a stop.
bool world_is_dead(const void *at);

// Is given words [start, end).
typedef void world_words(const uintptr_t *start, const uintptr_t *end,
                         void *data);

// Visits all stacks and saved registers (W4), the conductor's own from its hot
// end on, and those of fibers.  In a stop.
void world_each_stack(world_words *visit, void *data);

// Visits the thread pointer (os/segments.h) of each thread that has one.  In a
// stop.
typedef void world_pointer(uintptr_t thread_pointer, void *data);
void world_each_thread_pointer(world_pointer *visit, void *data);

#endif
