// report — what Loam says, in words.
//
// Three kinds of sentences: warnings, which go to the program's hook or to
// standard error; a line for each collection (api/report_cycle.h); and a
// summary at exit (LOAM_STATS).
//
// Invariants
//   R1  hook   a warning goes to the program's hook if there is one, and only
//              there
//   R2  once   without a hook, LOAM_WARN=once prints the first warning of each
//              kind, all prints every one, none prints none
//   R3  sums   the summary's figures are those of loam_stats
//
// Allocates nothing.
// Design, alternatives and measurements: docs/design/api/report.md

#ifndef API_REPORT_H
#define API_REPORT_H

#include "loam.h"

#include "api/options.h"
#include "base/defs.h"
#include "roots/world.h"

enum report_kind {
    REPORT_OPTION,  // a LOAM_* variable that was not understood
    REPORT_START,   // the collector could not be built
    REPORT_MISUSE,  // a pointer that is not what a function needs
    REPORT_BALANCE, // more loam_enable than loam_disable
    REPORT_STOP,    // a collection was given up: a thread did not stop
    REPORT_THREAD,  // a thread that is read while it runs
    REPORT_BLIND,   // thread-local variables are not found
    REPORT_UNSEEN,  // what the program maps itself is not found
    REPORT_SLOT,    // a slot of a counted object that owns without a count
    REPORT_OTHERS,  // a word that seems to hold counts, undeclared
    REPORT_OWNER,   // a counted object, counted by a wrong thread
    REPORT_KINDS
};

// Where warnings go instead of to standard error; NULL: there.
void report_set_hook(loam_warning_fn *hook, void *data);

// Which warnings are printed: OPTIONS_WARN_ONCE until this is called.
void report_set_warn(enum options_warn warn);

// Says a sentence without a newline.  Not with the lock, nor in a stop: the
// program's hook is called.
void report_warning(enum report_kind kind, const char *sentence);

// What is found out with the lock held is written down, and said by the next
// thread that has left it: the bells below do so.
extern uint32_t report_noted; // notes that wait; atomic

static inline bool report_has_notes(void) {
    return __atomic_load_n(&report_noted, __ATOMIC_RELAXED) != 0;
}

#define REPORT_NOTE_BYTES 320

// Takes the oldest note; false if there is none.  INSIDE.
bool report_take_note(enum report_kind *kind, char sentence[REPORT_NOTE_BYTES]);

// Says that `function` was given `pointer`, what is wrong with that, and the
// address that called it.
void report_misuse(const char *function, const void *pointer,
                   const void *caller);

// Says that `function` was given the handle of a heap that was destroyed, or,
// NULL, the default heap where it may not be.
void report_heap(const char *function, const void *handle, const void *caller);

// Says that a type of counted objects makes no sense.
void report_type(const char *name, const char *fault);

// At exit, of a type: so many objects that nothing leads to, and yet they are
// owned; one of them, which
// was made at `made`, or NULL.
void report_forgotten(const char *type, size_t count, const void *example,
                      const void *made);

// Below that: what a site did to these, and to all of the type.
struct site;
void report_site(const struct site *these, const struct site *all);

// Says what is wrong with counting an object.
void report_count(const char *function, const void *object, const char *fault,
                  const void *caller);

// The same, with what is known of the object: its type, or NULL, and who
// released it last, or NULL.
struct report_fault {
    const char *what, *type;
    const void *last;
};
void report_miscount(const char *function, const void *object,
                     const struct report_fault *fault, const void *caller);

// Says that a thread counts an object of another that lives.
void report_wrong_thread(const char *function, const void *object,
                         const char *type, const void *caller);

// Says that a word of a type seems to hold counts that are not declared.
struct explain_others;
void report_undeclared(const struct explain_others *others);

// Says that more slots lead to an object than it has owners; noted.  The bell
// of the conductor.
struct slots_fault;
void report_unowned(const struct slots_fault *fault);

// Says that a collection was given up, and because of whom; the bell of the
// conductor.
void report_stop(const struct world_stop_report *why);

// Says that thread-local variables of other threads are not found; the bell of
// the conductor.
void report_blind(void);

// Says that a quarantine does not see what the program has mapped; noted.  The
// bell of the quarantine.
void report_unseen(void);

// Says that a thread cannot be stopped, and what follows; the world rings it.
void report_thread(uint32_t thread, const char *name, const char *reason);

// The options, two lines each: what LOAM_HELP asks for.
void report_options(void);

// The summary at exit, when LOAM_STATS is set.  In a heap that holds what is
// freed, a cycle collects it.
void report_exit(const struct loam_stats *stats, bool holds);

#endif
