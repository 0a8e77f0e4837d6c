// program — what a file is, before it is run.
//
// Preloading a library works by the dynamic loader's leave.  A static program
// has none, a privileged one is not given the variable, one for another machine
// or another C library cannot use the library, and one that was built with a
// sanitizer, or brings a malloc of its own, has no use for it.  Each of these
// fails in its own quiet way; so they are found out before, and named.
//
// A script is looked through: what is run is its interpreter.
//
// Invariants
//   PG1  read    nothing is run and nothing is changed
//   PG2  any     any file may be given: what is cut short, or lies about where
//                its parts are, is no program
//
// Design, alternatives and measurements: docs/design/tool/program.md

#ifndef TOOL_PROGRAM_H
#define TOOL_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>

enum program_kind {
    PROGRAM_FINE,
    PROGRAM_MISSING,    // there is none of that name
    PROGRAM_LOST,       // a script whose interpreter is not there
    PROGRAM_UNREADABLE, // it may be run but not looked at; taken for fine
    PROGRAM_STRANGE,    // neither an ELF file nor a script
    PROGRAM_FOREIGN,    // for another machine or word size
    PROGRAM_STATIC,     // no dynamic loader
    PROGRAM_LIBC,       // another C library than glibc
    PROGRAM_PRIVILEGED, // set-user-id, set-group-id or file capabilities
    PROGRAM_SANITIZED,  // built with a sanitizer
    PROGRAM_OWN_MALLOC, // defines malloc itself
    PROGRAM_OWN_LOAM    // libloam.a is linked into it
};

#define PROGRAM_PATH_BYTES 4096

struct program {
    enum program_kind kind;
    char path[PROGRAM_PATH_BYTES]; // what is run in the end: no script
    char detail[256];              // the loader, library or name that tells
};

// Looks at what `name` would run, found as a shell would find it.
void program_look(struct program *program, const char *name);

// One sentence on what is wrong, and what can be done; NULL if nothing is.
const char *program_fault(enum program_kind kind);

#endif
