// options — what the user may set in the environment.
//
// Every knob of Loam is a row of options.def: a field here, a LOAM_* variable
// in the environment, a line of the manual page and a line of the listing are
// made of the same row, so that none of them can be forgotten.  A value is
// read once, when the collector starts, and travels from there as a plain
// struct: no other floor knows that an environment exists.
//
// A user who mistypes must be told, and must not be hurt: what is wrong is
// said once in one sentence and then ignored, and the program runs as if it
// had not been set.
//
//   O1  default   A field whose variable is absent or wrong holds its default.
//   O2  range     A field always holds a value its row accepts.
//   O3  exact     A value is taken whole or not at all: a number that does not
//                 fit, or with anything behind it, is refused, never rounded.
//                 An empty value is no value: as if it were not set.
//   O4  heard     Each LOAM_* variable that is unknown or wrong makes exactly
//                 one warning, which names the nearest known name or the
//                 accepted form; a right one makes none.
//   O5  one-table The listing, the manual page and the parser name the same
//                 options in the same order.
//
// Called by api/init, once, before any other thread of ours can exist; no lock.
//
// Design, alternatives and measurements: docs/design/api/options.md

#ifndef API_OPTIONS_H
#define API_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// check_flags: a set of these.
#define OPTIONS_CHECK_MARK   1u
#define OPTIONS_CHECK_VERIFY 2u
#define OPTIONS_CHECK_RC     4u

enum options_huge { OPTIONS_HUGE_AUTO, OPTIONS_HUGE_ON, OPTIONS_HUGE_OFF };
enum options_warn { OPTIONS_WARN_ONCE, OPTIONS_WARN_ALL, OPTIONS_WARN_NONE };
enum options_mode {
    OPTIONS_MODE_PLAIN,
    OPTIONS_MODE_QUARANTINE,
    OPTIONS_MODE_LEAKCHECK,
    OPTIONS_MODE_RECLAIM
};

enum options_trace { OPTIONS_TRACE_OFF, OPTIONS_TRACE_ON, OPTIONS_TRACE_JSON };
enum options_stacks { OPTIONS_STACKS_SAMPLED, OPTIONS_STACKS_ALL };

// The values in force.  Written by options_init and options_read alone.
struct options {
    size_t limit_bytes;       // heap and side tables may commit; 0: no limit
    size_t floor_bytes;       // the heap grows to this before it collects
    uint32_t growth_percent;  // room beyond what is alive, 10 to 1000
    uint32_t collect_every;   // slow paths between collections; 0: never
    uint32_t markers;         // at most, in a collection; 1 to 16
    uint32_t check_flags;     // OPTIONS_CHECK_*
    const char *rc_trace;     // types of counted objects, as in the environment
    uint32_t release_step;    // objects a release destroys; 0: all
    enum options_trace trace; // a line a collection
    const char *trace_file;   // to whose end it goes, or NULL: standard error
    bool stats;               // a summary on standard error at exit
    enum options_huge huge;   // huge pages for the heap
    size_t range_bytes;       // address space to reserve; 0: automatic
    enum options_warn warn;   // which warnings are printed
    enum options_mode mode;   // of libloam_malloc
    enum options_stacks stacks; // of what leakcheck tells
    uint32_t leak_status;     // the exit status where something leaked; 0: none
    uint32_t leak_signal;     // asks for a report; 0: none
    const char *suppressions; // a file that says what is no leak, or NULL
    const char *tool;         // the command that knows lines, or NULL
    bool abort;               // malloc's misuse ends the process
    bool verify;              // a preloaded library says so
    bool follow;              // children are preloaded, too
    bool neighbours;          // a root word one past an object's end keeps it
    bool disable;             // automatic collection begins switched off
    uint32_t signal;          // stops threads; 0: the usual one
    bool help;                // print options_each on standard error at start
};

// Is told what is wrong with one variable, in a sentence without a newline
// that lives as long as the call.
typedef void options_tell(const char *sentence, void *data);

// Is told one option: its variable, the form of its value, its default in that
// form, and what it means.
struct options_row {
    const char *name;    // LOAM_LIMIT
    const char *form;    // "bytes, with K, M or G", "mark,verify,all", ...
    const char *initial; // as the user would write it
    const char *meaning; // a sentence without its full stop
};
typedef void options_visit(const struct options_row *row, void *data);

// Every field to its default.  Cannot fail.
void options_init(struct options *options);

// The LOAM_* variables of the environment into `options`, which was
// initialised; what cannot be used is told to `tell` and otherwise ignored.
void options_read(struct options *options, options_tell *tell, void *data);

// One variable, as options_read does it.  True when the name is known and the
// value was taken (or is for somebody else); false after `tell` was called.
bool options_set(struct options *options, const char *name, const char *value,
                 options_tell *tell, void *data);

// The rows of options.def, in order.
void options_each(options_visit *visit, void *data);

#endif
