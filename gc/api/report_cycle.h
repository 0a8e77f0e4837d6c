// report_cycle — what a collection did, in a line.
//
// Two forms of the same figures (LOAM_TRACE).  That for people is short and
// rounded; that of JSON is exact, and holds nothing that came from the program:
// there is nothing to quote, and no byte that a reader need be afraid of.
// Lines go to standard error, or to the end of a file (LOAM_TRACE_FILE), where
// those of several processes may meet: each object of JSON says whose it is.
//
// Invariants
//   RC1  whole  a line is written at once and ends in a newline; none is cut,
//               whatever the figures
//   RC2  json   a line of JSON is one object; its values but the event and the
//               reason are numbers, with their unit in the name
//   RC3  there  a line whose file cannot be opened goes to standard error
//
// Allocates nothing; report_cycle with the lock, the other before any cycle.
// Design, alternatives and measurements: docs/design/api/report_cycle.md

#ifndef API_REPORT_CYCLE_H
#define API_REPORT_CYCLE_H

#include "api/options.h"
#include "collect/collect.h"

// How a cycle is told, and to the end of which file; NULL: standard error.
void report_cycle_set(enum options_trace trace, const char *file);

// One line for a cycle; the bell of the collector when LOAM_TRACE is set.
void report_cycle(const struct collect_report *report);

#endif
