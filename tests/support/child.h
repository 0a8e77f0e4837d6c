// child — run a part of a test in a process of its own.
//
// Two ways.  child_fork runs a function in a forked child: for what must end a
// process.  child_exec starts this very program again with an argument and a
// changed environment: for what is read at start, as LOAM_*; main must have
// called child_mode.  Both catch what the child writes to standard error and
// how it ends.

#ifndef SUPPORT_CHILD_H
#define SUPPORT_CHILD_H

#include <stdbool.h>
#include <stddef.h>

struct child {
    int status;      // exit status, or -1 when a signal ended it
    int signal;      // that signal, else 0
    char text[8192]; // standard error, cut to this and zero-terminated
    size_t count;    // its length
};

// The result of `body` is the child's exit status.
void child_fork(struct child *c, int (*body)(void *data), void *data);

// `settings` are "NAME=value" or, to remove one, "NAME"; ended by NULL.  The
// child finds `mode` by child_mode.
void child_exec(struct child *c, const char *mode, const char *const *settings);

// Whether the program, started again so, ends well; if not, its end is shown.
bool child_passes(const char *mode, const char *const *settings);

// The mode that child_exec started this process with, or NULL.
const char *child_mode(int argc, char **argv);

// Whether the text holds `part`.
bool child_says(const struct child *c, const char *part);

// Prints how the child ended and what it said.
void child_show(const struct child *c);

#endif
