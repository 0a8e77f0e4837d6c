// symbolize — from modules and offsets to functions, files and lines.
//
//     loam symbolize [SUPPRESSIONS] < REPORT
//
// A report of leaks (shims/malloc_leak.c) names places as the loader knows
// them.  What a debugger knows besides is asked of addr2line, once for each
// module; where that says nothing the line stays as it was.  Then the report is
// printed on standard error, less the stacks that a file of suppressions names:
//
//     leak:PATTERN     a part of a function, a file or a module; * is anything,
//                      ^ and $ at its ends are the ends of the name
//
// Invariants
//   SY1  whole    what is no line of a stack is printed as it was read
//   SY2  counted  the sum at the end is of what was printed; what was not is
//                 counted beside it
//   SY3  status   0 if nothing is left to be told, 1 if something is, above
//                 that if the report could not be read
//   SY4  heard    where the report comes through a socket the status is said
//                 there, too, when all is printed: as a letter, 0 or 1
//
// A line `loam: suppress leak:PATTERN` of the report is as one of that file.
//
// Design, alternatives and measurements: docs/design/tool/symbolize.md

#ifndef TOOL_SYMBOLIZE_H
#define TOOL_SYMBOLIZE_H

// The words after `loam symbolize`; returns the exit status.
int symbolize_main(int count, char **words);

#endif
