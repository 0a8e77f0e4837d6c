// run — a program, with malloc replaced.
//
//     loam run [options] [--] COMMAND [ARGUMENTS]
//
// Looks at the program (tool/program.h), puts libloam_malloc.so in front of
// what the environment preloads already, and becomes the program: its process,
// its input and output, its exit status are as they would have been.
//
// Invariants
//   RN1  becomes   the program replaces this process: nothing stands between
//                  it and its parent
//   RN2  refused   what cannot work is refused before, with a reason and a way
//                  out, and the status 125; a program that is not there is 127,
//                  one that cannot be run 126, as a shell has it
//   RN3  kept      what LD_PRELOAD held is still preloaded, behind Loam's
//
// Design, alternatives and measurements: docs/design/tool/run.md

#ifndef TOOL_RUN_H
#define TOOL_RUN_H

// The words after `loam run`.  Returns the exit status if the program did not
// replace this one.
int run_main(int count, char **words);

// The library to preload, found from where this command is, or NULL.
const char *run_library(void);

#endif
